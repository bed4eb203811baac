// SPDX-License-Identifier: GPL-2.0

//! The end of knotes and of a kqueue.
//!
//! A knote is *retired* under the spin lock, and then *removed* under the mutex.
//! `Documentation/design.md` lists the removal paths, and says how they exclude each other. A task
//! that is being killed does not wait for the mutex. It leaves its removals to the owner of the
//! mutex, which does them after it has released the mutex.

use super::{deferred::DeferredKnote, Kqueue, ReadyState};
use crate::{
    engine::{
        close::ClosedKnote,
        knote::{Knote, UnderMutex},
        knote_table::Knotes,
        knotes_guard::KnotesGuard,
        trace,
    },
    sys::{file::fdtable::FlushedFdTable, lock::killable}, //
};
use kernel::{
    fs::File,
    prelude::*,
    sync::{aref::ARef, atomic::ordering, barrier::smp_mb, ArcBorrow}, //
};

impl Kqueue {
    /// Retires a knote: takes it off the ready list for good, so that it is not reported any more.
    pub(crate) fn retire(&self, knote: &Knote) {
        self.locks.ready.lock().retire(knote);
    }

    /// The kqueue's own file, if it is still open.
    pub(crate) fn get_own_file(&self) -> Option<ARef<File>> {
        self.locks.ready.lock().own_file.as_ref()?.get()
    }

    /// Retires a knote whose descriptor was closed, and its secondary. `unlink` takes the knote out
    /// of the tree of bound knotes. Returns references to the knote and to the kqueue's own file.
    /// It does nothing if the knote is being freed, or if that file is being released, because both
    /// also take the knote out of the tree.
    pub(crate) fn retire_closed(
        &self,
        knote: &Knote,
        unlink: impl FnOnce(),
    ) -> Option<(ARef<Knote>, ARef<File>)> {
        let mut ready = self.locks.ready.lock();
        let file = ready.own_file.as_ref()?.get()?;
        let Some(reference) = knote.get_unless_zero() else {
            drop(ready);
            drop(file);
            return None;
        };
        unlink();
        knote.state(&mut ready).leave_tree();
        ready.for_pair(knote, |ready, knote| ready.retire(knote));
        Some((reference, file))
    }

    /// Retires a knote, takes it out of the table and detaches it. Its secondary is removed with
    /// it. If it is a secondary itself, and its primary was kept for it only, that is removed too.
    #[inline(never)]
    pub(super) fn remove(&self, knotes: &mut Knotes, knote: &Knote) {
        self.remove_secondary(knotes, knote);
        let primary = knote.partner(&knotes.under_mutex);
        let kept: Option<ARef<Knote>> =
            primary.filter(|primary| primary.is_spent()).map(ARef::from);
        self.remove_single(knotes, knote);
        if let Some(primary) = kept {
            self.remove_single(knotes, &primary);
        }
    }

    #[inline(always)]
    fn remove_secondary(&self, knotes: &mut Knotes, knote: &Knote) {
        if let Some(secondary) = knote.secondary(&knotes.under_mutex) {
            let secondary: ARef<Knote> = secondary.into();
            self.remove_single(knotes, &secondary);
        }
    }

    /// [`Kqueue::remove`] for a knote without a secondary.
    #[inline(never)]
    fn remove_single(&self, knotes: &mut Knotes, knote: &Knote) {
        self.retire(knote);
        if knotes.table.remove(knote) {
            self.detach(&mut knotes.under_mutex, knote);
        }
    }

    /// Detaches a knote from its source. No callback of the source runs after that.
    pub(super) fn detach(&self, under_mutex: &mut UnderMutex, knote: &Knote) {
        knote.detach(under_mutex);
        trace::detach(self, knote);
    }

    /// Removes a knote whose descriptor was closed. It is called in process context, before
    /// close(2) returns. A task that is being killed does not wait for the mutex.
    pub(crate) fn remove_closed(&self, closed: ClosedKnote) {
        match killable::lock_or_leave(&self.locks.knotes) {
            Ok(guard) => self.remove(&mut KnotesGuard::new(self, guard), closed.knote()),
            Err(_) => {
                self.leave_closed(closed);
                self.leave_work();
            }
        }
    }

