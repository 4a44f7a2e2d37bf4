/*
 * A server that sends datagrams back to where they came from: epoll, recvmmsg and sendmmsg, one thread. Prints
 * "listening PORT" and runs until its standard input ends.
 */
#define _GNU_SOURCE
#include "server.h"

#include <sys/epoll.h>

#define BATCH 64
#define BUFFER 65536u

static unsigned char memory[BATCH][BUFFER];
static struct sockaddr_storage names[BATCH];
static struct iovec vectors[BATCH];
static struct mmsghdr batch[BATCH];

static void serve(int fd)
{
	for (;;) {
		int count, sent = 0;

		for (unsigned i = 0; i < BATCH; i++) {
			vectors[i].iov_len = BUFFER;
			batch[i].msg_hdr.msg_namelen = sizeof(names[i]);
		}
		count = recvmmsg(fd, batch, BATCH, 0, NULL);
		if (count < 0 && errno == EAGAIN)
			return;
		if (count < 0)
			die("recvmmsg: %s", strerror(errno));
		for (int i = 0; i < count; i++)
			vectors[i].iov_len = batch[i].msg_len;
		while (sent < count) {
			int done = sendmmsg(fd, batch + sent, (unsigned)(count - sent), 0);

			/* What cannot be sent is dropped. */
			sent += done > 0 ? done : 1;
		}
		if (count < BATCH)
			return;
	}
}

int main(int argc, char **argv)
{
	int fd = datagrams_at(argc > 1 ? atoi(argv[1]) : 0), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event datagrams = { EPOLLIN, { .fd = fd } }, input = { EPOLLIN, { .fd = 0 } }, events[2];

	for (unsigned i = 0; i < BATCH; i++) {
		vectors[i].iov_base = memory[i];
		batch[i].msg_hdr = (struct msghdr){ .msg_name = &names[i], .msg_iov = &vectors[i], .msg_iovlen = 1 };
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &datagrams) < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &input) < 0)
		die("epoll_ctl: %s", strerror(errno));
	for (;;) {
		int count = epoll_wait(epoll_fd, events, 2, -1);

		for (int i = 0; i < count; i++) {
			char byte;

			if (events[i].data.fd == fd)
				serve(fd);
			else if (read(0, &byte, 1) <= 0)
				return 0;
		}
	}
}
