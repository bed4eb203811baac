// SPDX-License-Identifier: GPL-2.0

//! The measurements, and their limits.

use crate::{
    siege::{Assault, Attacker},
    sys, Scale,
};
use std::{
    fmt::Write,
    panic::{catch_unwind, AssertUnwindSafe},
    path::{Path, PathBuf},
};

/// The largest permitted cost for a bystander, as a multiple of the cost through the other
/// interface. If no such interface exists, it is a multiple of the cost without the attack.
const FACTOR: f64 = 4.0;

/// The largest permitted ratio of the costs of each one among twice as many. It is above 1 because
/// of the caches.
const GROWTH: f64 = 1.5;

/// The cost of an operation: the median of several measurements, and the worst one.
#[derive(Clone, Copy)]
pub struct Cost {
    pub median: f64,
    pub worst: f64,
}

impl Cost {
    /// Computes the cost from measurements.
    pub fn of(mut costs: Vec<f64>) -> Self {
        costs.sort_by(f64::total_cmp);
        Cost {
            median: costs[costs.len() / 2],
            worst: costs[costs.len() - 1],
        }
    }

    /// Measures an operation that is repeated, for the process that does it.
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

/// An attack, and the attack with which it is compared.
pub struct Siege<'a> {
    /// The objects of the attack, as a noun.
    pub attack: &'a str,
    /// The operation of the bystander, as a verb.
    pub bystander: &'a str,
    /// The attack through kqueue.
    pub kqueue: &'a dyn Fn() -> Assault,
    /// The attack through the other interface.
    pub native: Option<&'a dyn Fn() -> Assault>,
    /// A cost that is always permitted.
    pub floor: f64,
}

/// The number of times that a bystander does its operation.
const TIMES: usize = 31;

/// All results.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
    name: &'static str,
}

/// An attack. It gets a directory and the report.
pub type Attack = fn(&mut Report, &Path, Scale);

impl Report {
    /// Makes one attack. A failure of the attack does not end the program.
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
        // This is also true if the value is not a number.
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

    /// Measures an operation of a bystander alone and under each attack. The attacker acts before
    /// each operation.
    pub fn besiege(&mut self, siege: &Siege<'_>, mut deed: impl FnMut(&mut Attacker)) {
        let mut measure = |assault: &dyn Fn() -> Assault| {
            let mut attacker = Attacker::start(assault);
            // One run warms up and is not counted.
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

    /// Measures an operation of the attacker for which others wait, as for a lock or an interrupt.
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

    /// Measures the cost of each one among `size`, and among twice as many. Both must be the same.
    pub fn growth(
        &mut self,
        (attack, bystander): (&str, &str),
        size: usize,
        mut cost: impl FnMut(usize) -> f64,
    ) {
        let mut each = |size| {
            // The minimum of several measurements, because disturbances only add to the cost.
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

    /// Fails if an attacker has prevented an operation of a bystander.
    pub fn require(&mut self, what: &str, holds: bool) {
        if !holds {
            self.failures.push(format!("{}: {what}", self.name));
        }
    }

    /// Prints the table of `Documentation/security.md`.
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

    /// Prints the costs that exceed their limits in the format of the other tests. Returns true if
    /// there are any.
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
