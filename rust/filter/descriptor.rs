// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ`, `EVFILT_WRITE` and `EVFILT_EXCEPT`.
//!
//! # BSD says
//!
//! READ reports when there is something to read, `data` bytes of it; WRITE when there is room,
//! for `data` bytes. `EV_EOF` when the other side is gone, with the socket's error in `fflags`;
//! data may remain (else `EV_NODATA`). `NOTE_LOWAT` in `fflags` asks for at least `data` bytes.
//! EXCEPT with `NOTE_OOB` reports urgent data, with the bytes before it in `data`, 1 if there are
//! none; without, it is as READ.
//!
//! # Linux source
//!
//! `->poll`, and wake-ups from the wait queues that it names; for regular files, directories and
//! block devices an fsnotify mark and a probe of the offset. What each kind of file has to tell
//! is in [`super::file`].
//!
//! # Where we differ
//!
//! Whether a `EVFILT_WRITE` is ready is up to the file's own `->poll`, as for poll(2): a TCP
//! socket wants a third of its buffer free. EXCEPT takes any file that can be polled, and reports
//! `EPOLLPRI`; it reports `EV_EOF` too.

use super::{contents::Contents, Filter};
use crate::{
    engine::{
        close,
        knote::{Bodies, Body, Knote},
        knote_memory::Parts,
        kqueue::Kqueue,
        limit::{self, Charge, TimerPlace, User},
        nesting::Edge,
        ops::{Attach, Attached, FastLook, Report},
        pollwait::{self, Extra},
    },
    file::{Direction, FileKind},
    sys::{
        file::{
            chardev::object_of,
            contents,
            fdtable::CurrentTable,
            pipe::{Pipe, NOT_FULL},
            poll::{self, Events}, //
        },
        memory::{erased::Erased, scratch::Scratch},
        time::hrtimer::DelayedCall,
    },
    uapi::*, //
};
use core::sync::atomic::Ordering;
use kernel::{
    fs::File,
    prelude::*,
    sync::{aref::ARef, Arc},
};

/// What few descriptors need besides their knote.
#[derive(Default)]
pub(super) struct DescriptorSource {
    extra: Option<Extra>,
    contents: Option<Contents>,
    /// For a kqueue: that it is watched by ours.
    edge: Option<Edge>,
    /// For a low-water mark of a file that does not tell of all the room that it comes to have.
    retry: Option<(Pin<KBox<DelayedCall<Knote>>>, TimerPlace)>,
    charge: Option<Charge>,
}

impl DescriptorSource {
    fn is_needed(&self) -> bool {
        self.extra.is_some() || self.contents.is_some() || self.edge.is_some()
    }
}

/// `f_attach` of the three filters.
///
/// # Errors
///
/// `EINVAL` for a file that cannot be polled and is no regular one that has a place in a file system, and for writing
/// to a directory; `ENOSPC` if the user watches the file as often as they may; `EOPNOTSUPP` for all but reading of a kqueue, and for EXCEPT of a regular file;
/// `ELOOP` for a circle of kqueues; `ENOMEM`; `EBADF` if there is no file.
pub(super) fn attach(
    attach: Attach<'_>,
    direction: Direction,
    bodies: &mut Bodies,
) -> Result<Attached> {
    let Attach {
        knote, file, table, ..
    } = attach;
    let file = file.ok_or(EBADF)?;
    let kind = FileKind::of(&file);
    knote.body_mut(bodies).kind = kind;
    if matches!(kind, FileKind::Contents | FileKind::Kqueue) || !poll::is_pollable(&file) {
        return attach_other(knote, file, table, kind, direction, bodies);
    }
    close::bind(knote, file, table, bodies)?;
    if direction == Direction::Read && kind.is_stream() {
        pollwait::listen_to_stream(knote, bodies)?;
        let file = knote.file(bodies).ok_or(EBADF)?;
        return Ok(Attached {
            source: None,
            flags: 0,
            may_be_ready: !matches!(kind.poll_fast(file, direction, false), FastLook::Nothing),
        });
    }
    let (events, extra) = pollwait::listen(knote, bodies)?;
    let source = match extra {
        None => None,
        Some(extra) => {
            let rare = DescriptorSource {
                extra: Some(extra),
                ..DescriptorSource::default()
            };
            Some(keep(rare, knote.kqueue().user())?)
        }
    };
    Ok(Attached {
        source,
        flags: 0,
        may_be_ready: events.any(direction.wakes() | Events::PRI)
            || kind.is_more_than_polled(direction),
    })
}

