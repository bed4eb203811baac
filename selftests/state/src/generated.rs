// SPDX-License-Identifier: GPL-2.0

//! What the module has bindgen make of its own C.

use crate::bindings::Task;

/// `set_current_state()`.
///
/// # Safety
///
/// None; it is so in C.
pub(crate) unsafe fn kq_set_current_state(_interruptible: u32) {
    Task::current().set_running(false);
}
