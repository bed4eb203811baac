// SPDX-License-Identifier: GPL-2.0

//! The user of the current task, and the owners of its user namespaces. All functions run in task
//! context.
//!
//! C header: [`include/linux/user_namespace.h`](srctree/include/linux/user_namespace.h)

use crate::generated;
use core::iter::successors;
use kernel::bindings;

/// The real user id of the current task, as seen in the initial user namespace.
pub(crate) fn current_uid() -> u32 {
    // SAFETY: The function has no preconditions.
    unsafe { generated::kq_current_uid() }
}

/// The user ids of the owners of the current task's user namespace and of all its ancestors except
/// the initial one.
pub(crate) fn namespace_owners() -> impl Iterator<Item = u32> {
    // SAFETY: The function has no preconditions.
    let own = unsafe { generated::kq_current_user_ns() };
    // SAFETY: The credentials of the current task hold a reference to its namespace, and each
    // namespace holds a reference to its parent. Only the task itself changes its credentials. The
    // parent and the owner of a namespace never change.
    let parent = |namespace: &*mut bindings::user_namespace| unsafe { (**namespace).parent };
    // SAFETY: The credentials of the current task hold a reference to its namespace, and each
    // namespace holds a reference to its parent. The owner of a namespace never changes.
    let owner = |namespace: *mut bindings::user_namespace| unsafe { (*namespace).owner.val };
    let is_inner = move |namespace: &*mut bindings::user_namespace| !parent(namespace).is_null();
    successors(Some(own), move |namespace| Some(parent(namespace)))
        .take_while(is_inner)
        .map(owner)
}

/// True if the current task may exceed the limits on the number of timers (`CAP_SYS_RESOURCE`).
#[cold]
pub(crate) fn may_exceed_limits() -> bool {
    // SAFETY: The function has no preconditions.
    unsafe { bindings::capable(bindings::CAP_SYS_RESOURCE as i32) }
}
