/*
 * The client of the benchmarks of servers that send datagrams back: some sockets, each with a window of datagrams that are
 * on their way; each one that comes back is followed by the next. One thread, epoll, recvmmsg and sendmmsg, so that it
 * costs as little as can be. Every byte is compared. What is lost is sent anew after a while, and counted.
 *
 *   udp_load PORT SERVER_PID SOCKETS WINDOW SIZE WARM_MS MEASURED_MS
 *       prints "done DATAGRAMS NANOSECONDS CPU_NANOSECONDS P50 P99 LOST": CPU time is the server's, all threads;
 *       percentiles are of the round trips, in nanoseconds
 */
#define _GNU_SOURCE
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_EVENTS 64
#define MAX_WINDOW 64
#define MAX_SIZE 65507u
#define HEADER sizeof(uint64_t)
#define PERIOD 251u
#define PATIENCE_MS 50

struct flow {
	int fd;
	unsigned away;
	uint64_t heard;
};

static struct flow *flows;
static unsigned flow_count, window;
static size_t size;
static uint64_t messages, lost;
static int epoll_fd;
static unsigned char *boxes[MAX_WINDOW], *pattern;
static struct mmsghdr batch[MAX_WINDOW];
static struct iovec vectors[MAX_WINDOW];

/* Sends the first `count` boxes, with the time in each. */
static void give(struct flow *one, unsigned count, uint64_t now)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < count; i++) {
		memcpy(boxes[i], &now, HEADER);
		vectors[i].iov_len = size;
	}
	while (sent < count) {
		int done = sendmmsg(one->fd, batch + sent, count - sent, 0);

		if (done < 0)
			die("sendmmsg: %s", strerror(errno));
		sent += (unsigned)done;
	}
	one->away += count;
}

static void take(struct flow *one)
{
	uint64_t now;
	int count;

	for (unsigned i = 0; i < window; i++)
		vectors[i].iov_len = MAX_SIZE;
	count = recvmmsg(one->fd, batch, window, MSG_DONTWAIT, NULL);
	if (count < 0 && errno == EAGAIN)
		return;
	if (count < 0)
		die("recvmmsg: %s", strerror(errno));
	now = now_ns();
	for (int i = 0; i < count; i++) {
		uint64_t then;

		if (batch[i].msg_len != size || memcmp(boxes[i] + HEADER, pattern + HEADER, size - HEADER) != 0)
			die("something else came back");
		memcpy(&then, boxes[i], HEADER);
		buckets[bucket_of(now - then)]++;
	}
	messages += (unsigned)count;
	one->heard = now;
	/* What was given up as lost may come all the same. */
	one->away -= (unsigned)count < one->away ? (unsigned)count : one->away;
	give(one, window - one->away < (unsigned)count ? window - one->away : (unsigned)count, now);
}

static void give_up(uint64_t now)
{
	for (unsigned i = 0; i < flow_count; i++) {
		if (now - flows[i].heard < PATIENCE_MS * 1000000ull)
			continue;
		lost += flows[i].away;
		flows[i].away = 0;
		flows[i].heard = now;
		give(&flows[i], window, now);
	}
}

static void exchange_until(uint64_t deadline)
{
	struct epoll_event events[MAX_EVENTS];
	uint64_t now, checked = now_ns();

	do {
		int count = epoll_wait(epoll_fd, events, MAX_EVENTS, PATIENCE_MS);

		for (int i = 0; i < count; i++)
			take(events[i].data.ptr);
		now = now_ns();
		if (now - checked > PATIENCE_MS * 1000000ull) {
			checked = now;
			give_up(now);
		}
	} while (now < deadline);
}

static void open_all(int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int room = 1 << 20;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	flows = calloc(flow_count, sizeof(*flows));
	pattern = malloc(MAX_SIZE);
	for (size_t i = 0; i < MAX_SIZE; i++)
		pattern[i] = (unsigned char)(i % PERIOD);
	for (unsigned i = 0; i < window; i++) {
		boxes[i] = malloc(MAX_SIZE);
		memcpy(boxes[i], pattern, MAX_SIZE);
		vectors[i] = (struct iovec){ boxes[i], MAX_SIZE };
		batch[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1 };
	}
	for (unsigned i = 0; i < flow_count; i++) {
		struct epoll_event event = { EPOLLIN, { .ptr = &flows[i] } };
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
			die("socket: %s", strerror(errno));
		flows[i].fd = fd;
	}
}

int main(int argc, char **argv)
{
	uint64_t start, cpu;

	if (argc != 8)
		die("usage: udp_load PORT SERVER_PID SOCKETS WINDOW SIZE WARM_MS MEASURED_MS");
	find_clocks(argv[2]);
	flow_count = (unsigned)atoi(argv[3]);
	window = (unsigned)atoi(argv[4]);
	size = (size_t)atol(argv[5]);
	if (window == 0 || window > MAX_WINDOW || size < HEADER || size > MAX_SIZE)
		die("the window is 1 to %u, the size %zu to %u", MAX_WINDOW, HEADER, MAX_SIZE);
	open_all(atoi(argv[1]));
	for (unsigned i = 0; i < flow_count; i++) {
		flows[i].heard = now_ns();
		give(&flows[i], window, flows[i].heard);
	}
	exchange_until(now_ns() + (uint64_t)atol(argv[6]) * 1000000ull);
	memset(buckets, 0, sizeof(buckets));
	messages = lost = 0;
	cpu = server_cpu();
	start = now_ns();
	exchange_until(start + (uint64_t)atol(argv[7]) * 1000000ull);
	cpu = server_cpu() - cpu;
	printf("done %lu %lu %lu %lu %lu %lu\n", messages, now_ns() - start, cpu, percentile(0.5), percentile(0.99), lost);
	return 0;
}
