// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate lacks: one file for each mechanism of the kernel.
//!
//! Nothing here knows what the module is for. Each file offers a safe interface over one mechanism, generic over its user. A
//! handle detaches when it is dropped, and waits for callbacks that are running: no callback comes after that.
//!
//! This is the lowest floor: it imports the `kernel` crate, the generated bindings, and itself.

// For those files that `selftests/state` has too, where atomics are others.
pub(crate) use core::sync::atomic::{AtomicBool, Ordering};

pub(crate) mod file;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod notify;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod time;
