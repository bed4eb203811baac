// SPDX-License-Identifier: GPL-2.0

//! The workloads. Their letters are those of `Documentation/performance.md`.

mod bystander;
mod cascade;
mod collect;
mod echo;
mod floor;
mod growth;
mod kinds;
mod memory;
mod pingpong;
mod rearm;
mod register;
mod sources;
mod threads;
mod timers;

use crate::{measure::Case, Scale};
use std::path::Path;

/// Calls `run` with each case, one workload after the other. Each workload has released everything
/// before the next one is measured.
pub fn each(scale: Scale, module: Option<&Path>, only: Option<&str>, mut run: impl FnMut(Case)) {
    let wanted = |letter: char| only.is_none_or(|only| only.contains(letter));
    type Workload = fn(Scale, &mut dyn FnMut(Case));
    let all: [(char, Workload); 13] = [
        ('a', register::cases),
        ('b', rearm::cases),
        ('c', collect::cases),
        ('d', pingpong::cases),
        ('e', cascade::cases),
        ('f', echo::cases),
        ('g', timers::cases),
        ('h', sources::cases),
        ('i', threads::cases),
        ('j', memory::cases),
        ('l', growth::cases),
        ('m', floor::cases),
        ('n', kinds::cases),
    ];
    for (letter, cases) in all {
        if wanted(letter) {
            cases(scale, &mut run);
        }
    }
    // Last, since it loads and unloads the module.
    if let (true, Some(module)) = (wanted('k'), module) {
        bystander::cases(scale, module, &mut run);
    }
}
