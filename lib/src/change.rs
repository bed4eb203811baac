// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Changes: what a kqueue watches.

use crate::{abi, ev, note, Event, FileNotes, Filter, MountNotes, ProcessNotes};
use std::{
    error, fmt, io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// One change: adds, modifies or deletes a knote.
///
/// A new knote of a descriptor is level-triggered: it is reported for as long as its condition
/// holds. Timers, signals, user events, files, processes and mounts are reset when they are
/// reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(Event);

impl Change {
    fn new(ident: u64, filter: Filter) -> Self {
        Change(Event::new(ident, filter, ev::ADD))
    }

    fn descriptor(fd: &impl AsFd, filter: Filter) -> Self {
        Change(Event::fd(fd.as_fd().as_raw_fd(), filter, ev::ADD))
    }

    /// `fd` can be read. It can be closed at any time, which ends its events.
    pub fn readable(fd: impl AsFd) -> Self {
        Self::descriptor(&fd, Filter::READ)
    }

    /// `fd` can be written.
    pub fn writable(fd: impl AsFd) -> Self {
        Self::descriptor(&fd, Filter::WRITE)
    }

    /// `fd` has an exceptional condition; for a socket that is urgent data.
    pub fn exceptional(fd: impl AsFd) -> Self {
        let mut change = Self::descriptor(&fd, Filter::EXCEPT);
        change.0.fflags = note::OOB;
        change
    }

    /// The file of `fd` changes. Each change is reported once.
    pub fn file(fd: impl AsFd, notes: FileNotes) -> Self {
        let mut change = Self::descriptor(&fd, Filter::VNODE).edge();
        change.0.fflags = notes.bits();
        change
    }

    /// A process forks, executes a program or exits. Each of these is reported once.
    pub fn process(pid: u32, notes: ProcessNotes) -> Self {
        let mut change = Self::new(pid.into(), Filter::PROC).edge();
        change.0.fflags = notes.bits();
        change
    }

    /// A signal is sent to this process, even if it is blocked or ignored.
    pub fn signal(number: i32) -> Self {
        Self::new(number as u64, Filter::SIGNAL)
    }

    /// A timer expires each time that `period` is over. `id` identifies the timer.
    pub fn timer(id: u64, period: Duration) -> Self {
        let mut change = Self::new(id, Filter::TIMER);
        change.0.fflags = abi::NOTE_NSECONDS;
        change.0.data = i64::try_from(period.as_nanos()).unwrap_or(i64::MAX);
        change
    }

    /// A timer expires once, when `delay` is over.
    pub fn timeout(id: u64, delay: Duration) -> Self {
        Self::timer(id, delay).once()
    }

    /// The program triggers the event itself with [`trigger`](Self::trigger). Several triggers
    /// before the event is collected are reported as one event.
    pub fn user(id: u64) -> Self {
        Self::new(id, Filter::USER).edge()
    }

    /// Triggers an event that [`user`](Self::user) has added, from any thread. The event keeps its
    /// token unless this change has one.
    pub fn trigger(id: u64) -> Self {
        Change(Event::new(id, Filter::USER, ev::KEEPUDATA).fflags(note::TRIGGER))
    }

    /// File systems are mounted or unmounted in this mount namespace.
    pub fn mounts(notes: MountNotes) -> Self {
        let mut change = Self::new(0, Filter::FS).edge();
        change.0.fflags = notes.bits();
        change
    }

    /// Sets a low-water mark for [`readable`](Self::readable) and [`writable`](Self::writable): the
    /// event is reported if there are at least that many bytes.
    pub fn low_water(mut self, bytes: u32) -> Self {
        self.0.fflags = abi::NOTE_LOWAT;
        self.0.data = bytes.into();
        self
    }

    /// Sets the token that identifies the events ([`Event::udata`]).
    pub fn token(mut self, token: u64) -> Self {
        self.0.udata = token;
        self.0.flags &= !ev::KEEPUDATA;
        self
    }

    /// Reports the event when its condition arises, and not for as long as it holds (`EV_CLEAR`).
    pub fn edge(mut self) -> Self {
        self.0.flags |= ev::CLEAR;
        self
    }

    /// Deletes the knote when it is reported (`EV_ONESHOT`).
    pub fn once(mut self) -> Self {
        self.0.flags |= ev::ONESHOT;
        self
    }

    /// Disables the knote when it is reported (`EV_DISPATCH`), so that only one thread handles it.
    pub fn dispatch(mut self) -> Self {
        self.0.flags |= ev::DISPATCH;
        self
    }

    /// Turns the change into one that enables the knote.
    pub fn enable(self) -> Self {
        self.instead(ev::ENABLE)
    }

    /// Turns the change into one that disables the knote.
    pub fn disable(self) -> Self {
        self.instead(ev::DISABLE)
    }

    /// Turns the change into one that deletes the knote.
    pub fn delete(self) -> Self {
        self.instead(ev::DELETE)
    }

    fn instead(mut self, action: u16) -> Self {
        self.0.flags = action;
        self
    }

    /// Returns the change in its C form.
    pub fn event(&self) -> Event {
        self.0
    }
}

/// A change that was refused.
#[derive(Debug)]
pub struct Rejected {
    /// The index of the change in the list.
    pub index: usize,
    /// The error of `kevent(2)`.
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
