// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: having a function called at one.
//!
//! Those that the module needs are not exported; they are found by name, among the kernel's own.
//! That what is called there takes their arguments, `rust/helpers.c` asserts.
//!
//! # Context
//!
//! That of the tracepoint, under its SRCU: a function may be preempted but must not sleep long.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use super::hook::{Presence, Probe, Watched};
use crate::generated;
use core::{ffi::CStr, marker::PhantomData, ptr};
use kernel::{
    bindings,
    error::to_result,
    ffi::c_void,
    prelude::*,
    sync::atomic::{ordering, Atomic}, //
};

/// One tracepoint and what is to be done at it.
///
/// # Safety
///
/// `function` gives an `extern "C"` function whose arguments are a `*mut c_void`, which is a
/// `*const Hook<Tracepoint<Self>>` (which begins with its presence), and those of the tracepoint called `NAME`.
pub(crate) unsafe trait Event: Send + Sync + Sized + 'static {
    /// Who wants to know.
    type Target: Send + Sync + 'static;
    /// The tracepoint's name.
    const NAME: &'static CStr;

    /// What is called.
    fn function() -> *mut c_void;
}

/// The probe of a tracepoint.
pub(crate) struct Tracepoint<E: Event> {
    /// Null until it was looked for.
    tracepoint: Atomic<*mut bindings::tracepoint>,
    _event: PhantomData<E>,
}

/// A search for a tracepoint.
struct Search {
    name: &'static CStr,
    found: *mut bindings::tracepoint,
}

impl Search {
    /// Called with each tracepoint of the kernel.
    ///
    /// # Safety
    ///
    /// `tracepoint` is valid, `search` points to a `Search`.
    unsafe extern "C" fn look(tracepoint: *mut bindings::tracepoint, search: *mut c_void) {
        // SAFETY: By this function's contract.
        let this = unsafe { &mut *search.cast::<Search>() };
        // SAFETY: A tracepoint's name is a C string.
        if unsafe { CStr::from_char_ptr((*tracepoint).name) } == this.name {
            this.found = tracepoint;
        }
    }
}

impl<E: Event> Tracepoint<E> {
    /// Not registered yet.
    pub(crate) fn new() -> Self {
        Tracepoint {
            tracepoint: Atomic::new(ptr::null_mut()),
            _event: PhantomData,
        }
    }

    /// The kernel's own tracepoints stay for ever.
    fn find() -> Option<*mut bindings::tracepoint> {
        let mut search = Search {
            name: E::NAME,
            found: ptr::null_mut(),
        };
        // SAFETY: The callback gets what it expects, and the search outlives the call.
        unsafe {
            bindings::for_each_kernel_tracepoint(Some(Search::look), (&raw mut search).cast())
        };
        (!search.found.is_null()).then_some(search.found)
    }
}

// SAFETY: `unregister` waits for all that run under the tracepoints' SRCU.
unsafe impl<E: Event> Probe for Tracepoint<E> {
    unsafe fn register(&self, presence: *const Presence<Self>) -> Result {
        let tracepoint = Self::find().ok_or(ENOENT)?;
        self.tracepoint.store(tracepoint, ordering::Relaxed);
        // SAFETY: The tracepoint is valid, the function of its type by the contract of `Event`.
        to_result(unsafe {
            bindings::tracepoint_probe_register(
                tracepoint,
                E::function(),
                presence.cast_mut().cast(),
            )
        })
    }

    unsafe fn unregister(&self, presence: *const Presence<Self>) {
        let tracepoint = self.tracepoint.load(ordering::Relaxed);
        // SAFETY: The same arguments as in `register`, which succeeded.
        unsafe {
            bindings::tracepoint_probe_unregister(
                tracepoint,
                E::function(),
                presence.cast_mut().cast(),
            );
            generated::kq_tracepoint_synchronize();
        }
    }
}

impl<E: Event> Watched for Tracepoint<E> {
    type Target = E::Target;
    const SHARD_BITS: u32 = 6;
    const FILTER_BITS: u32 = 12;
}
