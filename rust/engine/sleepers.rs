// SPDX-License-Identifier: GPL-2.0

//! The tasks that sleep until a knote is pending, with a timeout in nanoseconds. They are woken one
//! at a time.
//!
//! The list is guarded by the lock of the [`ReadyState`] that the tasks wait for, as in
//! `kernel/locking/semaphore.c`. A sleeper checks the condition and queues in one critical section
//! of that lock, and an activation wakes a sleeper in the critical section that it needs anyway. A
//! wait queue would need one more critical section of another lock on each side. (The same holds
//! for the `CondVar` of the `kernel` crate, which contains a wait queue and counts its timeouts in
//! jiffies.)
//!
//! `selftests/state` compiles this file with a scheduler of its own.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/wait.h`](srctree/include/linux/wait.h)

use super::{kqueue::ReadyState, locks::LockToken};
use crate::{
    generated,
    sys::{lock::raw_spin::IrqLock, AtomicBool, Ordering},
};
use core::{cell::Cell, ptr};
use kernel::{bindings, ffi::c_int};

/// The maximum number of tasks that [`Sleepers::wake_several`] wakes.
const WAKES_MAX: usize = 8;

/// The time at which a sleep ends at the latest.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    /// Only an event or a signal ends the sleep.
    Never,
    /// At this time of `CLOCK_MONOTONIC`, in nanoseconds.
    At(i64),
}

impl Deadline {
    /// The time `nanos` nanoseconds from now, or the largest time of the clock if that is earlier.
    pub(crate) fn after(nanos: i64) -> Deadline {
        // SAFETY: The function has no preconditions.
        Deadline::At(unsafe { bindings::ktime_get() }.saturating_add(nanos))
    }

    /// True if the deadline has passed.
    pub(crate) fn has_passed(self) -> bool {
        match self {
            Deadline::Never => false,
            // SAFETY: The function has no preconditions.
            Deadline::At(at) => at <= unsafe { bindings::ktime_get() },
        }
    }
}

/// The reason for the end of a sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SleepEnd {
    /// The condition was true. It may be false again.
    Condition,
    Signal,
    Timeout,
}

/// `WF_SYNC` of `kernel/sched/sched.h`.
const SYNC: c_int = 0x10;

/// The flags of a wake-up: `WF_SYNC` if the waking task is about to sleep itself, otherwise none.
#[derive(Clone, Copy, Default)]
pub(crate) struct WakeFlags(c_int);

impl WakeFlags {
    /// The flags that a wake function of a wait queue was called with.
    pub(in crate::engine) fn of_wake_function(flags: c_int) -> Self {
        WakeFlags(flags & SYNC)
    }
}

/// A sleeping task. This structure is on the stack of the task.
struct Sleeper {
    /// Guarded by the lock, as is `prev`.
    next: Cell<*const Sleeper>,
    prev: Cell<*const Sleeper>,
    task: *mut bindings::task_struct,
    /// True if the sleeper was taken off the list. The store of this flag is the last access of the
    /// waking task. It has release ordering, and the first load of the sleeper has acquire
    /// ordering, so the sleeper leaves its stack frame after that access. A sleeper that reads
    /// false takes the lock and reads the flag again. That load is relaxed, because the store is
    /// under the same lock.
    woken: AtomicBool,
}

/// All sleepers, in the order in which they were added.
///
/// # Invariants
///
/// This is a field of a [`ReadyState`], which a spin lock guards. All sleepers in the list are
/// valid. They belong to tasks that sleep or are about to sleep, and are not moved before they were
/// taken off the list.
pub(crate) struct Sleepers {
    first: *const Sleeper,
    last: *const Sleeper,
}

// SAFETY: Any thread that holds the lock may access the sleepers.
unsafe impl Send for Sleepers {}

impl Sleepers {
    /// An empty list for the `ReadyState` with this token.
    pub(crate) fn new(_: &LockToken<ReadyState>) -> Self {
        // INVARIANT: The list is empty.
        Sleepers {
            first: ptr::null(),
            last: ptr::null(),
        }
    }

    /// True if the list is empty.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// # Safety
    ///
    /// The sleeper is in no list. It is taken off this list before it is freed, and is not moved
    /// before.
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

    /// Wakes the task that has slept longest, if there is one. Any context but NMI.
    #[inline]
    pub(crate) fn wake_one(&mut self, flags: WakeFlags) {
        if !self.is_empty() {
            self.wake_first(flags);
        }
    }

    /// Wakes some of the tasks, in the order in which they began to sleep. Returns true if none is
    /// left. Otherwise the caller releases the lock, so that interrupts are not disabled for long,
    /// and calls this function again.
    pub(crate) fn wake_several(&mut self) -> bool {
        for _ in 0..WAKES_MAX {
            self.wake_one(WakeFlags::default());
        }
        self.is_empty()
    }

    #[inline(never)]
    fn wake_first(&mut self, flags: WakeFlags) {
        // SAFETY: By the type's invariant, a sleeper in the list is valid. After the store to
        // `woken` the sleeper may be freed and its task may exit. The memory of the task stays
        // valid, because the caller holds a spin lock and so is in an RCU read-side critical
        // section.
        unsafe {
            let Some(sleeper) = self.first.as_ref() else {
                return;
            };
            let task = sleeper.task;
            self.unlink(sleeper);
            sleeper.woken.store(true, Ordering::Release);
            // A wait queue would wake the task in the same way.
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

/// Sleeps until `condition` holds, or until a wake-up, a signal or the deadline. A task that was
/// woken by [`Sleepers::wake_one`] returns `Condition` even if a signal has arrived meanwhile, so
/// that no wake-up is lost.
pub(crate) fn sleep(
    lock: &IrqLock<ReadyState>,
    deadline: Deadline,
    mut condition: impl FnMut(&ReadyState) -> bool,
) -> SleepEnd {
    let (mut nanos, expires): (i64, *mut i64);
    match deadline {
        Deadline::Never => expires = ptr::null_mut(),
        Deadline::At(at) => {
            nanos = at;
            expires = &raw mut nanos;
        }
    }
    // SAFETY: The function has no preconditions.
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
            return SleepEnd::Condition;
        }
        // SAFETY: The sleeper is taken off the list before this iteration of the loop ends. The
        // task sets its own state while it holds the lock, so the store needs no barrier. A task
        // that wakes it takes the lock, so it either finds the sleeper in the list and sees the
        // state, or made the condition true before.
        unsafe {
            ready.sleepers.push(&sleeper);
            generated::kq_set_current_state(bindings::TASK_INTERRUPTIBLE);
        }
        drop(ready);
        // SAFETY: `expires` is null or points to `nanos`, which outlives the call. The task is the
        // current one, so it is valid. It is running again after the call.
        let ret = unsafe {
            bindings::schedule_hrtimeout_range(
                expires,
                (*task).timer_slack_ns,
                bindings::hrtimer_mode_HRTIMER_MODE_ABS,
            )
        };
        if sleeper.woken.load(Ordering::Acquire) {
            return SleepEnd::Condition;
        }
        let mut ready = lock.lock();
        if sleeper.woken.load(Ordering::Relaxed) {
            return SleepEnd::Condition;
        }
        // SAFETY: `woken` is false under the lock, so the sleeper is still in the list.
        unsafe { ready.sleepers.unlink(&sleeper) };
        if condition(&ready) {
            return SleepEnd::Condition;
        }
        drop(ready);
        if ret == 0 {
            return SleepEnd::Timeout;
        }
        if kernel::current!().signal_pending() {
            return SleepEnd::Signal;
        }
    }
}
