// SPDX-License-Identifier: GPL-2.0

//! The tasks that sleep until something is pending, with a timeout in nanoseconds. They are woken
//! one at a time.
//!
//! The list is under the lock of the [`Ready`] that they wait for, as in
//! `kernel/locking/semaphore.c`. A sleeper checks the condition and queues in one critical section
//! of that lock, and an activation wakes a sleeper in the critical section that it needs anyway. A
//! wait queue (or the `kernel` crate's `CondVar`, which has one, and counts its timeouts in
//! jiffies) would need one more critical section of another lock on each side.
//!
//! `selftests/state` includes this file, with a scheduler of its own.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/wait.h`](srctree/include/linux/wait.h)

use super::{kqueue::Ready, locks::Key};
use crate::{
    generated,
    sys::{lock::irqlock::IrqLock, AtomicBool, Ordering},
};
use core::{cell::Cell, ptr};
use kernel::{bindings, ffi::c_int};

/// The latest end of a sleep.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    /// Only an event or a signal ends it.
    Never,
    /// At this time of `CLOCK_MONOTONIC`, in nanoseconds.
    At(i64),
}

impl Deadline {
    /// `nanos` nanoseconds from now; a time past the end of the clock is its end.
    pub(crate) fn after(nanos: i64) -> Deadline {
        // SAFETY: No preconditions.
        Deadline::At(unsafe { bindings::ktime_get() }.saturating_add(nanos))
    }

    /// True if the time has passed.
    pub(crate) fn has_passed(self) -> bool {
        match self {
            Deadline::Never => false,
            // SAFETY: No preconditions.
            Deadline::At(at) => at <= unsafe { bindings::ktime_get() },
        }
    }
}

/// How a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// The condition was true, though it may be false again.
    Condition,
    Signal,
    Timeout,
}

/// `WF_SYNC` of `kernel/sched/sched.h`.
const SYNC: c_int = 0x10;

/// The flags of a wake-up: `WF_SYNC` if the task that wakes is about to sleep itself, or none.
#[derive(Clone, Copy, Default)]
pub(crate) struct WakeFlags(c_int);

impl WakeFlags {
    /// The flags that a wake function of a wait queue was called with.
    pub(in crate::engine) fn of_wake_function(flags: c_int) -> Self {
        WakeFlags(flags & SYNC)
    }
}

/// One sleeping task. It is on the stack of the task.
struct Sleeper {
    /// Guarded by the lock, as is `prev`.
    next: Cell<*const Sleeper>,
    prev: Cell<*const Sleeper>,
    task: *mut bindings::task_struct,
    /// It was taken off the list. The task that wakes it stores this as its last access.
    woken: AtomicBool,
}

/// All sleepers, in the order in which they have queued.
///
/// # Invariants
///
/// It is a field of a [`Ready`], which a spin lock guards. The sleepers are valid, and of tasks
/// that sleep or are about to: each stays in its place until it was taken off the list.
pub(crate) struct Sleepers {
    first: *const Sleeper,
    last: *const Sleeper,
}

// SAFETY: Sleepers are accessed under the lock, by whatever thread.
unsafe impl Send for Sleepers {}

impl Sleepers {
    /// No sleepers, for the `Ready` with that key.
    pub(crate) fn new(_: &Key<Ready>) -> Self {
        // INVARIANT: There are no sleepers yet.
        Sleepers {
            first: ptr::null(),
            last: ptr::null(),
        }
    }

