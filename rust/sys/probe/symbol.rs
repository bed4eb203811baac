// SPDX-License-Identifier: GPL-2.0

//! Identifying a function by its address.
//!
//! C header: [`include/linux/kallsyms.h`](srctree/include/linux/kallsyms.h)

use crate::generated;
use kernel::{bindings, prelude::*};

/// True if `address` is in a function of this name that belongs to the kernel image and not to a
/// module. May sleep.
pub(crate) fn is_kernel_function(address: usize, name: &CStr) -> bool {
    is(address, name, None)
}

/// True if `address` is in a function of this name that belongs to the kernel image or to the given
/// module. May sleep.
pub(crate) fn is_kernel_or_module_function(address: usize, name: &CStr, module: &CStr) -> bool {
    is(address, name, None) || is(address, name, Some(module))
}

fn is(address: usize, name: &CStr, module: Option<&CStr>) -> bool {
    let mut buffer = [0u8; generated::KQ_SYMBOL_LEN as usize];
    // SAFETY: The buffer is large enough for any symbol.
    let len = unsafe { bindings::sprint_symbol_no_offset(buffer.as_mut_ptr().cast(), address) };
    let Some(symbol) = usize::try_from(len).ok().and_then(|len| buffer.get(..len)) else {
        return false;
    };
    // The text is "name" or "name [module]".
    match (symbol.strip_prefix(name.to_bytes()), module) {
        (Some(b""), None) => true,
        (Some(rest), Some(module)) => rest
            .strip_prefix(b" [")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .is_some_and(|rest| rest == module.to_bytes()),
        _ => false,
    }
}
