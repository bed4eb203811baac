// SPDX-License-Identifier: GPL-2.0

//! The scan (`kqueue_scan`): the selection of the pending knotes that are evaluated, and the end of
//! the scan.
//!
//! A walk evaluates knotes at the head of the ready list under the spin lock, in one critical
//! section. They stay in the list or leave it. The walk ends at a knote that cannot be evaluated
//! under the lock. Then a batch is taken off the list ([`super::batch`]).

use super::{
    batch::BATCH_SIZE, deliver::Events, wakeup::ScanWakeups, Caller, Kqueue, ReadyGuard, ReadyState,
};
use crate::{
    engine::{
        filter_ops::{FastPath, Report},
        knote::UnderMutex,
        knote_table::Knotes,
        knotes_guard::KnotesGuard,
        ready_list::{Verdict, VisitedKnote, Visitor, WalkResult},
        sleepers::WakeFlags,
        usercopy::Buffer,
    },
    sys::{
        file::{fdtable::CurrentFdTable, poll::FastPoll},
        memory::{arrayvec::FreeSlots, user_scratch::UserScratch},
    },
    uapi::*, //
};
use core::{mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};
use kernel::prelude::*;

/// Identifies a sink by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ScanId(NonZeroUsize);

impl ScanId {
    pub(super) fn of<S: EventSink>(sink: &S) -> Self {
        ScanId(NonNull::from(sink).addr())
    }
}

/// The maximum number of knotes that a walk evaluates. It is limited because interrupts are
/// disabled meanwhile. The scan may also take a batch of knotes off the list before it releases the
/// spin lock.
pub(super) const WALK_MAX: usize = 4 * BATCH_SIZE;

/// The destination of the events of a scan. A sink is not moved between the scans of one call.
pub(crate) trait EventSink {
    /// The number of events that there is room for.
    fn room(&self) -> usize;
    /// True until an event was reported.
    fn is_empty(&self) -> bool;
    /// The memory that the next event goes to.
    fn scratch(&self) -> UserScratch;
    /// Copies events out, at most as many as there is room for. Returns how many were copied.
    ///
    /// # Errors
    ///
    /// `EFAULT`; the other events were not reported and stay pending.
    fn deliver(&mut self, events: &[Kevent]) -> (usize, Result);
}

