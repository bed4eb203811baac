// SPDX-License-Identifier: GPL-2.0

//! Work that the current task does before it returns to userspace.
//!
//! C header: [`include/linux/task_work.h`](srctree/include/linux/task_work.h)

use kernel::{bindings, error::to_result, prelude::*};

/// The function of a work, which is called with the head that was queued.
pub(in crate::sys) type Function = unsafe extern "C" fn(*mut bindings::callback_head);

/// Has `function` called with `head` by the current task before it returns to userspace. From
/// any context but NMI. No memory is allocated.
///
/// # Errors
///
/// `ESRCH` if the task does not return to userspace any more: it is past the point of its exit at
/// which it does such work, or it is a kernel thread.
///
/// # Safety
///
/// `head` is valid for writes, and nobody else uses it until the function is called, if this
/// succeeds. The module's text stays until the function has returned.
pub(crate) unsafe fn add(head: *mut bindings::callback_head, function: Function) -> Result {
    // SAFETY: By this function's contract; the current task is valid.
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
