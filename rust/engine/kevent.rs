// SPDX-License-Identifier: GPL-2.0

//! One `kevent()` call: it applies the changes and then collects events.

use super::{
    knotes_guard::KnotesGuard,
    kqueue::{Caller, EventSink, Kqueue},
    sleepers::{Deadline, SleepEnd},
    trace,
    usercopy::{read_event, Buffer, UserEvents}, //
};
use crate::{
    sys::{memory::user_scratch::UserScratch, process::signal},
    uapi::*,
};
use core::{mem::MaybeUninit, slice::from_ref};
use kernel::{
    current,
    prelude::*,
    sync::ArcBorrow, //
};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// How long a call may wait.
#[derive(Clone, Copy)]
enum Timeout {
    Poll,
    Until(Deadline),
}

impl Timeout {
    #[inline(always)]
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

/// The caller's eventlist.
struct EventList {
    list: UserEvents,
    written: usize,
}

/// The number of events whose memory is faulted in at once, which is 64 KiB.
const FAULT_IN_EVENTS: usize = 2048;

/// How often memory is faulted in for the same event. The memory may be inaccessible again when the
/// event is written, because the kernel moves pages, and because a fork makes them read-only until
/// the next fault. The number is limited, because some memory can be faulted in and can never be
/// copied to.
const FAULTS_MAX: u32 = 64;

/// The attempts of one call to fault memory in.
#[derive(Default)]
struct Faults {
    /// The number of events that were written before the event that `count` is for.
    at: usize,
    count: u32,
}

impl Faults {
    /// Faults in the memory of the next events, at most `limit`, for another attempt. The caller
    /// holds no lock.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is no memory, or if too many attempts made no progress. `EINTR` if an
    /// attempt made no progress and a signal is pending.
    fn fault_in(&mut self, events: &EventList, limit: usize) -> Result {
        if self.at != events.written {
            *self = Faults {
                at: events.written,
                count: 0,
            };
        }
        if self.count == FAULTS_MAX {
            return Err(EFAULT);
        }
        if self.count > 0 && current!().signal_pending() {
            return Err(EINTR);
        }
        self.count += 1;
        events.list.fault_in(limit.clamp(1, FAULT_IN_EVENTS))
    }
}

impl EventSink for EventList {
    #[inline]
    fn room(&self) -> usize {
        self.list.len()
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.written == 0
    }

    #[inline]
    fn scratch(&self) -> UserScratch {
        self.list.scratch()
    }

    #[inline(always)]
    fn deliver(&mut self, events: &[Kevent]) -> (usize, Result) {
        if self.list.write(events).is_ok() {
            self.written += events.len();
            return (events.len(), Ok(()));
        }
        self.deliver_some(events)
    }
}

impl EventList {
    /// Reports events one by one, until one cannot be written.
    #[cold]
    fn deliver_some(&mut self, events: &[Kevent]) -> (usize, Result) {
        for (count, event) in events.iter().enumerate() {
            if let Err(error) = self.list.write(from_ref(event)) {
                return (count, Err(error));
            }
            self.written += 1;
        }
        (events.len(), Ok(()))
    }
}

/// Checks a count of the arguments.
fn checked_count(count: u32) -> Result<usize> {
    let count = i32::try_from(count).map_err(|_| EINVAL)?;
    usize::try_from(count).map_err(|_| EINVAL)
}

/// The checked arguments of a call.
pub(crate) struct Request {
    changes: UserEvents,
    events: UserEvents,
    timeout: Timeout,
    scratch: UserScratch,
}

impl Request {
    /// The request of these arguments. The contents of the caller's `scratch` memory may be
    /// overwritten.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown flags, reserved fields that are not zero, a count above `INT_MAX` and
    /// an invalid timeout. `EFAULT` for a list that extends beyond the address space.
    #[inline(always)]
    pub(crate) fn of_args(
        kqueue: &Kqueue,
        args: &KeventArgs,
        scratch: UserScratch,
    ) -> Result<Self> {
        trace::enter(kqueue, args.nchanges, args.nevents);
        if args.flags & !KQUEUE_TIMEOUT != 0 || args.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let nchanges = checked_count(args.nchanges)?;
        let nevents = checked_count(args.nevents)?;
        Ok(Request {
            timeout: Timeout::of(args)?,
            changes: UserEvents::new(args.changelist as usize, nchanges)?,
            events: UserEvents::new(args.eventlist as usize, nevents)?,
            scratch,
        })
    }

