// SPDX-License-Identifier: GPL-2.0

//! The memory that the machine has.

use crate::generated;

/// Bytes of memory that the machine has.
pub(crate) fn total_memory() -> u64 {
    // SAFETY: No preconditions.
    unsafe { generated::kq_total_memory() }
}