/// To what is not only polled.
#[inline(never)]
fn attach_other(
    knote: &Knote,
    file: ARef<File>,
    table: CurrentTable,
    kind: FileKind,
    direction: Direction,
    bodies: &mut Bodies,
) -> Result<Attached> {
    let mut rare = DescriptorSource::default();
    match kind {
        FileKind::Contents => match direction {
            Direction::Read => rare.contents = Some(Contents::new(&file, knote)?),
            Direction::Write if contents::is_directory(&file) => return Err(EINVAL),
            Direction::Write => {}
            Direction::Except => return Err(EOPNOTSUPP),
        },
        FileKind::Kqueue => {}
        // `/dev/null` and its like are always ready, and so is what is made as it is read.
        _ if contents::is_character_device(&file) || contents::is_generated(&file) => {}
        _ => return Err(EINVAL),
    }
    close::bind(knote, file, table, bodies)?;
    if kind == FileKind::Kqueue {
        // Bound before there is an edge, and unbound after that is gone: see `Nesting::with_watchers`.
        let file = knote.file(bodies).ok_or(EINVAL)?;
        rare.edge = connect(file, direction, knote)?;
        rare.extra = pollwait::listen(knote, bodies)?.1;
    }
    Ok(Attached {
        source: rare
            .is_needed()
            .then(|| keep(rare, knote.kqueue().user()))
            .transpose()?,
        flags: 0,
        may_be_ready: true,
    })
}

#[cold]
fn keep(mut rare: DescriptorSource, user: &Arc<User>) -> Result<Erased> {
    /// In bytes, with what is behind it.
    const COST: usize = 2 * limit::UNIT;
    rare.charge = Some(Charge::new(user, COST)?);
    Erased::of(rare, GFP_KERNEL_ACCOUNT)
}

#[cold]
fn connect(file: &File, direction: Direction, knote: &Knote) -> Result<Option<Edge>> {
    let Some(kqueue) = object_of::<Kqueue>(file) else {
        return Ok(None);
    };
    if direction != Direction::Read {
        return Err(EOPNOTSUPP);
    }
    let watcher = knote.kqueue();
    let nesting = &watcher.shared().nesting;
    nesting.connect(watcher.into(), kqueue.into()).map(Some)
}

/// There is that much `room` in `file`, which is not the `mark`. Gives it if it is by now; if not, it
/// will be looked at again.
#[cold]
fn await_room(knote: &Knote, body: &mut Body, file: &File, room: i64, mark: i64) -> Option<i64> {
    /// Nanoseconds.
    const A_WHILE: i64 = 10_000_000;
    if let Some(room) = body.kind.want_room(file) {
        return (room >= mark).then_some(room);
    }
    // No memory, or too many timers: too early is better than never.
    let Some(retry) = retry_of(knote, body) else {
        return Some(room);
    };
    retry.after(A_WHILE);
    None
}

fn retry_of<'a>(knote: &Knote, body: &'a mut Body) -> Option<Pin<&'a DelayedCall<Knote>>> {
    let kqueue = knote.kqueue();
    if body.source.is_none() {
        body.source = Some(keep(DescriptorSource::default(), kqueue.user()).ok()?);
    }
    let rare = body
        .source
        .as_mut()?
        .as_mut::<DescriptorSource>()?
        .get_mut();
    if rare.retry.is_none() {
        let place = TimerPlace::new(kqueue.user()).ok()?;
        let retry = KBox::pin_init(DelayedCall::new(knote), GFP_KERNEL_ACCOUNT).ok()?;
        rare.retry = Some((retry, place));
    }
    rare.retry.as_ref().map(|(retry, _)| retry.as_ref())
}

