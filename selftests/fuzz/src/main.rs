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

/// The kinds of rounds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rounds {
    /// Checked rounds, which have a model.
    Checked,
    /// Compared rounds, which use other interfaces of the kernel.
    Compared,
    /// Wild rounds, which have only the kernel's checkers.
    Wild,
    /// The seed determines the kind.
    All,
}

impl Rounds {
    /// The kind of the round with this seed.
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
    /// The seed that determines all operations. If it is not given, a random seed is used.
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// The number of operations of each thread. With this option only the round of the seed is
    /// done.
    #[arg(long)]
    steps: Option<usize>,
    /// The duration of the run.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Stays root, instead of being user 65534.
    #[arg(long)]
    root: bool,
    /// The kinds of rounds that are done.
    #[arg(long, value_enum, default_value = "all")]
    rounds: Rounds,
    /// The names of the kinds of descriptors that most operations of wild rounds use.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Continues after a report of the kernel.
    #[arg(long)]
    keep_going: bool,
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// The user and the group "nobody".
const NOBODY: usize = 65534;

/// Becomes user nobody. The threads stay dumpable, so that the process can read its own state.
fn drop_root() {
    let _ = sys::call(libc::SYS_setgroups, &[0, 0]);
    let _ = sys::call(libc::SYS_setresgid, &[NOBODY, NOBODY, NOBODY]);
    let _ = sys::call(libc::SYS_setresuid, &[NOBODY, NOBODY, NOBODY]);
    let _ = sys::call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1]);
}

/// Configures fault injection: allocations that may sleep fail too, and no stack traces are
/// printed.
fn prepare_faults() {
    for fault in ["failslab", "fail_page_alloc"] {
        for (name, value) in [
            ("ignore-gfp-wait", "N"),
            ("verbose", "0"),
            ("min-order", "0"),
        ] {
            // A kernel without fault injection has no such files.
            let _ = fs::write(format!("/sys/kernel/debug/{fault}/{name}"), value);
        }
    }
}

/// The default number of operations of a round.
const STEPS: usize = 600;

/// The operations of a round, if parts of them can be repeated.
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
        report(board, model::run(list, board))
    })
}

fn compared(board: &Board, list: &[compare::op::Op], seed: u64, root: bool) -> Outcome {
    watch::run(board, || {
        report(board, compare::run(list, seed, root, board))
    })
}

/// Leaves a message with the fault and the number of its operation.
fn report(board: &Board, result: Result<(), (usize, String)>) -> i32 {
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

/// How often a list is tried, and the total duration.
const TRIES: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(90);

/// The text of a message without its numbers.
fn kind_of(said: &str) -> String {
    let what = said.split(':').nth(1).unwrap_or_default();
    what.chars().filter(|c| c.is_alphabetic()).collect()
}

/// The number of the operation at which the fault occurred.
fn step_of(said: &str) -> Option<usize> {
    let number = said.strip_prefix("operation ")?.split(':').next()?;
    number.parse().ok()
}

/// Prints the shortest list of operations that was found to fail in the same way.
fn shorten(board: &Board, list: &List, seed: u64, root: bool) {
    match list {
        List::Checked(list) => {
            let run = |part: &[Op]| checked(board, part, root);
            minimise(board, list, &run, |part, fails| {
                // The changes of a call are minimised too.
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

/// Minimises operations of one type. `run` does them, and `refine` returns smaller variants of one.
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
    // The operations after the fault are not needed, and those before it may not be needed.
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
