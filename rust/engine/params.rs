// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, which `/sys/module/kqueue/parameters` has too.
//!
//! They are defined in C (`rust/helpers.c`): those of the `kernel` crate are not in sysfs.

use super::limit;
use crate::{generated, sys::memory::ram::total_memory};

/// How many timers one user may have.
pub(crate) fn max_user_timers() -> usize {
    // SAFETY: Valid, and read at once: it may be written in sysfs.
    unsafe { (&raw const generated::kq_max_user_timers).read_volatile() as usize }
}

/// How many timers there may be in the system.
pub(crate) fn max_timers() -> usize {
    // SAFETY: As above.
    unsafe { (&raw const generated::kq_calloutmax).read_volatile() as usize }
}

/// How many knotes the kqueues of one user may have: in units of a plain one ([`limit`]).
pub(crate) fn max_user_knotes() -> usize {
    // SAFETY: As above.
    unsafe { (&raw const generated::kq_max_user_knotes).read_volatile() as usize }
}

/// How many watches of one object a user may have.
pub(crate) fn max_object_watches() -> usize {
    // SAFETY: As above.
    unsafe { (&raw const generated::kq_max_object_watches).read_volatile() as usize }
}

/// Sets what was not given at load to what fits this machine: a user's knotes may take a 25th of
/// the memory, as with epoll's watches.
pub(crate) fn set_defaults() {
    if max_user_knotes() == 0 {
        let bytes = total_memory() / 25;
        let knotes = u32::try_from(bytes / limit::UNIT as u64).unwrap_or(u32::MAX);
        // SAFETY: Valid, and written at once.
        unsafe { (&raw mut generated::kq_max_user_knotes).write_volatile(knotes) };
    }
}
