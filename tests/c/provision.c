/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Provisions a share, shows what happened, and removes it again: the whole C API in one program.
 *
 *     provision [--keep | --remove] ID SECTION [OPTIONS] < password
 *
 * ID is the storage id, SECTION a JSON object with the properties of its section, OPTIONS the options of the context, see smbgw.h.
 * When the section has a `username`, the first line of standard input is that user's password. --keep leaves the share, --remove only
 * removes it. The exit status is the code of the first error. On SIGTERM or SIGINT the operation is interrupted and can be resumed.
 *
 *     cc provision.c $(pkg-config --cflags --libs smbgw) -o provision
 *     printf 'secret\n' | ./provision office '{"type": "smbgateway", "path": "/srv/office", "smbgw-mode": "native",
 *                                              "username": "anna"}'
 */
#define _POSIX_C_SOURCE 200809L
#include <smbgw.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t asked_to_stop = 0;

static void stop(int signal_number)
{
    (void)signal_number;
    asked_to_stop = 1;
}

/* Says what went wrong, frees the error, and gives its code back. */
static int32_t complain(const char *doing, int32_t code, smbgw_error *err)
{
    fprintf(stderr, "provision: %s: %s\n", doing, smbgw_error_message(err));
    fprintf(stderr, "provision: detail: %s\n", smbgw_error_detail(err));
    smbgw_error_free(err);
    return code;
}

/* Takes a run to its end and prints each document of events on its way. */
static int32_t follow(smbgw_run *run, const char *doing)
{
    uint32_t state = SMBGW_RUN_WORKING;
    smbgw_buffer *event = NULL;
    smbgw_error *err = NULL;
    int32_t code;

    do {
        if (asked_to_stop) {
            code = smbgw_run_interrupt(run, &err);
            return code == SMBGW_OK ? SMBGW_E_INTERRUPTED : complain(doing, code, err);
        }
        code = smbgw_run_step(run, &state, &event, &err);
        if (event != NULL)
            printf("%s: %s\n", doing, smbgw_buffer_data(event));
        fflush(stdout);
        smbgw_buffer_free(event);
    } while (code == SMBGW_OK && state == SMBGW_RUN_WORKING);
    return code == SMBGW_OK ? SMBGW_OK : complain(doing, code, err);
}

/* One operation from begin to end. The password may be NULL. */
static int32_t operate(smbgw_context *ctx, const char *op, const char *params, const char *password)
{
    smbgw_run *run = NULL;
    smbgw_error *err = NULL;
    int32_t code = smbgw_run_begin(ctx, op, strlen(op), params, strlen(params), &run, &err);

    if (code != SMBGW_OK)
        return complain(op, code, err);
    if (password != NULL)
        code = smbgw_run_secret(run, "password", strlen("password"), password, strlen(password), &err);
    code = code == SMBGW_OK ? follow(run, op) : complain(op, code, err);
    smbgw_run_free(run);
    return code;
}

typedef int32_t (*document)(const smbgw_context *, const char *, size_t, smbgw_buffer **, smbgw_error **);

/* Prints a document. */
static int32_t show(smbgw_context *ctx, document ask, const char *name, const char *params)
{
    smbgw_buffer *out = NULL;
    smbgw_error *err = NULL;
    int32_t code = ask(ctx, params, strlen(params), &out, &err);

    if (code != SMBGW_OK)
        return complain(name, code, err);
    printf("%s: %s\n", name, smbgw_buffer_data(out));
    smbgw_buffer_free(out);
    return code;
}

/* Prints the numbers that a storage layer asks for every few seconds. */
static int32_t show_usage(smbgw_context *ctx, const char *id)
{
    smbgw_usage usage = SMBGW_USAGE_INIT;
    smbgw_error *err = NULL;
    int32_t code = smbgw_usage_read(ctx, id, strlen(id), &usage, &err);

    if (code != SMBGW_OK)
        return complain("usage", code, err);
    printf("usage: %s, %" PRIu64 " of %" PRIu64 " bytes used, %" PRIu64 " free, %" PRId64 " ms old\n",
           usage.active ? "active" : "inactive", usage.used, usage.total, usage.avail, usage.age_ms);
    return code;
}

