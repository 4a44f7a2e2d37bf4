/* What the servers in C have in common. */
#ifndef URING_BENCH_SERVER_H
#define URING_BENCH_SERVER_H

#include "rounds.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Listens on a port of 127.0.0.1, 0 for any, and prints it. */
static inline int listen_at(int port, bool nonblocking)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	struct rlimit limit;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0), one = 1;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Connections inherit it. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 4096) < 0)
		die("listen: %s", strerror(errno));
	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		die("getsockname: %s", strerror(errno));
	printf("listening %d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

/* Binds a socket for datagrams to a port of 127.0.0.1, 0 for any, and prints it. */
static inline int datagrams_at(int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), room = 4 << 20;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0)
		die("bind: %s", strerror(errno));
	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		die("getsockname: %s", strerror(errno));
	printf("listening %d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

#endif
