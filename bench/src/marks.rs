// SPDX-License-Identifier: GPL-2.0

//! Marks around the parts that are measured, for a plugin of QEMU (`bench/profile`), which counts
//! how many of their instructions belong to the module. A mark is one instruction that does
//! nothing. There are marks on x86-64 only.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of runs so far.
static RUNS: AtomicUsize = AtomicUsize::new(0);

macro_rules! mark {
    ($number:literal) => {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: The instruction does nothing. It does not access the address.
        unsafe {
            std::arch::asm!(
                concat!("nop dword ptr [rax + ", $number, "]"),
                options(nomem, nostack, preserves_flags)
            );
        }
    };
}

/// A measured part begins.
#[inline(always)]
pub fn begin() {
    mark!("0x4b510001");
}

/// A measured part ends.
#[inline(always)]
pub fn end() {
    mark!("0x4b510002");
}

/// The parts of a run have ended. Returns the number of the run.
pub fn end_run() -> usize {
    mark!("0x4b510003");
    RUNS.fetch_add(1, Ordering::Relaxed)
}