    /// [`Kqueue::remove_closed`] for a caller that must not sleep. False if the caller has to leave
    /// the removal to a task that may sleep. That is so if the mutex has an owner, if the knote has
    /// an attachment, if the table would have to be freed, or if work was left to the owner of the
    /// mutex.
    pub(crate) fn try_remove_closed(&self, closed: &ClosedKnote) -> bool {
        let Some(mut knotes) = self.locks.knotes.try_lock() else {
            return false;
        };
        let Knotes { table, under_mutex } = &mut *knotes;
        let knote = closed.knote();
        let secondary: Option<ARef<Knote>> = knote.secondary(under_mutex).map(ARef::from);
        let has_attachment = |knote: &Knote| knote.inner(under_mutex).attachment.is_some();
        let removes = match secondary.as_deref() {
            None => table.len() > 1 && !has_attachment(knote),
            Some(other) => table.len() > 2 && !has_attachment(knote) && !has_attachment(other),
        };
        if removes {
            let mut take = |knote| {
                if table.take(knote) {
                    self.detach(under_mutex, knote);
                }
            };
            if let Some(other) = secondary.as_deref() {
                take(other);
            }
            take(knote);
        }
        drop(knotes);
        // This orders the release of the mutex before the load of the flag, as the guard of the
        // mutex does.
        killable::barrier_after_unlock();
        removes && !self.leftover_work.is_set()
    }

    /// Leaves the removal of a knote whose descriptor was closed to the next task that releases the
    /// mutex. Any context.
    pub(crate) fn leave_closed(&self, closed: ClosedKnote) {
        self.closed_knotes.push(closed);
        // A task that sees the flag also finds the knote. This pairs with the barrier after the
        // flag is cleared in `do_leftover_work`.
        smp_mb(ordering::Full);
        self.leftover_work.set(true);
    }

    /// Leaves work to the owner of the mutex, which does it after it has released the mutex. If the
    /// mutex has no owner, this task does the work.
    fn leave_work(&self) {
        // A task that clears the flag after this finds the work (`selftests/state`, `leftover`).
        smp_mb(ordering::Full);
        self.leftover_work.set(true);
        // This pairs with the barrier after the release of the mutex.
        smp_mb(ordering::Full);
        self.do_leftover_work();
    }

    /// True if another task has left work to the owner of the mutex.
    #[inline(always)]
    pub(crate) fn has_leftover_work(&self) -> bool {
        self.leftover_work.is_set()
    }

    /// Does the work that was left to the owner of the mutex, unless another task owns the mutex
    /// now. (This task does not wait for the mutex, because a `->poll` may sleep under it for as
    /// long as a program likes.)
    #[cold]
    pub(crate) fn do_leftover_work(&self) {
        while let Some(mut knotes) = self.locks.knotes.try_lock() {
            self.leftover_work.set(false);
            // A task that sets the flag before this store has added its work before the barrier, so
            // the work is found below. The flag of a task that sets it later is seen at the end.
            smp_mb(ordering::Full);
            let closed = self.locks.ready.lock().closed;
            if closed {
                self.remove_all(&mut knotes);
            }
            self.closed_knotes
                .drain(|closed| self.remove(&mut knotes, closed.knote()));
            drop(knotes);
            // This pairs with the barrier between the flag and the attempt to take the mutex in
            // `leave_work`.
            smp_mb(ordering::Full);
            if !self.leftover_work.is_set() {
                return;
            }
        }
    }

    /// Removes all spent knotes that have no secondary. True if there were some. The next change
    /// that adds a knote shrinks the table.
    #[cold]
    pub(super) fn remove_spent(&self, knotes: &mut Knotes) -> bool {
        let mut removed = false;
        let mut bucket = 0;
        let ready = self.locks.ready.lock();
        if ready.spent == ready.kept_spent {
            return false;
        }
        drop(ready);
        while let Some(knote) = knotes.table.pop_if(&mut bucket, Knote::is_removable_spent) {
            self.retire(&knote);
            self.detach(&mut knotes.under_mutex, &knote);
            removed = true;
        }
        let mut ready = self.locks.ready.lock();
        ready.kept_spent = ready.spent;
        removed
    }

