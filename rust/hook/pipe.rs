// SPDX-License-Identifier: GPL-2.0

//! What a pipe or FIFO holds and has room for.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use crate::generated;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{bindings, fs::File, page::PAGE_SIZE};

/// The pipe behind a file.
///
/// # Invariants
///
/// Valid, as its file is.
pub(crate) struct Pipe<'a>(NonNull<bindings::pipe_inode_info>, PhantomData<&'a File>);

/// The pipe's wait-queue lock: its ring is not replaced while it is held. (The pipe's mutex would
/// be held by a reader that waits for its own page faults.)
struct Locked<'a>(&'a Pipe<'a>);

impl<'a> Locked<'a> {
    fn new(pipe: &'a Pipe<'a>) -> Self {
        // SAFETY: Valid by the type's invariant; called with interrupts on.
        unsafe { generated::kq_pipe_lock(pipe.0.as_ptr()) };
        Locked(pipe)
    }

    fn used(&self) -> u32 {
        // SAFETY: Valid by the type's invariant, and locked.
        unsafe { generated::kq_pipe_used(self.0 .0.as_ptr()) }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked in `new`.
        unsafe { generated::kq_pipe_unlock(self.0 .0.as_ptr()) };
    }
}

impl<'a> Pipe<'a> {
    /// The pipe of `file`, if it is one.
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        // SAFETY: The file is valid; the result is null for a file that is no pipe.
        let pipe = NonNull::new(unsafe { generated::kq_pipe_of(file.as_ptr()) })?;
        Some(Pipe(pipe, PhantomData))
    }

    /// Bytes in the pipe.
    pub(crate) fn readable(&self) -> i64 {
        let pipe = Locked::new(self);
        // SAFETY: Valid by the type's invariant, and locked.
        let tail = unsafe { generated::kq_pipe_tail(self.0.as_ptr()) };
        (0..pipe.used())
            .map(|slot| {
                // SAFETY: As above; any number names a slot of the ring.
                i64::from(unsafe {
                    generated::kq_pipe_len(self.0.as_ptr(), tail.wrapping_add(slot))
                })
            })
            .sum()
    }

    /// Bytes of room in the pipe, in whole buffers; none if nobody will read it.
    pub(crate) fn writable(&self) -> i64 {
        // SAFETY: Valid by the type's invariant.
        if !unsafe { generated::kq_pipe_has_reader(self.0.as_ptr()) } {
            return 0;
        }
        let pipe = Locked::new(self);
        // SAFETY: Valid by the type's invariant, and locked.
        let slots = unsafe { generated::kq_pipe_slots(self.0.as_ptr()) };
        i64::from(slots.saturating_sub(pipe.used())) * PAGE_SIZE as i64
    }
}
