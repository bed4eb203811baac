// SPDX-License-Identifier: GPL-2.0

//! One file for each kernel mechanism that the `kernel` crate does not wrap.
//!
//! All `unsafe` code of the module is here. Each file offers a safe API whose
//! handle detaches, and waits for callbacks in flight, when it is dropped: no
//! callback can come after that.

// For those files that `selftests/state` has too, where atomics are others.
use core::sync::atomic::{AtomicBool, Ordering};

pub(crate) mod arrayvec;
pub(crate) mod chardev;
pub(crate) mod close;
pub(crate) mod contents;
pub(crate) mod erased;
pub(crate) mod eventfd;
pub(crate) mod fdinfo;
pub(crate) mod fdtable;
mod field;
pub(crate) mod flag;
mod fprobe;
pub(crate) mod fsnotify;
pub(crate) mod guard;
pub(crate) mod hrtimer;
pub(crate) mod ioctl;
pub(crate) mod irqlock;
pub(crate) mod killable;
pub(crate) mod knote;
pub(crate) mod memcg;
pub(crate) mod notify;
pub(crate) mod observer;
pub(crate) mod params;
pub(crate) mod pipe;
pub(crate) mod pollwait;
pub(crate) mod probe;
pub(crate) mod process;
mod proof;
pub(crate) mod queue;
pub(crate) mod random;
pub(crate) mod recheck;
pub(crate) mod seek;
pub(crate) mod seqfile;
pub(crate) mod signal;
pub(crate) mod slab;
pub(crate) mod sleepers;
pub(crate) mod socket;
mod symbol;
mod taskwork;
pub(crate) mod timerfd;
pub(crate) mod trace;
pub(crate) mod tracepoint;
mod treap;
pub(crate) mod usercopy;
pub(crate) mod waitqueue;
pub(crate) mod workqueue;
