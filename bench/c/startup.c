/*
 * A whole process: nothing at all, or one ring and one NOP.
 * usage: startup empty|nop                    twins: bench/programs/startup_empty.ts, startup_nop.ts
 */
#include <liburing.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	int ret;

	if (argc != 2)
		return 2;
	if (strcmp(argv[1], "empty") == 0)
		return 0;
	ret = io_uring_queue_init(256, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (ret < 0) {
		fprintf(stderr, "io_uring_queue_init: %s\n", strerror(-ret));
		return 1;
	}
	io_uring_prep_nop(io_uring_get_sqe(&ring));
	io_uring_submit_and_wait(&ring, 1);
	ret = io_uring_peek_cqe(&ring, &cqe);
	if (ret == 0)
		io_uring_cqe_seen(&ring, cqe);
	io_uring_queue_exit(&ring);
	return ret == 0 ? 0 : 1;
}
