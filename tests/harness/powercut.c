/* Records what programs do to the files below one directory, so that a power cut can be acted out.

   LD_PRELOAD. POWERCUT_DIR: the directory (a real path). POWERCUT_LOG: where records go, outside of
   it. POWERCUT_SYNC_US: the longest a sync takes; the device itself is never asked. Any number of
   processes may record into one log: a record is one write of its own, and nothing is remembered
   between calls. What is written through a mapping, or by C's streams, is not recorded.

   A record: magic, header, path, second path, data. A sync has two, when it begins and when it is
   done: it covers what was recorded before it began. A write is recorded before it is done, a
   change of names after it succeeded. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, SYNCED, UNLINK, RENAME, MKDIR, RMDIR, LINK, SYNCALL };

struct header {
  char magic[16];
  uint32_t kind, directory;
  uint64_t inode, offset, length, token;
  uint32_t path, other;
};

static const char MAGIC[16] = "\x8a\x13power-cut\xfe\x91\x00\xc3\x5d";

static int below(const char *path) {
  const char *directory = getenv("POWERCUT_DIR");
  size_t length;
  if (!directory || !path) return 0;
  length = strlen(directory);
  return !strncmp(path, directory, length) && (path[length] == '/' || !path[length]);
}

static void record(struct header *header, const char *path, const char *other,
                   const struct iovec *data, int count) {
  struct iovec parts[IOV_MAX];
  int used = 3, saved = errno, log, i;
  const char *place = getenv("POWERCUT_LOG");
  if (!place) return;
  memcpy(header->magic, MAGIC, sizeof MAGIC);
  header->path = path ? strlen(path) : 0;
  header->other = other ? strlen(other) : 0;
  parts[0] = (struct iovec){header, sizeof *header};
  parts[1] = (struct iovec){(void *)path, header->path};
  parts[2] = (struct iovec){(void *)other, header->other};
  for (i = 0; i < count && used < IOV_MAX; i++) parts[used++] = data[i];
  log = syscall(SYS_openat, AT_FDCWD, place, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
  if (log < 0 || syscall(SYS_writev, log, parts, used) < 0) {
    static const char says[] = "powercut: the log cannot be written\n";
    syscall(SYS_write, 2, says, sizeof says - 1);
    _exit(97);
  }
  syscall(SYS_close, log);
  errno = saved;
}

/* The path of a descriptor, if it is a file or folder below the directory; what is removed has one
   too, as it was. */
static int watched(int fd, char *path, struct stat *about) {
  static const char gone[] = " (deleted)";
  char name[40];
  ssize_t length;
  int saved = errno;
  if (!getenv("POWERCUT_DIR") || fd < 0) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  length = readlink(name, path, PATH_MAX - 1);
  if (length <= 0) return errno = saved, 0;
  path[length] = 0;
  if ((size_t)length > sizeof gone && !strcmp(path + length - sizeof gone + 1, gone))
    path[length - sizeof gone + 1] = 0;
  if (!below(path) || fstat(fd, about) || !(S_ISREG(about->st_mode) || S_ISDIR(about->st_mode)))
    return errno = saved, 0;
  errno = saved;
  return 1;
}

