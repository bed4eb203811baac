// SPDX-License-Identifier: GPL-2.0

//! The workloads. Their letters are those of `Documentation/performance.md`.

mod bystander;
mod cascade;
mod collect;
mod echo;
mod floor;
mod growth;
mod held;
mod life;
mod matrix;
mod memory;
mod pingpong;
mod rearm;
mod register;
mod sources;
mod states;
mod threads;
mod timers;

use crate::{measure::Case, Scale};
use std::path::Path;

/// The reasons for which cells of the matrix are left out, with the number of cells.
pub fn excluded(scale: Scale) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for reason in matrix::excluded(scale).chain(life::excluded()) {
        *counts.entry(reason).or_default() += 1;
    }
    let counts = counts.into_iter();
    counts
        .map(|(reason, count)| (reason.into(), count))
        .collect()
}

/// Calls `run` with each case, one workload after the other. Each workload has released everything
/// before the next one is measured.
pub fn each(scale: Scale, module: Option<&Path>, only: Option<&str>, mut run: impl FnMut(Case)) {
    let wanted = |letter: char| only.is_none_or(|only| only.contains(letter));
    type Workload = fn(Scale, &mut dyn FnMut(Case));
    let all: [(char, Workload); 15] = [
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
        ('n', matrix::cases),
        ('o', life::cases),
        ('p', held::cases),
    ];
    for (letter, cases) in all {
        if wanted(letter) {
            cases(scale, &mut run);
        }
    }
    // This workload is the last one, because it loads and unloads the module.
    if let (true, Some(module)) = (wanted('k'), module) {
        bystander::cases(scale, module, &mut run);
    }
}
