// SPDX-License-Identifier: GPL-2.0

//! One file for each kernel mechanism that the `kernel` crate does not wrap.
//!
//! All `unsafe` code of the module is here. Each file offers a safe API whose
//! handle detaches, and waits for callbacks in flight, when it is dropped: no
//! callback can come after that.

pub(crate) mod close;
pub(crate) mod guard;
pub(crate) mod knote;
pub(crate) mod params;
pub(crate) mod queue;
pub(crate) mod recheck;
pub(crate) mod sleepers;
pub(crate) mod trace;
pub(crate) mod usercopy;
