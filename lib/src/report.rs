// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Reports: what an event means.

use crate::{ev, Event, FileNotes, Filter, MountNotes, ProcessNotes};
use std::{io, os::fd::RawFd, os::unix::process::ExitStatusExt, process::ExitStatus};

/// The meaning of an event; see [`Event::report`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Report {
    /// A descriptor can be read.
    Readable(Descriptor),
    /// A descriptor can be written.
    Writable(Descriptor),
    /// A descriptor has an exceptional condition.
    Exceptional(Descriptor),
    /// A file changed.
    File {
        /// The descriptor through which the file is watched.
        fd: RawFd,
        /// The changes of the file.
        notes: FileNotes,
    },
    /// A process forked, executed a program or exited.
    Process(Process),
    /// A signal was sent.
    Signal {
        /// The number of the signal.
        number: i32,
        /// How often it was sent since it was last reported.
        count: i64,
    },
    /// A timer expired.
    Timer {
        /// The ident of the timer.
        id: u64,
        /// How often it expired since it was last reported.
        expirations: i64,
    },
    /// The program triggered a user event.
    User {
        /// The ident of the event.
        id: u64,
        /// The 24 bits of `fflags` that belong to the program.
        flags: u32,
    },
    /// File systems were mounted or unmounted.
    Mounts(MountNotes),
    /// The result of a change that has `EV_RECEIPT` or that failed.
    Change(io::Result<()>),
    /// An event of a filter that this crate does not know.
    Other(Event),
}

/// The state of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The descriptor.
    pub fd: RawFd,
    /// The number of bytes that can be read or written; for a listening socket, the number of
    /// connections; for a regular file, the distance from its offset to its end, which is negative
    /// if the offset is beyond the end.
    pub bytes: i64,
    /// The peer has closed its side. Data that has arrived can still be read.
    pub end: bool,
    /// Both directions have ended.
    pub hung_up: bool,
    /// The error that ended the connection, or 0.
    pub error: i32,
}

/// An event of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process ID.
    pub pid: u32,
    /// The events of the process.
    pub notes: ProcessNotes,
    data: i64,
}

impl Process {
    /// Returns the exit status if the process has exited.
    pub fn status(&self) -> Option<ExitStatus> {
        let exited = self.notes.contains(ProcessNotes::EXIT);
        exited.then(|| ExitStatus::from_raw(self.data as i32))
    }

    /// Returns the parent if this is the first event of a child of a tracked process.
    pub fn parent(&self) -> Option<u32> {
        let child = self.notes.contains(ProcessNotes::CHILD);
        child.then_some(self.data as u32)
    }
}

impl Event {
    /// Returns the meaning of the event.
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
