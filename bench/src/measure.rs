// SPDX-License-Identifier: GPL-2.0

//! Cases with two or more sides, which are measured alternately (A B A B) in one process.

use crate::marks;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// One round of one side: nanoseconds (or bytes) for each operation.
type Round = Box<dyn FnMut() -> f64>;

/// The place of a case in the matrix of kinds of descriptors.
#[derive(Serialize, Deserialize, Clone)]
pub struct Cell {
    pub kind: String,
    pub state: String,
    /// The way of registration, or the operation.
    pub way: String,
    /// The number of descriptors.
    pub count: usize,
}

impl Cell {
    pub fn new(kind: &str, state: &str, way: &str, count: usize) -> Self {
        Cell {
            kind: kind.into(),
            state: state.into(),
            way: way.into(),
            count,
        }
    }
}

/// One operation, done in several ways.
pub struct Case {
    /// The workload's letter in `Documentation/performance.md`.
    pub workload: char,
    /// The operation, and the unit in which it is counted.
    pub title: String,
    /// The target ratio: the cost of the first side divided by that of the second side.
    pub target: Option<f64>,
    cell: Option<Cell>,
    sides: Vec<(String, Round)>,
    rounds: Option<usize>,
    once: bool,
}

impl Case {
    pub fn new(workload: char, title: impl Into<String>, target: impl Into<Option<f64>>) -> Self {
        Case {
            workload,
            title: title.into(),
            target: target.into(),
            cell: None,
            sides: Vec::new(),
            rounds: None,
            once: false,
        }
    }

    /// Sets the place in the matrix.
    pub fn cell(mut self, cell: Cell) -> Self {
        self.cell = Some(cell);
        self
    }

    /// Adds a side. The first side is this module.
    pub fn side(mut self, name: &str, round: impl FnMut() -> f64 + 'static) -> Self {
        self.sides.push((name.into(), Box::new(round)));
        self
    }

    /// Removes the sides with other names, if a name is given.
    pub fn only(mut self, name: Option<&str>) -> Self {
        if let Some(name) = name {
            self.sides.retain(|(side, _)| side == name);
        }
        self
    }

    /// Sets a smaller number of rounds, for cases that take long or do not vary.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Runs one round only, and discards none: the result of the round is a maximum already.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Runs all sides in turn, for a number of rounds. The result of one round before these is
    /// discarded.
    pub fn run(mut self, rounds: usize) -> Measured {
        let rounds = self.rounds.map_or(rounds, |most| most.min(rounds));
        let rounds = if self.once { 1 } else { rounds };
        let mut costs = vec![Vec::with_capacity(rounds); self.sides.len()];
        let run = |round: &mut Round| (round(), marks::end_run());
        if !self.once {
            for (_, round) in &mut self.sides {
                run(round);
            }
        }
        for _ in 0..rounds {
            for ((_, round), costs) in self.sides.iter_mut().zip(&mut costs) {
                costs.push(run(round));
            }
        }
        let sides = self.sides.iter().zip(costs);
        Measured {
            workload: self.workload,
            title: self.title,
            target: self.target,
            cell: self.cell,
            sides: sides
                .map(|((name, _), costs)| Cost::of(name, costs))
                .collect(),
        }
    }
}

/// The result of a case.
#[derive(Serialize, Deserialize, Clone)]
pub struct Measured {
    pub workload: char,
    pub title: String,
    pub target: Option<f64>,
    #[serde(default)]
    pub cell: Option<Cell>,
    pub sides: Vec<Cost>,
}

impl Measured {
    /// The cost of the first side divided by that of each other side.
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
    /// The number of the run that has the median.
    #[serde(default)]
    run: usize,
    /// The part of the median that is not spent in the module, if that was counted.
    #[serde(default)]
    pub outside: Option<f64>,
}

impl Cost {
    fn of(name: &str, mut costs: Vec<(f64, usize)>) -> Self {
        costs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let at = |part: f64| costs[((costs.len() - 1) as f64 * part).round() as usize];
        Cost {
            name: name.into(),
            median: at(0.5).0,
            low: at(0.25).0,
            high: at(0.75).0,
            run: at(0.5).1,
            outside: None,
        }
    }

    /// Sets `outside` from the counts of the plugin: the instructions in the module and outside of
    /// it, for each run. They are scaled to the cost of one operation.
    pub fn set_outside(&mut self, runs: &[(f64, f64)]) {
        self.outside = match runs.get(self.run) {
            Some((inside, outside)) if inside + outside > 0.0 => {
                Some(self.median * outside / (inside + outside))
            }
            _ => None,
        };
    }
}

/// Adds up the time of the measured parts.
#[derive(Default)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Runs `work` and adds its time.
    pub fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        marks::begin();
        let result = work();
        marks::end();
        self.0 += start.elapsed();
        result
    }

    /// Returns the nanoseconds of each operation.
    pub fn each(&self, operations: usize) -> f64 {
        self.0.as_nanos() as f64 / operations as f64
    }
}

/// Returns the nanoseconds of each of the `operations` that `work` does.
pub fn each(operations: usize, work: impl FnOnce()) -> f64 {
    let mut watch = Stopwatch::default();
    watch.time(work);
    watch.each(operations)
}
