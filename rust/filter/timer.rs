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
//! `CLOCK_MONOTONIC`. Each expiry is set from the last, so that a period does not drift. The
//! callback runs in hard interrupt context: it counts, sets the next expiry, and activates.
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
        Monotonic, //
    }, //
};

/// Just short of three centuries: a longer period would not fit the clock.
const PERIOD_MAX_MILLIS: i64 = i64::MAX / 1_000_000 / 2;

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
    period_millis: Atomic<i64>,
    oneshot: bool,
    /// Expiries that were not reported yet.
    expired: Atomic<i64>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Clock {
        mode: RelativeMode<Monotonic>, field: self.timer
    }
}

impl HrTimerCallback for Clock {
    type Pointer<'a> = Arc<Self>;

    fn run(this: ArcBorrow<'_, Self>, mut ctx: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        let mut count = 1;
        if !this.oneshot {
            let period = Delta::from_millis(this.period_millis.load(ordering::Relaxed));
            // How many periods went by since the timer was due: more than 1 if we are late.
            count = i64::try_from(ctx.forward_now(period))
                .unwrap_or(i64::MAX)
                .max(1);
        }
        this.expired.fetch_add(count, ordering::Relaxed);
        Knote::activate(this.knote.as_arc_borrow());
        if this.oneshot {
            HrTimerRestart::NoRestart
        } else {
            HrTimerRestart::Restart
        }
    }
}

/// A running timer; dropping it cancels it and waits for its callback.
pub(crate) struct Timer {
    // In this order: the timer is cancelled before its place is given to another.
    _running: ArcHrTimerHandle<Clock>,
    clock: Arc<Clock>,
    _quota: Quota,
}

impl Timer {
    /// # Errors
    ///
    /// `EINVAL` for a negative period, `ENOMEM` also if there are too many timers.
    pub(super) fn attach(attach: Attach<'_>) -> Result<Self> {
        let quota = Quota::take()?;
        let period = period_millis(attach.change)?;
        let clock = Arc::pin_init(
            pin_init!(Clock {
                timer <- HrTimer::new(),
                knote: attach.knote.clone(),
                period_millis: Atomic::new(period),
                oneshot: attach.change.has(EV_ONESHOT),
                expired: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Timer {
            _running: clock.clone().start(Delta::from_millis(period)),
            clock,
            _quota: quota,
        })
    }

    pub(super) fn touch(&mut self, change: &Kevent) -> Result {
        let period = period_millis(change)?;
        self.clock.period_millis.store(period, ordering::Relaxed);
        Ok(())
    }

    pub(super) fn event(&self) -> Option<Report> {
        let expired = self.clock.expired.load(ordering::Relaxed);
        (expired != 0).then_some(Report {
            data: expired,
            ..Report::default()
        })
    }

    /// Takes off what was reported; what has expired since then stays, and has activated again.
    pub(super) fn reported(&mut self, event: &Kevent) {
        self.clock.expired.fetch_sub(event.data, ordering::Relaxed);
    }
}

fn period_millis(change: &Kevent) -> Result<i64> {
    if change.data < 0 {
        return Err(EINVAL);
    }
    Ok(change.data.clamp(1, PERIOD_MAX_MILLIS))
}
