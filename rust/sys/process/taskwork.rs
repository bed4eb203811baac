// SPDX-License-Identifier: GPL-2.0

//! Callbacks that the current task runs before it returns to user space.
//!
//! A callback runs in the context of the task, with no locks held, and may sleep.
//!
//! C header: [`include/linux/task_work.h`](srctree/include/linux/task_work.h)

use kernel::{bindings, error::to_result, prelude::*};

/// The callback. Its argument is the `callback_head` that was queued.
pub(in crate::sys) type Function = unsafe extern "C" fn(*mut bindings::callback_head);

/// Makes the current task call `function` with `head` before it returns to user space. May be
/// called in any context but NMI. Does not allocate memory.
///
/// # Errors
///
/// `ESRCH` if the task will not return to user space: it is a kernel thread, or it has passed the
/// point of its exit at which it runs its last task work.
///
/// # Safety
///
/// `head` is valid for writes. If this function succeeds, nothing else uses `head` until `function`
/// is called, and the text of the module stays in memory until `function` has returned.
pub(crate) unsafe fn add(head: *mut bindings::callback_head, function: Function) -> Result {
    // SAFETY: The caller upholds this function's safety contract. The current task is valid.
    unsafe {
        let task = bindings::get_current();
        if (*task).flags & bindings::PF_KTHREAD != 0 {
            return Err(ESRCH);
        }
        head.write(bindings::callback_head {
            next: core::ptr::null_mut(),
            func: Some(function),
        });
        to_result(bindings::task_work_add(
            task,
            head,
            bindings::task_work_notify_mode_TWA_RESUME,
        ))
    }
}
