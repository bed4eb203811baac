// SPDX-License-Identifier: GPL-2.0

//! What a pipe or FIFO holds and has room for, and how far it was written.
//!
//! Head and tail, sizes and the numbers of readers and writers are single words, read as
//! `pipe_poll` and `pipe_writable` read them, without a lock. The ring itself is replaced under the
//! lock of the reader's queue (`pipe_resize_ring`), so what is in its slots is read under that. Who
//! fills and empties them has the pipe's mutex only: the numbers may be from before that or after
//! it.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::{field::Field, irqlock::IrqSave};
use crate::generated;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    fs::File,
    page::PAGE_SIZE,
    sync::lock::Backend, //
};

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
            let (bytes, _) = self.count();
            IrqSave::unlock(lock, &flags);
            bytes
        }
    }

    /// The same, but never waits: `None` if the lock is not free, or if it takes long to count. May be
    /// called with a lock held that a wake-up takes; if interrupts are off then, to say so is faster.
    /// With [how far it is written](Self::written).
    #[inline(always)]
    pub(crate) fn readable_at_once(&self, interrupts_off: bool) -> Option<(i64, u32)> {
        /// That many slots are counted in no time.
        const FEW: u32 = 32;
        match self.used() {
            0 => return Some((0, 0)),
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
                let found = self.count();
                generated::kq_spin_unlock(lock);
                Some(found)
            } else {
                let flags = IrqSave::try_lock(lock)?;
                let found = self.count();
                IrqSave::unlock(lock, &flags);
                Some(found)
            }
        }
    }

    /// How much there is, and how far it is written.
    ///
    /// # Safety
    ///
    /// The lock is held.
    #[inline(always)]
    unsafe fn count(&self) -> (i64, u32) {
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        let mut bytes = 0;
        let mut slot = tail;
        while slot != head {
            // SAFETY: By this function's contract; valid.
            bytes += i64::from(unsafe { field::BUFFER_LEN.read(self.buffer(slot)) });
            slot = slot.wrapping_add(1);
        }
        (bytes, head)
    }

    /// # Safety
    ///
    /// The lock is held while the result is used.
    #[inline]
    unsafe fn buffer(&self, slot: u32) -> *const u8 {
        let mask = self.read(field::RING_SIZE).wrapping_sub(1);
        let number = (slot & mask) as usize;
        // SAFETY: The ring stays, by this function's contract. Its size is a power of two, so this
        // is the number of one of its slots.
        unsafe {
            self.read(field::BUFFERS)
                .byte_add(number * field::BUFFER_SIZE)
        }
    }

    /// How far it is written: how many slots have been filled, by now. `None` if it is empty.
    ///
    /// A writer that waits for room has filled all slots before. So what it writes meanwhile fills new
    /// ones, and is seen here.
    #[inline]
    pub(crate) fn written(&self) -> Option<u32> {
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        (head != tail).then_some(head)
    }

    /// True if a writer would wait.
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.read(field::MAX_USAGE)
    }

    /// What has become of it since it was [written](Self::written) as far as `told`.
    pub(super) fn progress(&self, told: u32) -> Progress {
        match self.written() {
            None => Progress::Empty,
            Some(written) if written == told => Progress::None,
            Some(_) => Progress::More,
        }
    }
}

/// What has become of a pipe whose reader was told of what was in it.
pub(crate) enum Progress {
    /// It was read. What is written now, its writer tells of.
    Empty,
    /// Nothing was added, as far as one can see.
    None,
    More,
}
