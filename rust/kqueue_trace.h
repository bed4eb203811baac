/* SPDX-License-Identifier: GPL-2.0 */
/* The tracepoints of the module, kqueue:*. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kqueue

#if !defined(_KQUEUE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _KQUEUE_TRACE_H

#include <linux/kqueue.h>
#include <linux/tracepoint.h>

/* The EVFILT_* numbers without the sign. Trace tools do not handle negative numbers here. */
#define show_kqueue_filter(filter)			\
	__print_symbolic(filter,			\
		{ 1, "READ" },			\
		{ 2, "WRITE" },			\
		{ 3, "AIO" },			\
		{ 4, "VNODE" },			\
		{ 5, "PROC" },			\
		{ 6, "SIGNAL" },			\
		{ 7, "TIMER" },			\
		{ 8, "EXCEPT" },			\
		{ 9, "USER" },			\
		{ 10, "FS" },			\
		{ 11, "PROCDESC" })

#define show_kqueue_flags(flags)			\
	__print_flags(flags, "|",			\
		{ EV_ADD, "ADD" },			\
		{ EV_DELETE, "DELETE" },		\
		{ EV_ENABLE, "ENABLE" },		\
		{ EV_DISABLE, "DISABLE" },		\
		{ EV_ONESHOT, "ONESHOT" },		\
		{ EV_CLEAR, "CLEAR" },			\
		{ EV_RECEIPT, "RECEIPT" },		\
		{ EV_DISPATCH, "DISPATCH" },		\
		{ EV_HUP, "HUP" },			\
		{ EV_NODATA, "NODATA" },		\
		{ EV_ERROR, "ERROR" },			\
		{ EV_EOF, "EOF" })

/* A kevent() call begins, with this number of changes and this size of the event list. */
TRACE_EVENT(kqueue_enter,
	TP_PROTO(const void *kq, u32 nchanges, u32 nevents),
	TP_ARGS(kq, nchanges, nevents),
	TP_STRUCT__entry(
		__field(const void *, kq)
		__field(u32, nchanges)
		__field(u32, nevents)
	),
	TP_fast_assign(
		__entry->kq = kq;
		__entry->nchanges = nchanges;
		__entry->nevents = nevents;
	),
	TP_printk("kq=%p nchanges=%u nevents=%u", __entry->kq, __entry->nchanges, __entry->nevents)
);

/* A kevent() call ends, with this number of events or a negative errno. */
TRACE_EVENT(kqueue_exit,
	TP_PROTO(const void *kq, s64 ret),
	TP_ARGS(kq, ret),
	TP_STRUCT__entry(
		__field(const void *, kq)
		__field(s64, ret)
	),
	TP_fast_assign(
		__entry->kq = kq;
		__entry->ret = ret;
	),
	TP_printk("kq=%p ret=%lld", __entry->kq, __entry->ret)
);

DECLARE_EVENT_CLASS(kqueue_knote,
	TP_PROTO(const void *kq, u64 ident, s16 filter),
	TP_ARGS(kq, ident, filter),
	TP_STRUCT__entry(
		__field(const void *, kq)
		__field(u64, ident)
		__field(u16, filter)
	),
	TP_fast_assign(
		__entry->kq = kq;
		__entry->ident = ident;
		__entry->filter = -filter;
	),
	TP_printk("kq=%p ident=%llu filter=%s", __entry->kq, __entry->ident,
		  show_kqueue_filter(__entry->filter))
);

/* A knote is activated. This runs in the context of the event's source, which may be any. */
DEFINE_EVENT(kqueue_knote, kqueue_activate,
	TP_PROTO(const void *kq, u64 ident, s16 filter),
	TP_ARGS(kq, ident, filter)
);

/*
 * A knote is detached. It was deleted, it was delivered with EV_ONESHOT, or its descriptor or its
 * kqueue was closed.
 */
DEFINE_EVENT(kqueue_knote, kqueue_detach,
	TP_PROTO(const void *kq, u64 ident, s16 filter),
	TP_ARGS(kq, ident, filter)
);

DECLARE_EVENT_CLASS(kqueue_event,
	TP_PROTO(const void *kq, const struct kqueue_event *event),
	TP_ARGS(kq, event),
	TP_STRUCT__entry(
		__field(const void *, kq)
		__field(u64, ident)
		__field(u16, filter)
		__field(u16, flags)
		__field(u32, fflags)
		__field(s64, data)
	),
	TP_fast_assign(
		__entry->kq = kq;
		__entry->ident = event->ident;
		__entry->filter = -event->filter;
		__entry->flags = event->flags;
		__entry->fflags = event->fflags;
		__entry->data = event->data;
	),
	TP_printk("kq=%p ident=%llu filter=%s flags=%s fflags=%#x data=%lld", __entry->kq,
		  __entry->ident, show_kqueue_filter(__entry->filter),
		  show_kqueue_flags(__entry->flags), __entry->fflags, __entry->data)
);

/* A knote was attached by this change. */
DEFINE_EVENT(kqueue_event, kqueue_attach,
	TP_PROTO(const void *kq, const struct kqueue_event *event),
	TP_ARGS(kq, event)
);

/* An event was delivered to the program. */
DEFINE_EVENT(kqueue_event, kqueue_deliver,
	TP_PROTO(const void *kq, const struct kqueue_event *event),
	TP_ARGS(kq, event)
);

#endif /* _KQUEUE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE kqueue_trace
#include <trace/define_trace.h>
