/*
 * Small files read whole: the C side of the benchmarks small-files. Each operation is a file.
 * usage: small_files uring|posix read|stat DIRECTORY COUNT
 * twin: bench/programs/files.ts
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rounds.h"

#define SLOTS 64u
#define STEPS 4u
#define FIRST 65536u
#define AFTER 4096u
#define NONE UINT64_MAX

static struct io_uring ring;
static struct statx about[SLOTS];
static unsigned lengths[SLOTS];
static int stats_too;
static char **paths;
static unsigned path_count, next_path;
static char *memory;

static const char *path_of_next(void)
{
	const char *path = paths[next_path];

	next_path = (next_path + 1) % path_count;
	return path;
}

static void check_content(const char *bytes, unsigned length)
{
	uint32_t sum = 1;

	for (unsigned i = 0; i < length; i++)
		sum += (unsigned char)bytes[i];
	rounds_digest += (length + 1) * sum;
}

static char *memory_of(unsigned slot)
{
	return memory + (size_t)slot * (FIRST + AFTER);
}

/*
 * As readFiles does it: open into a slot, read, look for the end; the next open replaces the file in the slot.
 * What comes before the last step has the slot and its step in its user data.
 */
static void start_small(unsigned slot)
{
	const char *path = path_of_next();
	struct io_uring_sqe *sqe;

	if (stats_too) {
		sqe = io_uring_get_sqe(&ring);
		io_uring_prep_statx(sqe, AT_FDCWD, path, 0, STATX_BASIC_STATS, &about[slot]);
		sqe->flags |= IOSQE_IO_LINK;
		io_uring_sqe_set_data64(sqe, NONE);
	}
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat_direct(sqe, AT_FDCWD, path, O_RDONLY, 0, slot);
	sqe->flags |= IOSQE_IO_LINK;
	io_uring_sqe_set_data64(sqe, NONE);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, (int)slot, memory_of(slot), FIRST, (uint64_t)-1);
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK;
	io_uring_sqe_set_data64(sqe, SLOTS + slot);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, (int)slot, memory_of(slot) + FIRST, AFTER, (uint64_t)-1);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, slot);
}

static void finish_small(unsigned slot)
{
	if (!rounds_checking)
		return;
	check_content(memory_of(slot), lengths[slot]);
	if (stats_too)
		rounds_digest += (uint32_t)about[slot].stx_size;
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
			if (cqe->user_data == NONE)
				continue;
			if (cqe->user_data >= SLOTS) {
				lengths[cqe->user_data - SLOTS] = (unsigned)cqe->res;
				continue;
			}
			finish_small((unsigned)cqe->user_data);
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
		const char *path = path_of_next();
		struct stat st;
		ssize_t got, length = 0;
		int file;

		if (stats_too && stat(path, &st) < 0)
			die("stat");
		file = open(path, O_RDONLY | O_CLOEXEC);
		if (file < 0)
			die("open");
		while ((got = read(file, memory + length, FIRST)) > 0)
			length += got;
		if (got < 0)
			die("read");
		close(file);
		if (!rounds_checking)
			continue;
		check_content(memory, (unsigned)length);
		if (stats_too)
			rounds_digest += (uint32_t)st.st_size;
	}
}

static void make_ring(void)
{
	int ret = io_uring_queue_init(SLOTS * STEPS, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (ret < 0)
		die("io_uring_queue_init: %s", strerror(-ret));
	if (io_uring_register_ring_fd(&ring) != 1)
		die("io_uring_register_ring_fd");
	if (io_uring_register_files_sparse(&ring, SLOTS) < 0)
		die("io_uring_register_files_sparse");
}

int main(int argc, char **argv)
{
	if (argc < 5)
		die("usage: small_files uring|posix read|stat DIRECTORY COUNT");
	stats_too = strcmp(argv[2], "stat") == 0;
	path_count = (unsigned)atoi(argv[4]);
	paths = calloc(path_count, sizeof(*paths));
	memory = calloc(SLOTS, FIRST + AFTER);
	if (!paths || !memory)
		die("out of memory");
	memset(memory, 1, (size_t)SLOTS * (FIRST + AFTER));
	for (unsigned i = 0; i < path_count; i++)
		if (asprintf(&paths[i], "%s/f%u", argv[3], i) < 0)
			die("out of memory");
	if (strcmp(argv[1], "posix") == 0)
		return rounds_serve(small_posix);
	make_ring();
	return rounds_serve(small_uring);
}
