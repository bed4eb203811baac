// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kqueue(), kqueue1(), kqueuex() and kevent() for C programs, over /dev/kqueue.
 *
 * The library opens the device once and creates every kqueue from that control descriptor. So a
 * program can create more kqueues after it has lost access to /dev (chroot, a sandbox). The library
 * has no locks and allocates no memory. After the first call has returned, its functions can be
 * called from a signal handler, and in the child of a fork.
 */
#define _GNU_SOURCE
/* Both forms of kevent() are defined here, whatever options the library is built with. */
#undef _TIME_BITS
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/event.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* This number is above those that programs expect to get, and within the size of every table. */
#define CONTROL_LOWEST 48

static atomic_int control = -1;
/* The device of the control descriptor, since the program can reuse its number for another file. */
static atomic_ullong control_device;

static int is_control(int fd)
{
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) &&
	       status.st_rdev == atomic_load(&control_device);
}

/* Returns the control descriptor, or -1 and errno. The program may have closed the previous one. */
static int get_control(void)
{
	int known = atomic_load(&control);
	struct stat status;
	int fd, high;

	if (is_control(known))
		return known;
	fd = open("/dev/kqueue", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		/* Another thread may have opened it before the process lost the right to do so. */
		int error = errno;

		known = atomic_load(&control);
		if (is_control(known))
			return known;
		errno = error;
		return -1;
	}
	if (fstat(fd, &status) < 0) {
		close(fd);
		return -1;
	}
	high = fcntl(fd, F_DUPFD_CLOEXEC, CONTROL_LOWEST);
	if (high >= 0) {
		close(fd);
		fd = high;
	}
	atomic_store(&control_device, status.st_rdev);
	if (!atomic_compare_exchange_strong(&control, &known, fd)) {
		/* Another thread or a signal handler has opened it meanwhile. */
		close(fd);
		fd = known;
	}
	return fd;
}

int kqueue1(int flags)
{
	int saved = errno;
	int fd;

	if (flags & ~(O_CLOEXEC | O_NONBLOCK)) {
		errno = EINVAL;
		return -1;
	}
	fd = get_control();
	if (fd < 0)
		return -1;
	errno = saved;
	return ioctl(fd, KQUEUE_IOC_CREATE, flags);
}

int kqueue(void)
{
	return kqueue1(O_CLOEXEC);
}

int kqueuex(unsigned int flags)
{
	if (flags & ~KQUEUE_CLOEXEC) {
		errno = EINVAL;
		return -1;
	}
	return kqueue();
}

/* A timeout that does not depend on the program's struct timespec. */
struct timeout {
	int64_t sec, nsec;
};

static int call(int kq, const struct kevent *changelist, int nchanges,
		struct kevent *eventlist, int nevents, const struct timeout *timeout)
{
	struct kqueue_kevent args = {
		.changelist = (uintptr_t)changelist,
		.eventlist = (uintptr_t)eventlist,
		/* The kernel sees a negative count as one above INT_MAX and returns EINVAL. */
		.nchanges = nchanges,
		.nevents = nevents,
	};
	bool polls = timeout && timeout->sec == 0 && timeout->nsec == 0;
	unsigned long request = KQUEUE_IOC_KEVENT;
	const void *argument = &args;
	int type, count;

	if (nchanges == 0 && nevents > 0 && nevents <= KQUEUE_IOC_MOST && (!timeout || polls)) {
		request = polls ? KQUEUE_IOC_POLL(nevents) : KQUEUE_IOC_WAIT(nevents);
		argument = eventlist;
	} else if (nevents == 0 && nchanges > 0 && nchanges <= KQUEUE_IOC_MOST &&
		   (!timeout || polls)) {
		request = KQUEUE_IOC_CHANGE(nchanges);
		argument = changelist;
	} else if (timeout) {
		args.flags = KQUEUE_TIMEOUT;
		args.tv_sec = timeout->sec;
		args.tv_nsec = timeout->nsec;
	}
	if (nevents == 0 || polls) {
		pthread_testcancel();
		return ioctl(kq, request, argument);
	}
	/* The call can wait, so it is a cancellation point, as such calls of the C library are. */
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	count = ioctl(kq, request, argument);
	pthread_setcanceltype(type, NULL);
	return count;
}

int kevent(int kq, const struct kevent *changelist, int nchanges,
	   struct kevent *eventlist, int nevents,
	   const struct timespec *timeout)
{
	struct timeout until;

	if (timeout)
		until = (struct timeout){ timeout->tv_sec, timeout->tv_nsec };
	return call(kq, changelist, nchanges, eventlist, nevents, timeout ? &until : NULL);
}

#if defined(__GLIBC__) && __TIMESIZE == 32
/* struct timespec of a program with 64-bit time. */
struct timespec_time64 {
	int64_t tv_sec;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	int32_t padding;
#endif
	int32_t tv_nsec;
#if __BYTE_ORDER__ != __ORDER_BIG_ENDIAN__
	int32_t padding;
#endif
};

/* The header redirects kevent() to this function in such a program. */
int __kevent_time64(int kq, const struct kevent *changelist, int nchanges,
		    struct kevent *eventlist, int nevents,
		    const struct timespec_time64 *timeout);

int __kevent_time64(int kq, const struct kevent *changelist, int nchanges,
		    struct kevent *eventlist, int nevents,
		    const struct timespec_time64 *timeout)
{
	struct timeout until;

	if (timeout)
		until = (struct timeout){ timeout->tv_sec, timeout->tv_nsec };
	return call(kq, changelist, nchanges, eventlist, nevents, timeout ? &until : NULL);
}
#endif
