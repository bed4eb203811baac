// SPDX-License-Identifier: GPL-2.0

//! Evaluation of a knote under the spin lock of its kqueue, where that is possible.
//!
//! A byte in each knote selects the method, so that a scan needs to examine neither the filter nor
//! the kind of file. The result is that of
//! [`FilterOps::event`](crate::engine::filter_ops::FilterOps::event), or [`FastPoll::Unknown`].

use super::{descriptor, user, Filter};
use crate::{
    engine::{
        filter_ops::Report, //
        knote::{Knote, KnoteInner},
    },
    file::{Direction, FileKind},
    sys::file::{
        pipe::NOT_FULL,
        poll::FastPoll, //
    },
    uapi::*, //
};
use core::sync::atomic::Ordering;
use kernel::fs::File;

/// The method by which a scan evaluates a knote under the spin lock ([`FastPath::poll`]).
///
/// These knotes have no such method:
///
/// - one-shot knotes of user events, and of files that [cannot be
///   renewed](FileKind::can_be_renewed). They are removed with their event.
/// - readers of a pipe with `EV_CLEAR` and a low-water mark, because they may have to be rechecked.
/// - knotes with a low-water mark whose file is not counted, because such a file reaches any mark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FastPath {
    Unsupported,
    User,
    Eventfd,
    Tcp,
    UnixStream,
    Pipe,
    /// A pipe whose reader has `EV_CLEAR`.
    PipeEdge,
    /// A function is called, which examines the kind of file. This is the method for all writers,
    /// for readers with a low-water mark, and for sockets that are not streams.
    ByCall,
}

/// The methods for `EVFILT_READ` without `NOTE_LOWAT`, `EV_CLEAR` and `EV_ONESHOT`, by the kind of
/// file.
const TO_READ: [FastPath; FileKind::COUNT] = {
    let mut methods = [FastPath::Unsupported; FileKind::COUNT];
    methods[FileKind::Tcp.index()] = FastPath::Tcp;
    methods[FileKind::UnixStream.index()] = FastPath::UnixStream;
    methods[FileKind::Pipe.index()] = FastPath::Pipe;
    methods[FileKind::Eventfd.index()] = FastPath::Eventfd;
    methods[FileKind::Udp.index()] = FastPath::ByCall;
    methods[FileKind::UnixMessages.index()] = FastPath::ByCall;
    methods[FileKind::Messages.index()] = FastPath::ByCall;
    methods[FileKind::Timerfd.index()] = FastPath::ByCall;
    methods[FileKind::Pidfd.index()] = FastPath::ByCall;
    methods[FileKind::Signalfd.index()] = FastPath::ByCall;
    methods[FileKind::Inotify.index()] = FastPath::ByCall;
    methods[FileKind::Regular.index()] = FastPath::ByCall;
    methods[FileKind::Kqueue.index()] = FastPath::ByCall;
    methods[FileKind::AlwaysReady.index()] = FastPath::ByCall;
    methods
};

/// The methods for `EVFILT_WRITE`.
const TO_WRITE: [FastPath; FileKind::COUNT] = {
    let mut methods = [FastPath::Unsupported; FileKind::COUNT];
    methods[FileKind::Tcp.index()] = FastPath::ByCall;
    methods[FileKind::UnixStream.index()] = FastPath::ByCall;
    methods[FileKind::Pipe.index()] = FastPath::ByCall;
    methods[FileKind::Eventfd.index()] = FastPath::ByCall;
    methods[FileKind::Udp.index()] = FastPath::ByCall;
    methods[FileKind::UnixMessages.index()] = FastPath::ByCall;
    methods[FileKind::Messages.index()] = FastPath::ByCall;
    methods[FileKind::Timerfd.index()] = FastPath::ByCall;
    methods[FileKind::Pidfd.index()] = FastPath::ByCall;
    methods[FileKind::Signalfd.index()] = FastPath::ByCall;
    methods[FileKind::Inotify.index()] = FastPath::ByCall;
    methods[FileKind::Regular.index()] = FastPath::ByCall;
    methods[FileKind::AlwaysReady.index()] = FastPath::ByCall;
    methods
};

