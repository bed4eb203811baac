// SPDX-License-Identifier: GPL-2.0

//! A timer that activates a knote.
//!
//! The `kernel` crate's timers are reference counted objects of their own, or are started for good
//! by giving them away. This one is a part of a larger, pinned object, and is set as often as one
//! likes.
//!
//! # Context
//!
//! It fires in a hard interrupt (in a thread on PREEMPT_RT), where the knote's spin lock is taken.
//!
//! C header: [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)

use super::knote::Knote;
use kernel::{
    bindings,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{ordering, Atomic}, //
    },
    types::Opaque, //
};

/// What a timer goes by.
#[derive(Clone, Copy)]
pub(crate) enum Clock {
    Monotonic,
    /// The time since the epoch; a timer follows it when it is set.
    Real,
}

/// A timer; dropping it cancels it and waits for its callback.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct KnoteTimer {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    knote: ARef<Knote>,
    fired: Atomic<bool>,
}

// SAFETY: The timer is only handed to functions with locks of their own.
unsafe impl Send for KnoteTimer {}
// SAFETY: As above.
unsafe impl Sync for KnoteTimer {}

/// Nanoseconds of [`Clock::Monotonic`].
pub(crate) fn now() -> i64 {
    // SAFETY: No preconditions.
    unsafe { bindings::ktime_get() }
}

impl KnoteTimer {
    /// One that is not set.
    pub(crate) fn new(knote: &Knote, clock: Clock) -> impl PinInit<Self> + '_ {
        let clock = match clock {
            Clock::Monotonic => bindings::CLOCK_MONOTONIC,
            Clock::Real => bindings::CLOCK_REALTIME,
        };
        pin_init!(KnoteTimer {
            // SAFETY: `slot` is valid for writes; the timer is cancelled before it is freed.
            timer <- Opaque::ffi_init(move |slot| unsafe {
                bindings::hrtimer_setup(
                    slot,
                    Some(Self::fire),
                    clock.cast_signed(),
                    bindings::hrtimer_mode_HRTIMER_MODE_ABS,
                )
            }),
            knote: knote.into(),
            fired: Atomic::new(false),
        })
    }

    /// Has it fire, once, at that time of its clock in nanoseconds: at once if that is over. It
    /// has not fired then, whatever it was set to before.
    pub(crate) fn set(self: Pin<&Self>, at: i64) {
        self.fired.store(false, ordering::Relaxed);
        // SAFETY: The timer was set up, is pinned, and cancelled before it is freed.
        unsafe {
            bindings::hrtimer_start_range_ns(
                self.timer.get(),
                at,
                0,
                bindings::hrtimer_mode_HRTIMER_MODE_ABS,
            )
        };
    }

    /// It has not fired, from here on.
    pub(crate) fn forget(&self) {
        self.fired.store(false, ordering::Relaxed);
    }

    /// True once it has fired.
    pub(crate) fn has_fired(&self) -> bool {
        self.fired.load(ordering::Acquire)
    }

    /// Its knote.
    pub(crate) fn knote(&self) -> &Knote {
        &self.knote
    }

    /// The timer's function.
    ///
    /// # Safety
    ///
    /// `timer` is that of a `KnoteTimer`.
    unsafe extern "C" fn fire(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: `timer` is the first field of a live `KnoteTimer`, whose `drop` waits for us.
        let this = unsafe { &*timer.cast::<KnoteTimer>() };
        this.fired.store(true, ordering::Release);
        this.knote.activate();
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

#[pinned_drop]
impl PinnedDrop for KnoteTimer {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Set up in `new`. Not under a lock that `fire` takes: a timer is dropped in process
        // context, with the kqueue's mutex at most.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }
}
