/*
 * What the pass-through file systems in C have in common: the files that the kernel knows, each held open by an O_PATH
 * descriptor and counted, and directories that are read from any entry on.
 */
#ifndef URING_BENCH_PASSTHROUGH_H
#define URING_BENCH_PASSTHROUGH_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rounds.h"

#define BUCKETS (1u << 15)
#define CACHE_SECONDS 1

struct inode {
	int fd;
	dev_t dev;
	ino_t ino;
	uint64_t lookups;
	struct inode *next;
};

struct directory {
	DIR *dir;
	off_t offset;
	struct dirent *entry;
};

static struct inode root = { .fd = -1, .lookups = 1 };
static struct inode *buckets[BUCKETS];
static pthread_mutex_t buckets_lock = PTHREAD_MUTEX_INITIALIZER;

static inline void open_root(const char *path)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	umask(0);
	root.fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root.fd < 0)
		die("%s: %s", path, strerror(errno));
}

static inline struct inode **bucket_for(dev_t dev, ino_t ino)
{
	return &buckets[(ino ^ dev * 31) % BUCKETS];
}

/* Finds a name in a directory and counts that the kernel knows of it. Returns an errno. */
static inline int inode_look_up(struct inode *parent, const char *name, struct stat *about, struct inode **found)
{
	int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct inode **bucket, *one;

	if (fd < 0)
		return errno;
	if (fstatat(fd, "", about, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
		int error = errno;

		close(fd);
		return error;
	}
	pthread_mutex_lock(&buckets_lock);
	bucket = bucket_for(about->st_dev, about->st_ino);
	for (one = *bucket; one; one = one->next)
		if (one->ino == about->st_ino && one->dev == about->st_dev)
			break;
	if (one) {
		close(fd);
	} else {
		one = calloc(1, sizeof(*one));
		if (!one)
			die("out of memory");
		*one = (struct inode){ fd, about->st_dev, about->st_ino, 0, *bucket };
		*bucket = one;
	}
	one->lookups++;
	pthread_mutex_unlock(&buckets_lock);
	*found = one;
	return 0;
}

static inline void inode_forget(struct inode *one, uint64_t lookups)
{
	struct inode **at;

	if (one == &root)
		return;
	pthread_mutex_lock(&buckets_lock);
	one->lookups -= lookups;
	if (one->lookups == 0) {
		for (at = bucket_for(one->dev, one->ino); *at != one; at = &(*at)->next)
			;
		*at = one->next;
		close(one->fd);
		free(one);
	}
	pthread_mutex_unlock(&buckets_lock);
}

/* Opens what an O_PATH descriptor stands for. */
static inline int inode_open(const struct inode *one, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", one->fd);
	return open(path, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
}

static inline struct directory *directory_open(const struct inode *one)
{
	struct directory *opened = calloc(1, sizeof(*opened));
	int fd = openat(one->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!opened)
		die("out of memory");
	if (fd >= 0)
		opened->dir = fdopendir(fd);
	if (!opened->dir) {
		free(opened);
		return NULL;
	}
	return opened;
}

/* The entry at an offset; NULL at the end. It stays until directory_next. */
static inline struct dirent *directory_at(struct directory *opened, off_t offset)
{
	if (offset != opened->offset) {
		seekdir(opened->dir, offset);
		opened->entry = NULL;
		opened->offset = offset;
	}
	if (!opened->entry)
		opened->entry = readdir(opened->dir);
	return opened->entry;
}

static inline off_t directory_next(struct directory *opened)
{
	opened->offset = opened->entry->d_off;
	opened->entry = NULL;
	return opened->offset;
}

static inline void directory_close(struct directory *opened)
{
	closedir(opened->dir);
	free(opened);
}

static inline int is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

#endif
