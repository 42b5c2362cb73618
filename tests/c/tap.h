/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A few lines of TAP, and the checks that all test programs share. */
#ifndef TAP_H
#define TAP_H

#include <smbgw.h>
#include <stdio.h>
#include <string.h>

static int tap_count = 0;
static int tap_failed = 0;

static inline int ok(int condition, const char *name)
{
    tap_count++;
    if (!condition)
        tap_failed++;
    printf("%sok %d - %s\n", condition ? "" : "not ", tap_count, name);
    fflush(stdout);
    return condition;
}

static inline int done_testing(void)
{
    printf("1..%d\n", tap_count);
    fflush(stdout);
    return tap_failed == 0 ? 0 : 1;
}

/* The call failed with `code`, stored an error that says `text`, and that error is consistent. Frees the error. */
static inline int refused(int32_t got, int32_t code, smbgw_error **err, const char *text, const char *name)
{
    int good = got == code && *err != NULL && smbgw_error_code(*err) == code &&
               strstr(smbgw_error_message(*err), text) != NULL && smbgw_error_detail(*err)[0] == '{';
    if (!ok(good, name))
        printf("# code %d, error %d: %s\n", (int)got, (int)smbgw_error_code(*err), smbgw_error_message(*err));
    smbgw_error_free(*err);
    *err = NULL;
    return good;
}

/* A context that keeps everything below `directory`, and logs nowhere. */
static inline smbgw_context *context_in(const char *directory)
{
    char options[4096];
    smbgw_context *ctx = NULL;
    smbgw_error *err = NULL;
    int len = snprintf(options, sizeof options,
                       "{\"state-dir\": \"%s/state\", \"run-dir\": \"%s/run\", \"record-dir\": \"%s/record\", "
                       "\"smb-conf\": \"%s/smb.conf\", \"own-conf\": \"%s/smbgw.conf\", \"node\": \"testnode\", "
                       "\"log\": {\"to\": \"none\"}}",
                       directory, directory, directory, directory, directory);

    if (len < 0 || (size_t)len >= sizeof options)
        return NULL;
    if (smbgw_context_new(options, (size_t)len, &ctx, &err) != SMBGW_OK) {
        printf("# no context: %s\n", smbgw_error_message(err));
        smbgw_error_free(err);
    }
    return ctx;
}

#endif
