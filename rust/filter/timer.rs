// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_TIMER` reports expirations of a timer. Each knote has an hrtimer.
//!
//! # BSD says
//!
//! In a change, `data` is a period in milliseconds. In an event, `data` is the number of
//! expirations since the last report. `EV_CLEAR` is always set. With `EV_ONESHOT` the timer expires
//! once. A disabled timer continues to count.
//!
//! FreeBSD adds other units, `NOTE_SECONDS` to `NOTE_NSECONDS`, and `NOTE_ABSTIME`. With
//! `NOTE_ABSTIME`, `data` is a time since the epoch at which the timer expires once. Such a knote
//! does not get `EV_CLEAR` implicitly: without it, the knote stays active after the expiration.
//! `EV_ADD` of an existing timer arms it anew and discards earlier expirations. Any other change
//! leaves the time of expiration as it is.
//!
//! # Linux source
//!
//! Periods use `CLOCK_MONOTONIC`. Absolute times use `CLOCK_REALTIME`, and follow that clock when
//! it is set. With `NOTE_BOOTTIME`, an extension, both use `CLOCK_BOOTTIME`, which continues while
//! the machine is suspended.
//!
//! The timer fires once, in hard interrupt context, and activates the knote. The expirations
//! between that and the report are computed from the clock. After the report, the timer is armed
//! for the next multiple of the period. So a period does not drift. A timer fires at most as often
//! as its events are collected, so a thousand short timers that nobody collects cost nothing. A
//! count always refers to the present period, because the period changes only when the timer is
//! armed anew.
//!
//! # Where we differ
//!
//! A negative period or time, or more than one unit, is `EINVAL` as in FreeBSD. A period of 0
//! counts as one unit (in the specification: one tick). A time that the clock cannot represent
//! becomes the largest time of the clock, so the timer never expires.

use super::check_notes;
use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FilterOps, Readiness, Report}, //
        knote::{KnoteInner, LockedKnote, UnderMutex},
    },
    sys::{memory::user_scratch::UserScratch, time::hrtimer::Clock},
    uapi::*, //
};
use kernel::prelude::*;

/// All notes of the filter.
const NOTES: u32 =
    NOTE_SECONDS | NOTE_MSECONDS | NOTE_USECONDS | NOTE_NSECONDS | NOTE_ABSTIME | NOTE_BOOTTIME;

/// The longest period in nanoseconds, nearly a century and a half. The sum of a longer one and the
/// present time might overflow.
const PERIOD_MAX: i64 = i64::MAX / 2;

/// The filter.
pub(super) struct Timer;

impl FilterOps for Timer {
    const SOURCE_IS_IN_KNOTE: bool = true;
    const HAS_TIMER: bool = true;
    const HANDLES_DELIVERY: bool = true;
    const CHARGE_UNITS: u8 = 2;

    /// # Errors
    ///
    /// `EINVAL` for a negative period or time, for more than one unit, and for an unknown note.
    #[inline(always)]
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        let change = args.change;
        check_notes(change, NOTES)?;
        start(
            &mut args.knote.locked(under_mutex),
            change,
            nanos(change.fflags, change.data)?,
        );
        Ok(Attached {
            attachment: None,
            flags: flags(change),
            readiness: Readiness::No,
        })
    }

    /// With `EV_ADD`, arms the timer anew as if it had just been added. Without `EV_ADD`, the time
    /// of expiration does not change.
    ///
    /// # Errors
    ///
    /// See [`Self::attach`].
    #[inline(never)]
    fn touch(mut locked: LockedKnote<'_>, change: &Kevent) -> Result {
        if !sets_expiration(change) {
            locked.inner.set_udata(change);
            return Ok(());
        }
        check_notes(change, NOTES)?;
        start(&mut locked, change, nanos(change.fflags, change.data)?);
        let own = change.flags & EV_CLEAR;
        locked.inner.flags = locked.inner.flags & !EV_CLEAR | own | flags(change);
        locked.inner.set_params(change);
        Ok(())
    }

    #[inline(always)]
    fn discards_pending(change: &Kevent) -> bool {
        sets_expiration(change)
    }

    #[inline]
    fn event(mut locked: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        let period = repeat_period(locked.inner);
        let timer = locked.timer()?;
        let due = timer.fired()?;
        let data = match period {
            Some(period) => {
                let late = timer.now().saturating_sub(due).max(0);
                late.checked_div(period).unwrap_or(0).saturating_add(1)
            }
            None => 1,
        };
        Some(Report::of(data))
    }

    /// Arms the timer for the first expiration that was not reported. If that time has passed, the
    /// timer fires at once. An absolute time that has been reached stays so, unless `EV_CLEAR` is
    /// set.
    #[inline]
    fn delivered(mut locked: LockedKnote<'_>, event: &Kevent) -> bool {
        let period = repeat_period(locked.inner);
        let Some(timer) = locked.timer() else {
            return false;
        };
        match (period, timer.fired()) {
            (Some(period), Some(due)) => {
                timer.rearm(due.saturating_add(event.data.saturating_mul(period)));
            }
            _ if event.has(EV_CLEAR) => timer.clear_fired(),
            _ => {}
        }
        false
    }
}

/// True if the change sets the time of expiration.
fn sets_expiration(change: &Kevent) -> bool {
    change.has(EV_ADD)
}

/// The flags that the filter sets implicitly.
fn flags(change: &Kevent) -> u16 {
    if change.fflags & NOTE_ABSTIME != 0 {
        0
    } else {
        EV_CLEAR
    }
}

#[inline(always)]
fn start(locked: &mut LockedKnote<'_>, change: &Kevent, nanos: i64) {
    let is_time = change.fflags & NOTE_ABSTIME != 0;
    let clock = if change.fflags & NOTE_BOOTTIME != 0 {
        Clock::Boot
    } else if is_time {
        Clock::Real
    } else {
        Clock::Monotonic
    };
    let at = if is_time {
        nanos
    } else {
        clock.now().saturating_add(period(nanos))
    };
    if let Some(timer) = locked.timer() {
        timer.arm(clock, at);
    }
}

/// The period in nanoseconds, or `None` if the timer expires once.
fn repeat_period(inner: &KnoteInner) -> Option<i64> {
    if inner.fflags & NOTE_ABSTIME != 0 || inner.flags & EV_ONESHOT != 0 {
        return None;
    }
    Some(period(nanos(inner.fflags, inner.data).ok()?))
}

/// Converts `data` to nanoseconds.
fn nanos(fflags: u32, data: i64) -> Result<i64> {
    let unit = match fflags & (NOTE_SECONDS | NOTE_MSECONDS | NOTE_USECONDS | NOTE_NSECONDS) {
        NOTE_SECONDS => 1_000_000_000,
        0 | NOTE_MSECONDS => 1_000_000,
        NOTE_USECONDS => 1_000,
        NOTE_NSECONDS => 1,
        _ => return Err(EINVAL),
    };
    if data < 0 {
        return Err(EINVAL);
    }
    let count = if fflags & NOTE_ABSTIME == 0 {
        data.max(1)
    } else {
        data
    };
    Ok(count.saturating_mul(unit))
}

/// Limits a period to what the clock can represent.
fn period(nanos: i64) -> i64 {
    nanos.min(PERIOD_MAX)
}
