// SPDX-License-Identifier: GPL-2.0

//! The contents, the free space and the write position of a pipe or FIFO.
//!
//! The head and the tail of the ring, its sizes, and the numbers of readers and writers are single
//! words. They are read without a lock, as `pipe_poll` and `pipe_writable` do. The ring itself is
//! replaced under the lock of the readers' wait queue (`pipe_resize_ring`), so its slots are read
//! under that lock. Tasks that fill and empty the slots hold only the pipe's mutex. The contents of
//! a slot may therefore be from before or after such a change.
//!
//! The last writer leaves its data before it leaves the pipe, and holds the mutex for each. So a
//! caller that finds no writer executes a read barrier before it counts the bytes. Otherwise a
//! weakly ordered machine might report the end of the stream and none of the bytes before it.
//!
//! Nothing in this file sleeps. [`Pipe::try_readable`] and [`Pipe::change_since`] may be called
//! under locks that a wake-up takes.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::poll::poll_address;
use crate::{generated, sys::memory::field::Field};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    fs::File,
    page::PAGE_SIZE,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        barrier::{self, smp_mb},
    }, //
};

/// The fields of pipes that are read directly. The C compiler checks their types
/// (`rust/helpers.c`).
mod field {
    use crate::{generated::*, sys::memory::field::Field};
    use kernel::bindings::{pipe_inode_info, spinlock_t};

    pub(super) const MODE: Field<u16> = Field::at(kq_offset_KQ_INODE_MODE);
    pub(super) const PIPE: Field<*mut pipe_inode_info> = Field::at(kq_offset_KQ_INODE_PIPE);
    pub(super) const LOCK: Field<spinlock_t> = Field::at(kq_offset_KQ_PIPE_RD_WAIT_LOCK);
    pub(super) const HEAD_TAIL: Field<usize> = Field::at(kq_offset_KQ_PIPE_HEAD_TAIL);
    pub(super) const MAX_USAGE: Field<u32> = Field::at(kq_offset_KQ_PIPE_MAX_USAGE);
    pub(super) const RING_SIZE: Field<u32> = Field::at(kq_offset_KQ_PIPE_RING_SIZE);
    pub(super) const READERS: Field<u32> = Field::at(kq_offset_KQ_PIPE_READERS);
    pub(super) const WRITERS: Field<u32> = Field::at(kq_offset_KQ_PIPE_WRITERS);
    pub(super) const WRITER_COUNTER: Field<u32> = Field::at(kq_offset_KQ_PIPE_W_COUNTER);
    pub(super) const FILE_PIPE: Field<u64> = Field::at(kq_offset_KQ_FILE_PIPE);
    pub(super) const BUFFERS: Field<*const u8> = Field::at(kq_offset_KQ_PIPE_BUFS);
    pub(super) const BUFFER_OFFSET: Field<u32> = Field::at(kq_offset_KQ_PIPE_BUF_OFFSET);
    pub(super) const BUFFER_LEN: Field<u32> = Field::at(kq_offset_KQ_PIPE_BUF_LEN);
    /// The distance between two buffers.
    pub(super) const BUFFER_SIZE: usize = kq_offset_KQ_PIPE_BUF_SIZE as usize;
}

/// The mark of a pipe that is not full.
pub(crate) const NOT_FULL: u32 = 0;

const S_IFMT: u16 = 0o170000;
const S_IFIFO: u16 = 0o010000;

/// The address of the `->poll` function of pipes and FIFOs (`pipe_poll`), once an anonymous pipe
/// was found; an impossible address until then. All files of `pipefs` have this function
/// (`get_pipe_inode`, `create_pipe_files`), and nothing replaces it. `pipe_poll` itself takes the
/// private data of its file for a pipe. The private data was set before the file was opened
/// (`create_pipe_files`, `fifo_open`), and the file holds a reference to the pipe. The accesses are
/// relaxed, because the address is only compared.
static POLL: Atomic<usize> = Atomic::new(usize::MAX);

/// A pipe or FIFO, found through one of its files.
///
/// # Invariants
///
/// The pipe is valid as long as its file, which is borrowed for `'a`.
pub(crate) struct Pipe<'a> {
    pipe: NonNull<bindings::pipe_inode_info>,
    _file: PhantomData<&'a File>,
}

