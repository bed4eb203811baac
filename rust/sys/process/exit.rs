// SPDX-License-Identifier: GPL-2.0

//! Notification of the exit of a process.
//!
//! pidfds are polled on the wait queue of the process's `struct pid`. The kernel wakes this queue
//! when the process becomes waitable, and when one of several threads has exited. An [`ExitHandle`]
//! links an entry into that queue.
//!
//! # Context
//!
//! `ExitTarget::wake` runs under the lock of that wait queue and under `tasklist_lock`, with
//! interrupts disabled. It may take only interrupt-safe spin locks.
//!
//! C header: [`include/linux/pid.h`](srctree/include/linux/pid.h)

use super::pid::Process;
use crate::sys::file::poll::{PollEvents, WaitEntry};
use core::{
    ffi::c_void,
    marker::PhantomPinned,
    ops::Deref, //
};
use kernel::{
    alloc::Flags,
    bindings,
    prelude::*,
    sync::Arc, //
};

/// The callback for the wake-up of a wait queue.
pub(crate) trait ExitTarget: Send + Sync + 'static {
    /// The wait queue was woken. See the module's documentation for the context.
    fn wake(&self);
}

/// A target to be notified of the exit of a process, with its wait-queue entry.
#[pin_data]
#[repr(C)]
pub(crate) struct ExitWatch<T> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    wait_entry: WaitEntry,
    process: Process,
    #[pin]
    target: T,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The wait-queue entry is only accessed under the lock of its queue.
unsafe impl<T: Send> Send for ExitWatch<T> {}

// SAFETY: The wait-queue entry is only accessed under the lock of its queue.
unsafe impl<T: Sync> Sync for ExitWatch<T> {}

impl<T> ExitWatch<T> {
    /// The process whose exit is watched.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

impl<T> Deref for ExitWatch<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.target
    }
}

impl<T> ExitWatch<T>
where
    ExitWatch<T>: ExitTarget,
{
    /// The wake function of the wait-queue entry.
    ///
    /// # Safety
    ///
    /// `wait` is the linked entry of an `ExitWatch<T>`. The caller holds the lock of its queue.
    unsafe extern "C" fn wake_function(
        wait: *mut bindings::wait_queue_entry,
        _mode: kernel::ffi::c_uint,
        _sync: kernel::ffi::c_int,
        key: *mut c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: `wait` is the first field of an `ExitWatch<T>`. The watch is alive, because the
        // entry is linked and the watch is not freed before the entry was unlinked under the lock
        // that the caller holds.
        unsafe {
            let this = &*wait.cast::<ExitWatch<T>>();
            WaitEntry::handle_wake_up(wait, key, PollEvents::IN, |_| this.wake());
        }
        1
    }
}

/// The registration of an [`ExitWatch`]. Dropping it detaches the watch.
///
/// # Invariants
///
/// Only the constructor links the entry of the watch.
pub(crate) struct ExitHandle<T>(Arc<ExitWatch<T>>);

impl<T> ExitHandle<T>
where
    ExitWatch<T>: ExitTarget,
{
    /// Notifies `target` of the exit of `process`. With `GFP_ATOMIC` flags this may be called in
    /// any context but NMI.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(process: Process, target: impl PinInit<T>, flags: Flags) -> Result<Self> {
        let watch = Arc::pin_init(
            pin_init!(ExitWatch {
                wait_entry: WaitEntry::new(ExitWatch::<T>::wake_function),
                process,
                target <- target,
                _pin: PhantomPinned,
            }),
            flags,
        )?;
        // SAFETY: The queue lives as long as the `struct pid` of the process, and the watch holds a
        // reference to that. The watch is pinned. `drop` detaches the entry.
        unsafe { watch.wait_entry.link(watch.process.exit_queue()) };
        Ok(ExitHandle(watch))
    }
}

impl<T> ExitHandle<T> {
    /// The watch.
    pub(crate) fn watch(&self) -> &Arc<ExitWatch<T>> {
        &self.0
    }
}

impl<T> Drop for ExitHandle<T> {
    fn drop(&mut self) {
        self.0.wait_entry.detach();
    }
}
