// SPDX-License-Identifier: GPL-2.0

//! How a knote is evaluated with the kqueue's spin lock held, if it can be.
//!
//! A byte in each knote says how, so that a scan has to ask neither the filter nor the kind of file. The result is that of
//! [`FilterOps::event`](crate::engine::ops::FilterOps::event), or [`FastLook::Unknown`].

use super::{descriptor, user, Filter};
use crate::{
    engine::{
        knote::{Body, Knote},
        ops::{FastLook, Report}, //
    },
    file::{Direction, FileKind},
    sys::file::pipe::NOT_FULL,
    uapi::*, //
};
use core::sync::atomic::Ordering;
use kernel::fs::File;

/// How a scan evaluates a knote with the spin lock held, if it can ([`FastPath::poll`]). A knote that ends with its report is
/// not evaluated so, nor the reader of a pipe with a low-water mark, which may have to be rechecked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FastPath {
    No,
    User,
    Eventfd,
    Tcp,
    UnixStream,
    Pipe,
    /// A pipe whose reader is told once of what there is.
    PipeEdge,
    /// All others, by a call: writers, readers with a low-water mark, and sockets that are no streams.
    ByCall,
}

impl FastPath {
    /// The one for a knote with that filter.
    pub(crate) fn of(filter: Filter, body: &Body) -> Self {
        if body.flags & EV_ONESHOT != 0 {
            return FastPath::No;
        }
        let has_mark = body.fflags & NOTE_LOWAT != 0;
        match (filter, body.kind) {
            (Filter::User, _) => FastPath::User,
            (Filter::Read, FileKind::Pipe) if has_mark => FastPath::No,
            (Filter::Read, FileKind::Pipe) if body.flags & EV_CLEAR != 0 => FastPath::PipeEdge,
            (Filter::Read, FileKind::Pipe) => FastPath::Pipe,
            (Filter::Read, FileKind::Tcp) if !has_mark => FastPath::Tcp,
            (Filter::Read, FileKind::UnixStream) if !has_mark => FastPath::UnixStream,
            (Filter::Read, FileKind::Eventfd) if !has_mark => FastPath::Eventfd,
            (
                Filter::Read | Filter::Write,
                FileKind::Tcp
                | FileKind::UnixStream
                | FileKind::Pipe
                | FileKind::Eventfd
                | FileKind::Socket,
            )
            | (Filter::Read, FileKind::Timerfd | FileKind::Pidfd | FileKind::Kqueue) => {
                FastPath::ByCall
            }
            _ => FastPath::No,
        }
    }

    /// True if the knote is on no descriptor: the program's own event ([`FastPath::take_event`]).
    #[inline(always)]
    pub(crate) fn is_without_file(self) -> bool {
        self == FastPath::User
    }

    /// True if more may come without a wake-up once an event was reported and the knote stays enabled.
    #[inline(always)]
    pub(crate) fn needs_recheck(self) -> bool {
        self == FastPath::PipeEdge
    }

    /// Evaluates a knote on a descriptor without sleeping. The kqueue's spin lock is held.
    #[inline(always)]
    pub(crate) fn poll(self, knote: &Knote, body: &Body, file: &File) -> FastLook {
        match self {
            FastPath::UnixStream => FileKind::UnixStream.poll_fast(file, Direction::Read, true),
            FastPath::Tcp => FileKind::Tcp.poll_fast(file, Direction::Read, true),
            FastPath::Eventfd => FileKind::Eventfd.poll_fast(file, Direction::Read, true),
            FastPath::Pipe | FastPath::PipeEdge => {
                // Only a pipe that is reported needs the mark. To ask costs more than to store it.
                knote.pipe_mark().store(NOT_FULL, Ordering::Relaxed);
                poll_pipe_to_read(file)
            }
            FastPath::ByCall => poll_by_call(knote.filter(), body, file),
            FastPath::No | FastPath::User => FastLook::Unknown,
        }
    }

    /// The report of the program's own event, if it was triggered. It will be delivered, unless it is
    /// [undelivered](crate::engine::ops::FilterOps::undelivered).
    #[inline(always)]
    pub(crate) fn take_event(body: &mut Body) -> Option<Report> {
        let report = user::event(body)?;
        if body.flags & EV_CLEAR != 0 {
            user::clear(body);
        }
        Some(report)
    }

    /// The report of an end with so much left, if the file [has hung up](FastLook::HungUp) or not.
    #[inline(always)]
    pub(crate) fn end(filter: Filter, left: i64, hup: bool) -> Report {
        Report {
            flags: descriptor::end(filter, left) | if hup { EV_HUP } else { 0 },
            fflags: 0,
            data: left,
        }
    }

    /// True if the condition holds, false if it does not, as far as that can be told with a spin lock held
    /// and without a report.
    #[inline(always)]
    pub(crate) fn is_ready(self, filter: Filter, body: &Body, file: Option<&File>) -> Option<bool> {
        let look = match self {
            FastPath::User => return Some(user::event(body).is_some()),
            FastPath::UnixStream => FileKind::UnixStream.poll_fast(file?, Direction::Read, true),
            FastPath::Tcp => FileKind::Tcp.poll_fast(file?, Direction::Read, true),
            FastPath::Eventfd => FileKind::Eventfd.poll_fast(file?, Direction::Read, true),
            FastPath::Pipe => poll_pipe_to_read(file?),
            FastPath::ByCall => poll_by_call(filter, body, file?),
            FastPath::PipeEdge | FastPath::No => return None,
        };
        match look {
            FastLook::Ready(_) | FastLook::Ended(_) | FastLook::HungUp(_) => Some(true),
            FastLook::Nothing => Some(false),
            FastLook::Unknown => None,
        }
    }
}

/// The part of [`FastPath::poll`] for the readers of pipes. It is not inlined, since the readers of sockets and eventfds
/// need the registers.
#[inline(never)]
fn poll_pipe_to_read(file: &File) -> FastLook {
    FileKind::Pipe.poll_fast(file, Direction::Read, true)
}

/// The same for all that has no path of its own.
#[inline(never)]
fn poll_by_call(filter: Filter, body: &Body, file: &File) -> FastLook {
    if body.fflags & NOTE_LOWAT != 0 {
        return poll_for_mark(filter, body, file);
    }
    body.kind.poll_by_call(file, direction_of(filter))
}

/// The direction of a knote that is evaluated by a call.
#[inline(always)]
fn direction_of(filter: Filter) -> Direction {
    if filter == Filter::Write {
        Direction::Write
    } else {
        Direction::Read
    }
}

/// The same for a knote with a low-water mark.
#[inline(never)]
fn poll_for_mark(filter: Filter, body: &Body, file: &File) -> FastLook {
    match body.kind.poll_by_call(file, direction_of(filter)) {
        // A file does not tell of all the room that it comes to have.
        FastLook::Ready(data) if data < body.data && filter == Filter::Write => FastLook::Unknown,
        FastLook::Ready(data) if data < body.data => FastLook::Nothing,
        look => look,
    }
}
