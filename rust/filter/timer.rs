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
//! time since the epoch, at which it expires once.
//!
//! # Linux source
//!
//! Periods are of `CLOCK_MONOTONIC`, times of `CLOCK_REALTIME`, and follow that when it is set. The
//! timer fires once, in hard interrupt context, and activates the knote; what goes by until that is
//! reported is counted by arithmetic, and then the timer is set to the next multiple of the period.
//! So a period does not drift, and a thousand short timers that nobody collects cost nothing: a
//! timer fires as often as it is collected, at most.
//!
//! # Where we differ
//!
//! A negative period or time and two units are `EINVAL`, as FreeBSD has it. A period of 0 is one of
//! its unit (the specification: one tick). A new period takes effect at the next expiry, as in the
//! specification; a new time at once. What does not fit the clock is its end: it never comes.

use super::{Attach, Report};
use crate::{
    hook::{
        erased::Erased,
        hrtimer::{self, Clock, KnoteTimer},
        params, //
    },
    knote::{Body, Knote},
    uapi::*, //
};
use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic}, //
};

/// A century and a half, in nanoseconds: a longer period would not fit the clock.
const PERIOD_MAX: i64 = i64::MAX / 2;

static TIMERS: Atomic<usize> = Atomic::new(0);

/// One of the timers that there may be (`kq_calloutmax`).
struct Quota;

impl Quota {
    fn take() -> Result<Self> {
        if TIMERS.fetch_add(1, ordering::Relaxed) >= params::max_timers() {
            TIMERS.fetch_sub(1, ordering::Relaxed);
            return Err(ENOMEM);
        }
        Ok(Quota)
    }

    /// That of one that is about to go.
    fn take_over() -> Self {
        TIMERS.fetch_add(1, ordering::Relaxed);
        Quota
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        TIMERS.fetch_sub(1, ordering::Relaxed);
    }
}

/// What a timer does. Times are nanoseconds of its clock.
#[derive(Clone, Copy)]
enum Mode {
    /// Fires each `period`, or once.
    Interval {
        /// When the first expiry is, or was, that is not reported yet.
        due: i64,
        period: i64,
        oneshot: bool,
    },
    /// Fires once, at that time.
    Alarm,
}

/// A timer.
///
/// # Invariants
///
/// Until a oneshot was reported: the hrtimer is set to `due`, or has fired and the knote is active
/// or in the hands of a scan.
#[pin_data]
pub(super) struct Timer {
    // In this order: the timer is cancelled before its place is given to another.
    #[pin]
    timer: KnoteTimer,
    mode: Mode,
    _quota: Quota,
}

impl Timer {
    /// # Errors
    ///
    /// `EINVAL` for a negative period or time, and for more than one unit; `ENOMEM` also if there
    /// are too many timers.
    pub(super) fn attach(attach: &Attach<'_>) -> Result<Erased> {
        let quota = Quota::take()?;
        let (mode, at) = mode(attach.change, attach.change.flags)?;
        let mut timer = Self::make(attach.knote, mode, quota)?;
        if let Some(timer) = timer.as_mut::<Timer>() {
            timer.set(at);
        }
        Ok(timer)
    }

    fn make(knote: &Knote, mode: Mode, quota: Quota) -> Result<Erased> {
        let clock = match mode {
            Mode::Interval { .. } => Clock::Monotonic,
            Mode::Alarm => Clock::Real,
        };
        let timer = pin_init!(Timer {
            timer <- KnoteTimer::new(knote, clock),
            mode,
            _quota: quota,
        });
        Erased::new::<Timer, core::convert::Infallible>(timer, GFP_KERNEL_ACCOUNT)
    }

    fn of(body: &mut Body) -> Option<Pin<&mut Self>> {
        body.source.as_mut()?.as_mut::<Timer>()
    }

    fn set(self: Pin<&mut Self>, at: i64) {
        self.project().timer.as_ref().set(at);
    }

    pub(super) fn touch(body: &mut Body, change: &Kevent) -> Result {
        let (new, at) = mode(change, body.flags)?;
        let timer = Self::of(body).ok_or(ENOENT)?.project();
        if let (Mode::Interval { period, .. }, Mode::Interval { period: new, .. }) =
            (&mut *timer.mode, new)
        {
            *period = new;
            return Ok(());
        }
        // Another clock: another timer, and the old one is cancelled.
        let quota = Quota::take_over();
        let mut other = Self::make(timer.timer.knote(), new, quota)?;
        if let Some(timer) = other.as_mut::<Timer>() {
            timer.set(at);
        }
        body.source = Some(other);
        Ok(())
    }

    #[inline]
    pub(super) fn event(body: &mut Body) -> Option<Report> {
        let timer = Self::of(body)?;
        if !timer.timer.has_fired() {
            return None;
        }
        let data = match timer.mode {
            Mode::Interval {
                due,
                period,
                oneshot: false,
            } => {
                let late = hrtimer::now().saturating_sub(due).max(0);
                late.checked_div(period).unwrap_or(0).saturating_add(1)
            }
            _ => 1,
        };
        Some(Report {
            data,
            ..Report::default()
        })
    }

    /// What was reported is done with; what has expired since then makes the timer fire at once.
    #[inline]
    pub(super) fn reported(body: &mut Body, event: &Kevent) {
        let Some(timer) = Self::of(body) else { return };
        let timer = timer.project();
        match timer.mode {
            Mode::Interval { oneshot: true, .. } => {}
            Mode::Interval { due, period, .. } => {
                let next = due.saturating_add(event.data.saturating_mul(*period));
                *due = next;
                timer.timer.as_ref().set(next);
            }
            Mode::Alarm => timer.timer.as_ref().forget(),
        }
    }
}

/// What a change asks of a knote with those flags, and when that is for the first time.
fn mode(change: &Kevent, flags: u16) -> Result<(Mode, i64)> {
    let nanos = nanos(change)?;
    if change.fflags & NOTE_ABSTIME != 0 {
        return Ok((Mode::Alarm, nanos));
    }
    let period = period(nanos);
    let due = hrtimer::now().saturating_add(period);
    let oneshot = flags & EV_ONESHOT != 0;
    Ok((
        Mode::Interval {
            due,
            period,
            oneshot,
        },
        due,
    ))
}

/// The `data` of a change in nanoseconds.
fn nanos(change: &Kevent) -> Result<i64> {
    let unit = match change.fflags & (NOTE_SECONDS | NOTE_MSECONDS | NOTE_USECONDS | NOTE_NSECONDS)
    {
        NOTE_SECONDS => 1_000_000_000,
        0 | NOTE_MSECONDS => 1_000_000,
        NOTE_USECONDS => 1_000,
        NOTE_NSECONDS => 1,
        _ => return Err(EINVAL),
    };
    if change.data < 0 {
        return Err(EINVAL);
    }
    let count = if change.fflags & NOTE_ABSTIME == 0 {
        change.data.max(1)
    } else {
        change.data
    };
    Ok(count.saturating_mul(unit))
}

/// A period that fits the clock.
fn period(nanos: i64) -> i64 {
    nanos.min(PERIOD_MAX)
}
