// SPDX-License-Identifier: GPL-2.0

//! Copying to userspace without waiting for a page.
//!
//! A page fault can take as long as a program likes (userfaultfd, a file on FUSE). A task that
//! holds a lock which others want copies with page faults disabled. If that fails it releases the
//! lock, faults the page in, and tries again.

use crate::{
    generated,
    sys::memory::scratch::Scratch,
    uapi::{Kevent, KeventArgs}, //
};
use core::mem::MaybeUninit;
use kernel::{bindings, prelude::*};

/// Room for some events. It need not be cleared before events are read into it.
///
/// # Invariants
///
/// The first `len` are there.
pub(crate) struct Buffer {
    events: [MaybeUninit<Kevent>; Buffer::SIZE],
    len: usize,
}

impl Buffer {
    /// The number of events that there is room for (the specification's `KQ_NEVENTS`).
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn new() -> Self {
        // INVARIANT: There are none.
        Buffer {
            events: [const { MaybeUninit::uninit() }; Buffer::SIZE],
            len: 0,
        }
    }

    /// The events that were last read into it.
    pub(crate) fn events(&self) -> &[Kevent] {
        // SAFETY: By the type's invariant.
        unsafe { core::slice::from_raw_parts(self.events.as_ptr().cast(), self.len) }
    }
}

/// Reads the arguments of a call into `slot`. May sleep.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn read_args(
    address: usize,
    slot: &mut MaybeUninit<KeventArgs>,
) -> Result<&mut KeventArgs> {
    // SAFETY: The destination is valid for its size; the source is checked by the function.
    let ret = unsafe {
        generated::kq_copy_args_from_user(
            slot.as_mut_ptr().cast(),
            core::ptr::without_provenance_mut(address),
        )
    };
    if ret != 0 {
        return Err(EFAULT);
    }
    // SAFETY: It was read, and is plain numbers.
    Ok(unsafe { slot.assume_init_mut() })
}

/// An array of events in the caller's memory. It is read or written from its front on.
///
/// # Invariants
///
/// Its end is not beyond the end of all memory; but it may be anywhere.
pub(crate) struct UserEvents {
    address: usize,
    len: usize,
}

impl UserEvents {
    /// No events.
    pub(crate) const NONE: Self = UserEvents { address: 0, len: 0 };

    /// `len` events at `address`, which was not checked yet.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there cannot be so many events at that address.
    #[inline]
    pub(crate) fn new(address: usize, len: usize) -> Result<Self> {
        // INVARIANT: Here it is checked.
        len.checked_mul(size_of::<Kevent>())
            .and_then(|bytes| address.checked_add(bytes))
            .ok_or(EFAULT)?;
        Ok(UserEvents { address, len })
    }

    /// The memory of the next event.
    #[inline]
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch::new(self.address)
    }

    /// The number of events that are left to read, or that there is room for.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// `count` events were read or written, not more than there were.
    #[inline]
    fn advance(&mut self, count: usize) {
        // INVARIANT: The end stays where it is, so nothing wraps around.
        self.len = self.len.wrapping_sub(count);
        self.address = self
            .address
            .wrapping_add(count.wrapping_mul(size_of::<Kevent>()));
    }

    /// Writes events, one after the other; never sleeps.
    ///
    /// # Errors
    ///
    /// `EFAULT` if not all of the memory is there now; some events may have been written.
    #[inline]
    pub(crate) fn write(&mut self, events: &[Kevent]) -> Result {
        if events.len() > self.len {
            return Err(EFAULT);
        }
        // SAFETY: The source is valid for its length; the destination is checked by the function.
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

    /// Writes events as [`UserEvents::write`] does, but waits for the memory.
    ///
    /// # Errors
    ///
    /// `EFAULT`; some may have been written.
    pub(crate) fn write_waiting(&mut self, events: &[Kevent]) -> Result {
        if events.len() > self.len {
            return Err(EFAULT);
        }
        // SAFETY: The source is valid for its length; the destination is checked by the function.
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

    /// Reads the next events into `buffer`; none if there are none left. May sleep.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn read<'a>(&mut self, buffer: &'a mut Buffer) -> Result<&'a mut [Kevent]> {
        let count = self.len.min(Buffer::SIZE);
        // INVARIANT: Those that are there now are overwritten, some of them maybe not as a whole.
        buffer.len = 0;
        // SAFETY: The destination has room for so many; the source is checked by the function.
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
        // INVARIANT: That many were read, and are plain numbers.
        buffer.len = count;
        // SAFETY: As just said.
        Ok(unsafe { core::slice::from_raw_parts_mut(buffer.events.as_mut_ptr().cast(), count) })
    }

    /// Faults in the memory of at most `count` events, without changing it. May sleep
    /// interruptibly.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is no writable memory for one event.
    pub(crate) fn fault_in(&self, count: usize) -> Result {
        let bytes = count.min(self.len).saturating_mul(size_of::<Kevent>());
        // SAFETY: The range is checked by the function.
        let missing = unsafe {
            bindings::fault_in_safe_writeable(core::ptr::without_provenance(self.address), bytes)
        };
        if bytes - missing < size_of::<Kevent>() {
            return Err(EFAULT);
        }
        Ok(())
    }
}
