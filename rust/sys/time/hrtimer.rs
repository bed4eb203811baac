// SPDX-License-Identifier: GPL-2.0

//! Timers with nanoseconds.
//!
//! The `kernel` crate's timers are reference counted objects of their own, or are started for good
//! by giving them away. An [`OwnedTimer`] is a part of its owner, and is set as often as one likes;
//! a [`DelayedCall`] is for who only seldom needs one.
//!
//! # Context
//!
//! They fire in a hard interrupt (in a thread on PREEMPT_RT).
//!
//! C header: [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)

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

/// What a timer goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Monotonic,
    /// The same, but that it goes on while the machine is suspended.
    Boot,
    /// The time since the epoch; a timer follows it when it is set.
    Real,
}

impl Clock {
    /// What it says, in nanoseconds.
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
/// `timer` is valid, stays in its place, and is not set. It is cancelled before it goes.
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

/// Has a timer fire, once, at that time in nanoseconds: at once if that is over.
///
/// # Safety
///
/// It was set up, and will be cancelled before it goes.
pub(crate) unsafe fn start(timer: *mut bindings::hrtimer, at: i64) {
    let mode = bindings::hrtimer_mode_HRTIMER_MODE_ABS;
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { bindings::hrtimer_start_range_ns(timer, at, 0, mode) };
}

/// Who has an [`OwnedTimer`] as a part.
pub(crate) trait TimerOwner {
    /// The timer's function. It calls [`OwnedTimer::set_fired`].
    ///
    /// # Safety
    ///
    /// `timer` is that of an [`OwnedTimer`] of a live owner.
    unsafe extern "C" fn expired(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart;
}

/// A timer that is a part of its owner.
///
/// One thread at a time uses it. Its function may run meanwhile, and uses `fired` only.
///
/// # Invariants
///
/// It stays in its place. The hrtimer is set up for `clock`. Unless it is `armed` it is not queued,
/// and its function does not run; it is not before it goes.
pub(crate) struct OwnedTimer<O> {
    timer: Opaque<bindings::hrtimer>,
    fired: AtomicBool,
    clock: Cell<Clock>,
    armed: Cell<bool>,
    _owner: PhantomData<fn(O)>,
}

impl<O: TimerOwner> OwnedTimer<O> {
    /// One that is not set.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes, in an owner that stays in its place. What is written there
    /// is cancelled before that goes.
    pub(crate) unsafe fn write(slot: *mut Self) {
        // INVARIANT: As set up here.
        // SAFETY: By this function's contract. (One by one, or the compiler would clear the
        // hrtimer.)
        unsafe {
            (&raw mut (*slot).fired).write(AtomicBool::new(false));
            (&raw mut (*slot).clock).write(Cell::new(Clock::Monotonic));
            (&raw mut (*slot).armed).write(Cell::new(false));
            set_up((*slot).timer.get(), Clock::Monotonic, O::expired);
        }
    }

    /// Has it fire, once, at that time of that clock in nanoseconds: at once if that is over.
    /// Whatever it was set to before does not count any more. Not under a lock that its function
    /// takes.
    pub(crate) fn arm(&self, clock: Clock, at: i64) {
        self.cancel();
        if self.clock.get() != clock {
            // INVARIANT: It is set up anew.
            // SAFETY: It stays in its place, was cancelled, and will be again.
            unsafe { set_up(self.timer.get(), clock, O::expired) };
            self.clock.set(clock);
        }
        self.armed.set(true);
        // SAFETY: It was set up, and is cancelled before it goes, being armed.
        unsafe { self.set(at) };
    }

    /// The same by the clock that it has, once it has fired. Nothing if it was cancelled.
    pub(crate) fn rearm(&self, at: i64) {
        if self.armed.get() {
            // SAFETY: It was set up, and is cancelled before it goes, being armed.
            unsafe { self.set(at) };
        }
    }

    /// # Safety
    ///
    /// It was set up, and is armed.
    #[inline(always)]
    unsafe fn set(&self, at: i64) {
        self.forget();
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { start(self.timer.get(), at) };
    }

    /// What its clock says, in nanoseconds.
    #[inline]
    pub(crate) fn now(&self) -> i64 {
        self.clock.get().now()
    }

    /// What it was set to last, once that was over and it has fired.
    pub(crate) fn fired(&self) -> Option<i64> {
        if !self.fired.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: It was set up, and only `start` changes when it is due.
        Some(unsafe { (*self.timer.get())._softexpires })
    }

    /// It has not fired, from here on.
    pub(crate) fn forget(&self) {
        self.fired.store(false, Ordering::Relaxed);
    }

    /// True if it was set, and not cancelled since.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.get()
    }

    /// It does not fire any more, nor has its function still to return. Not under a lock that the
    /// function takes.
    pub(crate) fn cancel(&self) {
        if self.armed.get() {
            // SAFETY: It was set up.
            unsafe { bindings::hrtimer_cancel(self.timer.get()) };
            // INVARIANT: Now it is not.
            self.armed.set(false);
        }
    }

    /// Notes that the one whose hrtimer that is has fired. Gives it.
    ///
    /// # Safety
    ///
    /// `timer` is that of one; called by its function.
    pub(crate) unsafe fn set_fired(timer: *mut bindings::hrtimer) -> *mut Self {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            let this = kernel::container_of!(timer.cast::<Opaque<_>>(), OwnedTimer<O>, timer);
            (*this).fired.store(true, Ordering::Release);
            this
        }
    }
}

/// Something that can be called a little later.
pub(crate) trait Expire: AlwaysRefCounted + Send + Sync + 'static {
    /// The time has come. In a hard interrupt.
    fn expire(&self);
}

/// A timer of its own, to call its target a little later. Dropping it cancels it and waits for its
/// callback.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct DelayedCall<T: Expire> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    target: ARef<T>,
}

// SAFETY: The timer is only handed to functions with locks of their own.
unsafe impl<T: Expire> Send for DelayedCall<T> {}
// SAFETY: The reason given above applies here too.
unsafe impl<T: Expire> Sync for DelayedCall<T> {}

impl<T: Expire> DelayedCall<T> {
    /// One that is not set.
    pub(crate) fn new(target: &T) -> impl PinInit<Self> + '_ {
        pin_init!(DelayedCall {
            // SAFETY: `slot` is valid for writes and stays in its place; `drop` cancels the timer.
            timer <- Opaque::ffi_init(|slot| unsafe {
                set_up(slot, Clock::Monotonic, Self::fire)
            }),
            target: target.into(),
        })
    }

    /// Has it call its target in so many nanoseconds.
    pub(crate) fn after(self: Pin<&Self>, nanos: i64) {
        let at = Clock::Monotonic.now().saturating_add(nanos);
        // SAFETY: The timer was set up, and `drop` cancels it.
        unsafe { start(self.timer.get(), at) };
    }

    /// The timer's function.
    ///
    /// # Safety
    ///
    /// `timer` is that of a `DelayedCall<T>`.
    unsafe extern "C" fn fire(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: `timer` is the first field of a live `DelayedCall<T>`, whose `drop` waits for us.
        unsafe { &*timer.cast::<DelayedCall<T>>() }.target.expire();
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

#[pinned_drop]
impl<T: Expire> PinnedDrop for DelayedCall<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Set up in `new`. Not under a lock that `fire` takes: it is dropped in process
        // context, without a spin lock.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }
}
