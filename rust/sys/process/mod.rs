// SPDX-License-Identifier: GPL-2.0

//! Processes and tasks: their identity, their exit, their signals, and the permission to observe
//! them.

pub(crate) mod exit;
pub(crate) mod permission;
pub(crate) mod pid;
pub(crate) mod signal;
pub(crate) mod taskwork;
pub(crate) mod user;
