// SPDX-License-Identifier: GPL-2.0

//! Registration and modification of knotes (`kqueue_register`).
//!
//! All functions run under the mutex. If a scan follows in the same call, a change may mark its
//! knote active without running the filter, because the scan runs it. See
//! [`Kqueue::may_skip_filter`].

use super::{Caller, Kqueue, ReadyGuard, ReadyState};
use crate::{
    engine::{
        filter_ops::{Filter, Readiness},
        knote::{Knote, KnoteInner, Layout, LockedKnote, UnderMutex},
        knote_table::Knotes,
        sleepers::WakeFlags,
        state::State,
        trace,
    },
    sys::file::fdtable::CurrentFdTable,
    uapi::*, //
};
use kernel::{
    prelude::*,
    sync::{aref::ARef, ArcBorrow},
};

impl Kqueue {
    /// Applies one change (`kqueue_register`), after [`Kqueue::insert_deferred_knotes`].
    /// `collect_room` is the number of events that the caller collects right after this call, or 0
    /// if it collects none. If it collects events, the scan runs the filter, so that the filter
    /// does not run twice.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the filter is unknown, or it does not support a value of the change.
    /// - `EBADF`: the descriptor is not open, or the kqueue was closed.
    /// - `ENOENT`: the knote does not exist, and the change does not have `EV_ADD`.
    /// - `ENOSPC`: the user has reached the limit on knotes.
    /// - `ENOMEM`, and the errors of attaching the knote.
    #[inline(always)]
    pub(crate) fn register(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        caller: Caller,
        collect_room: usize,
    ) -> Result {
        let filter = Filter::from_raw(change.filter).ok_or(EINVAL)?;
        Self::register_as(this, knotes, change, filter, None, caller, collect_room)
    }

    /// [`Kqueue::register`] for a call with one change that collects no events. The compiler makes
    /// copies for the two most common filters.
    ///
    /// # Errors
    ///
    /// Those of [`Kqueue::register`].
    #[inline(always)]
    pub(crate) fn register_alone(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        caller: Caller,
    ) -> Result {
        match Filter::from_raw(change.filter).ok_or(EINVAL)? {
            filter @ Filter::Read => {
                Self::register_as(this, knotes, change, filter, Some(Filter::Read), caller, 0)
            }
            filter @ Filter::Write => {
                Self::register_as(this, knotes, change, filter, Some(Filter::Write), caller, 0)
            }
            filter => Self::register_other(this, knotes, change, filter, caller),
        }
    }

    #[inline(never)]
    fn register_other(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        filter: Filter,
        caller: Caller,
    ) -> Result {
        Self::register_as(this, knotes, change, filter, None, caller, 0)
    }

