// SPDX-License-Identifier: GPL-2.0

//! A workqueue of the module's own, so that unloading can wait for what runs on it.

use crate::generated;
use core::ptr;
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{ordering, Atomic},
    workqueue::Queue, //
};

static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// The module's workqueue exists for as long as this; dropping it waits until it is empty.
///
/// The module has one, and drops it when no file of the module is open any more.
pub(crate) struct OwnQueue(());

impl OwnQueue {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The name is a C string, and is copied.
        let queue = unsafe { generated::kq_alloc_workqueue(name.as_char_ptr()) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, ordering::Release);
        Ok(OwnQueue(()))
    }
}

impl Drop for OwnQueue {
    fn drop(&mut self) {
        // SAFETY: Allocated in `new`. No file of the module is open, so nobody enqueues any more
        // but the work itself, which is waited for.
        unsafe { bindings::destroy_workqueue(QUEUE.load(ordering::Acquire)) };
        QUEUE.store(ptr::null_mut(), ordering::Release);
    }
}

/// The module's workqueue, for the code behind an open file. `None` outside the module's life.
pub(crate) fn queue() -> Option<&'static Queue> {
    let queue = QUEUE.load(ordering::Acquire);
    // SAFETY: Not null, so it was allocated; it is destroyed when no caller is left.
    (!queue.is_null()).then(|| unsafe { Queue::from_raw(queue) })
}
