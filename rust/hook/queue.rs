// SPDX-License-Identifier: GPL-2.0

//! The list of a kqueue's pending knotes.
//!
//! Doubly linked through the knotes themselves. It owns no references: that would be two atomic
//! operations for each event. A knote is retired before its last reference goes, and a retired one is
//! in no list, for good; should one not be, it retires itself before it is freed. So one that is in the
//! list is valid for whoever has the lock. (The `kernel` crate's `List` owns what is in it, and cannot check
//! that an item which is to be removed is in this list and not in another one. Here a
//! knote is only ever in the list of its own kqueue, whose lock guards the links.)

use super::knote::Knote;
use crate::{kqueue::Ready, state::State};
use core::ptr;
use kernel::sync::aref::ARef;

/// A knote's links; both null unless it is in the list.
pub(super) struct Links {
    next: *const Knote,
    prev: *const Knote,
}

impl Links {
    pub(super) const NONE: Self = Links {
        next: ptr::null(),
        prev: ptr::null(),
    };
}

/// A first-in first-out list of knotes, with their number.
///
/// # Invariants
///
/// All knotes in it are valid and belong to the kqueue whose [`Ready`] this is a field of; `len` is their
/// number. `next` of the last and `prev` of the first are null.
pub(crate) struct Queue {
    head: *const Knote,
    tail: *const Knote,
    len: usize,
}

// SAFETY: Knotes may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Queue {
            head: ptr::null(),
            tail: ptr::null(),
            len: 0,
        }
    }

    /// True if there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many knotes are in the list.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // A kqueue has no knotes any more when it is dropped, since each has a reference to it.
        debug_assert!(self.head.is_null());
    }
}

/// The links of a knote.
///
/// # Safety
///
/// `knote` is valid, the lock of its kqueue is held, and nobody has a reference to its links.
#[inline]
unsafe fn links<'a>(knote: *const Knote) -> &'a mut Links {
    // SAFETY: By this function's contract.
    unsafe { &mut *(*knote).links.get() }
}

impl Ready {
    /// True when the knote is in the list.
    #[inline]
    fn holds(&self, knote: &Knote) -> bool {
        // SAFETY: `check` has found that the lock of the knote's kqueue is held.
        let links = unsafe { links(knote) };
        !links.prev.is_null() || ptr::eq(self.queue.head, knote)
    }

    /// Puts a knote of this kqueue at the tail, unless it is in the list.
    #[inline(always)]
    pub(crate) fn push_back(&mut self, knote: &Knote) {
        knote.check(self);
        if self.holds(knote) {
            return;
        }
        let queue = &mut self.queue;
        // INVARIANT: It is this kqueue's, and is retired before it is freed.
        // SAFETY: The lock is held. The knote is not in the list, the tail is, and valid.
        unsafe {
            *links(knote) = Links {
                next: ptr::null(),
                prev: queue.tail,
            };
            if queue.tail.is_null() {
                queue.head = knote;
            } else {
                links(queue.tail).next = knote;
            }
        }
        queue.tail = knote;
        queue.len = queue.len.wrapping_add(1);
    }

    /// Puts a knote of this kqueue at the head, unless it is in the list.
    pub(crate) fn push_front(&mut self, knote: &Knote) {
        knote.check(self);
        if self.holds(knote) {
            return;
        }
        let queue = &mut self.queue;
        // INVARIANT: As above.
        // SAFETY: The lock is held. The knote is not in the list, the head is, and valid.
        unsafe {
            *links(knote) = Links {
                next: queue.head,
                prev: ptr::null(),
            };
            if queue.head.is_null() {
                queue.tail = knote;
            } else {
                links(queue.head).prev = knote;
            }
        }
        queue.head = knote;
        queue.len = queue.len.wrapping_add(1);
    }

    /// Takes the knote that has waited longest, and a reference to it.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<ARef<Knote>> {
        // SAFETY: It is in the list of this `Ready`, which the lock guards, hence valid.
        let front = unsafe { self.queue.head.as_ref() }?;
        // SAFETY: As above.
        unsafe { self.unlink(front) };
        Some(front.into())
    }

    /// Takes a knote of this kqueue out of the list. True if it was in there.
    pub(crate) fn remove(&mut self, knote: &Knote) -> bool {
        knote.check(self);
        let held = self.holds(knote);
        if held {
            // SAFETY: It is in the list of this `Ready`, which the lock guards.
            unsafe { self.unlink(knote) };
        }
        held
    }

    /// # Safety
    ///
    /// The item is in the list.
    #[inline]
    unsafe fn unlink(&mut self, item: *const Knote) {
        let queue = &mut self.queue;
        // SAFETY: The lock is held; the item and its neighbours are in the list, hence valid.
        unsafe {
            let Links { next, prev } = core::mem::replace(links(item), Links::NONE);
            if prev.is_null() {
                queue.head = next;
            } else {
                links(prev).next = next;
            }
            if next.is_null() {
                queue.tail = prev;
            } else {
                links(next).prev = prev;
            }
        }
        queue.len = queue.len.wrapping_sub(1);
    }

    /// The knotes of the list, from the head on, to decide about each.
    #[inline]
    pub(crate) fn walk(&mut self) -> Walk<'_> {
        // INVARIANT: None is kept yet.
        Walk {
            at: self.queue.head,
            kept: ptr::null(),
            ready: self,
        }
    }
}

/// A walk over a list from its head. When it ends, those that were kept become the last ones, in their
/// order.
///
/// # Invariants
///
/// From the head to `kept` are those that were kept; none if that is null. `at` is the one behind them, null
/// at the end.
pub(crate) struct Walk<'a> {
    ready: &'a mut Ready,
    at: *const Knote,
    kept: *const Knote,
}

impl Walk<'_> {
    /// The knote that it is at, and its state.
    #[inline]
    pub(crate) fn current(&mut self) -> Option<(&Knote, &mut State)> {
        // SAFETY: It is in the list, hence valid and of this kqueue.
        unsafe {
            let knote = self.at.as_ref()?;
            Some((knote, knote.state_in(self.ready)))
        }
    }

    /// Keeps it in the list, and goes on.
    #[inline]
    pub(crate) fn keep(&mut self) {
        if !self.at.is_null() {
            // INVARIANT: It is behind the last one that was kept, and the next one is behind it.
            self.kept = self.at;
            // SAFETY: It is in the list, hence valid.
            self.at = unsafe { links(self.at) }.next;
        }
    }

    /// Takes it out, and goes on.
    #[inline]
    pub(crate) fn remove(&mut self) {
        if !self.at.is_null() {
            // INVARIANT: The next one comes in its place.
            // SAFETY: It is in the list, hence valid.
            unsafe {
                let next = links(self.at).next;
                self.ready.unlink(self.at);
                self.at = next;
            }
        }
    }
}

impl Drop for Walk<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.kept.is_null() || self.at.is_null() {
            return;
        }
        let queue = &mut self.ready.queue;
        // INVARIANT: The same knotes, in another order.
        // SAFETY: The lock is held; all of these are in the list, hence valid.
        unsafe {
            links(queue.tail).next = queue.head;
            links(queue.head).prev = queue.tail;
            links(self.kept).next = ptr::null();
            links(self.at).prev = ptr::null();
        }
        queue.head = self.at;
        queue.tail = self.kept;
    }
}