    /// [`Kqueue::register`] for a change of this filter. `known` is the filter if it is a constant.
    /// Otherwise it is read from the knote, which is cheaper than keeping it in a register.
    #[inline(always)]
    fn register_as(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        filter: Filter,
        known: Option<Filter>,
        caller: Caller,
        collect_room: usize,
    ) -> Result {
        let Knotes { table, under_mutex } = &mut *knotes;
        if let Some(found) = table.find_mut(change.ident, filter) {
            let knote = found.knote();
            let mut ready = this.locks.ready.lock();
            let mut locked = knote.locked(under_mutex);
            if !Self::is_current(&mut ready, &locked, known, caller.fd_table) {
                if knote.is_spent()
                    && locked.ident_refers_to_file(&ready, caller.fd_table)
                    && filter.is_renewable(&locked)
                {
                    if change.has(EV_ADD) {
                        Self::renew(&mut ready, &mut locked, known, change);
                        if !this.modify_fast(ready, &mut locked, known, change, collect_room) {
                            this.apply_with_filter(under_mutex, knote, change, true);
                        }
                        return Ok(());
                    }
                    if change.has(EV_DELETE) {
                        // The program may be about to close the descriptor, and a close without
                        // knotes is cheaper.
                        if knote.partner(under_mutex).is_some() {
                            drop(ready);
                            let knote: ARef<Knote> = knote.into();
                            this.delete_from_pair(knotes, &knote);
                        } else {
                            ready.retire(knote);
                            drop(ready);
                            this.detach(under_mutex, &found.remove());
                            table.free_if_empty();
                        }
                    }
                    return Err(ENOENT);
                }
                drop(ready);
                let knote: ARef<Knote> = knote.into();
                if this.change_stale(knotes, &knote, change)? {
                    return Ok(());
                }
            } else if change.has(EV_DELETE) && !change.has(EV_ADD) {
                if knote.partner(under_mutex).is_some() {
                    drop(ready);
                    let knote: ARef<Knote> = knote.into();
                    this.delete_from_pair(knotes, &knote);
                    return Ok(());
                }
                ready.retire(knote);
                drop(ready);
                this.detach(under_mutex, &found.remove());
                table.free_if_empty();
                return Ok(());
            } else if knote.filter_if(known).change_affects_knote_only() {
                if !this.modify_fast(ready, &mut locked, known, change, collect_room) {
                    this.apply_with_filter(under_mutex, knote, change, true);
                }
                return Ok(());
            } else {
                drop(ready);
                return this.modify(under_mutex, knote, change, collect_room);
            }
        }
        let fd_table = caller.fd_table;
        Self::register_new(this, knotes, change, filter, fd_table, collect_room, true).or_else(
            |error| {
                Self::register_again(this, knotes, change, filter, fd_table, collect_room, error)
            },
        )
    }

    /// Tries a registration again that has failed with `error`, if it may succeed now.
    #[cold]
    #[inline(never)]
    fn register_again(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        filter: Filter,
        fd_table: CurrentFdTable,
        collect_room: usize,
        error: Error,
    ) -> Result {
        // For the program the spent knotes do not exist. They have places, memory and timers.
        let remove_spent = |knotes: &mut Knotes, error: Error| {
            matches!(error, ENOSPC | ENOMEM) && this.remove_spent(knotes)
        };
        // The descriptor of the primary was closed. Its number may have been opened again.
        let may_have_shared = error == EBADF && filter.partner().is_some();
        if !may_have_shared && !remove_spent(knotes, error) {
            return Err(error);
        }
        match Self::register_new(this, knotes, change, filter, fd_table, collect_room, false) {
            Err(error) if may_have_shared && remove_spent(knotes, error) => {
                Self::register_new(this, knotes, change, filter, fd_table, collect_room, false)
            }
            result => result,
        }
    }

    /// Deletes a knote that has a partner. If it is the primary, it is only spent.
    #[cold]
    #[inline(never)]
    fn delete_from_pair(&self, knotes: &mut Knotes, knote: &Knote) {
        if knote.layout() == Layout::Secondary {
            return self.remove(knotes, knote);
        }
        let mut ready = self.locks.ready.lock();
        // A close may have retired the knote meanwhile.
        if !knote.state(&mut ready).is_invisible() {
            ready.spend_deleted(knote);
        }
    }

    /// Handles a change for a knote that was retired or whose ident now names something else. True
    /// if the change is complete. If it is false, the caller adds a new knote.
    #[cold]
    fn change_stale(&self, knotes: &mut Knotes, knote: &Knote, change: &Kevent) -> Result<bool> {
        let filter = knote.filter();
        if !knote.is_retired() && filter.stays_after_pid_reuse() {
            if change.has(EV_ADD) {
                // The old knote stays in the table, behind the new one, until it is reported.
                return Ok(false);
            }
            if change.has(EV_DELETE) {
                self.remove(knotes, knote);
            } else {
                self.modify(&mut knotes.under_mutex, knote, change, 0)?;
            }
            return Ok(true);
        }
        if filter.is_descriptor() {
            // If the descriptor is not open, the change fails and has no effect.
            drop(Self::descriptor_file(change, filter)?);
        }
        self.remove(knotes, knote);
        Ok(false)
    }

