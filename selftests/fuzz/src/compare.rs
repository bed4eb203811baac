// SPDX-License-Identifier: GPL-2.0

//! Compared rounds: one thread plays with descriptors of all kinds, and after each operation what
//! kqueues say is compared with what the kernel's other interfaces say of the same descriptor:
//! poll(2), `FIONREAD`, an epoll with `EPOLLET`, inotify. There is no model of the descriptors, so
//! there may be any.

mod exchange;
mod judge;
pub mod kin;
pub mod op;
mod run;

pub use run::run;
