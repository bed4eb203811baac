// SPDX-License-Identifier: GPL-2.0

//! The part of a scan for knotes whose filters may sleep.
//!
//! A scan takes a batch off the ready list, evaluates it without the spin lock, and reports it.
//! Then it requeues or removes each knote according to its [`Disposition`]. A source that fires
//! meanwhile queues its knote again, so no event is lost.
//!
//! The mutex is held throughout. A knote of the batch is in the table, and leaves it under the
//! mutex only, so the batch borrows its knotes from the table and takes no references. The knotes
//! that the scan removes leave the table when the batch is not used any more.

use super::{
    deliver::Events,
    scan::EventSink,
    wakeup::ScanWakeups, //
    Kqueue,
    ReadyGuard,
    ReadyState,
};
use crate::{
    engine::{
        filter_ops::Filter,
        knote::{Knote, UnderMutex},
        knote_table::{KnoteTable, Knotes},
        trace,
    },
    sys::{file::fdtable::CurrentFdTable, memory::arrayvec::ArrayVec},
    uapi::*, //
};
use core::mem::MaybeUninit;
use kernel::{prelude::*, sync::aref::ARef};

/// The maximum number of events that are copied to the program at once, and of knotes that are
/// taken off the list in one critical section of the spin lock.
pub(super) const BATCH_SIZE: usize = 16;

/// What the scan does with a knote that it has taken off the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disposition {
    /// The knote has nothing to report. It stays off the list until its source fires.
    NotReady,
    /// The knote was reported. It stays off the list until its source fires.
    Reported,
    /// The knote is still pending and goes to the tail.
    AtTail,
    /// The knote has a new event to report and goes to the tail.
    AtTailWithNewEvent,
    /// The event could not be copied out. The knote goes to the head.
    AtHead,
    /// The knote is disabled.
    Disabled,
    /// The knote is disabled, and has another event to report already.
    DisabledActive,
    /// The filter decides after the event was delivered.
    FilterDecides,
    /// The knote is one-shot and was reported. It stays attached, because it can be renewed.
    Spent,
    /// The knote is removed, because its descriptor was closed or refers to another file, or
    /// because its report ends it.
    Removed,
}

/// A knote that a scan has taken off the list. It is borrowed from the table.
#[derive(Clone, Copy)]
struct Taken<'t> {
    knote: &'t Knote,
    disposition: Disposition,
}

/// The knotes that were taken off together, in the order of the list.
type Batch<'t> = ArrayVec<Taken<'t>, BATCH_SIZE>;

/// References to the knotes of a batch that are to be removed.
type Removals = ArrayVec<ARef<Knote>, BATCH_SIZE>;

/// The reasons why knotes of a batch are pending again: the event that was just reported, or a new
/// one.
#[derive(Clone, Copy, Default)]
struct Requeued {
    level: bool,
    new_event: bool,
    /// No knote was pending before the new ones.
    sigio: bool,
    /// Some knotes have to be removed.
    removes: bool,
}

impl Kqueue {
    /// Takes a batch off the list, and reports the knotes whose condition holds. The first result
    /// is true if it is certain that no other knotes have to be evaluated.
    #[inline(never)]
    pub(super) fn scan_batch(
        &self,
        mut ready: ReadyGuard<'_>,
        knotes: &mut Knotes,
        fd_table: CurrentFdTable,
        sink: &mut impl EventSink,
        wake: &mut ScanWakeups,
    ) -> (bool, Result) {
        let Knotes { table, under_mutex } = &mut *knotes;
        let mut memory = MaybeUninit::uninit();
        let batch = Batch::new_in(&mut memory);
        ready.take_batch(table, under_mutex, fd_table, sink.room(), batch);
        drop(ready);
        under_mutex.scratch = sink.scratch();
        let result = self.report(under_mutex, batch, sink);
        let mut ready = self.locks.ready.lock();
        let requeued = ready.requeue(batch, result.is_err());
        wake.pollers |= requeued.new_event && ready.was_polled;
        wake.sigio |= requeued.sigio && ready.was_polled;
        let pending = ready.pending() > 0;
        self.maybe_pending.set(pending);
        let shared = requeued.new_event || requeued.level || (pending && sink.room() == 0);
        wake.sleeper |= shared && !ready.sleepers.is_empty();
        let done = ready.unevaluated == 0 && !ready.dequeued_during_scan;
        wake.sigio |= done && pending && ready.sigio_skipped;
        drop(ready);
        if requeued.removes {
            remove_some(removals(batch), self, knotes);
        }
        (done, result)
    }

