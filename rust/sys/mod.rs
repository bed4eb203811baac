// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers for kernel mechanisms that the `kernel` crate does not wrap. Each file wraps one
//! mechanism.
//!
//! Nothing in this folder knows what the module is for. Each file offers a safe interface to one
//! mechanism, generic over its user. A registered callback is represented by a handle. Dropping the
//! handle detaches the callback and waits for a callback that is running, so no callback runs after
//! the drop has returned.
//!
//! This is the lowest layer of the module. It imports only the `kernel` crate, the generated
//! bindings, and itself.

// `selftests/state` builds some of these files in user space with model-checked atomics. Those
// files therefore import the atomics from here.
pub(crate) use core::sync::atomic::{AtomicBool, Ordering};

pub(crate) mod compat;
pub(crate) mod file;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod notify;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod time;
