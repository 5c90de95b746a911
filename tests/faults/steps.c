/* steps.c: a process that counts its system calls, and dies at the nth, or sees it fail. Linked into build/…/server-steps, for
 * tests only (test_every_step.py).
 *
 * What a program defines goes before what a library has: so the calls that SQLite makes are counted like our own. FORNO_STEPS names
 * a file that is mapped here and in the test. A point is a call at which to die, or a call with an errno that the kernel may really
 * give it; some have two, and those that cannot fail have none. The wall clock can be set, too. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct steps {
    _Atomic int64_t kill;    /* 1: die at points; 0: fail at them */
    _Atomic int64_t at;      /* the point that is meant, from 1; 0: none */
    _Atomic int64_t seen;    /* points so far */
    _Atomic int64_t wall_ms; /* the wall clock is wrong by so much */
    _Atomic int64_t error;   /* what it failed with */
    char where[32];
} nothing, *steps = &nothing;

/* The errno with which this call must fail; 0: let it be done. */
static int step(const char *name, int error, int other)
{
    int points = atomic_load(&steps->kill) ? 1 : (error != 0) + (other != 0);
    int64_t before = atomic_fetch_add(&steps->seen, points), at = atomic_load(&steps->at);

    if (at <= before || at > before + points) return 0;
    strncpy(steps->where, name, sizeof steps->where - 1);
    if (atomic_load(&steps->kill)) kill(getpid(), SIGKILL);
    int chosen = at == before + 1 && error ? error : other;
    atomic_store(&steps->error, chosen);
    return chosen;
}

#define REAL(name)                 \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* $failure, $type, name, parameters, arguments, errno, another errno or 0 */
#define CALL_(failure, type, name, parameters, arguments, error, other) \
    type name parameters                                                \
    {                                                                   \
        REAL(name);                                                     \
        int wrong = step(#name, error, other);                          \
        if (!wrong) return real arguments;                              \
        errno = wrong;                                                  \
        return failure;                                                 \
    }
#define CALL(...) CALL_(-1, __VA_ARGS__)

/* ---- files: SQLite's ----------------------------------------------------------------------------------------------------------- */

/* clang-format off */
CALL(int, access, (const char *path, int mode), (path, mode), EACCES, 0)
CALL(int, close, (int fd), (fd), 0, 0)
CALL(int, fdatasync, (int fd), (fd), EIO, ENOSPC)
CALL(int, fsync, (int fd), (fd), EIO, 0)
CALL(int, fchmod, (int fd, mode_t mode), (fd, mode), EPERM, 0)
CALL(int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group), EPERM, 0)
CALL(int, fstat64, (int fd, struct stat64 *st), (fd, st), EIO, 0)
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size), EIO, ENOSPC)
CALL(int, lstat64, (const char *path, struct stat64 *st), (path, st), EIO, 0)
CALL(int, stat, (const char *path, struct stat *st), (path, st), EIO, 0)
CALL(int, stat64, (const char *path, struct stat64 *st), (path, st), EIO, 0)
CALL(ssize_t, pread64, (int fd, void *bytes, size_t n, off64_t at), (fd, bytes, n, at), EIO, 0)
CALL(ssize_t, pwrite64, (int fd, const void *bytes, size_t n, off64_t at), (fd, bytes, n, at), EIO, ENOSPC)
CALL(int, unlink, (const char *path), (path), EIO, 0)
CALL_(MAP_FAILED, void *, mmap64, (void *where, size_t n, int rights, int flags, int fd, off64_t at),
      (where, n, rights, flags, fd, at), fd >= 0 ? ENOMEM : 0, 0)

/* ---- the loop's ------------------------------------------------------------------------------------------------------------------ */

CALL(int, accept4, (int fd, struct sockaddr *address, socklen_t *len, int flags), (fd, address, len, flags), ECONNABORTED, EMFILE)
CALL(int, bind, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len), EADDRINUSE, 0)
CALL(int, connect, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len), ECONNREFUSED, EADDRNOTAVAIL)
CALL(int, epoll_create1, (int flags), (flags), EMFILE, 0)
/* Only ADD allocates, so only ADD can fail. */
CALL(int, epoll_ctl, (int fd, int op, int of, struct epoll_event *event), (fd, op, of, event), op == EPOLL_CTL_ADD ? ENOSPC : 0, 0)
CALL(int, epoll_wait, (int fd, struct epoll_event *events, int max, int timeout), (fd, events, max, timeout), EINTR, 0)
CALL(int, eventfd, (unsigned start, int flags), (start, flags), EMFILE, 0)
CALL(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len), 0, 0)
CALL(int, listen, (int fd, int backlog), (fd, backlog), EADDRINUSE, 0)
CALL(ssize_t, recv, (int fd, void *bytes, size_t n, int flags), (fd, bytes, n, flags), ECONNRESET, EAGAIN)
CALL(ssize_t, send, (int fd, const void *bytes, size_t n, int flags), (fd, bytes, n, flags), EPIPE, EAGAIN)
CALL(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len), (fd, level, name, value, len), ENOBUFS, 0)
CALL(int, shutdown, (int fd, int how), (fd, how), ENOTCONN, 0)
CALL(int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), EMFILE, 0)
CALL(int, socket, (int family, int type, int protocol), (family, type, protocol), EMFILE, ENOBUFS)
CALL(int, timerfd_create, (clockid_t clock, int flags), (clock, flags), EMFILE, 0)
CALL(int, timerfd_settime, (int fd, int flags, const struct itimerspec *set, struct itimerspec *was), (fd, flags, set, was), 0, 0)
CALL(ssize_t, read, (int fd, void *bytes, size_t n), (fd, bytes, n), EAGAIN, 0)
CALL(ssize_t, write, (int fd, const void *bytes, size_t n), (fd, bytes, n), 0, 0) /* to the eventfd, the log is off */
/* clang-format on */

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *with)
{
    REAL(pthread_create);
    int wrong = step("pthread_create", EAGAIN, 0);

    return wrong ? wrong : real(thread, how, run, with);
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    va_list args;

    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    errno = step("open64", EMFILE, EIO);
    return errno ? -1 : real(path, flags, mode);
}

/* Of its many commands, to lock is what may be refused; never to unlock. */
int fcntl64(int fd, int command, ...)
{
    REAL(fcntl64);
    va_list args;

    va_start(args, command);
    void *argument = va_arg(args, void *);
    va_end(args);
    bool locks = command == F_SETLK && ((struct flock *)argument)->l_type != F_UNLCK;
    errno = step("fcntl64", locks ? ENOLCK : 0, locks ? EAGAIN : 0);
    return errno ? -1 : real(fd, command, argument);
}

/* ---- the wall clock ------------------------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *t)
{
    REAL(clock_gettime);
    int rc = real(clock, t);

    if (clock == CLOCK_REALTIME) t->tv_sec += (time_t)(atomic_load(&steps->wall_ms) / 1000);
    return rc;
}

time_t time(time_t *t)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

__attribute__((constructor)) static void open_steps(void)
{
    const char *path = getenv("FORNO_STEPS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mem = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *steps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0) close(fd);
    if (mem != MAP_FAILED) steps = mem;
}