    /// True if no task sleeps that was not woken yet.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// # Safety
    ///
    /// The sleeper is in no list; it is taken off this one before it goes.
    unsafe fn push(&mut self, sleeper: &Sleeper) {
        sleeper.prev.set(self.last);
        // SAFETY: By the type's invariant.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(sleeper),
            None => self.first = sleeper,
        }
        self.last = sleeper;
    }

    /// # Safety
    ///
    /// The sleeper is in this list.
    unsafe fn unlink(&mut self, sleeper: &Sleeper) {
        let (next, prev) = (sleeper.next.get(), sleeper.prev.get());
        // SAFETY: By the type's invariant.
        unsafe {
            match prev.as_ref() {
                Some(prev) => prev.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.prev.set(prev),
                None => self.last = prev,
            }
        }
    }

    /// Wakes the task that has slept longest, if there is one. From any context but NMI.
    #[inline]
    pub(crate) fn wake_one(&mut self, flags: WakeFlags) {
        if !self.is_empty() {
            self.wake_first(flags);
        }
    }

    /// Wakes all tasks.
    pub(crate) fn wake_all(&mut self) {
        while !self.is_empty() {
            self.wake_first(WakeFlags::default());
        }
    }

    #[inline(never)]
    fn wake_first(&mut self, flags: WakeFlags) {
        // SAFETY: By the type's invariant; it is in the list. It may go as soon as it is told that
        // it was woken, and its task may end; but who holds a spin lock is in an RCU read-side
        // critical section, until after which the task's memory is there.
        unsafe {
            let Some(sleeper) = self.first.as_ref() else {
                return;
            };
            let task = sleeper.task;
            self.unlink(sleeper);
            sleeper.woken.store(true, Ordering::Release);
            // This is what a wait queue would do.
            let mut entry = bindings::wait_queue_entry {
                private: task.cast(),
                ..Default::default()
            };
            bindings::default_wake_function(
                &raw mut entry,
                bindings::TASK_NORMAL,
                flags.0,
                ptr::null_mut(),
            );
        }
    }
}

/// Sleeps until `condition` holds, a wake-up, a signal or the deadline. A task that
/// [`Sleepers::wake_one`] has woken returns `Condition` even if a signal has come meanwhile: a
/// sleeper that leaves for a signal takes no wake-up with it.
pub(crate) fn sleep(
    lock: &IrqLock<Ready>,
    deadline: Deadline,
    mut condition: impl FnMut(&Ready) -> bool,
) -> Wakeup {
    let (mut nanos, expires): (i64, *mut i64);
    match deadline {
        Deadline::Never => expires = ptr::null_mut(),
        Deadline::At(at) => {
            nanos = at;
            expires = &raw mut nanos;
        }
    }
    // SAFETY: No preconditions.
    let task = unsafe { bindings::get_current() };
    loop {
        let sleeper = Sleeper {
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            task,
            woken: AtomicBool::new(false),
        };
        let mut ready = lock.lock();
        if condition(&ready) {
            return Wakeup::Condition;
        }
        // SAFETY: It is taken off the list before this round of the loop ends. The state is the
        // current task's; who wakes it takes the lock, so sees it or comes before.
        unsafe {
            ready.sleepers.push(&sleeper);
            generated::kq_set_current_state(bindings::TASK_INTERRUPTIBLE);
        }
        drop(ready);
        // SAFETY: `expires` is null or points to `nanos`, which outlives the call; the task is
        // valid while we run in it. It is running again after the call.
        let ret = unsafe {
            bindings::schedule_hrtimeout_range(
                expires,
                (*task).timer_slack_ns,
                bindings::hrtimer_mode_HRTIMER_MODE_ABS,
            )
        };
        if sleeper.woken.load(Ordering::Acquire) {
            return Wakeup::Condition;
        }
        let mut ready = lock.lock();
        if sleeper.woken.load(Ordering::Relaxed) {
            return Wakeup::Condition;
        }
        // SAFETY: Nobody has taken it off.
        unsafe { ready.sleepers.unlink(&sleeper) };
        if condition(&ready) {
            return Wakeup::Condition;
        }
        drop(ready);
        if ret == 0 {
            return Wakeup::Timeout;
        }
        if kernel::current!().signal_pending() {
            return Wakeup::Signal;
        }
    }
}
