// SPDX-License-Identifier: GPL-2.0

//! Signals of the current task.

use crate::generated;

/// True when the current task is being killed: what it would still do, nobody waits for.
pub(crate) fn is_being_killed() -> bool {
    // SAFETY: No preconditions.
    unsafe { generated::kq_fatal_signal_pending() }
}
