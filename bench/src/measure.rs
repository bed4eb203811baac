// SPDX-License-Identifier: GPL-2.0

//! Cases with two or more sides, and how they are measured: A B A B, in one process.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// One round of one side: nanoseconds (or bytes) for each operation.
type Round = Box<dyn FnMut() -> f64>;

/// One thing to do, in several ways.
pub struct Case {
    /// The workload's letter in `Documentation/performance.md`.
    pub workload: char,
    /// What is done, and what it is counted by.
    pub title: String,
    /// The ratio to beat: the first side's cost divided by the second's.
    pub target: Option<f64>,
    sides: Vec<(String, Round)>,
    rounds: Option<usize>,
}

impl Case {
    pub fn new(workload: char, title: impl Into<String>, target: impl Into<Option<f64>>) -> Self {
        Case {
            workload,
            title: title.into(),
            target: target.into(),
            sides: Vec::new(),
            rounds: None,
        }
    }

    /// Another way to do it. The first is ours.
    pub fn side(mut self, name: &str, round: impl FnMut() -> f64 + 'static) -> Self {
        self.sides.push((name.into(), Box::new(round)));
        self
    }

    /// Leaves the sides with other names out, if there is one.
    pub fn only(mut self, name: Option<&str>) -> Self {
        if let Some(name) = name {
            self.sides.retain(|(side, _)| side == name);
        }
        self
    }

    /// For what takes long, or is the same each time.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Runs all sides in turn, that many times, after once for nothing.
    pub fn run(mut self, rounds: usize) -> Measured {
        let rounds = self.rounds.map_or(rounds, |most| most.min(rounds));
        let mut costs = vec![Vec::with_capacity(rounds); self.sides.len()];
        for (_, round) in &mut self.sides {
            round();
        }
        for _ in 0..rounds {
            for ((_, round), costs) in self.sides.iter_mut().zip(&mut costs) {
                costs.push(round());
            }
        }
        let sides = self.sides.iter().zip(costs);
        Measured {
            workload: self.workload,
            title: self.title,
            target: self.target,
            sides: sides
                .map(|((name, _), costs)| Cost::of(name, costs))
                .collect(),
        }
    }
}

/// What a case has come to.
#[derive(Serialize, Deserialize, Clone)]
pub struct Measured {
    pub workload: char,
    pub title: String,
    pub target: Option<f64>,
    pub sides: Vec<Cost>,
}

impl Measured {
    /// The first side's cost divided by that of each other one.
    pub fn ratios(&self) -> impl Iterator<Item = (&Cost, f64)> {
        let ours = self.sides[0].median;
        self.sides[1..]
            .iter()
            .map(move |side| (side, ours / side.median))
    }
}

/// The cost of one side.
#[derive(Serialize, Deserialize, Clone)]
pub struct Cost {
    pub name: String,
    pub median: f64,
    /// The quartiles.
    pub low: f64,
    pub high: f64,
}

impl Cost {
    fn of(name: &str, mut costs: Vec<f64>) -> Self {
        costs.sort_by(f64::total_cmp);
        let at = |part: f64| costs[((costs.len() - 1) as f64 * part).round() as usize];
        Cost {
            name: name.into(),
            median: at(0.5),
            low: at(0.25),
            high: at(0.75),
        }
    }
}

/// Adds up the time of the parts that count.
#[derive(Default)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Does it, and counts its time.
    pub fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.0 += start.elapsed();
        result
    }

    /// Nanoseconds for each of that many operations.
    pub fn each(&self, operations: usize) -> f64 {
        self.0.as_nanos() as f64 / operations as f64
    }
}

/// Nanoseconds for each of `operations` that `work` does.
pub fn each(operations: usize, work: impl FnOnce()) -> f64 {
    let mut watch = Stopwatch::default();
    watch.time(work);
    watch.each(operations)
}
