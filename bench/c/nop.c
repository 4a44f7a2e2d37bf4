/*
 * NOPs through liburing, in batches: fill the batch, one submit-and-wait for all of it, read every completion.
 * usage: nop SETUP_FLAGS REGISTERED(0|1)      twin: bench/programs/nop.ts
 */
#include <liburing.h>

#include "rounds.h"

#define ENTRIES 256

static struct io_uring ring;

static void nops(unsigned batch, uint64_t ops)
{
	uint64_t done;
	uint32_t sum = 0;

	for (done = 0; done < ops; done += batch) {
		struct io_uring_cqe *cqe;
		unsigned i, head, seen = 0;
		int ret;

		for (i = 0; i < batch; i++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

			if (!sqe)
				die("the submission queue is full at %u of %u", i, batch);
			io_uring_prep_nop(sqe);
			io_uring_sqe_set_data64(sqe, done + i);
		}
		ret = io_uring_submit_and_wait(&ring, batch);
		if (ret != (int)batch)
			die("submit_and_wait gave %d instead of %u", ret, batch);
		io_uring_for_each_cqe(&ring, head, cqe) {
			if (cqe->res != 0)
				die("a NOP gave %d", cqe->res);
			sum += (uint32_t)cqe->user_data;
			seen++;
		}
		io_uring_cq_advance(&ring, seen);
		if (seen != batch)
			die("%u completions instead of %u", seen, batch);
	}
	if (sum != (uint32_t)(ops * (ops - 1) / 2))
		die("the sum of user_data is wrong");
}

int main(int argc, char **argv)
{
	int ret;

	if (argc != 3)
		die("usage: nop SETUP_FLAGS REGISTERED");
	ret = io_uring_queue_init(ENTRIES, &ring, (unsigned)strtoul(argv[1], NULL, 0));
	if (ret < 0)
		die("io_uring_queue_init: %s", strerror(-ret));
	if (atoi(argv[2])) {
		ret = io_uring_register_ring_fd(&ring);
		if (ret != 1)
			die("io_uring_register_ring_fd: %d", ret);
	}
	return rounds_serve(nops);
}
