// SPDX-License-Identifier: GPL-2.0

//! The list of a kqueue's pending knotes.
//!
//! The `kernel` crate's [`List`] cannot check that an item which is to be
//! removed is in this list and not in another one. Here that is known: a knote
//! is only ever pushed to the list of its own kqueue.

use crate::{knote::Knote, kqueue::Ready};
use kernel::{
    list::{List, ListArc},
    sync::{Arc, ArcBorrow}, //
};

/// A first-in first-out list of knotes, with their number.
///
/// # Invariants
///
/// All knotes in it belong to the kqueue whose [`Ready`] this is a field of, and `len` is their
/// number.
pub(crate) struct Queue {
    list: List<Knote>,
    len: usize,
}

impl Queue {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Queue {
            list: List::new(),
            len: 0,
        }
    }

    /// How many knotes are in the list.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The knote that has waited longest.
    pub(crate) fn front(&self) -> Option<ArcBorrow<'_, Knote>> {
        self.list.iter().next()
    }

    /// Takes the knote that has waited longest.
    pub(crate) fn pop_front(&mut self) -> Option<Arc<Knote>> {
        let knote = self.list.pop_front()?;
        self.len -= 1;
        Some(knote.into_arc())
    }
}

impl Ready {
    /// Puts a knote of this kqueue at the tail, or at the head. No effect if it is in the list.
    pub(crate) fn push(&mut self, knote: ArcBorrow<'_, Knote>, at_head: bool) {
        // INVARIANT: `access` checks that this is the state of the knote's own kqueue.
        let _ = knote.queueing.access(self);
        let Some(item) = ListArc::try_from_arc_borrow(knote) else {
            return;
        };
        if at_head {
            self.queue.list.push_front(item);
        } else {
            self.queue.list.push_back(item);
        }
        self.queue.len += 1;
    }

    /// Takes a knote of this kqueue out of the list. The caller drops what it is given when it
    /// has released the lock.
    pub(crate) fn remove(&mut self, knote: &Knote) -> Option<Arc<Knote>> {
        let _ = knote.queueing.access(self);
        // SAFETY: A knote is never in another list than its own kqueue's, which is this one, as
        // `access` has checked.
        let item = unsafe { self.queue.list.remove(knote) }?;
        self.queue.len -= 1;
        Some(item.into_arc())
    }
}
