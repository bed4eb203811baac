// SPDX-License-Identifier: GPL-2.0

//! The scan (`kqueue_scan`): which pending knotes are evaluated, and when it ends.
//!
//! Knotes at the head of the list that can be evaluated under the spin lock are, and stay in the list or leave it within
//! one critical section. A knote that takes longer ends that walk, and a batch is taken off the list
//! ([`super::batch`]).

use super::{batch::BATCH, deliver::Events, wakeup::Wake, Caller, Kqueue, Ready, ReadyGuard};
use crate::{
    engine::{
        guard::KnotesGuard,
        knote::Bodies,
        ops::{FastLook, FastPath, Report},
        ready_list::{Look, Seen, Verdict, Walked},
        sleepers::WakeFlags,
        table::Knotes,
        usercopy::Buffer,
    },
    sys::{
        file::fdtable::CurrentTable,
        memory::{arrayvec::Free, scratch::Scratch},
    },
    uapi::*, //
};
use core::{num::NonZeroUsize, ptr::NonNull};
use kernel::prelude::*;

/// One of the sinks that there are, told from all others by where it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SinkId(NonZeroUsize);

impl SinkId {
    pub(super) fn of<S: EventSink>(sink: &S) -> Self {
        SinkId(NonNull::from(sink).addr())
    }
}

/// How many it looks at, at most, at once: interrupts are off meanwhile. It may look once more, at others,
/// before it releases the spin lock.
pub(super) const LOOKS: usize = 4 * BATCH;

/// Where a scan puts what it reports. It stays in its place for as long as there are scans for it.
pub(crate) trait EventSink {
    /// How many more there is room for.
    fn room(&self) -> usize;
    /// True until something was reported.
    fn is_empty(&self) -> bool;
    /// The memory that the next event goes to.
    fn scratch(&self) -> Scratch;
    /// Copies events out, at most as many as there is room for. Gives how many were.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the others were not reported and stay pending.
    fn report(&mut self, events: &[Kevent]) -> (usize, Result);
}

