// SPDX-License-Identifier: GPL-2.0

//! Which descriptor is the current task closing?
//!
//! What the kernel calls at a close is not given the number. The task's system call says it, if it is close(2), dup2(2),
//! dup3(2) or close_range(2).

use super::fdtable::TableId;
use crate::generated;
use kernel::ffi::c_uint;

/// Which number the current task is closing, as far as its system call says.
#[derive(Clone, Copy)]
pub(crate) enum Closed {
    /// That number.
    Number(u64),
    /// One of these, the lower ones first.
    Range(u64, u64),
    /// It does not say.
    Unknown,
}

impl Closed {
    /// What the system call of the current task says of a close in `table`. It is a hint: the file may
    /// be closed by something else that happens to run in that call, or at its end.
    pub(crate) fn hint(table: TableId) -> Self {
        if TableId::current() != table {
            return Closed::Unknown;
        }
        // SAFETY: No preconditions; a task that has such a call has its registers.
        unsafe {
            if !generated::kq_task_has_native_call() {
                return Closed::Unknown;
            }
            // As wide as the call takes them.
            let argument = |n| u64::from(generated::kq_call_argument(n) as c_uint);
            match generated::kq_call_number() as c_uint {
                generated::kq_call_KQ_CALL_CLOSE => Closed::Number(argument(0)),
                generated::kq_call_KQ_CALL_DUP2 | generated::kq_call_KQ_CALL_DUP3 => {
                    Closed::Number(argument(1))
                }
                generated::kq_call_KQ_CALL_CLOSE_RANGE => Closed::Range(argument(0), argument(1)),
                _ => Closed::Unknown,
            }
        }
    }
}

/// True if the current task may close descriptors besides what its system call says: io_uring closes some
/// at the end of any call.
pub(crate) fn closes_by_itself() -> bool {
    // SAFETY: No preconditions.
    unsafe { generated::kq_task_has_io_uring() }
}
