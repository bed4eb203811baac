// SPDX-License-Identifier: GPL-2.0

//! Function probes (fprobe) on functions of the kernel image.
//!
//! A handler runs in the context of the probed function with preemption disabled. It must not
//! sleep. Registering and unregistering may sleep.
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

/// The maximum number of functions that one probe may be attached to.
const FUNCTIONS_MAX: usize = 2;

/// A function probe and the names of the functions that it is attached to.
#[repr(C)]
pub(crate) struct FunctionProbe {
    // The first field, so that a pointer to it is also a pointer to the structure.
    fprobe: Opaque<generated::fprobe>,
    functions: &'static [&'static CStr],
}

// SAFETY: The structure is only passed to functions that do their own locking.
unsafe impl Send for FunctionProbe {}
// SAFETY: The structure is only passed to functions that do their own locking.
unsafe impl Sync for FunctionProbe {}

impl FunctionProbe {
    /// A probe that is not registered.
    pub(crate) fn new(functions: &'static [&'static CStr], fprobe: generated::fprobe) -> Self {
        FunctionProbe {
            fprobe: Opaque::new(fprobe),
            functions,
        }
    }

    /// Registers the probe, so that the handlers are called.
    ///
    /// # Errors
    ///
    /// The errors of `register_fprobe_syms`. `EOPNOTSUPP` if the kernel image has no such function
    /// that can be probed.
    ///
    /// # Safety
    ///
    /// The probe is not registered. It is not moved before `unregister` has returned. The handlers
    /// may be called from now on.
    pub(crate) unsafe fn register(&self) -> Result {
        let mut names = [ptr::null(); FUNCTIONS_MAX];
        for (slot, function) in names.iter_mut().zip(self.functions) {
            *slot = function.as_char_ptr();
        }
        let count = self.functions.len().min(names.len());
        // SAFETY: The probe is initialised, is not registered, and is not moved. The array has
        // `count` names.
        to_result(unsafe {
            generated::register_fprobe_syms(self.fprobe.get(), names.as_mut_ptr(), count as c_int)
        })?;
        // If the kernel image has no such function that can be probed, `register_fprobe_syms` also
        // accepts a function of a module. Reject that.
        for place in 0..count as u32 {
            // SAFETY: The probe is registered with `count` functions.
            let address = unsafe { generated::kq_fprobe_address(self.fprobe.get(), place) };
            let is_ours = |name: &&CStr| symbol::is_kernel_function(address as usize, name);
            if !self.functions.iter().any(is_ours) {
                // SAFETY: The probe was registered above.
                unsafe { self.unregister() };
                return Err(EOPNOTSUPP);
            }
        }
        // A probed function that was entered before the registration may have looked for probes,
        // with preemption disabled, and found none. After the grace period all such calls have
        // ended, and their effects are visible.
        // SAFETY: This function may sleep, because registering may.
        unsafe { kernel::bindings::synchronize_rcu() };
        Ok(())
    }

    /// Unregisters the probe and waits for handlers that are running.
    ///
    /// # Safety
    ///
    /// The probe is registered.
    pub(crate) unsafe fn unregister(&self) {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { generated::unregister_fprobe(self.fprobe.get()) };
    }
}
