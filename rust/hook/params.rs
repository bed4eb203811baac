// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, which `/sys/module/kqueue/parameters` has too, and whom they limit.
//!
//! They are defined in C (`rust/helpers.c`): those of the `kernel` crate are not in sysfs.

use super::arrayvec::ArrayVec;
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

/// How many watches of one object a user may have.
pub(crate) fn max_object_watches() -> usize {
    // SAFETY: As above.
    unsafe { (&raw const generated::kq_max_object_watches).read_volatile() as usize }
}

/// User namespaces are nested 32 times at most (`create_user_ns`), and each has an owner.
const MOST_USERS: usize = 34;

/// Numbers of users, as the initial user namespace has them.
pub(crate) type Uids = ArrayVec<u32, MOST_USERS>;

/// The user that the current task is of, and the owners of the user namespaces that it is in, from the inside out,
/// each once.
pub(crate) fn current_uids() -> Uids {
    let mut uids = Uids::new();
    // SAFETY: A task has a user namespace, which has all those that it is in, as long as it does not change
    // that itself; the initial one has no parent.
    unsafe {
        let _ = uids.push(generated::kq_current_uid());
        let mut namespace = generated::kq_current_user_ns();
        loop {
            let parent = generated::kq_user_ns_parent(namespace);
            if parent.is_null() {
                return uids;
            }
            let owner = generated::kq_user_ns_owner(namespace);
            if !uids.contains(&owner) {
                let _ = uids.push(owner);
            }
            namespace = parent;
        }
    }
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
