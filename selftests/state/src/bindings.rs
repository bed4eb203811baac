// SPDX-License-Identifier: GPL-2.0

//! A model of the scheduler: tasks, their states, and wake-ups.

use core::ffi::{c_int, c_void};
use loom::{
    sync::{Arc, Condvar, Mutex},
    thread_local,
};
use std::{cell::RefCell, ptr};

#[derive(Default)]
struct Run {
    /// `TASK_RUNNING`.
    running: bool,
    /// A signal is pending.
    signal: bool,
    /// The timeout of the sleep has expired.
    timed_out: bool,
}

/// A task. The test holds a reference until all threads have ended.
#[allow(non_camel_case_types)]
pub(crate) struct task_struct {
    pub(crate) timer_slack_ns: u64,
    run: Mutex<Run>,
    woken: Condvar,
}

/// A reference to a task.
#[derive(Clone)]
pub(crate) struct Task(Arc<task_struct>);

thread_local! {
    static CURRENT: RefCell<Option<Task>> = RefCell::new(None);
}

impl Task {
    pub(crate) fn new() -> Self {
        Task(Arc::new(task_struct {
            timer_slack_ns: 0,
            run: Mutex::new(Run {
                running: true,
                ..Run::default()
            }),
            woken: Condvar::new(),
        }))
    }

    /// Makes the calling thread this task.
    pub(crate) fn enter(&self) {
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
    }

    pub(crate) fn current() -> Self {
        CURRENT.with(|current| current.borrow().clone().expect("a task"))
    }

    pub(crate) fn signal_pending(&self) -> bool {
        self.0.run.lock().unwrap().signal
    }

    pub(crate) fn set_running(&self, running: bool) {
        self.0.run.lock().unwrap().running = running;
    }

    /// Sends the task a signal.
    pub(crate) fn signal(&self) {
        self.wake(|run| run.signal = true);
    }

    /// Fires the task's timer. If the task does not sleep, its next sleep finds the timeout
    /// expired.
    pub(crate) fn time_out(&self) {
        self.wake(|run| run.timed_out = true);
    }

    fn wake(&self, change: impl FnOnce(&mut Run)) {
        let mut run = self.0.run.lock().unwrap();
        change(&mut run);
        run.running = true;
        self.0.woken.notify_one();
    }
}

pub(crate) const TASK_INTERRUPTIBLE: u32 = 1;
pub(crate) const TASK_NORMAL: u32 = 3;
#[allow(non_upper_case_globals)]
pub(crate) const hrtimer_mode_HRTIMER_MODE_ABS: u32 = 0;
const EINTR: c_int = 4;

/// `get_current()`.
///
/// # Safety
///
/// None; it is so in C.
pub(crate) unsafe fn get_current() -> *mut task_struct {
    ptr::from_ref(&*Task::current().0).cast_mut()
}

/// `ktime_get()`.
///
/// # Safety
///
/// None; it is so in C.
pub(crate) unsafe fn ktime_get() -> i64 {
    0
}

/// `schedule_hrtimeout_range()`: sleeps, unless the task was woken since it set its state or a
/// signal is pending.
///
/// # Safety
///
/// None; it is so in C.
pub(crate) unsafe fn schedule_hrtimeout_range(_at: *mut i64, _slack: u64, _mode: u32) -> c_int {
    let task = Task::current();
    let mut run = task.0.run.lock().unwrap();
    while !run.running && !run.signal && !run.timed_out {
        run = task.0.woken.wait(run).unwrap();
    }
    run.running = true;
    if run.timed_out {
        0
    } else {
        -EINTR
    }
}

/// The part of a wait queue entry that its wake function uses.
#[allow(non_camel_case_types)]
pub(crate) struct wait_queue_entry {
    pub(crate) private: *mut c_void,
    pub(crate) _flags: u32,
}

impl Default for wait_queue_entry {
    fn default() -> Self {
        wait_queue_entry {
            private: ptr::null_mut(),
            _flags: 0,
        }
    }
}

/// `default_wake_function()`.
///
/// # Safety
///
/// The entry's task is valid.
pub(crate) unsafe fn default_wake_function(
    entry: *mut wait_queue_entry,
    _mode: u32,
    _flags: c_int,
    _key: *mut c_void,
) -> c_int {
    // SAFETY: By this function's contract.
    let task = unsafe { &*(*entry).private.cast::<task_struct>() };
    let mut run = task.run.lock().unwrap();
    run.running = true;
    task.woken.notify_one();
    1
}
