// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! What to watch.

use crate::{abi, ev, note, Event, FileNotes, Filter, MountNotes, ProcessNotes};
use std::{
    error, fmt, io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// One change: something to be watched, or not any more.
///
/// A new one is level-triggered: reported for as long as it is true. Timers and what is counted
/// start anew once they were reported, as files, processes, signals and mounts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(Event);

impl Change {
    fn new(ident: u64, filter: Filter) -> Self {
        Change(Event::new(ident, filter, ev::ADD))
    }

    fn descriptor(fd: &impl AsFd, filter: Filter) -> Self {
        Change(Event::fd(fd.as_fd().as_raw_fd(), filter, ev::ADD))
    }

    /// `fd` has something to read. It may be closed whenever one likes; that ends its events.
    pub fn readable(fd: impl AsFd) -> Self {
        Self::descriptor(&fd, Filter::READ)
    }

    /// `fd` has room to write.
    pub fn writable(fd: impl AsFd) -> Self {
        Self::descriptor(&fd, Filter::WRITE)
    }

    /// `fd` has an exceptional condition; for a socket, urgent data.
    pub fn exceptional(fd: impl AsFd) -> Self {
        let mut change = Self::descriptor(&fd, Filter::EXCEPT);
        change.0.fflags = note::OOB;
        change
    }

    /// Something happens to the file behind `fd`. Each thing is reported once.
    pub fn file(fd: impl AsFd, notes: FileNotes) -> Self {
        let mut change = Self::descriptor(&fd, Filter::VNODE).edge();
        change.0.fflags = notes.bits();
        change
    }

    /// Something happens to a process. Each thing is reported once.
    pub fn process(pid: u32, notes: ProcessNotes) -> Self {
        let mut change = Self::new(pid.into(), Filter::PROC).edge();
        change.0.fflags = notes.bits();
        change
    }

    /// A signal is sent to this process, whatever becomes of it.
    pub fn signal(number: i32) -> Self {
        Self::new(number as u64, Filter::SIGNAL)
    }

    /// Each time that `period` is over; `id` tells timers apart.
    pub fn timer(id: u64, period: Duration) -> Self {
        let mut change = Self::new(id, Filter::TIMER);
        change.0.fflags = abi::NOTE_NSECONDS;
        change.0.data = i64::try_from(period.as_nanos()).unwrap_or(i64::MAX);
        change
    }

    /// Once, when `delay` is over.
    pub fn timeout(id: u64, delay: Duration) -> Self {
        Self::timer(id, delay).once()
    }

    /// The program triggers it itself, with [`trigger`](Self::trigger). It is reported once for
    /// however many triggers.
    pub fn user(id: u64) -> Self {
        Self::new(id, Filter::USER).edge()
    }

    /// Triggers what [`user`](Self::user) has made; from whatever thread. It keeps its token, unless
    /// this has one.
    pub fn trigger(id: u64) -> Self {
        Change(Event::new(id, Filter::USER, ev::KEEPUDATA).fflags(note::TRIGGER))
    }

    /// File systems are mounted or unmounted in this mount namespace.
    pub fn mounts(notes: MountNotes) -> Self {
        let mut change = Self::new(0, Filter::FS).edge();
        change.0.fflags = notes.bits();
        change
    }

    /// With [`readable`](Self::readable) and [`writable`](Self::writable): not below that many
    /// bytes.
    pub fn low_water(mut self, bytes: u32) -> Self {
        self.0.fflags = abi::NOTE_LOWAT;
        self.0.data = bytes.into();
        self
    }

    /// What events of it carry, to be known by ([`Event::udata`]).
    pub fn token(mut self, token: u64) -> Self {
        self.0.udata = token;
        self.0.flags &= !ev::KEEPUDATA;
        self
    }

    /// Reported when it becomes true, not for as long as it is (`EV_CLEAR`).
    pub fn edge(mut self) -> Self {
        self.0.flags |= ev::CLEAR;
        self
    }

    /// Not watched any more once it was reported (`EV_ONESHOT`).
    pub fn once(mut self) -> Self {
        self.0.flags |= ev::ONESHOT;
        self
    }

    /// Disabled once it was reported (`EV_DISPATCH`), so that one thread has it.
    pub fn dispatch(mut self) -> Self {
        self.0.flags |= ev::DISPATCH;
        self
    }

    /// Instead: what is watched is reported again.
    pub fn enable(self) -> Self {
        self.instead(ev::ENABLE)
    }

    /// Instead: what is watched is not reported until it is enabled.
    pub fn disable(self) -> Self {
        self.instead(ev::DISABLE)
    }

    /// Instead: it is not watched any more.
    pub fn delete(self) -> Self {
        self.instead(ev::DELETE)
    }

    fn instead(mut self, action: u16) -> Self {
        self.0.flags = action;
        self
    }

    /// As C has it.
    pub fn event(&self) -> Event {
        self.0
    }
}

/// A change that was refused.
#[derive(Debug)]
pub struct Rejected {
    /// Its place among the changes.
    pub index: usize,
    /// Why: an error of `kevent(2)`.
    pub error: io::Error,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "change {}: {}", self.index, self.error)
    }
}

impl error::Error for Rejected {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Rejected> for io::Error {
    fn from(rejected: Rejected) -> Self {
        rejected.error
    }
}
