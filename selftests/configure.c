/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is run of a kqueue where programs are built, and not where they are to
 * run: by the configure scripts of nginx and libevent, and by the emulator of
 * Erlang, in which its compiler runs. With the number of one, runs that.
 */
#include <sys/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const struct timespec zero;

/* auto/unix of nginx: "kqueue's EVFILT_TIMER". */
static int nginx(void)
{
	struct kevent event;
	int kq = kqueue();

	if (kq == -1)
		return 1;
	EV_SET(&event, 0, EVFILT_TIMER, EV_ADD | EV_ENABLE, 0, 1000, NULL);
	if (kevent(kq, &event, 1, &event, 1, &zero) == -1)
		return 2;
	return (event.flags & EV_ERROR) ? 3 : 0;
}

/* configure.ac of libevent: "for working kqueue". */
static int libevent(void)
{
	static char buffer[80000];
	struct kevent event;
	int kq, fds[2];

	if (pipe(fds) == -1 || fcntl(fds[1], F_SETFL, O_NONBLOCK) == -1)
		return 1;
	while (write(fds[1], buffer, sizeof(buffer)) == sizeof(buffer))
		;
	kq = kqueue();
	if (kq == -1)
		return 2;
	EV_SET(&event, fds[1], EVFILT_WRITE, EV_ADD | EV_ENABLE, 0, 0, NULL);
	if (kevent(kq, &event, 1, NULL, 0, NULL) == -1)
		return 3;
	if (read(fds[0], buffer, sizeof(buffer)) == -1)
		return 4;
	return kevent(kq, NULL, 0, &event, 1, &zero) == 1 ? 0 : 5;
}

/* erl_poll.c of Erlang: adds both filters, enables one after each event, deletes. */
static int erlang(void)
{
	struct kevent change[2], event[2];
	int kq = kqueue(), fds[2], i;
	char byte;

	if (kq == -1 || pipe(fds) == -1)
		return 1;
	EV_SET(&change[0], fds[0], EVFILT_READ, EV_ADD | EV_DISPATCH, 0, 0, (void *)1);
	EV_SET(&change[1], fds[1], EVFILT_WRITE, EV_ADD | EV_DISPATCH, 0, 0, (void *)4);
	if (kevent(kq, change, 2, NULL, 0, &zero) == -1)
		return 2;
	if (kevent(kq, NULL, 0, event, 2, NULL) != 1 || event[0].udata != (void *)4)
		return 3;
	for (i = 0; i < 3; i++) {
		if (write(fds[1], "x", 1) != 1)
			return 4;
		if (kevent(kq, NULL, 0, event, 2, NULL) != 1 || event[0].udata != (void *)1)
			return 5;
		if (kevent(kq, NULL, 0, event, 2, &zero) != 0)
			return 6;
		if (read(fds[0], &byte, 1) != 1)
			return 7;
		EV_SET(&change[0], fds[0], EVFILT_READ, EV_ENABLE | EV_DISPATCH, 0, 0, (void *)1);
		if (kevent(kq, change, 1, NULL, 0, &zero) == -1)
			return 8;
	}
	EV_SET(&change[0], fds[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	return kevent(kq, change, 1, NULL, 0, &zero) == 0 ? 0 : 9;
}

int main(int argc, char **argv)
{
	int (*run[])(void) = { nginx, libevent, erlang };
	int which = argc == 2 ? atoi(argv[1]) : -1;

	return which >= 0 && which < 3 ? run[which]() : 99;
}
