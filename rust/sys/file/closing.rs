// SPDX-License-Identifier: GPL-2.0

//! The descriptor number that the current task is closing.
//!
//! The callbacks that the kernel invokes at a close do not receive the descriptor number. The
//! number is known from the task's system call if that is close(2), dup2(2), dup3(2) or
//! close_range(2).

use super::fdtable::FdTableId;
use crate::generated;
use kernel::ffi::c_uint;

/// The descriptor number that the current task is closing, as far as its system call determines it.
#[derive(Clone, Copy)]
pub(crate) enum ClosedNumber {
    /// This number.
    Number(u64),
    /// A number from the first to the second, inclusive. They are closed in ascending order.
    Range(u64, u64),
    /// The system call does not determine the number.
    Unknown,
}

impl ClosedNumber {
    /// The number that the current task's system call implies for a close in `fd_table`. It is only
    /// a hint, because other code that runs within the system call, or at its end, may close the
    /// file as well.
    pub(crate) fn hint(fd_table: FdTableId) -> Self {
        if FdTableId::current() != fd_table {
            return ClosedNumber::Unknown;
        }
        // SAFETY: The functions have no preconditions. A task that is in a native system call has
        // its registers saved.
        unsafe {
            if !generated::kq_task_has_native_call() {
                return ClosedNumber::Unknown;
            }
            // The system calls take 32-bit arguments.
            let argument = |n| u64::from(generated::kq_call_argument(n) as c_uint);
            match generated::kq_call_number() as c_uint {
                generated::kq_call_KQ_CALL_CLOSE => ClosedNumber::Number(argument(0)),
                generated::kq_call_KQ_CALL_DUP2 | generated::kq_call_KQ_CALL_DUP3 => {
                    ClosedNumber::Number(argument(1))
                }
                generated::kq_call_KQ_CALL_CLOSE_RANGE => {
                    ClosedNumber::Range(argument(0), argument(1))
                }
                _ => ClosedNumber::Unknown,
            }
        }
    }
}

/// True if the current task may close descriptors that its system call does not name: io_uring
/// closes descriptors at the end of any system call.
pub(crate) fn uses_io_uring() -> bool {
    // SAFETY: The function has no preconditions.
    unsafe { generated::kq_task_has_io_uring() }
}
