// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of the module, `kqueue:*` (`rust/kqueue_trace.h`).
//!
//! A trace identifies a kqueue by its hashed address. The functions may be called in any context.
//!
//! A tracepoint that is not enabled costs one load and no function call.

use super::{knote::Knote, kqueue::Kqueue};
use crate::{generated, uapi::Kevent};
use core::ptr::from_ref;
use kernel::{bindings, prelude::*};

/// True if the tracepoint is enabled.
#[inline(always)]
fn is_traced(tracepoint: *const bindings::tracepoint) -> bool {
    // SAFETY: The tracepoint is one of the module. A single load reads the count of its static key,
    // as `static_key_enabled` does. It needs no ordering: if the count is changing, the event may
    // be traced or not.
    unsafe { (&raw const (*tracepoint).key.key.enabled.counter).read_volatile() != 0 }
}

/// A kevent() call begins.
#[inline]
pub(crate) fn enter(kqueue: &Kqueue, nchanges: u32, nevents: u32) {
    if !is_traced(&raw const generated::__tracepoint_kqueue_enter) {
        return;
    }
    // SAFETY: The function only prints the address.
    unsafe { generated::kq_trace_enter(from_ref(kqueue).cast(), nchanges, nevents) };
}

/// A kevent() call ends.
#[inline]
pub(crate) fn exit(kqueue: &Kqueue, result: &Result<usize>) {
    if !is_traced(&raw const generated::__tracepoint_kqueue_exit) {
        return;
    }
    let ret = match result {
        Ok(count) => *count as i64,
        Err(error) => error.to_errno().into(),
    };
    // SAFETY: The function only prints the address.
    unsafe { generated::kq_trace_exit(from_ref(kqueue).cast(), ret) };
}

/// A change has created a knote.
#[inline]
pub(crate) fn attach(kqueue: &Kqueue, change: &Kevent) {
    if !is_traced(&raw const generated::__tracepoint_kqueue_attach) {
        return;
    }
    // SAFETY: The function only prints the address of the kqueue. The event is valid.
    unsafe { generated::kq_trace_attach(from_ref(kqueue).cast(), &raw const **change) };
}

/// A knote became pending.
#[inline]
pub(crate) fn activate(kqueue: &Kqueue, knote: &Knote) {
    if !is_traced(&raw const generated::__tracepoint_kqueue_activate) {
        return;
    }
    let (ident, filter) = (knote.ident(), knote.filter().raw());
    // SAFETY: The function only prints the address.
    unsafe { generated::kq_trace_activate(from_ref(kqueue).cast(), ident, filter) };
}

/// True if the tracepoint of deliveries is enabled.
#[inline]
pub(crate) fn is_deliver_enabled() -> bool {
    is_traced(&raw const generated::__tracepoint_kqueue_deliver)
}

/// An event was delivered.
pub(crate) fn deliver(kqueue: &Kqueue, event: &Kevent) {
    // SAFETY: The function only prints the address of the kqueue. The event is valid.
    unsafe { generated::kq_trace_deliver(from_ref(kqueue).cast(), &raw const **event) };
}

/// A knote was detached.
#[inline]
pub(crate) fn detach(kqueue: &Kqueue, knote: &Knote) {
    if !is_traced(&raw const generated::__tracepoint_kqueue_detach) {
        return;
    }
    let (ident, filter) = (knote.ident(), knote.filter().raw());
    // SAFETY: The function only prints the address.
    unsafe { generated::kq_trace_detach(from_ref(kqueue).cast(), ident, filter) };
}
