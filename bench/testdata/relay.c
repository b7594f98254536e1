/*
 * A blind relay: one thread, one epoll set, a pair of connections for each
 * caller, bytes copied and not looked at. What a proxy with two sockets cannot
 * well go below.
 *
 * relay PORT UPSTREAM_PORT, both on 127.0.0.1
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 1 << 16, EVENTS = 256 };

static int other[MAX_FD]; /* the other end of a pair, by descriptor; 0: none */
static char buffer[1 << 16];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in loopback(const char *port)
{
	struct sockaddr_in a;

	memset(&a, 0, sizeof a);
	a.sin_family = AF_INET;
	a.sin_port = htons((uint16_t)atoi(port));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static void set(int fd, int level, int option)
{
	int on = 1;

	if (setsockopt(fd, level, option, &on, sizeof on) < 0)
		die("setsockopt");
}

static void watch(int set, int fd)
{
	struct epoll_event e;

	memset(&e, 0, sizeof e);
	e.events = EPOLLIN;
	e.data.fd = fd;
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
}

static void part_with(int fd)
{
	int peer = other[fd];

	other[fd] = other[peer] = 0;
	close(fd);
	close(peer);
}

/* Takes every caller that waits and gives it a connection of its own. */
static void greet(int set_of_all, int listener, const struct sockaddr_in *upstream)
{
	int down, up;

	while ((down = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		up = socket(AF_INET, SOCK_STREAM, 0);
		if (up < 0 || up >= MAX_FD || down >= MAX_FD)
			die("socket");
		if (connect(up, (const struct sockaddr *)upstream, sizeof *upstream) < 0)
			die("connect");
		set(down, IPPROTO_TCP, TCP_NODELAY);
		set(up, IPPROTO_TCP, TCP_NODELAY);
		other[down] = up;
		other[up] = down;
		watch(set_of_all, down);
		watch(set_of_all, up);
	}
}

/* Writes all of it, waiting where there is no room. */
static int write_all(int fd, const char *p, ssize_t left)
{
	while (left > 0) {
		ssize_t n = send(fd, p, (size_t)left, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			struct pollfd room = {.fd = fd, .events = POLLOUT};
			if (errno != EAGAIN || poll(&room, 1, 5000) != 1)
				return -1;
			continue;
		}
		p += n;
		left -= n;
	}
	return 0;
}

static void pass(int from)
{
	ssize_t n;

	if (other[from] == 0)
		return; /* closed by an earlier event of this round */
	n = recv(from, buffer, sizeof buffer, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || write_all(other[from], buffer, n) < 0)
		part_with(from);
}

int main(int argc, char **argv)
{
	struct sockaddr_in here, upstream;
	int listener, all;

	if (argc != 3) {
		fprintf(stderr, "usage: relay PORT UPSTREAM_PORT\n");
		return 2;
	}
	here = loopback(argv[1]);
	upstream = loopback(argv[2]);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (listener < 0)
		die("socket");
	set(listener, SOL_SOCKET, SO_REUSEADDR);
	if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0)
		die("bind");
	if (listen(listener, 4096) < 0)
		die("listen");
	all = epoll_create1(0);
	if (all < 0)
		die("epoll_create1");
	watch(all, listener);
	for (;;) {
		struct epoll_event ready[EVENTS];
		int n = epoll_wait(all, ready, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (ready[i].data.fd == listener)
				greet(all, listener, &upstream);
			else
				pass(ready[i].data.fd);
		}
	}
}
