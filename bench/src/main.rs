// SPDX-License-Identifier: GPL-2.0

//! `make bench`: compares the cost of operations with kqueue and with other interfaces.
//!
//! `scripts/bench.sh` runs it in a guest. It can also be run as root on a machine with the module.

mod marks;
mod matrix;
mod measure;
mod queue;
mod report;
mod ring;
mod sampler;
mod sys;
mod workload;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// The sizes of the workloads.
#[derive(Clone, Copy, PartialEq)]
pub struct Scale {
    quick: bool,
}

impl Scale {
    /// `full`, or `quick` to check that the benchmark runs.
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
    /// Measures on this machine.
    Run {
        /// Runs only the workloads with these letters.
        #[arg(long)]
        only: Option<String>,
        /// Runs only the cases whose titles contain this.
        #[arg(long)]
        title: Option<String>,
        /// Runs only the sides of that name, for profiling.
        #[arg(long)]
        side: Option<String>,
        /// The number of rounds of each side: by default 11, or 3 with `--quick`.
        #[arg(long)]
        rounds: Option<usize>,
        /// Uses small sizes and few rounds, to check that the benchmark runs.
        #[arg(long)]
        quick: bool,
        /// The unit of the clock: `ns`, or `instructions` if the guest's clock counts them.
        #[arg(long, default_value = "ns")]
        unit: String,
        /// The library of the userspace emulation.
        #[arg(long)]
        emulation: Option<PathBuf>,
        /// The module file. Workload (k) loads and unloads it, since it also measures without it.
        #[arg(long)]
        module: Option<PathBuf>,
        /// The output file for the results as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Prints the results of several runs as a table, and draws a chart.
    Report {
        /// Files that `run --json` has written.
        results: Vec<PathBuf>,
        /// The file of the plugin that has counted the instructions of the module, which is added
        /// to the results in instructions, and to their file.
        #[arg(long)]
        profile: Option<PathBuf>,
        /// The output file for the chart as SVG.
        #[arg(long)]
        chart: Option<PathBuf>,
        /// The output file for the heat map of the matrix as SVG. Only results in instructions are
        /// drawn.
        #[arg(long)]
        heat_map: Option<PathBuf>,
        /// The output file for a small heat map, which has 16 descriptors only.
        #[arg(long)]
        small_map: Option<PathBuf>,
        /// The output file for the matrix as an HTML page.
        #[arg(long)]
        page: Option<PathBuf>,
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
            let rounds = rounds.unwrap_or(if quick { 3 } else { 11 });
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
            let results = report::Results {
                unit,
                cases,
                excluded: workload::excluded(Scale { quick }),
            };
            print!("{}{}", matrix::summary(&results), report::table(&results));
            if let Some(path) = json {
                std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
            }
        }
        Command::Report {
            results,
            profile,
            chart,
            heat_map,
            small_map,
            page,
        } => {
            let mut all = Vec::new();
            for path in results {
                let mut results: report::Results = serde_json::from_slice(&std::fs::read(&path)?)?;
                if let Some(profile) = profile.as_ref().filter(|_| results.unit == "instructions") {
                    results.add_profile(&std::fs::read_to_string(profile)?)?;
                    std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
                }
                print!("{}{}", matrix::summary(&results), report::table(&results));
                all.push(results);
            }
            if let Some(path) = chart {
                report::chart(&all, &path)?;
            }
            if let Some(counted) = all.iter().find(|results| results.unit == "instructions") {
                for (path, small) in [(heat_map, false), (small_map, true)] {
                    if let Some(path) = path {
                        matrix::heat_map(counted, &path, small)?;
                    }
                }
                if let Some(path) = page {
                    std::fs::write(path, matrix::page(counted))?;
                }
            }
        }
    }
    Ok(())
}
