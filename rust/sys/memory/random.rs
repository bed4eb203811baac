// SPDX-License-Identifier: GPL-2.0

//! The kernel's random number generator.

use kernel::bindings;

/// A cryptographically secure random number.
pub(crate) fn random() -> u64 {
    // SAFETY: The function has no preconditions.
    unsafe { bindings::get_random_u64() }
}
