/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR BSD-2-Clause */
/*
 * The ABI of /dev/kqueue. Each open file of the device is a kqueue.
 *
 * The values of filters, flags and notes are DragonFly BSD's (sys/event.h), so
 * a 64-bit program's struct kevent is passed through without translation.
 */
#ifndef _UAPI_LINUX_KQUEUE_H
#define _UAPI_LINUX_KQUEUE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Filters: what kind of event source @ident names. */
#define EVFILT_READ		(-1)	/* a descriptor has data to read */
#define EVFILT_WRITE		(-2)	/* a descriptor has room to write */
#define EVFILT_AIO		(-3)	/* not implemented: ENXIO */
#define EVFILT_VNODE		(-4)	/* a file changed */
#define EVFILT_PROC		(-5)	/* a process did something */
#define EVFILT_SIGNAL		(-6)	/* a signal was sent */
#define EVFILT_TIMER		(-7)	/* a timer expired */
#define EVFILT_EXCEPT		(-8)	/* a descriptor has an exceptional condition */
#define EVFILT_USER		(-9)	/* the program triggered it */
#define EVFILT_FS		(-10)	/* a file system was mounted or unmounted */
#define EVFILT_PROCDESC		(-11)	/* the process of a pidfd did something */
#define EVFILT_SYSCOUNT		11

/* Actions, in kqueue_event.flags of a change. */
#define EV_ADD			0x0001	/* add the event, or change it */
#define EV_DELETE		0x0002	/* delete the event */
#define EV_ENABLE		0x0004	/* report it again */
#define EV_DISABLE		0x0008	/* keep it, but do not report it */

/* Properties, in kqueue_event.flags of a change. */
#define EV_ONESHOT		0x0010	/* delete it when it has been reported */
#define EV_CLEAR		0x0020	/* reset its state when it has been reported */
#define EV_RECEIPT		0x0040	/* answer with EV_ERROR, if the change succeeds too */
#define EV_DISPATCH		0x0080	/* disable it when it has been reported */
#define EV_KEEPUDATA		0x0200	/* leave the udata of an existing event as it is */

/* Set by the kernel only; ignored in a change. */
#define EV_SYSFLAGS		0xF800
#define EV_HUP			0x0800	/* both directions are shut down */
#define EV_NODATA		0x1000	/* end of file, and nothing is left to read */
#define EV_FLAG1		0x2000	/* internal to a filter */
#define EV_ERROR		0x4000	/* answers a change: data is the errno, 0 for success */
#define EV_EOF			0x8000	/* end of file, or the peer is gone */

/* fflags of EVFILT_READ and EVFILT_WRITE */
#define NOTE_LOWAT		0x0001	/* data is the low-water mark, in bytes */

/* fflags of EVFILT_EXCEPT */
#define NOTE_OOB		0x0002	/* out-of-band data on a socket */

/* fflags of EVFILT_USER: two bits for the operation, 24 bits for the program */
#define NOTE_FFNOP		0x00000000U	/* ignore the given fflags */
#define NOTE_FFAND		0x40000000U	/* fflags &= given */
#define NOTE_FFOR		0x80000000U	/* fflags |= given */
#define NOTE_FFCOPY		0xc0000000U	/* fflags = given */
#define NOTE_FFCTRLMASK		0xc0000000U
#define NOTE_FFLAGSMASK		0x00ffffffU
#define NOTE_TRIGGER		0x01000000U	/* make it active */

/* fflags of EVFILT_VNODE */
#define NOTE_DELETE		0x0001	/* its last name was removed */
#define NOTE_WRITE		0x0002	/* written to; entries of a directory changed */
#define NOTE_EXTEND		0x0004	/* it grew */
#define NOTE_ATTRIB		0x0008	/* its attributes changed */
#define NOTE_LINK		0x0010	/* its link count changed */
#define NOTE_RENAME		0x0020	/* renamed */
#define NOTE_REVOKE		0x0040	/* access revoked, or its file system unmounted */
#define NOTE_OPEN		0x0080	/* it was opened */
#define NOTE_CLOSE		0x0100	/* a descriptor that could not write was closed */
#define NOTE_CLOSE_WRITE	0x0200	/* a descriptor that could write was closed */
#define NOTE_READ		0x0400	/* it was read */