/// Splits the word that holds the head and the tail of the ring. The head has the lower address.
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
    /// The pipe of `file`, if it is a pipe or FIFO.
    #[inline(always)]
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        // SAFETY: The static is valid, and one volatile load reads it.
        let known = unsafe { POLL.as_ptr().read_volatile() };
        if poll_address(file) != known {
            return Self::identify(file);
        }
        // SAFETY: The file is valid. It is polled by `pipe_poll`, so its private data is a pipe
        // (see `POLL`).
        let pipe = unsafe { (*file.as_ptr()).private_data }.cast();
        // INVARIANT: The private data is the pipe of the file.
        Some(Pipe {
            pipe: NonNull::new(pipe)?,
            _file: PhantomData,
        })
    }

    /// Determines whether a file is a pipe if its `->poll` function is not known to be `pipe_poll`.
    #[cold]
    fn identify(file: &'a File) -> Option<Self> {
        // SAFETY: The file and its inode are valid. `i_pipe` of a FIFO's inode is a pipe, which
        // lives as long as a file that has it as its private data.
        let (pipe, is_anonymous) = unsafe {
            let file = file.as_ptr();
            let inode = (*file).f_inode;
            if field::MODE.read(inode) & S_IFMT != S_IFIFO {
                return None;
            }
            let pipe = field::PIPE.read(inode);
            let pipe = NonNull::new(pipe).filter(|_| (*file).private_data == pipe.cast())?;
            (pipe, generated::kq_inode_is_in_pipefs(inode))
        };
        if is_anonymous {
            POLL.store(poll_address(file), Relaxed);
        }
        // INVARIANT: The private data is the pipe of the file.
        Some(Pipe {
            pipe,
            _file: PhantomData,
        })
    }

    #[inline]
    fn read<T: Copy>(&self, field: Field<T>) -> T {
        // SAFETY: The type's invariant guarantees that the pipe is valid. Only fields of this
        // structure are passed.
        unsafe { field.read(self.pipe.as_ptr()) }
    }

    /// The number of slots in use.
    #[inline]
    fn used(&self) -> u32 {
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        head.wrapping_sub(tail)
    }

    /// True if the pipe is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.used() == 0
    }

    /// True if the pipe has a writer.
    #[inline]
    pub(crate) fn has_writer(&self) -> bool {
        self.read(field::WRITERS) != 0
    }

    /// Orders the reads that follow after those by which the caller has found that the pipe has no
    /// writer.
    #[inline]
    pub(crate) fn after_last_writer(&self) {
        smp_mb(barrier::Read);
    }

    /// True if the pipe had a writer since `file`, which belongs to this pipe, was opened for
    /// reading. If it has no writer now, the reader is at the end of the stream, as in `pipe_poll`.
    pub(crate) fn had_writer(&self, file: &File) -> bool {
        // SAFETY: The file is valid. A file of a pipe has this field from its opening on
        // (`fifo_open`).
        let opened_at = unsafe { field::FILE_PIPE.read(file.as_ptr()) };
        opened_at != self.read(field::WRITER_COUNTER).into()
    }

    /// True if the pipe has a reader.
    #[inline]
    pub(crate) fn has_reader(&self) -> bool {
        self.read(field::READERS) != 0
    }

    /// The free space of the pipe in bytes, counting whole buffers only; 0 if the pipe has no
    /// reader.
    #[inline]
    pub(crate) fn writable(&self) -> i64 {
        if !self.has_reader() {
            return 0;
        }
        i64::from(self.read(field::MAX_USAGE).saturating_sub(self.used())) * PAGE_SIZE as i64
    }

    /// The lock of the readers' wait queue, under which the ring is not replaced. (Readers and
    /// writers hold the mutex instead, even during page faults.)
    #[inline]
    fn lock(&self) -> *mut bindings::spinlock_t {
        // SAFETY: The type's invariant guarantees that the pipe is valid.
        unsafe { field::LOCK.of(self.pipe.as_ptr()) }.cast_mut()
    }

    /// The number of bytes in the pipe. It may be 0 although slots are in use, while a slot is
    /// being filled or emptied. The caller has polled the pipe, and may have found no writer.
    pub(crate) fn readable(&self) -> i64 {
        self.after_last_writer();
        let lock = self.lock();
        // SAFETY: The type's invariant guarantees that the pipe is valid. The lock is released with
        // the flags of its acquisition, and the calls in between run under the lock.
        unsafe {
            let flags = generated::kq_spin_lock_irqsave(lock);
            let bytes = self.count();
            generated::kq_spin_unlock_irqrestore(lock, flags);
            bytes
        }
    }

    /// The number of bytes in the pipe, without waiting. `None` if the lock is not free, or if
    /// there are many slots to count. `None` also if the pipe is full, because the caller then
    /// needs the write position as well. May be called under a lock that a wake-up takes.
    /// `interrupts_off` says that interrupts are disabled, which makes the call faster.
    #[inline(always)]
    pub(crate) fn try_readable(&self, interrupts_off: bool) -> Option<i64> {
        /// The maximum number of slots to count.
        const SLOTS_MAX: u32 = 32;
        match self.used() {
            0 => return Some(0),
            used if used > SLOTS_MAX || used >= self.read(field::MAX_USAGE) => return None,
            _ => {}
        }
        let lock = self.lock();
        // SAFETY: The type's invariant guarantees that the pipe is valid. The slots are counted
        // only if the lock was acquired. The lock is released in the same way as it was acquired.
        unsafe {
            if interrupts_off {
                if !generated::kq_spin_trylock(lock) {
                    return None;
                }
                let found = self.count();
                generated::kq_spin_unlock(lock);
                Some(found)
            } else {
                let mut flags = 0;
                if !generated::kq_spin_trylock_irqsave(lock, &raw mut flags) {
                    return None;
                }
                let found = self.count();
                generated::kq_spin_unlock_irqrestore(lock, flags);
                Some(found)
            }
        }
    }

    /// The number of bytes in the slots.
    ///
    /// # Safety
    ///
    /// The lock is held.
    #[inline(always)]
    unsafe fn count(&self) -> i64 {
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        let mut bytes = 0;
        let mut slot = tail;
        while slot != head {
            // SAFETY: The caller holds the lock, so the buffers are valid.
            bytes += i64::from(unsafe { field::BUFFER_LEN.read(self.buffer(slot)) });
            slot = slot.wrapping_add(1);
        }
        bytes
    }

    /// # Safety
    ///
    /// The lock is held as long as the result is used.
    #[inline]
    unsafe fn buffer(&self, slot: u32) -> *const u8 {
        let mask = self.read(field::RING_SIZE).wrapping_sub(1);
        let number = (slot & mask) as usize;
        // SAFETY: The caller holds the lock, so the ring is not replaced. Its size is a power of
        // two, so the masked number is that of one of its slots.
        unsafe {
            self.read(field::BUFFERS)
                .byte_add(number * field::BUFFER_SIZE)
        }
    }

    /// The write position of a full pipe, or [`NOT_FULL`], which is 0, if the pipe is not full.
    /// Only while a pipe is full, a writer may be waiting in the middle of a write, and it does not
    /// wake the readers for what it adds.
    ///
    /// The position changes with each addition, because the writer fills new slots, or fills the
    /// rest of the last slot before it waits.
    pub(crate) fn full_position(&self) -> u32 {
        if self.used() < self.read(field::MAX_USAGE) {
            return NOT_FULL;
        }
        let lock = self.lock();
        // SAFETY: The type's invariant guarantees that the pipe is valid. The lock is released with
        // the flags of its acquisition, and the calls in between run under the lock.
        unsafe {
            let flags = generated::kq_spin_lock_irqsave(lock);
            let position = self.full_position_locked();
            generated::kq_spin_unlock_irqrestore(lock, flags);
            position
        }
    }

    /// # Safety
    ///
    /// The lock is held.
    unsafe fn full_position_locked(&self) -> u32 {
        /// The binary logarithm of a size that few slots exceed.
        const SLOT: u32 = 13;
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        if head.wrapping_sub(tail) < self.read(field::MAX_USAGE) {
            return NOT_FULL;
        }
        // SAFETY: The caller holds the lock, so the buffer is valid. A read advances the offset and
        // shortens the length by the same amount. A value from between these two stores can only
        // look like an addition.
        let last = unsafe {
            let buffer = self.buffer(head.wrapping_sub(1));
            field::BUFFER_OFFSET
                .read(buffer)
                .wrapping_add(field::BUFFER_LEN.read(buffer))
        };
        (head.wrapping_shl(SLOT) ^ last).wrapping_shl(1) | 1
    }

    /// The change since the reader was notified, when the pipe had the mark `reported`. The caller
    /// has disabled interrupts.
    pub(crate) fn change_since(&self, reported: u32) -> PipeChange {
        match self.used() {
            0 => return PipeChange::Empty,
            // A writer that does not wait wakes the readers for what it has written.
            used if used < self.read(field::MAX_USAGE) => return PipeChange::None,
            _ => {}
        }
        let lock = self.lock();
        // SAFETY: The type's invariant guarantees that the pipe is valid. The mark is read only if
        // the lock was acquired, and the lock is released afterwards.
        let position = unsafe {
            if !generated::kq_spin_trylock(lock) {
                return PipeChange::None;
            }
            let position = self.full_position_locked();
            generated::kq_spin_unlock(lock);
            position
        };
        if position == reported || position == NOT_FULL {
            PipeChange::None
        } else {
            PipeChange::More
        }
    }
}

/// The change of a pipe since its reader was notified of its contents.
pub(crate) enum PipeChange {
    /// The pipe was emptied. A writer wakes the readers for what it writes now.
    Empty,
    /// Nothing was added, as far as can be determined.
    None,
    More,
}
