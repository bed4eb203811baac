// SPDX-License-Identifier: GPL-2.0

//! `make bench`: what things cost through kqueue, divided by what they cost otherwise.
//!
//! Run in a guest by `scripts/bench.sh`, or on a machine that has the module, as root.

mod measure;
mod queue;
mod report;
mod ring;
mod sys;
mod workload;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// How large the workloads are.
#[derive(Clone, Copy, PartialEq)]
pub struct Scale {
    quick: bool,
}

impl Scale {
    /// `full`, or `quick` if one only wants to know that it runs.
    pub fn pick(self, full: usize, quick: usize) -> usize {
        if self.quick {
            quick
        } else {
            full
        }
    }
}

#[derive(Parser)]
#[command(about = "What things cost through kqueue, and through what one would use instead")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, on this machine.
    Run {
        /// Only these workloads, by their letters.
        #[arg(long)]
        only: Option<String>,
        /// Only cases that have this in their titles.
        #[arg(long)]
        title: Option<String>,
        /// Only the sides of that name, to profile them.
        #[arg(long)]
        side: Option<String>,
        /// Rounds of each side: 11, or 2 if it is to be quick.
        #[arg(long)]
        rounds: Option<usize>,
        /// Small sizes and few rounds, to see that it runs.
        #[arg(long)]
        quick: bool,
        /// What the clock counts: `ns`, or `instructions` where the guest's clock does.
        #[arg(long, default_value = "ns")]
        unit: String,
        /// The userspace emulation's library.
        #[arg(long)]
        emulation: Option<PathBuf>,
        /// The module, to load and unload it for (k), which measures without it too.
        #[arg(long)]
        module: Option<PathBuf>,
        /// Where the results go, as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Prints the results of some runs as a table, and draws them.
    Report {
        /// Files that `run --json` has written.
        results: Vec<PathBuf>,
        /// Where the chart goes, as SVG.
        #[arg(long)]
        chart: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run {
            only,
            title,
            side,
            rounds,
            quick,
            unit,
            emulation,
            module,
            json,
        } => {
            sys::raise_limits();
            queue::load_emulation(emulation.as_deref())?;
            let rounds = rounds.unwrap_or(if quick { 2 } else { 11 });
            let wanted = |case: &measure::Case| {
                let mut title = title.iter();
                title.all(|title| case.title.contains(title))
            };
            let mut cases = Vec::new();
            workload::each(
                Scale { quick },
                module.as_deref(),
                only.as_deref(),
                |case| {
                    if !wanted(&case) {
                        return;
                    }
                    eprintln!("{}: {}", case.workload, case.title);
                    cases.push(case.only(side.as_deref()).run(rounds));
                },
            );
            let results = report::Results { unit, cases };
            print!("{}", report::table(&results));
            if let Some(path) = json {
                std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
            }
        }
        Command::Report { results, chart } => {
            let mut all = Vec::new();
            for path in results {
                let results: report::Results = serde_json::from_slice(&std::fs::read(path)?)?;
                print!("{}", report::table(&results));
                all.push(results);
            }
            if let Some(path) = chart {
                report::chart(&all, &path)?;
            }
        }
    }
    Ok(())
}
