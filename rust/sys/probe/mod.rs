// SPDX-License-Identifier: GPL-2.0

//! Probes into the kernel: function probes, tracepoints, and the lists of objects that they watch.

pub(crate) mod fprobe;
pub(crate) mod on_demand;
pub(crate) mod seek;
pub(crate) mod symbol;
pub(crate) mod tracepoint;
pub(crate) mod watches;
