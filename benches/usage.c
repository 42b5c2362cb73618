/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* How long smbgw_usage_read() takes: usage ID COUNT prints nanoseconds a call. For benches/table. */
#include <smbgw.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    smbgw_context *ctx = NULL;
    smbgw_usage usage = SMBGW_USAGE_INIT;
    long n = argc == 3 ? atol(argv[2]) : 0;
    double start;

    if (n <= 0 || smbgw_context_new(NULL, 0, &ctx, NULL) != SMBGW_OK)
        return 2;
    start = now();
    for (long i = 0; i < n; i++)
        if (smbgw_usage_read(ctx, argv[1], strlen(argv[1]), &usage, NULL) != SMBGW_OK || !usage.active)
            return 1;
    printf("%.0f\n", (now() - start) / (double)n);
    smbgw_context_free(ctx);
    return 0;
}
