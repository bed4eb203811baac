// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, which `/sys/module/kqueue/parameters` has too, and whom they limit.
//!
//! They are defined in C (`rust/helpers.c`): those of the `kernel` crate are not in sysfs.

use crate::generated;

/// How many timers there may be in the system.
pub(crate) fn max_timers() -> usize {
    // SAFETY: Valid, and read at once: it may be written in sysfs.
    unsafe { (&raw const generated::kq_calloutmax).read_volatile() as usize }
}

/// How many knotes the kqueues of one user may have.
pub(crate) fn max_user_knotes() -> usize {
    // SAFETY: As above.
    unsafe { (&raw const generated::kq_max_user_knotes).read_volatile() as usize }
}

/// The number of the user that the current task is of, as the initial user namespace has it.
pub(crate) fn current_uid() -> u32 {
    // SAFETY: No preconditions.
    unsafe { generated::kq_current_uid() }
}

/// Bytes of memory that the machine has.
pub(crate) fn total_memory() -> u64 {
    // SAFETY: No preconditions.
    unsafe { generated::kq_total_memory() }
}

/// Sets what was not given at load to what fits this machine: a user's knotes may take a 25th of
/// the memory, as with epoll's watches.
pub(crate) fn set_defaults() {
    /// A knote and its place in the table, in bytes, and as much again for what some filters need.
    const KNOTE_COST: u64 = 320;
    if max_user_knotes() == 0 {
        let bytes = total_memory() / 25;
        let knotes = u32::try_from(bytes / KNOTE_COST).unwrap_or(u32::MAX);
        // SAFETY: Valid, and written at once.
        unsafe { (&raw mut generated::kq_max_user_knotes).write_volatile(knotes) };
    }
}
