/*
 * The client of the benchmarks of servers that send back what they receive: N connections, a message on each, and the
 * next one when the whole of it has come back. One thread, epoll. Every byte is compared.
 *
 *   load echo PORT SERVER_PID CONNECTIONS SIZE WARM_MS WARM_MESSAGES MEASURED_MS
 *       runs unmeasured for so long, and until there were so many messages, but no more than five times as long; then
 *       prints "done MESSAGES NANOSECONDS CPU_NANOSECONDS P50 P99": CPU time is the server's, all threads, or of several
 *       processes if SERVER_PID is a list with commas; percentiles are of the round trips, in nanoseconds
 *   load cpu SERVER_PID
 *       prints "cpu NANOSECONDS", what the server has used up to now
 *   load idle PORT CONNECTIONS
 *       connects, prints "connected", and holds the connections until its standard input ends
 */
#define _GNU_SOURCE
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_EVENTS 512
#define CHUNK (1u << 20)
#define PERIOD 251u

struct connection {
	int fd;
	size_t sent, received;
	uint64_t started;
};

static struct connection *connections;
static unsigned connection_count;
static size_t size;
static unsigned char *pattern, *inbox;
static uint64_t messages;
static int epoll_fd;

static void connect_all(int port, unsigned count)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	connection_count = count;
	connections = calloc(count, sizeof(*connections));
	for (unsigned i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

		if (fd < 0)
			die("socket: %s", strerror(errno));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			die("connect: %s", strerror(errno));
		if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
			die("fcntl: %s", strerror(errno));
		connections[i].fd = fd;
	}
}

static void give(struct connection *one)
{
	while (one->sent < size) {
		ssize_t count = send(one->fd, pattern + one->sent, size - one->sent, MSG_NOSIGNAL);

		if (count < 0 && errno == EAGAIN)
			return;
		if (count < 0)
			die("send: %s", strerror(errno));
		one->sent += (size_t)count;
	}
}

static void begin(struct connection *one, uint64_t now)
{
	one->sent = one->received = 0;
	one->started = now;
	give(one);
}

/* Takes what is there; a message that is complete is counted and followed by the next. */
static void take(struct connection *one)
{
	for (;;) {
		size_t wanted = size - one->received;
		ssize_t count = recv(one->fd, inbox, wanted < CHUNK ? wanted : CHUNK, 0);
		uint64_t now;

		if (count < 0 && errno == EAGAIN)
			return;
		if (count <= 0)
			die("recv: %s", count < 0 ? strerror(errno) : "the server has closed the connection");
		if (memcmp(inbox, pattern + one->received, (size_t)count) != 0)
			die("other bytes came back");
		one->received += (size_t)count;
		if (one->received < size)
			continue;
		now = now_ns();
		buckets[bucket_of(now - one->started)]++;
		messages++;
		begin(one, now);
		/* What comes next has its own event. */
		return;
	}
}

/* Until a time, and on until so many messages were counted or another time has come. */
static void exchange_until(uint64_t deadline, uint64_t least, uint64_t last)
{
	struct epoll_event events[MAX_EVENTS];

	uint64_t now;

	do {
		int count = epoll_wait(epoll_fd, events, MAX_EVENTS, 10000);

		if (count == 0)
			die("nothing comes back");
		for (int i = 0; i < count; i++) {
			struct connection *one = events[i].data.ptr;

			if (events[i].events & EPOLLOUT)
				give(one);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				take(one);
		}
		now = now_ns();
	} while (now < deadline || (messages < least && now < last));
}

static void echo(uint64_t warm_ns, uint64_t warm_messages, uint64_t measured_ns)
{
	uint64_t start = now_ns(), cpu;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < connection_count; i++) {
		struct epoll_event event = { EPOLLIN | EPOLLOUT | EPOLLET, { .ptr = &connections[i] } };

		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connections[i].fd, &event) < 0)
			die("epoll_ctl: %s", strerror(errno));
		begin(&connections[i], now_ns());
	}
	exchange_until(start + warm_ns, warm_messages, start + 5 * warm_ns);
	memset(buckets, 0, sizeof(buckets));
	messages = 0;
	cpu = server_cpu();
	start = now_ns();
	exchange_until(start + measured_ns, 0, 0);
	cpu = server_cpu() - cpu;
	printf("done %lu %lu %lu %lu %lu\n", messages, now_ns() - start, cpu, percentile(0.5), percentile(0.99));
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "idle") == 0) {
		char byte;

		connect_all(atoi(argv[2]), (unsigned)atoi(argv[3]));
		printf("connected\n");
		fflush(stdout);
		while (read(0, &byte, 1) > 0)
			;
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "cpu") == 0) {
		find_clocks(argv[2]);
		printf("cpu %lu\n", server_cpu());
		return 0;
	}
	if (argc != 9 || strcmp(argv[1], "echo") != 0)
		die("usage: load echo PORT SERVER_PID CONNECTIONS SIZE WARM_MS WARM_MESSAGES MEASURED_MS | cpu PID | idle PORT CONNECTIONS");
	find_clocks(argv[3]);
	size = (size_t)atol(argv[5]);
	pattern = malloc(size);
	inbox = malloc(CHUNK);
	for (size_t i = 0; i < size; i++)
		pattern[i] = (unsigned char)(i % PERIOD);
	connect_all(atoi(argv[2]), (unsigned)atoi(argv[4]));
	echo(strtoull(argv[6], NULL, 10) * 1000000u, strtoull(argv[7], NULL, 10), strtoull(argv[8], NULL, 10) * 1000000u);
	return 0;
}
