// SPDX-License-Identifier: GPL-2.0

//! What differs between the supported versions of the kernel.
//!
//! Everything here compiles unchanged on all of them, so no other file has conditions.

use core::mem::transmute;
use kernel::{bindings, time::hrtimer::HrTimerRestart};

/// What the function of a timer returns for a timer that is not started again.
///
/// The bindings of `enum hrtimer_restart` are a structure, and an integer in the candidates of 7.3.
pub(crate) const NO_RESTART: bindings::hrtimer_restart =
    // SAFETY: Both forms have the representation of the enumeration in C, as the crate's
    // `HrTimerRestart` has, and permit each of its values.
    unsafe { transmute(HrTimerRestart::NoRestart) };
