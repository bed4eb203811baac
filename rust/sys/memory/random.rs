// SPDX-License-Identifier: GPL-2.0

//! The kernel's random numbers.

use kernel::bindings;

/// A random number that nobody can guess.
pub(crate) fn random() -> u64 {
    // SAFETY: No preconditions.
    unsafe { bindings::get_random_u64() }
}
