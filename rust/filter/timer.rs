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
    hook::params,
    knote::Knote,
    uapi::*, //
};
use kernel::{
    impl_has_hr_timer,
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        Arc,
        ArcBorrow, //
    },
    time::{
        hrtimer::{
            AbsoluteMode,
            ArcHrTimerHandle,
            HrTimer,
            HrTimerCallback,
            HrTimerCallbackContext,
            HrTimerExpires,
            HrTimerPointer,
            HrTimerRestart,
            RelativeMode, //
        },
        Delta,
        Instant,
        Monotonic,
        RealTime, //
    }, //
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
}

impl Drop for Quota {
    fn drop(&mut self) {
        TIMERS.fetch_sub(1, ordering::Relaxed);
    }
}

/// A timer that runs for a period; shared with its callback.
#[pin_data]
struct Interval {
    #[pin]
    timer: HrTimer<Self>,
    knote: Arc<Knote>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Interval {
        mode: RelativeMode<Monotonic>, field: self.timer
    }
}

impl HrTimerCallback for Interval {
    type Pointer<'a> = Arc<Self>;

    fn run(this: ArcBorrow<'_, Self>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        Knote::activate(this.knote.as_arc_borrow());
        HrTimerRestart::NoRestart
    }
}

impl Interval {
    fn new(knote: &Arc<Knote>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Interval {
                timer <- HrTimer::new(),
                knote: knote.clone(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

/// Has a knote looked at again in a while, since its source does not say when.
pub(super) struct Retry {
    running: Option<ArcHrTimerHandle<Interval>>,
    interval: Arc<Interval>,
}

impl Retry {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(knote: &Arc<Knote>) -> Result<Self> {
        Ok(Retry {
            running: None,
            interval: Interval::new(knote)?,
        })
    }

    /// Once, in ten milliseconds from now.
    pub(super) fn arm(&mut self) {
        // The old handle first: dropping it cancels.
        self.running = None;
        let timer = self.interval.clone();
        self.running = Some(timer.start(Delta::from_millis(10)));
    }
}

/// A timer that runs until a time; shared with its callback.
#[pin_data]
struct Alarm {
    #[pin]
    timer: HrTimer<Self>,
    knote: Arc<Knote>,
    fired: Atomic<bool>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Alarm {
        mode: AbsoluteMode<RealTime>, field: self.timer
    }
}

impl HrTimerCallback for Alarm {
    type Pointer<'a> = Arc<Self>;

    fn run(this: ArcBorrow<'_, Self>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        this.fired.store(true, ordering::Release);
        Knote::activate(this.knote.as_arc_borrow());
        HrTimerRestart::NoRestart
    }
}

/// What a timer does.
enum Mode {
    Periodic(Periodic),
    Once {
        // Cancels when dropped.
        _running: ArcHrTimerHandle<Alarm>,
        alarm: Arc<Alarm>,
    },
}

/// A period, and what of it has gone by.
///
/// # Invariants
///
/// Until a oneshot was reported: the timer is set to `due`, or has fired and the knote is active
/// or in the hands of a scan.
struct Periodic {
    running: Option<ArcHrTimerHandle<Interval>>,
    interval: Arc<Interval>,
    start: Instant<Monotonic>,
    /// When the first expiry is, or was, that is not reported yet: nanoseconds from `start`.
    due: i64,
    /// Nanoseconds.
    period: i64,
    oneshot: bool,
}

impl Periodic {
    fn new(knote: &Arc<Knote>, period: i64, oneshot: bool) -> Result<Self> {
        let mut this = Periodic {
            running: None,
            interval: Interval::new(knote)?,
            start: Instant::now(),
            due: period,
            period,
            oneshot,
        };
        this.arm();
        Ok(this)
    }

    /// Sets the timer to `due`; it fires at once if that is over.
    fn arm(&mut self) {
        // The old handle first: dropping it cancels.
        self.running = None;
        let left = self.due.saturating_sub(self.start.elapsed().as_nanos());
        let timer = self.interval.clone();
        self.running = Some(timer.start(Delta::from_nanos(left.max(0))));
    }

    /// How often it has expired.
    fn expired(&self) -> i64 {
        let late = self.start.elapsed().as_nanos().saturating_sub(self.due);
        if late < 0 {
            return 0;
        }
        let more = if self.oneshot {
            0
        } else {
            late.checked_div(self.period).unwrap_or(0)
        };
        more.saturating_add(1)
    }

    /// What was reported is done with; what has expired since then makes the timer fire at once.
    fn reported(&mut self, count: i64) {
        if !self.oneshot {
            self.due = self.due.saturating_add(count.saturating_mul(self.period));
            self.arm();
        }
    }
}

impl Mode {
    fn new(knote: &Arc<Knote>, change: &Kevent) -> Result<Self> {
        let nanos = nanos(change)?;
        if change.fflags & NOTE_ABSTIME == 0 {
            let oneshot = change.has(EV_ONESHOT);
            return Periodic::new(knote, period(nanos), oneshot).map(Mode::Periodic);
        }
        let alarm = Arc::pin_init(
            pin_init!(Alarm {
                timer <- HrTimer::new(),
                knote: knote.clone(),
                fired: Atomic::new(false),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let now = Instant::<RealTime>::now();
        let at = now + Delta::from_nanos(nanos - HrTimerExpires::as_nanos(&now));
        Ok(Mode::Once {
            _running: alarm.clone().start(at),
            alarm,
        })
    }
}

/// A timer; dropping it cancels it and waits for its callback.
pub(crate) struct Timer {
    // In this order: the timer is cancelled before its place is given to another.
    mode: Mode,
    knote: Arc<Knote>,
    _quota: Quota,
}

impl Timer {
    /// # Errors
    ///
    /// `EINVAL` for a negative period or time, and for more than one unit; `ENOMEM` also if there
    /// are too many timers.
    pub(super) fn attach(attach: Attach<'_>) -> Result<Self> {
        let quota = Quota::take()?;
        Ok(Timer {
            mode: Mode::new(attach.knote, attach.change)?,
            knote: attach.knote.clone(),
            _quota: quota,
        })
    }

    pub(super) fn touch(&mut self, change: &Kevent) -> Result {
        match &mut self.mode {
            Mode::Periodic(periodic) if change.fflags & NOTE_ABSTIME == 0 => {
                periodic.period = period(nanos(change)?);
            }
            mode => *mode = Mode::new(&self.knote, change)?,
        }
        Ok(())
    }

    pub(super) fn event(&self) -> Option<Report> {
        let data = match &self.mode {
            Mode::Periodic(periodic) => periodic.expired(),
            Mode::Once { alarm, .. } => alarm.fired.load(ordering::Acquire).into(),
        };
        (data > 0).then_some(Report {
            data,
            ..Report::default()
        })
    }

    pub(super) fn reported(&mut self, event: &Kevent) {
        match &mut self.mode {
            Mode::Periodic(periodic) => periodic.reported(event.data),
            Mode::Once { alarm, .. } => alarm.fired.store(false, ordering::Relaxed),
        }
    }
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
