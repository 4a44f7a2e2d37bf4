/*
 * 4 KiB reads at random pages of one cached file: with liburing, DEPTH of them always in flight, or with pread(2),
 * one after the other.
 * usage: read uring|pread FILE                twin: bench/programs/read.ts
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES 256

#include "random_reads.h"

static void preads(unsigned depth, uint64_t ops)
{
	uint32_t random = SEED;
	uint64_t i;

	(void)depth;
	for (i = 0; i < ops; i++) {
		random = next_random(random);
		pages_asked[0] = random & page_mask;
		if (pread(fd, buffers[0], PAGE, (off_t)pages_asked[0] * PAGE) != PAGE)
			die("a short pread");
	}
	check(0);
}

int main(int argc, char **argv)
{
	struct stat st;
	unsigned i;
	int ret;

	if (argc != 3)
		die("usage: read uring|pread FILE");
	fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s cannot be read", argv[2]);
	page_mask = (uint32_t)(st.st_size / PAGE) - 1;
	if (page_mask & (page_mask + 1))
		die("the file's size in pages is no power of two");
	for (i = 0; i < ENTRIES; i++) {
		buffers[i] = aligned_alloc(PAGE, PAGE);
		if (!buffers[i])
			die("out of memory");
	}
	if (strcmp(argv[1], "pread") == 0)
		return rounds_serve(preads);

	/* As `Uring` sets its ring up. */
	ret = io_uring_queue_init(ENTRIES, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (ret < 0)
		die("io_uring_queue_init: %s", strerror(-ret));
	ret = io_uring_register_ring_fd(&ring);
	if (ret != 1)
		die("io_uring_register_ring_fd: %d", ret);
	return rounds_serve(reads);
}
