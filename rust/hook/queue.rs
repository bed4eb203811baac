// SPDX-License-Identifier: GPL-2.0

//! The list of a kqueue's pending knotes.
//!
//! Doubly linked through the knotes themselves, and it owns a reference to each. (The `kernel`
//! crate's `List` cannot check that an item which is to be removed is in this list and not in
//! another one, and takes atomic operations to know that an item is in one list at most. Here a
//! knote is only ever in the list of its own kqueue, whose lock guards the links.)

use super::knote::Knote;
use crate::kqueue::Ready;
use core::ptr::{self, NonNull};
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
/// All knotes in it belong to the kqueue whose [`Ready`] this is a field of, and `len` is their
/// number. The list owns a reference to each. `next` of the last and `prev` of the first are null.
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

    /// Puts a knote of this kqueue at the tail. It is not in the list.
    #[inline]
    pub(crate) fn push_back(&mut self, knote: ARef<Knote>) {
        knote.check(self);
        if self.holds(&knote) {
            return;
        }
        // INVARIANT: It is this kqueue's; its reference is the list's now.
        let item: *const Knote = ARef::into_raw(knote).as_ptr();
        let queue = &mut self.queue;
        // SAFETY: The lock is held. The item is not in the list, the tail is, and valid.
        unsafe {
            *links(item) = Links {
                next: ptr::null(),
                prev: queue.tail,
            };
            if queue.tail.is_null() {
                queue.head = item;
            } else {
                links(queue.tail).next = item;
            }
        }
        queue.tail = item;
        queue.len = queue.len.wrapping_add(1);
    }

    /// Puts a knote of this kqueue at the head. It is not in the list.
    pub(crate) fn push_front(&mut self, knote: ARef<Knote>) {
        knote.check(self);
        if self.holds(&knote) {
            return;
        }
        // INVARIANT: It is this kqueue's; its reference is the list's now.
        let item: *const Knote = ARef::into_raw(knote).as_ptr();
        let queue = &mut self.queue;
        // SAFETY: The lock is held. The item is not in the list, the head is, and valid.
        unsafe {
            *links(item) = Links {
                next: queue.head,
                prev: ptr::null(),
            };
            if queue.head.is_null() {
                queue.tail = item;
            } else {
                links(queue.head).prev = item;
            }
        }
        queue.head = item;
        queue.len = queue.len.wrapping_add(1);
    }

    /// Takes the knote that has waited longest.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<ARef<Knote>> {
        let front = NonNull::new(self.queue.head.cast_mut())?;
        // SAFETY: It is in the list of this `Ready`, which the lock guards.
        Some(unsafe { self.unlink(front) })
    }

    /// Takes a knote of this kqueue out of the list. The caller drops what it is given when it
    /// has released the lock.
    pub(crate) fn remove(&mut self, knote: &Knote) -> Option<ARef<Knote>> {
        knote.check(self);
        if !self.holds(knote) {
            return None;
        }
        // SAFETY: It is in the list of this `Ready`, which the lock guards.
        Some(unsafe { self.unlink(NonNull::from(knote)) })
    }

    /// # Safety
    ///
    /// The item is in the list.
    #[inline]
    unsafe fn unlink(&mut self, item: NonNull<Knote>) -> ARef<Knote> {
        let queue = &mut self.queue;
        // SAFETY: The lock is held; the item and its neighbours are in the list, hence valid.
        unsafe {
            let Links { next, prev } = core::mem::replace(links(item.as_ptr()), Links::NONE);
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
            queue.len = queue.len.wrapping_sub(1);
            // INVARIANT: The list's reference is the caller's now.
            ARef::from_raw(item)
        }
    }
}
