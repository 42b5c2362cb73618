/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Context and run made before a fork are refused in the child, freed there without effect, and as good as before in the parent. */
#define _POSIX_C_SOURCE 200809L
#include "tap.h"

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* A run that has its locks, and needs nothing else of the machine. */
static int32_t reconcile(smbgw_context *ctx, smbgw_run **run)
{
    static const char op[] = "reconcile", params[] = "{\"sections\": {}, \"lock-wait-ms\": 0}";

    return smbgw_run_begin(ctx, op, sizeof op - 1, params, sizeof params - 1, run, NULL);
}

/* What the child finds, as bits; 0 is right. */
static int in_child(smbgw_context *ctx, smbgw_run *held, smbgw_error *before, const char *directory)
{
    smbgw_error *err = NULL;
    smbgw_buffer *doc = NULL;
    smbgw_usage u = SMBGW_USAGE_INIT;
    smbgw_run *run = NULL;
    uint32_t state = 0;
    smbgw_context *own;
    int wrong = 0;

    wrong |= (smbgw_schema(ctx, NULL, 0, &doc, &err) != SMBGW_E_FORKED || doc != NULL) << 0;
    wrong |= (smbgw_error_code(err) != SMBGW_E_FORKED || strstr(smbgw_error_message(err), "belongs to process") == NULL) << 1;
    smbgw_error_free(err);
    wrong |= (smbgw_usage_read(ctx, "office", 6, &u, NULL) != SMBGW_E_FORKED) << 2;
    wrong |= (smbgw_run_begin(ctx, "share.create", 12, NULL, 0, &run, NULL) != SMBGW_E_FORKED || run != NULL) << 3;
    wrong |= (smbgw_log_take(ctx, &doc, NULL) != SMBGW_E_FORKED) << 4;
    smbgw_context_free(ctx);
    wrong |= (smbgw_run_step(held, &state, &doc, NULL) != SMBGW_E_FORKED || doc != NULL) << 7;
    wrong |= (smbgw_run_interrupt(held, NULL) != SMBGW_E_FORKED) << 7;
    smbgw_run_free(held);
    wrong |= (smbgw_error_code(before) != SMBGW_E_ARGUMENT) << 5;
    smbgw_error_free(before);
    own = context_in(directory);
    wrong |= (own == NULL || smbgw_schema(own, NULL, 0, &doc, NULL) != SMBGW_OK) << 6;
    smbgw_buffer_free(doc);
    smbgw_context_free(own);
    return wrong;
}

int main(int argc, char **argv)
{
    smbgw_context *ctx;
    smbgw_error *before = NULL;
    smbgw_buffer *doc = NULL;
    smbgw_run *run = NULL, *second = NULL;
    int status = -1;
    pid_t child;

    if (argc != 2)
        return 2;
    ctx = context_in(argv[1]);
    if (!ok(ctx != NULL, "a context"))
        return done_testing();
    ok(smbgw_schema(ctx, NULL, 0, NULL, &before) == SMBGW_E_ARGUMENT, "an error from before the fork");
    ok(reconcile(ctx, &run) == SMBGW_OK, "a run that holds its locks");
    child = fork();
    if (child == 0)
        _exit(in_child(ctx, run, before, argv[1]));
    ok(waitpid(child, &status, 0) == child && WIFEXITED(status), "the child ends by itself");
    if (!ok(WEXITSTATUS(status) == 0, "in the child: refused, freed, errors readable, an own context works"))
        printf("# bits of what was wrong: %d\n", WEXITSTATUS(status));
    ok(smbgw_schema(ctx, NULL, 0, &doc, NULL) == SMBGW_OK, "the parent goes on");
    smbgw_buffer_free(doc);
    ok(reconcile(ctx, &second) == SMBGW_E_BUSY && second == NULL, "its run still holds the locks");
    smbgw_run_free(run);
    ok(reconcile(ctx, &second) == SMBGW_OK, "until it is freed");
    smbgw_run_free(second);
    smbgw_error_free(before);
    smbgw_context_free(ctx);
    return done_testing();
}
