// SPDX-License-Identifier: GPL-2.0

//! High-resolution timers.
//!
//! The timers of the `kernel` crate are reference-counted objects, or their ownership moves to the
//! timer when they are started. An [`OwnedTimer`] is embedded in its owner, and the owner may set
//! it any number of times. A [`DelayedCall`] is an allocation of its own, for owners that rarely
//! need a timer.
//!
//! # Context
//!
//! The callbacks run in hard interrupt context, or on a real-time kernel in a thread, because no
//! timer has a mode with `_HARD`. [`OwnedTimer::cancel`] and the drop of a [`DelayedCall`] wait for
//! a callback that is running. They must not be called under a lock that the callback takes.
//!
//! C header: [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)

use crate::sys::compat::NO_RESTART;
use core::{
    cell::Cell,
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};
use kernel::{
    bindings,
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque, //
};

/// The clock of a timer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Monotonic,
    /// `CLOCK_BOOTTIME`, which also advances while the system is suspended.
    Boot,
    /// `CLOCK_REALTIME`, the time since the epoch. If the clock is set, a pending timer follows it.
    Real,
}

impl Clock {
    /// The present time of the clock in nanoseconds.
    #[inline]
    pub(crate) fn now(self) -> i64 {
        let offset = match self {
            // SAFETY: The function has no preconditions.
            Clock::Monotonic => return unsafe { bindings::ktime_get() },
            Clock::Boot => bindings::tk_offsets_TK_OFFS_BOOT,
            Clock::Real => bindings::tk_offsets_TK_OFFS_REAL,
        };
        // SAFETY: The function has no preconditions.
        unsafe { bindings::ktime_get_with_offset(offset) }
    }
}

type Function = unsafe extern "C" fn(*mut bindings::hrtimer) -> bindings::hrtimer_restart;

/// # Safety
///
/// `timer` is valid, is not moved, and is not queued. It is cancelled before it is freed.
pub(crate) unsafe fn set_up(timer: *mut bindings::hrtimer, clock: Clock, function: Function) {
    let clock = match clock {
        Clock::Monotonic => bindings::CLOCK_MONOTONIC,
        Clock::Boot => bindings::CLOCK_BOOTTIME,
        Clock::Real => bindings::CLOCK_REALTIME,
    };
    let mode = bindings::hrtimer_mode_HRTIMER_MODE_ABS;
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { bindings::hrtimer_setup(timer, Some(function), clock as i32, mode) };
}

/// Starts a timer that expires once, at this absolute time in nanoseconds. It expires immediately
/// if that time is in the past.
///
/// # Safety
///
/// The timer was set up. It is cancelled before it is freed.
pub(crate) unsafe fn start(timer: *mut bindings::hrtimer, at: i64) {
    let mode = bindings::hrtimer_mode_HRTIMER_MODE_ABS;
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { bindings::hrtimer_start_range_ns(timer, at, 0, mode) };
}

/// The owner of an embedded [`OwnedTimer`].
pub(crate) trait TimerOwner {
    /// The callback of the timer. It calls [`OwnedTimer::set_fired`].
    ///
    /// # Safety
    ///
    /// `timer` is the hrtimer of an [`OwnedTimer`] whose owner is alive.
    unsafe extern "C" fn expired(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart;
}

/// A timer that is embedded in its owner.
///
/// Only one thread uses the timer at a time. The callback may run concurrently, and it accesses
/// only `fired`.
///
/// # Invariants
///
/// The timer is not moved. The hrtimer is set up for `clock`. Unless the timer is `armed`, the
/// hrtimer is not queued and its callback does not run. The timer is not armed when it is freed.
pub(crate) struct OwnedTimer<O> {
    timer: Opaque<bindings::hrtimer>,
    /// True if the timer has fired. The callback sets it with release ordering, and the load has
    /// acquire ordering, so the expiry time that is read afterwards is that of this firing. The
    /// flag is cleared while the hrtimer is not queued. That store is relaxed, because the lock of
    /// the hrtimer's clock base orders it before the next callback.
    fired: AtomicBool,
    clock: Cell<Clock>,
    armed: Cell<bool>,
    _owner: PhantomData<fn(O)>,
}

impl<O: TimerOwner> OwnedTimer<O> {
    /// Initialises a timer that is not set.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes. It is a part of an owner that is not moved. The timer is
    /// cancelled before the owner is freed.
    pub(crate) unsafe fn init(slot: *mut Self) {
        // INVARIANT: The hrtimer is set up for the clock below, and the timer is not armed.
        // SAFETY: The caller upholds this function's safety contract. (The fields are written one
        // by one. Writing the whole structure would make the compiler clear the hrtimer.)
        unsafe {
            (&raw mut (*slot).fired).write(AtomicBool::new(false));
            (&raw mut (*slot).clock).write(Cell::new(Clock::Monotonic));
            (&raw mut (*slot).armed).write(Cell::new(false));
            set_up((*slot).timer.get(), Clock::Monotonic, O::expired);
        }
    }

