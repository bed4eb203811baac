// SPDX-License-Identifier: GPL-2.0

//! The wait-queue entries of a knote in the queues of its file.
//!
//! [`add_to_wait_queues`] calls the file's `->poll` with a poll table of its own ([`poll_queues`]),
//! as epoll does, and so learns the wait queues of the file. It links the knote's own wait-queue
//! entry into the first queue. If there are more queues, it links one of the [`ExtraEntries`] into
//! each of them. From then on the knote is activated when one of these queues is woken for an event
//! in the filter's mask. The two wake functions are in this file. They run in the context that
//! [`crate::sys::file::poll`] describes.

use super::{
    knote::{Knote, UnderMutex},
    knote_layout::BoundKnote,
    sleepers::WakeFlags,
};
use crate::sys::file::{
    poll::{order_with_wake_ups, poll_queues, PollEvents, WaitEntry},
    socket,
};
use core::{
    ffi::c_void,
    marker::PhantomPinned,
    pin::Pin, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::ordering,
        barrier::smp_mb, //
    }, //
};

impl Knote {
    /// The body of both wake functions, for an entry of this knote.
    ///
    /// # Safety
    ///
    /// The contract of [`WaitEntry::handle_wake_up`].
    #[inline(always)]
    unsafe fn handle_wake_up(
        &self,
        wait: *mut bindings::wait_queue_entry,
        key: *mut c_void,
        flags: kernel::ffi::c_int,
    ) {
        let flags = WakeFlags::of_wake_function(flags);
        let (mask, is_paired) = self.wake_events();
        // SAFETY: By this function's contract.
        unsafe {
            WaitEntry::handle_wake_up(wait, key, mask, |events| {
                if is_paired {
                    self.kqueue().activate_pair(self, events, flags);
                } else {
                    self.activate_with(flags);
                }
            });
        }
    }

    /// The wake function of the knote's own wait-queue entry.
    ///
    /// # Safety
    ///
    /// `wait` is the linked entry of a `BoundKnote`. The caller holds the lock of its queue.
    pub(super) unsafe extern "C" fn wake_function(
        wait: *mut bindings::wait_queue_entry,
        _mode: kernel::ffi::c_uint,
        flags: kernel::ffi::c_int,
        key: *mut c_void,
    ) -> kernel::ffi::c_int {
        let wait_entry = wait.cast::<WaitEntry>();
        // SAFETY: By this function's contract, `wait` is the entry of a `BoundKnote`. The knote is
        // alive, because it is unlinked before it is freed, under the lock that the caller holds.
        let this = unsafe { &*kernel::container_of!(wait_entry, BoundKnote, wait_entry) };
        // SAFETY: By this function's contract, `wait` is a linked entry whose queue is locked. The
        // entry is not accessed after this call: at a wake-up with `POLLFREE` the call unlinks the
        // entry, and then another task may free the knote.
        unsafe { this.knote().handle_wake_up(wait, key, flags) };
        // A positive result counts only for exclusive entries, and this entry is not exclusive.
        1
    }
}

/// An entry that is allocated separately, for a further queue of a knote's file.
#[repr(C)]
struct ExtraEntry {
    // This is the first field, so that a pointer to it is also a pointer to the structure.
    wait_entry: WaitEntry,
    knote: ARef<Knote>,
    next: Option<Pin<KBox<ExtraEntry>>>,
    _pin: PhantomPinned,
}

// SAFETY: The wait-queue entry is only accessed under the lock of its queue.
unsafe impl Send for ExtraEntry {}

// SAFETY: The wait-queue entry is only accessed under the lock of its queue.
unsafe impl Sync for ExtraEntry {}

impl ExtraEntry {
    /// The wake function of an entry in a further queue.
    ///
    /// # Safety
    ///
    /// `wait` is the linked entry of an `ExtraEntry`. The caller holds the lock of its queue.
    unsafe extern "C" fn wake_function(
        wait: *mut bindings::wait_queue_entry,
        _mode: kernel::ffi::c_uint,
        flags: kernel::ffi::c_int,
        key: *mut c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: `wait` is the first field of an `ExtraEntry`. The entry is alive, because it is
        // linked and is not freed before it was unlinked under the lock that the caller holds.
        unsafe {
            let knote = &(*wait.cast::<ExtraEntry>()).knote;
            knote.handle_wake_up(wait, key, flags);
        }
        // A positive result counts only for exclusive entries, and this entry is not exclusive.
        1
    }
}

/// The entries of a knote in all queues of its file except the first one, or, for a secondary,
/// except those that its primary is in. Dropping them unlinks them.
pub(crate) struct ExtraEntries(Option<Pin<KBox<ExtraEntry>>>);

impl ExtraEntries {
    /// True if one of the entries is in the queue `head`.
    fn has_queue(&self, head: *mut bindings::wait_queue_head) -> bool {
        let mut next = self.0.as_ref();
        while let Some(extra_entry) = next {
            if extra_entry.wait_entry.is_in(head) {
                return true;
            }
            next = extra_entry.next.as_ref();
        }
        false
    }

