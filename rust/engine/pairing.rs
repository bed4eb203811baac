// SPDX-License-Identifier: GPL-2.0

//! Pairs of knotes that share what belongs to their descriptor.
//!
//! Programs often watch a descriptor in both directions, with one knote of `EVFILT_READ` and one of
//! `EVFILT_WRITE`. The knote that is added first is bound to the descriptor: it owns the reference
//! to the file, it is in the tree of bound knotes, and its entries are in the wait queues of the
//! file. The knote that is added second shares all of this. It is the *secondary* of the pair, and
//! the first one is its *primary*. Each of them is the *partner* of the other.
//!
//! # The life of a pair
//!
//! - The second knote is added: [`super::close::share_binding`]. A third knote of the descriptor
//!   (`EVFILT_EXCEPT`, `EVFILT_VNODE`) is bound by itself.
//! - A wake-up of a wait queue runs the wake function of the primary, which activates those of the
//!   two whose poll events have occurred.
//! - The descriptor is closed: the close probe finds the primary and retires both
//!   ([`retire_closed`](super::kqueue::Kqueue::retire_closed)). Both are removed together.
//! - The secondary is removed: it is unpaired ([`Knote::unpair`]). If the primary is spent, the
//!   primary is removed then.
//! - The primary is deleted, or delivers its only event (`EV_ONESHOT`): it is *spent*
//!   ([`super::state`]), which means that it does not exist for the program any more. It stays
//!   attached on behalf of the secondary.
//!
//! # Locks
//!
//! A task that changes [`Knote::partner`] holds the mutex. It makes a pair under the lock of the
//! tree of bound knotes, and ends the pair under the spin lock. So the owner of the mutex and the
//! owner of the spin lock may use the partner that they have found: whoever takes a secondary out
//! of the table holds a reference to it, and unpairs it under the spin lock before dropping that
//! reference. (The close probe owns both the lock of the tree and the spin lock, and so sees the
//! present state.)
//!
//! The wake function reads the field without a lock to find out whether there is a secondary at
//! all. The registration publishes the secondary, then takes and releases the lock of each wait
//! queue that the file names ([`order_with_wake_ups`]), and then evaluates the secondary. The wake
//! function runs under the lock of its queue, to which every waker comes, because the entry of the
//! primary is linked already. So either the wake function sees the secondary, or the evaluation
//! sees what the waker has changed (`selftests/state`, `pairing`).
//!
//! [`order_with_wake_ups`]: crate::sys::file::poll::order_with_wake_ups

use super::{
    filter_ops::{FileKind, Filter},
    knote::{Knote, Layout, UnderMutex},
    knote_table::KnoteTable,
    kqueue::ReadyState,
};
use crate::sys::file::poll::PollEvents;
use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};

/// The other knote of a pair, or null. See "Locks" in the documentation of the module. A wake-up
/// may find the secondary while it is being published, without a common lock. So the store has
/// release ordering and the loads have acquire ordering.
pub(in crate::engine) struct Partner(AtomicPtr<Knote>);

impl Partner {
    /// No partner.
    #[inline(always)]
    pub(super) const fn none() -> Self {
        Partner(AtomicPtr::new(ptr::null_mut()))
    }

    /// True if there is a partner. A result that was obtained without a lock may be stale.
    #[inline(always)]
    pub(super) fn is_some(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }

    #[inline(always)]
    fn get(&self) -> Option<NonNull<Knote>> {
        NonNull::new(self.0.load(Ordering::Acquire))
    }

    #[inline(always)]
    fn set(&self, knote: *const Knote) {
        self.0.store(knote.cast_mut(), Ordering::Release);
    }
}

impl Knote {
    /// The partner of the knote.
    #[inline(always)]
    pub(crate) fn partner<'a>(&'a self, under_mutex: &'a UnderMutex) -> Option<&'a Knote> {
        self.check(under_mutex);
        // SAFETY: The mutex of the kqueue is held as long as the result is used, so the partner is
        // neither unpaired nor freed.
        self.partner
            .get()
            .map(|partner| unsafe { partner.as_ref() })
    }