    /// Sets the timer to expire once, at this absolute time of this clock in nanoseconds. It
    /// expires immediately if that time is in the past. A previous setting is cancelled. This waits
    /// for a running callback, so the caller must not hold a lock that the callback takes.
    pub(crate) fn arm(&self, clock: Clock, at: i64) {
        self.cancel();
        if self.clock.get() != clock {
            // INVARIANT: The hrtimer is set up again, for the new clock.
            // SAFETY: The timer is not moved and was cancelled. It is cancelled again before it is
            // freed.
            unsafe { set_up(self.timer.get(), clock, O::expired) };
            self.clock.set(clock);
        }
        self.armed.set(true);
        // SAFETY: The timer was set up. It is armed, so it is cancelled before it is freed.
        unsafe { self.set(at) };
    }

    /// Sets a timer that has fired to a new time of its present clock. Does nothing if the timer
    /// was cancelled.
    pub(crate) fn rearm(&self, at: i64) {
        if self.armed.get() {
            // SAFETY: The timer was set up. It is armed, so it is cancelled before it is freed.
            unsafe { self.set(at) };
        }
    }

    /// # Safety
    ///
    /// The timer was set up and is armed.
    #[inline(always)]
    unsafe fn set(&self, at: i64) {
        self.clear_fired();
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { start(self.timer.get(), at) };
    }

    /// The present time of the timer's clock in nanoseconds.
    #[inline]
    pub(crate) fn now(&self) -> i64 {
        self.clock.get().now()
    }

    /// The time that the timer was last set to, if it has fired.
    pub(crate) fn fired(&self) -> Option<i64> {
        if !self.fired.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: The timer was set up, and only `start` changes its expiry time.
        Some(unsafe { (*self.timer.get())._softexpires })
    }

    /// Clears the record that the timer has fired.
    pub(crate) fn clear_fired(&self) {
        self.fired.store(false, Ordering::Relaxed);
    }

    /// True if the timer was set and was not cancelled since.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.get()
    }

    /// Cancels the timer and waits for a callback that is running. The caller must not hold a lock
    /// that the callback takes.
    pub(crate) fn cancel(&self) {
        if self.armed.get() {
            // SAFETY: The timer was set up.
            unsafe { bindings::hrtimer_cancel(self.timer.get()) };
            // INVARIANT: The hrtimer is no longer queued, and its callback does not run.
            self.armed.set(false);
        }
    }

    /// Records that the timer has fired. Returns the `OwnedTimer` that contains the hrtimer.
    ///
    /// # Safety
    ///
    /// `timer` is the hrtimer of an `OwnedTimer<O>`. The caller is its callback.
    pub(crate) unsafe fn set_fired(timer: *mut bindings::hrtimer) -> *mut Self {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            let this = kernel::container_of!(timer.cast::<Opaque<_>>(), OwnedTimer<O>, timer);
            (*this).fired.store(true, Ordering::Release);
            this
        }
    }
}

/// The target of a [`DelayedCall`].
pub(crate) trait Expire: AlwaysRefCounted + Send + Sync + 'static {
    /// The delay has passed. This is called in hard interrupt context.
    fn expire(&self);
}

/// A timer that calls its target after a short delay. Dropping it cancels the timer and waits for
/// its callback.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct DelayedCall<T: Expire> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    target: ARef<T>,
}

// SAFETY: The timer is only passed to functions that do their own locking.
unsafe impl<T: Expire> Send for DelayedCall<T> {}
// SAFETY: The timer is only passed to functions that do their own locking.
unsafe impl<T: Expire> Sync for DelayedCall<T> {}

impl<T: Expire> DelayedCall<T> {
    /// A timer that is not set.
    pub(crate) fn new(target: &T) -> impl PinInit<Self> + '_ {
        pin_init!(DelayedCall {
            // SAFETY: `slot` is valid for writes and pinned. `drop` cancels the timer.
            timer <- Opaque::ffi_init(|slot| unsafe {
                set_up(slot, Clock::Monotonic, Self::fire)
            }),
            target: target.into(),
        })
    }

    /// Sets the timer to call its target after `nanos` nanoseconds.
    pub(crate) fn after(self: Pin<&Self>, nanos: i64) {
        let at = Clock::Monotonic.now().saturating_add(nanos);
        // SAFETY: The timer was set up. `drop` cancels it.
        unsafe { start(self.timer.get(), at) };
    }

    /// The callback of the timer.
    ///
    /// # Safety
    ///
    /// `timer` is the hrtimer of a live `DelayedCall<T>`.
    unsafe extern "C" fn fire(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: `timer` is the first field of a `DelayedCall<T>`, which is alive because its
        // `drop` waits for this function.
        unsafe { &*timer.cast::<DelayedCall<T>>() }.target.expire();
        NO_RESTART
    }
}

#[pinned_drop]
impl<T: Expire> PinnedDrop for DelayedCall<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The timer was set up in `new`. It is dropped in process context with no spin lock
        // held, so no lock that `fire` takes is held.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }
}
