// SPDX-License-Identifier: GPL-2.0

//! Runs a round in processes of its own, and kills them if the round does not end in time.

use crate::{board::Board, sys};
use std::{fs, io::Read, os::unix::fs::OpenOptionsExt};

/// The outcome of a round.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The round ended with this exit code.
    Exited(i32),
    /// A signal killed the round.
    Killed(i32),
    /// The round did not end. The text says what its threads did.
    Hung(String),
}

/// The timeouts in seconds for a round, and for the end of a round that was killed.
const ROUND: i64 = 180;
const KILL: i64 = 60;

/// Waits for a child. `None` if it has not ended in time.
fn wait(pid: i32, seconds: i64) -> Option<i32> {
    let end = sys::now() + seconds * 1_000_000_000;
    let mut status = 0i32;
    loop {
        let args = [
            pid as usize,
            sys::address_mut(&mut status),
            libc::WNOHANG as usize,
            0,
        ];
        match sys::call(libc::SYS_wait4, &args) {
            Ok(found) if found as i32 == pid => return Some(status),
            Err(libc::ECHILD) => return Some(0),
            _ => {}
        }
        if sys::now() > end {
            return None;
        }
        sys::sleep_ms(5);
    }
}

/// The last number in the line of a procfs status file that begins with this name.
fn last_number(status: &str, name: &str) -> Option<i32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Describes what all threads of the process and of its descendants do, according to the board and
/// to the kernel.
fn describe(root: i32, board: &Board) -> String {
    let mut family = vec![root];
    let numbers = |path: &str| -> Vec<i32> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        names.collect()
    };
    let parents: Vec<(i32, i32)> = numbers("/proc")
        .into_iter()
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some((pid, last_number(&status, "PPid:")?))
        })
        .collect();
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        family.extend(parents.iter().filter(|pair| pair.1 == parent).map(|p| p.0));
        at += 1;
    }
    let mut text = String::new();
    for pid in family {
        for tid in numbers(&format!("/proc/{pid}/task")) {
            let read = |name: &str| {
                fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}")).unwrap_or_default()
            };
            let own = last_number(&read("status"), "NSpid:").unwrap_or(tid);
            let record = board.record_of(own).unwrap_or_default();
            let call = read("syscall");
            let state = read("status");
            let state = state.lines().find(|line| line.starts_with("State"));
            text += &format!(
                "{pid}/{tid} ({own}): {record}\n  {} syscall {}\n",
                state.unwrap_or_default(),
                call.trim_end()
            );
            for line in read("stack").lines() {
                text += &format!("    {line}\n");
            }
        }
    }
    text
}

/// Writes a file of `/proc/self`, as required for user namespaces.
fn write_self(path: &str, text: String) {
    // If the write fails, the following operations fail, which is tolerated.
    let _ = fs::write(path, text);
}

/// Runs `round` in a new process, which has its own process and mount namespaces if possible, and
/// waits for it. Afterwards none of its processes is left.
pub fn run(board: &Board, round: impl FnOnce() -> i32) -> Outcome {
    let is_root = sys::call(libc::SYS_geteuid, &[]) == Ok(0);
    let own = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let user = if is_root { 0 } else { libc::CLONE_NEWUSER };
    let uid = sys::call(libc::SYS_getuid, &[]).unwrap_or(0);
    let gid = sys::call(libc::SYS_getgid, &[]).unwrap_or(0);
    let mut made = sys::clone(own | user);
    let in_namespace = made.is_ok();
    if !in_namespace {
        made = sys::clone(0);
    }
    let pid = match made {
        Ok(0) => {
            if in_namespace && !is_root {
                write_self("/proc/self/setgroups", "deny".into());
                write_self("/proc/self/uid_map", format!("{uid} {uid} 1"));
                write_self("/proc/self/gid_map", format!("{gid} {gid} 1"));
            }
            first(in_namespace, round)
        }
        Ok(pid) => pid as i32,
        Err(errno) => return Outcome::Hung(format!("no process: errno {errno}")),
    };
    let outcome = |status: i32| {
        if libc::WIFSIGNALED(status) {
            Outcome::Killed(libc::WTERMSIG(status))
        } else {
            Outcome::Exited(libc::WEXITSTATUS(status))
        }
    };
    if let Some(status) = wait(pid, ROUND) {
        return outcome(status);
    }
    let mut text = describe(pid, board);
    // The other processes end with the first one of their namespace, or belong to its process
    // group.
    for target in [pid, -pid] {
        let _ = sys::call(libc::SYS_kill, &[target as usize, libc::SIGKILL as usize]);
    }
    if wait(pid, KILL).is_none() {
        text += "and cannot be killed:\n";
        text += &describe(pid, board);
    }
    Outcome::Hung(text)
}

/// The first process of a round. It reaps all others, and they end when it ends.
fn first(in_namespace: bool, round: impl FnOnce() -> i32) -> ! {
    let _ = sys::call(libc::SYS_prctl, &[libc::PR_SET_CHILD_SUBREAPER as usize, 1]);
    let kill = libc::SIGKILL as usize;
    let _ = sys::call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, kill]);
    if in_namespace {
        // Do not propagate mounts.
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        let root = c"/".as_ptr() as usize;
        let _ = sys::call(libc::SYS_mount, &[0, root, 0, flags as usize, 0]);
    } else {
        let _ = sys::call(libc::SYS_setpgid, &[0, 0]);
    }
    let worker = match sys::clone(0) {
        Ok(0) => sys::exit(round()),
        Ok(pid) => pid as i32,
        Err(_) => sys::exit(99),
    };
    let mut status = 0i32;
    loop {
        let args = [usize::MAX, sys::address_mut(&mut status), 0, 0];
        match sys::call(libc::SYS_wait4, &args) {
            Ok(pid) if pid as i32 == worker => break,
            Err(libc::ECHILD) => break,
            _ => {}
        }
    }
    if libc::WIFSIGNALED(status) {
        // The first process of a namespace cannot kill itself by a signal.
        sys::exit(128 + libc::WTERMSIG(status));
    }
    sys::exit(libc::WEXITSTATUS(status))
}