    /// The secondary of the knote.
    #[inline(always)]
    pub(crate) fn secondary<'a>(&'a self, under_mutex: &'a UnderMutex) -> Option<&'a Knote> {
        if self.layout() != Layout::Bound {
            return None;
        }
        self.partner(under_mutex)
    }

    /// True if the knote is spent and may be removed. A knote that has a secondary stays. The
    /// caller holds the mutex.
    pub(super) fn is_removable_spent(&self) -> bool {
        self.is_spent() && !(self.layout() == Layout::Bound && self.partner.is_some())
    }

    /// True if the knote can be the primary of a new knote of `filter`. Its descriptor may have
    /// been closed ([`share_binding`](super::close::share_binding)).
    ///
    /// A primary that is deleted stays attached. So the file has no pairs if a knote of it has to
    /// be attached again when it is added again (see
    /// [`FilterOps::is_renewable`](super::filter_ops::FilterOps::is_renewable)).
    #[inline(always)]
    fn can_be_primary_of(&self, filter: Filter, under_mutex: &UnderMutex) -> bool {
        self.layout() == Layout::Bound
            && !self.partner.is_some()
            && match self.inner(under_mutex).kind {
                FileKind::Signalfd => false,
                // The position of a pipe is stored in the wait-queue entry of the knote that reads
                // it.
                FileKind::Pipe => filter != Filter::Read,
                FileKind::Terminal => self.wait_entry().is_some_and(|entry| entry.is_linked()),
                kind => kind.can_be_renewed(),
            }
    }

    /// Ends the pair that the knote belongs to, if it belongs to one. It is the secondary, because
    /// that is removed before its primary. It has no file after that.
    #[inline(always)]
    pub(super) fn unpair(&self, under_mutex: &mut UnderMutex) {
        if self.partner.is_some() {
            self.unpair_from_primary(under_mutex);
        }
    }

    #[inline(never)]
    fn unpair_from_primary(&self, under_mutex: &mut UnderMutex) {
        let Some(primary) = self.partner(under_mutex) else {
            return;
        };
        debug_assert!(self.layout() == Layout::Secondary);
        let kqueue = self.kqueue();
        let mut ready = kqueue.locks().ready.lock();
        // The primary may be removable now.
        ready.kept_spent = 0;
        self.partner.set(ptr::null());
        primary.partner.set(ptr::null());
        // SAFETY: `partner` has checked that the mutex is held. The caller uses no reference that
        // it has obtained from the binding.
        unsafe { self.binding.unshare() };
    }

    /// The poll events that activate the knote or its secondary, and whether it seems to have one.
    #[inline(always)]
    pub(super) fn wake_events(&self) -> (PollEvents, bool) {
        let own = self.filter().wake_events();
        if self.layout() == Layout::Bound && self.partner.is_some() {
            (own | self.filter().partner_wake_events(), true)
        } else {
            (own, false)
        }
    }
}

impl KnoteTable {
    /// The knote that can be the primary of a new knote of (ident, filter).
    #[inline(always)]
    pub(super) fn find_primary(
        &self,
        ident: u64,
        filter: Filter,
        under_mutex: &UnderMutex,
    ) -> Option<&Knote> {
        self.find(ident, filter.partner()?)
            .filter(|knote| knote.can_be_primary_of(filter, under_mutex))
    }
}

impl UnderMutex {
    /// Makes two knotes of this kqueue, which have no partners, the partners of each other. The
    /// caller holds the lock of the tree of the primary, which was not retired.
    #[inline(always)]
    pub(super) fn pair(&mut self, primary: &Knote, secondary: &Knote) {
        primary.check(self);
        secondary.check(self);
        secondary.partner.set(primary);
        primary.partner.set(secondary);
    }
}

impl ReadyState {
    /// Calls `each` with the knote, and before that with its partner if it has one.
    #[inline(always)]
    pub(super) fn for_pair(&mut self, knote: &Knote, mut each: impl FnMut(&mut Self, &Knote)) {
        knote.check(self);
        if let Some(partner) = knote.partner.get() {
            // SAFETY: The spin lock of the kqueue is held during this call, so the partner is
            // neither unpaired nor freed.
            each(self, unsafe { partner.as_ref() });
        }
        each(self, knote);
    }
}
