// SPDX-License-Identifier: GPL-2.0

//! Processes and tasks: who is it, has it ended, who may know of it.

pub(crate) mod exit;
pub(crate) mod observer;
pub(crate) mod pid;
pub(crate) mod signal;
pub(crate) mod taskwork;
pub(crate) mod user;
