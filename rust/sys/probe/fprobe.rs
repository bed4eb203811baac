// SPDX-License-Identifier: GPL-2.0

//! Function probes (fprobe), on functions of the kernel's own.
//!
//! C header: [`include/linux/fprobe.h`](srctree/include/linux/fprobe.h)

use super::symbol;
use crate::generated;
use core::ptr;
use kernel::{
    error::to_result,
    ffi::c_int,
    prelude::*,
    types::Opaque, //
};

/// How many functions one probe may be on.
const MOST_FUNCTIONS: usize = 2;

/// A function probe, and what it is on.
#[repr(C)]
pub(crate) struct FunctionProbe {
    // First, so that a pointer to it is a pointer to the whole.
    fprobe: Opaque<generated::fprobe>,
    functions: &'static [&'static CStr],
}

// SAFETY: The structure is only handed to functions with locks of their own.
unsafe impl Send for FunctionProbe {}
// SAFETY: As above.
unsafe impl Sync for FunctionProbe {}

impl FunctionProbe {
    /// Not registered yet.
    pub(crate) fn new(functions: &'static [&'static CStr], fprobe: generated::fprobe) -> Self {
        FunctionProbe {
            fprobe: Opaque::new(fprobe),
            functions,
        }
    }

    /// Has the handlers called from now on.
    ///
    /// # Errors
    ///
    /// What registering fails with; `EOPNOTSUPP` if there is no such function that can be probed.
    ///
    /// # Safety
    ///
    /// Not registered; stays in its place until `unregister` has returned. The handlers may be called.
    pub(crate) unsafe fn register(&self) -> Result {
        let mut names = [ptr::null(); MOST_FUNCTIONS];
        for (slot, function) in names.iter_mut().zip(self.functions) {
            *slot = function.as_char_ptr();
        }
        let count = self.functions.len().min(names.len());
        // SAFETY: The probe is initialised, not registered, and stays in its place; there are that
        // many names.
        to_result(unsafe {
            generated::register_fprobe_syms(self.fprobe.get(), names.as_mut_ptr(), count as c_int)
        })?;
        // The kernel looks in modules, too, if it has no such function that can be probed itself.
        for place in 0..count as u32 {
            // SAFETY: It is registered, with as many functions.
            let address = unsafe { generated::kq_fprobe_address(self.fprobe.get(), place) };
            let is_ours = |name: &&CStr| symbol::is_kernel_s(address as usize, name);
            if !self.functions.iter().any(is_ours) {
                // SAFETY: It is registered.
                unsafe { self.unregister() };
                return Err(EOPNOTSUPP);
            }
        }
        // Functions that are being called have looked for probes without one, with preemption off.
        // They have come to their end now, and what they did before is seen.
        // SAFETY: May sleep, as registering may.
        unsafe { kernel::bindings::synchronize_rcu() };
        Ok(())
    }

    /// Ends that, and waits for the handlers.
    ///
    /// # Safety
    ///
    /// Registered.
    pub(crate) unsafe fn unregister(&self) {
        // SAFETY: By this function's contract.
        unsafe { generated::unregister_fprobe(self.fprobe.get()) };
    }
}