    /// Changes the parameters and the state of a knote.
    #[inline(always)]
    fn modify(
        &self,
        under_mutex: &mut UnderMutex,
        knote: &Knote,
        change: &Kevent,
        collect_room: usize,
    ) -> Result {
        let mut locked = knote.locked(under_mutex);
        let fflags = locked.inner.fflags;
        knote.filter().touch(&mut locked, change)?;
        locked.update_fast_path(fflags, None);
        if knote.filter().discards_pending(change) {
            self.reset(knote);
        }
        self.update(under_mutex, knote, change, Readiness::Maybe, collect_room);
        Ok(())
    }

    /// Gives a spent knote the parameters and the state that the change would give to a new knote.
    #[inline(always)]
    fn renew(
        ready: &mut ReadyState,
        locked: &mut LockedKnote<'_>,
        known: Option<Filter>,
        change: &Kevent,
    ) {
        ready.renew(locked.knote());
        let attachment = locked.inner.attachment.take();
        let kind = locked.inner.kind;
        *locked.inner = KnoteInner {
            attachment,
            kind,
            ..KnoteInner::new(change)
        };
        let filter = locked.knote().filter_if(known);
        *locked.fast_path = filter.select_fast_path(locked.inner);
    }

    /// [`Kqueue::modify`] for a filter whose changes [affect only the
    /// knote](crate::engine::filter_ops::FilterOps::CHANGE_AFFECTS_KNOTE_ONLY). It is done in one
    /// critical section of the spin lock, which this function ends. False if the caller has to run
    /// the filter and change the state ([`Kqueue::apply_with_filter`]), because the fast path
    /// cannot determine whether the knote is ready.
    #[inline(always)]
    fn modify_fast(
        &self,
        ready: ReadyGuard<'_>,
        locked: &mut LockedKnote<'_>,
        known: Option<Filter>,
        change: &Kevent,
        collect_room: usize,
    ) -> bool {
        let fflags = locked.inner.fflags;
        let filter = locked.knote().filter_if(known);
        filter.touch_params(locked.inner, change);
        locked.update_fast_path(fflags, known);
        self.apply_fast(ready, locked, known, Readiness::Maybe, change, collect_room)
    }

    /// Changes the state of a knote of such a filter after its parameters were changed, in one
    /// critical section of the spin lock, which this function ends. False if the filter has to run.
    #[inline(always)]
    fn apply_fast(
        &self,
        mut ready: ReadyGuard<'_>,
        locked: &LockedKnote<'_>,
        known: Option<Filter>,
        readiness: Readiness,
        change: &Kevent,
        collect_room: usize,
    ) -> bool {
        let knote = locked.knote();
        if Self::only_disables(change) {
            ready.dequeue_and_disable(knote);
            return true;
        }
        if self.may_skip_filter(&mut ready, knote, change, collect_room) {
            self.activate_without_filter(ready, knote, change);
            return true;
        }
        // The next scan evaluates a knote that is in the list.
        if !change.has(EV_DISABLE) && knote.state(&mut ready).is_queued() {
            return true;
        }
        let active = match readiness {
            Readiness::Yes => Some(true),
            _ => (locked.fast_path).is_ready(knote.filter_if(known), locked.inner, locked.file),
        };
        match active {
            Some(false) if !change.has(EV_DISABLE | EV_ENABLE) => true,
            Some(active) if !change.has(EV_DISABLE) => {
                self.apply_state_change(ready, knote, active, change);
                true
            }
            _ => false,
        }
    }

