/*
 * A server that sends back what it receives: liburing, one thread. Multishot accept into direct descriptors, multishot
 * receive into provided buffers, one send in flight per connection from the buffer that was received into, which goes
 * back to the kernel when it is sent. Prints "listening PORT" and runs until its standard input ends.
 *
 *   echo_uring PORT [BUFFER_SIZE BUFFERS]
 */
#define _GNU_SOURCE
#include "server.h"

#include <liburing.h>
#include <sys/mman.h>

#define ENTRIES 4096
#define MAX_CONNECTIONS 16384
#define NONE UINT32_MAX

enum { ACCEPT, RECV, SEND, CLOSE, INPUT };

/* Chunks of a connection wait in a list of buffers; the first of them is being sent. */
struct connection {
	uint32_t first, last;
	uint32_t sent;
	bool ended, receiving, starved;
};

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static unsigned char *memory;
static unsigned buffer_size = 4096, buffer_count = 1024;
static uint32_t *lengths, *nexts;
static struct connection connections[MAX_CONNECTIONS];
static uint32_t starved[MAX_CONNECTIONS];
static unsigned starved_count, given;
static int listener;

static struct io_uring_sqe *entry(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	while (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	return sqe;
}

static void mark(struct io_uring_sqe *sqe, int kind, uint32_t index)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)kind << 32 | index);
}

static void arm_accept(void)
{
	struct io_uring_sqe *sqe = entry();

	io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
	mark(sqe, ACCEPT, 0);
}

static void arm_recv(uint32_t index)
{
	struct io_uring_sqe *sqe = entry();

	io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
	sqe->buf_group = 0;
	mark(sqe, RECV, index);
	connections[index].receiving = true;
}

static void arm_send(uint32_t index)
{
	struct connection *one = &connections[index];
	struct io_uring_sqe *sqe = entry();

	io_uring_prep_send(sqe, (int)index, memory + (size_t)one->first * buffer_size + one->sent,
			   lengths[one->first] - one->sent, MSG_WAITALL | MSG_NOSIGNAL);
	sqe->flags |= IOSQE_FIXED_FILE;
	mark(sqe, SEND, index);
}

static void give_back(uint32_t buffer)
{
	io_uring_buf_ring_add(buffers, memory + (size_t)buffer * buffer_size, buffer_size, (unsigned short)buffer,
			      io_uring_buf_ring_mask(buffer_count), (int)given++);
}

static void close_if_over(uint32_t index)
{
	struct connection *one = &connections[index];
	struct io_uring_sqe *sqe;

	if (!one->ended || one->receiving || one->first != NONE || one->starved)
		return;
	sqe = entry();
	io_uring_prep_close_direct(sqe, index);
	mark(sqe, CLOSE, index);
}

static void accepted(int32_t res, uint32_t flags)
{
	if (res >= 0) {
		if (res >= MAX_CONNECTIONS)
			die("too many connections");
		connections[res] = (struct connection){ .first = NONE, .last = NONE };
		arm_recv((uint32_t)res);
	}
	if (!(flags & IORING_CQE_F_MORE))
		arm_accept();
}

static void received(uint32_t index, int32_t res, uint32_t flags)
{
	struct connection *one = &connections[index];

	one->receiving = flags & IORING_CQE_F_MORE;
	if (res > 0) {
		uint32_t buffer = flags >> IORING_CQE_BUFFER_SHIFT;

		lengths[buffer] = (uint32_t)res;
		nexts[buffer] = NONE;
		if (one->first == NONE) {
			one->first = one->last = buffer;
			one->sent = 0;
			arm_send(index);
		} else {
			nexts[one->last] = buffer;
			one->last = buffer;
		}
	} else if (res != -ENOBUFS) {
		one->ended = true;
	}
	if (one->ended) {
		close_if_over(index);
	} else if (res == -ENOBUFS) {
		one->starved = true;
		starved[starved_count++] = index;
	} else if (!one->receiving) {
		arm_recv(index);
	}
}

static void sent(uint32_t index, int32_t res)
{
	struct connection *one = &connections[index];

	if (res > 0)
		one->sent += (uint32_t)res;
	if (res > 0 && one->sent < lengths[one->first]) {
		arm_send(index);
		return;
	}
	/* Of a connection that is gone everything is dropped. */
	do {
		uint32_t next = nexts[one->first];

		give_back(one->first);
		one->first = next;
	} while (res < 0 && one->first != NONE);
	one->sent = 0;
	if (one->first != NONE)
		arm_send(index);
	else
		close_if_over(index);
}

static void feed_starved(void)
{
	unsigned count = starved_count;

	starved_count = 0;
	for (unsigned i = 0; i < count; i++) {
		connections[starved[i]].starved = false;
		arm_recv(starved[i]);
	}
}

static void serve(void)
{
	for (;;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		if (io_uring_submit_and_wait(&ring, 1) < 0)
			die("submit_and_wait");
		io_uring_for_each_cqe(&ring, head, cqe) {
			uint32_t index = (uint32_t)cqe->user_data;

			seen++;
			switch (cqe->user_data >> 32) {
			case ACCEPT: accepted(cqe->res, cqe->flags); break;
			case RECV: received(index, cqe->res, cqe->flags); break;
			case SEND: sent(index, cqe->res); break;
			case INPUT: return;
			}
		}
		io_uring_cq_advance(&ring, seen);
		if (given > 0) {
			io_uring_buf_ring_advance(buffers, (int)given);
			given = 0;
			feed_starved();
		}
	}
}

static void provide_buffers(void)
{
	size_t bytes = buffer_count * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg reg = { .ring_entries = buffer_count, .bgid = 0 };

	buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	memory = mmap(NULL, (size_t)buffer_size * buffer_count, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE,
		      -1, 0);
	lengths = calloc(buffer_count, sizeof(*lengths));
	nexts = calloc(buffer_count, sizeof(*nexts));
	reg.ring_addr = (uintptr_t)buffers;
	if (buffers == MAP_FAILED || memory == MAP_FAILED || io_uring_register_buf_ring(&ring, &reg, 0) < 0)
		die("io_uring_register_buf_ring");
	io_uring_buf_ring_init(buffers);
	for (uint32_t i = 0; i < buffer_count; i++)
		give_back(i);
	io_uring_buf_ring_advance(buffers, (int)given);
	given = 0;
}

int main(int argc, char **argv)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		.cq_entries = 4 * ENTRIES,
	};
	static char byte;
	struct io_uring_sqe *sqe;

	if (argc > 3) {
		buffer_size = (unsigned)atoi(argv[2]);
		buffer_count = (unsigned)atoi(argv[3]);
	}
	listener = listen_at(argc > 1 ? atoi(argv[1]) : 0, false);
	if (io_uring_queue_init_params(ENTRIES, &ring, &params) < 0)
		die("io_uring_queue_init_params");
	if (io_uring_register_ring_fd(&ring) != 1 || io_uring_register_files_sparse(&ring, MAX_CONNECTIONS) < 0)
		die("io_uring_register");
	provide_buffers();
	arm_accept();
	sqe = entry();
	io_uring_prep_read(sqe, 0, &byte, 1, 0);
	mark(sqe, INPUT, 0);
	serve();
	return 0;
}