    /// A request to collect events. If `waits` is true it waits for them without a timeout;
    /// otherwise it does not wait.
    ///
    /// # Errors
    ///
    /// `EFAULT` for a list that extends beyond the address space.
    #[inline(always)]
    pub(crate) fn collect(kqueue: &Kqueue, list: usize, count: usize, waits: bool) -> Result<Self> {
        trace::enter(kqueue, 0, count as u32);
        let timeout = if waits {
            Timeout::Until(Deadline::Never)
        } else {
            Timeout::Poll
        };
        Ok(Request {
            changes: UserEvents::NONE,
            events: UserEvents::new(list, count)?,
            timeout,
            scratch: UserScratch::NONE,
        })
    }

    /// A request to apply changes.
    ///
    /// # Errors
    ///
    /// `EFAULT` for a list that extends beyond the address space.
    #[inline(always)]
    pub(crate) fn change(kqueue: &Kqueue, list: usize, count: usize) -> Result<Self> {
        trace::enter(kqueue, count as u32, 0);
        Ok(Request {
            changes: UserEvents::new(list, count)?,
            events: UserEvents::NONE,
            timeout: Timeout::Poll,
            scratch: UserScratch::NONE,
        })
    }
}

/// Executes the call. Returns the number of events in the eventlist.
///
/// # Errors
///
/// - The error of the request. Nothing was changed.
/// - `EBADF`: the kqueue belongs to another descriptor table, or was closed.
/// - `EFAULT`: a list is not in the caller's memory. Changes are read 16 at a time, and the changes
///   before those that could not be read are applied. Events that could not be written stay
///   pending. If some events were written, the call succeeds and returns their number.
/// - `EINTR`: a signal arrived before an event. The changes are applied.
/// - The error of a failed change for which there is no room in the eventlist. The changes before
///   it are applied.
#[inline(always)]
pub(crate) fn kevent(kqueue: ArcBorrow<'_, Kqueue>, request: Result<Request>) -> Result<usize> {
    let result = match request {
        Ok(request) => call(kqueue, request),
        Err(error) => Err(error),
    };
    trace::exit(&kqueue, &result);
    result
}

#[inline(always)]
fn call(kqueue: ArcBorrow<'_, Kqueue>, request: Request) -> Result<usize> {
    let Request {
        changes,
        events: list,
        timeout,
        scratch,
    } = request;
    let mut events = EventList { list, written: 0 };
    let caller = Caller {
        fd_table: kqueue.check_usable()?,
        scratch,
    };
    if changes.len() > 0 {
        change_and_collect(kqueue, changes, &mut events, timeout, caller)?;
    } else if events.room() > 0 {
        collect(&kqueue, None, &mut events, timeout, caller)?;
    }
    Ok(events.written)
}

/// The call for one change and no event, which is the most common one besides those that collect
/// events. It does the same as [`kevent`] for such a request.
///
/// # Errors
///
/// Those of [`kevent`], and that of the change.
#[inline(never)]
pub(crate) fn change_one(kqueue: ArcBorrow<'_, Kqueue>, address: usize) -> Result {
    trace::enter(&kqueue, 1, 0);
    let result = apply_one(kqueue, address);
    trace::exit(&kqueue, &result.map(|()| 0));
    result
}

#[inline(always)]
fn apply_one(kqueue: ArcBorrow<'_, Kqueue>, address: usize) -> Result {
    let changes = UserEvents::new(address, 1)?;
    let caller = Caller {
        fd_table: kqueue.check_usable()?,
        scratch: UserScratch::NONE,
    };
    let mut slot = MaybeUninit::uninit();
    let change = read_event(address, &mut slot)?;
    change.clear_system_flags();
    if change.has(EV_RECEIPT | UNKNOWN_FLAGS) {
        // Nothing was done yet. The change is read again.
        let mut events = EventList {
            list: UserEvents::NONE,
            written: 0,
        };
        return change_and_collect(kqueue, changes, &mut events, Timeout::Poll, caller);
    }
    let mut knotes = kqueue.lock_knotes(caller)?;
    kqueue.insert_deferred_knotes(&mut knotes)?;
    Kqueue::register_alone(kqueue, &mut knotes, change, caller)
}

#[inline(never)]
fn change_and_collect(
    kqueue: ArcBorrow<'_, Kqueue>,
    changes: UserEvents,
    events: &mut EventList,
    timeout: Timeout,
    caller: Caller,
) -> Result {
    let mut memory = MaybeUninit::uninit();
    let buffer = Buffer::new_in(&mut memory);
    let held = apply(&kqueue, changes, buffer, events, caller)?;
    if events.written > 0 || events.room() == 0 {
        return Ok(());
    }
    let held = held.map(|held| (held, &*buffer));
    collect(&kqueue, held, events, timeout, caller)
}

/// The receipts and errors of some changes. They are stored in the slots of the changes, from the
/// front.
struct Receipts {
    count: usize,
    /// The error for which there is no room in the eventlist.
    failure: Result,
}

impl Receipts {
    /// Adds a receipt for the change at `at`. False if no further change may be applied.
    #[cold]
    fn add(&mut self, batch: &mut [Kevent], at: usize, result: Result, room: usize) -> bool {
        let Some(change) = batch.get(at).copied() else {
            return false;
        };
        if self.count == room {
            self.failure = result;
            return result.is_ok();
        }
        let errno = result.map_or_else(|error| -i64::from(error.to_errno()), |()| 0);
        if let Some(slot) = batch.get_mut(self.count) {
            *slot = change.into_receipt(errno);
            self.count += 1;
        }
        true
    }

