/*
 * A block device through liburing, one queue served by one thread: "null" gives and takes nothing, "ram" keeps what is
 * written. The loop is that of ublk's own servers: wait for one completion, handle all that are there, commit with the
 * next wait.
 * usage: ublk null|ram MEBIBYTES        SIGTERM ends it        twin: examples/ramdisk.ts
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <linux/ublk_cmd.h>
#include <pthread.h>
#include <signal.h>
#include <linux/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rounds.h"

#define DEPTH 128
#define MOST_BYTES (512 << 10)

/* Headers that are older than Linux 6.4 know the commands by numbers which drivers need not know any more. */
#define CONTROL(direction, nr) _IOC(direction, 'u', nr, sizeof(struct ublksrv_ctrl_cmd))
#define ADD_DEV CONTROL(_IOC_READ | _IOC_WRITE, UBLK_CMD_ADD_DEV)
#define DEL_DEV CONTROL(_IOC_READ | _IOC_WRITE, UBLK_CMD_DEL_DEV)
#define START_DEV CONTROL(_IOC_READ | _IOC_WRITE, UBLK_CMD_START_DEV)
#define STOP_DEV CONTROL(_IOC_READ | _IOC_WRITE, UBLK_CMD_STOP_DEV)
#define SET_PARAMS CONTROL(_IOC_READ | _IOC_WRITE, UBLK_CMD_SET_PARAMS)
#define IO(nr) _IOC(_IOC_READ | _IOC_WRITE, 'u', nr, sizeof(struct ublksrv_io_cmd))
#define FETCH IO(UBLK_IO_FETCH_REQ)
#define COMMIT_AND_FETCH IO(UBLK_IO_COMMIT_AND_FETCH_REQ)

static struct io_uring control, ring;
static int control_fd, device_fd;
static struct ublksrv_ctrl_dev_info info;
static const struct ublksrv_io_desc *descriptors;
static char *buffers, *memory;
static pthread_barrier_t fetched;

static void command(unsigned op, void *address, unsigned length, uint64_t data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&control);
	struct ublksrv_ctrl_cmd *cmd;
	struct io_uring_cqe *cqe;

	if (!sqe)
		die("the submission queue is full");
	cmd = (struct ublksrv_ctrl_cmd *)&sqe->addr3;
	memset(sqe, 0, 128);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = control_fd;
	sqe->off = op;
	cmd->dev_id = info.dev_id;
	cmd->queue_id = (uint16_t)-1;
	cmd->addr = (uint64_t)(uintptr_t)address;
	cmd->len = (uint16_t)length;
	cmd->data[0] = data;
	io_uring_submit(&control);
	while (io_uring_wait_cqe(&control, &cqe) == -EINTR)
		;
	if (cqe->res < 0)
		die("command %#x: %s", op, strerror(-cqe->res));
	io_uring_cqe_seen(&control, cqe);
}

static void queue(unsigned op, unsigned tag, int result)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	struct ublksrv_io_cmd *cmd;

	if (!sqe)
		die("the submission queue is full");
	cmd = (struct ublksrv_io_cmd *)&sqe->addr3;
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->ioprio = 0;
	sqe->fd = 0;
	sqe->off = op;
	sqe->rw_flags = 0;
	sqe->user_data = tag;
	cmd->q_id = 0;
	cmd->tag = (uint16_t)tag;
	cmd->result = result;
	cmd->addr = (uint64_t)(uintptr_t)(buffers + (size_t)tag * MOST_BYTES);
}

static int handle(unsigned tag)
{
	const struct ublksrv_io_desc *request = &descriptors[tag];
	size_t length = (size_t)request->nr_sectors << 9, offset = request->start_sector << 9;
	char *buffer = buffers + (size_t)tag * MOST_BYTES;

	switch (ublksrv_get_op(request)) {
	case UBLK_IO_OP_READ:
		if (memory)
			memcpy(buffer, memory + offset, length);
		return (int)length;
	case UBLK_IO_OP_WRITE:
		if (memory)
			memcpy(memory + offset, buffer, length);
		return (int)length;
	default:
		return -EOPNOTSUPP;
	}
}

