// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Lists the kqueues of all processes, from `/proc/PID/fdinfo`.

use anyhow::{Context, Result};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
};

/// A descriptor of a kqueue.
struct Entry {
    pid: u32,
    fd: u32,
    knotes: u64,
    pending: u64,
    command: String,
}

/// The entries of a directory whose names are numbers, in order. There are none if the directory
/// is not readable, because the process has ended or belongs to someone else.
fn numbers(directory: &Path) -> Vec<u32> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The numbers of knotes and of pending events, if the line is that of a kqueue.
fn parse(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("kqueue knotes: ")?;
    let (knotes, pending) = rest.split_once(" pending: ")?;
    Some((knotes.parse().ok()?, pending.parse().ok()?))
}

/// The numbers of knotes and of pending events from an fdinfo file. The descriptor may have been
/// closed in the meantime.
fn read(fdinfo: &Path) -> Option<(u64, u64)> {
    let lines = BufReader::new(File::open(fdinfo).ok()?).lines();
    lines.map_while(Result::ok).find_map(|line| parse(&line))
}

/// The name of a process. It can contain any character. Control characters are escaped.
fn command(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let name = name.strip_suffix('\n').unwrap_or(&name);
    name.escape_debug().to_string()
}

fn entries() -> Result<Vec<Entry>> {
    let proc = Path::new("/proc");
    fs::read_dir(proc).context("/proc")?;
    let mut entries = Vec::new();
    for pid in numbers(proc) {
        let process = proc.join(pid.to_string());
        let fdinfo = process.join("fdinfo");
        for fd in numbers(&fdinfo) {
            if let Some((knotes, pending)) = read(&fdinfo.join(fd.to_string())) {
                entries.push(Entry {
                    pid,
                    fd,
                    knotes,
                    pending,
                    command: command(&process),
                });
            }
        }
    }
    Ok(entries)
}

/// Prints a line for each descriptor of a kqueue that the caller may see.
pub(crate) fn print(as_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if !as_json {
        writeln!(out, "    PID   FD   KNOTES  PENDING COMMAND")?;
    }
    for entry in entries()? {
        let Entry {
            pid,
            fd,
            knotes,
            pending,
            command,
        } = entry;
        if as_json {
            let line = json!({
                "pid": pid, "fd": fd, "knotes": knotes, "pending": pending, "command": command,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{pid:>7} {fd:>4} {knotes:>8} {pending:>8} {command}")?;
        }
    }
    Ok(())
}