impl Kqueue {
    /// Reports pending knotes until there are no more or the sink is full (`kqueue_scan`).
    ///
    /// A level-triggered knote goes to the tail. No knote is looked at twice: the scan ends when all
    /// are seen that were pending when it began. The mutex is held throughout, be it taken already or not,
    /// so another scan begins when all that this one put back is in its place.
    ///
    /// Whoever has `entered` and made changes in that has some of them looked at here only.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there was nothing to report. What the sink fails with. Nothing is lost: the event stays pending, at the head, and one can
    /// [go on](Kqueue::resume_scan). `EBADF` if
    /// the kqueue was closed, `EINTR` if the caller is being killed, `ENOMEM`.
    #[inline(always)]
    pub(crate) fn scan(
        &self,
        entered: Option<(KnotesGuard<'_>, &Buffer)>,
        sink: &mut impl EventSink,
        caller: Caller,
    ) -> Result {
        let (mut entered, changes) = match entered {
            Some((entered, changes)) => (entered, Some(changes)),
            None => (self.enter(caller).inspect_err(|_| self.pass_on())?, None),
        };
        let knotes = &mut *entered;
        let mut ready = match self.ready_for(knotes) {
            Ok(ready) => ready,
            Err(error) => {
                self.stop_short(knotes, changes, sink);
                return Err(error);
            }
        };
        ready.stopped = None;
        let mut events = Events::new();
        let all = ready.queue.len();
        let Walked { seen, kept } = ready.poll_fast(
            &mut knotes.bodies,
            caller.table,
            all,
            sink.room(),
            &mut events,
        );
        self.arm_recheck(&mut ready);
        if seen < all {
            ready.unseen = all - seen;
            ready.retired_during_scan = false;
            ready.news = false;
            if events.len() < sink.room() {
                let table = caller.table;
                return self.scan_on(ready, knotes, changes, table, sink, (&mut events, kept));
            }
        }
        // All was seen, so that those that are kept are all that is pending; or there is no more room.
        let pending = kept || seen < all;
        self.maybe_pending.set(pending);
        let shared = pending && !ready.sleepers.is_empty();
        drop(ready);
        if events.is_empty() {
            return Err(EAGAIN);
        }
        let result = self.deliver(knotes, &events, Some(changes), seen == all, sink);
        if shared {
            self.wake_some(Wake {
                sleeper: true,
                ..Wake::default()
            });
        }
        result
    }

    /// Goes on with a scan that has failed because of its sink. Reports nothing if another one has
    /// begun in the meantime, since that may have put back what this one has reported, so that it
    /// would be reported twice.
    ///
    /// # Errors
    ///
    /// As [`Kqueue::scan`].
    #[cold]
    pub(crate) fn resume_scan(&self, sink: &mut impl EventSink, caller: Caller) -> Result {
        let mut entered = self.enter(caller).inspect_err(|_| self.pass_on())?;
        let knotes = &mut *entered;
        let mut ready = self.ready_for(knotes).inspect_err(|_| self.pass_on())?;
        if ready.stopped != Some(SinkId::of(sink)) {
            drop(ready);
            self.pass_on();
            return Err(EAGAIN);
        }
        ready.stopped = None;
        ready.news = false;
        let mut events = Events::new();
        let table = caller.table;
        let kept = ready.poll_fast_on(&mut knotes.bodies, table, sink.room(), &mut events);
        self.arm_recheck(&mut ready);
        self.scan_on(ready, knotes, None, table, sink, (&mut events, kept))
    }

    /// A scan ends that has not seen all that was pending when it began.
    #[cold]
    pub(super) fn stop_short(
        &self,
        knotes: &mut Knotes,
        changes: Option<&Buffer>,
        sink: &impl EventSink,
    ) {
        for change in changes.into_iter().flat_map(Buffer::events) {
            self.verify(knotes, change);
        }
        let mut ready = self.locks.ready.lock();
        ready.stopped = Some(SinkId::of(sink));
        if ready.pending() > 0 {
            ready.sleepers.wake_one(WakeFlags::default());
        }
    }

    /// The same, after a first look under the spin lock, which has made those `events` and `kept` some.
    #[inline(never)]
    fn scan_on<'a>(
        &'a self,
        mut ready: ReadyGuard<'a>,
        knotes: &mut Knotes,
        changes: Option<&Buffer>,
        table: CurrentTable,
        sink: &mut impl EventSink,
        (events, mut kept): (&mut Events, bool),
    ) -> Result {
        let mut wake = Wake::default();
        let mut is_short = false;
        let result = loop {
            let (done, result) =
                self.scan_some(ready, knotes, table, sink, (events, kept), &mut wake);
            if done || result.is_err() || sink.room() == 0 {
                break result;
            }
            // A child of a process may have been born while the lock was free.
            ready = match self.ready_for(knotes) {
                Ok(ready) => ready,
                Err(error) => break Err(error),
            };
            if ready.unseen == 0 {
                if !ready.retired_during_scan || !sink.is_empty() {
                    let pending = ready.pending() > 0;
                    self.maybe_pending.set(pending);
                    wake.signals |= pending && ready.news;
                    is_short = ready.retired_during_scan;
                    drop(ready);
                    break Ok(());
                }
                // Closes have cut the scan short before it had anything to report: once more. There
                // is an end to that, since nobody can register anything meanwhile to close it again.
                ready.unseen = ready.queue.len();
                ready.retired_during_scan = false;
            }
            events.clear();
            kept = ready.poll_fast_on(&mut knotes.bodies, table, sink.room(), events);
            self.arm_recheck(&mut ready);
        };
        self.wake(wake);
        if is_short || result.is_err() {
            self.stop_short(knotes, changes, sink);
        }
        if sink.is_empty() {
            result.and(Err(EAGAIN))
        } else {
            result
        }
    }