/// The kernel's log, from the present on.
pub struct Log(Option<fs::File>);

/// The beginnings of the kernel's reports of faults.
const REPORTS: [&str; 15] = [
    "WARNING: ",
    "BUG: ",
    "KASAN",
    "UBSAN",
    "Oops",
    "kernel BUG at",
    "general protection fault",
    "refcount_t: ",
    "list_add corruption",
    "list_del corruption",
    "ODEBUG",
    "possible recursive",
    "possible circular",
    "inconsistent lock state",
    "blocked for more than",
];

impl Log {
    /// Opens the log, if that is permitted.
    pub fn new() -> Self {
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK);
        let file = options.open("/dev/kmsg").ok();
        if let Some(file) = &file {
            use std::io::Seek;
            let mut file = file;
            let _ = file.seek(std::io::SeekFrom::End(0));
        }
        Log(file)
    }

    /// Writes a line to the log, so that later lines can be attributed to a round.
    pub fn mark(&self, line: &str) {
        if let Some(mut file) = self.0.as_ref() {
            use std::io::Write;
            let _ = file.write(line.as_bytes());
        }
    }

    /// Returns the reports since the last call.
    pub fn reports(&self) -> Vec<String> {
        let mut found = Found::default();
        let Some(mut file) = self.0.as_ref() else {
            return Vec::new();
        };
        let mut record = [0; 8192];
        loop {
            match file.read(&mut record) {
                Ok(count @ 1..) => {
                    let text = String::from_utf8_lossy(&record[..count]);
                    let line = text.split_once(';').map_or("", |(_, line)| line);
                    found.hear(line.lines().next().unwrap_or_default());
                }
                // Some records were lost.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                _ => return found.all(),
            }
        }
    }
}

/// The reports that were found in the kernel's log.
#[derive(Default)]
struct Found {
    reports: Vec<String>,
    /// A report of a list that was walked without the protection of RCU. It counts if a function of
    /// the module is in the stack that follows.
    unprotected: Option<String>,
}

impl Found {
    fn hear(&mut self, line: &str) {
        if let Some(report) = self.unprotected.take() {
            match line.trim() {
                "</TASK>" => return,
                text if text.contains("[kqueue]") => self.reports.push(report),
                _ => self.unprotected = Some(report),
            }
        }
        // The stacks tell whether a data race involves the module. Only the filter of the complete
        // log checks that.
        let race = line.contains("BUG: KCSAN: ");
        if line.contains("suspicious RCU usage") {
            self.reports
                .extend(self.unprotected.replace(line.to_owned()));
        } else if !race && REPORTS.iter().any(|report| line.contains(report)) {
            self.reports.push(line.to_owned());
        }
    }

    /// Returns all reports. An incomplete report counts, too.
    fn all(mut self) -> Vec<String> {
        self.reports.extend(self.unprotected);
        self.reports
    }
}

/// The watches that still exist although no kqueue of this program is open. Empty if that cannot be
/// determined.
pub fn left_over() -> Vec<String> {
    let end = sys::now() + 20_000_000_000;
    loop {
        let probes = fs::read_to_string("/sys/kernel/debug/kqueue/probes").unwrap_or_default();
        let is_left = |line: &&str| {
            let count = line.split_whitespace().last();
            let counts = line.contains("watches:") || line.contains("marks:");
            counts && count != Some("0")
        };
        let left: Vec<String> = probes.lines().filter(is_left).map(str::to_owned).collect();
        if left.is_empty() || sys::now() > end {
            return left;
        }
        sys::sleep_ms(20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Vec<String> {
        let mut found = Found::default();
        lines.iter().for_each(|line| found.hear(line));
        found.all()
    }

    #[test]
    fn a_list_without_protection_counts_if_it_is_the_modules() {
        const TITLE: &str = "WARNING: suspicious RCU usage";
        let stack = |function| [TITLE, "net/a.c:7 RCU-list", " <TASK>", function, " </TASK>"];
        assert!(found(&stack(" sctp_sendmsg+0x1/0x2")).is_empty());
        assert_eq!(found(&stack(" scan+0x1/0x2 [kqueue]")), [TITLE]);
        assert_eq!(found(&[TITLE, "net/a.c:7 RCU-list"]), [TITLE]);
        let warning = "WARNING: CPU: 1 PID: 2 at kernel/a.c:3";
        assert_eq!(found(&[TITLE, " <TASK>", warning, " </TASK>"]), [warning]);
    }

    #[test]
    fn reports_how_it_ended() {
        let board = Board::new();
        assert_eq!(run(board, || 7), Outcome::Exited(7));
        let killed = run(board, || {
            let own = std::process::id() as usize;
            let _ = sys::call(libc::SYS_kill, &[own, libc::SIGKILL as usize]);
            0
        });
        assert_eq!(killed, Outcome::Exited(128 + libc::SIGKILL));
    }
}
