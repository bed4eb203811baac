// SPDX-License-Identifier: GPL-2.0

//! Callbacks at the kernel's tracepoints.
//!
//! The tracepoints that the module needs are not exported. They are found by name among those of
//! the kernel image. `rust/helpers.c` asserts at compile time that the callbacks take the arguments
//! of their tracepoints.
//!
//! # Context
//!
//! A callback runs in the context of the tracepoint, within the SRCU read-side critical section of
//! tracepoints. It may be preempted, but it must not sleep for long.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use super::{
    on_demand::{OnDemandProbe, Probe},
    watches::ObjectProbe, //
};
use crate::generated;
use core::{ffi::CStr, marker::PhantomData, ptr};
use kernel::{
    bindings,
    error::to_result,
    ffi::c_void,
    prelude::*,
    sync::atomic::{ordering, Atomic}, //
};

/// A tracepoint and its callback.
///
/// # Safety
///
/// `function` returns an `extern "C"` function. Its first argument is a `*mut c_void`, which points
/// to a `WatchedProbe<Tracepoint<Self>>`, whose first field is its `OnDemandProbe`. The other
/// arguments are those of the tracepoint `NAME`.
pub(crate) unsafe trait TraceEvent: Send + Sync + Sized + 'static {
    /// The type of the target that a watch notifies.
    type Target: Send + Sync + 'static;
    /// The name of the tracepoint.
    const NAME: &'static CStr;

    /// The address of the callback.
    fn function() -> *mut c_void;
}

/// The probe of a tracepoint.
pub(crate) struct Tracepoint<E: TraceEvent> {
    /// The tracepoint. Null until it was looked up. The accesses are relaxed, because the mutex of
    /// the [`OnDemandProbe`] is held during each of them.
    tracepoint: Atomic<*mut bindings::tracepoint>,
    _event: PhantomData<E>,
}

/// A search for a tracepoint by name.
struct Search {
    name: &'static CStr,
    found: *mut bindings::tracepoint,
}

impl Search {
    /// The callback of the search, which is called with each tracepoint of the kernel image.
    ///
    /// # Safety
    ///
    /// `tracepoint` is valid, and `search` points to a `Search`.
    unsafe extern "C" fn compare(tracepoint: *mut bindings::tracepoint, search: *mut c_void) {
        // SAFETY: The caller upholds this function's safety contract.
        let this = unsafe { &mut *search.cast::<Search>() };
        // SAFETY: A tracepoint's name is a C string.
        if unsafe { CStr::from_char_ptr((*tracepoint).name) } == this.name {
            this.found = tracepoint;
        }
    }
}

impl<E: TraceEvent> Tracepoint<E> {
    /// A probe that is not registered.
    pub(crate) fn new() -> Self {
        Tracepoint {
            tracepoint: Atomic::new(ptr::null_mut()),
            _event: PhantomData,
        }
    }

    /// Looks up the tracepoint. Tracepoints of the kernel image are never freed.
    fn find() -> Option<*mut bindings::tracepoint> {
        let mut search = Search {
            name: E::NAME,
            found: ptr::null_mut(),
        };
        // SAFETY: The callback gets a pointer to a `Search`, which outlives the call.
        unsafe {
            bindings::for_each_kernel_tracepoint(Some(Search::compare), (&raw mut search).cast())
        };
        (!search.found.is_null()).then_some(search.found)
    }
}

// SAFETY: `unregister` waits for all readers of the SRCU domain of tracepoints.
unsafe impl<E: TraceEvent> Probe for Tracepoint<E> {
    const LINGER_MILLIS: u32 = 10_000;

    unsafe fn register(&self, on_demand: *const OnDemandProbe<Self>) -> Result {
        let tracepoint = Self::find().ok_or(ENOENT)?;
        self.tracepoint.store(tracepoint, ordering::Relaxed);
        // SAFETY: The tracepoint is valid. The contract of `TraceEvent` guarantees that the
        // function has the type of the tracepoint.
        to_result(unsafe {
            bindings::tracepoint_probe_register(
                tracepoint,
                E::function(),
                on_demand.cast_mut().cast(),
            )
        })
    }

    unsafe fn unregister(&self, on_demand: *const OnDemandProbe<Self>) {
        let tracepoint = self.tracepoint.load(ordering::Relaxed);
        // SAFETY: These are the arguments of `register`, which succeeded.
        unsafe {
            bindings::tracepoint_probe_unregister(
                tracepoint,
                E::function(),
                on_demand.cast_mut().cast(),
            );
            generated::kq_tracepoint_synchronize();
        }
    }
}

impl<E: TraceEvent> ObjectProbe for Tracepoint<E> {
    type Target = E::Target;
    const SHARD_BITS: u32 = 6;
    const FILTER_BITS: u32 = 12;
}
