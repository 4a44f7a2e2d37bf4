/*
 * Durable appends, direct reads, sequential reads, walking and removing a tree, copying: the C side of the benchmarks
 * of uring/fs. Each operation is a record, a page, a MiB, a file and a MiB.
 * usage: files append-sync|append-dsync|append-direct FILE
 *        files direct-uring|direct-pread FILE | scan-read|scan-uring FILE
 *        files tree DIRECTORY | rm DIRECTORY | copy FROM TO
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
#define DEPTH_MAX 256u
#define SEED 0x9e3779b9u
#define CHUNK (256u * 1024u)
#define CHUNKS 4u
#define WRITERS_MAX 64u

static struct io_uring ring;
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

/* Pages begin with their number; each counts with its place. */
static void check_pages(const char *bytes, uint64_t offset, size_t length)
{
	for (size_t at = 0; at < length; at += PAGE) {
		uint32_t word;

		memcpy(&word, bytes + at, sizeof(word));
		rounds_digest += word * (uint32_t)(2 * ((offset + at) / PAGE) + 1);
	}
}

static void start_over(void)
{
	if (ftruncate(fd, 0) < 0 || fsync(fd) < 0)
		die("ftruncate");
}

static void check_appended(uint64_t ops)
{
	int file;
	ssize_t got;

	if (!rounds_checking)
		return;
	file = open(first_path, O_RDONLY | O_CLOEXEC);
	while ((got = read(file, memory, MIB)) > 0)
		for (ssize_t i = 0; i < got; i++)
			rounds_digest += (unsigned char)memory[i];
	close(file);
	memset(memory, 1, MIB);
	rounds_digest += (uint32_t)ops;
}

/* Each group of `writers` records shares one sync. */
static void append_sync(unsigned writers, uint64_t ops)
{
	start_over();
	for (uint64_t i = 0; i < ops; i++) {
		if (pwrite(fd, memory, PAGE, (off_t)(i * PAGE)) != PAGE)
			die("pwrite");
		if ((i + 1) % writers == 0 && fdatasync(fd) < 0)
			die("fdatasync");
	}
	check_appended(ops);
}

static void append_dsync(unsigned writers, uint64_t ops)
{
	struct iovec vectors[WRITERS_MAX];

	for (unsigned i = 0; i < writers; i++)
		vectors[i] = (struct iovec){ memory, PAGE };
	start_over();
	for (uint64_t i = 0; i < ops; i += writers)
		if (pwritev2(fd, vectors, (int)writers, (off_t)(i * PAGE), RWF_DSYNC) != (ssize_t)(writers * PAGE))
			die("pwritev2");
	check_appended(ops);
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
			if (rounds_checking)
				check_pages(memory + cqe->user_data * PAGE, 0, PAGE);
			if (asked < ops) {
				random = queue_direct((unsigned)cqe->user_data, random);
				asked++;
			}
		}
		io_uring_cq_advance(&ring, seen);
		done += seen;
	}
}

/* One at a time, whatever the depth. */
static void direct_pread(unsigned depth, uint64_t ops)
{
	uint32_t random = SEED, pages = (uint32_t)(file_size / PAGE);

	(void)depth;
	for (uint64_t i = 0; i < ops; i++) {
		random = next_random(random);
		if (pread(fd, memory, PAGE, (off_t)(random & (pages - 1)) * PAGE) != PAGE)
			die("a short pread");
		if (rounds_checking)
			check_pages(memory, 0, PAGE);
	}
}

static void scan_read(unsigned parameter, uint64_t ops)
{
	uint64_t at = 0;

	(void)parameter;
	for (uint64_t i = 0; i < ops; i++, at = (at + MIB) % file_size)
		for (unsigned part = 0; part < MIB; part += CHUNK) {
			if (pread(fd, memory, CHUNK, (off_t)(at + part)) != CHUNK)
				die("a short pread");
			if (rounds_checking)
				check_pages(memory, at + part, CHUNK);
		}
}

static void scan_uring(unsigned parameter, uint64_t ops)
{
	uint64_t chunks = ops * MIB / CHUNK, asked = 0, done = 0, in_file = file_size / CHUNK;
	unsigned buffers[CHUNKS], free_buffers = 0;

	(void)parameter;
	while (free_buffers < CHUNKS) {
		buffers[free_buffers] = free_buffers;
		free_buffers++;
	}
	while (done < chunks) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		for (; asked < chunks && free_buffers > 0; asked++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
			unsigned buffer = buffers[--free_buffers];

			io_uring_prep_read(sqe, fd, memory + buffer * CHUNK, CHUNK, (asked % in_file) * CHUNK);
			io_uring_sqe_set_data64(sqe, (asked % in_file) * CHUNKS + buffer);
		}
		if (io_uring_submit_and_wait(&ring, 1) < 0)
			die("submit_and_wait");
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			unsigned buffer = (unsigned)(cqe->user_data % CHUNKS);

			if (cqe->res != (int)CHUNK)
				die("a read gave %d", cqe->res);
			if (rounds_checking)
				check_pages(memory + buffer * CHUNK, cqe->user_data / CHUNKS * CHUNK, CHUNK);
			buffers[free_buffers++] = buffer;
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
		if (rounds_checking)
			rounds_digest += (uint32_t)st.st_size;
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

static void remove_below(int directory)
{
	DIR *open_directory = fdopendir(directory);
	struct dirent *entry;

	if (!open_directory)
		die("fdopendir");
	while ((entry = readdir(open_directory))) {
		int flags = 0;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (entry->d_type == DT_DIR) {
			remove_below(openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
			flags = AT_REMOVEDIR;
		}
		if (unlinkat(directory, entry->d_name, flags) < 0)
			die("unlinkat %s", entry->d_name);
	}
	closedir(open_directory);
}

static void remove_tree(unsigned entries, uint64_t ops)
{
	(void)entries;
	(void)ops;
	remove_below(open(first_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (rmdir(first_path) < 0)
		die("rmdir");
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
	if (strcmp(mode, "append-sync") == 0 || strcmp(mode, "append-dsync") == 0) {
		open_file(argv[2], O_RDWR | O_CREAT);
		return rounds_serve(strcmp(mode, "append-sync") == 0 ? append_sync : append_dsync);
	}
	if (strcmp(mode, "append-direct") == 0) {
		open_file(argv[2], O_RDWR | O_CREAT | O_DIRECT);
		return rounds_serve(append_dsync);
	}
	if (strcmp(mode, "direct-pread") == 0) {
		open_file(argv[2], O_RDONLY | O_DIRECT);
		return rounds_serve(direct_pread);
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
	if (strcmp(mode, "rm") == 0)
		return rounds_serve(remove_tree);
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
