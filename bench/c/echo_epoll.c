/*
 * A server that sends back what it receives: epoll, one thread. Prints "listening PORT" and runs until its standard
 * input ends.
 */
#define _GNU_SOURCE
#include "server.h"

#include <sys/epoll.h>

#define MAX_EVENTS 512
#define BUFFER (64u * 1024)

/* What a connection could not take at once. */
struct connection {
	int fd;
	bool waiting;
	size_t rest, at;
	unsigned char bytes[];
};

static int epoll_fd;
static unsigned char buffer[BUFFER];

static void watch(struct connection *one, int operation, uint32_t events)
{
	struct epoll_event event = { events, { .ptr = one } };

	if (epoll_ctl(epoll_fd, operation, one->fd, &event) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void end(struct connection *one)
{
	close(one->fd);
	free(one);
}

static void accept_all(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct connection *one;

		if (fd < 0)
			return;
		one = malloc(sizeof(*one) + BUFFER);
		one->fd = fd;
		one->waiting = false;
		one->rest = one->at = 0;
		watch(one, EPOLL_CTL_ADD, EPOLLIN);
	}
}

/* Sends what is left over; false if the connection is gone. */
static bool give_rest(struct connection *one)
{
	ssize_t count = send(one->fd, one->bytes + one->at, one->rest, MSG_NOSIGNAL);

	if (count < 0)
		return errno == EAGAIN;
	one->at += (size_t)count;
	one->rest -= (size_t)count;
	if (one->rest == 0) {
		one->waiting = false;
		watch(one, EPOLL_CTL_MOD, EPOLLIN);
	}
	return true;
}

static bool take(struct connection *one)
{
	ssize_t count = recv(one->fd, buffer, BUFFER, 0), sent;

	if (count < 0)
		return errno == EAGAIN;
	if (count == 0)
		return false;
	sent = send(one->fd, buffer, (size_t)count, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN)
		return false;
	if (sent < 0)
		sent = 0;
	if (sent < count) {
		one->rest = (size_t)(count - sent);
		one->at = 0;
		memcpy(one->bytes, buffer + sent, one->rest);
		one->waiting = true;
		watch(one, EPOLL_CTL_MOD, EPOLLOUT);
	}
	return true;
}

int main(int argc, char **argv)
{
	struct epoll_event events[MAX_EVENTS];
	struct connection listener = { .fd = listen_at(argc > 1 ? atoi(argv[1]) : 0, true) }, input = { .fd = 0 };

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
	watch(&input, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		int count = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);

		for (int i = 0; i < count; i++) {
			struct connection *one = events[i].data.ptr;

			if (one == &input)
				return 0;
			if (one == &listener)
				accept_all(listener.fd);
			else if (!(one->waiting ? give_rest(one) : take(one)))
				end(one);
		}
	}
}