/* A name as the kernel spells it: its folder resolved, whatever the name itself is. */
static int resolve(int base, const char *path, char *to) {
  char folder[PATH_MAX], name[40];
  const char *last = strrchr(path, '/');
  ssize_t length;
  int fd, saved = errno;
  if (!getenv("POWERCUT_DIR") || strlen(path) >= PATH_MAX) return 0;
  if (last) {
    memcpy(folder, path, last - path + 1);
    folder[last - path + 1] = 0;
  } else {
    strcpy(folder, ".");
  }
  fd = syscall(SYS_openat, base, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return errno = saved, 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  length = readlink(name, to, PATH_MAX - 1);
  syscall(SYS_close, fd);
  errno = saved;
  if (length <= 0 || length + strlen(last ? last + 1 : path) + 2 > PATH_MAX) return 0;
  to[length] = '/';
  strcpy(to + length + 1, last ? last + 1 : path);
  return below(to);
}

/* ---------------------------------------------------------------- opening */

static int opened(int base, const char *path, int flags, mode_t mode) {
  struct stat about;
  char real[PATH_MAX];
  int fresh = 0, fd, saved = errno;
  if ((flags & O_CREAT) && getenv("POWERCUT_DIR"))
    fresh = fstatat(base, path, &about, 0) != 0 && errno == ENOENT;
  errno = saved;
  fd = syscall(SYS_openat, base, path, flags, mode);
  if (fd >= 0 && (fresh || (flags & O_TRUNC)) && watched(fd, real, &about) &&
      S_ISREG(about.st_mode)) {
    struct header header = {.kind = fresh ? CREATE : TRUNCATE, .inode = about.st_ino};
    record(&header, real, NULL, NULL, 0);
  }
  return fd;
}

#define MODE()                                         \
  mode_t mode = 0;                                     \
  if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
    va_list list;                                      \
    va_start(list, flags);                             \
    mode = va_arg(list, int);                          \
    va_end(list);                                      \
  }

int open(const char *path, int flags, ...) { MODE() return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE() return opened(AT_FDCWD, path, flags, mode); }
int openat(int base, const char *path, int flags, ...) {
  MODE() return opened(base, path, flags, mode);
}
int openat64(int base, const char *path, int flags, ...) {
  MODE() return opened(base, path, flags, mode);
}
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int base, const char *path, int flags) { return opened(base, path, flags, 0); }
int __openat64_2(int base, const char *path, int flags) { return opened(base, path, flags, 0); }
int creat(const char *path, mode_t mode) {
  return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* ---------------------------------------------------------------- writing */

static void synced(int fd, int all) {
  static uint32_t number;
  struct stat about;
  char path[PATH_MAX];
  const char *longest = getenv("POWERCUT_SYNC_US");
  struct header header = {.kind = all ? SYNCALL : SYNC};
  struct timespec now;
  if (!watched(fd, path, &about)) return;
  header.inode = about.st_ino;
  header.directory = S_ISDIR(about.st_mode);
  header.token = ((uint64_t)getpid() << 32) | __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
  record(&header, path, NULL, NULL, 0);
  if (longest && atoi(longest) > 0) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    usleep((now.tv_nsec / 7) % atoi(longest));
  }
  header.kind = SYNCED;
  record(&header, path, NULL, NULL, 0);
}

/* Tell of a write that is about to be done; `at` is -1 for the descriptor's own place. */
static int writing(int fd, const struct iovec *data, int count, off_t at) {
  struct header header = {.kind = WRITE};
  struct stat about;
  char path[PATH_MAX];
  int i, flags;
  if (!watched(fd, path, &about) || !S_ISREG(about.st_mode)) return 0;
  flags = fcntl(fd, F_GETFL);
  if (at < 0) at = (flags & O_APPEND) ? about.st_size : lseek(fd, 0, SEEK_CUR);
  header.inode = about.st_ino;
  header.offset = at;
  for (i = 0; i < count; i++) header.length += data[i].iov_len;
  if (header.length) record(&header, path, NULL, data, count);
  return (flags & O_DSYNC) != 0;
}

#define DONE(call)                    \
  ssize_t result = call;              \
  if (result >= 0 && sync) synced(fd, 0); \
  return result;

ssize_t write(int fd, const void *from, size_t length) {
  struct iovec data = {(void *)from, length};
  int sync = writing(fd, &data, 1, -1);
  DONE(syscall(SYS_write, fd, from, length))
}
ssize_t writev(int fd, const struct iovec *data, int count) {
  int sync = writing(fd, data, count, -1);
  DONE(syscall(SYS_writev, fd, data, count))
}
ssize_t pwrite(int fd, const void *from, size_t length, off_t at) {
  struct iovec data = {(void *)from, length};
  int sync = writing(fd, &data, 1, at);
  DONE(syscall(SYS_pwrite64, fd, from, length, at))
}
ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) {
  return pwrite(fd, from, length, at);
}
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t at) {
  int sync = writing(fd, data, count, at);
  DONE(syscall(SYS_pwritev, fd, data, count, (long)at, 0L))
}
ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t at) {
  return pwritev(fd, data, count, at);
}

