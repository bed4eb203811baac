// SPDX-License-Identifier: GPL-2.0

//! Delivery of events that were evaluated under the spin lock. Knotes whose events could not be
//! copied out are requeued.

use super::{batch::BATCH_SIZE, scan::EventSink, wakeup::ScanWakeups, Kqueue};
use crate::{
    engine::{filter_ops::Filter, knote_table::Knotes, trace, usercopy::Buffer},
    sys::memory::arrayvec::ArrayVec,
    uapi::*, //
};
use kernel::prelude::*;

/// The events of a walk or of a batch.
pub(super) type Events = ArrayVec<Kevent, BATCH_SIZE>;

impl Kqueue {
    /// Delivers the events of a walk. `all` is true if the walk has evaluated all pending knotes.
    /// `last` is set if this is the last part of the scan; it contains the changes of the call, if
    /// any.
    #[inline(always)]
    pub(super) fn deliver(
        &self,
        knotes: &mut Knotes,
        events: &Events,
        last: Option<Option<&Buffer>>,
        all: bool,
        sink: &mut impl EventSink,
    ) -> Result {
        let (delivered, result) = sink.deliver(events);
        if trace::is_deliver_enabled() {
            self.trace_deliveries(events, delivered);
        }
        if delivered < events.len() {
            self.requeue_undelivered(knotes, events.iter().skip(delivered), all);
            if let Some(changes) = last {
                self.end_early(knotes, changes, sink);
            }
        }
        result
    }

    /// Requeues the knotes of events that were not delivered, at the head of the list and in their
    /// order. If `all` is true, these are the only knotes that the scan has not yet evaluated or
    /// reported.
    #[cold]
    fn requeue_undelivered<'a>(
        &self,
        knotes: &mut Knotes,
        undelivered: impl DoubleEndedIterator<Item = &'a Kevent>,
        all: bool,
    ) {
        let Knotes { table, under_mutex } = knotes;
        if all {
            let mut ready = self.locks.ready.lock();
            ready.unevaluated = 0;
            ready.dequeued_during_scan = false;
        }
        let mut wake = ScanWakeups::default();
        for event in undelivered.rev() {
            let filter = Filter::from_raw(event.filter);
            let Some(knote) = filter.and_then(|filter| table.find(event.ident, filter)) else {
                continue;
            };
            knote
                .filter()
                .undelivered(knote.inner_mut(under_mutex), event);
            let mut ready = self.locks.ready.lock();
            let mut due = ready.remove_from_lists(knote);
            ready.renew(knote);
            let state = knote.state(&mut ready);
            // A knote with `EV_DISPATCH` was disabled when it was evaluated, and is enabled again.
            due |= state.apply_change(true, false, event.has(EV_DISPATCH));
            if due {
                ready.push_front(knote);
                ready.unevaluated += 1;
                self.maybe_pending.set(true);
                wake.sleeper |= !ready.sleepers.is_empty();
                wake.pollers |= ready.was_polled;
            }
        }
        self.wake(wake);
    }

    #[cold]
    pub(super) fn trace_deliveries(&self, events: &Events, delivered: usize) {
        for event in events.iter().take(delivered) {
            trace::deliver(self, event);
        }
    }
}
