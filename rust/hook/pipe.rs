// SPDX-License-Identifier: GPL-2.0

//! What a pipe or FIFO holds and has room for.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::{field::Field, irqlock::IrqSave};
use crate::generated;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{bindings, fs::File, page::PAGE_SIZE, sync::lock::Backend};

/// What is read of pipes without a call. The C compiler checks the types (`rust/helpers.c`).
mod field {
    use crate::{generated::*, hook::field::Field};
    use kernel::bindings::{pipe_inode_info, spinlock_t};

    pub(super) const MODE: Field<u16> = Field::at(kq_offset_KQ_INODE_MODE);
    pub(super) const PIPE: Field<*mut pipe_inode_info> = Field::at(kq_offset_KQ_INODE_PIPE);
    pub(super) const LOCK: Field<spinlock_t> = Field::at(kq_offset_KQ_PIPE_RD_WAIT_LOCK);
    pub(super) const HEAD_TAIL: Field<usize> = Field::at(kq_offset_KQ_PIPE_HEAD_TAIL);
    pub(super) const MAX_USAGE: Field<u32> = Field::at(kq_offset_KQ_PIPE_MAX_USAGE);
    pub(super) const RING_SIZE: Field<u32> = Field::at(kq_offset_KQ_PIPE_RING_SIZE);
    pub(super) const READERS: Field<u32> = Field::at(kq_offset_KQ_PIPE_READERS);
    pub(super) const WRITERS: Field<u32> = Field::at(kq_offset_KQ_PIPE_WRITERS);
    pub(super) const BUFFERS: Field<*const u8> = Field::at(kq_offset_KQ_PIPE_BUFS);
    pub(super) const BUFFER_LEN: Field<u32> = Field::at(kq_offset_KQ_PIPE_BUF_LEN);
    /// From one buffer to the next.
    pub(super) const BUFFER_SIZE: usize = kq_offset_KQ_PIPE_BUF_SIZE as usize;
}

const S_IFMT: u16 = 0o170000;
const S_IFIFO: u16 = 0o010000;

/// A pipe or FIFO, by one of its files.
///
/// # Invariants
///
/// Valid, as its file is.
pub(crate) struct Pipe<'a> {
    pipe: NonNull<bindings::pipe_inode_info>,
    _file: PhantomData<&'a File>,
}

/// Head and tail of the ring. In memory the head comes first.
#[inline]
fn ends(head_tail: usize) -> (u32, u32) {
    let (low, high) = (head_tail as u32, (head_tail >> 32) as u32);
    if cfg!(target_endian = "little") {
        (low, high)
    } else {
        (high, low)
    }
}

impl<'a> Pipe<'a> {
    /// The pipe of `file`, if it is one.
    #[inline]
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        // SAFETY: The file is valid, and so is its inode. What a FIFO's inode has there is a pipe, and
        // lives as long as a file that has it as its own.
        let pipe = unsafe {
            let file = file.as_ptr();
            let inode = (*file).f_inode;
            if field::MODE.read(inode) & S_IFMT != S_IFIFO {
                return None;
            }
            let pipe = field::PIPE.read(inode);
            NonNull::new(pipe).filter(|_| (*file).private_data == pipe.cast())?
        };
        // INVARIANT: As above.
        Some(Pipe {
            pipe,
            _file: PhantomData,
        })
    }

    #[inline]
    fn read<T: Copy>(&self, field: Field<T>) -> T {
        // SAFETY: Valid by the type's invariant; of the structure's fields in this file only.
        unsafe { field.read(self.pipe.as_ptr()) }
    }

    /// How many slots are in use.
    #[inline]
    fn used(&self) -> u32 {
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        head.wrapping_sub(tail)
    }

    /// True if somebody has it open for writing.
    #[inline]
    pub(crate) fn has_writer(&self) -> bool {
        self.read(field::WRITERS) != 0
    }

    /// True if somebody has it open for reading.
    #[inline]
    pub(crate) fn has_reader(&self) -> bool {
        self.read(field::READERS) != 0
    }

    /// Bytes of room in the pipe, in whole buffers; none if nobody will read it.
    #[inline]
    pub(crate) fn writable(&self) -> i64 {
        if !self.has_reader() {
            return 0;
        }
        i64::from(self.read(field::MAX_USAGE).saturating_sub(self.used())) * PAGE_SIZE as i64
    }

    /// The lock of its reader's queue. While it is held the ring is not replaced. (Who reads or writes holds
    /// the mutex, over page faults.)
    #[inline]
    fn lock(&self) -> *mut bindings::spinlock_t {
        // SAFETY: Valid by the type's invariant.
        unsafe { field::LOCK.of(self.pipe.as_ptr()) }.cast_mut()
    }

    /// Bytes in the pipe. There may be none in its slots, while one is being filled or emptied.
    pub(crate) fn readable(&self) -> i64 {
        let lock = self.lock();
        // SAFETY: Valid by the type's invariant. It is held, and given back as it was taken.
        unsafe {
            let flags = IrqSave::lock(lock);
            let bytes = self.count();
            IrqSave::unlock(lock, &flags);
            bytes
        }
    }

    /// The same, but never waits: `None` if the lock is not free, or if it takes long to count. May be called
    /// with a lock held that a wake-up takes; if interrupts are off then, to say so is faster.
    #[inline]
    pub(crate) fn readable_at_once(&self, interrupts_off: bool) -> Option<i64> {
        /// That many slots are counted in no time.
        const FEW: u32 = 32;
        match self.used() {
            0 => return Some(0),
            used if used > FEW => return None,
            _ => {}
        }
        let lock = self.lock();
        // SAFETY: As above.
        unsafe {
            if interrupts_off {
                if !generated::kq_spin_trylock(lock) {
                    return None;
                }
                let bytes = self.count();
                generated::kq_spin_unlock(lock);
                Some(bytes)
            } else {
                let flags = IrqSave::try_lock(lock)?;
                let bytes = self.count();
                IrqSave::unlock(lock, &flags);
                Some(bytes)
            }
        }
    }

    /// # Safety
    ///
    /// The lock is held.
    #[inline]
    unsafe fn count(&self) -> i64 {
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        let mask = self.read(field::RING_SIZE).wrapping_sub(1);
        let buffers = self.read(field::BUFFERS);
        let mut bytes = 0;
        let mut slot = tail;
        while slot != head {
            // SAFETY: The ring stays, by this function's contract. The size is a power of two, so this is the
            // number of one of its slots.
            let length = unsafe {
                let buffer = buffers.byte_add((slot & mask) as usize * field::BUFFER_SIZE);
                field::BUFFER_LEN.read(buffer)
            };
            bytes += i64::from(length);
            slot = slot.wrapping_add(1);
        }
        bytes
    }
}