    /// Updates the state of a knote after a change of its parameters.
    #[inline(always)]
    pub(super) fn update(
        &self,
        under_mutex: &mut UnderMutex,
        knote: &Knote,
        change: &Kevent,
        readiness: Readiness,
        collect_room: usize,
    ) {
        let may_be_ready = readiness != Readiness::No;
        let locked = knote.locked(under_mutex);
        if may_be_ready
            && knote.filter().change_affects_knote_only()
            && locked.fast_path.determines_readiness()
        {
            let ready = self.locks.ready.lock();
            if self.apply_fast(ready, &locked, None, readiness, change, collect_room) {
                return;
            }
        } else if may_be_ready
            && collect_room > 0
            && self.try_activate_without_filter(knote, change, collect_room)
        {
            return;
        }
        if may_be_ready || change.has(EV_DISABLE | EV_ENABLE) {
            self.apply_with_filter(under_mutex, knote, change, may_be_ready);
        }
    }

    /// True if a change does nothing but disable a knote. If the changes of the filter [affect only
    /// the knote](crate::engine::filter_ops::FilterOps::CHANGE_AFFECTS_KNOTE_ONLY), the filter need
    /// not run then, because `EV_ENABLE` runs it.
    #[inline(always)]
    fn only_disables(change: &Kevent) -> bool {
        change.has(EV_DISABLE) && !change.has(EV_ENABLE)
    }

    /// Marks a knote active without running its filter, if [that is
    /// allowed](Self::may_skip_filter). False if it is not.
    #[inline(always)]
    fn try_activate_without_filter(
        &self,
        knote: &Knote,
        change: &Kevent,
        collect_room: usize,
    ) -> bool {
        let mut ready = self.locks.ready.lock();
        let skipped = self.may_skip_filter(&mut ready, knote, change, collect_room);
        if skipped {
            self.activate_without_filter(ready, knote, change);
        }
        skipped
    }

    /// True if a change may mark a knote active without running its filter. That is allowed if only
    /// the caller can notice the activation. The caller's scan takes the knote off the list again
    /// if it is not ready. (The scan reaches the knote, because each knote before it needs room for
    /// at most one event. A scan that ends early [verifies](Kqueue::verify) the knote. A task that
    /// polls the kqueue for the first time meanwhile may see it as readable.)
    #[inline(always)]
    fn may_skip_filter(
        &self,
        ready: &mut ReadyState,
        knote: &Knote,
        change: &Kevent,
        collect_room: usize,
    ) -> bool {
        // A scan does not evaluate a disabled knote, so the knote would stay active without being
        // ready.
        let stays_disabled =
            change.has(EV_DISABLE) || (knote.state(ready).is_disabled() && !change.has(EV_ENABLE));
        ready.queue.len() < collect_room
            && !stays_disabled
            && !ready.was_polled
            && ready.sleepers.is_empty()
    }

    #[inline(always)]
    fn activate_without_filter(&self, mut ready: ReadyGuard<'_>, knote: &Knote, change: &Kevent) {
        if Self::apply_to_state(knote.state(&mut ready), true, change) {
            self.enqueue(&mut ready, knote);
            drop(ready);
            trace::activate(self, knote);
        }
    }

    /// Runs the filter if the knote may be ready, and updates the state according to the result and
    /// to the change.
    #[inline(never)]
    fn apply_with_filter(
        &self,
        under_mutex: &mut UnderMutex,
        knote: &Knote,
        change: &Kevent,
        may_be_ready: bool,
    ) {
        if knote.filter().change_affects_knote_only() && Self::only_disables(change) {
            self.locks.ready.lock().dequeue_and_disable(knote);
            return;
        }
        if may_be_ready && change.has(EV_DISABLE) {
            // The knote may be pending although it is not ready, because it was queued without an
            // evaluation.
            self.dequeue(knote);
        }
        let active = may_be_ready && knote.is_ready(under_mutex);
        if active || change.has(EV_DISABLE | EV_ENABLE) {
            self.apply_state_change(self.locks.ready.lock(), knote, active, change);
        }
    }

    /// Takes a knote off the list and makes it inactive, even if it is disabled. The caller runs
    /// the filter after that.
    #[inline(never)]
    fn reset(&self, knote: &Knote) {
        let mut ready = self.locks.ready.lock();
        ready.remove_from_lists(knote);
        let state = knote.state(&mut ready);
        let disabled = state.is_disabled();
        state.take_evaluated(disabled);
    }

