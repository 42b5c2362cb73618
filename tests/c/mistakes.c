/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Everything a C program can get wrong without undefined behaviour is answered with SMBGW_E_ARGUMENT and a text that says what. */
#include <stddef.h>

#include "tap.h"

#define ARGUMENT(call, says, name) refused((call), SMBGW_E_ARGUMENT, &err, (says), (name))

int main(int argc, char **argv)
{
    static const char latin1[] = "caf\xe9", nul[] = "of\0fice", office[] = "office", list[] = "list";
    smbgw_error *err = NULL;
    smbgw_buffer *doc = NULL;
    smbgw_run *run = NULL;
    smbgw_context *ctx;
    smbgw_error *other = NULL;
    smbgw_usage u = SMBGW_USAGE_INIT;
    uint32_t state = 7;
    _Alignas(16) char bytes[256] = {0};
    struct {
        smbgw_usage usage;
        uint64_t later;
    } newer = {SMBGW_USAGE_INIT, 7};

    if (argc != 2)
        return 2;
    ctx = context_in(argv[1]);
    if (!ok(ctx != NULL, "a context"))
        return done_testing();

    /* NULL */
    ARGUMENT(smbgw_context_new("{}", 2, NULL, &err), "output out is NULL", "no place for the context");
    ARGUMENT(smbgw_context_new(NULL, 2, (smbgw_context **)&bytes, &err), "options is NULL", "no options, but a length");
    ARGUMENT(smbgw_schema(NULL, NULL, 0, &doc, &err), "smbgw_context is NULL", "no context");
    ARGUMENT(smbgw_schema(ctx, NULL, 0, NULL, &err), "output out is NULL", "no place for the document");
    ARGUMENT(smbgw_query(ctx, NULL, 4, NULL, 0, &doc, &err), "op is NULL", "no operation");
    ARGUMENT(smbgw_query(ctx, list, 0, NULL, 0, &doc, &err), "op is empty", "an empty operation");
    ARGUMENT(smbgw_usage_read(ctx, NULL, 3, &u, &err), "id is NULL", "no id");
    ARGUMENT(smbgw_usage_read(ctx, office, 6, NULL, &err), "output out is NULL", "no place for the numbers");
    ARGUMENT(smbgw_run_begin(NULL, list, 4, NULL, 0, &run, &err), "smbgw_context is NULL", "a run without context");
    ARGUMENT(smbgw_run_begin(ctx, list, 4, NULL, 0, NULL, &err), "output out is NULL", "a run without a place");
    ARGUMENT(smbgw_run_step(NULL, &state, &doc, &err), "smbgw_run is NULL", "a step of no run");
    ok(state == 0, "the state was cleared all the same");
    ARGUMENT(smbgw_run_secret(NULL, office, 6, office, 6, &err), "smbgw_run is NULL", "a secret for no run");
    ARGUMENT(smbgw_run_unwind(NULL, &err), "smbgw_run is NULL", "unwinding no run");
    ARGUMENT(smbgw_run_interrupt(NULL, &err), "smbgw_run is NULL", "interrupting no run");
    ok(smbgw_schema(NULL, NULL, 0, NULL, NULL) == SMBGW_E_ARGUMENT, "all of it NULL");

    /* Text */
    ARGUMENT(smbgw_usage_read(ctx, latin1, 4, &u, &err), "id is not UTF-8: byte 3", "Latin-1 as id");
    ARGUMENT(smbgw_query(ctx, latin1, 4, NULL, 0, &doc, &err), "op is not UTF-8", "Latin-1 as operation");
    ARGUMENT(smbgw_query(ctx, list, 4, "{\"id\": \"\xff\"}", 11, &doc, &err), "params is not UTF-8: byte 8", "in parameters");
    ARGUMENT(smbgw_query(ctx, list, 4, "\xed\xa0\x80", 3, &doc, &err), "params is not UTF-8: byte 0", "a surrogate");
    ARGUMENT(smbgw_usage_read(ctx, nul, 7, &u, &err), "id has a NUL inside, at byte 2", "a NUL in an id");
    ARGUMENT(smbgw_query(ctx, nul, 7, NULL, 0, &doc, &err), "op has a NUL inside", "a NUL in an operation");
    ARGUMENT(smbgw_run_resume(ctx, nul, 7, &run, &err), "opid has a NUL inside", "a NUL in an operation's id");
    ARGUMENT(smbgw_query(ctx, list, 4, "{\"id\": \"a\0b\"}", 13, &doc, &err), "params is not JSON", "a raw NUL in JSON");
    ARGUMENT(smbgw_query(ctx, list, 4, "[]", 2, &doc, &err), "not an object", "a list as parameters");
    ARGUMENT(smbgw_usage_read(ctx, office, (size_t)-1, &u, &err), "larger than any object", "an impossible length");

    /* Size */
    u.size = 0;
    ARGUMENT(smbgw_usage_read(ctx, office, 6, &u, &err), "size in out is 0", "a size that was never set");
    u.size = offsetof(smbgw_usage, limit) - 1;
    ARGUMENT(smbgw_usage_read(ctx, office, 6, &u, &err), "size", "a size that is too small");
    u.size = (size_t)1 << 40;
    ARGUMENT(smbgw_usage_read(ctx, office, 6, &u, &err), "size", "a size that is garbage");
    u.size = offsetof(smbgw_usage, limit);
    u.limit = 7;
    ok(smbgw_usage_read(ctx, "no-such-share", 13, &u, &err) == SMBGW_OK, "a struct of an earlier version is fine");
    ok(u.age_ms == -1 && u.limit == 7, "what it does not know is left alone");
    newer.usage.size = sizeof newer;
    ok(smbgw_usage_read(ctx, "no-such-share", 13, &newer.usage, &err) == SMBGW_OK, "a struct of a later version is fine");
    ok(newer.usage.age_ms == -1 && newer.usage.size == sizeof newer, "its numbers are filled in");
    ok(newer.later == 0, "and what this version does not know is 0");

    /* Handles */
    ok(smbgw_schema(ctx, NULL, 0, NULL, &other) == SMBGW_E_ARGUMENT, "an error to play with");
    ARGUMENT(smbgw_schema((smbgw_context *)other, NULL, 0, &doc, &err), "another object", "an error as context");
    ARGUMENT(smbgw_run_step((smbgw_run *)ctx, &state, &doc, &err), "another object", "a context as run");
    ARGUMENT(smbgw_schema((smbgw_context *)&bytes, NULL, 0, &doc, &err), "another object", "any memory as context");
    ARGUMENT(smbgw_schema((smbgw_context *)(void *)(bytes + 1), NULL, 0, &doc, &err), "not aligned", "an odd pointer");
    ok(smbgw_buffer_len((smbgw_buffer *)other) == 0, "an error is no buffer");
    ok(smbgw_error_code((smbgw_error *)ctx) == SMBGW_E_ARGUMENT, "a context is no error");
    smbgw_buffer_free((smbgw_buffer *)other);
    smbgw_context_free((smbgw_context *)other);
    smbgw_error_free((smbgw_error *)ctx);
    ok(smbgw_error_code(other) == SMBGW_E_ARGUMENT, "freeing as another type does nothing");
    smbgw_error_free(other);
    ok(smbgw_schema(ctx, NULL, 0, &doc, &err) == SMBGW_OK, "and the context is as good as new");
    smbgw_buffer_free(doc);

    smbgw_context_free(ctx);
    return done_testing();
}
