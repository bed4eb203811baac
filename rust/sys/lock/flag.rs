// SPDX-License-Identifier: GPL-2.0

//! A flag that is written under a lock, and may be read without it.
//!
//! As `WRITE_ONCE` and `READ_ONCE`, one instruction each. (The `kernel` crate's atomics are calls.) Nothing here
//! calls the kernel: `selftests/state` has this file too, with atomics that are checked.

use crate::sys::{AtomicBool, Ordering};

/// The flag.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    /// One that is not set.
    pub(crate) fn new() -> Self {
        Flag(AtomicBool::new(false))
    }

    /// True if it is set, as far as the caller can know. Orders nothing.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets or clears it. Orders nothing.
    #[inline]
    pub(crate) fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }
}
