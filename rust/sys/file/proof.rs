// SPDX-License-Identifier: GPL-2.0

//! Proof that a structure that is private to another file of the kernel is laid out as it is declared here.
//!
//! Some files keep a counter in such a structure, and the only public way to it is the text of `/proc/PID/fdinfo`, which
//! takes thousands of instructions to make and to read. The declaration is not believed until one file was seen whose
//! text says what is read by it. A file that says something else rules the declaration out for good.

use super::poll::operations;
use core::ptr;
use kernel::{
    fs::File,
    sync::atomic::{ordering::Relaxed, Atomic}, //
};

/// What is known of one such declaration.
pub(in crate::sys) struct Proof {
    /// The operations of the files that have the structure, once it is proved; 0 until then.
    operations: Atomic<usize>,
    ruled_out: Atomic<bool>,
}

impl Proof {
    /// Nothing is known.
    pub(crate) const fn new() -> Self {
        Proof {
            operations: Atomic::new(0),
            ruled_out: Atomic::new(false),
        }
    }

    /// True if `file` has the structure, and the declaration is proved.
    #[inline(always)]
    pub(in crate::sys) fn holds_for(&self, file: &File) -> bool {
        // SAFETY: Valid, and read at once. (The `kernel` crate's load is a call.)
        let known = unsafe { self.operations.as_ptr().read_volatile() };
        ptr::from_ref(operations(file)).addr() == known
    }

    /// True until the declaration was ruled out.
    pub(in crate::sys) fn is_open(&self) -> bool {
        !self.ruled_out.load(Relaxed)
    }

    /// What is read of `file`, which has the structure, is `right` or not.
    pub(in crate::sys) fn conclude(&self, file: &File, right: bool) {
        if right {
            self.operations
                .store(ptr::from_ref(operations(file)).addr(), Relaxed);
        } else {
            self.ruled_out.store(true, Relaxed);
        }
    }

    /// How counters are had, in a word.
    pub(in crate::sys) fn state(&self) -> &'static str {
        if self.operations.load(Relaxed) != 0 {
            "read"
        } else if self.is_open() {
            "not known yet"
        } else {
            "told"
        }
    }
}
