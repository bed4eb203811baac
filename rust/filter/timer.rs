// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_TIMER`: an hrtimer for each knote.
//!
//! # BSD says
//!
//! `data` in is a period in milliseconds. `data` out is how often it has expired since it was
//! last reported; `EV_CLEAR` is always set. With `EV_ONESHOT` it expires once. It counts on while
//! it is disabled.
//!
//! FreeBSD adds other units, `NOTE_SECONDS` to `NOTE_NSECONDS`, and `NOTE_ABSTIME`: `data` is a
//! time since the epoch, at which it expires once. That is so from then on: such a one stays active, without an
//! `EV_CLEAR` of its own. `EV_ADD` of one that exists arms it anew, and what has expired before is forgotten. Any other
//! change leaves its time alone.
//!
//! # Linux source
//!
//! Periods are of `CLOCK_MONOTONIC`, times of `CLOCK_REALTIME`, and follow that when it is set. With `NOTE_BOOTTIME`, an
//! extra, both are of `CLOCK_BOOTTIME`, which goes on while the machine is suspended. The timer fires once, in hard interrupt context, and activates the knote; what goes by until that is
//! reported is counted by arithmetic, and then the timer is set to the next multiple of the period.
//! So a period does not drift, and a thousand short timers that nobody collects cost nothing: a
//! timer fires as often as it is collected, at most. Nothing that is counted outlives the period that it is counted by,
//! since that only changes when the timer is armed anew.
//!
//! # Where we differ
//!
//! A negative period or time and two units are `EINVAL`, as FreeBSD has it. A period of 0 is one of
//! its unit (the specification: one tick). What does not fit the clock is its end: it never comes.

use super::check_notes;
use crate::{
    engine::{
        knote::{Bodies, Body},
        knote_memory::Parts,
        ops::{Attach, Attached, FilterOps, Report}, //
    },
    sys::{memory::scratch::Scratch, time::hrtimer::Clock},
    uapi::*, //
};
use kernel::prelude::*;

/// All notes that there are.
const NOTES: u32 =
    NOTE_SECONDS | NOTE_MSECONDS | NOTE_USECONDS | NOTE_NSECONDS | NOTE_ABSTIME | NOTE_BOOTTIME;

/// A century and a half, in nanoseconds: a longer period would not fit the clock.
const PERIOD_MAX: i64 = i64::MAX / 2;

/// The filter.
pub(super) struct Timer;

impl FilterOps for Timer {
    const IS_OWN: bool = true;
    const HAS_TIMER: bool = true;
    const COUNTS: bool = true;
    const WEIGHT: u8 = 2;

    /// # Errors
    ///
    /// `EINVAL` for a negative period or time, for more than one unit, and for a note that is unknown.
    #[inline(always)]
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        let change = attach.change;
        check_notes(change, NOTES)?;
        start(
            &mut attach.knote.parts(bodies),
            change,
            nanos(change.fflags, change.data)?,
        );
        Ok(Attached {
            source: None,
            flags: flags(change),
            may_be_ready: false,
        })
    }

    /// With `EV_ADD` it is armed anew, as if it had just been added; without, its time stays.
    ///
    /// # Errors
    ///
    /// As for `attach`.
    #[inline(never)]
    fn touch(mut parts: Parts<'_>, change: &Kevent) -> Result {
        if !is_armed_by(change) {
            parts.body.take_udata(change);
            return Ok(());
        }
        check_notes(change, NOTES)?;
        start(&mut parts, change, nanos(change.fflags, change.data)?);
        let own = change.flags & EV_CLEAR;
        parts.body.flags = parts.body.flags & !EV_CLEAR | own | flags(change);
        parts.body.take(change);
        Ok(())
    }

    #[inline(always)]
    fn starts_anew(change: &Kevent) -> bool {
        is_armed_by(change)
    }

    #[inline]
    fn event(mut parts: Parts<'_>, _: Scratch) -> Option<Report> {
        let period = repeats(parts.body);
        let timer = parts.timer()?;
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

    /// What was reported is done with; what has expired since then makes the timer fire at once. (A time that has come stays
    /// so.)
    #[inline]
    fn reported(mut parts: Parts<'_>, event: &Kevent) -> bool {
        let period = repeats(parts.body);
        let Some(timer) = parts.timer() else {
            return false;
        };
        match (period, timer.fired()) {
            (Some(period), Some(due)) => {
                timer.rearm(due.saturating_add(event.data.saturating_mul(period)));
            }
            _ if event.has(EV_CLEAR) => timer.forget(),
            _ => {}
        }
        false
    }
}

/// True for a change that says when it expires.
fn is_armed_by(change: &Kevent) -> bool {
    change.has(EV_ADD)
}

/// What is set in any case.
fn flags(change: &Kevent) -> u16 {
    if change.fflags & NOTE_ABSTIME != 0 {
        0
    } else {
        EV_CLEAR
    }
}

#[inline(always)]
fn start(parts: &mut Parts<'_>, change: &Kevent, nanos: i64) {
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
    if let Some(timer) = parts.timer() {
        timer.arm(clock, at);
    }
}

/// The period, unless it expires once.
fn repeats(body: &Body) -> Option<i64> {
    if body.fflags & NOTE_ABSTIME != 0 || body.flags & EV_ONESHOT != 0 {
        return None;
    }
    Some(period(nanos(body.fflags, body.data).ok()?))
}

/// What `data` is in nanoseconds.
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

/// A period that fits the clock.
fn period(nanos: i64) -> i64 {
    nanos.min(PERIOD_MAX)
}
