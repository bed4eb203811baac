// SPDX-License-Identifier: GPL-2.0

//! Tests of the module, written from kqueue(2) and the specification.
//!
//! The tests run in a guest that has loaded the module. `selftests/run.sh` runs each test in a
//! process of its own, so signals, forks and descriptors of one test cannot affect another one. No
//! test asserts how long an operation takes. Tests wait at most `SOON` for an event that must come,
//! which is long enough for a slow machine.
#![cfg(test)]

mod aio;
mod arguments;
mod bits;
mod clear;
mod close;
mod common;
mod datagram;
mod dups;
mod except;
mod families;
mod fault;
mod file;
mod fork;
mod kinds;
mod library;
mod limit;
mod marks;
mod mounts;
mod nested;
mod oracle;
mod pairs;
mod passing;
mod paths;
mod peers;
mod pipe;
mod process;
mod register;
mod regular;
mod scan;
mod signal;
mod socket;
mod spy;
mod stress;
mod timer;
mod trace;
mod user;
mod vnode;
