/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C header: a program of the BSDs compiles, links and runs. The build
 * compiles this as C89 too, with all warnings as errors.
 */
#include <sys/event.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition) do {						\
	if (!(condition)) {						\
		fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__,	\
			__LINE__, #condition, errno);			\
		return 1;						\
	}								\
} while (0)

static int evaluations;

static struct kevent *counted(struct kevent *kev)
{
	evaluations++;
	return kev;
}

int main(void)
{
	struct timespec zero = { 0, 0 };
	struct kevent change[2], event[4];
	char buffer[16];
	int kq, n, i, fds[2];

	/* The layout is the kernel's. */
	CHECK(sizeof(struct kevent) == sizeof(struct kqueue_event));
	CHECK(offsetof(struct kevent, filter) == offsetof(struct kqueue_event, filter));
	CHECK(offsetof(struct kevent, data) == offsetof(struct kqueue_event, data));
	CHECK(offsetof(struct kevent, udata) == offsetof(struct kqueue_event, udata));

	/* Names of macOS: a descriptor that is only for EVFILT_VNODE. */
	CHECK(NOTE_EXITSTATUS == NOTE_EXIT);
	kq = kqueue();
	n = open("/", O_EVTONLY);
	CHECK(kq >= 0 && n >= 0);
	CHECK(read(n, buffer, 1) == -1 && errno == EBADF);
	EV_SET(&change[0], n, EVFILT_VNODE, EV_ADD, NOTE_DELETE, 0, NULL);
	CHECK(kevent(kq, change, 1, NULL, 0, NULL) == 0);
	EV_SET(&change[0], n, EVFILT_READ, EV_ADD, 0, 0, NULL);
	CHECK(kevent(kq, change, 1, NULL, 0, NULL) == -1 && errno == EBADF);
	CHECK(close(n) == 0 && close(kq) == 0);

	EV_SET(counted(&change[0]), 7, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, &kq);
	CHECK(evaluations == 1);
	/* An event may be made from itself. */
	EV_SET(&change[0], change[0].ident, change[0].filter, change[0].flags,
	       NOTE_FFCOPY | 5, -3, change[0].udata);

	/* Programs for systems where it is a number. */
	EV_SET(&change[1], 1, EVFILT_USER, EV_ADD, 0, 0, 5);
	CHECK(change[1].udata == (void *)5);
	EV_SET(&change[1], 1, EVFILT_USER, EV_ADD, 0, 0, (intptr_t)&kq);
	CHECK(change[1].udata == &kq);

	CHECK(kqueuex(2) == -1 && errno == EINVAL);
	CHECK(kqueue1(O_APPEND) == -1 && errno == EINVAL);
	kq = kqueuex(KQUEUE_CLOEXEC);
	CHECK(kq >= 0 && fcntl(kq, F_GETFD) == FD_CLOEXEC);
	CHECK(close(kq) == 0);

	kq = kqueue();
	CHECK(kq >= 0);
	CHECK(kevent(kq, change, 1, NULL, 0, NULL) == 0);
	CHECK(kevent(kq, NULL, 0, event, 4, &zero) == 0);

	EV_SET(&change[0], 7, EVFILT_USER, 0, NOTE_TRIGGER, -3, &n);
	n = kevent(kq, change, 1, event, 4, NULL);
	CHECK(n == 1);
	CHECK(event[0].ident == 7 && event[0].filter == EVFILT_USER);
	CHECK(event[0].fflags == 5 && event[0].data == -3);
	CHECK(event[0].udata == &n);

	CHECK(pipe(fds) == 0);
	EV_SET(&change[0], fds[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	EV_SET(&change[1], fds[1], EVFILT_WRITE, EV_ADD | EV_ONESHOT, 0, 0, NULL);
	n = kevent(kq, change, 2, event, 4, NULL);
	CHECK(n == 1 && event[0].filter == EVFILT_WRITE && event[0].data > 0);
	CHECK(write(fds[1], "hello", 5) == 5);
	n = kevent(kq, NULL, 0, event, 4, NULL);
	CHECK(n == 1 && event[0].ident == (uintptr_t)fds[0] && event[0].data == 5);
	CHECK(read(fds[0], buffer, sizeof(buffer)) == 5);
	CHECK(close(fds[1]) == 0);
	n = kevent(kq, NULL, 0, event, 4, NULL);
	CHECK(n == 1 && (event[0].flags & EV_EOF));
	CHECK(close(fds[0]) == 0);

	EV_SET(&change[0], 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, NULL);
	n = kevent(kq, change, 1, event, 4, NULL);
	CHECK(n == 1 && event[0].filter == EVFILT_TIMER && event[0].data == 1);

	/* Errors: posted where there is room, else errno. */
	EV_SET(&change[0], 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
	n = kevent(kq, change, 1, event, 4, NULL);
	CHECK(n == 1 && (event[0].flags & EV_ERROR) && event[0].data == ENOENT);
	CHECK(kevent(kq, change, 1, NULL, 0, NULL) == -1 && errno == ENOENT);
	CHECK(kevent(kq, change, -1, NULL, 0, NULL) == -1 && errno == EINVAL);
	CHECK(kevent(kq, NULL, 0, event, -1, NULL) == -1 && errno == EINVAL);
	CHECK(kevent(-1, NULL, 0, event, 4, &zero) == -1 && errno == EBADF);
	CHECK(kqueue1(1) == -1 && errno == EINVAL);

	for (i = 0; i < 100; i++) {
		n = kqueue1(0);
		CHECK(n >= 0 && close(n) == 0);
	}
	CHECK(close(kq) == 0);
	return 0;
}