    /// Reports what a glance has told, or the next batch if that was nothing. Gives whether there are surely no
    /// others to see.
    #[inline(always)]
    fn scan_some(
        &self,
        ready: ReadyGuard<'_>,
        knotes: &mut Knotes,
        table: CurrentTable,
        sink: &mut impl EventSink,
        (events, kept): (&Events, bool),
        wake: &mut Wake,
    ) -> (bool, Result) {
        let pending = ready.pending() > 0;
        self.maybe_pending.set(pending);
        if events.is_empty() && ready.unseen == 0 {
            return (!ready.retired_during_scan, Ok(()));
        }
        if events.is_empty() {
            return self.scan_batch(ready, knotes, table, sink, wake);
        }
        // What is true for us is true for others, and what there is no room for is theirs.
        let shared = kept || (pending && events.len() == sink.room());
        wake.sleeper |= shared && !ready.sleepers.is_empty();
        let done = ready.unseen == 0;
        // Those that are pending besides have come while the lock was free.
        wake.signals |= done && ready.news;
        drop(ready);
        let result = self.deliver(knotes, events, None, false, sink);
        (done, result)
    }
}

impl Ready {
    /// Looks at those at the head of the list, at most so many, for at most `room` events, until there is one that
    /// takes longer: its filter may sleep, it was disabled, it ends with its report, or its number is another file's.
    /// All is decided under the lock. (Not in line: what else the scan keeps would take the registers
    /// that the walk needs.)
    #[inline(never)]
    fn poll_fast(
        &mut self,
        bodies: &mut Bodies,
        table: CurrentTable,
        most: usize,
        room: usize,
        events: &mut Events,
    ) -> Walked {
        let free = events.free(room);
        self.walk(bodies, table, most.min(LOOKS), FastScan { free })
    }

    /// The same for a scan that is not done: at those that it has not seen. Gives whether some were
    /// kept.
    #[inline(always)]
    fn poll_fast_on(
        &mut self,
        bodies: &mut Bodies,
        table: CurrentTable,
        room: usize,
        events: &mut Events,
    ) -> bool {
        let unseen = self.unseen.min(self.queue.len());
        let walked = self.poll_fast(bodies, table, unseen, room, events);
        self.unseen = unseen - walked.seen;
        walked.kept
    }
}

/// A look at pending knotes under the spin lock, and room for their events.
struct FastScan<'a> {
    free: Free<'a, Kevent>,
}

impl Look for FastScan<'_> {
    #[inline(always)]
    fn decide(&mut self, mut seen: Seen<'_>) -> Verdict {
        if self.free.is_full() || seen.state.is_disabled() {
            return Verdict::Stop;
        }
        let Some(file) = seen.file() else {
            return self.decide_without_file(&mut seen);
        };
        match seen.fast_path.poll(seen.knote, seen.body, file) {
            FastLook::Ready(data) => self.report(&mut seen, Report::of(data), false),
            FastLook::Nothing => {
                seen.state.settle(false);
                Verdict::Remove
            }
            FastLook::Unknown => Verdict::Stop,
            FastLook::Ended(data) => {
                let report = FastPath::end(seen.knote.filter(), data, false);
                self.report(&mut seen, report, true)
            }
            FastLook::HungUp(data) => {
                let report = FastPath::end(seen.knote.filter(), data, true);
                self.report(&mut seen, report, true)
            }
        }
    }
}

impl FastScan<'_> {
    /// Decides about a knote that is on no descriptor, or whose number refers to another file by now.
    #[inline(always)]
    fn decide_without_file(&mut self, seen: &mut Seen<'_>) -> Verdict {
        if !seen.fast_path.is_without_file() {
            return Verdict::Stop;
        }
        match FastPath::take_event(seen.body) {
            Some(report) => self.report(seen, report, false),
            None => {
                seen.state.settle(false);
                Verdict::Remove
            }
        }
    }

    /// Reports an event, and decides what becomes of its knote. More may come of a pipe without a wake-up, unless this
    /// reports its end.
    #[inline(always)]
    fn report(&mut self, seen: &mut Seen<'_>, report: Report, is_end: bool) -> Verdict {
        let event = seen.knote.event(seen.body, report);
        let flags = event.flags;
        self.free.push(event);
        if flags & (EV_CLEAR | EV_DISPATCH) == 0 {
            return Verdict::Keep;
        }
        if flags & EV_DISPATCH != 0 {
            seen.state.settle(true);
            return Verdict::Remove;
        }
        if !is_end && seen.fast_path.needs_recheck() {
            seen.state.settle_for_recheck();
            return Verdict::Recheck;
        }
        seen.state.settle(false);
        Verdict::Remove
    }
}