/* fflags of EVFILT_PROC; EVFILT_PROCDESC has NOTE_EXIT alone */
#define NOTE_EXIT		0x80000000U	/* exited; data is the wait status */
#define NOTE_FORK		0x40000000U	/* made another process */
#define NOTE_EXEC		0x20000000U	/* executed a program */
#define NOTE_PCTRLMASK		0xf0000000U
#define NOTE_PDATAMASK		0x000fffffU
#define NOTE_TRACK		0x00000001U	/* its children get a knote like this one */
#define NOTE_TRACKERR		0x00000002U	/* reported: a child could not get one */
#define NOTE_CHILD		0x00000004U	/* reported by a child; data is the parent */

/* fflags of EVFILT_TIMER: the unit of data, milliseconds if there is none */
#define NOTE_SECONDS		0x0001
#define NOTE_MSECONDS		0x0002
#define NOTE_USECONDS		0x0004
#define NOTE_NSECONDS		0x0008
#define NOTE_ABSTIME		0x0010	/* data is a time since the epoch, not a period */
#define NOTE_BOOTTIME		0x0080	/* by the clock that goes on during suspend */

/* fflags of EVFILT_FS */
#define VQ_MOUNT		0x0008	/* a file system was mounted */
#define VQ_UNMOUNT		0x0010	/* a file system was unmounted */

/**
 * struct kqueue_event - a change that is passed in, or an event that is passed out
 * @ident: what is watched: a descriptor, a process, a signal, or any number
 * @filter: EVFILT_*
 * @flags: EV_*
 * @fflags: the filter's own flags, NOTE_*
 * @data: the filter's own value
 * @udata: the program's own value; returned as it was given
 */
struct kqueue_event {
	__u64	ident;
	__s16	filter;
	__u16	flags;
	__u32	fflags;
	__s64	data;
	__u64	udata;
};

/* kqueue_kevent.flags */
#define KQUEUE_TIMEOUT		0x0001	/* tv_sec and tv_nsec are given */

/**
 * struct kqueue_kevent - the arguments of one kevent() call
 * @changelist: address of the changes, @nchanges struct kqueue_event
 * @eventlist: address of the room for events, @nevents struct kqueue_event
 * @nchanges: number of changes; above INT_MAX is EINVAL
 * @nevents: room for events; above INT_MAX is EINVAL; 0 never waits
 * @flags: KQUEUE_TIMEOUT, or 0 to wait for ever; any other bit is EINVAL
 * @scratch: ignored; the kernel may store anything in it
 * @tv_sec: timeout in seconds, not negative; if both are zero the call does not wait
 * @tv_nsec: and nanoseconds, 0 to 999999999
 * @reserved: zero
 *
 * All fields have one layout for 32-bit and 64-bit programs. The structure may
 * grow at its end. Its size is part of the ioctl number. A larger structure is
 * accepted if all bytes that this kernel does not know are zero (else E2BIG).
 */
struct kqueue_kevent {
	__u64	changelist;
	__u64	eventlist;
	__u32	nchanges;
	__u32	nevents;
	__u32	flags;
	__u32	scratch;
	__s64	tv_sec;
	__s64	tv_nsec;
	__u64	reserved[2];
};

#define KQUEUE_IOC_MAGIC	0xBD

/* Apply the changes, then collect events. Returns the number of events. */
#define KQUEUE_IOC_KEVENT	_IOW(KQUEUE_IOC_MAGIC, 0x00, struct kqueue_kevent)

/*
 * Create a kqueue as open(2) of the device does, for programs that cannot open
 * the device any more. It belongs to the caller's descriptor table, whatever
 * table this kqueue belongs to. The argument is a combination of O_CLOEXEC and
 * O_NONBLOCK. Returns a descriptor.
 */
#define KQUEUE_IOC_CREATE	_IO(KQUEUE_IOC_MAGIC, 0x01)

/*
 * The most common calls, without a structure in memory. The argument is the address
 * of the list, and the size field of the ioctl number is the number of its entries.
 * Every kernel accepts 0 to KQUEUE_IOC_MOST.
 *
 * KQUEUE_IOC_WAIT collects events, and waits for one if there is none. KQUEUE_IOC_POLL
 * does the same and never waits. Both return the number of events. KQUEUE_IOC_CHANGE
 * applies changes, and fails with the error of the first one that fails.
 */
#define KQUEUE_IOC_MOST		8191
#define KQUEUE_IOC_WAIT(n)	_IOC(_IOC_READ, KQUEUE_IOC_MAGIC, 0x02, n)
#define KQUEUE_IOC_POLL(n)	_IOC(_IOC_READ, KQUEUE_IOC_MAGIC, 0x03, n)
#define KQUEUE_IOC_CHANGE(n)	_IOC(_IOC_WRITE, KQUEUE_IOC_MAGIC, 0x04, n)

#endif /* _UAPI_LINUX_KQUEUE_H */
