// SPDX-License-Identifier: GPL-2.0

//! Notification: fsnotify, pollers and SIGIO, work of kernel threads.

pub(crate) mod fsnotify;
pub(crate) mod notifier;
pub(crate) mod workqueue;
