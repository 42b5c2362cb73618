/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Freeing twice is undefined, and the library makes the best of it: right after the first free the cleared tag is still there and the second
 * is ignored. Not run under the sanitizers and valgrind, which rightly complain about such a program.
 */
#include "tap.h"

int main(int argc, char **argv)
{
    smbgw_context *ctx;
    smbgw_error *err = NULL;
    smbgw_buffer *doc = NULL;

    if (argc != 2)
        return 2;
    ctx = context_in(argv[1]);
    ok(smbgw_schema(ctx, NULL, 0, &doc, NULL) == SMBGW_OK, "a buffer");
    ok(smbgw_schema(ctx, NULL, 0, NULL, &err) == SMBGW_E_ARGUMENT, "an error");
    smbgw_buffer_free(doc);
    smbgw_buffer_free(doc);
    ok(smbgw_buffer_len(doc) == 0, "a buffer that was freed twice");
    smbgw_error_free(err);
    smbgw_error_free(err);
    ok(smbgw_error_code(err) == SMBGW_E_ARGUMENT, "an error that was freed twice");
    smbgw_context_free(ctx);
    smbgw_context_free(ctx);
    ok(smbgw_schema(ctx, NULL, 0, &doc, NULL) == SMBGW_E_ARGUMENT, "a context that was freed twice");
    return done_testing();
}
