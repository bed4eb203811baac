// SPDX-License-Identifier: GPL-2.0

//! The engine: kqueues and knotes, whatever they watch.
//!
//! The engine imports from `rust/sys` and `rust/uapi.rs`, and knows filters only through [`ops`].
//! `scripts/floors.sh` checks that.
//!
//! # Files
//!
//! | Subject | Files |
//! |---|---|
//! | one kevent() call | [`kevent`], [`usercopy`] |
//! | a kqueue: registration, scan, delivery, wake-up, lifetime | [`kqueue`] |
//! | a knote: parameters, memory, states | [`knote`], [`knote_memory`], [`state`] |
//! | where knotes are | [`table`], [`ready_list`], [`recheck`] |
//! | locks, and who waits | [`locks`], [`guard`], [`sleepers`] |
//! | binding to descriptors, and their close | [`close`], [`pollwait`] |
//! | limits | [`limit`], [`objects`], [`params`], [`nesting`] |
//! | what all kqueues share | [`shared`] |
//! | what a filter is to the engine | [`ops`] |
//! | tracepoints | [`trace`] |
//!
//! # Unsafe code
//!
//! These files have unsafe code, and no others of the engine:
//!
//! - `close`: trees of knotes, linked through the knotes; task work; the probes of closes.
//! - `guard`: the kqueue is found from its mutex.
//! - `knote_memory`: a knote is a counted object, whose parts are guarded by two locks.
//! - `locks`: the keys that prove which lock is held.
//! - `params`: parameters that are variables of C.
//! - `pollwait`: calls of `->poll`, and the entries of wait queues.
//! - `ready_list`: a list that is linked through the knotes and owns none of them.
//! - `recheck`: lists of the same kind, and a timer.
//! - `sleepers`: a list of tasks on their stacks.
//! - `trace`: tracepoints, which are C.
//! - `usercopy`: copies from and to the memory of a program.

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
