// SPDX-License-Identifier: GPL-2.0

//! Queries that the kernel answers only through ioctl(2).
//!
//! The line discipline of a terminal (`n_tty_ioctl`) reports the number of readable bytes only
//! through ioctl(2). Inotify (`inotify_ioctl`) does so if there are many events
//! ([`super::inotify`]). Both take their own locks for that. They write
//! the result to a user-space address, for which the caller provides [`UserScratch`] memory.
//! `security_file_ioctl` is not called: the program does not choose the request, and learns only
//! how much it could read.
//!
//! Both functions run in task context. [`readable`] may sleep; [`write_room`] does not.
//!
//! C headers: [`include/uapi/asm-generic/ioctls.h`](srctree/include/uapi/asm-generic/ioctls.h),
//! [`include/linux/tty.h`](srctree/include/linux/tty.h)

use super::poll::{operations, PollFunction};
use crate::{generated, sys::memory::user_scratch::UserScratch};
use kernel::{
    bindings,
    error::code::EIO,
    fs::{File, LocalFile}, //
};

static TTY_POLL: PollFunction = PollFunction::new(c"tty_poll");

/// True if `file` is a terminal or either side of a pseudo-terminal.
pub(crate) fn is_terminal(file: &LocalFile) -> bool {
    TTY_POLL.is_of(file)
}

/// The number of bytes that `FIONREAD` reports; 0 for a terminal that has hung up. `None` if the
/// file does not support `FIONREAD`, or if the scratch memory is not mapped. May sleep, depending
/// on the file.
pub(crate) fn readable(file: &File, scratch: UserScratch) -> Option<i64> {
    let operation = operations(file).unlocked_ioctl?;
    let (result, answer) = scratch.borrow(|address| {
        // SAFETY: The file is valid. The operation treats the address as a user-space address and
        // checks it before it writes there.
        unsafe { operation(file.as_ptr(), bindings::FIONREAD, address) }
    })?;
    if result == EIO.to_errno() as isize {
        return Some(0);
    }
    (result == 0).then(|| i64::from(answer as i32).max(0))
}

/// The number of bytes that a terminal's driver accepts without blocking. `None` if the terminal
/// has hung up, is hanging up, or is changing its line discipline. Never sleeps.
pub(crate) fn write_room(file: &File) -> Option<i64> {
    if !is_terminal(file) {
        return None;
    }
    // SAFETY: A file that is polled by `tty_poll` belongs to `tty_io.c` or `pty.c`. Its private
    // data refers to its terminal until the file is released, even after a hang-up. A reference to
    // the line discipline is held during the call of the driver, as in `n_tty_poll`. A hang-up
    // waits for that reference (`tty_ldisc_hangup`) before the driver frees its buffers.
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