impl Kqueue {
    /// Reports pending knotes until none is left or the sink is full (`kqueue_scan`).
    ///
    /// A level-triggered knote goes to the tail. The scan ends when it has evaluated all knotes
    /// that were pending when it began, and so reports no knote twice. The mutex is held
    /// throughout, whether the caller has taken it or the scan does. So another scan begins only
    /// when all knotes of this one are requeued.
    ///
    /// `held` is the guard of a caller that has made changes, and these changes. The caller may
    /// have left the evaluation of changed knotes to this scan.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there was nothing to report. The error of the sink; no event is lost, since it
    /// stays pending at the head of the list and [`Kqueue::resume_scan`] continues the scan.
    /// `EBADF` if the kqueue was closed, `EINTR` if the caller is being killed, `ENOMEM`.
    #[inline(always)]
    pub(crate) fn scan(
        &self,
        held: Option<(KnotesGuard<'_>, &Buffer)>,
        sink: &mut impl EventSink,
        caller: Caller,
    ) -> Result {
        let (mut held, changes) = match held {
            Some((held, changes)) => (held, Some(changes)),
            None => (
                self.lock_knotes(caller)
                    .inspect_err(|_| self.wake_next_sleeper())?,
                None,
            ),
        };
        let knotes = &mut *held;
        let mut ready = match self.insert_deferred_and_lock_ready(knotes) {
            Ok(ready) => ready,
            Err(error) => {
                self.end_early(knotes, changes, sink);
                return Err(error);
            }
        };
        ready.interrupted_scan = None;
        let mut memory = MaybeUninit::uninit();
        let events = Events::new_in(&mut memory);
        let all = ready.queue.len();
        let WalkResult { visited, kept } = ready.walk_head(
            &mut knotes.under_mutex,
            caller.fd_table,
            all,
            sink.room(),
            events,
        );
        self.arm_recheck(&mut ready);
        if visited < all {
            ready.unevaluated = all - visited;
            ready.dequeued_during_scan = false;
            ready.sigio_skipped = false;
            if events.len() < sink.room() {
                let fd_table = caller.fd_table;
                let walked = (events, kept);
                let (result, wake) = self.scan_rest(ready, knotes, changes, fd_table, sink, walked);
                drop(held);
                self.wake(wake);
                return result;
            }
        }
        // Either all pending knotes were evaluated, so only those that were kept are pending, or
        // the sink is full.
        let pending = kept || visited < all;
        self.maybe_pending.set(pending);
        let shared = pending && !ready.sleepers.is_empty();
        drop(ready);
        if events.is_empty() {
            return Err(EAGAIN);
        }
        let result = self.deliver(knotes, events, Some(changes), visited == all, sink);
        drop(held);
        if shared {
            self.wake_some(ScanWakeups {
                sleeper: true,
                ..ScanWakeups::default()
            });
        }
        result
    }

    /// Continues a scan that has failed because of its sink. Reports nothing if another scan has
    /// begun meanwhile. That scan may have requeued knotes that this scan has reported, and they
    /// would be reported twice.
    ///
    /// # Errors
    ///
    /// Those of [`Kqueue::scan`].
    #[cold]
    pub(crate) fn resume_scan(&self, sink: &mut impl EventSink, caller: Caller) -> Result {
        let mut held = self
            .lock_knotes(caller)
            .inspect_err(|_| self.wake_next_sleeper())?;
        let knotes = &mut *held;
        let mut ready = self
            .insert_deferred_and_lock_ready(knotes)
            .inspect_err(|_| self.wake_next_sleeper())?;
        if ready.interrupted_scan != Some(ScanId::of(sink)) {
            drop(ready);
            self.wake_next_sleeper();
            return Err(EAGAIN);
        }
        ready.interrupted_scan = None;
        ready.sigio_skipped = false;
        let mut memory = MaybeUninit::uninit();
        let events = Events::new_in(&mut memory);
        let fd_table = caller.fd_table;
        let kept = ready.walk_rest(&mut knotes.under_mutex, fd_table, sink.room(), events);
        self.arm_recheck(&mut ready);
        let (result, wake) = self.scan_rest(ready, knotes, None, fd_table, sink, (events, kept));
        drop(held);
        self.wake(wake);
        result
    }

    /// Ends a scan that has not evaluated all knotes that were pending when it began.
    #[cold]
    pub(super) fn end_early(
        &self,
        knotes: &mut Knotes,
        changes: Option<&Buffer>,
        sink: &impl EventSink,
    ) {
        for change in changes.into_iter().flat_map(Buffer::events) {
            self.verify(knotes, change);
        }
        let mut ready = self.locks.ready.lock();
        ready.interrupted_scan = Some(ScanId::of(sink));
        if ready.pending() > 0 {
            ready.sleepers.wake_one(WakeFlags::default());
        }
    }

    /// The rest of a scan after its first walk. The walk has created `events`; `kept` is true if it
    /// has kept some knotes. Also returns the wake-ups that the caller does after it has released
    /// the mutex.
    #[inline(never)]
    fn scan_rest<'a>(
        &'a self,
        mut ready: ReadyGuard<'a>,
        knotes: &mut Knotes,
        changes: Option<&Buffer>,
        fd_table: CurrentFdTable,
        sink: &mut impl EventSink,
        (events, mut kept): (&mut Events, bool),
    ) -> (Result, ScanWakeups) {
        let mut wake = ScanWakeups::default();
        let mut ended_early = false;
        let result = loop {
            let (done, result) =
                self.scan_step(ready, knotes, fd_table, sink, (events, kept), &mut wake);
            if done || result.is_err() || sink.room() == 0 {
                break result;
            }
            // A fork may have created a knote for a child while the lock was free.
            ready = match self.insert_deferred_and_lock_ready(knotes) {
                Ok(ready) => ready,
                Err(error) => break Err(error),
            };
            if ready.unevaluated == 0 {
                if !ready.dequeued_during_scan || !sink.is_empty() {
                    let pending = ready.pending() > 0;
                    self.maybe_pending.set(pending);
                    wake.sigio |= pending && ready.sigio_skipped;
                    ended_early = ready.dequeued_during_scan;
                    drop(ready);
                    break Ok(());
                }
                // Closes have retired knotes before the scan had an event to report, so it starts
                // again. This terminates, because no task can register further knotes while this
                // task holds the mutex, and a deferred knote that was inserted has an event.
                ready.unevaluated = ready.queue.len();
                ready.dequeued_during_scan = false;
            }
            events.clear();
            kept = ready.walk_rest(&mut knotes.under_mutex, fd_table, sink.room(), events);
            self.arm_recheck(&mut ready);
        };
        if ended_early || result.is_err() {
            self.end_early(knotes, changes, sink);
        }
        if sink.is_empty() {
            (result.and(Err(EAGAIN)), wake)
        } else {
            (result, wake)
        }
    }

    /// Reports the events of the walk, or evaluates the next batch if there are none. The first
    /// result is true if it is certain that no other knotes have to be evaluated.
    #[inline(always)]
    fn scan_step(
        &self,
        ready: ReadyGuard<'_>,
        knotes: &mut Knotes,
        fd_table: CurrentFdTable,
        sink: &mut impl EventSink,
        (events, kept): (&Events, bool),
        wake: &mut ScanWakeups,
    ) -> (bool, Result) {
        let pending = ready.pending() > 0;
        self.maybe_pending.set(pending);
        if events.is_empty() && ready.unevaluated == 0 {
            return (!ready.dequeued_during_scan, Ok(()));
        }
        if events.is_empty() {
            return self.scan_batch(ready, knotes, fd_table, sink, wake);
        }
        // Other tasks can collect knotes that were kept and knotes for which there was no room.
        let shared = kept || (pending && events.len() == sink.room());
        wake.sleeper |= shared && !ready.sleepers.is_empty();
        let done = ready.unevaluated == 0;
        // Other pending knotes were activated while the lock was free.
        wake.sigio |= done && ready.sigio_skipped;
        drop(ready);
        let result = self.deliver(knotes, events, None, false, sink);
        (done, result)
    }
}

