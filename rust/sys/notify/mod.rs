// SPDX-License-Identifier: GPL-2.0

//! Notification: fsnotify marks, the wake-up of pollers, SIGIO, and workqueues.

pub(crate) mod fsnotify;
pub(crate) mod poll_fasync;
pub(crate) mod workqueue;