impl FastPath {
    /// The method for `EVFILT_READ`.
    #[inline]
    pub(super) fn to_read(inner: &KnoteInner) -> Self {
        let method = TO_READ[inner.kind.index()];
        let is_oneshot = inner.flags & EV_ONESHOT != 0;
        let is_edge = inner.flags & EV_CLEAR != 0 && !is_oneshot;
        if inner.fflags & NOTE_LOWAT != 0 {
            return match inner.kind {
                kind if kind.is_uncounted() => FastPath::Unsupported,
                FileKind::Pipe if is_edge => FastPath::Unsupported,
                kind if is_oneshot && !kind.can_be_renewed() => FastPath::Unsupported,
                _ if method == FastPath::Unsupported => FastPath::Unsupported,
                _ => FastPath::ByCall,
            };
        }
        match method {
            FastPath::Pipe if is_edge => FastPath::PipeEdge,
            FastPath::ByCall if is_oneshot && !inner.kind.can_be_renewed() => FastPath::Unsupported,
            method => method,
        }
    }

    /// The method for `EVFILT_WRITE`.
    #[inline]
    pub(super) fn to_write(inner: &KnoteInner) -> Self {
        if inner.kind == FileKind::AlwaysReady && inner.fflags & NOTE_LOWAT != 0 {
            return FastPath::Unsupported;
        }
        TO_WRITE[inner.kind.index()]
    }

    /// True if the knote has no descriptor, that is, for `EVFILT_USER` ([`FastPath::take_event`]).
    #[inline(always)]
    pub(crate) fn is_without_file(self) -> bool {
        self == FastPath::User
    }

    /// True if the source may become ready without a wake-up after an event was reported, while the
    /// knote stays enabled.
    #[inline(always)]
    pub(crate) fn needs_recheck(self) -> bool {
        self == FastPath::PipeEdge
    }

    /// True if [`FastPath::is_ready`] may return a result.
    #[inline(always)]
    pub(crate) fn determines_readiness(self) -> bool {
        !matches!(self, FastPath::Unsupported | FastPath::PipeEdge)
    }

    /// Evaluates a knote of a descriptor without sleeping. The caller holds the spin lock of the
    /// kqueue.
    #[inline(always)]
    pub(crate) fn poll(self, knote: &Knote, inner: &KnoteInner, file: &File) -> FastPoll {
        match self {
            FastPath::UnixStream => FileKind::UnixStream.poll_fast(file, Direction::Read, true),
            FastPath::Tcp => FileKind::Tcp.poll_fast(file, Direction::Read, true),
            FastPath::Eventfd => FileKind::Eventfd.poll_fast(file, Direction::Read, true),
            FastPath::Pipe | FastPath::PipeEdge => {
                // The mark is needed only if the event is reported. Testing for that costs more
                // than storing the mark.
                if let Some(position) = knote.pipe_position() {
                    position.store(NOT_FULL, Ordering::Relaxed);
                }
                poll_pipe_to_read(file)
            }
            FastPath::ByCall => poll_by_call(knote.filter(), inner, file),
            FastPath::Unsupported | FastPath::User => FastPoll::Unknown,
        }
    }

    /// The report of `EVFILT_USER`, if it was triggered. With `EV_CLEAR` the trigger is reset. If
    /// the event is not delivered,
    /// [`undelivered`](crate::engine::filter_ops::FilterOps::undelivered) restores it.
    #[inline(always)]
    pub(crate) fn take_event(inner: &mut KnoteInner) -> Option<Report> {
        let report = user::event(inner)?;
        if inner.flags & EV_CLEAR != 0 {
            user::clear(inner);
        }
        Some(report)
    }

