// SPDX-License-Identifier: GPL-2.0

//! A few bytes of a program's memory, for calls that answer to an address in it.

use crate::generated;
use kernel::bindings;

/// Four bytes of the caller's memory that the kernel may use for a while, if they are there.
#[derive(Clone, Copy)]
pub(crate) struct Scratch(usize);

impl Scratch {
    /// None. (At address 0 there is no memory, as a rule.)
    pub(crate) const NONE: Self = Scratch(0);

    /// At `address`, which the kernel has yet to find out about. Good for the current task only.
    pub(crate) fn new(address: usize) -> Self {
        Scratch(address)
    }

    /// Reads what is there; `None` if that is not possible without waiting for a page.
    fn read(self) -> Option<u32> {
        let mut value = 0u32;
        // SAFETY: The destination is ours; the source is checked by the function.
        let missing = unsafe {
            bindings::copy_from_user_nofault(
                (&raw mut value).cast(),
                core::ptr::without_provenance(self.0),
                size_of_val(&value),
            )
        };
        (missing == 0).then_some(value)
    }

    /// Calls `write` with the address, and page faults off; then gives what it has left there, and
    /// puts back what was there before. `None` if that is not possible; `write` may not have been
    /// called then.
    pub(crate) fn borrow<R>(self, write: impl FnOnce(usize) -> R) -> Option<(R, u32)> {
        let before = self.read()?;
        // SAFETY: Balanced.
        unsafe { generated::kq_pagefault_disable() };
        let result = write(self.0);
        // SAFETY: Disabled above.
        unsafe { generated::kq_pagefault_enable() };
        let left = self.read();
        // SAFETY: The source is ours; the destination is checked by the function. If the memory is
        // gone by now, there is nothing to put back.
        let _ = unsafe {
            bindings::copy_to_user_nofault(
                core::ptr::without_provenance_mut(self.0),
                (&raw const before).cast(),
                size_of_val(&before),
            )
        };
        Some((result, left?))
    }
}
