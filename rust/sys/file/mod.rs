// SPDX-License-Identifier: GPL-2.0

//! Open files and descriptors: character devices, descriptor tables, polling, and the contents of
//! particular kinds of files.

pub(crate) mod chardev;
pub(crate) mod closing;
pub(crate) mod eventfd;
pub(crate) mod fdtable;
pub(crate) mod file_type;
pub(crate) mod inotify;
pub(crate) mod ioctl;
pub(crate) mod layout_check;
pub(crate) mod offset;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod read_fdinfo;
pub(crate) mod seqfile;
pub(crate) mod signalfd;
pub(crate) mod socket;
pub(crate) mod terminal;
pub(crate) mod timerfd;
pub(crate) mod waitqueue;