/* Text as a JSON string, in fresh memory; NULL when there is none. */
static char *json_string(const char *text)
{
    char *quoted = malloc(6 * strlen(text) + 3);
    char *to = quoted;

    if (quoted == NULL)
        return NULL;
    *to++ = '"';
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\' || c < 0x20)
            to += sprintf(to, "\\u%04x", c);
        else
            *to++ = (char)c;
    }
    *to++ = '"';
    *to = '\0';
    return quoted;
}

/* Four texts in a row, in fresh memory; NULL when there is none. */
static char *join(const char *a, const char *b, const char *c, const char *d)
{
    size_t size = strlen(a) + strlen(b) + strlen(c) + strlen(d) + 1;
    char *joined = malloc(size);

    if (joined != NULL)
        snprintf(joined, size, "%s%s%s%s", a, b, c, d);
    return joined;
}

/* Plan, create, status and numbers of the share. */
static int32_t provision(smbgw_context *ctx, const char *id, const char *quoted, const char *section, const char *password)
{
    char *by_id = join("{\"id\": ", quoted, "}", "");
    char *create = join("{\"id\": ", quoted, ", \"actor\": \"provision.c\", \"section\": ", section);
    char *params = create == NULL ? NULL : join(create, "}", "", "");
    char *plan = params == NULL ? NULL : join("{\"op\": \"share.create\", \"params\": ", params, "}", "");
    int32_t code = SMBGW_E_IO;

    if (by_id != NULL && plan != NULL) {
        code = show(ctx, smbgw_plan, "plan", plan);
        if (code == SMBGW_OK)
            code = operate(ctx, "share.create", params, password);
        if (code == SMBGW_OK)
            code = show(ctx, smbgw_status, "status", by_id);
        if (code == SMBGW_OK)
            code = show_usage(ctx, id);
    }
    free(plan);
    free(params);
    free(create);
    free(by_id);
    return code;
}

static int32_t withdraw(smbgw_context *ctx, const char *quoted)
{
    char *params = join("{\"id\": ", quoted, ", \"actor\": \"provision.c\"}", "");
    int32_t code = params == NULL ? SMBGW_E_IO : operate(ctx, "share.delete", params, NULL);

    free(params);
    return code;
}

/* The first line of standard input without its end; NULL when there is none. */
static const char *read_password(char *line, int size)
{
    if (fgets(line, size, stdin) == NULL)
        return NULL;
    line[strcspn(line, "\n")] = '\0';
    return line;
}

int main(int argc, char **argv)
{
    int keep = argc > 1 && strcmp(argv[1], "--keep") == 0;
    int remove_only = argc > 1 && strcmp(argv[1], "--remove") == 0;
    int first = keep || remove_only ? 2 : 1;
    struct sigaction action;
    char line[1024];
    const char *options, *password = NULL;
    char *quoted;
    smbgw_context *ctx = NULL;
    smbgw_error *err = NULL;
    int32_t code;

    if (argc < first + 2 || argc > first + 3) {
        fprintf(stderr, "usage: provision [--keep | --remove] ID SECTION [OPTIONS] < password\n");
        return 64;
    }
    if (smbgw_abi_version() != SMBGW_ABI_VERSION) {
        fprintf(stderr, "provision: libsmbgw %s has another binary interface than this program\n", smbgw_version());
        return 65;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    options = argc > first + 2 ? argv[first + 2] : "{}";
    code = smbgw_context_new(options, strlen(options), &ctx, &err);
    if (code != SMBGW_OK)
        return (int)complain("context", code, err);
    if (strstr(argv[first + 1], "\"username\"") != NULL && !remove_only)
        password = read_password(line, (int)sizeof line);

    quoted = json_string(argv[first]);
    code = quoted == NULL ? SMBGW_E_IO : SMBGW_OK;
    if (code == SMBGW_OK && !remove_only)
        code = provision(ctx, argv[first], quoted, argv[first + 1], password);
    if (code == SMBGW_OK && !keep)
        code = withdraw(ctx, quoted);

    free(quoted);
    smbgw_context_free(ctx);
    return (int)code;
}
