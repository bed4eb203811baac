// SPDX-License-Identifier: GPL-2.0

//! What was measured, and what is allowed.

use crate::{
    siege::{Assault, Attacker},
    sys, Scale,
};
use std::{
    fmt::Write,
    panic::{catch_unwind, AssertUnwindSafe},
    path::{Path, PathBuf},
};

/// What a bystander pays through kqueue at most, as a multiple of what the same user can make them pay without
/// it; and what it pays at most if nothing else has such a thing, as a multiple of its cost alone.
const FACTOR: f64 = 4.0;

/// How much more each of twice as many costs, at most: linear, and the caches' part.
const GROWTH: f64 = 1.5;

/// The cost of a deed: the median of some times, and the worst.
#[derive(Clone, Copy)]
pub struct Cost {
    pub median: f64,
    pub worst: f64,
}

impl Cost {
    /// Of what was measured.
    pub fn of(mut costs: Vec<f64>) -> Self {
        costs.sort_by(f64::total_cmp);
        Cost {
            median: costs[costs.len() / 2],
            worst: costs[costs.len() - 1],
        }
    }

    /// Of doing something so many times, for who does it.
    pub fn of_deed(mut deed: impl FnMut()) -> Self {
        deed();
        Cost::of((0..TIMES).map(|_| time_of(&mut deed)).collect())
    }
}

fn time_of(deed: impl FnOnce()) -> f64 {
    let start = sys::own_time();
    deed();
    sys::own_time() - start
}

/// One line of the table.
struct Row {
    attack: String,
    bystander: String,
    alone: Option<Cost>,
    kqueue: (usize, Cost),
    native: Option<(usize, Cost)>,
    ratio: f64,
    most: f64,
}

/// An attack and what it is held against.
pub struct Siege<'a> {
    /// What is attacked with, as a sentence's subject.
    pub attack: &'a str,
    /// What the bystander does.
    pub bystander: &'a str,
    /// The attack through kqueue.
    pub kqueue: &'a dyn Fn() -> Assault,
    /// The same through what there is otherwise.
    pub native: Option<&'a dyn Fn() -> Assault>,
    /// A cost that does not matter.
    pub floor: f64,
}

/// How often a bystander does its deed.
const TIMES: usize = 31;

/// All results.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
    name: &'static str,
}

/// An attack: it is given a folder, and reports.
pub type Attack = fn(&mut Report, &Path, Scale);

impl Report {
    /// Makes one attack, and survives its failure.
    pub fn attack(
        &mut self,
        name: &'static str,
        folder: impl FnOnce() -> PathBuf,
        attack: Attack,
        scale: Scale,
    ) {
        self.name = name;
        let attacked = catch_unwind(AssertUnwindSafe(|| attack(self, &folder(), scale)));
        if attacked.is_err() {
            self.failures.push(format!("{name} (did not run)"));
        }
    }

    /// Adds a line.
    pub fn add(
        &mut self,
        (attack, bystander): (&str, &str),
        alone: Option<Cost>,
        kqueue: (usize, Cost),
        native: Option<(usize, Cost)>,
        floor: f64,
    ) {
        let costs = [alone, native.map(|(_, cost)| cost)];
        let allowed = costs.iter().flatten().map(|cost| cost.median);
        let allowed = allowed.fold(floor, f64::max);
        self.push(Row {
            attack: attack.into(),
            bystander: bystander.into(),
            alone,
            kqueue,
            native,
            ratio: kqueue.1.median / allowed,
            most: FACTOR,
        });
    }

    fn push(&mut self, row: Row) {
        eprintln!(
            "  {}: {:.0}, {:.2} of {:.1}",
            row.bystander, row.kqueue.1.median, row.ratio, row.most
        );
        // Not a number is no good either.
        if row.ratio.is_nan() || row.ratio > row.most {
            let Row {
                bystander,
                ratio,
                most,
                ..
            } = &row;
            let name = self.name;
            self.failures
                .push(format!("{name}: {bystander}: {ratio:.2} instead of {most}"));
        }
        self.rows.push(row);
    }

