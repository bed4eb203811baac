// SPDX-License-Identifier: GPL-2.0

//! Asking a file as a program would, with ioctl(2).
//!
//! A terminal's line discipline tells nobody else how much there is to read (`n_tty_ioctl`), nor
//! does inotify (`inotify_ioctl`): both take their own locks for that. The answer goes to the
//! caller's [`Scratch`] memory.
//!
//! C headers: [`include/uapi/asm-generic/ioctls.h`](srctree/include/uapi/asm-generic/ioctls.h),
//! [`include/linux/tty.h`](srctree/include/linux/tty.h)

use super::poll::{operations, PollFunction};
use crate::{generated, sys::memory::scratch::Scratch};
use kernel::{
    bindings,
    error::code::EIO,
    fs::{File, LocalFile}, //
};

static TTY_POLL: PollFunction = PollFunction::new(c"tty_poll");

/// True for a terminal or either side of a pty.
pub(crate) fn is_terminal(file: &LocalFile) -> bool {
    TTY_POLL.is_of(file)
}

/// What `FIONREAD` says: bytes, 0 of a terminal that has hung up. `None` if the file does not say, or
/// the scratch memory was not there. May sleep, as the file likes.
pub(crate) fn readable(file: &File, scratch: Scratch) -> Option<i64> {
    let operation = operations(file).unlocked_ioctl?;
    let (result, answer) = scratch.borrow(|address| {
        // SAFETY: The file is valid. What is at the address, which is not ours, is checked by
        // whoever writes there.
        unsafe { operation(file.as_ptr(), bindings::FIONREAD, address) }
    })?;
    if result == EIO.to_errno() as isize {
        return Some(0);
    }
    (result == 0).then(|| i64::from(answer as i32).max(0))
}

/// How many bytes a terminal's driver takes at once. `None` if it has hung up, or does so just now,
/// or is given another line discipline. Never sleeps.
pub(crate) fn room(file: &File) -> Option<i64> {
    if !is_terminal(file) {
        return None;
    }
    // SAFETY: What is polled like a terminal is a file of `tty_io.c` or `pty.c`, whose private data
    // has its terminal until it is released, also when it has hung up by now. The driver is asked
    // while its line discipline is referenced, as `n_tty_poll` asks it: a hang-up waits for that
    // (`tty_ldisc_hangup`) before the driver gives up its buffers.
    unsafe {
        let tty = generated::kq_tty_of(file.as_ptr());
        let discipline = generated::tty_ldisc_ref(tty);
        if discipline.is_null() {
            return None;
        }
        let room = generated::tty_write_room(tty);
        generated::tty_ldisc_deref(discipline);
        Some(room.into())
    }
}
