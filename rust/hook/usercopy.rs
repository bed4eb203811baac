// SPDX-License-Identifier: GPL-2.0

//! Copying to userspace without waiting for a page.
//!
//! A page fault can take as long as a program likes (userfaultfd, a file on FUSE). Whoever holds a
//! lock that others want copies with faults off; if that fails it lets the lock go, faults the
//! page in, and tries again.

use crate::{generated, uapi::Kevent};
use core::ffi::c_void;
use kernel::{
    bindings,
    prelude::*,
    transmute::AsBytes, //
};

/// Four bytes of the caller's memory that the kernel may use as it likes, if they are there.
#[derive(Clone, Copy)]
pub(crate) struct Scratch(usize);

impl Scratch {
    /// At `address`, which the kernel has yet to find out about. Good for the current task only.
    pub(crate) fn new(address: usize) -> Self {
        Scratch(address)
    }

    /// Calls `write` with the address, and page faults off; then reads what it has left there,
    /// `None` if that is not possible.
    pub(crate) fn borrow<R>(self, write: impl FnOnce(usize) -> R) -> (R, Option<u32>) {
        let mut left = 0u32;
        // SAFETY: Balanced.
        unsafe { generated::kq_pagefault_disable() };
        let result = write(self.0);
        // SAFETY: Disabled above. The destination is ours; the source is checked by the function.
        let missing = unsafe {
            generated::kq_pagefault_enable();
            bindings::copy_from_user_nofault(
                (&raw mut left).cast(),
                core::ptr::without_provenance(self.0),
                size_of_val(&left),
            )
        };
        (result, (missing == 0).then_some(left))
    }
}

/// An array of events in the caller's memory.
#[derive(Clone, Copy)]
pub(crate) struct UserEvents {
    address: usize,
    len: usize,
}

impl UserEvents {
    /// `len` events at `address`, which the kernel has yet to find out about.
    pub(crate) fn new(address: usize, len: usize) -> Self {
        UserEvents { address, len }
    }

    /// How many events there is room for.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn slot(&self, index: usize) -> Result<usize> {
        if index >= self.len {
            return Err(EFAULT);
        }
        index
            .checked_mul(size_of::<Kevent>())
            .and_then(|offset| self.address.checked_add(offset))
            .ok_or(EFAULT)
    }

    /// Writes events, one after the other from `index` on; never sleeps.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the memory is not there now, for all of them; some may have been written.
    pub(crate) fn write(&self, index: usize, events: &[Kevent]) -> Result {
        let last = index.saturating_add(events.len().saturating_sub(1));
        let address = self.slot(last).and_then(|_| self.slot(index))?;
        let bytes = events.as_bytes();
        // SAFETY: The source is valid for its length; the destination is checked by the function.
        let ret = unsafe {
            bindings::copy_to_user_nofault(
                core::ptr::without_provenance_mut::<c_void>(address),
                bytes.as_ptr().cast(),
                bytes.len(),
            )
        };
        if ret == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Brings in the memory of at most `count` events from `index` on; may sleep, interruptibly.
    /// Changes nothing of it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is no writable memory for one event.
    pub(crate) fn fault_in(&self, index: usize, count: usize) -> Result {
        let address = self.slot(index)?;
        let count = count.min(self.len - index);
        let bytes = count.saturating_mul(size_of::<Kevent>());
        // SAFETY: The range is checked by the function.
        let missing = unsafe {
            bindings::fault_in_safe_writeable(core::ptr::without_provenance(address), bytes)
        };
        if bytes - missing < size_of::<Kevent>() {
            return Err(EFAULT);
        }
        Ok(())
    }
}
