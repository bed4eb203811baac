// SPDX-License-Identifier: GPL-2.0

//! Work that the current task does before it returns to userspace.
//!
//! C header: [`include/linux/task_work.h`](srctree/include/linux/task_work.h)

use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings,
    fs::File, //
    prelude::*,
    sync::aref::ARef,
};

/// One piece of work, and what keeps the module loaded until it is done.
#[repr(C)]
struct Work<F: FnOnce() + Send> {
    // First, so that a pointer to it is a pointer to the whole.
    head: bindings::callback_head,
    work: F,
    /// A file of this module: it pins the module. It is put last, and what `fput` then defers
    /// runs after this callback has returned, so no text of ours can be gone too early.
    pin: ARef<File>,
}

impl<F: FnOnce() + Send> Work<F> {
    /// The task work's function.
    ///
    /// # Safety
    ///
    /// `head` is that of a leaked box of `Self`, which it takes over.
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: `head` is the first field of the box that `run_on_return` leaked.
        let this = unsafe { KBox::from_raw(head.cast::<Work<F>>()) };
        let Work { work, pin, .. } = KBox::into_inner(this);
        work();
        drop(pin);
    }
}

/// Has `work` done by the current task before it returns to userspace. From atomic context.
///
/// `pin` is an open file of this module.
///
/// # Errors
///
/// Gives `work` and `pin` back if there is no memory, or this task never returns to userspace.
pub(crate) fn run_on_return<F: FnOnce() + Send + 'static>(
    work: F,
    pin: ARef<File>,
) -> Result<(), (F, ARef<File>)> {
    let Ok(slot) = KBox::<Work<F>>::new_uninit(GFP_ATOMIC | __GFP_NOWARN) else {
        return Err((work, pin));
    };
    let head = bindings::callback_head {
        func: Some(Work::<F>::run),
        ..Default::default()
    };
    let raw = KBox::into_raw(KBox::write(slot, Work { head, work, pin }));
    // SAFETY: The current task is valid, and the callback head is initialised. From success on it
    // belongs to the task's list.
    let ret = unsafe {
        bindings::task_work_add(
            bindings::get_current(),
            raw.cast(),
            bindings::task_work_notify_mode_TWA_RESUME,
        )
    };
    if ret == 0 {
        return Ok(());
    }
    // SAFETY: Not queued, so the box is still ours.
    let this = unsafe { KBox::from_raw(raw) };
    let Work { work, pin, .. } = KBox::into_inner(this);
    Err((work, pin))
}
