// SPDX-License-Identifier: GPL-2.0

//! Locks that the `kernel` crate lacks, and locks that are cheaper than those of the `kernel`
//! crate.

pub(crate) mod flag;
pub(crate) mod killable;
pub(crate) mod raw_spin;
