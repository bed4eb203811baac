// SPDX-License-Identifier: GPL-2.0

//! The module's own tracepoints, `kqueue:*` (`rust/kqueue_trace.h`).
//!
//! A kqueue is told from others by its address, which traces show hashed. Any context.

use crate::{generated, knote::Knote, kqueue::Kqueue, uapi::Kevent};
use core::ptr::from_ref;
use kernel::prelude::*;

/// A kevent() call begins.
pub(crate) fn enter(kqueue: &Kqueue, nchanges: u32, nevents: u32) {
    // SAFETY: The address is only printed.
    unsafe { generated::kq_trace_enter(from_ref(kqueue).cast(), nchanges, nevents) };
}

/// It ends.
pub(crate) fn exit(kqueue: &Kqueue, result: &Result<usize>) {
    let ret = match result {
        Ok(count) => *count as i64,
        Err(error) => error.to_errno().into(),
    };
    // SAFETY: The address is only printed.
    unsafe { generated::kq_trace_exit(from_ref(kqueue).cast(), ret) };
}

/// A knote was made by that change.
pub(crate) fn attach(kqueue: &Kqueue, change: &Kevent) {
    // SAFETY: The kqueue's address is only printed; the event is valid.
    unsafe { generated::kq_trace_attach(from_ref(kqueue).cast(), &raw const **change) };
}

/// A knote became pending.
pub(crate) fn activate(kqueue: &Kqueue, knote: &Knote) {
    let (ident, filter) = (knote.ident(), knote.filter().raw());
    // SAFETY: The address is only printed.
    unsafe { generated::kq_trace_activate(from_ref(kqueue).cast(), ident, filter) };
}

/// True if somebody traces deliveries.
pub(crate) fn wants_deliveries() -> bool {
    // SAFETY: No preconditions.
    unsafe { generated::kq_trace_deliver_enabled() }
}

/// An event has reached the program.
pub(crate) fn deliver(kqueue: &Kqueue, event: &Kevent) {
    // SAFETY: The kqueue's address is only printed; the event is valid.
    unsafe { generated::kq_trace_deliver(from_ref(kqueue).cast(), &raw const **event) };
}

/// A knote ended.
pub(crate) fn detach(kqueue: &Kqueue, knote: &Knote) {
    let (ident, filter) = (knote.ident(), knote.filter().raw());
    // SAFETY: The address is only printed.
    unsafe { generated::kq_trace_detach(from_ref(kqueue).cast(), ident, filter) };
}