    /// Allocates an entry and links it into `head`.
    ///
    /// # Safety
    ///
    /// `head` is a valid queue. It stays valid until `self` is dropped or the queue is woken with
    /// `POLLFREE`.
    #[cold]
    unsafe fn link(&mut self, head: *mut bindings::wait_queue_head, knote: &Knote) -> Result {
        let mut extra_entry = KBox::new(
            ExtraEntry {
                wait_entry: WaitEntry::new(ExtraEntry::wake_function),
                knote: knote.into(),
                next: None,
                _pin: PhantomPinned,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        extra_entry.next = self.0.take();
        let extra_entry = KBox::into_pin(extra_entry);
        // SAFETY: By this function's contract, `head` is valid. The entry is pinned, and `drop`
        // unlinks it before it is freed.
        unsafe { extra_entry.wait_entry.link(head) };
        self.0 = Some(extra_entry);
        Ok(())
    }
}

impl Drop for ExtraEntries {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut extra_entry) = next {
            extra_entry.wait_entry.detach();
            // SAFETY: `next` is not structurally pinned. Only the box of the successor is moved out
            // of the entry.
            next = unsafe { extra_entry.as_mut().get_unchecked_mut() }
                .next
                .take();
        }
    }
}

/// Links `knote` into the wait queues of the file that it is bound to, so that wake-ups activate
/// it. A secondary is activated by the entries of its primary in the queues that these are in. The
/// further entries of the primary are `known`. May sleep.
///
/// Returns the events that the file is ready for, and the entries in further queues. The caller
/// drops these before the knote is unbound.
///
/// # Errors
///
/// `EINVAL` if the file cannot be polled or the knote is not bound; `ENOMEM`.
pub(crate) fn add_to_wait_queues(
    knote: &Knote,
    (primary, known): (Option<&Knote>, Option<&ExtraEntries>),
    under_mutex: &UnderMutex,
) -> Result<(PollEvents, Option<ExtraEntries>)> {
    let file = knote.file(under_mutex).ok_or(EINVAL)?;
    let is_known = |queue| known.is_some_and(|known| known.has_queue(queue));
    let entry = primary.unwrap_or(knote).wait_entry().ok_or(EINVAL)?;
    let mut extra = ExtraEntries(None);
    let mut result = Ok(());
    let want = knote.filter().wake_events() | PollEvents::EDGE;
    let ready = poll_queues(file, want, |queue| {
        if primary.is_none() && !entry.is_linked() {
            // SAFETY: The queue is valid until the file is released, or until it is woken with
            // `POLLFREE`. The knote is bound to the file until the entry was detached. Knotes are
            // not moved.
            unsafe { entry.link(queue) };
        } else if primary.is_some() && (entry.is_in(queue) || is_known(queue)) {
            // SAFETY: The file has just named the queue.
            unsafe { order_with_wake_ups(queue) };
        } else if result.is_ok() {
            // SAFETY: The queue is valid until the file is released, or until it is woken with
            // `POLLFREE`. The attachment that contains the `ExtraEntries` is dropped before the
            // knote is unbound from the file.
            result = unsafe { extra.link(queue, knote) };
        }
    })
    .ok_or(EINVAL)?;
    result?;
    if extra.0.is_none() {
        // There is nothing to detach.
        core::mem::forget(extra);
        return Ok((ready, None));
    }
    Ok((ready, Some(extra)))
}

/// [`add_to_wait_queues`] for a socket whose pollers are all in the wait queue of the socket
/// ([`FileKind::polls_socket_queue`](super::filter_ops::FileKind::polls_socket_queue)), without a
/// call of `->poll`. A full barrier follows, so that an evaluation after this call misses no event.
/// It pairs with that of `wq_has_sleeper()`, which the socket executes between a change of its
/// state and the look into the queue. (`poll_wait()` has the same barrier.)
///
/// # Errors
///
/// `EINVAL` if the file is not a socket or the knote is not bound.
#[inline]
pub(crate) fn add_to_socket_queue(knote: &Knote, under_mutex: &UnderMutex) -> Result {
    let head = knote
        .file(under_mutex)
        .and_then(socket::wait_queue)
        .ok_or(EINVAL)?;
    let entry = knote.wait_entry().ok_or(EINVAL)?;
    if !entry.is_linked() {
        // SAFETY: The queue is valid until the file is released. The knote is bound to the file
        // until the entry was detached. Knotes are not moved.
        unsafe { entry.link(head) };
    }
    smp_mb(ordering::Full);
    Ok(())
}

/// [`add_to_socket_queue`] for the secondary of `primary`. An evaluation after this call misses no
/// event. False if the primary is not in the queue of the socket.
#[inline]
pub(crate) fn share_socket_queue(primary: &Knote, under_mutex: &UnderMutex) -> bool {
    let head = primary.file(under_mutex).and_then(socket::wait_queue);
    match (head, primary.wait_entry()) {
        (Some(head), Some(entry)) if entry.is_in(head) => {
            // SAFETY: The queue is valid until the file is released.
            unsafe { order_with_wake_ups(head) };
            true
        }
        _ => false,
    }
}