    fn remove_all(&self, knotes: &mut Knotes) {
        let mut bucket = 0;
        while let Some(knote) = knotes.table.pop(&mut bucket) {
            self.remove_secondary(knotes, &knote);
            self.retire(&knote);
            self.detach(&mut knotes.under_mutex, &knote);
        }
    }

    /// Calls `each` with every knote that is bound to a descriptor, and the address of its file.
    /// The mutex is held meanwhile. If the caller is being killed while it waits for the mutex,
    /// `each` is not called.
    pub(crate) fn for_each_bound_knote(&self, mut each: impl FnMut(&Knote, usize)) {
        let Ok(guard) = killable::lock(&self.locks.knotes) else {
            return;
        };
        let knotes = KnotesGuard::new(self, guard);
        knotes.table.for_each(|knote| {
            if let Some(file) = knote.file(&knotes.under_mutex) {
                each(knote, file.as_ptr().addr());
            }
        });
    }

    /// Marks the kqueue closed. From then on callers get `EBADF`. Wakes all sleepers and drops all
    /// deferred knotes.
    fn terminate(&self) {
        let (mut deferred_knotes, was_polled) = loop {
            let mut ready = self.locks.ready.lock();
            ready.closed = true;
            self.closed_or_deferred.set(true);
            // No task begins to sleep in a closed kqueue, so the loop ends.
            if ready.sleepers.wake_several() {
                break (ready.deferred_knotes.take(), ready.was_polled);
            }
        };
        while let Some(deferred_knote) = deferred_knotes {
            let DeferredKnote {
                knote,
                attachment,
                next,
            } = KBox::into_inner(deferred_knote);
            self.retire(&knote);
            drop(attachment);
            trace::detach(self, &knote);
            deferred_knotes = next;
        }
        if was_polled {
            self.poll_fasync.notify(false);
        }
    }

    /// `->flush`, which is called when a descriptor of the kqueue was closed.
    pub(crate) fn flush(this: ArcBorrow<'_, Self>, file: &File, closing: &FlushedFdTable) {
        let nesting = &this.shared.nesting;
        let is_last = closing.is_last_in(this.owner_fd_table.id(), file, |is_only_with| {
            nesting.with_watchers(&this, is_only_with)
        });
        if !is_last {
            return;
        }
        this.terminate();
        // A task that is being killed does not wait for the mutex, whose owner may sleep in a
        // `->poll`.
        match killable::lock_or_leave(&this.locks.knotes) {
            Ok(guard) => this.remove_all(&mut KnotesGuard::new(&this, guard)),
            Err(_) => this.leave_work(),
        }
    }

    /// `->release`, which is called when no reference to the kqueue's file is left. So no task is
    /// in a call.
    pub(crate) fn release(&self) {
        self.locks.ready.lock().own_file = None;
        self.terminate();
        let mut knotes = self.locks.knotes.lock();
        self.remove_all(&mut knotes);
        // The cached rights are dropped here, and not by the task that drops the last reference to
        // the kqueue.
        let watcher = knotes.under_mutex.watcher.take();
        drop(knotes);
        drop(watcher);
        // No knote is left, so no recheck is scheduled any more.
        self.recheck_timer.cancel();
    }
}

impl ReadyState {
    /// Takes a knote off the ready list for good.
    #[inline(always)]
    pub(super) fn retire(&mut self, knote: &Knote) {
        self.cancel_recheck(knote);
        if knote.state(self).is_spent() {
            self.spent -= 1;
            self.kept_spent = 0;
        }
        if knote.state(self).retire() {
            self.unevaluated = self.unevaluated.saturating_sub(1);
            self.dequeued_during_scan = true;
            self.remove_from_lists(knote);
        }
    }
}
