/*
 * A server that sends datagrams back to where they came from: liburing, one thread. Multishot recvmsg into provided
 * buffers; each datagram is sent from the buffer that it came in, which goes back to the kernel when it is sent. Prints
 * "listening PORT" and runs until its standard input ends.
 */
#define _GNU_SOURCE
#include "server.h"

#include <liburing.h>
#include <netinet/in.h>
#include <sys/mman.h>

#define ENTRIES 1024
#define COUNT 256
/* As far from one another that they do not share the lines of the caches. */
#define STRIDE (65536u + 256)

enum { RECV = COUNT, INPUT };

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static unsigned char *memory;
static struct msghdr header = { .msg_namelen = sizeof(struct sockaddr_in) };
static unsigned given;
static int fd;

static struct io_uring_sqe *entry(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	while (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	return sqe;
}

static void arm(void)
{
	struct io_uring_sqe *sqe = entry();

	io_uring_prep_recvmsg_multishot(sqe, fd, &header, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = 0;
	io_uring_sqe_set_data64(sqe, RECV);
}

static void give_back(unsigned id)
{
	io_uring_buf_ring_add(buffers, memory + (size_t)id * STRIDE, STRIDE, (unsigned short)id,
			      io_uring_buf_ring_mask(COUNT), (int)given++);
}

static bool received(int32_t res, uint32_t flags)
{
	if (res >= 0) {
		unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;
		struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(memory + (size_t)id * STRIDE, res, &header);
		struct io_uring_sqe *sqe = entry();

		if (!out)
			die("a message without a header");
		io_uring_prep_send(sqe, fd, io_uring_recvmsg_payload(out, &header),
				   io_uring_recvmsg_payload_length(out, res, &header), 0);
		io_uring_prep_send_set_addr(sqe, io_uring_recvmsg_name(out), (uint16_t)out->namelen);
		io_uring_sqe_set_data64(sqe, id);
	} else if (res != -ENOBUFS) {
		die("recvmsg: %s", strerror(-res));
	}
	return flags & IORING_CQE_F_MORE;
}

static void serve(void)
{
	bool armed = true;

	for (;;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		if (io_uring_submit_and_wait(&ring, 1) < 0)
			die("submit_and_wait");
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			if (cqe->user_data == RECV)
				armed = received(cqe->res, cqe->flags);
			else if (cqe->user_data == INPUT)
				return;
			else
				give_back((unsigned)cqe->user_data);
		}
		io_uring_cq_advance(&ring, seen);
		io_uring_buf_ring_advance(buffers, (int)given);
		if (!armed && given > 0) {
			arm();
			armed = true;
		}
		given = 0;
	}
}

int main(int argc, char **argv)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		.cq_entries = 4 * ENTRIES,
	};
	static char byte;
	struct io_uring_sqe *sqe;
	struct io_uring_buf_reg reg = { .ring_entries = COUNT, .bgid = 0 };

	fd = datagrams_at(argc > 1 ? atoi(argv[1]) : 0);
	if (io_uring_queue_init_params(ENTRIES, &ring, &params) < 0 || io_uring_register_ring_fd(&ring) != 1)
		die("io_uring_queue_init_params");
	memory = mmap(NULL, (size_t)COUNT * STRIDE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	buffers = mmap(NULL, COUNT * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1,
		       0);
	reg.ring_addr = (uintptr_t)buffers;
	if (memory == MAP_FAILED || buffers == MAP_FAILED || io_uring_register_buf_ring(&ring, &reg, 0) < 0)
		die("io_uring_register_buf_ring");
	io_uring_buf_ring_init(buffers);
	for (unsigned i = 0; i < COUNT; i++)
		give_back(i);
	io_uring_buf_ring_advance(buffers, (int)given);
	given = 0;
	arm();
	sqe = entry();
	io_uring_prep_read(sqe, 0, &byte, 1, 0);
	io_uring_sqe_set_data64(sqe, INPUT);
	serve();
	return 0;
}