impl ReadyState {
    /// Evaluates knotes at the head of the list, at most `most` of them and for at most `room`
    /// events. It ends at a knote that cannot be evaluated under the lock, because its filter may
    /// sleep, it was disabled, its report ends it, or its number refers to another file. (This
    /// function is not inlined, because the other variables of the scan would occupy registers that
    /// the walk needs.)
    #[inline(never)]
    fn walk_head(
        &mut self,
        under_mutex: &mut UnderMutex,
        fd_table: CurrentFdTable,
        most: usize,
        room: usize,
        events: &mut Events,
    ) -> WalkResult {
        let free = events.free_slots(room);
        self.walk(under_mutex, fd_table, most.min(WALK_MAX), FastScan { free })
    }

    /// [`ReadyState::walk_head`] over the knotes that the scan has not evaluated yet. True if some
    /// knotes were kept.
    #[inline(always)]
    fn walk_rest(
        &mut self,
        under_mutex: &mut UnderMutex,
        fd_table: CurrentFdTable,
        room: usize,
        events: &mut Events,
    ) -> bool {
        let unevaluated = self.unevaluated.min(self.queue.len());
        let walked = self.walk_head(under_mutex, fd_table, unevaluated, room, events);
        self.unevaluated = unevaluated - walked.visited;
        walked.kept
    }
}

/// The visitor of a walk under the spin lock, with room for the events.
struct FastScan<'a> {
    free: FreeSlots<'a, Kevent>,
}

impl Visitor for FastScan<'_> {
    #[inline(always)]
    fn visit(&mut self, mut visited: VisitedKnote<'_>) -> Verdict {
        if self.free.is_full() {
            return Verdict::Stop;
        }
        debug_assert!(!visited.state.is_disabled());
        let Some(file) = visited.file() else {
            return self.visit_without_file(&mut visited);
        };
        match visited.fast_path.poll(visited.knote, visited.inner, file) {
            FastPoll::Ready(data) => self.report(&mut visited, Report::of(data), false),
            FastPoll::NotReady => {
                visited.state.take_evaluated(false);
                Verdict::Remove
            }
            FastPoll::Unknown => Verdict::Stop,
            FastPoll::Ended(data) => {
                let report = FastPath::eof_report(visited.knote.filter(), data, false);
                self.report(&mut visited, report, true)
            }
            FastPoll::HungUp(data) => {
                let report = FastPath::eof_report(visited.knote.filter(), data, true);
                self.report(&mut visited, report, true)
            }
            FastPoll::Failed => {
                let filter = visited.knote.filter();
                match FastPath::failure_report(filter, visited.inner, file) {
                    Some(report) => self.report(&mut visited, report, true),
                    None => Verdict::Stop,
                }
            }
        }
    }
}

impl FastScan<'_> {
    /// Visits a knote that has no descriptor, or whose number refers to another file by now.
    #[inline(always)]
    fn visit_without_file(&mut self, visited: &mut VisitedKnote<'_>) -> Verdict {
        if !visited.fast_path.is_without_file() {
            return Verdict::Stop;
        }
        match FastPath::take_event(visited.inner) {
            Some(report) => self.report(visited, report, false),
            None => {
                visited.state.take_evaluated(false);
                Verdict::Remove
            }
        }
    }

    /// Stores an event, and decides what the walk does with its knote. A pipe may get more data
    /// without a wake-up, unless the event reports its end (`is_end`).
    #[inline(always)]
    fn report(&mut self, visited: &mut VisitedKnote<'_>, report: Report, is_end: bool) -> Verdict {
        let event = visited.knote.event(visited.inner, report);
        let flags = event.flags;
        self.free.push(event);
        if flags & (EV_CLEAR | EV_DISPATCH | EV_ONESHOT) == 0 {
            return Verdict::Keep;
        }
        if flags & (EV_DISPATCH | EV_ONESHOT) != 0 {
            if flags & EV_ONESHOT != 0 {
                visited.state.spend();
                return Verdict::Spend;
            }
            visited.state.take_evaluated(true);
            return Verdict::Remove;
        }
        if !is_end && visited.fast_path.needs_recheck() {
            visited.state.take_for_recheck();
            return Verdict::Recheck;
        }
        visited.state.take_evaluated(false);
        Verdict::Remove
    }
}