    /// Copies the receipts to the eventlist.
    #[cold]
    fn copy_out(self, batch: &[Kevent], events: &mut EventList) -> Result {
        for receipt in batch.iter().take(self.count) {
            events.list.write_waiting(from_ref(receipt))?;
            events.written += 1;
        }
        self.failure
    }
}

/// Applies all changes, and copies receipts and errors out. If there are none, it returns the guard
/// of the mutex and leaves the last changes in `buffer`, since the scan has to evaluate some of
/// their knotes.
#[inline(always)]
fn apply<'a>(
    kqueue: &'a ArcBorrow<'_, Kqueue>,
    mut changes: UserEvents,
    buffer: &mut Buffer,
    events: &mut EventList,
    caller: Caller,
) -> Result<Option<KnotesGuard<'a>>> {
    loop {
        let batch = changes.read(buffer)?;
        let last = changes.len() == 0;
        // Pending events are collected unless receipts or errors were copied out.
        let will_collect = last && events.written == 0;
        let collect_room = if will_collect { events.room() } else { 0 };

        let mut knotes = kqueue.lock_knotes(caller)?;
        kqueue.insert_deferred_knotes(&mut knotes)?;
        let mut at = 0;
        let mut result = Ok(());
        while let Some(change) = batch.get_mut(at) {
            change.clear_system_flags();
            // One test covers both, because nearly no change has either.
            if change.has(EV_RECEIPT | UNKNOWN_FLAGS) {
                break;
            }
            result = Kqueue::register(*kqueue, &mut knotes, change, caller, collect_room);
            if result.is_err() {
                break;
            }
            at += 1;
        }
        if at == batch.len() {
            if last {
                return Ok(Some(knotes));
            }
            drop(knotes);
        } else {
            apply_with_receipts(
                *kqueue,
                knotes,
                batch,
                at,
                result,
                events,
                collect_room,
                caller,
            )?;
            if last {
                return Ok(None);
            }
        }
        // Two thousand million changes take long. A signal that does not kill the task waits for
        // them.
        if signal::is_being_killed() {
            return Err(EINTR);
        }
    }
}

