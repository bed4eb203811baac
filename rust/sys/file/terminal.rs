// SPDX-License-Identifier: GPL-2.0

//! Terminals, and both sides of a pseudo-terminal.
//!
//! The state of a terminal is private to its line discipline, which is asked through its public
//! operations (`struct tty_ldisc_ops`). A [`Terminal`] holds a reference to the line discipline,
//! as `tty_poll` and `tty_ioctl` do during their calls of these operations. One reference serves
//! all questions of an evaluation. A discipline is not replaced while there is a reference, and a
//! hang-up waits for it (`tty_ldisc_hangup`) before the driver frees its buffers.
//!
//! [`Terminal::of`] and [`Terminal::write_room`] never sleep. The other functions may sleep.
//!
//! C headers: [`include/linux/tty.h`](srctree/include/linux/tty.h),
//! [`include/linux/tty_ldisc.h`](srctree/include/linux/tty_ldisc.h)

use super::poll::{PollEvents, PollFunction};
use crate::{generated, sys::memory::user_scratch::UserScratch};
use core::ptr::NonNull;
use kernel::{
    bindings,
    fs::{File, LocalFile}, //
};

static TTY_POLL: PollFunction = PollFunction::new(c"tty_poll");

/// True if `file` is a terminal or either side of a pseudo-terminal.
pub(crate) fn is(file: &LocalFile) -> bool {
    TTY_POLL.is_of(file)
}

/// A terminal with a reference to its line discipline.
///
/// # Invariants
///
/// `tty` is the terminal of `file`, and `discipline` is its line discipline. This value owns a
/// reference to the discipline.
pub(crate) struct Terminal<'a> {
    file: &'a File,
    tty: NonNull<bindings::tty_struct>,
    discipline: NonNull<generated::tty_ldisc>,
}

impl<'a> Terminal<'a> {
    /// The terminal that `file` refers to. `None` if the file is none, and if the terminal has hung
    /// up, is hanging up, or is changing its line discipline.
    #[inline]
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        if !is(file) {
            return None;
        }
        // SAFETY: A file that is polled by `tty_poll` belongs to `tty_io.c` or `pty.c`. Its private
        // data refers to its terminal until the file is released, even after a hang-up.
        let tty = NonNull::new(unsafe { generated::kq_tty_of(file.as_ptr()) })?;
        // SAFETY: The terminal is valid.
        let discipline = NonNull::new(unsafe { generated::tty_ldisc_ref(tty.as_ptr()) })?;
        // INVARIANT: The reference was just taken.
        Some(Terminal {
            file,
            tty,
            discipline,
        })
    }

    /// The operations of the line discipline.
    #[inline]
    fn operations(&self) -> &generated::tty_ldisc_ops {
        // SAFETY: By the type's invariants, the discipline is valid. Its operations are those of a
        // registered line discipline, whose module has a reference while the discipline is in use.
        unsafe { &*self.discipline.as_ref().ops }
    }

    /// The events that the terminal is ready for, as `tty_poll` returns them.
    #[inline]
    pub(crate) fn poll(&self, want: PollEvents) -> PollEvents {
        let Some(operation) = self.operations().poll else {
            return PollEvents::NONE;
        };
        let mut table = bindings::poll_table_struct {
            _qproc: None,
            _key: want.bits(),
        };
        // SAFETY: By the type's invariants, the terminal and the file belong together, and the
        // reference to the discipline is held during the call. The table has no queue function, so
        // nothing is queued.
        PollEvents::of_bits(unsafe {
            operation(self.tty.as_ptr(), self.file.as_ptr(), &raw mut table)
        })
    }

    /// The number of bytes that the line discipline reports for `FIONREAD`. `None` if the
    /// discipline does not report it, or if the scratch memory is not mapped. (Only line
    /// disciplines report it. No driver of a terminal does.)
    #[inline]
    pub(crate) fn readable(&self, scratch: UserScratch) -> Option<i64> {
        let operation = self.operations().ioctl?;
        let (result, answer) = scratch.borrow(|address| {
            // SAFETY: By the type's invariants, the terminal is valid, and the reference to the
            // discipline is held during the call. The operation treats the address as a user-space
            // address and checks it before it writes there.
            unsafe { operation(self.tty.as_ptr(), bindings::FIONREAD, address) }
        })?;
        (result == 0).then(|| i64::from(answer as i32).max(0))
    }

    /// The number of bytes that the driver accepts without blocking.
    pub(crate) fn write_room(&self) -> i64 {
        // SAFETY: By the type's invariants, the terminal is valid. The reference to the discipline
        // is held during the call of the driver, as in `n_tty_poll`.
        let room = unsafe { generated::tty_write_room(self.tty.as_ptr()) };
        room.into()
    }
}

impl Drop for Terminal<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type's invariants, this value owns a reference.
        unsafe { generated::tty_ldisc_deref(self.discipline.as_ptr()) };
    }
}
