// SPDX-License-Identifier: GPL-2.0

//! `make test-hostile`: measures the cost that an unprivileged attacker causes for other users.
//!
//! A process of user nobody makes each attack twice: through kqueue, and through another interface
//! of Linux (epoll, inotify, signalfd, timerfd). It uses as much of each resource as the user may
//! have. A bystander, which is root, does the same operation before and during the attack. The cost
//! of the operation during the attack through kqueue must be at most a constant times the other
//! cost.
//!
//! `scripts/hostile.sh` runs this in a guest whose clock counts instructions. It can also be run as
//! root on a test machine that has the module.

mod attack;
mod report;
mod siege;
mod sys;

use clap::Parser;
use report::Report;

/// The size of the attacks.
#[derive(Clone, Copy)]
pub struct Scale {
    quick: bool,
}

impl Scale {
    /// `full`, or a tenth of it to check that the attacks run.
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
    /// Runs only the attacks whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Uses small attacks, to check that they run. They are too small to find costs that grow.
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
