// SPDX-License-Identifier: GPL-2.0
/* Functions that let Rust call the tracepoints of kqueue_trace.h. */
#include "helpers.h"
#define CREATE_TRACE_POINTS
#include "kqueue_trace.h"

void kq_trace_enter(const void *kq, u32 nchanges, u32 nevents)
{
	trace_kqueue_enter(kq, nchanges, nevents);
}

void kq_trace_exit(const void *kq, s64 ret)
{
	trace_kqueue_exit(kq, ret);
}

void kq_trace_attach(const void *kq, const struct kqueue_event *event)
{
	trace_kqueue_attach(kq, event);
}

void kq_trace_activate(const void *kq, u64 ident, s16 filter)
{
	trace_kqueue_activate(kq, ident, filter);
}

void kq_trace_deliver(const void *kq, const struct kqueue_event *event)
{
	trace_kqueue_deliver(kq, event);
}

void kq_trace_detach(const void *kq, u64 ident, s16 filter)
{
	trace_kqueue_detach(kq, ident, filter);
}
