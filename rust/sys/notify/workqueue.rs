// SPDX-License-Identifier: GPL-2.0

//! The module's own workqueue. Destroying it at unload waits for all work that is queued on it.

use crate::generated;
use core::ptr;
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{ordering, Atomic},
    workqueue::Queue, //
};

/// The queue, or null. The store has release ordering and the load acquire ordering, so a task that
/// reads the pointer sees the initialised queue.
static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// The owner of the module's workqueue. Dropping it waits until the queue is empty, and destroys
/// it.
///
/// The module has exactly one. It drops the owner after the last file of the module was closed.
pub(crate) struct ModuleWorkqueue(());

impl ModuleWorkqueue {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The name is a C string. The function copies it.
        let queue = unsafe { generated::kq_alloc_workqueue(name.as_char_ptr()) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, ordering::Release);
        Ok(ModuleWorkqueue(()))
    }
}

impl Drop for ModuleWorkqueue {
    fn drop(&mut self) {
        // SAFETY: The queue was allocated in `new`. No file of the module is open, so only work
        // items that are still running can queue more work. `destroy_workqueue` waits for these.
        unsafe { bindings::destroy_workqueue(QUEUE.load(ordering::Acquire)) };
        QUEUE.store(ptr::null_mut(), ordering::Release);
    }
}

/// The module's workqueue, for code that runs on behalf of an open file. `None` before the module
/// is initialised and after it is unloaded.
pub(crate) fn queue() -> Option<&'static Queue> {
    let queue = QUEUE.load(ordering::Acquire);
    // SAFETY: The pointer is not null, so the queue was allocated. It is destroyed only when no
    // caller is left.
    (!queue.is_null()).then(|| unsafe { Queue::from_raw(queue) })
}
