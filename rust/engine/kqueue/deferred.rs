// SPDX-License-Identifier: GPL-2.0

//! Knotes that are created where the mutex cannot be taken. The knotes of the children of a process
//! are created in this way, during a fork.
//!
//! Such a knote has its attachment, and it can be activated at once. A task that holds the mutex
//! inserts it into the table later: before a change if the task sees the knote, and in any case
//! before a scan.

use super::{Kqueue, ReadyGuard};
use crate::{
    engine::{knote::Knote, knote_table::Knotes, trace},
    sys::memory::{erased_box::ErasedBox, slab::AllocMode}, //
};
use kernel::{prelude::*, sync::aref::ARef};

/// A knote that was created where the mutex cannot be taken, and its attachment. These form a list.
pub(super) struct DeferredKnote {
    pub(super) knote: ARef<Knote>,
    pub(super) attachment: ErasedBox,
    pub(super) next: Option<KBox<DeferredKnote>>,
}

impl Kqueue {
    /// Adds a knote, which the caller could not insert into the table, to the list of deferred
    /// knotes. It can be activated at once. A task that holds the mutex inserts it into the table
    /// before it reports a knote.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed, `ENOMEM`.
    pub(crate) fn defer_knote(&self, knote: &ARef<Knote>, attachment: ErasedBox) -> Result {
        let deferred = DeferredKnote {
            knote: knote.clone(),
            attachment,
            next: None,
        };
        // If the kqueue was closed, this is dropped after the lock is released.
        let mut deferred = KBox::new(deferred, AllocMode::NoSleep.flags())?;
        let mut ready = self.locks.ready.lock();
        if ready.closed {
            return Err(EBADF);
        }
        deferred.next = ready.deferred_knotes.take();
        ready.deferred_knotes = Some(deferred);
        self.closed_or_deferred.set(true);
        drop(ready);
        trace::attach(self, &knote.ident_event());
        Ok(())
    }

    /// Inserts all deferred knotes into the table, and takes the spin lock.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed. `ENOMEM`; the remaining knotes stay deferred.
    #[inline]
    pub(super) fn insert_deferred_and_lock_ready(
        &self,
        knotes: &mut Knotes,
    ) -> Result<ReadyGuard<'_>> {
        loop {
            let ready = self.locks.ready.lock();
            if ready.closed {
                return Err(EBADF);
            }
            if ready.deferred_knotes.is_none() {
                return Ok(ready);
            }
            drop(ready);
            self.insert_deferred(knotes)?;
        }
    }

    /// Inserts one deferred knote into the table, if there is one.
    #[cold]
    fn insert_deferred(&self, knotes: &mut Knotes) -> Result {
        knotes.table.reserve(&self.user)?;
        let mut ready = self.locks.ready.lock();
        let Some(mut deferred) = ready.deferred_knotes.take() else {
            return Ok(());
        };
        ready.deferred_knotes = deferred.next.take();
        let closed_or_deferred = ready.closed || ready.deferred_knotes.is_some();
        self.closed_or_deferred.set(closed_or_deferred);
        drop(ready);
        let DeferredKnote {
            knote, attachment, ..
        } = KBox::into_inner(deferred);
        knote.inner_mut(&mut knotes.under_mutex).attachment = Some(attachment);
        self.insert_beside_older(knotes, knote);
        Ok(())
    }

    /// Inserts a deferred knote into the table, which may have a knote of the same ident and
    /// filter.
    ///
    /// - That knote may be of the same process: the PID of a child can be found before the fork
    ///   probe runs, so a task may have added a knote for it. The fork takes effect after that
    ///   change, and replaces the knote.
    /// - It may wait for the report of an earlier process with the same PID. Then it stays, behind
    ///   the new knote.
    /// - It may be of a later process with the same PID, because the deferred knotes are inserted
    ///   in the reverse order of their creation. Then it has to be before the new knote.
    fn insert_beside_older(&self, knotes: &mut Knotes, deferred: ARef<Knote>) {
        let Knotes { table, under_mutex } = knotes;
        let (ident, filter) = (deferred.ident(), deferred.filter());
        let mut later = None;
        if let Some(found) = table.find_mut(ident, filter) {
            let inner = deferred.inner(under_mutex);
            if filter.watches_same(found.knote().inner(under_mutex), inner) {
                self.retire(found.knote());
                self.detach(under_mutex, &found.remove());
            } else if !filter.matches_ident(inner, ident) {
                later = Some(found.remove());
            }
        }
        table.insert(deferred);
        if let Some(later) = later {
            table.insert(later);
        }
    }
}
