// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! What has happened.

use crate::{ev, Event, FileNotes, Filter, MountNotes, ProcessNotes};
use std::{io, os::fd::RawFd, os::unix::process::ExitStatusExt, process::ExitStatus};

/// What an event tells; see [`Event::report`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Report {
    /// There is something to read.
    Readable(Descriptor),
    /// There is room to write.
    Writable(Descriptor),
    /// There is an exceptional condition.
    Exceptional(Descriptor),
    /// Something happened to a file.
    File {
        /// The descriptor it was watched through.
        fd: RawFd,
        /// What.
        notes: FileNotes,
    },
    /// Something happened to a process.
    Process(Process),
    /// A signal was sent.
    Signal {
        /// Which one.
        number: i32,
        /// How often since it was last reported.
        count: i64,
    },
    /// A timer expired.
    Timer {
        /// Which one.
        id: u64,
        /// How often since it was last reported.
        expirations: i64,
    },
    /// The program triggered it.
    User {
        /// Which one.
        id: u64,
        /// The 24 bits that are the program's own.
        flags: u32,
    },
    /// File systems were mounted or unmounted.
    Mounts(MountNotes),
    /// The answer to a change, when it was asked for or failed.
    Change(io::Result<()>),
    /// Of a filter that this crate does not know.
    Other(Event),
}

/// What is told of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Which one.
    pub fd: RawFd,
    /// How many bytes there are to read, or is room for; connections of a listening socket. Of a
    /// regular file: from its offset to its end, negative beyond it.
    pub bytes: i64,
    /// The other side ends it; what is there can still be read.
    pub end: bool,
    /// Both directions have ended.
    pub hung_up: bool,
    /// The errno of what it ended with, 0 if in peace.
    pub error: i32,
}

/// What is told of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Which one.
    pub pid: u32,
    /// What happened.
    pub notes: ProcessNotes,
    data: i64,
}

impl Process {
    /// How it exited, if it did.
    pub fn status(&self) -> Option<ExitStatus> {
        let exited = self.notes.contains(ProcessNotes::EXIT);
        exited.then(|| ExitStatus::from_raw(self.data as i32))
    }

    /// Whose child it is, if it is reported as one of a process that is tracked.
    pub fn parent(&self) -> Option<u32> {
        let child = self.notes.contains(ProcessNotes::CHILD);
        child.then_some(self.data as u32)
    }
}

impl Event {
    /// What it tells.
    pub fn report(&self) -> Report {
        if self.has(ev::ERROR) {
            return Report::Change(match self.data {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno as i32)),
            });
        }
        let descriptor = Descriptor {
            fd: self.ident as RawFd,
            bytes: self.data,
            end: self.has(ev::EOF),
            hung_up: self.has(ev::HUP),
            error: if self.has(ev::EOF) {
                self.fflags as i32
            } else {
                0
            },
        };
        match self.filter {
            Filter::READ => Report::Readable(descriptor),
            Filter::WRITE => Report::Writable(descriptor),
            Filter::EXCEPT => Report::Exceptional(descriptor),
            Filter::VNODE => Report::File {
                fd: descriptor.fd,
                notes: FileNotes::from_bits_retain(self.fflags),
            },
            Filter::PROC => Report::Process(Process {
                pid: self.ident as u32,
                notes: ProcessNotes::from_bits_retain(self.fflags),
                data: self.data,
            }),
            Filter::SIGNAL => Report::Signal {
                number: self.ident as i32,
                count: self.data,
            },
            Filter::TIMER => Report::Timer {
                id: self.ident,
                expirations: self.data,
            },
            Filter::USER => Report::User {
                id: self.ident,
                flags: self.fflags,
            },
            Filter::FS => Report::Mounts(MountNotes::from_bits_retain(self.fflags)),
            _ => Report::Other(*self),
        }
    }
}
