// SPDX-License-Identifier: GPL-2.0

//! Which function is it?
//!
//! C header: [`include/linux/kallsyms.h`](srctree/include/linux/kallsyms.h)

use crate::generated;
use kernel::{bindings, prelude::*};

/// True when the function that `address` is in has that name and is the kernel's own, not a
/// module's. May sleep.
pub(crate) fn is_kernel_s(address: usize, name: &CStr) -> bool {
    is(address, name, None)
}

/// The same for a function that may also be that module's. May sleep.
pub(crate) fn is_module_s(address: usize, name: &CStr, module: &CStr) -> bool {
    is(address, name, None) || is(address, name, Some(module))
}

fn is(address: usize, name: &CStr, module: Option<&CStr>) -> bool {
    let mut buffer = [0u8; generated::KQ_SYMBOL_LEN as usize];
    // SAFETY: There is room for any symbol.
    let len = unsafe { bindings::sprint_symbol_no_offset(buffer.as_mut_ptr().cast(), address) };
    let Some(symbol) = usize::try_from(len).ok().and_then(|len| buffer.get(..len)) else {
        return false;
    };
    // "name", or "name [module]".
    match (symbol.strip_prefix(name.to_bytes()), module) {
        (Some(b""), None) => true,
        (Some(rest), Some(module)) => rest
            .strip_prefix(b" [")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .is_some_and(|rest| rest == module.to_bytes()),
        _ => false,
    }
}
