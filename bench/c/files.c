/*
 * Whole files, durable appends, direct reads, sequential reads, walking a tree, copying: the C side of the benchmarks
 * of uring/fs. Each operation is a file, a record, a page, a MiB, a file and a MiB.
 * usage: files small-uring|small-posix DIRECTORY COUNT
 *        files append-sync|append-dsync|append-direct FILE
 *        files direct-uring FILE | scan-read|scan-uring FILE | tree DIRECTORY | copy FROM TO
 * twin: bench/programs/files.ts
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "rounds.h"

#define PAGE 4096u
#define MIB (1024u * 1024u)
#define SLOTS 64u
#define FIRST 65536u
#define AFTER 4096u
#define DEPTH_MAX 256u
#define SEED 0x9e3779b9u
#define CHUNK (256u * 1024u)
#define CHUNKS 4u

static struct io_uring ring;
static char **paths;
static unsigned path_count, next_path;
static const char *first_path, *second_path;
static char *memory;
static int fd;
static uint64_t file_size;

static void make_ring(unsigned entries)
{
	int ret = io_uring_queue_init(entries, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (ret < 0)
		die("io_uring_queue_init: %s", strerror(-ret));
	if (io_uring_register_ring_fd(&ring) != 1)
		die("io_uring_register_ring_fd");
}

static void *aligned(size_t size)
{
	void *made = aligned_alloc(PAGE, size);

	if (!made)
		die("out of memory");
	memset(made, 1, size);
	return made;
}

static const char *path_of_next(void)
{
	const char *path = paths[next_path];

	next_path = (next_path + 1) % path_count;
	return path;
}

/* As readFiles does it: open into a slot, read, look for the end; the next open replaces the file in the slot. */
static void start_small(unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	char *buffer = memory + (size_t)slot * (FIRST + AFTER);

	io_uring_prep_openat_direct(sqe, AT_FDCWD, path_of_next(), O_RDONLY, 0, slot);
	sqe->flags |= IOSQE_IO_LINK;
	io_uring_sqe_set_data64(sqe, UINT64_MAX);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, (int)slot, buffer, FIRST, (uint64_t)-1);
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK;
	io_uring_sqe_set_data64(sqe, UINT64_MAX);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, (int)slot, buffer + FIRST, AFTER, (uint64_t)-1);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, slot);
}

static void small_uring(unsigned parameter, uint64_t ops)
{
	uint64_t asked, done = 0;

	(void)parameter;
	for (asked = 0; asked < SLOTS && asked < ops; asked++)
		start_small((unsigned)asked);
	while (done < ops) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int ret = io_uring_submit_and_wait(&ring, 1);

		if (ret < 0)
			die("submit_and_wait: %s", strerror(-ret));
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			if (cqe->res < 0)
				die("%s", strerror(-cqe->res));
			if (cqe->user_data == UINT64_MAX)
				continue;
			done++;
			if (asked < ops) {
				asked++;
				start_small((unsigned)cqe->user_data);
			}
		}
		io_uring_cq_advance(&ring, seen);
	}
}

static void small_posix(unsigned parameter, uint64_t ops)
{
	(void)parameter;
	for (uint64_t i = 0; i < ops; i++) {
		int file = open(path_of_next(), O_RDONLY | O_CLOEXEC);
		ssize_t got, length = 0;

		if (file < 0)
			die("open");
		while ((got = read(file, memory + length, FIRST)) > 0)
			length += got;
		if (got < 0)
			die("read");
		close(file);
	}
}

static void start_over(void)
{
	if (ftruncate(fd, 0) < 0 || fsync(fd) < 0)
		die("ftruncate");
}

static void append_sync(unsigned parameter, uint64_t ops)
{
	(void)parameter;
	start_over();
	for (uint64_t i = 0; i < ops; i++)
		if (pwrite(fd, memory, PAGE, (off_t)(i * PAGE)) != PAGE || fdatasync(fd) < 0)
			die("write and fdatasync");
}

static void append_dsync(unsigned parameter, uint64_t ops)
{
	struct iovec vector = { memory, PAGE };

	(void)parameter;
	start_over();
	for (uint64_t i = 0; i < ops; i++)
		if (pwritev2(fd, &vector, 1, (off_t)(i * PAGE), RWF_DSYNC) != PAGE)
			die("pwritev2");
}

static uint32_t queue_direct(unsigned slot, uint32_t random)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	uint32_t pages = (uint32_t)(file_size / PAGE);

	random = next_random(random);
	io_uring_prep_read_fixed(sqe, fd, memory + (size_t)slot * PAGE, PAGE,
				 (uint64_t)(random & (pages - 1)) * PAGE, 0);
	io_uring_sqe_set_data64(sqe, slot);
	return random;
}

static void direct_uring(unsigned depth, uint64_t ops)
{
	uint32_t random = SEED;
	uint64_t asked, done = 0;

	for (asked = 0; asked < depth; asked++)
		random = queue_direct((unsigned)asked, random);
	while (done < ops) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		if (io_uring_submit_and_wait(&ring, 1) < 0)
			die("submit_and_wait");
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			if (cqe->res != (int)PAGE)
				die("a read gave %d", cqe->res);
			if (asked < ops) {
				random = queue_direct((unsigned)cqe->user_data, random);
				asked++;
			}
		}
		io_uring_cq_advance(&ring, seen);
		done += seen;
	}
}

