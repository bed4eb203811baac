// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE`.
//!
//! # BSD says
//!
//! READ reports when there is something to read, `data` bytes of it; WRITE when there is room,
//! for `data` bytes. `EV_EOF` when the other side is gone, with the socket's error in `fflags`;
//! data may remain (else `EV_NODATA`). `NOTE_LOWAT` in `fflags` asks for at least `data` bytes.
//!
//! # Linux source
//!
//! `->poll` decides; wake-ups come from the wait queues that it names. `data` comes from the
//! socket, pipe or kqueue itself; for other files it is 1.
//!
//! # Where we differ
//!
//! Whether a `EVFILT_WRITE` is ready is up to the file's own `->poll`, as for poll(2): a TCP
//! socket wants a third of its buffer free.

use super::{Attach, Report};
use crate::{
    hook::{
        chardev::object_of,
        close::Binding,
        fdtable,
        pipe::Pipe,
        pollwait::{self, Events, PollWait, Wake},
        socket::Socket, //
    },
    knote::{Knote, Saved},
    kqueue::Kqueue,
    nesting::Edge,
    uapi::*, //
};
use kernel::{
    fs::File,
    prelude::*,
    sync::ArcBorrow, //
};

/// Which of the two filters it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Direction {
    /// The poll events that mean "ready".
    fn ready(self) -> Events {
        match self {
            Direction::Read => Events::IN | Events::RDNORM | Events::RDBAND,
            Direction::Write => Events::OUT | Events::WRNORM | Events::WRBAND,
        }
    }

    /// The poll events that mean "the other side is gone".
    fn gone(self) -> Events {
        match self {
            Direction::Read => Events::RDHUP | Events::HUP | Events::ERR,
            Direction::Write => Events::HUP | Events::ERR,
        }
    }
}

/// How `data` is counted; chosen once, by the kind of file.
enum Count {
    Socket(Socket),
    Pipe(Pipe),
    Kqueue(Edge),
    Unknown,
}

impl Count {
    fn of(file: &File, direction: Direction, attach: &Attach<'_>) -> Result<Self> {
        Ok(if let Some(socket) = Socket::of(file) {
            Count::Socket(socket)
        } else if let Some(pipe) = Pipe::of(file) {
            Count::Pipe(pipe)
        } else if let Some(kqueue) = object_of::<Kqueue>(file) {
            if direction == Direction::Write {
                return Err(EOPNOTSUPP);
            }
            let watcher = attach.knote.kqueue().into();
            Count::Kqueue(attach.shared.nesting.connect(watcher, kqueue.into())?)
        } else {
            Count::Unknown
        })
    }

    /// Bytes to read or room to write, for a kqueue its pending events; `None` where no count is
    /// known.
    fn bytes(&self, direction: Direction) -> Option<i64> {
        match (self, direction) {
            (Count::Socket(socket), Direction::Read) => socket.readable(),
            (Count::Socket(socket), Direction::Write) => Some(socket.writable()),
            (Count::Pipe(pipe), Direction::Read) => Some(pipe.readable()),
            (Count::Pipe(pipe), Direction::Write) => Some(pipe.writable()),
            (Count::Kqueue(edge), _) => Some(edge.watched().poll_state().0 as i64),
            (Count::Unknown, _) => None,
        }
    }

    /// The socket's pending error.
    fn error(&self) -> u32 {
        match self {
            Count::Socket(socket) => socket.error(),
            Count::Pipe(_) | Count::Kqueue(_) | Count::Unknown => 0,
        }
    }
}

impl Wake for Knote {
    fn wake(this: ArcBorrow<'_, Self>) {
        Knote::activate(this);
    }
}

/// A descriptor that is watched.
pub(crate) struct Descriptor {
    // In this order: the wait queues and the counters are the file's, which the binding keeps.
    _wait: PollWait<Knote>,
    count: Count,
    binding: Binding,
    direction: Direction,
}

impl Descriptor {
    /// # Errors
    ///
    /// `EINVAL` for a file that cannot be polled, `EOPNOTSUPP` for writing to a kqueue, `ELOOP`
    /// for a circle or too long a chain of kqueues, `ENOMEM`, and `EBADF` if there is no file.
    pub(super) fn attach(attach: Attach<'_>, direction: Direction) -> Result<Self> {
        let file = attach.file.clone().ok_or(EBADF)?;
        let count = Count::of(&file, direction, &attach)?;
        let binding = Binding::new(&attach.shared.closes, file, attach.knote)?;
        let mask = direction.ready() | direction.gone();
        Ok(Descriptor {
            _wait: PollWait::new(binding.file(), attach.knote, mask)?,
            count,
            binding,
            direction,
        })
    }

    pub(super) fn event(&self, saved: &Saved) -> Option<Report> {
        let events = pollwait::poll(self.binding.file());
        let direction = self.direction;
        let gone = events.any(direction.gone());
        let ready = events.any(direction.ready());
        if !gone && !ready {
            return None;
        }
        let data = self.count.bytes(direction).unwrap_or(ready.into());
        let mut report = Report {
            data,
            ..Report::default()
        };
        if gone {
            report.flags |= EV_EOF;
            report.fflags = self.count.error();
            if events.any(Events::HUP) {
                report.flags |= EV_HUP;
            }
            match direction {
                Direction::Read if data == 0 => report.flags |= EV_NODATA,
                Direction::Read => {}
                // Nobody will read it.
                Direction::Write => report.data = 0,
            }
        } else if saved.fflags & NOTE_LOWAT != 0 && data < saved.data {
            return None;
        }
        Some(report)
    }

    pub(super) fn is_of(&self, file: &File) -> bool {
        core::ptr::eq(self.binding.file(), file)
    }

    pub(super) fn is_bound(&self, ident: u64) -> bool {
        fdtable::current_maps(ident, self.binding.file())
    }
}