static void resized(int fd, off_t size) {
  struct stat about;
  char path[PATH_MAX];
  if (watched(fd, path, &about)) {
    struct header header = {.kind = TRUNCATE, .inode = about.st_ino, .offset = size};
    record(&header, path, NULL, NULL, 0);
  }
}

int ftruncate(int fd, off_t size) {
  resized(fd, size);
  return syscall(SYS_ftruncate, fd, size);
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int truncate(const char *path, off_t size) {
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0), result;
  if (fd < 0) return -1;
  result = ftruncate(fd, size);
  syscall(SYS_close, fd);
  return result;
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

/* It makes a file longer, with zeros; keeping the size, or holes, nobody is told of. */
int fallocate(int fd, int mode, off_t at, off_t length) {
  struct stat about;
  int result = syscall(SYS_fallocate, fd, mode, at, length);
  if (!result && !mode && !fstat(fd, &about)) resized(fd, about.st_size);
  return result;
}
int fallocate64(int fd, int mode, off64_t at, off64_t length) {
  return fallocate(fd, mode, at, length);
}
int posix_fallocate(int fd, off_t at, off_t length) {
  int saved = errno, result = fallocate(fd, 0, at, length) ? errno : 0;
  errno = saved;
  return result;
}
int posix_fallocate64(int fd, off64_t at, off64_t length) {
  return posix_fallocate(fd, at, length);
}

/* ---------------------------------------------------------------- syncing */

#define SYNCING(name, number)                    \
  int name(int fd) {                             \
    struct stat about;                           \
    char path[PATH_MAX];                         \
    if (!watched(fd, path, &about)) return syscall(number, fd); \
    synced(fd, 0);                               \
    return 0;                                    \
  }
SYNCING(fsync, SYS_fsync)
SYNCING(fdatasync, SYS_fdatasync)

int syncfs(int fd) {
  struct stat about;
  char path[PATH_MAX];
  if (!watched(fd, path, &about)) return syscall(SYS_syncfs, fd);
  synced(fd, 1);
  return 0;
}

/* ---------------------------------------------------------------- names */

static void named(int kind, const char *path, const char *other) {
  struct header header = {.kind = kind};
  record(&header, path, other, NULL, 0);
}

int unlinkat(int base, const char *path, int flags) {
  char real[PATH_MAX];
  int ours = resolve(base, path, real), result = syscall(SYS_unlinkat, base, path, flags);
  if (!result && ours) named(flags & AT_REMOVEDIR ? RMDIR : UNLINK, real, NULL);
  return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
  struct stat about;
  if (lstat(path, &about)) return -1;
  return S_ISDIR(about.st_mode) ? rmdir(path) : unlink(path);
}

int renameat2(int base, const char *path, int other_base, const char *other, unsigned flags) {
  char from[PATH_MAX], to[PATH_MAX];
  int ours = resolve(base, path, from) & resolve(other_base, other, to);
  int result = syscall(SYS_renameat2, base, path, other_base, other, flags);
  if (!result && ours) named(RENAME, from, to);
  return result;
}
int renameat(int base, const char *path, int other_base, const char *other) {
  return renameat2(base, path, other_base, other, 0);
}
int rename(const char *path, const char *other) {
  return renameat2(AT_FDCWD, path, AT_FDCWD, other, 0);
}

int linkat(int base, const char *path, int other_base, const char *other, int flags) {
  char from[PATH_MAX], to[PATH_MAX];
  int ours = resolve(base, path, from) & resolve(other_base, other, to);
  int result = syscall(SYS_linkat, base, path, other_base, other, flags);
  if (!result && ours) named(LINK, from, to);
  return result;
}
int link(const char *path, const char *other) {
  return linkat(AT_FDCWD, path, AT_FDCWD, other, 0);
}

int mkdirat(int base, const char *path, mode_t mode) {
  char real[PATH_MAX];
  int ours = resolve(base, path, real), result = syscall(SYS_mkdirat, base, path, mode);
  if (!result && ours) named(MKDIR, real, NULL);
  return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
