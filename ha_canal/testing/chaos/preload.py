"""A small library in front of libc, for what a process cannot be told: the time of day, and links of its own.

It gives a process a clock that steps (its time of day only; the monotonic one goes on), and turns connections to ports
of 127.0.0.1 into others, so that each pair of processes has a link that can be cut by itself. Made by the C compiler
that the project needs anyway, once per cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ha_canal.testing.cache import cached_folder
from ha_canal.testing.process import ServerFailedError

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *step_s; /* a page of the file that the campaign writes */
static struct { in_port_t from, to; } ways[16];
static int ways_used;

__attribute__((constructor)) static void begin(void) {
    const char *clock = getenv("CHAOS_CLOCK"), *rest = getenv("CHAOS_WAYS");
    unsigned from, to;
    if (clock) {
        int file = open(clock, O_RDONLY | O_CLOEXEC);
        void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *step_s, PROT_READ, MAP_SHARED, file, 0);
        if (page != MAP_FAILED) step_s = page;
        if (file >= 0) close(file);
    }
    while (rest && ways_used < 16 && sscanf(rest, "%u=%u", &from, &to) == 2) {
        ways[ways_used].from = htons(from);
        ways[ways_used++].to = htons(to);
        rest = strchr(rest, ',');
        if (rest) rest++;
    }
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, which, now);
    if (!failed && step_s && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += *step_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed && now && step_s) now->tv_sec += *step_s;
    return failed;
}

time_t time(time_t *now) {
    struct timespec read;
    clock_gettime(CLOCK_REALTIME, &read);
    if (now) *now = read.tv_sec;
    return read.tv_sec;
}

int connect(int link, const struct sockaddr *address, socklen_t size) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    struct sockaddr_in6 copy;
    in_port_t *port = NULL;
    if (size > sizeof copy || !ways_used) return next(link, address, size);
    memcpy(&copy, address, size);
    if (address->sa_family == AF_INET) port = &((struct sockaddr_in *)&copy)->sin_port;
    if (address->sa_family == AF_INET6) port = &copy.sin6_port;
    for (int way = 0; port && way < ways_used; way++)
        if (ways[way].from == *port) {
            *port = ways[way].to;
            break;
        }
    return next(link, (struct sockaddr *)&copy, size);
}
"""


def library() -> Path:
    """Return the library, compiled now if the cache lacks it. Raises ServerFailedError without a C compiler."""
    recipe = hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]
    return cached_folder(f"chaos-preload-{recipe}", _compile) / "preload.so"


def _compile(folder: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise ServerFailedError("the campaign needs a C compiler. On Debian: apt-get install gcc libc6-dev")
    argv = [compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(folder / "preload.so"), "-ldl"]
    done = subprocess.run(argv, input=_SOURCE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerFailedError(f"{compiler} ended with code {done.returncode}:\n{done.stderr[-4096:]}")


class SteppedClock:
    """The time of day of the processes that have its `environment`, ahead of ours by whole seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._file.write_bytes(bytes(8))

    @property
    def environment(self) -> Mapping[str, str]:
        return {"CHAOS_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """Set it to so many seconds ahead of the machine's clock, at once, in all processes that have it."""
        descriptor = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(descriptor, struct.pack("=q", seconds), 0)
        finally:
            os.close(descriptor)


def ways(ports: Mapping[int, int]) -> Mapping[str, str]:
    """Return the environment in which connections to the first port go to the second one."""
    return {"CHAOS_WAYS": ",".join(f"{asked}={to}" for asked, to in ports.items())}


def preloaded(*environments: Mapping[str, str]) -> Mapping[str, str]:
    """Return the whole environment of a process with the library."""
    found = {**os.environ, "LD_PRELOAD": str(library())}
    for environment in environments:
        found.update(environment)
    return found
