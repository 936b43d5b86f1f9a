/* Loaded with LD_PRELOAD: logs the calls that change files, and lets one of them fail.

   CXR_FAULT_LOG   file to which each call on a path below CXR_FAULT_ROOT is appended, a line each:
                   "write PATH", "fsync PATH", "rename OLD NEW", "unlink PATH"
   CXR_FAULT_ROOT  folder; calls on other paths are passed on
   faults_set      called by the process (ctypes): the call, a part of its path, the error, and how
                   many bytes (write) or calls may pass first; "" ends it

   stdio writes without calling `write`, so fwrite, fflush and fclose are covered, too. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char fail_call[16], fail_path[PATH_MAX];
static int fail_code;
static long fail_after;
static pthread_mutex_t noting = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_set(const char *call, const char *path, int code, long after) {
    snprintf(fail_call, sizeof fail_call, "%s", call);
    snprintf(fail_path, sizeof fail_path, "%s", path);
    fail_code = code;
    fail_after = after;
}

static int is_watched(const char *path) {
    const char *root = getenv("CXR_FAULT_ROOT");
    return root && strncmp(path, root, strlen(root)) == 0;
}

static void note(const char *call, const char *path, const char *other) {
    static char last[2 * PATH_MAX + 32];
    char line[sizeof last];
    const char *log = getenv("CXR_FAULT_LOG");
    int length = snprintf(line, sizeof line, "%s %s%s%s\n", call, path, other ? " " : "",
                          other ? other : "");
    if (!log)
        return;
    pthread_mutex_lock(&noting);
    if (strcmp(line, last) == 0) { /* one line for the many writes of one file */
        pthread_mutex_unlock(&noting);
        return;
    }
    strcpy(last, line);
    int file = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) {
        if (REAL(write)(file, line, (size_t)length) < 0)
            abort();
        close(file);
    }
    pthread_mutex_unlock(&noting);
}

/* Returns whether the call must fail; `size` is the number of bytes, or 1. */
static int fails(const char *call, const char *path, const char *other, size_t size) {
    if (!is_watched(path))
        return 0;
    if (fail_call[0] && strcmp(call, fail_call) == 0 && strstr(path, fail_path)) {
        fail_after -= (long)size;
        if (fail_after < 0) {
            errno = fail_code;
            return 1;
        }
    }
    note(call, path, other);
    return 0;
}

static int absolute(const char *path, char *result) {
    if (path[0] == '/')
        return snprintf(result, PATH_MAX, "%s", path) < PATH_MAX;
    char folder[PATH_MAX];
    return getcwd(folder, sizeof folder) &&
           snprintf(result, PATH_MAX, "%s/%s", folder, path) < PATH_MAX;
}

static int path_of(int file, char *result) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, result, PATH_MAX - 1);
    if (length < 0)
        return 0;
    result[length] = 0;
    return result[0] == '/';
}

static int file_fails(const char *call, int file, size_t size) {
    char path[PATH_MAX];
    int before = errno;
    if (path_of(file, path) && fails(call, path, NULL, size))
        return 1;
    errno = before;
    return 0;
}

static int named_fails(const char *call, const char *path, const char *other) {
    char first[PATH_MAX], second[PATH_MAX];
    if (!absolute(path, first) || (other && !absolute(other, second)))
        return 0;
    return fails(call, first, other ? second : NULL, 1);
}

ssize_t write(int file, const void *data, size_t size) {
    return file_fails("write", file, size) ? -1 : REAL(write)(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    return file_fails("write", file, size) ? -1 : REAL(pwrite)(file, data, size, offset);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    return file_fails("write", file, size) ? -1 : REAL(pwrite64)(file, data, size, offset);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    size_t size = 0;
    for (int number = 0; number < count; number++)
        size += parts[number].iov_len;
    return file_fails("write", file, size) ? -1 : REAL(writev)(file, parts, count);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    return file_fails("write", fileno(stream), size * count)
               ? 0
               : REAL(fwrite)(data, size, count, stream);
}

int fsync(int file) { return file_fails("fsync", file, 1) ? -1 : REAL(fsync)(file); }

int rename(const char *old, const char *new) {
    return named_fails("rename", old, new) ? -1 : REAL(rename)(old, new);
}

int renameat(int folder, const char *old, int other, const char *new) {
    return named_fails("rename", old, new) ? -1 : REAL(renameat)(folder, old, other, new);
}

int unlink(const char *path) {
    return named_fails("unlink", path, NULL) ? -1 : REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    return named_fails("mkdir", path, NULL) ? -1 : REAL(mkdir)(path, mode);
}

static int open_fails(const char *path, int flags) {
    return (flags & (O_WRONLY | O_RDWR | O_CREAT)) && named_fails("open", path, NULL);
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        mode_t mode = 0;                                                                           \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                       \
            va_list rest;                                                                          \
            va_start(rest, flags);                                                                 \
            mode = va_arg(rest, mode_t);                                                           \
            va_end(rest);                                                                          \
        }                                                                                          \
        return open_fails(path, flags) ? -1 : REAL(name)(path, flags, mode);                       \
    }

OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                                                \
    FILE *name(const char *path, const char *mode) {                                               \
        if (strpbrk(mode, "wa+") && named_fails("open", path, NULL))                               \
            return NULL;                                                                           \
        return REAL(name)(path, mode);                                                             \
    }

FOPEN(fopen)
FOPEN(fopen64)