    /// The report of the end of a file with `left` bytes remaining. `hup` tells whether the file
    /// [has hung up](FastPoll::HungUp).
    #[inline(always)]
    pub(crate) fn eof_report(filter: Filter, left: i64, hup: bool) -> Report {
        Report {
            flags: descriptor::eof_flags(filter, left) | if hup { EV_HUP } else { 0 },
            fflags: 0,
            data: left,
        }
    }

    /// The report of a knote whose file [has an error](FastPoll::Failed). `None` if the filter has
    /// to run.
    #[cold]
    pub(crate) fn failure_report(
        filter: Filter,
        inner: &KnoteInner,
        file: &File,
    ) -> Option<Report> {
        let state = inner.kind.failure(file, direction_of(filter))?;
        Some(Report {
            fflags: state.error,
            ..if state.eof {
                Self::eof_report(filter, state.data, state.hup)
            } else {
                Report::of(state.data)
            }
        })
    }

    /// Whether the condition holds. `None` if that cannot be determined under the spin lock, or
    /// requires a report.
    #[inline(always)]
    pub(crate) fn is_ready(
        self,
        filter: Filter,
        inner: &KnoteInner,
        file: Option<&File>,
    ) -> Option<bool> {
        let state = match self {
            FastPath::User => return Some(user::event(inner).is_some()),
            FastPath::UnixStream => FileKind::UnixStream.poll_fast(file?, Direction::Read, true),
            FastPath::Tcp => FileKind::Tcp.poll_fast(file?, Direction::Read, true),
            FastPath::Eventfd => FileKind::Eventfd.poll_fast(file?, Direction::Read, true),
            FastPath::Pipe => poll_pipe_to_read(file?),
            FastPath::ByCall => poll_by_call(filter, inner, file?),
            FastPath::PipeEdge | FastPath::Unsupported => return None,
        };
        match state {
            FastPoll::Ready(_) | FastPoll::Ended(_) | FastPoll::HungUp(_) | FastPoll::Failed => {
                Some(true)
            }
            FastPoll::NotReady => Some(false),
            FastPoll::Unknown => None,
        }
    }
}

/// The part of [`FastPath::poll`] for readers of pipes. It is not inlined, because the parts for
/// sockets and eventfds need the registers.
#[inline(never)]
fn poll_pipe_to_read(file: &File) -> FastPoll {
    FileKind::Pipe.poll_fast(file, Direction::Read, true)
}

/// The part of [`FastPath::poll`] for the kinds without a variant of their own.
#[inline(never)]
fn poll_by_call(filter: Filter, inner: &KnoteInner, file: &File) -> FastPoll {
    if inner.fflags & NOTE_LOWAT != 0 {
        return poll_low_water(filter, inner, file);
    }
    poll_kind(filter, inner, file)
}

/// Evaluates a knote without regard to its low-water mark.
#[inline(always)]
fn poll_kind(filter: Filter, inner: &KnoteInner, file: &File) -> FastPoll {
    if inner.kind == FileKind::Regular && filter == Filter::Read {
        return descriptor::poll_contents(inner);
    }
    inner.kind.poll_by_call(file, direction_of(filter))
}

/// The direction of a knote with [`FastPath::ByCall`].
#[inline(always)]
fn direction_of(filter: Filter) -> Direction {
    if filter == Filter::Write {
        Direction::Write
    } else {
        Direction::Read
    }
}

/// The part of [`poll_by_call`] for knotes with a low-water mark.
#[inline(never)]
fn poll_low_water(filter: Filter, inner: &KnoteInner, file: &File) -> FastPoll {
    match poll_kind(filter, inner, file) {
        // A file does not wake its pollers for each increase of the room, and a pipe does not for
        // each increase of its bytes. The filter arranges for another evaluation.
        FastPoll::Ready(data)
            if data < inner.data && (filter == Filter::Write || inner.kind == FileKind::Pipe) =>
        {
            FastPoll::Unknown
        }
        FastPoll::Ready(data) if data < inner.data => FastPoll::NotReady,
        state => state,
    }
}
