// SPDX-License-Identifier: GPL-2.0

//! Checked rounds: one thread, no injected faults, and a model that predicts the outcome of each
//! operation.

pub mod op;
mod run;
mod state;

pub use run::run;
