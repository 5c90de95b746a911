/* wrap.c: a kernel and an allocator that fail on demand. Linked into build/…/server-faults with -Wl,--wrap=…, for tests only.
 *
 * FORNO_FAULTS names a file that is mapped here and in the test (test_faults.py), so a test can change its mind while the server
 * runs, and read how often each function has been called. Without it nothing fails. Each function has one struct fault, in the
 * order of enum which; memory is one for malloc, calloc, realloc and SQLite's allocator together. --wrap does not reach into
 * shared libraries: cJSON is told to use our malloc by the server itself; SQLite has ways of its own, below. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum which { ACCEPT, RECV, SEND, EPOLL_WAIT, EPOLL_ADD, MEMORY, DISK_WRITE, DISK_SYNC, WHICH };

struct fault {
    _Atomic int64_t calls; /* since the test set it to 0 */
    _Atomic int64_t every; /* fail each nth call; 0: none */
    _Atomic int64_t at;    /* fail the nth call; 0: none */
    _Atomic int64_t error; /* errno of a failure */
    _Atomic int64_t bytes; /* recv, send: at most so many at a time; 0: as many as asked */
};

static struct fault nothing[WHICH], *faults = nothing;

static bool fails(enum which which)
{
    struct fault *f = &faults[which];
    int64_t call = atomic_fetch_add(&f->calls, 1) + 1, every = atomic_load(&f->every);

    if (call != atomic_load(&f->at) && (!every || call % every != 0)) return false;
    errno = (int)atomic_load(&f->error);
    return true;
}

static size_t shortened(enum which which, size_t n)
{
    size_t most = (size_t)atomic_load(&faults[which].bytes);

    return most && most < n ? most : n;
}

/* ---- the kernel ------------------------------------------------------------------------------------------------------------- */

int __real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    return fails(ACCEPT) ? -1 : __real_accept4(fd, address, len, flags);
}

ssize_t __real_recv(int fd, void *bytes, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t n, int flags)
{
    return fails(RECV) ? -1 : __real_recv(fd, bytes, shortened(RECV, n), flags);
}

ssize_t __real_send(int fd, const void *bytes, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t n, int flags)
{
    return fails(SEND) ? -1 : __real_send(fd, bytes, shortened(SEND, n), flags);
}

int __real_epoll_wait(int fd, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    return fails(EPOLL_WAIT) ? -1 : __real_epoll_wait(fd, events, max, timeout);
}

/* Only ADD allocates, so only ADD can fail. */
int __real_epoll_ctl(int fd, int op, int of, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int op, int of, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int op, int of, struct epoll_event *event)
{
    return op == EPOLL_CTL_ADD && fails(EPOLL_ADD) ? -1 : __real_epoll_ctl(fd, op, of, event);
}

/* ---- memory -------------------------------------------------------------------------------------------------------------------- */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return fails(MEMORY) ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fails(MEMORY) ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *mem, size_t size);
void *__wrap_realloc(void *mem, size_t size);
void *__wrap_realloc(void *mem, size_t size)
{
    return fails(MEMORY) ? NULL : __real_realloc(mem, size);
}

static sqlite3_mem_methods sqlite_memory;

static void *sqlite_malloc(int size)
{
    return fails(MEMORY) ? NULL : sqlite_memory.xMalloc(size);
}

static void *sqlite_realloc(void *mem, int size)
{
    return fails(MEMORY) ? NULL : sqlite_memory.xRealloc(mem, size);
}

/* ---- the disk --------------------------------------------------------------------------------------------------------------------- */

static ssize_t (*real_write)(int fd, const void *bytes, size_t n);
static ssize_t (*real_pwrite)(int fd, const void *bytes, size_t n, off_t at);

static ssize_t disk_write(int fd, const void *bytes, size_t n)
{
    return fails(DISK_WRITE) ? -1 : real_write(fd, bytes, n);
}

static ssize_t disk_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    return fails(DISK_WRITE) ? -1 : real_pwrite(fd, bytes, n, at);
}

/* Not in SQLite's table of system calls; but what a program defines goes before what a library has. */
int fdatasync(int fd)
{
    return fails(DISK_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fails(DISK_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

static void open_disk(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL); /* which initializes SQLite: its memory must have been seen to */

    real_write = (ssize_t(*)(int, const void *, size_t))vfs->xGetSystemCall(vfs, "write");
    vfs->xSetSystemCall(vfs, "write", (sqlite3_syscall_ptr)disk_write);
    for (size_t i = 0; i < 2; i++) { /* which of these it uses, if any, was decided when it was built */
        static const char *const names[] = {"pwrite", "pwrite64"};
        sqlite3_syscall_ptr real = vfs->xGetSystemCall(vfs, names[i]);

        if (!real) continue;
        real_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))real;
        vfs->xSetSystemCall(vfs, names[i], (sqlite3_syscall_ptr)disk_pwrite);
    }
}

__attribute__((constructor)) static void open_faults(void)
{
    const char *path = getenv("FORNO_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mem = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof nothing, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0) close(fd);
    if (mem != MAP_FAILED) faults = mem;
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_memory);
    sqlite3_mem_methods failing = sqlite_memory;
    failing.xMalloc = sqlite_malloc;
    failing.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
    open_disk();
}
