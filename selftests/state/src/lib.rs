// SPDX-License-Identifier: GPL-2.0

//! Protocols of the module, which loom checks over all interleavings of two to four threads, and
//! over all values that the memory model allows them to read.
//!
//! [`State`](engine::state::State), [`Flag`](sys::lock::flag::Flag),
//! [`Sleepers`](engine::sleepers::Sleepers) and [`Treap`](treap::Treap) are the module's own files.
//! The rest that a protocol needs, such as parts of the kernel, is modelled in the terms of the
//! module, with the orderings of the module. Where a barrier or an ordering matters, a test shows
//! that the model fails without it.
#![cfg(test)]

// What the module's files find by these names.
extern crate self as kernel;
mod bindings;
mod engine;
mod generated;
mod sys;

#[path = "../../../rust/sys/memory/treap.rs"]
#[allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
mod treap;
mod tree;

mod binding;
mod close_work;
mod end;
mod flags;
mod knote;
mod leftover;
mod offset;
mod on_demand;
mod pairing;
mod pollfree;
mod sleeping;

mod ffi {
    //! The types of C.
    pub(crate) use core::ffi::c_int;
}

/// The current task, with the interface of the `kernel` crate.
#[macro_export]
#[doc(hidden)]
macro_rules! current {
    () => {
        $crate::bindings::Task::current()
    };
}
