/*
 * 4 KiB reads with O_DIRECT at random pages of a disk, DEPTH of them always in flight; the disk interrupts, or is
 * asked for what has ended (IORING_SETUP_IOPOLL), or that after a sleep of half a read's time (HYBRID_IOPOLL).
 * usage: iopoll interrupt|polled|hybrid DISK PAGES      twin: bench/programs/iopoll.ts
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#ifndef IORING_SETUP_HYBRID_IOPOLL
#define IORING_SETUP_HYBRID_IOPOLL (1U << 17)
#endif

#define ENTRIES 64

#include "random_reads.h"

static unsigned flags_of(const char *mode)
{
	if (strcmp(mode, "interrupt") == 0)
		return 0;
	if (strcmp(mode, "polled") == 0)
		return IORING_SETUP_IOPOLL;
	if (strcmp(mode, "hybrid") == 0)
		return IORING_SETUP_IOPOLL | IORING_SETUP_HYBRID_IOPOLL;
	die("no such mode: %s", mode);
}

int main(int argc, char **argv)
{
	unsigned flags, i;
	int ret;

	if (argc != 4)
		die("usage: iopoll interrupt|polled|hybrid DISK PAGES");
	flags = flags_of(argv[1]) | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	fd = open(argv[2], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		die("%s cannot be read", argv[2]);
	page_mask = (uint32_t)atoi(argv[3]) - 1;
	for (i = 0; i < ENTRIES; i++) {
		buffers[i] = aligned_alloc(PAGE, PAGE);
		if (!buffers[i])
			die("out of memory");
	}
	ret = io_uring_queue_init(ENTRIES, &ring, flags);
	if (ret < 0)
		die("io_uring_queue_init: %s", strerror(-ret));
	ret = io_uring_register_ring_fd(&ring);
	if (ret != 1)
		die("io_uring_register_ring_fd: %d", ret);
	return rounds_serve(reads);
}