/// True for a reader who may hear no more of a pipe until there is more: with `EV_CLEAR`, or below a low-water mark.
#[inline(always)]
pub(super) fn reads_pipe_in_parts(body: &Body) -> bool {
    body.kind == FileKind::Pipe && (body.flags & EV_CLEAR != 0 || body.fflags & NOTE_LOWAT != 0)
}

/// What a pipe has to tell such a reader.
#[inline(never)]
fn event_of_pipe(
    knote: &Knote,
    body: &mut Body,
    file: &File,
    direction: Direction,
    scratch: Scratch,
) -> Option<Report> {
    let pipe = Pipe::of(file);
    let mark = pipe.as_ref().map_or(NOT_FULL, |pipe| pipe.mark());
    knote.pipe_mark().store(mark, Ordering::Relaxed);
    let report = look(knote, body, file, direction, scratch);
    let waits = match &report {
        None => true,
        Some(report) => body.flags & EV_CLEAR != 0 && report.flags & EV_EOF == 0,
    };
    // What is written into an empty one is told.
    if waits && pipe.is_some_and(|pipe| !pipe.is_empty()) {
        knote.kqueue().recheck_later(knote);
    }
    report
}

/// `f_event` of the three filters.
#[inline(always)]
pub(super) fn event(parts: Parts<'_>, direction: Direction, scratch: Scratch) -> Option<Report> {
    let (knote, file) = (parts.knote(), parts.file?);
    let body = parts.body;
    if direction != Direction::Write && reads_pipe_in_parts(body) {
        return event_of_pipe(knote, body, file, direction, scratch);
    }
    match body.kind.poll_fast(file, direction, false) {
        FastLook::Nothing => None,
        FastLook::Ready(data) if body.fflags & NOTE_LOWAT == 0 => Some(Report {
            data,
            ..Report::default()
        }),
        _ => {
            // In parts, or all of them would be in memory.
            let Report {
                flags,
                fflags,
                data,
            } = look(knote, body, file, direction, scratch)?;
            Some(Report {
                flags,
                fflags,
                data,
            })
        }
    }
}

/// The flags that report an end with so much left.
pub(super) fn end(filter: Filter, left: i64) -> u16 {
    if left == 0 || filter == Filter::Write {
        EV_EOF | EV_NODATA
    } else {
        EV_EOF
    }
}

/// Looks closer.
#[inline(never)]
fn look(
    knote: &Knote,
    body: &mut Body,
    file: &File,
    direction: Direction,
    scratch: Scratch,
) -> Option<Report> {
    let (fflags, mark) = (body.fflags, body.data);
    if body.kind == FileKind::Contents {
        let rare = body
            .source
            .as_mut()
            .and_then(|source| source.as_mut::<DescriptorSource>());
        if let Some(contents) = rare.and_then(|rare| rare.get_mut().contents.as_mut()) {
            contents.look();
        }
    }
    let direction = match direction {
        Direction::Except if fflags & NOTE_OOB == 0 => Direction::Read,
        direction => direction,
    };
    let look = body.kind.look(file, direction, scratch)?;
    let mut report = Report {
        data: look.data,
        fflags: look.error,
        ..Report::default()
    };
    if look.eof {
        report.flags |= end(knote.filter(), look.data);
        if look.hup {
            report.flags |= EV_HUP;
        }
    } else if fflags & NOTE_LOWAT != 0 && look.data < mark && !look.more {
        match direction {
            Direction::Read => return None,
            Direction::Write => {
                report.data = await_room(knote, body, file, look.data, mark)?;
            }
            Direction::Except => {}
        }
    }
    if direction == Direction::Except && look.ready && look.error == 0 {
        report.fflags = NOTE_OOB;
    }
    Some(report)
}
