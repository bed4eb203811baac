// SPDX-License-Identifier: GPL-2.0

//! Protocols of the module's, checked by loom over all interleavings of two to four threads, and over all that the memory
//! model lets them see.
//!
//! [`State`](engine::state::State), [`Flag`](sys::lock::flag::Flag) and [`Sleepers`](engine::sleepers::Sleepers) are the module's
//! own files. Around them, and where a protocol is between pieces of the kernel, stands as much of the rest as it
//! takes, in the words of the module. Where barriers matter a test shows that the model fails without them.
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
mod flags;
mod knote;
mod leftover;
mod pollfree;
mod sleeping;

mod ffi {
    //! C's types.
    pub(crate) use core::ffi::c_int;
}

/// The current task, as the `kernel` crate has it.
#[macro_export]
#[doc(hidden)]
macro_rules! current {
    () => {
        $crate::bindings::Task::current()
    };
}
