// SPDX-License-Identifier: GPL-2.0

//! The part of a scan for knotes whose filters may sleep.
//!
//! A scan takes a batch off the ready list, evaluates it without the spin lock, and reports it.
//! Then it requeues or removes each knote according to its [`Disposition`]. A source that fires
//! meanwhile queues its knote again, so no event is lost.

use super::{
    deliver::Events,
    scan::{EventSink, WALK_MAX},
    wakeup::ScanWakeups, //
    Kqueue,
    ReadyGuard,
    ReadyState,
};
use crate::{
    engine::{
        filter_ops::Filter,
        knote::{Knote, UnderMutex},
        knote_table::Knotes,
        trace,
    },
    sys::{
        file::fdtable::{CurrentFdTable, CurrentFiles},
        memory::arrayvec::ArrayVec,
    },
    uapi::*, //
};
use core::mem::MaybeUninit;
use kernel::{
    prelude::*,
    sync::{aref::ARef, rcu},
};

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

/// A knote that a scan has taken off the list.
struct Taken {
    knote: ARef<Knote>,
    disposition: Disposition,
}

/// The knotes that were taken off together, in the order of the list.
type Batch = ArrayVec<Taken, BATCH_SIZE>;

/// The reasons why knotes of a batch are pending again: the event that was just reported, or a new
/// one.
#[derive(Clone, Copy, Default)]
struct Requeued {
    level: bool,
    new_event: bool,
    /// No knote was pending before the new ones.
    sigio: bool,
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
        let mut batch = Batch::new();
        ready.take_batch(&knotes.under_mutex, fd_table, sink.room(), &mut batch);
        drop(ready);
        knotes.under_mutex.scratch = sink.scratch();
        let result = self.report(knotes, &mut batch, sink);
        let mut ready = self.locks.ready.lock();
        let requeued = ready.requeue(&batch, result.is_err());
        wake.pollers |= requeued.new_event && ready.was_polled;
        wake.sigio |= requeued.sigio && ready.was_polled;
        let pending = ready.pending() > 0;
        self.maybe_pending.set(pending);
        let shared = requeued.new_event || requeued.level || (pending && sink.room() == 0);
        wake.sleeper |= shared && !ready.sleepers.is_empty();
        let done = ready.unevaluated == 0 && !ready.dequeued_during_scan;
        wake.sigio |= done && pending && ready.sigio_skipped;
        drop(ready);
        (done, result)
    }

    /// Reports the knotes of the batch whose condition holds, and determines the disposition of
    /// each.
    #[inline]
    fn report(&self, knotes: &mut Knotes, batch: &mut Batch, sink: &mut impl EventSink) -> Result {
        let mut memory = MaybeUninit::uninit();
        let events = Events::new_in(&mut memory);
        let mut filter_decides = false;
        let mut free = events.free_slots(BATCH_SIZE);
        for taken in batch.iter_mut() {
            let knote = &*taken.knote;
            if taken.disposition == Disposition::Removed {
                self.remove(knotes, knote);
                continue;
            }
            let Some(event) = knote.evaluate(&mut knotes.under_mutex) else {
                continue;
            };
            // A close has ended the knote meanwhile.
            if knote.is_retired() {
                continue;
            }
            taken.disposition = match Self::disposition_after(knote.filter(), event.flags) {
                Disposition::FilterDecides if event.has(EV_ONESHOT) => {
                    let inner = knote.inner(&knotes.under_mutex);
                    if knote.filter().can_be_renewed(inner) {
                        Disposition::Spent
                    } else {
                        Disposition::FilterDecides
                    }
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
            self.finish_delivery(knotes, batch, events, delivered);
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
        &self,
        knotes: &mut Knotes,
        batch: &mut Batch,
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
            let knote = &*taken.knote;
            if event.has(EV_ONESHOT) {
                self.remove(knotes, knote);
                taken.disposition = Disposition::Removed;
                continue;
            }
            let more = knote
                .filter()
                .delivered(&mut knote.locked(&mut knotes.under_mutex), event);
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

impl ReadyState {
    /// Takes the next knotes off the list, at most `room` of them. They count as in flight from now
    /// on.
    #[inline]
    fn take_batch(
        &mut self,
        under_mutex: &UnderMutex,
        fd_table: CurrentFdTable,
        room: usize,
        batch: &mut Batch,
    ) {
        let rcu = rcu::read_lock();
        let files = CurrentFiles::of(fd_table, &rcu);
        for _ in 0..self.unevaluated.min(WALK_MAX) {
            if batch.len() == room.min(BATCH_SIZE) {
                break;
            }
            let Some(knote) = self.pop_front() else {
                break;
            };
            self.unevaluated -= 1;
            knote.state(self).take();
            let bound = match knote.file(under_mutex) {
                Some(file) => files.maps(knote.ident(), file),
                None => true,
            };
            let disposition = if bound {
                Disposition::NotReady
            } else {
                Disposition::Removed
            };
            // There is room.
            let _ = batch.push(Taken { knote, disposition });
        }
        self.in_flight += batch.len();
    }

    /// Requeues the knotes of a batch according to their dispositions. If some stay pending, the
    /// caller wakes one sleeper, because other tasks can collect level-triggered events too, and
    /// each of them wakes the next. Pollers have been notified of level-triggered events already.
    /// They are notified of new events, and of events that could not be copied out if the report
    /// has `failed`.
    #[inline]
    fn requeue(&mut self, batch: &[Taken], failed: bool) -> Requeued {
        let mut result = Requeued::default();
        self.in_flight -= batch.len();
        if failed {
            self.requeue_at_head(batch);
            result.new_event = true;
        }
        for Taken { knote, disposition } in batch {
            match disposition {
                Disposition::Removed => continue,
                Disposition::Spent => {
                    self.spend(knote);
                    continue;
                }
                _ => {}
            }
            let state = knote.state(self);
            let due = match disposition {
                Disposition::AtTail => {
                    result.level = true;
                    state.activate()
                }
                Disposition::AtTailWithNewEvent => {
                    result.new_event = true;
                    state.activate()
                }
                Disposition::Disabled => {
                    state.disable();
                    false
                }
                Disposition::DisabledActive => {
                    state.disable();
                    state.activate()
                }
                Disposition::NotReady
                | Disposition::Reported
                | Disposition::Removed
                | Disposition::Spent
                | Disposition::AtHead
                | Disposition::FilterDecides => false,
            };
            if knote.state(self).is_disabled() && self.remove_from_lists(knote) {
                // The source has fired while the knote was off the list. A disabled knote is not
                // pending.
                knote.state(self).unqueue();
            }
            if due {
                result.sigio |=
                    *disposition == Disposition::AtTailWithNewEvent && self.queue.len() == 0;
                self.push_back(knote);
            }
        }
        result
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
    fn requeue_at_head(&mut self, batch: &[Taken]) {
        let unreported = batch.iter().rev();
        for taken in unreported.filter(|taken| taken.disposition == Disposition::AtHead) {
            if taken.knote.state(self).activate() {
                self.push_front(&taken.knote);
                self.unevaluated += 1;
            }
        }
    }
}
