// SPDX-License-Identifier: GPL-2.0

//! A flag that is written under a lock, and may be read without it.
//!
//! As `WRITE_ONCE` and `READ_ONCE`, one instruction each. (The `kernel` crate's atomics are calls.)

use core::cell::UnsafeCell;

/// The flag.
pub(crate) struct Flag(UnsafeCell<bool>);

// SAFETY: It is a byte, which is read and written at once.
unsafe impl Send for Flag {}
// SAFETY: As above.
unsafe impl Sync for Flag {}

impl Flag {
    /// One that is not set.
    pub(crate) const fn new() -> Self {
        Flag(UnsafeCell::new(false))
    }

    /// True if it is set, as far as the caller can know. Orders nothing.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        // SAFETY: Valid, and read at once.
        unsafe { self.0.get().read_volatile() }
    }

    /// Sets or clears it. Orders nothing.
    #[inline]
    pub(crate) fn set(&self, value: bool) {
        // SAFETY: Valid, and written at once.
        unsafe { self.0.get().write_volatile(value) }
    }
}
