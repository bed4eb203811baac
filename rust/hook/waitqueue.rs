// SPDX-License-Identifier: GPL-2.0

//! A queue of sleepers with a timeout in nanoseconds, woken one at a time.
//!
//! The `kernel` crate's `CondVar` counts its timeouts in jiffies; this one sleeps on an hrtimer.
//!
//! C header: [`include/linux/wait.h`](srctree/include/linux/wait.h)

use crate::generated;
use core::{marker::PhantomPinned, ptr};
use kernel::{
    bindings,
    prelude::*,
    sync::LockClassKey,
    types::Opaque, //
};

const TASK_INTERRUPTIBLE: u32 = bindings::TASK_INTERRUPTIBLE;

/// When a sleep ends at the latest.
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
}

/// How a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// What was waited for has happened, though it may be over again.
    Condition,
    Signal,
    Timeout,
}

/// A `wait_queue_head`.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A wait queue is made for use by many threads; it has a lock of its own.
unsafe impl Send for WaitQueue {}
// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// An empty queue whose lock is of the given lockdep class.
    pub(crate) fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, the name and the class live for ever.
            head <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr())
            }),
            _pin: PhantomPinned,
        })
    }

    /// The C structure, for the hooks that hand it to the kernel.
    pub(super) fn as_raw(&self) -> *mut bindings::wait_queue_head {
        self.head.get()
    }

    /// True if somebody sleeps who was not woken yet.
    ///
    /// Who queues goes on to look at what is waited for, under a lock; who asks here under that
    /// lock, after it has changed that, either sees the sleeper or was seen.
    #[inline]
    pub(crate) fn has_sleeper(&self) -> bool {
        // SAFETY: The queue is initialised; its first link is read at once (`waitqueue_active`).
        unsafe {
            let first = &raw mut (*self.head.get()).head;
            (&raw const (*first).next).read_volatile() != first
        }
    }

    /// Sleeps until `condition` holds, a wake-up, a signal is pending or the deadline passed.
    ///
    /// The sleeper is exclusive: one [`WaitQueue::wake_one`] ends one sleep. It is queued before
    /// `condition` is asked, so a wake-up that follows a change is not missed. A sleeper that
    /// leaves for a signal takes no wake-up with it.
    pub(crate) fn wait(&self, deadline: Deadline, mut condition: impl FnMut() -> bool) -> Wakeup {
        let mut entry = bindings::wait_queue_entry::default();
        let (mut nanos, expires): (i64, *mut i64);
        match deadline {
            Deadline::Never => expires = ptr::null_mut(),
            Deadline::At(at) => {
                nanos = at;
                expires = &raw mut nanos;
            }
        }
        // SAFETY: The current task is valid while we run in it.
        let slack = unsafe { (*bindings::get_current()).timer_slack_ns };
        // SAFETY: `entry` lives until `finish_wait` has unlinked it.
        unsafe { bindings::init_wait_entry(&raw mut entry, bindings::WQ_FLAG_EXCLUSIVE as i32) };
        let wakeup = loop {
            // SAFETY: The queue is initialised, the entry too.
            let signal = unsafe {
                bindings::prepare_to_wait_event(
                    self.head.get(),
                    &raw mut entry,
                    TASK_INTERRUPTIBLE as i32,
                )
            };
            if condition() {
                break Wakeup::Condition;
            }
            if signal != 0 {
                break Wakeup::Signal;
            }
            // SAFETY: `expires` is null or points to `nanos`, which outlives the call.
            let ret = unsafe {
                bindings::schedule_hrtimeout_range(
                    expires,
                    slack,
                    bindings::hrtimer_mode_HRTIMER_MODE_ABS,
                )
            };
            // Whoever wakes us takes us off the queue.
            // SAFETY: The entry was initialised.
            if unsafe { generated::kq_wait_is_over(&raw mut entry) } {
                break Wakeup::Condition;
            }
            if ret == 0 {
                break if condition() {
                    Wakeup::Condition
                } else {
                    Wakeup::Timeout
                };
            }
        };
        // SAFETY: As above; after this the entry is unlinked and the task is running.
        unsafe { bindings::finish_wait(self.head.get(), &raw mut entry) };
        wakeup
    }

    /// Ends the sleep of the one that has slept longest. From any context but NMI.
    pub(crate) fn wake_one(&self) {
        self.wake(1);
    }

    /// Ends all sleeps.
    pub(crate) fn wake_all(&self) {
        self.wake(0);
    }

    fn wake(&self, exclusive: i32) {
        // SAFETY: The queue is initialised; no key.
        unsafe {
            bindings::__wake_up(
                self.head.get(),
                TASK_INTERRUPTIBLE | bindings::TASK_UNINTERRUPTIBLE,
                exclusive,
                ptr::null_mut(),
            )
        };
    }
}
