// SPDX-License-Identifier: GPL-2.0

//! The number of readable bytes of files that report it only through ioctl(2).
//!
//! The operation takes its own locks. It writes the result to a user-space address, for which the
//! caller provides [`UserScratch`] memory. `security_file_ioctl` is not called: the program does
//! not choose the request, and learns only how much it could read.
//!
//! C headers: [`include/uapi/asm-generic/ioctls.h`](srctree/include/uapi/asm-generic/ioctls.h)

use super::poll::operations;
use crate::sys::memory::user_scratch::UserScratch;
use kernel::{bindings, error::code::EIO, fs::File};

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
