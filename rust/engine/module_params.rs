// SPDX-License-Identifier: GPL-2.0

//! The parameters of the module, which are also in `/sys/module/kqueue/parameters`.
//!
//! They are defined in C (`rust/helpers.c`), because the parameters of the `kernel` crate are not
//! in sysfs. A value guards no other memory, so the loads need no ordering.

use super::knote_limit;
use crate::{generated, sys::memory::total_memory::total_memory};

/// The maximum number of timers of one user.
pub(crate) fn max_user_timers() -> usize {
    // SAFETY: The variable is valid. A single load reads it, because sysfs may write it at any
    // time.
    unsafe { (&raw const generated::kq_max_user_timers).read_volatile() as usize }
}

/// The maximum number of timers in the system.
pub(crate) fn max_timers() -> usize {
    // SAFETY: The variable is valid. A single load reads it, because sysfs may write it at any
    // time.
    unsafe { (&raw const generated::kq_calloutmax).read_volatile() as usize }
}

/// The maximum number of knotes in all kqueues of one user, in units of a plain knote
/// ([`knote_limit`]).
pub(crate) fn max_user_knotes() -> usize {
    // SAFETY: The variable is valid. A single load reads it, because sysfs may write it at any
    // time.
    unsafe { (&raw const generated::kq_max_user_knotes).read_volatile() as usize }
}

/// The maximum number of watches of one object for one user.
pub(crate) fn max_object_watches() -> usize {
    // SAFETY: The variable is valid. A single load reads it, because sysfs may write it at any
    // time.
    unsafe { (&raw const generated::kq_max_object_watches).read_volatile() as usize }
}

/// Sets the parameters that were not given at load to defaults for this machine. The knotes of a
/// user may occupy a 25th of the memory, as the watches of epoll may.
pub(crate) fn set_defaults() {
    if max_user_knotes() == 0 {
        let bytes = total_memory() / 25;
        let knotes = u32::try_from(bytes / knote_limit::UNIT as u64).unwrap_or(u32::MAX);
        // SAFETY: The variable is valid. A single store writes it.
        unsafe { (&raw mut generated::kq_max_user_knotes).write_volatile(knotes) };
    }
}