    /// A bystander does something alone, and under each attack. Before it does so the attacker acts.
    pub fn besiege(&mut self, siege: &Siege<'_>, mut deed: impl FnMut(&mut Attacker)) {
        let mut measure = |assault: &dyn Fn() -> Assault| {
            let mut attacker = Attacker::start(assault);
            // Once for nothing.
            deed(&mut attacker);
            let once = |_| {
                attacker.act();
                time_of(|| deed(&mut attacker))
            };
            let cost = Cost::of((0..TIMES).map(once).collect());
            let made = attacker.made;
            attacker.end();
            (made, cost)
        };
        let (_, alone) = measure(&|| Assault::of(0, ()));
        let kqueue = measure(siege.kqueue);
        let native = siege.native.map(&mut measure);
        let texts = (siege.attack, siege.bystander);
        self.add(texts, Some(alone), kqueue, native, siege.floor);
    }

    /// An attacker does something that others wait for, as they wait for a lock or an interrupt.
    pub fn hold_up(&mut self, siege: &Siege<'_>) {
        let measure = |assault: &dyn Fn() -> Assault| {
            let mut attacker = Attacker::start(assault);
            attacker.act();
            let cost = Cost::of((0..TIMES).map(|_| attacker.act()).collect());
            let made = attacker.made;
            attacker.end();
            (made, cost)
        };
        let kqueue = measure(siege.kqueue);
        let native = siege.native.map(measure);
        let texts = (siege.attack, siege.bystander);
        self.add(texts, None, kqueue, native, siege.floor);
    }

    /// What something costs of `size`, and of twice as many: each of them the same.
    pub fn growth(
        &mut self,
        (attack, bystander): (&str, &str),
        size: usize,
        mut cost: impl FnMut(usize) -> f64,
    ) {
        let mut each = |size| {
            // The least of some, since growth adds.
            let costs = (0..3).map(|_| cost(size) / size as f64);
            let least = costs.fold(f64::INFINITY, f64::min);
            Cost {
                median: least,
                worst: least,
            }
        };
        let (one, two) = (each(size), each(2 * size));
        self.push(Row {
            attack: format!("{attack}; alone: each of half as many"),
            bystander: bystander.into(),
            alone: Some(one),
            kqueue: (2 * size, two),
            native: None,
            ratio: two.median / one.median,
            most: GROWTH,
        });
    }

    /// Fails if an attacker has kept a bystander from something.
    pub fn require(&mut self, what: &str, holds: bool) {
        if !holds {
            self.failures.push(format!("{}: {what}", self.name));
        }
    }

    /// As `Documentation/security.md` has it.
    pub fn table(&self) -> String {
        let mut text = String::new();
        text += "| Attack | Bystander | Alone | kqueue | Otherwise | Ratio | At most |\n";
        text += "|---|---|---|---|---|---|---|\n";
        let cell = |(made, cost): (usize, Cost)| {
            format!("{:.0}, worst {:.0} ({made})", cost.median, cost.worst)
        };
        for row in &self.rows {
            let alone = row.alone.map(|cost| format!("{:.0}", cost.median));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.2} | {} |",
                row.attack,
                row.bystander,
                alone.unwrap_or_default(),
                cell(row.kqueue),
                row.native.map(cell).unwrap_or_default(),
                row.ratio,
                row.most
            );
        }
        text
    }

    /// Says what was too much, in the words of the other tests; true if there was something.
    pub fn print_failures(&self) -> bool {
        for failure in &self.failures {
            println!("not ok hostile::{failure}");
        }
        if self.failures.is_empty() {
            println!("ok hostile::bounded ({} costs)", self.rows.len());
        }
        !self.failures.is_empty()
    }
}
