// SPDX-License-Identifier: GPL-2.0

//! Signals of the current task.

use crate::generated;

/// True if a fatal signal is pending for the current task. Such a task returns to user space no
/// more, so nothing waits for the results of its work.
pub(crate) fn is_being_killed() -> bool {
    // SAFETY: The function has no preconditions.
    unsafe { generated::kq_fatal_signal_pending() }
}