    /// Takes a knote off the list, as a scan does before it runs the filter.
    fn dequeue(&self, knote: &Knote) {
        let mut ready = self.locks.ready.lock();
        if ready.dequeue(knote) {
            knote.state(&mut ready).take();
        }
    }

    /// Runs the filter of a knote that a change may have marked active without running the filter.
    /// It is called if no scan evaluates the knote. The knote keeps its place in the list if it is
    /// ready.
    #[cold]
    pub(crate) fn verify(&self, knotes: &mut Knotes, change: &Kevent) {
        let Knotes { table, under_mutex } = knotes;
        let filter = Filter::from_raw(change.filter);
        let Some(knote) = filter.and_then(|filter| table.find(change.ident, filter)) else {
            return;
        };
        if !knote.state(&mut self.locks.ready.lock()).begin_verify() {
            return;
        }
        let is_ready = knote.is_ready(under_mutex);
        let mut ready = self.locks.ready.lock();
        if knote.state(&mut ready).end_verify(is_ready) {
            ready.dequeue(knote);
            if knote.filter().needs_recheck(knote.inner(under_mutex)) {
                ready.schedule_recheck(knote);
                self.arm_recheck(&mut ready);
            }
        }
    }

    /// Applies a change to the state of a knote. True if the knote must now be put into the list.
    #[inline(always)]
    fn apply_to_state(state: &mut State, active: bool, change: &Kevent) -> bool {
        state.apply_change(active, change.has(EV_DISABLE), change.has(EV_ENABLE))
    }

    /// Marks a knote active if it is ready, then disables or enables it as the change says.
    fn apply_state_change(
        &self,
        mut ready: ReadyGuard<'_>,
        knote: &Knote,
        active: bool,
        change: &Kevent,
    ) {
        if Self::apply_to_state(knote.state(&mut ready), active, change) {
            ready.push_back(knote);
            self.wake_waiters(ready, knote, WakeFlags::default());
        } else if knote.state(&mut ready).is_disabled() && ready.dequeue(knote) {
            // The source has fired after the knote was taken off. A disabled knote is not pending.
            knote.state(&mut ready).unqueue();
        }
    }

    /// True if the knote was not retired and is not spent, and its ident still names the object
    /// that the knote was attached to.
    #[inline(always)]
    fn is_current(
        ready: &mut ReadyState,
        locked: &LockedKnote<'_>,
        known: Option<Filter>,
        fd_table: CurrentFdTable,
    ) -> bool {
        let knote = locked.knote();
        if knote.state(ready).is_invisible() {
            return false;
        }
        if knote.filter_if(known).is_descriptor() {
            locked.ident_refers_to_file(ready, fd_table)
        } else {
            knote.filter().matches_ident(locked.inner, knote.ident())
        }
    }
}

impl Knote {
    /// The filter of the knote, which is that of the change. If it is not `known` at compile time,
    /// it is read from the knote.
    #[inline(always)]
    fn filter_if(&self, known: Option<Filter>) -> Filter {
        known.unwrap_or_else(|| self.filter())
    }
}

impl LockedKnote<'_> {
    /// Updates the fast path of the knote after a change of its parameters. `fflags` is the value
    /// before the change.
    #[inline(always)]
    fn update_fast_path(&mut self, fflags: u32, known: Option<Filter>) {
        if (self.inner.fflags ^ fflags) & NOTE_LOWAT != 0 {
            let filter = self.knote().filter_if(known);
            *self.fast_path = filter.select_fast_path(self.inner);
        }
    }
}

impl ReadyState {
    /// Makes a knote spent that the program has deleted, but that has a secondary. It stays
    /// attached.
    fn spend_deleted(&mut self, knote: &Knote) {
        self.dequeue(knote);
        knote.state(self).spend();
        self.spent += 1;
    }
}
