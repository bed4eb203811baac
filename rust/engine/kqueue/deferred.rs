// SPDX-License-Identifier: GPL-2.0

//! Knotes that are made where the mutex cannot be taken: those of a process's children, during a
//! fork.
//!
//! Such a knote is complete with its source, and can be activated at once. The next task that takes
//! the mutex puts it into the table.

use super::{Kqueue, ReadyGuard};
use crate::{
    engine::{knote::Knote, table::Knotes, trace},
    sys::memory::{erased::Erased, slab::Memory}, //
};
use kernel::{prelude::*, sync::aref::ARef};

/// A knote that was made where the mutex cannot be taken, with its source; the head of a list.
pub(super) struct DeferredKnote {
    pub(super) knote: ARef<Knote>,
    pub(super) source: Erased,
    pub(super) next: Option<KBox<DeferredKnote>>,
}

impl Kqueue {
    /// Takes in a knote that was made, with its source, where the mutex cannot be taken: a child of
    /// a process gets one during the fork. It can be activated at once. It comes into the table
    /// when a task next takes the mutex, before that task looks for a knote or reports one.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed, `ENOMEM`.
    pub(crate) fn defer_knote(&self, knote: &ARef<Knote>, source: Erased) -> Result {
        let deferred = DeferredKnote {
            knote: knote.clone(),
            source,
            next: None,
        };
        // If it is not taken in, it is dropped after the lock is released.
        let mut deferred = KBox::new(deferred, Memory::Atomic.flags())?;
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

    /// Takes the spin lock when all adopted knotes are in the table.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed. `ENOMEM`: the knotes wait on.
    #[inline]
    pub(super) fn lock_ready(&self, knotes: &mut Knotes) -> Result<ReadyGuard<'_>> {
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

    /// Takes an adopted knote into the table, if there is one.
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
        let DeferredKnote { knote, source, .. } = KBox::into_inner(deferred);
        knote.inner_mut(&mut knotes.access).source = Some(source);
        knotes.table.insert(knote);
        Ok(())
    }
}
