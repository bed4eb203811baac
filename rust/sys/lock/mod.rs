// SPDX-License-Identifier: GPL-2.0

//! Locks that the `kernel` crate lacks, or that are cheaper than its own.

pub(crate) mod flag;
pub(crate) mod irqlock;
pub(crate) mod killable;
