// SPDX-License-Identifier: GPL-2.0

//! Checked rounds: one thread, no faults, and a model that knows what must come of each operation.

pub mod op;
mod run;
mod state;

pub use run::run;
