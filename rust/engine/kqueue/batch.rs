// SPDX-License-Identifier: GPL-2.0

//! The part of a scan for knotes whose filters may sleep.
//!
//! A batch is taken off the list, evaluated without the spin lock, reported, and put back as each
//! knote's [`Disposition`] says. A source that fires meanwhile queues its knote again, and nothing
//! is lost.

use super::{
    deliver::Events,
    scan::{EventSink, WALK_MAX},
    wakeup::Wake, //
    Kqueue,
    Ready,
    ReadyGuard,
};
use crate::{
    engine::{
        knote::{Knote, KnoteAccess},
        ops::Filter,
        state::Take,
        table::Knotes,
        trace,
    },
    sys::{
        file::fdtable::{CurrentFiles, CurrentTable},
        memory::arrayvec::ArrayVec,
    },
    uapi::*, //
};
use kernel::{
    prelude::*,
    sync::{aref::ARef, rcu},
};

/// How many events a scan reports at once, and how many knotes it takes off the list: in one
/// critical section of the spin lock, for one copy to the program.
pub(super) const BATCH_SIZE: usize = 16;

/// What becomes of a knote that a scan took off the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disposition {
    /// It has nothing to report, and waits until its source fires.
    NotReady,
    /// It was reported, and waits until its source fires.
    Idle,
    /// It is still pending: it goes to the tail.
    AtTail,
    /// It goes to the tail with something new to report.
    AtTailFresh,
    /// It could not be reported: it goes to the head.
    AtHead,
    /// It waits to be enabled.
    Disabled,
    /// It waits to be enabled, and has something to report already.
    DisabledActive,
    /// Its filter decides, after the event was delivered.
    FilterDecides,
    /// It is removed: its descriptor was closed or refers to another file, or its report has ended
    /// it.
    Removed,
}

/// A knote that a scan has taken off the list.
struct Taken {
    knote: ARef<Knote>,
    disposition: Disposition,
}

/// The knotes that were taken off at once, in the order of the list.
type Batch = ArrayVec<Taken, BATCH_SIZE>;

/// Why knotes of a batch are pending again: for what was just reported, or for something new.
#[derive(Clone, Copy, Default)]
struct Requeued {
    level: bool,
    fresh: bool,
    /// What is new is all that is pending.
    sigio: bool,
}

impl Kqueue {
    /// Takes a batch off the list, and reports the knotes whose condition holds. Returns whether
    /// there are surely no others to evaluate.
    #[inline(never)]
    pub(super) fn scan_batch(
        &self,
        mut ready: ReadyGuard<'_>,
        knotes: &mut Knotes,
        table: CurrentTable,
        sink: &mut impl EventSink,
        wake: &mut Wake,
    ) -> (bool, Result) {
        let mut batch = Batch::new();
        ready.take_batch(&knotes.access, table, sink.room(), &mut batch);
        drop(ready);
        knotes.access.scratch = sink.scratch();
        let result = self.report(knotes, &mut batch, sink);
        let mut ready = self.locks.ready.lock();
        let requeued = ready.requeue(&batch, result.is_err());
        wake.pollers |= requeued.fresh && ready.has_pollers;
        wake.sigio |= requeued.sigio && ready.has_pollers;
        let pending = ready.pending() > 0;
        self.maybe_pending.set(pending);
        let shared = requeued.fresh || requeued.level || (pending && sink.room() == 0);
        wake.sleeper |= shared && !ready.sleepers.is_empty();
        let done = ready.unevaluated == 0 && !ready.retired_during_scan;
        wake.sigio |= done && pending && ready.unsignalled;
        drop(ready);
        (done, result)
    }

