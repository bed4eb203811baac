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
 * The kernel's struct kqueue_event, with C's own types. All fields have the
 * kernel's size, for 32-bit programs too, so nothing is ever translated.
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
	void		*udata;		/* the program's own */
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
 * Fills in a struct kevent; each argument is evaluated once. The last may be a
 * number: some systems have it so.
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
 * Names of macOS. The status is always told to who may know it. A descriptor
 * that was opened with O_EVTONLY (open(2), <fcntl.h>) is for EVFILT_VNODE only.
 */
#define NOTE_EXITSTATUS	NOTE_EXIT
#ifndef O_EVTONLY
#ifdef __GLIBC__
#define O_EVTONLY	__O_PATH
#else
#define O_EVTONLY	O_PATH
#endif
#endif

/* A new kqueue, closed on exec. Returns a descriptor, or -1 and errno. */
int kqueue(void);

/* The same with O_CLOEXEC and O_NONBLOCK of the caller's choice. */
int kqueue1(int flags);

/* The same as kqueue(), with FreeBSD's flags. */
#define KQUEUE_CLOEXEC	0x00000001
int kqueuex(unsigned int flags);

/*
 * Applies nchanges changes, then reports at most nevents events; waits for one
 * for as long as timeout says, for ever if it is NULL. Returns the number of
 * events, or -1 and errno.
 */
#if defined(__GLIBC__) && defined(__USE_TIME_BITS64) && __TIMESIZE == 32
/* A 32-bit program that has asked for 64-bit time (_TIME_BITS), as the C library does it. */
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
