// SPDX-License-Identifier: GPL-2.0

//! Activation of knotes, and the wake-up of the tasks that wait for events.
//!
//! An activation puts a knote into the ready list and wakes one sleeper, in one critical section of
//! the spin lock. Pollers and SIGIO are notified after that, from an irq_work
//! ([`crate::sys::notify::poll_fasync`]). A scan that leaves knotes pending wakes the next sleeper
//! after it has released the mutex, because that sleeper begins by taking the mutex. Only a scan
//! that ends early wakes the next sleeper before that.

use super::{Kqueue, ReadyGuard, ReadyState};
use crate::{
    engine::{
        knote::Knote,
        recheck,
        sleepers::{self, Deadline, SleepEnd, WakeFlags},
        trace, //
    },
    sys::file::poll::PollEvents,
};
use core::ops::BitOrAssign;

/// The wake-ups that a scan does at its end.
#[derive(Clone, Copy, Default)]
#[must_use]
pub(super) struct ScanWakeups {
    pub(super) sleeper: bool,
    pub(super) pollers: bool,
    /// True if SIGIO is to be sent.
    pub(super) sigio: bool,
}

impl BitOrAssign for ScanWakeups {
    fn bitor_assign(&mut self, other: Self) {
        self.sleeper |= other.sleeper;
        self.pollers |= other.pollers;
        self.sigio |= other.sigio;
    }
}

impl Kqueue {
    /// Marks a knote active, and queues it and wakes waiting tasks if it is due.
    #[inline(never)]
    pub(crate) fn activate(&self, knote: &Knote, flags: WakeFlags) {
        let mut ready = self.locks.ready.lock();
        if ready.activate(knote) {
            self.wake_waiters(ready, knote, flags);
        }
    }

    /// Marks those of a pair active for which `events` of a wake-up may be. `primary` seems to have
    /// a secondary.
    #[inline(never)]
    pub(crate) fn activate_pair(&self, primary: &Knote, events: PollEvents, flags: WakeFlags) {
        let mut wake = ScanWakeups::default();
        let mut ready = self.locks.ready.lock();
        ready.for_pair(primary, |ready, knote| {
            if events.may_wake(knote.filter().wake_events()) {
                self.activate_locked(ready, knote, flags, &mut wake);
            }
        });
        drop(ready);
        self.wake(wake);
    }

    /// Marks a knote active under the spin lock, and queues it and wakes a sleeper if it is due.
    /// Adds to `wake` what the caller does after it has released the lock.
    #[inline(always)]
    fn activate_locked(
        &self,
        ready: &mut ReadyState,
        knote: &Knote,
        flags: WakeFlags,
        wake: &mut ScanWakeups,
    ) {
        if ready.activate(knote) {
            self.maybe_pending.set(true);
            ready.sleepers.wake_one(flags);
            wake.pollers |= ready.was_polled;
            wake.sigio |= ready.was_polled && ready.needs_sigio();
            trace::activate(self, knote);
        }
    }

    /// Wakes a sleeper and notifies pollers, after a knote was put into the list.
    #[inline(always)]
    pub(super) fn wake_waiters(&self, mut ready: ReadyGuard<'_>, knote: &Knote, flags: WakeFlags) {
        self.maybe_pending.set(true);
        ready.sleepers.wake_one(flags);
        if ready.was_polled {
            return self.wake_with_pollers(ready, knote);
        }
        drop(ready);
        trace::activate(self, knote);
    }

    /// The rest of [`Kqueue::wake_waiters`] for a kqueue that has pollers or SIGIO listeners.
    #[inline(never)]
    fn wake_with_pollers(&self, mut ready: ReadyGuard<'_>, knote: &Knote) {
        let sigio = ready.needs_sigio();
        drop(ready);
        trace::activate(self, knote);
        self.poll_fasync.notify(sigio);
    }

    /// Appends a knote that is due to the list.
    #[inline(always)]
    pub(super) fn enqueue(&self, ready: &mut ReadyState, knote: &Knote) {
        ready.push_back(knote);
        self.maybe_pending.set(true);
    }

    /// Schedules a recheck of a knote whose pipe may get more data without a wake-up.
    pub(crate) fn schedule_recheck(&self, knote: &Knote) {
        let mut ready = self.locks.ready.lock();
        ready.schedule_recheck(knote);
        self.arm_recheck(&mut ready);
    }

    /// Arms the timer if knotes were scheduled for a recheck.
    #[inline(always)]
    pub(super) fn arm_recheck(&self, ready: &mut ReadyState) {
        if ready.rechecks.needs_timer() {
            self.arm_first_recheck(&mut ready.rechecks);
        }
    }

    /// Checks some of the knotes whose recheck is due, and activates those that have more to
    /// report. Called in hard interrupt context.
    pub(crate) fn recheck_next(&self, now: i64) {
        let mut ready = self.locks.ready.lock();
        let mut wake = ScanWakeups::default();
        for _ in 0..recheck::CHECKS_MAX {
            let Some(checked) = ready.recheck_next(now) else {
                break;
            };
            let Some(knote) = checked else {
                continue;
            };
            self.activate_locked(&mut ready, &knote, WakeFlags::default(), &mut wake);
        }
        self.arm_next_recheck(&mut ready.rechecks, now);
        drop(ready);
        self.wake(wake);
    }

    /// False if no knote is pending and the kqueue was not closed. A task that is about to sleep
    /// must check again under the lock, because a knote may be activated meanwhile. (See the
    /// declarations of the two flags.)
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.maybe_pending.is_set() || self.closed_or_deferred.is_set()
    }

    #[inline]
    pub(super) fn wake(&self, wake: ScanWakeups) {
        if wake.sleeper || wake.pollers || wake.sigio {
            self.wake_some(wake);
        }
    }

    #[inline(never)]
    pub(super) fn wake_some(&self, wake: ScanWakeups) {
        if wake.sleeper {
            self.locks
                .ready
                .lock()
                .sleepers
                .wake_one(WakeFlags::default());
        }
        if wake.pollers || wake.sigio {
            self.poll_fasync.notify(wake.sigio);
        }
    }

    /// Wakes another sleeper if knotes are pending, because the task that was woken cannot collect
    /// their events.
    pub(crate) fn wake_next_sleeper(&self) {
        let mut ready = self.locks.ready.lock();
        if ready.pending() > 0 {
            ready.sleepers.wake_one(WakeFlags::default());
        }
    }

    /// Sleeps until a knote is pending or the kqueue is closed.
    pub(crate) fn wait(&self, deadline: Deadline) -> SleepEnd {
        sleepers::sleep(&self.locks.ready, deadline, |ready| {
            ready.pending() > 0 || ready.closed
        })
    }
}

impl ReadyState {
    /// Called when a knote became pending while the kqueue has pollers. True if SIGIO is to be
    /// sent.
    fn needs_sigio(&mut self) -> bool {
        let first = self.queue.len() == 1;
        self.sigio_skipped |= !first;
        first
    }
}
