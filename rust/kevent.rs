// SPDX-License-Identifier: GPL-2.0

//! One `kevent()` call: changes in, then events out.

use crate::{
    hook::{
        signal,
        trace,
        usercopy::{Scratch, UserEvents},
        waitqueue::{Deadline, Wakeup}, //
    },
    kqueue::{EventSink, Kqueue},
    uapi::*, //
};
use core::slice::from_ref;
use kernel::{
    current,
    prelude::*,
    sync::ArcBorrow,
    uaccess::{UserPtr, UserSlice, UserSliceReader}, //
};

/// How many changes are read at once (the specification's `KQ_NEVENTS`).
const BATCH: usize = 16;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// How long a call may wait.
#[derive(Clone, Copy)]
enum Timeout {
    Poll,
    Until(Deadline),
}

impl Timeout {
    fn of(args: &KeventArgs) -> Result<Self> {
        if args.flags & KQUEUE_TIMEOUT == 0 {
            return Ok(Timeout::Until(Deadline::Never));
        }
        if args.tv_sec < 0 || !(0..NANOS_PER_SECOND).contains(&args.tv_nsec) {
            return Err(EINVAL);
        }
        let nanos = args.tv_sec.saturating_mul(NANOS_PER_SECOND);
        Ok(match nanos.saturating_add(args.tv_nsec) {
            0 => Timeout::Poll,
            nanos => Timeout::Until(Deadline::after(nanos)),
        })
    }
}

/// How many events' memory is faulted in at once: 64 KiB.
const FAULT_IN: usize = 2048;

/// The caller's eventlist.
struct EventList {
    list: UserEvents,
    written: usize,
}

impl EventList {
    /// Brings in the memory that the next events go to, not under a lock, to try again.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is none; `EINTR`, since what was brought in may be gone again, however
    /// often.
    fn fault_in(&self) -> Result {
        self.list.fault_in(self.written, FAULT_IN)?;
        if current!().signal_pending() {
            return Err(EINTR);
        }
        Ok(())
    }
}

impl EventSink for EventList {
    fn room(&self) -> usize {
        self.list.len() - self.written
    }

    fn report(&mut self, events: &[Kevent]) -> (usize, Result) {
        if self.list.write(self.written, events).is_ok() {
            self.written += events.len();
            return (events.len(), Ok(()));
        }
        // As many as there is memory for.
        for (count, event) in events.iter().enumerate() {
            if let Err(error) = self.list.write(self.written, from_ref(event)) {
                return (count, Err(error));
            }
            self.written += 1;
        }
        (events.len(), Ok(()))
    }
}

/// A count among the arguments.
fn count(count: u32) -> Result<usize> {
    let count = i32::try_from(count).map_err(|_| EINVAL)?;
    usize::try_from(count).map_err(|_| EINVAL)
}

/// The call. Gives the number of events in the eventlist. What is in the caller's `scratch` memory
/// is lost.
///
/// # Errors
///
/// - `EBADF`: the kqueue belongs to another descriptor table, or was closed.
/// - `EINVAL`: unknown flags, non-zero reserved fields, a count above `INT_MAX`, a bad timeout;
///   nothing was changed.
/// - `EFAULT`: the arguments or lists are not in the caller's memory. Changes are read 16 at a
///   time: those before the ones that could not be read are applied. Events that could not be
///   written stay pending.
/// - `EINTR`: a signal came before an event; the changes are applied.
/// - That of a failed change for which there is no room in the eventlist; the ones before it are
///   applied.
pub(crate) fn kevent(
    kqueue: ArcBorrow<'_, Kqueue>,
    args: &KeventArgs,
    scratch: Scratch,
) -> Result<usize> {
    trace::enter(&kqueue, args.nchanges, args.nevents);
    let result = call(kqueue, args, scratch);
    trace::exit(&kqueue, &result);
    result
}

fn call(kqueue: ArcBorrow<'_, Kqueue>, args: &KeventArgs, scratch: Scratch) -> Result<usize> {
    if args.flags & !KQUEUE_TIMEOUT != 0 || args.reserved != [0; 2] {
        return Err(EINVAL);
    }
    let nchanges = count(args.nchanges)?;
    let mut events = EventList {
        list: UserEvents::new(args.eventlist as usize, count(args.nevents)?),
        written: 0,
    };
    let timeout = Timeout::of(args)?;
    kqueue.check_usable()?;

    let bytes = nchanges.saturating_mul(size_of::<Kevent>());
    let changes = UserSlice::new(UserPtr::from_addr(args.changelist as usize), bytes).reader();
    apply(kqueue, changes, nchanges, &mut events, scratch)?;
    if events.written > 0 || events.room() == 0 {
        return Ok(events.written);
    }
    collect(&kqueue, &mut events, timeout, scratch)?;
    Ok(events.written)
}

/// Applies all changes, and posts receipts and errors.
fn apply(
    kqueue: ArcBorrow<'_, Kqueue>,
    mut changes: UserSliceReader,
    mut left: usize,
    events: &mut EventList,
    scratch: Scratch,
) -> Result {
    if left == 0 {
        return Ok(());
    }
    let mut batch = [Kevent::default(); BATCH];
    while left > 0 {
        // Two thousand million changes take long; a signal that does not kill waits for them.
        if signal::is_being_killed() {
            return Err(EINTR);
        }
        let count = left.min(BATCH);
        left -= count;
        for slot in batch.iter_mut().take(count) {
            *slot = changes.read::<Kevent>()?.without_system_flags();
        }

        // Receipts take the places of the changes that they answer, from the front.
        let mut receipts = 0;
        let mut failure = Ok(());
        {
            let mut table = kqueue.enter(scratch)?;
            for i in 0..count {
                let Some(change) = batch.get(i).copied() else {
                    break;
                };
                let result = Kqueue::register(kqueue, &mut table, &change);
                if result.is_ok() && !change.has(EV_RECEIPT) {
                    continue;
                }
                if receipts == events.room() {
                    failure = result;
                    if failure.is_err() {
                        break;
                    }
                    continue;
                }
                let errno = result.map_or_else(|error| -i64::from(error.to_errno()), |()| 0);
                if let Some(slot) = batch.get_mut(receipts) {
                    *slot = change.into_receipt(errno);
                    receipts += 1;
                }
            }
        }
        for receipt in batch.iter().take(receipts) {
            while events.report(from_ref(receipt)).1.is_err() {
                events.fault_in()?;
            }
        }
        failure?;
    }
    Ok(())
}

/// Reports what is pending, or waits for it.
fn collect(kqueue: &Kqueue, events: &mut EventList, timeout: Timeout, scratch: Scratch) -> Result {
    let mut wakeup = Wakeup::Condition;
    loop {
        let result = kqueue.scan(events, scratch);
        // A fault after some events: those are the caller's; the next call sees the fault.
        if events.written > 0 {
            return Ok(());
        }
        match result {
            Ok(()) => {}
            Err(error) if error == EFAULT => {
                events.fault_in()?;
                continue;
            }
            Err(error) => return Err(error),
        }
        // The scan was the last look at the events after a time-out or a signal.
        match (wakeup, timeout) {
            (Wakeup::Timeout, _) | (_, Timeout::Poll) => return Ok(()),
            (Wakeup::Signal, _) => return Err(EINTR),
            (Wakeup::Condition, Timeout::Until(deadline)) => {
                // Events that come to nothing must not keep a signal from us.
                wakeup = if current!().signal_pending() {
                    Wakeup::Signal
                } else {
                    kqueue.wait(deadline)
                };
            }
        }
        kqueue.check_usable()?;
    }
}