    /// Reports the knotes of the batch whose condition holds, and decides what becomes of each.
    #[inline]
    fn report(&self, knotes: &mut Knotes, batch: &mut Batch, sink: &mut impl EventSink) -> Result {
        let mut events = Events::new();
        let mut filter_decides = false;
        let mut free = events.free_slots(BATCH_SIZE);
        for taken in batch.iter_mut() {
            let knote = &*taken.knote;
            if taken.disposition == Disposition::Removed {
                self.remove(knotes, knote);
                continue;
            }
            let Some(event) = knote.evaluate(&mut knotes.access) else {
                continue;
            };
            // A close has ended it in the meantime.
            if knote.is_retired() {
                continue;
            }
            taken.disposition = Self::disposition_after(knote.filter(), event.flags);
            filter_decides |= taken.disposition == Disposition::FilterDecides;
            // There is room.
            free.push(event);
        }
        drop(free);
        if events.is_empty() {
            return Ok(());
        }
        let (delivered, result) = sink.report(&events);
        if filter_decides || delivered < events.len() {
            self.finish_delivery(knotes, batch, &events, delivered);
        }
        if trace::is_deliver_enabled() {
            self.trace_deliveries(&events, delivered);
        }
        result
    }

    /// What becomes of a knote, once its event with those flags was delivered.
    #[inline]
    fn disposition_after(filter: Filter, flags: u16) -> Disposition {
        if filter.handles_delivery() {
            return Disposition::FilterDecides;
        }
        match flags & (EV_ONESHOT | EV_CLEAR | EV_DISPATCH) {
            0 => Disposition::AtTail,
            EV_CLEAR => Disposition::Idle,
            flags if flags & EV_ONESHOT == 0 => Disposition::Disabled,
            _ => Disposition::FilterDecides,
        }
    }

    /// The first `delivered` events were delivered: tells the filters, and decides about the knotes
    /// for which the filter decides.
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
            // Knotes without an event.
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
                .delivered(&mut knote.locked(&mut knotes.access), event);
            taken.disposition = if event.has(EV_DISPATCH) && more {
                Disposition::DisabledActive
            } else if event.has(EV_DISPATCH) {
                Disposition::Disabled
            } else if more {
                Disposition::AtTailFresh
            } else if event.has(EV_CLEAR) {
                Disposition::Idle
            } else {
                Disposition::AtTail
            };
        }
    }
}

impl Ready {
    /// Takes the next knotes to evaluate off the list, at most `room`. They count as in flight from
    /// now on.
    #[inline]
    fn take_batch(
        &mut self,
        access: &KnoteAccess,
        table: CurrentTable,
        room: usize,
        batch: &mut Batch,
    ) {
        let rcu = rcu::read_lock();
        let files = CurrentFiles::of(table, &rcu);
        for _ in 0..self.unevaluated.min(WALK_MAX) {
            if batch.len() == room.min(BATCH_SIZE) {
                break;
            }
            let Some(knote) = self.pop_front() else {
                break;
            };
            self.unevaluated -= 1;
            if knote.state(self).take() == Take::Skip {
                // The table has a reference too, so this is not the last one.
                drop(knote);
                continue;
            }
            let bound = match knote.file(access) {
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

    /// Requeues the knotes of a batch, or not, as was decided. One sleeper is to be woken if some
    /// stay pending: other tasks can collect level-triggered events too, and each wakes the next.
    /// Pollers know of level-triggered events already. They are notified of what is new, and of
    /// what could not be reported if the report has `failed`.
    #[inline]
    fn requeue(&mut self, batch: &[Taken], failed: bool) -> Requeued {
        let mut result = Requeued::default();
        self.in_flight -= batch.len();
        if failed {
            self.requeue_at_head(batch);
            result.fresh = true;
        }
        for Taken { knote, disposition } in batch {
            if *disposition == Disposition::Removed {
                continue;
            }
            let state = knote.state(self);
            let due = match disposition {
                Disposition::AtTail => {
                    result.level = true;
                    state.activate()
                }
                Disposition::AtTailFresh => {
                    result.fresh = true;
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
                | Disposition::Idle
                | Disposition::Removed
                | Disposition::AtHead
                | Disposition::FilterDecides => false,
            };
            if knote.state(self).is_disabled() && self.remove(knote) {
                // Its source has fired while it was off the list. A disabled knote is not pending.
                let _ = knote.state(self).take();
            }
            if due {
                result.sigio |= *disposition == Disposition::AtTailFresh && self.queue.len() == 0;
                self.push_back(knote);
            }
        }
        result
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