static void scan_read(unsigned parameter, uint64_t ops)
{
	uint64_t at = 0;

	(void)parameter;
	for (uint64_t i = 0; i < ops; i++, at = (at + MIB) % file_size)
		for (unsigned part = 0; part < MIB; part += CHUNK)
			if (pread(fd, memory, CHUNK, (off_t)(at + part)) != CHUNK)
				die("a short pread");
}

static void scan_uring(unsigned parameter, uint64_t ops)
{
	uint64_t chunks = ops * MIB / CHUNK, asked = 0, done = 0, in_file = file_size / CHUNK;

	(void)parameter;
	while (done < chunks) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		for (; asked < chunks && asked - done < CHUNKS; asked++)
			io_uring_prep_read(io_uring_get_sqe(&ring), fd, memory + (asked % CHUNKS) * CHUNK, CHUNK,
					   (asked % in_file) * CHUNK);
		if (io_uring_submit_and_wait(&ring, 1) < 0)
			die("submit_and_wait");
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			if (cqe->res != (int)CHUNK)
				die("a read gave %d", cqe->res);
		}
		io_uring_cq_advance(&ring, seen);
		done += seen;
	}
}

static uint64_t walk(int directory)
{
	DIR *open_directory = fdopendir(directory);
	struct dirent *entry;
	uint64_t count = 0;

	if (!open_directory)
		die("fdopendir");
	while ((entry = readdir(open_directory))) {
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			die("fstatat %s", entry->d_name);
		count++;
		if (S_ISDIR(st.st_mode))
			count += walk(openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	}
	closedir(open_directory);
	return count;
}

/* Whole walks: the harness asks for a multiple of the number of entries. */
static void tree(unsigned entries, uint64_t ops)
{
	for (uint64_t done = 0; done < ops; done += entries)
		if (walk(open(first_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) != entries)
			die("the tree has another number of entries");
}

/* What cp(1) does, in whole files: the harness asks for a multiple of the file's size in MiB. */
static void copy(unsigned mibs, uint64_t ops)
{
	for (uint64_t done = 0; done < ops; done += mibs) {
		int to = open(second_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		uint64_t left = file_size;
		off_t from = 0;

		while (left > 0) {
			ssize_t count = copy_file_range(fd, &from, to, NULL, left, 0);

			if (count <= 0)
				die("copy_file_range");
			left -= (uint64_t)count;
		}
		close(to);
	}
}

static void small_paths(const char *directory, unsigned count)
{
	paths = calloc(count, sizeof(*paths));
	path_count = count;
	for (unsigned i = 0; i < count; i++)
		if (asprintf(&paths[i], "%s/f%u", directory, i) < 0)
			die("out of memory");
}

static void open_file(const char *path, int flags)
{
	struct stat st;

	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s cannot be opened", path);
	file_size = (uint64_t)st.st_size;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";

	if (argc < 3)
		die("usage: files MODE PATH...");
	first_path = argv[2];
	second_path = argc > 3 ? argv[3] : NULL;
	memory = aligned(MIB * 8);
	if (strncmp(mode, "small", 5) == 0) {
		small_paths(argv[2], argc > 3 ? (unsigned)atoi(argv[3]) : 0);
		if (strcmp(mode, "small-posix") == 0)
			return rounds_serve(small_posix);
		make_ring(256);
		if (io_uring_register_files_sparse(&ring, SLOTS) < 0)
			die("io_uring_register_files_sparse");
		return rounds_serve(small_uring);
	}
	if (strcmp(mode, "append-sync") == 0 || strcmp(mode, "append-dsync") == 0) {
		open_file(argv[2], O_RDWR | O_CREAT);
		return rounds_serve(strcmp(mode, "append-sync") == 0 ? append_sync : append_dsync);
	}
	if (strcmp(mode, "append-direct") == 0) {
		open_file(argv[2], O_RDWR | O_CREAT | O_DIRECT);
		return rounds_serve(append_dsync);
	}
	if (strcmp(mode, "direct-uring") == 0) {
		struct iovec vector = { memory, DEPTH_MAX * PAGE };

		open_file(argv[2], O_RDONLY | O_DIRECT);
		make_ring(256);
		if (io_uring_register_buffers(&ring, &vector, 1) < 0)
			die("io_uring_register_buffers");
		return rounds_serve(direct_uring);
	}
	if (strcmp(mode, "tree") == 0)
		return rounds_serve(tree);
	open_file(argv[2], O_RDONLY);
	if (strcmp(mode, "copy") == 0 && second_path)
		return rounds_serve(copy);
	if (strcmp(mode, "scan-read") == 0)
		return rounds_serve(scan_read);
	if (strcmp(mode, "scan-uring") == 0) {
		make_ring(256);
		return rounds_serve(scan_uring);
	}
	die("unknown mode %s", mode);
}
