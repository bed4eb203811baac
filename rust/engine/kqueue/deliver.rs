// SPDX-License-Identifier: GPL-2.0

//! Delivery of the events that were evaluated under the spin lock, and taking back those that could not be copied out.

use super::{batch::BATCH, scan::EventSink, wakeup::Wake, Kqueue};
use crate::{
    engine::{ops::Filter, table::Knotes, trace, usercopy::Buffer},
    sys::memory::arrayvec::ArrayVec,
    uapi::*, //
};
use kernel::prelude::*;

/// What there is to report of them.
pub(super) type Events = ArrayVec<Kevent, BATCH>;

impl Kqueue {
    /// Reports events that were told at a glance, which was one at `all` that was pending. With the
    /// changes of the call, if any, if it was the `last` one of the scan.
    #[inline(always)]
    pub(super) fn deliver(
        &self,
        knotes: &mut Knotes,
        events: &Events,
        last: Option<Option<&Buffer>>,
        all: bool,
        sink: &mut impl EventSink,
    ) -> Result {
        let (delivered, result) = sink.report(events);
        if trace::wants_deliveries() {
            self.trace_deliveries(events, delivered);
        }
        if delivered < events.len() {
            self.take_back(knotes, events.iter().skip(delivered), all);
            if let Some(changes) = last {
                self.stop_short(knotes, changes, sink);
            }
        }
        result
    }

    /// Makes pending again what was told at a glance and has not reached the program: first, and in its
    /// order. There are no others to see if `all` that was pending had been looked at.
    #[cold]
    fn take_back<'a>(
        &self,
        knotes: &mut Knotes,
        undelivered: impl DoubleEndedIterator<Item = &'a Kevent>,
        all: bool,
    ) {
        let Knotes { table, bodies } = knotes;
        if all {
            let mut ready = self.locks.ready.lock();
            ready.unseen = 0;
            ready.retired_during_scan = false;
        }
        let mut wake = Wake::default();
        for event in undelivered.rev() {
            let filter = Filter::from_raw(event.filter);
            let Some(knote) = filter.and_then(|filter| table.find(event.ident, filter)) else {
                continue;
            };
            knote.filter().undelivered(knote.body_mut(bodies), event);
            let mut ready = self.locks.ready.lock();
            let mut due = ready.remove(knote);
            let state = knote.state(&mut ready);
            // One that was dispatched is disabled by now.
            due |= state.change(true, false, event.has(EV_DISPATCH));
            if due {
                ready.push_front(knote);
                ready.unseen += 1;
                self.maybe_pending.set(true);
                wake.sleeper |= !ready.sleepers.is_empty();
                wake.pollers |= ready.has_pollers;
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
