// SPDX-License-Identifier: GPL-2.0

//! Asking a file as a program would, with ioctl(2).
//!
//! A terminal's line discipline tells nobody else how much there is to read. The answer goes to
//! the caller's [`Scratch`] memory.
//!
//! C headers: [`include/uapi/asm-generic/ioctls.h`](srctree/include/uapi/asm-generic/ioctls.h),
//! [`include/linux/tty.h`](srctree/include/linux/tty.h)

use super::{pollwait::PollFunction, usercopy::Scratch};
use crate::generated;
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
    // SAFETY: A file's operations are valid as long as it is referenced.
    let operation = unsafe { (*(*file.as_ptr()).f_op).unlocked_ioctl }?;
    let (result, answer) = scratch.borrow(|address| {
        // SAFETY: The file is valid. What is at the address, which is not ours, is checked by
        // whoever writes there.
        unsafe { operation(file.as_ptr(), bindings::FIONREAD, address) }
    });
    if result == EIO.to_errno() as isize {
        return Some(0);
    }
    answer
        .filter(|_| result == 0)
        .map(|bytes| i64::from(bytes.cast_signed()).max(0))
}

/// How many bytes a terminal's driver takes at once.
pub(crate) fn room(file: &File) -> Option<i64> {
    if !is_terminal(file) {
        return None;
    }
    // SAFETY: A file that is polled like a terminal has a terminal.
    Some(unsafe { generated::tty_write_room(generated::kq_tty_of(file.as_ptr())) }.into())
}
