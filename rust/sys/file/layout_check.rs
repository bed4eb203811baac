// SPDX-License-Identifier: GPL-2.0

//! Verification, at run time, of the layout of a structure that is private to another kernel file.
//!
//! Some kinds of files keep a counter in such a structure. The only public interface to the counter
//! is the text of `/proc/PID/fdinfo`, which takes thousands of instructions to produce and to
//! parse. The module declares the layout a second time. It does not use the declaration until one
//! file was found for which the values read through the declaration equal those in the text. A
//! single mismatch rules the declaration out permanently.

use super::poll::operations;
use core::ptr;
use kernel::{
    fs::File,
    sync::atomic::{ordering::Relaxed, Atomic}, //
};

/// The verification state of one such declaration.
pub(in crate::sys) struct LayoutCheck {
    /// The address of the `file_operations` of the files that have the structure, once the
    /// declaration is verified; 0 until then. The accesses are relaxed, because the address is only
    /// compared, and the declaration is a constant.
    operations: Atomic<usize>,
    /// True once the declaration is ruled out. The accesses are relaxed, because a task that reads
    /// an old value only makes the comparison once more.
    ruled_out: Atomic<bool>,
}

impl LayoutCheck {
    /// A declaration that is neither verified nor ruled out.
    pub(crate) const fn new() -> Self {
        LayoutCheck {
            operations: Atomic::new(0),
            ruled_out: Atomic::new(false),
        }
    }

    /// True if `file` has the structure and the declaration is verified.
    #[inline(always)]
    pub(in crate::sys) fn is_verified_for(&self, file: &File) -> bool {
        // SAFETY: The static is valid, and one volatile load reads it. (The atomic load of the
        // `kernel` crate is a function call.)
        let known = unsafe { self.operations.as_ptr().read_volatile() };
        ptr::from_ref(operations(file)).addr() == known
    }

    /// True unless the declaration was ruled out.
    pub(in crate::sys) fn is_undecided(&self) -> bool {
        !self.ruled_out.load(Relaxed)
    }

    /// Records the result of a comparison for `file`, which has the structure: `matches` says
    /// whether the values were equal.
    pub(in crate::sys) fn record(&self, file: &File, matches: bool) {
        if matches {
            self.operations
                .store(ptr::from_ref(operations(file)).addr(), Relaxed);
        } else {
            self.ruled_out.store(true, Relaxed);
        }
    }

    /// One word for statistics: how the module obtains the counter.
    pub(in crate::sys) fn state(&self) -> &'static str {
        self.state_or("from fdinfo")
    }

    /// [`LayoutCheck::state`], with `other` for a declaration that is ruled out.
    pub(in crate::sys) fn state_or(&self, other: &'static str) -> &'static str {
        if self.operations.load(Relaxed) != 0 {
            "read"
        } else if self.is_undecided() {
            "not known yet"
        } else {
            other
        }
    }
}
