/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Version, context, options, documents, usage, errors and the log: what a program does every day. */
#include "tap.h"

static void versions(void)
{
    ok(strcmp(smbgw_version(), SMBGW_VERSION) == 0, "library and header have the same version");
    ok(smbgw_abi_version() == SMBGW_ABI_VERSION, "and the same binary interface");
}

static void null_is_fine(void)
{
    smbgw_error_free(NULL);
    smbgw_buffer_free(NULL);
    smbgw_context_free(NULL);
    smbgw_run_free(NULL);
    ok(1, "every free takes NULL");
    ok(smbgw_error_code(NULL) == SMBGW_OK && smbgw_error_message(NULL)[0] == '\0', "no error is SMBGW_OK and no text");
    ok(strcmp(smbgw_error_detail(NULL), "{}") == 0, "and an empty document");
    ok(smbgw_buffer_len(NULL) == 0 && smbgw_buffer_data(NULL)[0] == '\0', "no buffer is no text");
}

static void options(const char *text, int32_t code, const char *says, const char *name)
{
    smbgw_context *ctx = (smbgw_context *)&tap_count;
    smbgw_error *err = (smbgw_error *)&tap_count;
    int32_t got = smbgw_context_new(text, strlen(text), &ctx, &err);

    ok(ctx == NULL, "no context comes out of bad options");
    refused(got, code, &err, says, name);
}

static void documents(smbgw_context *ctx)
{
    static const char list[] = "list", no_query[] = "no.such.query", missing[] = "{\"id\": \"no-such-share\"}";
    smbgw_buffer *doc = NULL;
    smbgw_error *err = NULL;

    ok(smbgw_schema(ctx, NULL, 0, &doc, &err) == SMBGW_OK && err == NULL, "the schema, without parameters");
    ok(doc != NULL && smbgw_buffer_len(doc) == strlen(smbgw_buffer_data(doc)), "a buffer ends in NUL, not counted");
    ok(doc != NULL && strstr(smbgw_buffer_data(doc), "\"properties\"") != NULL, "and has the properties");
    smbgw_buffer_free(doc);

    ok(smbgw_query(ctx, list, sizeof list - 1, NULL, 0, &doc, &err) == SMBGW_OK && doc != NULL, "any query by its name");
    smbgw_buffer_free(doc);

    doc = (smbgw_buffer *)&tap_count;
    refused(smbgw_query(ctx, no_query, sizeof no_query - 1, NULL, 0, &doc, &err), SMBGW_E_INVALID, &err, no_query,
            "an unknown query is refused by name");
    ok(doc == NULL, "and leaves no document");
    refused(smbgw_status(ctx, missing, sizeof missing - 1, &doc, &err), SMBGW_E_NOT_FOUND, &err, "no-such-share",
            "the status of a share that is not there");
    ok(smbgw_status(ctx, missing, sizeof missing - 1, &doc, NULL) == SMBGW_E_NOT_FOUND, "err may be NULL");
}

static void usage(smbgw_context *ctx)
{
    smbgw_usage u = SMBGW_USAGE_INIT;
    smbgw_error *err = NULL;

    u.total = u.avail = u.used = 7;
    u.active = 7;
    ok(smbgw_usage_read(ctx, "no-such-share", 13, &u, &err) == SMBGW_OK, "the usage of a share nobody has looked at");
    ok(u.total == 0 && u.avail == 0 && u.used == 0 && u.active == 0 && u.age_ms == -1, "is not active, and has no numbers");
    ok(u.size == sizeof u, "the size stays");
    u.total = 7;
    refused(smbgw_usage_read(ctx, "no/id", 5, &u, &err), SMBGW_E_INVALID, &err, "no/id", "the usage of what cannot be an id");
    ok(u.total == 0, "leaves zeroes");
}

static void runs(smbgw_context *ctx)
{
    static const char no_op[] = "no.such.operation", opid[] = "no-such-operation";
    smbgw_run *run = NULL;
    smbgw_error *err = NULL;

    refused(smbgw_run_begin(ctx, no_op, sizeof no_op - 1, NULL, 0, &run, &err), SMBGW_E_INVALID, &err, no_op,
            "an unknown operation is refused by name");
    refused(smbgw_run_resume(ctx, opid, sizeof opid - 1, &run, &err), SMBGW_E_NOT_FOUND, &err, opid,
            "an operation that is not in the journal cannot be resumed");
    ok(run == NULL, "and leaves no run");
}

static void log_to_a_buffer(smbgw_context *elsewhere)
{
    static const char text[] = "{\"log\": {\"to\": \"buffer\", \"level\": \"trace\"}}";
    smbgw_context *ctx = NULL;
    smbgw_buffer *log = NULL;
    smbgw_error *err = NULL;

    ok(smbgw_context_new(text, sizeof text - 1, &ctx, &err) == SMBGW_OK, "a context that logs to a buffer");
    ok(smbgw_log_take(ctx, &log, &err) == SMBGW_OK && log != NULL, "its log can be taken");
    smbgw_buffer_free(log);
    ok(smbgw_log_take(ctx, &log, &err) == SMBGW_OK && smbgw_buffer_len(log) == 0, "and then is empty");
    smbgw_buffer_free(log);
    smbgw_context_free(ctx);
    refused(smbgw_log_take(elsewhere, &log, &err), SMBGW_E_INVALID, &err, "buffer", "a log that is elsewhere cannot");
}

int main(int argc, char **argv)
{
    smbgw_context *ctx;
    smbgw_context *defaults = NULL;

    if (argc != 2)
        return 2;
    versions();
    null_is_fine();
    options("{\"state-dir\": ", SMBGW_E_ARGUMENT, "options is not JSON", "options that are not JSON");
    options("[1]", SMBGW_E_ARGUMENT, "not an object", "options that are no object");
    options("{\"no-such-option\": 1}", SMBGW_E_INVALID, "no-such-option", "an unknown option is named");
    options("{\"log\": {\"to\": \"printer\"}}", SMBGW_E_INVALID, "printer", "a log that does not exist is named");
    ok(smbgw_context_new(NULL, 0, &defaults, NULL) == SMBGW_OK && defaults != NULL, "a context with all defaults");
    smbgw_context_free(defaults);
    ctx = context_in(argv[1]);
    if (!ok(ctx != NULL, "a context with its own directories"))
        return done_testing();
    documents(ctx);
    usage(ctx);
    runs(ctx);
    log_to_a_buffer(ctx);
    smbgw_context_free(ctx);
    return done_testing();
}
