/*
 * 4 KiB reads with O_DIRECT at random pages of a disk, DEPTH of them always in flight; the disk interrupts, or is
 * asked for what has ended (IORING_SETUP_IOPOLL), or that after a sleep of half a read's time (HYBRID_IOPOLL).
 * usage: iopoll interrupt|polled|hybrid DISK PAGES      twin: bench/programs/iopoll.ts
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include "rounds.h"

#ifndef IORING_SETUP_HYBRID_IOPOLL
#define IORING_SETUP_HYBRID_IOPOLL (1U << 17)
#endif

#define ENTRIES 64
#define PAGE 4096u
#define SEED 0x9e3779b9u

static struct io_uring ring;
static int fd;
static uint32_t page_mask, pages_asked[ENTRIES];
static uint32_t *buffers[ENTRIES];

/* Every page of the disk starts with its own number. */
static void check(unsigned slot)
{
	if (buffers[slot][0] != pages_asked[slot])
		die("page %u read as %u", pages_asked[slot], buffers[slot][0]);
}

static uint32_t queue_read(unsigned slot, uint32_t random)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe)
		die("the submission queue is full");
	random = next_random(random);
	pages_asked[slot] = random & page_mask;
	io_uring_prep_read(sqe, fd, buffers[slot], PAGE, (uint64_t)pages_asked[slot] * PAGE);
	io_uring_sqe_set_data64(sqe, slot);
	return random;
}

static void reads(unsigned depth, uint64_t ops)
{
	uint32_t random = SEED;
	uint64_t asked, done = 0;
	unsigned slot;

	if (depth > ENTRIES)
		die("depth %u is more than the ring holds", depth);
	for (asked = 0; asked < depth; asked++)
		random = queue_read((unsigned)asked, random);
	while (done < ops) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int ret = io_uring_submit_and_wait(&ring, 1);

		if (ret < 0)
			die("submit_and_wait: %s", strerror(-ret));
		io_uring_for_each_cqe(&ring, head, cqe) {
			if (cqe->res != (int)PAGE)
				die("a read gave %d", cqe->res);
			if (asked < ops) {
				random = queue_read((unsigned)cqe->user_data, random);
				asked++;
			}
			seen++;
		}
		io_uring_cq_advance(&ring, seen);
		done += seen;
	}
	for (slot = 0; slot < depth; slot++)
		check(slot);
}

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
