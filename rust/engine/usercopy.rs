// SPDX-License-Identifier: GPL-2.0

//! Copying from and to user space.
//!
//! A program can make a page fault take as long as it likes (userfaultfd, a file on FUSE). So a
//! task that holds a kqueue's mutex copies with page faults disabled. If the copy fails, the task
//! releases the mutex, faults the page in, and tries again.

use crate::{
    generated,
    sys::memory::user_scratch::UserScratch,
    uapi::{Kevent, KeventArgs}, //
};
use core::mem::MaybeUninit;
use kernel::{bindings, prelude::*};

/// Memory for a few events. It is not initialised before events are read into it.
///
/// # Invariants
///
/// The first `len` events are initialised.
pub(crate) struct Buffer {
    events: [MaybeUninit<Kevent>; Buffer::SIZE],
    len: usize,
}

impl Buffer {
    /// The maximum number of events (the specification's `KQ_NEVENTS`).
    pub(crate) const SIZE: usize = 16;

    /// An empty buffer in `slot`, for the same reason as
    /// [`ArrayVec::new_in`](crate::sys::memory::arrayvec::ArrayVec::new_in).
    #[inline(always)]
    pub(crate) fn new_in(slot: &mut MaybeUninit<Self>) -> &mut Self {
        let buffer = slot.as_mut_ptr();
        // INVARIANT: No event is initialised, and `len` is 0.
        // SAFETY: The pointer is valid. After the store all fields have a valid value, because the
        // events may have any.
        unsafe {
            (&raw mut (*buffer).len).write(0);
            &mut *buffer
        }
    }

    /// The events that were read last.
    pub(crate) fn events(&self) -> &[Kevent] {
        // SAFETY: By the type's invariant.
        unsafe { core::slice::from_raw_parts(self.events.as_ptr().cast(), self.len) }
    }
}

/// Copies the arguments of a call into `slot`. May sleep.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn read_args(
    address: usize,
    slot: &mut MaybeUninit<KeventArgs>,
) -> Result<&mut KeventArgs> {
    // SAFETY: The destination has the size of the arguments. The function checks the source.
    let ret = unsafe {
        generated::kq_copy_args_from_user(
            slot.as_mut_ptr().cast(),
            core::ptr::without_provenance_mut(address),
        )
    };
    if ret != 0 {
        return Err(EFAULT);
    }
    // SAFETY: All bytes were written, and the type consists of integers.
    Ok(unsafe { slot.assume_init_mut() })
}

/// Copies one event into `slot`. May sleep.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn read_event(address: usize, slot: &mut MaybeUninit<Kevent>) -> Result<&mut Kevent> {
    // SAFETY: The destination has the size of an event. The function checks the source.
    let ret = unsafe {
        generated::kq_copy_event_from_user(
            slot.as_mut_ptr().cast(),
            core::ptr::without_provenance_mut(address),
        )
    };
    if ret != 0 {
        return Err(EFAULT);
    }
    // SAFETY: All bytes were written, and the type consists of integers.
    Ok(unsafe { slot.assume_init_mut() })
}

/// An array of events in the caller's memory. It is read or written from the front.
///
/// # Invariants
///
/// The end of the array is within the address space. The array need not be in user memory.
pub(crate) struct UserEvents {
    address: usize,
    len: usize,
}

impl UserEvents {
    /// No events.
    pub(crate) const NONE: Self = UserEvents { address: 0, len: 0 };

    /// `len` events at `address`. Only the overflow of the end address is checked here.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the array would extend beyond the address space.
    #[inline]
    pub(crate) fn new(address: usize, len: usize) -> Result<Self> {
        // INVARIANT: The checked arithmetic guarantees that the end is within the address space.
        len.checked_mul(size_of::<Kevent>())
            .and_then(|bytes| address.checked_add(bytes))
            .ok_or(EFAULT)?;
        Ok(UserEvents { address, len })
    }

    /// The memory of the next event, as scratch memory.
    #[inline]
    pub(crate) fn scratch(&self) -> UserScratch {
        UserScratch::new(self.address)
    }

    /// The number of events that are left to be read or written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Skips `count` events that were read or written. `count` is at most `len`.
    #[inline]
    fn advance(&mut self, count: usize) {
        // INVARIANT: The end of the array does not change, so nothing wraps around.
        self.len = self.len.wrapping_sub(count);
        self.address = self
            .address
            .wrapping_add(count.wrapping_mul(size_of::<Kevent>()));
    }

    /// Writes events in order. Never sleeps.
    ///
    /// # Errors
    ///
    /// `EFAULT` if a part of the memory is not present. Some of the events may have been written.
    #[inline]
    pub(crate) fn write(&mut self, events: &[Kevent]) -> Result {
        if events.len() > self.len {
            return Err(EFAULT);
        }
        // SAFETY: The source is a valid slice. The function checks the destination.
        let ret = unsafe {
            generated::kq_copy_events_to_user_nofault(
                core::ptr::without_provenance_mut(self.address),
                events.as_ptr().cast(),
                events.len() as u32,
            )
        };
        if ret != 0 {
            return Err(EFAULT);
        }
        self.advance(events.len());
        Ok(())
    }

    /// [`UserEvents::write`] for a caller that may sleep in a page fault.
    ///
    /// # Errors
    ///
    /// `EFAULT`. Some of the events may have been written.
    pub(crate) fn write_waiting(&mut self, events: &[Kevent]) -> Result {
        if events.len() > self.len {
            return Err(EFAULT);
        }
        // SAFETY: The source is a valid slice. The function checks the destination.
        let missing = unsafe {
            bindings::copy_to_user(
                core::ptr::without_provenance_mut(self.address),
                events.as_ptr().cast(),
                size_of_val(events),
            )
        };
        if missing != 0 {
            return Err(EFAULT);
        }
        self.advance(events.len());
        Ok(())
    }

    /// Reads the next events into `buffer`. The result is empty if none are left. May sleep.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn read<'a>(&mut self, buffer: &'a mut Buffer) -> Result<&'a mut [Kevent]> {
        let count = self.len.min(Buffer::SIZE);
        // INVARIANT: The copy may overwrite a part of the events, so none counts as initialised.
        buffer.len = 0;
        // SAFETY: The destination has room for `count` events. The function checks the source.
        let ret = unsafe {
            generated::kq_copy_events_from_user(
                buffer.events.as_mut_ptr().cast(),
                core::ptr::without_provenance_mut(self.address),
                count as u32,
            )
        };
        if ret != 0 {
            return Err(EFAULT);
        }
        self.advance(count);
        // INVARIANT: `count` events were read, and an event consists of integers.
        buffer.len = count;
        // SAFETY: The first `count` events of the buffer are initialised.
        Ok(unsafe { core::slice::from_raw_parts_mut(buffer.events.as_mut_ptr().cast(), count) })
    }

    /// Faults in the memory of at most `count` events without changing it. The sleep is
    /// interruptible.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is no writable memory for one event.
    pub(crate) fn fault_in(&self, count: usize) -> Result {
        let bytes = count.min(self.len).saturating_mul(size_of::<Kevent>());
        // SAFETY: The function checks the range.
        let missing = unsafe {
            bindings::fault_in_safe_writeable(core::ptr::without_provenance(self.address), bytes)
        };
        if bytes - missing < size_of::<Kevent>() {
            return Err(EFAULT);
        }
        Ok(())
    }
}
