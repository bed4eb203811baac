// SPDX-License-Identifier: GPL-2.0

//! The engine: kqueues and knotes, independent of the event sources.
//!
//! The engine imports from `rust/sys` and `rust/uapi.rs`. It uses filters only through
//! [`filter_ops`]. `scripts/layers.sh` checks that.
//!
//! # Files
//!
//! | Subject | Files |
//! |---|---|
//! | one kevent() call | [`kevent`], [`usercopy`] |
//! | a kqueue: registration, scan, delivery, wake-up, lifetime | [`kqueue`] |
//! | a knote: its fields, memory, parameters, states | [`knote`], [`knote_layout`], [`knote_inner`], [`state`] |
//! | where knotes are | [`knote_table`], [`ready_list`], [`recheck`] |
//! | locks, and who waits | [`locks`], [`knotes_guard`], [`sleepers`] |
//! | binding to descriptors, and their close | [`close`], [`wait_entries`], [`pairing`] |
//! | limits | [`knote_limit`], [`object_watches`], [`module_params`], [`nesting`] |
//! | what all kqueues share | [`shared_state`] |
//! | what a filter is to the engine | [`filter_ops`] |
//! | tracepoints | [`trace`] |
//!
//! # Unsafe code
//!
//! Only these files of the engine have unsafe code:
//!
//! - `close`: trees that are linked through the knotes, task work, and the probes of closes.
//! - `knote`: a knote is a reference-counted object whose fields are guarded by two locks.
//! - `knote_layout`: knotes are stored in objects of three types.
//! - `knotes_guard`: computes the address of the kqueue from that of its mutex.
//! - `locks`: the tokens that prove which lock is held.
//! - `module_params`: the parameters are variables of C.
//! - `pairing`: knotes that refer to each other without holding references.
//! - `wait_entries`: the wake functions, and the links of wait-queue entries.
//! - `ready_list`: a list that is linked through the knotes and holds no references.
//! - `recheck`: lists of the same kind, and a timer.
//! - `sleepers`: a list whose entries are on the stacks of the sleeping tasks.
//! - `trace`: tracepoints, which are defined in C.
//! - `usercopy`: copies from and to user space.

pub(crate) mod close;
pub(crate) mod filter_ops;
pub(crate) mod kevent;
pub(crate) mod knote;
pub(crate) mod knote_inner;
pub(crate) mod knote_layout;
pub(crate) mod knote_limit;
pub(crate) mod knote_table;
pub(crate) mod knotes_guard;
pub(crate) mod kqueue;
pub(crate) mod locks;
pub(crate) mod module_params;
pub(crate) mod nesting;
pub(crate) mod object_watches;
pub(crate) mod pairing;
pub(crate) mod ready_list;
pub(crate) mod recheck;
pub(crate) mod shared_state;
pub(crate) mod sleepers;
pub(crate) mod state;
pub(crate) mod trace;
pub(crate) mod usercopy;
pub(crate) mod wait_entries;
