// SPDX-License-Identifier: GPL-2.0

//! The amount of memory in the machine.

use crate::generated;

/// The total memory of the machine in bytes.
pub(crate) fn total_memory() -> u64 {
    // SAFETY: The function has no preconditions.
    unsafe { generated::kq_total_memory() }
}
