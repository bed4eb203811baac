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

use super::poll::poll_address;
use crate::{
    generated,
    sys::{lock::irqlock::IrqSave, memory::field::Field},
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    fs::File,
    page::PAGE_SIZE,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        lock::Backend, //
    }, //
};

/// What is read of pipes without a call. The C compiler checks the types (`rust/helpers.c`).
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
    /// From one buffer to the next.
    pub(super) const BUFFER_SIZE: usize = kq_offset_KQ_PIPE_BUF_SIZE as usize;
}

/// The mark of a pipe that is not full.
pub(crate) const NOT_FULL: u32 = 0;

const S_IFMT: u16 = 0o170000;
const S_IFIFO: u16 = 0o010000;

/// The address of the function that pipes and FIFOs are polled with (`pipe_poll`), once an
/// anonymous pipe was seen; no address until then. All files of `pipefs` have it (`get_pipe_inode`,
/// `create_pipe_files`), and nothing replaces it. The function itself takes the private data of its
/// file for a pipe: the data was set before the file was opened (`create_pipe_files`, `fifo_open`),
/// and the file has a reference to the pipe.
static POLL: Atomic<usize> = Atomic::new(usize::MAX);

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
    #[inline(always)]
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        // SAFETY: Valid, and read at once.
        let known = unsafe { POLL.as_ptr().read_volatile() };
        if poll_address(file) != known {
            return Self::identify(file);
        }
        // SAFETY: The file is valid. It is polled as a pipe: see `POLL`.
        let pipe = unsafe { (*file.as_ptr()).private_data }.cast();
        // INVARIANT: As just said.
        Some(Pipe {
            pipe: NonNull::new(pipe)?,
            _file: PhantomData,
        })
    }

    /// The same for a file that is not known to be polled as a pipe.
    #[cold]
    fn identify(file: &'a File) -> Option<Self> {
        // SAFETY: The file is valid, and so is its inode. What a FIFO's inode has there is a pipe,
        // and lives as long as a file that has it as its own.
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

    /// True if there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.used() == 0
    }

    /// True if somebody has it open for writing.
    #[inline]
    pub(crate) fn has_writer(&self) -> bool {
        self.read(field::WRITERS) != 0
    }

    /// True if there was a writer since `file`, which is of this pipe, was opened to read. If there
    /// is none by now, the pipe has ended for the reader, as `pipe_poll` says.
    pub(crate) fn had_writer(&self, file: &File) -> bool {
        // SAFETY: The file is valid; a pipe's has this from its opening on (`fifo_open`).
        let opened_at = unsafe { field::FILE_PIPE.read(file.as_ptr()) };
        opened_at != self.read(field::WRITER_COUNTER).into()
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

    /// The lock of its reader's queue. While it is held the ring is not replaced. (Who reads or
    /// writes holds the mutex, over page faults.)
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

    /// The same, but never waits: `None` if the lock is not free, or if it takes long to count. May
    /// be called with a lock held that a wake-up takes; if interrupts are off then, to say so is
    /// faster. `None` as well if it is full, since what is to be known of it then takes longer.
    #[inline(always)]
    pub(crate) fn readable_at_once(&self, interrupts_off: bool) -> Option<i64> {
        /// That many slots are counted in no time.
        const FEW: u32 = 32;
        match self.used() {
            0 => return Some(0),
            used if used > FEW || used >= self.read(field::MAX_USAGE) => return None,
            _ => {}
        }
        let lock = self.lock();
        // SAFETY: The reason given above applies here too.
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

    /// How much there is.
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
            // SAFETY: By this function's contract; valid.
            bytes += i64::from(unsafe { field::BUFFER_LEN.read(self.buffer(slot)) });
            slot = slot.wrapping_add(1);
        }
        bytes
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

    /// How far it is written, if it is full: then, and only then, a writer may wait in the middle
    /// of a write, and tells nobody what it adds. 0 if it is not full, which no other mark is.
    ///
    /// The writer fills new slots, or the rest of the last one before it waits.
    pub(crate) fn mark(&self) -> u32 {
        if self.used() < self.read(field::MAX_USAGE) {
            return NOT_FULL;
        }
        let lock = self.lock();
        // SAFETY: Valid by the type's invariant. It is held, and given back as it was taken.
        unsafe {
            let flags = IrqSave::lock(lock);
            let mark = self.full_mark();
            IrqSave::unlock(lock, &flags);
            mark
        }
    }

    /// # Safety
    ///
    /// The lock is held.
    unsafe fn full_mark(&self) -> u32 {
        /// Few slots have as much as that.
        const SLOT: u32 = 13;
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        if head.wrapping_sub(tail) < self.read(field::MAX_USAGE) {
            return NOT_FULL;
        }
        // SAFETY: By this function's contract. Reading moves the offset on and shortens the rest by
        // as much: what is seen in between looks like more, at worst.
        let last = unsafe {
            let buffer = self.buffer(head.wrapping_sub(1));
            field::BUFFER_OFFSET
                .read(buffer)
                .wrapping_add(field::BUFFER_LEN.read(buffer))
        };
        (head.wrapping_shl(SLOT) ^ last).wrapping_shl(1) | 1
    }

    /// What has become of it since its reader was told, when it had the mark `told`. Interrupts are
    /// off.
    pub(crate) fn progress(&self, told: u32) -> Progress {
        match self.used() {
            0 => return Progress::Empty,
            // A writer that does not wait tells what it has written.
            used if used < self.read(field::MAX_USAGE) => return Progress::None,
            _ => {}
        }
        let lock = self.lock();
        // SAFETY: Valid by the type's invariant. It is held, if it is free, and given back as it
        // was taken.
        let mark = unsafe {
            if !generated::kq_spin_trylock(lock) {
                return Progress::None;
            }
            let mark = self.full_mark();
            generated::kq_spin_unlock(lock);
            mark
        };
        if mark == told || mark == NOT_FULL {
            Progress::None
        } else {
            Progress::More
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
