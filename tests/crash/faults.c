/* Preloaded: the k-th call that changes files kills the process or fails.

   A run is armed from inside by arm(k, kind) and counts from then on, so that one process can be
   forked again and again instead of Python being started for every k. Only calls that the main
   program makes through the C library are seen, which is how CPython makes them.
*/

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

enum { KILL, FULL, BROKEN, SHORT };

static long left = -1, calls;
static int kind;

void arm(long k, int what) { left = k; kind = what; calls = 0; }
long counted(void) { return calls; }

/* 0: go on; -1: fail with errno; 1: only a part */
static int strike(int may_be_short) {
    calls++;
    if (left < 0 || left-- != 0) return 0;
    if (kind == KILL) kill(getpid(), SIGKILL);
    if (kind == SHORT) return may_be_short;
    errno = kind == FULL ? ENOSPC : EIO;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    if (fd == 2) return REAL(write)(fd, data, size);
    int struck = strike(1);
    if (struck < 0) return -1;
    /* A kill in the midst of a write: half of it is there. */
    return REAL(write)(fd, data, struck ? (size + 1) / 2 : size);
}

int fsync(int fd) { return strike(0) < 0 ? -1 : REAL(fsync)(fd); }
int ftruncate(int fd, off_t size) { return strike(0) < 0 ? -1 : REAL(ftruncate)(fd, size); }
int fchmod(int fd, mode_t mode) { return strike(0) < 0 ? -1 : REAL(fchmod)(fd, mode); }
int unlink(const char *path) { return strike(0) < 0 ? -1 : REAL(unlink)(path); }
int link(const char *a, const char *b) { return strike(0) < 0 ? -1 : REAL(link)(a, b); }
int rename(const char *a, const char *b) { return strike(0) < 0 ? -1 : REAL(rename)(a, b); }
int renameat2(int x, const char *a, int y, const char *b, unsigned flags) {
    return strike(0) < 0 ? -1 : REAL(renameat2)(x, a, y, b, flags);
}
