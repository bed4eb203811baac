// SPDX-License-Identifier: GPL-2.0

//! The engine: kqueues and knotes, whatever they watch.

pub(crate) mod close;
pub(crate) mod guard;
pub(crate) mod kevent;
pub(crate) mod knote;
pub(crate) mod knote_memory;
pub(crate) mod kqueue;
pub(crate) mod limit;
pub(crate) mod locks;
pub(crate) mod nesting;
pub(crate) mod objects;
pub(crate) mod ops;
pub(crate) mod params;
pub(crate) mod pollwait;
pub(crate) mod ready_list;
pub(crate) mod recheck;
pub(crate) mod shared;
pub(crate) mod sleepers;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod trace;
pub(crate) mod usercopy;