/// Applies the changes of a batch beginning with the one at `at`, which is the first that needs a
/// receipt, and copies the receipts out. If that change was applied already, `failure` is its
/// error. If `collect_room` is not zero, the knotes of the changes before it may have been
/// activated without running their filters. These filters are run here, since no scan follows.
#[cold]
#[inline(never)]
#[allow(clippy::too_many_arguments)]
fn apply_with_receipts(
    kqueue: ArcBorrow<'_, Kqueue>,
    mut knotes: KnotesGuard<'_>,
    batch: &mut [Kevent],
    mut at: usize,
    mut failure: Result,
    events: &mut EventList,
    collect_room: usize,
    caller: Caller,
) -> Result {
    let room = events.room();
    let mut receipts = Receipts {
        count: 0,
        failure: Ok(()),
    };
    if collect_room > 0 {
        let skipped = batch.iter().take(at);
        skipped.for_each(|change| kqueue.verify(&mut knotes, change));
    }
    while let Some(change) = batch.get_mut(at) {
        let wants_receipt = change.has(EV_RECEIPT);
        let result = match core::mem::replace(&mut failure, Ok(())) {
            Err(error) => Err(error),
            Ok(()) => {
                change.clear_system_flags();
                if change.has_unknown_flags() {
                    Err(EINVAL)
                } else {
                    Kqueue::register(kqueue, &mut knotes, change, caller, 0)
                }
            }
        };
        if (result.is_err() || wants_receipt) && !receipts.add(batch, at, result, room) {
            break;
        }
        at += 1;
    }
    drop(knotes);
    receipts.copy_out(batch, events)
}

/// Reports pending events, or waits for them.
#[inline(always)]
fn collect(
    kqueue: &Kqueue,
    held: Option<(KnotesGuard<'_>, &Buffer)>,
    events: &mut EventList,
    timeout: Timeout,
    caller: Caller,
) -> Result {
    let result = if held.is_some() || kqueue.has_work() {
        kqueue.scan(held, events, caller)
    } else {
        Err(EAGAIN)
    };
    match result {
        Ok(()) => Ok(()),
        Err(error) if error == EAGAIN && matches!(timeout, Timeout::Poll) => Ok(()),
        Err(error) => collect_more(kqueue, error, events, timeout, caller),
    }
}

/// The rest of [`collect`], after a scan that has found nothing (`EAGAIN`) or has failed.
#[inline(never)]
fn collect_more(
    kqueue: &Kqueue,
    mut error: Error,
    events: &mut EventList,
    timeout: Timeout,
    caller: Caller,
) -> Result {
    let mut wakeup = None;
    let mut faults = Faults::default();
    loop {
        if error == EAGAIN && events.is_empty() {
            // The scan after a timeout or a signal was the last one.
            match (wakeup, timeout) {
                (Some(SleepEnd::Timeout), _) | (_, Timeout::Poll) => return Ok(()),
                (Some(SleepEnd::Signal), _) => return Err(EINTR),
                // Activations that lead to no event must delay neither a signal nor the end of the
                // timeout.
                (Some(SleepEnd::Condition), _) if current!().signal_pending() => {
                    wakeup = Some(SleepEnd::Signal);
                }
                (Some(SleepEnd::Condition), Timeout::Until(deadline)) if deadline.has_passed() => {
                    kqueue.wake_next_sleeper();
                    return Ok(());
                }
                (_, Timeout::Until(deadline)) => wakeup = Some(kqueue.wait(deadline)),
            }
        } else {
            let more = if error == EFAULT {
                faults.fault_in(events, kqueue.pending())
            } else {
                Err(error)
            };
            if more.is_err() {
                // The caller gets the events that were written. The next call returns the error.
                return if events.is_empty() { more } else { Ok(()) };
            }
        }
        let result = if events.is_empty() {
            kqueue.scan(None, events, caller)
        } else {
            kqueue.resume_scan(events, caller)
        };
        match result {
            Ok(()) => return Ok(()),
            Err(more) => error = more,
        }
    }
}
