// SPDX-License-Identifier: GPL-2.0

//! `make test-hostile`: what an unprivileged user who means harm costs others.
//!
//! Each attack is made by a process of nobody's, once through kqueue and once through what Linux has
//! anyway (epoll, inotify, signalfd, timerfd), with as much of it as that user may have. A bystander,
//! root, does the same thing before it and during it. What that costs through kqueue must be at most a
//! constant times the other.
//!
//! Run in a guest by `scripts/hostile.sh`, whose clock counts instructions, or on a machine that has
//! the module and is there to be attacked, as root.

mod attack;
mod report;
mod siege;
mod sys;

use clap::Parser;
use report::Report;

/// How large the attacks are.
#[derive(Clone, Copy)]
pub struct Scale {
    quick: bool,
}

impl Scale {
    /// `full`, or a tenth of it if one only wants to know that it runs.
    pub fn of(self, full: usize) -> usize {
        if self.quick {
            full.div_ceil(10)
        } else {
            full
        }
    }
}

#[derive(Parser)]
#[command(about = "What a user who means harm costs others, through kqueue and without it")]
struct Arguments {
    /// Only attacks that have one of these in their names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Small attacks, to see that it runs. Those that grow with their size are not found so.
    #[arg(long)]
    quick: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let scale = Scale {
        quick: arguments.quick,
    };
    sys::raise_limits();
    let mut report = Report::default();
    for (name, attack) in attack::ALL {
        let mut only = arguments.only.iter();
        if only.len() == 0 || only.any(|only| name.contains(only)) {
            eprintln!("{name}");
            report.attack(name, sys::fresh_folder, attack, scale);
        }
    }
    print!("{}", report.table());
    if report.print_failures() {
        std::process::exit(1);
    }
}
