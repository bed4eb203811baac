// SPDX-License-Identifier: GPL-2.0

//! How knotes end, and how a kqueue ends.
//!
//! A knote is *retired* under the spin lock, and then *removed* under the mutex; the crate's documentation has the paths
//! and what excludes what. A task that is being killed does not wait for the mutex: what it would have removed is left to
//! the owner of the mutex, who does it after releasing that.

use super::{adopt::DeferredKnote, Kqueue, Ready};
use crate::{
    engine::{
        close::ClosedKnote,
        guard::KnotesGuard,
        knote::{Bodies, Knote},
        table::Knotes,
        trace,
    },
    sys::{file::fdtable::Closing, lock::killable}, //
};
use kernel::{
    fs::File,
    prelude::*,
    sync::{aref::ARef, atomic::ordering, barrier::smp_mb, ArcBorrow}, //
};

impl Kqueue {
    /// Takes a knote off the list for good: it is not reported any more.
    pub(crate) fn retire(&self, knote: &Knote) {
        self.locks.ready.lock().retire(knote);
    }

    /// The kqueue's own file, if it is still open.
    pub(crate) fn file(&self) -> Option<ARef<File>> {
        self.locks.ready.lock().file.as_ref()?.get()
    }

    /// The same for a knote whose descriptor was closed, and which was taken out of the tree of what is
    /// bound. Gives a reference to the kqueue's own file, unless that is being released.
    pub(crate) fn retire_closed(&self, knote: &Knote) -> Option<ARef<File>> {
        let mut ready = self.locks.ready.lock();
        knote.state(&mut ready).unlink();
        ready.retire(knote);
        ready.file.as_ref()?.get()
    }

    /// Ends a knote: it is not reported any more, not found any more, and its source is detached.
    #[inline(never)]
    pub(super) fn remove(&self, knotes: &mut Knotes, knote: &Knote) {
        self.retire(knote);
        if knotes.table.remove(knote) {
            self.detach(&mut knotes.bodies, knote);
        }
    }

    /// Takes a knote's source away. No callback of it comes after that.
    pub(super) fn detach(&self, bodies: &mut Bodies, knote: &Knote) {
        knote.detach(bodies);
        trace::detach(self, knote);
    }

    /// Removes a knote whose descriptor was closed; in process context, before close(2) returns. Who is
    /// being killed does not wait for the mutex.
    pub(crate) fn remove_closed(&self, closed: ClosedKnote) {
        match killable::lock_or_leave(&self.locks.knotes) {
            Ok(guard) => self.remove(&mut KnotesGuard::new(self, guard), closed.knote()),
            Err(_) => {
                self.leave(closed);
                self.settle_later();
            }
        }
    }

    /// Leaves it to who next releases the mutex to remove a knote whose descriptor was closed. From any
    /// context.
    pub(crate) fn leave(&self, closed: ClosedKnote) {
        self.deferred.push(closed);
        // Who sees the flag finds the knote.
        smp_mb(ordering::Full);
        self.owed.set(true);
    }

    /// There is something for the owner of the mutex to do when it releases it. If there is none, it is
    /// done here.
    fn settle_later(&self) {
        // Who clears the flag after it was set here finds what it is about (`selftests/state`, `leftover`).
        smp_mb(ordering::Full);
        self.owed.set(true);
        smp_mb(ordering::Full);
        self.settle();
    }

    /// True if something was left to the owner of the mutex.
    #[inline(always)]
    pub(crate) fn is_owed(&self) -> bool {
        self.owed.is_set()
    }

    /// Does what was left to the owner of the mutex, unless there is another one now. (Under the mutex a
    /// `->poll` may sleep as long as a program likes; so nobody waits here.)
    #[cold]
    pub(crate) fn settle(&self) {
        while let Some(mut knotes) = self.locks.knotes.try_lock() {
            self.owed.set(false);
            smp_mb(ordering::Full);
            let closed = self.locks.ready.lock().closed;
            if closed {
                self.remove_all(&mut knotes);
            }
            self.deferred
                .take_each(|closed| self.remove(&mut knotes, closed.knote()));
            drop(knotes);
            smp_mb(ordering::Full);
            if !self.owed.is_set() {
                return;
            }
        }
    }

    fn remove_all(&self, knotes: &mut Knotes) {
        let mut bucket = 0;
        while let Some(knote) = knotes.table.pop(&mut bucket) {
            self.retire(&knote);
            self.detach(&mut knotes.bodies, &knote);
        }
    }

    /// Turns all callers away, and ends all that is not in the table: the kqueue was closed.
    fn terminate(&self) {
        let mut adopted = {
            let mut ready = self.locks.ready.lock();
            ready.closed = true;
            self.closed_or_deferred.set(true);
            ready.sleepers.wake_all();
            ready.adopted.take()
        };
        while let Some(child) = adopted {
            let DeferredKnote {
                knote,
                source,
                next,
            } = KBox::into_inner(child);
            self.retire(&knote);
            drop(source);
            trace::detach(self, &knote);
            adopted = next;
        }
        self.notifier.notify(false);
    }

    /// `->flush`: a descriptor of the kqueue was closed.
    pub(crate) fn flush(this: ArcBorrow<'_, Self>, file: &File, closing: &Closing) {
        let watchers = &this.shared.nesting;
        let is_last = closing.is_last_in(this.owner.table(), file, |is_only_with| {
            watchers.with_watchers(&this, is_only_with)
        });
        if !is_last {
            return;
        }
        this.terminate();
        // Who is being killed does not wait for a `->poll` that sleeps.
        match killable::lock_or_leave(&this.locks.knotes) {
            Ok(guard) => this.remove_all(&mut KnotesGuard::new(&this, guard)),
            Err(_) => this.settle_later(),
        }
    }

    /// `->release`: nobody has a reference to the kqueue's file any more, so nobody is in a call.
    pub(crate) fn release(&self) {
        self.locks.ready.lock().file = None;
        self.terminate();
        let mut knotes = self.locks.knotes.lock();
        self.remove_all(&mut knotes);
        // Not wherever the last reference to the kqueue is dropped.
        let watcher = knotes.bodies.watcher.take();
        drop(knotes);
        drop(watcher);
        // Nothing is told any more, nor will be.
        self.recheck_timer.cancel();
    }
}

impl Ready {
    /// Takes a knote off the list for good.
    #[inline(always)]
    pub(super) fn retire(&mut self, knote: &Knote) {
        self.cancel_recheck(knote);
        if knote.state(self).delete() {
            self.unseen = self.unseen.saturating_sub(1);
            self.retired_during_scan = true;
            self.remove(knote);
        }
    }
}
