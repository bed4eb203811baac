// SPDX-License-Identifier: GPL-2.0

//! Users: whose is the current task, and who made the user namespaces that it is in?
//!
//! C header: [`include/linux/user_namespace.h`](srctree/include/linux/user_namespace.h)

use crate::generated;
use core::iter::successors;
use kernel::bindings;

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
