// SPDX-License-Identifier: GPL-2.0

//! The end of a process, told to a target.
//!
//! The wait queue of a process's `struct pid` that pidfds are polled on is woken when the process can be waited for, and
//! when one of several threads has gone. An [`Exit`] has an entry in that queue.
//!
//! # Context
//!
//! `Wake::wake` runs under the lock of that wait queue, and tasklist_lock, with interrupts off: it may take
//! interrupt-safe spin locks only.
//!
//! C header: [`include/linux/pid.h`](srctree/include/linux/pid.h)

use super::pid::Process;
use crate::sys::file::poll::{Entry, Events};
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

/// Something that wants to know when a wait queue is woken.
pub(crate) trait Wake: Send + Sync + 'static {
    /// It was; see the module's notes on context.
    fn wake(&self);
}

/// Somebody who is told of the end of a process, with the entry for that.
#[pin_data]
#[repr(C)]
pub(crate) struct ExitWatch<T> {
    // First, so that a pointer to it is a pointer to the whole.
    entry: Entry,
    process: Process,
    #[pin]
    target: T,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The wait-queue entry is only touched under its queue's lock.
unsafe impl<T: Send> Send for ExitWatch<T> {}

// SAFETY: As above.
unsafe impl<T: Sync> Sync for ExitWatch<T> {}

impl<T> ExitWatch<T> {
    /// Whose end it is.
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
    ExitWatch<T>: Wake,
{
    /// The wake function of the wait-queue entry.
    ///
    /// # Safety
    ///
    /// `wait` is that of a `ExitWatch<T>`, and linked; called under its queue's lock.
    unsafe extern "C" fn woken(
        wait: *mut bindings::wait_queue_entry,
        _mode: kernel::ffi::c_uint,
        _sync: kernel::ffi::c_int,
        key: *mut c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: `wait` is the first field of a live `ExitWatch<T>`: it is linked, and not freed
        // before it was unlinked under the lock that our caller holds.
        unsafe {
            let this = &*wait.cast::<ExitWatch<T>>();
            Entry::woken(wait, key, Events::IN, || this.wake());
        }
        1
    }
}

/// Listens to the end of a process, on behalf of a [`ExitWatch`], until it is dropped.
///
/// # Invariants
///
/// Made with the watch, whose entry nobody else links.
pub(crate) struct Exit<T>(Arc<ExitWatch<T>>);

impl<T> Exit<T>
where
    ExitWatch<T>: Wake,
{
    /// Has `target` told of the end of `process`. With `GFP_ATOMIC` from anywhere.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(process: Process, target: impl PinInit<T>, flags: Flags) -> Result<Self> {
        let watch = Arc::pin_init(
            pin_init!(ExitWatch {
                entry: Entry::new(ExitWatch::<T>::woken),
                process,
                target <- target,
                _pin: PhantomPinned,
            }),
            flags,
        )?;
        // SAFETY: The queue lives as long as the process's `struct pid`, of which the watch has a
        // reference. It is pinned, and detached in `drop`.
        unsafe { watch.entry.link(watch.process.exit_queue()) };
        Ok(Exit(watch))
    }
}

impl<T> Exit<T> {
    /// The watch.
    pub(crate) fn watch(&self) -> &Arc<ExitWatch<T>> {
        &self.0
    }
}

impl<T> Drop for Exit<T> {
    fn drop(&mut self) {
        self.0.entry.detach();
    }
}
