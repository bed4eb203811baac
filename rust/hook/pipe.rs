// SPDX-License-Identifier: GPL-2.0

//! What a pipe or FIFO holds and has room for, and how one hears of what is written into one that
//! is not empty.
//!
//! Head and tail, sizes and the numbers of readers and writers are single words, read as
//! `pipe_poll` and `pipe_writable` read them, without a lock. The ring itself is replaced under the
//! lock of the reader's queue (`pipe_resize_ring`), so what is in its slots is read under that. Who
//! fills and empties them has the pipe's mutex only: the numbers may be from before that or after
//! it.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::{field::Field, hrtimer, irqlock::IrqSave, knote::Knote};
use crate::generated;
use core::{
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use kernel::{
    bindings,
    fs::File,
    page::PAGE_SIZE,
    prelude::*,
    sync::{aref::ARef, lock::Backend},
    types::Opaque,
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
    pub(super) const BUFFER_OFFSET: Field<u32> = Field::at(kq_offset_KQ_PIPE_BUF_OFFSET);
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

    /// True if no slot is in use.
    pub(crate) fn is_empty(&self) -> bool {
        self.used() == 0
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

    /// How far it was written.
    ///
    /// # Safety
    ///
    /// The lock is held.
    unsafe fn end(&self) -> End {
        let (head, tail) = ends(self.read(field::HEAD_TAIL));
        if head == tail {
            return End::Empty;
        }
        // SAFETY: By this function's contract. Reading moves the offset on and shortens the rest by
        // as much: what is seen in between looks like more, at worst.
        let last = unsafe {
            let buffer = self.buffer(head.wrapping_sub(1));
            let offset = field::BUFFER_OFFSET.read(buffer);
            offset.wrapping_add(field::BUFFER_LEN.read(buffer))
        };
        End::At(u64::from(head) << 32 | u64::from(last))
    }
}

/// How far a pipe was written.
enum End {
    Empty,
    /// The number of its last slot and how much that was filled, whatever was read since.
    At(u64),
}

/// Looks, now and then, whether more was written into a pipe since its reader was last told of what
/// is there.
///
/// Who writes tells the reader when it is done, if it is asked to (`EPOLLET`). But one who has to
/// wait for room in the middle of a write only tells if the pipe was empty before, and the reader
/// who has been told of less may never learn of the rest. There is nobody who could be asked to say
/// so; until the pipe was seen empty a timer looks, less and less often.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Rest {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    knote: ARef<Knote>,
    file: ARef<File>,
    /// How far it was written by what the reader was told; 0 is nowhere.
    told: AtomicU64,
    /// How often there was nothing new since.
    looks: AtomicU32,
}

// SAFETY: The timer is only handed to functions with locks of their own.
unsafe impl Send for Rest {}
// SAFETY: As above.
unsafe impl Sync for Rest {}

/// What a reader is about to be told of.
pub(crate) struct Telling(u64);

impl Rest {
    /// One that does not look yet, at the pipe of `file`, on behalf of a knote that is bound to it.
    pub(crate) fn new<'a>(knote: &'a Knote, file: &'a File) -> impl PinInit<Self> + 'a {
        pin_init!(Rest {
            // SAFETY: `slot` is valid for writes and stays in its place; `drop` cancels the timer.
            timer <- Opaque::ffi_init(|slot| unsafe {
                hrtimer::set_up(slot, hrtimer::Clock::Monotonic, Self::fire)
            }),
            knote: knote.into(),
            file: file.into(),
            told: AtomicU64::new(0),
            looks: AtomicU32::new(0),
        })
    }

    /// How far the pipe is written by now, before it is looked at for a report. `None` if it is
    /// empty.
    pub(crate) fn telling(&self) -> Option<Telling> {
        let pipe = Pipe::of(&self.file)?;
        let lock = pipe.lock();
        // SAFETY: The pipe's. It is held, and given back as it was taken.
        let end = unsafe {
            let flags = IrqSave::lock(lock);
            let end = pipe.end();
            IrqSave::unlock(lock, &flags);
            end
        };
        match end {
            End::Empty => None,
            End::At(end) => Some(Telling(end)),
        }
    }

    /// The reader is told of that much: from here on looks for more.
    pub(crate) fn told(self: Pin<&Self>, Telling(end): Telling) {
        self.told.store(end, Ordering::Relaxed);
        self.looks.store(0, Ordering::Relaxed);
        self.look_again(0);
    }

    fn look_again(&self, looks: u32) {
        /// Nanoseconds: ten milliseconds, after ten looks ten seconds.
        const FIRST: i64 = 10_000_000;
        const DOUBLED: u32 = 10;
        let nanos = FIRST << looks.min(DOUBLED);
        // SAFETY: The timer was set up, and `drop` cancels it.
        unsafe {
            hrtimer::start(
                self.timer.get(),
                hrtimer::Clock::Monotonic.now().saturating_add(nanos),
            )
        };
    }

    /// The timer's function.
    ///
    /// # Safety
    ///
    /// `timer` is that of a `Rest`.
    unsafe extern "C" fn fire(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: `timer` is the first field of a live `Rest`, whose `drop` waits for us.
        let this = unsafe { &*timer.cast::<Rest>() };
        let end = Pipe::of(&this.file).and_then(|pipe| {
            let lock = pipe.lock();
            // SAFETY: The pipe's. It is held, if it is free, and given back as it was taken.
            unsafe {
                let flags = IrqSave::try_lock(lock)?;
                let end = pipe.end();
                IrqSave::unlock(lock, &flags);
                Some(end)
            }
        });
        match end {
            // What comes now is told.
            Some(End::Empty) => {}
            Some(End::At(end)) if end != this.told.load(Ordering::Relaxed) => {
                this.knote.activate();
            }
            _ => {
                let looks = this.looks.load(Ordering::Relaxed);
                this.looks.store(looks.saturating_add(1), Ordering::Relaxed);
                this.look_again(looks.saturating_add(1));
            }
        }
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

#[pinned_drop]
impl PinnedDrop for Rest {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Set up in `new`. Not under a lock that `fire` takes: it is dropped in process
        // context, with the kqueue's mutex at most.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }
}
