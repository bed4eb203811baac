// SPDX-License-Identifier: GPL-2.0

//! A flag that is written under a lock and may be read without it.
//!
//! The accesses have relaxed ordering, so the flag by itself orders nothing. The declaration of
//! each flag says what a reader without the lock may conclude.
//!
//! Each access is one instruction, as with `WRITE_ONCE` and `READ_ONCE`. (The atomics of the
//! `kernel` crate are function calls.) Nothing here calls the kernel, because `selftests/state`
//! compiles this file with model-checked atomics.

use crate::sys::{AtomicBool, Ordering};

/// The flag.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    /// A flag that is not set.
    pub(crate) fn new() -> Self {
        Flag(AtomicBool::new(false))
    }

    /// True if the flag is set. Without the lock the result may be stale.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets or clears the flag.
    #[inline]
    pub(crate) fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }
}
