// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Runs a program, prints all processes that it creates, and kills it after a minute.

use kqueue::{Change, Kqueue, ProcessNotes, Report};
use std::{env, io, process::Command, time::Duration};

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program).args(arguments).spawn()?;
    let kqueue = Kqueue::new()?;
    let notes = ProcessNotes::EXIT | ProcessNotes::TRACK;
    kqueue.apply(&[
        Change::process(child.id(), notes),
        Change::timeout(0, Duration::from_secs(60)),
    ])?;
    for event in kqueue.incoming() {
        match event?.report() {
            Report::Timer { .. } => child.kill()?,
            Report::Process(process) => {
                if let Some(parent) = process.parent() {
                    println!("{parent} made {}", process.pid);
                }
                if let Some(status) = process.status() {
                    println!("{}: {status}", process.pid);
                    if process.pid == child.id() {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    child.wait().map(drop)
}
