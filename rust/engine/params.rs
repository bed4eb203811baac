// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, which `/sys/module/kqueue/parameters` has too, and whom they limit.
//!
//! They are defined in C (`rust/helpers.c`): those of the `kernel` crate are not in sysfs.

use super::limit;
use crate::generated;
use core::iter::successors;
use kernel::bindings;

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

/// The number of the user that the current task is of, as the initial user namespace has it.
pub(crate) fn current_uid() -> u32 {
    // SAFETY: No preconditions.
    unsafe { generated::kq_current_uid() }
}

/// The numbers of those who made the user namespace that the current task is in, and each one around that, but for the
/// initial one.
pub(crate) fn namespace_owners() -> impl Iterator<Item = u32> {
    // SAFETY: No preconditions.
    let own = unsafe { generated::kq_current_user_ns() };
    // SAFETY: The current task's credentials hold a reference to its namespace, as that does to its parent. They are
    // changed by the task itself only. Neither the parent nor the owner of one changes.
    let parent = |namespace: &*mut bindings::user_namespace| unsafe { (**namespace).parent };
    // SAFETY: As above.
    let owner = |namespace: *mut bindings::user_namespace| unsafe { (*namespace).owner.val };
    let is_inner = move |namespace: &*mut bindings::user_namespace| !parent(namespace).is_null();
    successors(Some(own), move |namespace| Some(parent(namespace)))
        .take_while(is_inner)
        .map(owner)
}

/// True if the current task is not to be limited in timers.
#[cold]
pub(crate) fn may_exceed_limits() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::capable(bindings::CAP_SYS_RESOURCE as i32) }
}

/// Bytes of memory that the machine has.
pub(crate) fn total_memory() -> u64 {
    // SAFETY: No preconditions.
    unsafe { generated::kq_total_memory() }
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