static void *serve(void *unused)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	unsigned tag, left = DEPTH;
	int ret = io_uring_queue_init_params(DEPTH, &ring, &params);

	if (ret < 0)
		die("io_uring_queue_init_params: %s", strerror(-ret));
	io_uring_register_ring_fd(&ring);
	if (io_uring_register_files(&ring, &device_fd, 1) < 0)
		die("io_uring_register_files");
	for (tag = 0; tag < DEPTH; tag++)
		queue(FETCH, tag, 0);
	io_uring_submit(&ring);
	pthread_barrier_wait(&fetched);
	while (left > 0) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		ret = io_uring_submit_and_wait(&ring, 1);
		if (ret < 0 && ret != -EINTR)
			die("io_uring_submit_and_wait: %s", strerror(-ret));
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			tag = (unsigned)cqe->user_data;
			if (cqe->res == UBLK_IO_RES_OK)
				queue(COMMIT_AND_FETCH, tag, handle(tag));
			else
				left--;
		}
		io_uring_cq_advance(&ring, seen);
	}
	return unused;
}

static void make_device(uint64_t bytes)
{
	struct ublk_params params = {
		.len = sizeof(params),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = {
			.logical_bs_shift = 9,
			.physical_bs_shift = 12,
			.io_opt_shift = 12,
			.io_min_shift = 12,
			.max_sectors = MOST_BYTES >> 9,
			.dev_sectors = bytes >> 9,
		},
	};

	info.nr_hw_queues = 1;
	info.queue_depth = DEPTH;
	info.max_io_buf_bytes = MOST_BYTES;
	info.dev_id = (uint32_t)-1;
	command(ADD_DEV, &info, sizeof(info), 0);
	command(SET_PARAMS, &params, sizeof(params), 0);
}

int main(int argc, char **argv)
{
	size_t bytes, mapped = DEPTH * sizeof(*descriptors);
	sigset_t signals;
	pthread_t thread;
	char path[64];
	int signal;

	if (argc != 3 || (strcmp(argv[1], "null") && strcmp(argv[1], "ram")))
		die("usage: ublk null|ram MEBIBYTES");
	bytes = strtoul(argv[2], NULL, 0) << 20;
	buffers = mmap(NULL, (size_t)DEPTH * MOST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!strcmp(argv[1], "ram"))
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffers == MAP_FAILED || memory == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	control_fd = open("/dev/ublk-control", O_RDWR);
	if (control_fd < 0)
		die("/dev/ublk-control: %s", strerror(errno));
	if (io_uring_queue_init(4, &control, IORING_SETUP_SQE128) < 0)
		die("io_uring_queue_init");
	make_device(bytes);
	snprintf(path, sizeof(path), "/dev/ublkc%u", info.dev_id);
	device_fd = open(path, O_RDWR);
	if (device_fd < 0)
		die("%s: %s", path, strerror(errno));
	mapped = (mapped + 4095) & ~(size_t)4095;
	descriptors = mmap(NULL, mapped, PROT_READ, MAP_SHARED | MAP_POPULATE, device_fd, UBLKSRV_CMD_BUF_OFFSET);
	if (descriptors == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	pthread_barrier_init(&fetched, NULL, 2);
	if (pthread_create(&thread, NULL, serve, NULL))
		die("pthread_create");
	pthread_barrier_wait(&fetched);
	command(START_DEV, NULL, 0, (uint64_t)getpid());
	printf("serving /dev/ublkb%u\n", info.dev_id);
	fflush(stdout);
	sigwait(&signals, &signal);
	command(STOP_DEV, NULL, 0, 0);
	pthread_join(thread, NULL);
	io_uring_queue_exit(&ring);
	munmap((void *)descriptors, mapped);
	close(device_fd);
	command(DEL_DEV, NULL, 0, 0);
	return 0;
}
