/*
 * 4 KiB reads at random pages with liburing, DEPTH of them always in flight. Every page starts with its own number.
 * ENTRIES, the most that can be in flight, is defined by who includes this.
 */
#ifndef RANDOM_READS_H
#define RANDOM_READS_H

#include <liburing.h>

#include "rounds.h"

#define PAGE 4096u
#define SEED 0x9e3779b9u

static struct io_uring ring;
static int fd;
static uint32_t page_mask, pages_asked[ENTRIES];
static uint32_t *buffers[ENTRIES];

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

#endif
