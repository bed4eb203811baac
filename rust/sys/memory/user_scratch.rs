// SPDX-License-Identifier: GPL-2.0

//! A few bytes of user memory, lent to operations that write their result to a user-space address.
//!
//! The page at the address must be resident, because the accesses never wait for a page fault. All
//! functions run in task context and do not sleep by themselves.

use crate::generated;

/// Four bytes of user memory that the kernel may use temporarily, if they are accessible.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserScratch(usize);

impl UserScratch {
    /// No scratch memory.
    pub(crate) const NONE: Self = UserScratch(0);

    /// Scratch memory at `address`, or none if that is 0. The address is not checked before it is
    /// used. It is meaningful in the current task only.
    pub(crate) fn new(address: usize) -> Self {
        UserScratch(address)
    }

    /// Reads the bytes. `None` if that is not possible without a page fault. Page faults are
    /// disabled.
    fn read(self) -> Option<u32> {
        let mut value = 0u32;
        // SAFETY: The destination is a local variable. The function checks the source.
        let result = unsafe {
            generated::kq_get_user(&raw mut value, core::ptr::without_provenance(self.0))
        };
        (result == 0).then_some(value)
    }

    /// Calls `write` with the address while page faults are disabled. Returns its result and the
    /// value that it stored at the address, and restores the previous value. `None` if the memory
    /// is not accessible, in which case `write` may not have been called.
    pub(crate) fn borrow<R>(self, write: impl FnOnce(usize) -> R) -> Option<(R, u32)> {
        if self == Self::NONE {
            return None;
        }
        // SAFETY: The matching enable call follows below.
        unsafe { generated::kq_pagefault_disable() };
        let lent = self.read().map(|before| {
            let result = write(self.0);
            let left = self.read();
            // SAFETY: The function checks the destination. If the memory was unmapped meanwhile,
            // nothing has to be restored.
            let _ = unsafe {
                generated::kq_put_user(before, core::ptr::without_provenance_mut(self.0))
            };
            (result, left)
        });
        // SAFETY: Page faults were disabled above.
        unsafe { generated::kq_pagefault_enable() };
        let (result, left) = lent?;
        Some((result, left?))
    }
}
