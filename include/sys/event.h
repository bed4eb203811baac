/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kqueue(2) and kevent(2), as in the BSDs. Link with -lkqueue_c.
 */
#ifndef _SYS_EVENT_H_
#define _SYS_EVENT_H_

#include <linux/kqueue.h>
#include <stdint.h>
#include <time.h>

/* Programs in strict ISO C may not see it in <time.h>. */
struct timespec;

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The kernel's struct kqueue_event with the types of C. All fields have the size
 * that the kernel uses, in 32-bit programs too, so nothing is translated.
 */
struct kevent {
	uintptr_t	ident;		/* what is watched */
#if UINTPTR_MAX == 0xffffffffU
	uint32_t	ident_high;	/* zero */
#endif
	short		filter;		/* EVFILT_* */
	unsigned short	flags;		/* EV_* */
	unsigned int	fflags;		/* NOTE_* */
	int64_t		data;		/* the filter's own value */
	void		*udata;		/* the program's own value */
#if UINTPTR_MAX == 0xffffffffU
	uint32_t	udata_high;	/* zero */
#endif
};

#if UINTPTR_MAX == 0xffffffffU
#define KQUEUE_SET_HIGH_(kev)	((kev).ident_high = (kev).udata_high = 0)
#else
#define KQUEUE_SET_HIGH_(kev)	((void)0)
#endif

/*
 * Initializes a struct kevent. Each argument is evaluated once. The last one may
 * be an integer, as on some systems.
 */
#define EV_SET(kevp, a, b, c, d, e, f) do {				\
	struct kevent kqueue_kev_;					\
	KQUEUE_SET_HIGH_(kqueue_kev_);					\
	kqueue_kev_.ident = (uintptr_t)(a);				\
	kqueue_kev_.filter = (b);					\
	kqueue_kev_.flags = (c);					\
	kqueue_kev_.fflags = (d);					\
	kqueue_kev_.data = (e);						\
	kqueue_kev_.udata = (void *)(uintptr_t)(f);			\
	*(kevp) = kqueue_kev_;						\
} while (0)

/*
 * Names of macOS. NOTE_EXIT reports the status in any case. A descriptor that was
 * opened with O_EVTONLY (open(2), <fcntl.h>) can be watched by EVFILT_VNODE only.
 */
#define NOTE_EXITSTATUS	NOTE_EXIT
#ifndef O_EVTONLY
#ifdef __GLIBC__
#define O_EVTONLY	__O_PATH
#else
#define O_EVTONLY	O_PATH
#endif
#endif

/* Creates a kqueue with the close-on-exec flag. Returns a descriptor, or -1 and errno. */
int kqueue(void);

/* Creates a kqueue. The flags are a combination of O_CLOEXEC and O_NONBLOCK. */
int kqueue1(int flags);

/* Creates a kqueue as kqueue() does. The flags are those of FreeBSD. */
#define KQUEUE_CLOEXEC	0x00000001
int kqueuex(unsigned int flags);

/*
 * Applies nchanges changes, then returns at most nevents events. If none is
 * pending it waits for one, at most for timeout, or without a limit if that is
 * NULL. Returns the number of events, or -1 and errno.
 */
#if defined(__GLIBC__) && defined(__USE_TIME_BITS64) && __TIMESIZE == 32
/* A 32-bit program with 64-bit time (_TIME_BITS) is redirected, as the C library does. */
int __REDIRECT(kevent, (int kq, const struct kevent *changelist, int nchanges,
			struct kevent *eventlist, int nevents,
			const struct timespec *timeout), __kevent_time64);
#else
int kevent(int kq, const struct kevent *changelist, int nchanges,
	   struct kevent *eventlist, int nevents,
	   const struct timespec *timeout);
#endif

#ifdef __cplusplus
}
#endif

#endif /* _SYS_EVENT_H_ */