    /// Reports the knotes of the batch whose condition holds, and determines the disposition of
    /// each.
    #[inline]
    fn report(
        &self,
        under_mutex: &mut UnderMutex,
        batch: &mut [Taken<'_>],
        sink: &mut impl EventSink,
    ) -> Result {
        let mut memory = MaybeUninit::uninit();
        let events = Events::new_in(&mut memory);
        let mut filter_decides = false;
        let mut free = events.free_slots(BATCH_SIZE);
        for taken in batch.iter_mut() {
            let knote = taken.knote;
            if taken.disposition == Disposition::Removed {
                continue;
            }
            let Some(event) = knote.evaluate(under_mutex) else {
                continue;
            };
            // A close has ended the knote meanwhile.
            if knote.is_retired() {
                continue;
            }
            taken.disposition = match Self::disposition_after(knote.filter(), event.flags) {
                _ if event.has(EV_ONESHOT)
                    && knote.filter().can_be_renewed(knote.inner(under_mutex)) =>
                {
                    Disposition::Spent
                }
                disposition => disposition,
            };
            filter_decides |= taken.disposition == Disposition::FilterDecides;
            // There is room.
            free.push(event);
        }
        drop(free);
        if events.is_empty() {
            return Ok(());
        }
        let (delivered, result) = sink.deliver(events);
        if filter_decides || delivered < events.len() {
            Self::finish_delivery(under_mutex, batch, events, delivered);
        }
        if trace::is_deliver_enabled() {
            self.trace_deliveries(events, delivered);
        }
        result
    }

    /// The disposition of a knote after the delivery of an event with these flags.
    #[inline]
    fn disposition_after(filter: Filter, flags: u16) -> Disposition {
        if filter.handles_delivery() {
            return Disposition::FilterDecides;
        }
        match flags & (EV_ONESHOT | EV_CLEAR | EV_DISPATCH) {
            0 => Disposition::AtTail,
            EV_CLEAR => Disposition::Reported,
            flags if flags & EV_ONESHOT == 0 => Disposition::Disabled,
            _ => Disposition::FilterDecides,
        }
    }

    /// Handles the delivery of the first `delivered` events: calls the filters, and determines the
    /// disposition of the knotes for which the filter decides.
    #[inline(never)]
    fn finish_delivery(
        under_mutex: &mut UnderMutex,
        batch: &mut [Taken<'_>],
        events: &Events,
        delivered: usize,
    ) {
        let mut events = events.iter().take(delivered);
        for taken in batch.iter_mut() {
            // These knotes have no event.
            if matches!(
                taken.disposition,
                Disposition::Removed | Disposition::NotReady
            ) {
                continue;
            }
            let Some(event) = events.next() else {
                taken.disposition = Disposition::AtHead;
                continue;
            };
            if taken.disposition != Disposition::FilterDecides {
                continue;
            }
            let knote = taken.knote;
            if event.has(EV_ONESHOT) {
                taken.disposition = Disposition::Removed;
                continue;
            }
            let more = knote
                .filter()
                .delivered(&mut knote.locked(under_mutex), event);
            taken.disposition = if event.has(EV_DISPATCH) && more {
                Disposition::DisabledActive
            } else if event.has(EV_DISPATCH) {
                Disposition::Disabled
            } else if more {
                Disposition::AtTailWithNewEvent
            } else if event.has(EV_CLEAR) {
                Disposition::Reported
            } else {
                Disposition::AtTail
            };
        }
    }
}

#[cold]
#[inline(never)]
fn removals(batch: &[Taken<'_>]) -> Removals {
    let mut removals = Removals::new();
    for taken in batch {
        if taken.disposition == Disposition::Removed {
            // There is room.
            let _ = removals.push(taken.knote.into());
        }
    }
    removals
}

/// Removes knotes that were retired.
#[cold]
#[inline(never)]
fn remove_some(mut removals: Removals, kqueue: &Kqueue, knotes: &mut Knotes) {
    for knote in removals.drain() {
        kqueue.remove(knotes, &knote);
    }
}

impl ReadyState {
    /// Takes the next knotes off the list, at most `room` of them. They count as in flight from now
    /// on.
    #[inline]
    fn take_batch<'t>(
        &mut self,
        table: &'t KnoteTable,
        under_mutex: &mut UnderMutex,
        fd_table: CurrentFdTable,
        room: usize,
        batch: &mut Batch<'t>,
    ) {
        let most = self.unevaluated.min(room).min(BATCH_SIZE);
        let mut free = batch.free_slots(BATCH_SIZE);
        let taken = self.take_front(table, under_mutex, fd_table, most, |knote, bound| {
            let disposition = if bound {
                Disposition::NotReady
            } else {
                Disposition::Removed
            };
            // There is room.
            free.push(Taken { knote, disposition });
        });
        self.unevaluated -= taken;
        self.in_flight += taken;
    }

    /// Requeues the knotes of a batch according to their dispositions. If some stay pending, the
    /// caller wakes one sleeper, because other tasks can collect level-triggered events too, and
    /// each of them wakes the next. Pollers have been notified of level-triggered events already.
    /// They are notified of new events, and of events that could not be copied out if the report
    /// has `failed`.
    #[inline]
    fn requeue(&mut self, batch: &[Taken<'_>], failed: bool) -> Requeued {
        let mut result = Requeued::default();
        self.in_flight -= batch.len();
        if failed {
            self.requeue_at_head(batch);
            result.new_event = true;
        }
        for &Taken { knote, disposition } in batch {
            match disposition {
                Disposition::AtTail => {
                    result.level = true;
                    self.activate(knote);
                }
                Disposition::AtTailWithNewEvent => {
                    result.new_event = true;
                    let is_first = self.queue.len() == 0;
                    result.sigio |= self.activate(knote) && is_first;
                }
                Disposition::Disabled => self.disable(knote),
                Disposition::DisabledActive => {
                    self.disable(knote);
                    let _ = knote.state(self).activate();
                }
                Disposition::Spent => self.spend(knote),
                Disposition::Removed => {
                    result.removes = true;
                    self.retire(knote);
                }
                Disposition::NotReady
                | Disposition::Reported
                | Disposition::AtHead
                | Disposition::FilterDecides => {}
            }
        }
        result
    }

    /// Disables a knote after its event was delivered. If the source has fired while the knote was
    /// off the list, the knote is taken off again, and stays active.
    fn disable(&mut self, knote: &Knote) {
        knote.state(self).disable();
        if self.remove_from_lists(knote) {
            knote.state(self).unqueue();
        }
    }

    /// Marks a one-shot knote spent after its event was delivered, unless it was retired meanwhile.
    fn spend(&mut self, knote: &Knote) {
        if knote.is_retired() {
            return;
        }
        // The source may have fired while the knote was off the list.
        self.remove_from_lists(knote);
        knote.state(self).spend();
        self.spent += 1;
    }

    #[cold]
    fn requeue_at_head(&mut self, batch: &[Taken<'_>]) {
        let unreported = batch.iter().rev();
        for taken in unreported.filter(|taken| taken.disposition == Disposition::AtHead) {
            if taken.knote.state(self).activate() {
                self.push_front(taken.knote);
                self.unevaluated += 1;
            }
        }
    }
}
