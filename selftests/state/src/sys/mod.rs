// SPDX-License-Identifier: GPL-2.0

//! What the module's files find of the mechanisms that they use.

pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

pub(crate) mod lock;
