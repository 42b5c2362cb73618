// SPDX-License-Identifier: MIT OR Apache-2.0

// Loaded before a program (LD_PRELOAD): sends a signal to the process group of a process that the program forks, at a point that the test chose.
// Points are synced writes of a journal (fdatasync) and starts of commands (fork), counted together in each process from zero. The program
// itself is left alone. It knows nothing of the product.
//
//   END_TASK_LOG     file with a line for each point: pid, then "write", "start", or "signal" with the time
//   END_TASK_AT      the point, from 1; without it no signal is sent
//   END_TASK_SIGNAL  its number
//   END_TASK_LATER   the process waits so many milliseconds first, while the commands that it has started go on

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int (*real_fdatasync)(int);
static pid_t (*real_fork)(void);
static pid_t program, counted;
static long point;

__attribute__((constructor)) static void begin(void)
{
    program = getpid();
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real_fork = dlsym(RTLD_NEXT, "fork");
}

static void say(const char *what)
{
    const char *file = getenv("END_TASK_LOG");
    int fd = file ? open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (fd < 0 || dprintf(fd, "%d %s %lld.%09ld\n", (int)getpid(), what, (long long)now.tv_sec, now.tv_nsec) < 0)
        abort();
    close(fd);
}

static void at(const char *what)
{
    const char *when = getenv("END_TASK_AT"), *signal = getenv("END_TASK_SIGNAL"), *later = getenv("END_TASK_LATER");
    int before = errno;
    if (getpid() == program)
        return;
    if (counted != getpid()) {
        counted = getpid();
        point = 0;
    }
    say(what);
    if (++point == (when ? atol(when) : 0)) {
        long ms = later ? atol(later) : 0;
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
        while (ms && nanosleep(&pause, &pause) < 0 && errno == EINTR) { }
        say("signal");
        kill(-getpgrp(), signal ? atoi(signal) : SIGKILL);
    }
    errno = before;
}

int fdatasync(int fd)
{
    at("write");
    return real_fdatasync(fd);
}

// After the fork, so that the command is in the group.
pid_t fork(void)
{
    pid_t child = real_fork();
    if (child > 0)
        at("start");
    return child;
}
