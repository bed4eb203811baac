// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Registers what its arguments name, and prints each event as a line.

use anyhow::{bail, Context, Result};
use clap::Parser;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
};

#[derive(Parser)]
#[command(about = "Prints kqueue events as lines")]
struct Options {
    /// Ends after that many events.
    #[arg(long)]
    count: Option<usize>,
    /// Reports a state once (EV_CLEAR), not for as long as it lasts.
    #[arg(long)]
    clear: bool,
    /// read:FD-OR-PATH, write:FD-OR-PATH, timer:MILLISECONDS, user:NUMBER (triggered at once)
    #[arg(required = true, value_name = "EVENT")]
    events: Vec<String>,
}

/// Descriptor `name`, or the file of that name, which `files` keeps open.
fn descriptor(name: &str, files: &mut Vec<File>, options: &OpenOptions) -> Result<RawFd> {
    if let Ok(fd) = name.parse() {
        return Ok(fd);
    }
    let file = options.open(name).with_context(|| name.to_owned())?;
    let fd = file.as_raw_fd();
    files.push(file);
    Ok(fd)
}

fn change(argument: &str, flags: u16, files: &mut Vec<File>) -> Result<Event> {
    let (kind, value) = argument
        .split_once(':')
        .with_context(|| format!("{argument}: KIND:VALUE is expected"))?;
    let mut open = OpenOptions::new();
    open.custom_flags(libc::O_NONBLOCK);
    Ok(match kind {
        "read" => Event::fd(
            descriptor(value, files, open.read(true))?,
            Filter::READ,
            flags,
        ),
        "write" => Event::fd(
            descriptor(value, files, open.write(true))?,
            Filter::WRITE,
            flags,
        ),
        // Timers are told apart by their periods.
        "timer" => {
            let period: u32 = value.parse()?;
            Event::new(period.into(), Filter::TIMER, flags).data(period.into())
        }
        "user" => Event::new(value.parse()?, Filter::USER, flags).fflags(note::TRIGGER),
        _ => bail!("{kind}: unknown kind of event"),
    })
}

fn line(event: &Event) -> String {
    let names = [
        (ev::EOF, " eof"),
        (ev::HUP, " hup"),
        (ev::NODATA, " nodata"),
        (ev::ERROR, " error"),
    ];
    let set = names.iter().filter(|(flag, _)| event.has(*flag));
    let flags: String = set.map(|(_, name)| *name).collect();
    format!(
        "{:?} ident {} data {} fflags {:#x}{flags}",
        event.filter, event.ident, event.data, event.fflags
    )
}

fn main() -> Result<()> {
    let options = Options::parse();
    let kqueue = Kqueue::new().context("/dev/kqueue: is the module loaded?")?;
    let flags = ev::ADD | if options.clear { ev::CLEAR } else { 0 };
    let mut files = Vec::new();
    let mut changes = Vec::new();
    for argument in &options.events {
        changes.push(change(argument, flags, &mut files)?);
    }

    let mut left = options.count.unwrap_or(usize::MAX);
    let mut events = [Event::default(); 64];
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let room = left.min(events.len());
        let count = kqueue.kevent(&changes, &mut events[..room], None)?;
        changes.clear();
        for event in &events[..count] {
            if event.has(ev::ERROR) {
                let error = std::io::Error::from_raw_os_error(event.data as i32);
                bail!("{:?} {}: {error}", event.filter, event.ident);
            }
            writeln!(out, "{}", line(event))?;
        }
        left -= count;
    }
    Ok(())
}
