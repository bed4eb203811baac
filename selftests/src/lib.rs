// SPDX-License-Identifier: GPL-2.0

//! Tests of the module, written from kqueue(2) and the specification.
//!
//! They run in a guest that has loaded the module, one process a test
//! (`selftests/run.sh`), so that signals, forks and descriptors cannot leak from
//! one into another. No test asserts how long something takes: `SOON` is how
//! long one waits for what must happen, on a slow machine.
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
