// SPDX-License-Identifier: GPL-2.0

//! The functions that bindgen generates from the C code of the module.

use crate::bindings::Task;

/// `set_current_state()`.
///
/// # Safety
///
/// None; it is so in C.
pub(crate) unsafe fn kq_set_current_state(_interruptible: u32) {
    Task::current().set_running(false);
}
