// SPDX-License-Identifier: GPL-2.0

//! Copying to userspace without waiting for a page.
//!
//! A page fault can take as long as a program likes (userfaultfd, a file on FUSE). Whoever holds a
//! lock that others want copies with faults off; if that fails it lets the lock go, faults the
//! page in, and tries again.

use crate::{generated, uapi::Kevent};
use core::mem::MaybeUninit;
use kernel::{
    bindings,
    prelude::*,
    transmute::FromBytes, //
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

/// Room for some events. It need not be cleared before events are read into it.
pub(crate) struct Buffer([MaybeUninit<Kevent>; Buffer::SIZE]);

impl Buffer {
    /// How many there is room for (the specification's `KQ_NEVENTS`).
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn new() -> Self {
        Buffer([const { MaybeUninit::uninit() }; Buffer::SIZE])
    }
}

/// Reads a value of whole words into `slot`. May sleep.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn read<T: FromBytes>(address: usize, slot: &mut MaybeUninit<T>) -> Result<&mut T> {
    read_words(address, slot.as_mut_ptr(), 1)?;
    // SAFETY: It was read, and all bytes are valid.
    Ok(unsafe { slot.assume_init_mut() })
}

/// Reads `count` values, each of some times four words, from the caller's memory to `to`,
/// which has room for them.
#[inline]
fn read_words<T: FromBytes>(address: usize, to: *mut T, count: usize) -> Result {
    const { assert!(size_of::<T>() % 32 == 0 && align_of::<T>() == 8) };
    let words = u32::try_from(count * (size_of::<T>() / 8)).map_err(|_| EFAULT)?;
    // SAFETY: The destination is valid for that many words; the source is checked by the function.
    let ret = unsafe {
        generated::kq_copy_words_from_user(
            to.cast(),
            core::ptr::without_provenance_mut(address),
            words,
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// An array of events in the caller's memory.
///
/// # Invariants
///
/// Its end is not beyond the end of all memory; but it may be anywhere.
#[derive(Clone, Copy)]
pub(crate) struct UserEvents {
    address: usize,
    len: usize,
}

impl UserEvents {
    /// `len` events at `address`, which the kernel has yet to find out about.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there cannot be so many.
    #[inline]
    pub(crate) fn new(address: usize, len: usize) -> Result<Self> {
        // INVARIANT: Here it is checked.
        len.checked_mul(size_of::<Kevent>())
            .and_then(|bytes| address.checked_add(bytes))
            .ok_or(EFAULT)?;
        Ok(UserEvents { address, len })
    }

    /// How many events there is room for.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the event with that number is; at the end, if there is none.
    #[inline]
    fn slot(&self, index: usize) -> usize {
        // By the invariant there is nothing to wrap.
        let offset = index.min(self.len).wrapping_mul(size_of::<Kevent>());
        self.address.wrapping_add(offset)
    }

    /// Writes events, one after the other from `index` on; never sleeps.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the memory is not there now, for all of them; some may have been written.
    #[inline]
    pub(crate) fn write(&self, index: usize, events: &[Kevent]) -> Result {
        if events.len() > self.len.wrapping_sub(index) {
            return Err(EFAULT);
        }
        let address = self.slot(index);
        let count = events.len() as u32;
        // SAFETY: The source is valid for its length; the destination is checked by the function. Page
        // faults are off, in balance.
        let ret = unsafe {
            generated::kq_pagefault_disable();
            let ret = generated::kq_copy_events_to_user(
                core::ptr::without_provenance_mut(address),
                events.as_ptr().cast(),
                count,
            );
            generated::kq_pagefault_enable();
            ret
        };
        if ret == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Reads some events from `index` on into `buffer`. May sleep.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn read<'a>(
        &self,
        index: usize,
        buffer: &'a mut Buffer,
    ) -> Result<&'a mut [Kevent]> {
        let count = Buffer::SIZE.min(self.len - index.min(self.len));
        if count == 0 {
            return Ok(&mut []);
        }
        let address = self.slot(index);
        read_words::<Kevent>(address, buffer.0.as_mut_ptr().cast(), count)?;
        // SAFETY: That many were read, and are plain numbers.
        Ok(unsafe { core::slice::from_raw_parts_mut(buffer.0.as_mut_ptr().cast(), count) })
    }

    /// Brings in the memory of at most `count` events from `index` on; may sleep, interruptibly.
    /// Changes nothing of it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is no writable memory for one event.
    pub(crate) fn fault_in(&self, index: usize, count: usize) -> Result {
        let address = self.slot(index);
        let count = count.min(self.len.saturating_sub(index));
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
