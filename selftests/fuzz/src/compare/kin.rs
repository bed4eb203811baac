// SPDX-License-Identifier: GPL-2.0

//! A child that forks and executes programs on command. `EVFILT_PROC` must report all of that, but
//! nothing after the child has executed a set-user-ID program.

use crate::{
    chaos::kinds::Place,
    sys::{self, address, address_mut, call, Fd},
};
use kqueue::{ev, note, Event, Filter};
use std::{ffi::CStr, fs, os::unix::fs::PermissionsExt};

/// With this argument the program continues as the child.
pub const OBEY: &str = "--obey";
const OBEY_C: &CStr = c"--obey";
/// The descriptors for the commands of the child and for its answers.
const COMMANDS: Fd = 60;
const ANSWERS: Fd = 61;
/// The name of the set-user-ID program that belongs to root.
const OTHER: &str = "other";
/// The answer that a command has failed.
const FAILED: u32 = u32::MAX;

/// The commands of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Fork,
    /// Executes this program.
    Exec,
    /// Executes the set-user-ID copy that belongs to root.
    Rise,
}

/// A child, and the parameters of its watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin {
    pub deeds: [Deed; 5],
    /// The notes that are selected.
    pub notes: u32,
    /// The number of commands between two collections of events.
    pub every: usize,
}

/// Makes a set-user-ID copy of this program with the rights of the caller.
pub fn prepare(place: &Place) {
    let path = format!("{}/{OTHER}", place.folder);
    // Without the copy, children never gain rights.
    if fs::copy("/proc/self/exe", &path).is_ok() {
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o4755));
    }
}

fn answer(user: u32) {
    let _ = sys::write(ANSWERS, &user.to_ne_bytes());
}

fn own_user() -> u32 {
    call(libc::SYS_geteuid, &[]).map_or(FAILED, |user| user as u32)
}

/// Executes commands until the parent has closed the pipe.
pub fn obey(other: &CStr) -> ! {
    answer(own_user());
    let mut command = [0u8; 1];
    while sys::read(COMMANDS, &mut command) == Ok(1) {
        let path = match command[0] {
            b'f' => {
                match sys::clone(0) {
                    Ok(0) => sys::exit(0),
                    Ok(pid) => {
                        sys::reap(pid as i32);
                        answer(own_user());
                    }
                    Err(_) => answer(FAILED),
                }
                continue;
            }
            b'e' => c"/proc/self/exe",
            _ => other,
        };
        let arguments = [
            path.as_ptr() as usize,
            OBEY_C.as_ptr() as usize,
            other.as_ptr() as usize,
            0,
        ];
        let none = [0usize];
        let args = [path.as_ptr() as usize, address(&arguments), address(&none)];
        let _ = call(libc::SYS_execve, &args);
        answer(FAILED);
    }
    sys::exit(0)
}

/// The side of the parent.
struct Child {
    pid: i32,
    commands: Fd,
    answers: Fd,
}

impl Child {
    fn new(other: &CStr) -> Option<Self> {
        let (mut commands, mut answers) = ([0i32; 2], [0i32; 2]);
        call(libc::SYS_pipe2, &[address_mut(&mut commands), 0]).ok()?;
        call(libc::SYS_pipe2, &[address_mut(&mut answers), 0]).ok()?;
        let made = sys::clone(0);
        if made == Ok(0) {
            let _ = sys::dup2(commands[0], COMMANDS);
            let _ = sys::dup2(answers[1], ANSWERS);
            for fd in commands.into_iter().chain(answers) {
                sys::close(fd);
            }
            obey(other);
        }
        sys::close(commands[0]);
        sys::close(answers[1]);
        Some(Child {
            pid: made.ok()? as i32,
            commands: commands[1],
            answers: answers[0],
        })
    }

    /// The effective user of the child, after the commands so far.
    fn user(&self) -> Option<u32> {
        let mut user = [0; 4];
        let read = sys::read(self.answers, &mut user);
        (read == Ok(4)).then(|| u32::from_ne_bytes(user))
    }

    /// Kills the child. Returns its status, which is available until it is reaped.
    fn end(&self) -> i32 {
        let kill = libc::SIGKILL as usize;
        let _ = call(libc::SYS_kill, &[self.pid as usize, kill]);
        let mut info = [0u64; 16];
        let how = (libc::WEXITED | libc::WNOWAIT) as usize;
        let (kind, pid) = (libc::P_PID as usize, self.pid as usize);
        let args = [kind, pid, address_mut(&mut info), how, 0];
        while call(libc::SYS_waitid, &args) == Err(libc::EINTR) {}
        libc::SIGKILL
    }
}

impl Kin {
    pub fn run(self, place: &Place) -> Result<(), String> {
        let other = place.path(OTHER);
        let (Ok(queue), Some(child)) = (sys::kqueue(), Child::new(&other)) else {
            return Ok(());
        };
        let result = self.watch(queue, &child);
        let _ = child.end();
        sys::reap(child.pid);
        [queue, child.commands, child.answers]
            .into_iter()
            .for_each(sys::close);
        result
    }

    fn watch(self, queue: Fd, child: &Child) -> Result<(), String> {
        let Some(own) = child.user() else {
            return Ok(());
        };
        let pid = child.pid as u64;
        let add = Event::new(pid, Filter::PROC, ev::ADD).fflags(note::EXIT | self.notes);
        sys::kevent(queue, &[add], 0, 0, 0)
            .map_err(|errno| format!("a child may not be watched: errno {errno}"))?;
        let mut due = 0;
        // At the end the child does all commands with the rights of another user.
        let last = [Deed::Rise, Deed::Fork, Deed::Exec];
        for (at, deed) in self.deeds.into_iter().chain(last).enumerate() {
            let command = match deed {
                Deed::Fork => b'f',
                Deed::Exec => b'e',
                Deed::Rise => b'r',
            };
            let _ = sys::write(child.commands, &[command]);
            let may_look = match child.user() {
                Some(FAILED) => continue,
                None => return Ok(()),
                Some(user) => user == own,
            };
            if may_look {
                let what = if deed == Deed::Fork {
                    note::FORK
                } else {
                    note::EXEC
                };
                due |= what & self.notes;
            }
            if (at + 1) % self.every == 0 {
                Self::look(queue, due, may_look)?;
                due = 0;
            }
        }
        let status = child.end();
        let event = Self::collect(queue)?;
        match event {
            Some(event)
                if event.fflags == due | note::EXIT
                    && event.data == status.into()
                    && event.has(ev::EOF) =>
            {
                Ok(())
            }
            _ => Err(format!(
                "the exit of a child is not reported correctly: {event:?}, with {due:#x} besides"
            )),
        }
    }

    fn collect(queue: Fd) -> Result<Option<Event>, String> {
        let mut event = Event::default();
        let list = address_mut(&mut event);
        match sys::kevent(queue, &[], list, 1, 0) {
            Ok(count) => Ok((count == 1).then_some(event)),
            Err(errno) => Err(format!("collecting failed: errno {errno}")),
        }
    }

    fn look(queue: Fd, due: u32, may_look: bool) -> Result<(), String> {
        let event = Self::collect(queue)?;
        let notes = event.map_or(0, |event| event.fflags);
        if notes & !due != 0 && !may_look {
            return Err(format!(
                "events of a child with other rights are reported: {event:?}, not {due:#x}"
            ));
        }
        if notes != due {
            return Err(format!(
                "the events of a child are not reported correctly: {event:?}, not {due:#x}"
            ));
        }
        Ok(())
    }
}
