// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_TIMER`: an hrtimer for each knote.
//!
//! # BSD says
//!
//! `data` in is a period in milliseconds. `data` out is how often it has expired since it was
//! last reported; `EV_CLEAR` is always set. With `EV_ONESHOT` it expires once. It counts on while
//! it is disabled.
//!
//! # Linux source
//!
//! `CLOCK_MONOTONIC`. The timer fires once, in hard interrupt context, and activates the knote;
//! what goes by until that is reported is counted by arithmetic, and then the timer is set to the
//! next multiple of the period. So a period does not drift, and a thousand short timers that
//! nobody collects cost nothing: a timer fires as often as it is collected, at most.
//!
//! # Where we differ
//!
//! A negative period is `EINVAL`, as FreeBSD has it. A period of 0 is the shortest there is, 1 ms
//! (the specification: one tick). A new period takes effect at the next expiry, as in the
//! specification.

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
            ArcHrTimerHandle,
            HrTimer,
            HrTimerCallback,
            HrTimerCallbackContext,
            HrTimerPointer,
            HrTimerRestart,
            RelativeMode, //
        },
        Delta,
        Instant,
        Monotonic, //
    }, //
};

const NANOS_PER_MILLI: i64 = 1_000_000;
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

/// The timer proper, shared with its callback.
#[pin_data]
struct Clock {
    #[pin]
    timer: HrTimer<Self>,
    knote: Arc<Knote>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Clock {
        mode: RelativeMode<Monotonic>, field: self.timer
    }
}

impl HrTimerCallback for Clock {
    type Pointer<'a> = Arc<Self>;

    fn run(this: ArcBorrow<'_, Self>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        Knote::activate(this.knote.as_arc_borrow());
        HrTimerRestart::NoRestart
    }
}

/// A timer; dropping it cancels it and waits for its callback.
///
/// # Invariants
///
/// Until a oneshot was reported: the timer is set to `due`, or has fired and the knote is active
/// or in the hands of a scan.
pub(crate) struct Timer {
    // In this order: the timer is cancelled before its place is given to another.
    running: Option<ArcHrTimerHandle<Clock>>,
    clock: Arc<Clock>,
    start: Instant<Monotonic>,
    /// When the first expiry is, or was, that is not reported yet: nanoseconds from `start`.
    due: i64,
    /// Nanoseconds.
    period: i64,
    oneshot: bool,
    _quota: Quota,
}

impl Timer {
    /// # Errors
    ///
    /// `EINVAL` for a negative period, `ENOMEM` also if there are too many timers.
    pub(super) fn attach(attach: Attach<'_>) -> Result<Self> {
        let quota = Quota::take()?;
        let period = period_nanos(attach.change)?;
        let clock = Arc::pin_init(
            pin_init!(Clock {
                timer <- HrTimer::new(),
                knote: attach.knote.clone(),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let mut this = Timer {
            running: None,
            clock,
            start: Instant::now(),
            due: period,
            period,
            oneshot: attach.change.has(EV_ONESHOT),
            _quota: quota,
        };
        this.arm();
        Ok(this)
    }

    /// Sets the timer to `due`; it fires at once if that is over.
    fn arm(&mut self) {
        // The old handle first: dropping it cancels.
        self.running = None;
        let left = self.due.saturating_sub(self.start.elapsed().as_nanos());
        let timer = self.clock.clone();
        self.running = Some(timer.start(Delta::from_nanos(left.max(0))));
    }

    pub(super) fn touch(&mut self, change: &Kevent) -> Result {
        self.period = period_nanos(change)?;
        Ok(())
    }

    pub(super) fn event(&self) -> Option<Report> {
        let late = self.start.elapsed().as_nanos().saturating_sub(self.due);
        if late < 0 {
            return None;
        }
        let more = if self.oneshot { 0 } else { late / self.period };
        Some(Report {
            data: more.saturating_add(1),
            ..Report::default()
        })
    }

    /// What was reported is done with; what has expired since then makes the timer fire at once.
    pub(super) fn reported(&mut self, event: &Kevent) {
        if !self.oneshot {
            let reported = event.data.saturating_mul(self.period);
            self.due = self.due.saturating_add(reported);
            self.arm();
        }
    }
}

/// The period that a change asks for.
fn period_nanos(change: &Kevent) -> Result<i64> {
    if change.data < 0 {
        return Err(EINVAL);
    }
    Ok(change
        .data
        .max(1)
        .saturating_mul(NANOS_PER_MILLI)
        .min(PERIOD_MAX))
}
