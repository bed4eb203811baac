// SPDX-License-Identifier: GPL-2.0

//! A fuzzer, which makes random calls of kqueues in rounds.
//!
//! A round consists of one or several processes, whose operations follow from one seed. There are
//! three kinds of rounds:
//!
//! * In a *checked* round one thread does operations whose outcome a model knows: which events must
//!   come, which must not, and with what data.
//! * In a *compared* round one thread uses descriptors of all kinds, for which there is no model.
//!   The kernel's other interfaces must report the same as the kqueue.
//! * In a *wild* round several threads and processes do anything, with unmapped memory and with
//!   allocations that fail. The round passes if the kernel's checkers report nothing and if
//!   everything ends.
//!
//! The first round has the seed of the run, so `--seed N --steps K` repeats the round of that seed.

mod board;
mod chaos;
mod compare;
mod minimise;
mod model;
mod operation;
mod random;
mod sys;
mod watch;

use board::Board;
use clap::{Parser, ValueEnum};
use model::op::{Change, Op};
use operation::Operation;
use std::{
    ffi::CString,
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
    /// With other interfaces of the kernel.
    Compared,
    /// With nothing but the kernel's checkers.
    Wild,
    /// As the seed says.
    All,
}

impl Rounds {
    /// What a round is that has that seed.
    fn of(self, seed: u64) -> Rounds {
        match (self, seed % 4) {
            (Rounds::All, 0) => Rounds::Checked,
            (Rounds::All, 1) => Rounds::Compared,
            (Rounds::All, _) => Rounds::Wild,
            (only, _) => only,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Rounds::Checked => "checked",
            Rounds::Compared => "compared",
            Rounds::Wild => "wild",
            Rounds::All => "all",
        }
    }
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
    #[arg(long, value_enum, default_value = "all")]
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

/// The operations of a round, if it is one that can be done again in parts.
enum List {
    Checked(Vec<Op>),
    Compared(Vec<compare::op::Op>),
    Wild,
}

fn checked(board: &Board, list: &[Op], root: bool) -> Outcome {
    watch::run(board, || {
        if !root {
            drop_root();
        }
        tell(board, model::run(list, board))
    })
}

fn compared(board: &Board, list: &[compare::op::Op], seed: u64, root: bool) -> Outcome {
    watch::run(board, || tell(board, compare::run(list, seed, root, board)))
}

/// Leaves word of what was wrong, and at which operation.
fn tell(board: &Board, result: Result<(), (usize, String)>) -> i32 {
    match result {
        Ok(()) => 0,
        Err((step, what)) => {
            board.say(&format!("operation {step}: {what}"));
            1
        }
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(chaos::CHILD) {
        return ExitCode::SUCCESS;
    }
    let mut words = std::env::args().skip(1);
    if let (Some(compare::kin::OBEY), Some(other)) = (words.next().as_deref(), words.next()) {
        compare::kin::obey(&CString::new(other).unwrap_or_default());
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
    let mut rounds = [0; 3];
    let mut failures = 0;
    for index in 0.. {
        let seed = random::of_round(seed, index);
        let round = options.rounds.of(seed);
        let kind = round.name();
        log.mark(&format!("kqueue-fuzz: {kind} round, seed {seed:#x}"));
        board.clear();
        rounds[round as usize] += 1;
        let steps = options.steps.unwrap_or(STEPS);
        let list = match round {
            Rounds::Checked => List::Checked(Operation::generate(seed, steps)),
            Rounds::Compared => List::Compared(Operation::generate(seed, steps)),
            Rounds::Wild | Rounds::All => List::Wild,
        };
        let outcome = match &list {
            List::Checked(list) => checked(board, list, options.root),
            List::Compared(list) => compared(board, list, seed, options.root),
            List::Wild => watch::run(board, || {
                let plan = chaos::Plan {
                    seed,
                    steps: options.steps.unwrap_or(usize::MAX),
                    root: options.root,
                    hot: &options.kinds,
                };
                chaos::run(&plan, board)
            }),
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
            if outcome == Outcome::Exited(1) {
                shorten(board, &list, seed, options.root);
            }
            if !options.keep_going || matches!(outcome, Outcome::Hung(_)) {
                break;
            }
        }
        if options.steps.is_some() || Instant::now() >= end {
            break;
        }
    }
    let [checked, compared, wild] = rounds;
    println!(
        "{checked} checked rounds, {compared} compared ones, {wild} wild ones: {}kinds of descriptors {} of {}",
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

/// The operation at which it went wrong.
fn step_of(said: &str) -> Option<usize> {
    let number = said.strip_prefix("operation ")?.split(':').next()?;
    number.parse().ok()
}

/// Prints the shortest list of operations that could be found to fail in the same way.
fn shorten(board: &Board, list: &List, seed: u64, root: bool) {
    match list {
        List::Checked(list) => {
            let run = |part: &[Op]| checked(board, part, root);
            minimise(board, list, &run, |part, fails| {
                // And the changes of a call.
                for at in 0..part.len() {
                    if let Op::Changes(queue, how, changes) = part[at].clone() {
                        let with = |changes: &[Change]| {
                            let mut part = part.clone();
                            part[at] = Op::Changes(queue, how, changes.to_vec());
                            part
                        };
                        let fails = |changes: &[Change]| fails(&with(changes));
                        let changes = minimise::minimise(&changes, TRIES, fails);
                        part[at] = Op::Changes(queue, how, changes);
                    }
                }
            });
        }
        List::Compared(list) => {
            let run = |part: &[compare::op::Op]| compared(board, part, seed, root);
            minimise(board, list, &run, |_, _| {});
        }
        List::Wild => {}
    }
}

/// The same for operations of one sort, which `run` does, and of which `refine` knows parts.
fn minimise<T: Clone + std::fmt::Debug>(
    board: &Board,
    list: &[T],
    run: &impl Fn(&[T]) -> Outcome,
    refine: impl FnOnce(&mut Vec<T>, &dyn Fn(&[T]) -> bool),
) {
    let (kind, step) = (kind_of(&board.said()), step_of(&board.said()));
    let end = Instant::now() + PATIENCE;
    let fails = |part: &[T]| {
        if Instant::now() > end {
            return false;
        }
        board.clear();
        run(part) == Outcome::Exited(1) && kind_of(&board.said()) == kind
    };
    // What came after it is not needed, and what came before it may not be.
    let until = step.map_or(list.len(), |step| (step + 1).min(list.len()));
    let last = &list[until.saturating_sub(1)..until];
    let mut part = if fails(last) {
        last.to_vec()
    } else {
        minimise::minimise(&list[..until], TRIES, fails)
    };
    refine(&mut part, &fails);
    board.clear();
    run(&part);
    println!("{} operations are enough:", part.len());
    for op in &part {
        println!("  {op:?}");
    }
    println!("{}", board.said());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_without_their_numbers() {
        let said = "operation 17: pending 3 of 4: 0x12";
        assert_eq!(kind_of(said), kind_of("operation 2: pending 5 of 6: x"));
        assert_ne!(kind_of(said), kind_of("operation 17: lost 3 of 4: 0x12"));
        assert_eq!(step_of(said), Some(17));
        assert_eq!(step_of("WARNING: 3"), None);
    }
}
