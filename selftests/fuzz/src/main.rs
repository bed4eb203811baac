// SPDX-License-Identifier: GPL-2.0

//! Random calls of a kqueue, in rounds.
//!
//! A round is a process, or several, that do what follows from one seed. In a *checked* round one thread does
//! operations whose outcome a model knows: which events must come, which must not, and with what data. In a *wild*
//! round several threads and processes do anything at all, with memory that is not there and allocations that fail;
//! there the kernel's own checkers are the judge, and that everything ends.
//!
//! The first round has the seed of the run. So `--seed N --steps K` does again what the round with that seed did.

mod board;
mod chaos;
mod minimise;
mod model;
mod random;
mod sys;
mod watch;

use board::Board;
use clap::{Parser, ValueEnum};
use model::op::{Change, Op};
use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};
use watch::{Log, Outcome};

/// Which rounds there are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rounds {
    /// With a model.
    Checked,
    /// Without.
    Wild,
    /// As the seed says.
    Both,
}

/// Makes random calls of a kqueue until the time is over or something is wrong.
#[derive(Parser)]
#[command(name = "kqueue-fuzz")]
struct Options {
    /// What all follows from; one of its own if it is not given.
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// How many operations of each thread: does just the round of that seed.
    #[arg(long)]
    steps: Option<usize>,
    /// How long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Stays root, instead of being user 65534.
    #[arg(long)]
    root: bool,
    /// Which rounds.
    #[arg(long, value_enum, default_value = "both")]
    rounds: Rounds,
    /// Of wild rounds, the kinds of descriptors that get most of the attention, by their names.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Goes on after a report of the kernel's.
    #[arg(long)]
    keep_going: bool,
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// User and group of who is nobody.
const NOBODY: usize = 65534;

/// Becomes nobody, whose threads may still be looked at by themselves.
fn drop_root() {
    let _ = sys::call(libc::SYS_setgroups, &[0, 0]);
    let _ = sys::call(libc::SYS_setresgid, &[NOBODY, NOBODY, NOBODY]);
    let _ = sys::call(libc::SYS_setresuid, &[NOBODY, NOBODY, NOBODY]);
    let _ = sys::call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1]);
}

/// Allocations that may wait fail too when they are told to, and without a stack trace each.
fn prepare_faults() {
    for fault in ["failslab", "fail_page_alloc"] {
        for (name, value) in [
            ("ignore-gfp-wait", "N"),
            ("verbose", "0"),
            ("min-order", "0"),
        ] {
            // On a kernel without them none fails.
            let _ = fs::write(format!("/sys/kernel/debug/{fault}/{name}"), value);
        }
    }
}

/// How many operations a round has, unless it is said.
const STEPS: usize = 600;

fn checked(board: &Board, list: &[Op], root: bool) -> Outcome {
    watch::run(board, || {
        if !root {
            drop_root();
        }
        match model::run(list, board) {
            Ok(()) => 0,
            Err((step, what)) => {
                board.say(&format!("operation {step}: {what}"));
                1
            }
        }
    })
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(chaos::CHILD) {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| {
        let mut seed = 0u64;
        let _ = sys::call(libc::SYS_getrandom, &[sys::address_mut(&mut seed), 8, 0]);
        seed
    });
    println!("kqueue-fuzz: seed {seed:#x}");
    if !fs::exists("/dev/kqueue").unwrap_or(false) {
        println!("there is no /dev/kqueue: the module is not loaded");
        return ExitCode::FAILURE;
    }
    prepare_faults();
    chaos::open_devices();
    let (board, log) = (Board::new(), Log::new());
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut rounds = [0; 2];
    let mut failures = 0;
    for index in 0.. {
        let seed = random::of_round(seed, index);
        let wild = match options.rounds {
            Rounds::Checked => false,
            Rounds::Wild => true,
            Rounds::Both => seed % 4 != 0,
        };
        let kind = if wild { "wild" } else { "checked" };
        log.mark(&format!("kqueue-fuzz: {kind} round, seed {seed:#x}"));
        board.clear();
        rounds[usize::from(wild)] += 1;
        let steps = options.steps.unwrap_or(STEPS);
        let list = model::op::generate(seed, if wild { 0 } else { steps });
        let outcome = if wild {
            watch::run(board, || {
                let plan = chaos::Plan {
                    seed,
                    steps: options.steps.unwrap_or(usize::MAX),
                    root: options.root,
                    hot: &options.kinds,
                };
                chaos::run(&plan, board)
            })
        } else {
            checked(board, &list, options.root)
        };
        chaos::clean_up();
        let said = board.said();
        let mut wrong = Vec::new();
        match &outcome {
            Outcome::Exited(0) => {}
            Outcome::Hung(text) => wrong.push(format!("it did not end:\n{text}")),
            other => wrong.push(format!("{other:?}")),
        }
        if !said.is_empty() {
            wrong.push(said);
        }
        wrong.extend(log.reports().iter().map(|line| format!("kernel: {line}")));
        if let Outcome::Exited(_) = outcome {
            let left = watch::left_over();
            wrong.extend(left.iter().map(|line| format!("left over: {line}")));
        }
        if !wrong.is_empty() {
            failures += 1;
            println!("{kind} round {index}, seed {seed:#x}: {}", wrong.join("\n"));
            println!("again: kqueue-fuzz --rounds {kind} --seed {seed:#x} --steps {steps}");
            if outcome == Outcome::Exited(1) && !wild {
                minimise(board, &list, options.root, &kind_of(&board.said()));
            }
            if !options.keep_going || matches!(outcome, Outcome::Hung(_)) {
                break;
            }
        }
        if options.steps.is_some() || Instant::now() >= end {
            break;
        }
    }
    let [checked, wild] = rounds;
    println!(
        "{checked} checked rounds, {wild} wild ones: {}kinds of descriptors {} of {}",
        board.totals(),
        board
            .kinds
            .load(std::sync::atomic::Ordering::Relaxed)
            .count_ones(),
        chaos::kinds()
    );
    if failures > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// How often a list is tried, and for how long in all.
const TRIES: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(90);

/// What a message says, without its numbers.
fn kind_of(said: &str) -> String {
    let what = said.split(':').nth(1).unwrap_or_default();
    what.chars().filter(|c| c.is_alphabetic()).collect()
}

/// Prints the shortest list of operations that could be found to fail in the same way.
fn minimise(board: &Board, list: &[Op], root: bool, kind: &str) {
    let end = Instant::now() + PATIENCE;
    let fails = |part: &[Op]| {
        if Instant::now() > end {
            return false;
        }
        board.clear();
        checked(board, part, root) == Outcome::Exited(1) && kind_of(&board.said()) == kind
    };
    let mut part = minimise::minimise(list, TRIES, fails);
    // And the changes of a call.
    for at in 0..part.len() {
        if let Op::Changes(queue, how, changes) = part[at].clone() {
            let with = |changes: &[Change]| {
                let mut part = part.clone();
                part[at] = Op::Changes(queue, how, changes.to_vec());
                part
            };
            let changes = minimise::minimise(&changes, TRIES, |changes| fails(&with(changes)));
            part = with(&changes);
        }
    }
    board.clear();
    checked(board, &part, root);
    println!("{} operations are enough:", part.len());
    for op in &part {
        println!("  {op:?}");
    }
    println!("{}", board.said());
}
