// SPDX-License-Identifier: GPL-2.0

//! Compared rounds: one thread does operations on descriptors of all kinds. After each operation
//! the reports of kqueues are compared with those of other interfaces of the kernel for the same
//! descriptor: poll(2), `FIONREAD`, an epoll with `EPOLLET`, inotify. These rounds need no model of
//! the descriptors, so they use all kinds.

mod exchange;
mod judge;
pub mod kin;
pub mod op;
mod run;

pub use run::run;
