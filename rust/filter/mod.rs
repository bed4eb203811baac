// SPDX-License-Identifier: GPL-2.0

//! The filters: what each kind of event source means by "ready" and by `data`.
//!
//! Filters are policy; the mechanisms they hook into are in [`crate::hook`]. All
//! their operations run under the kqueue's mutex, in process context; [`poll_fast`] under the spin
//! lock as well.

mod contents;
mod descriptor;
mod hooks;
mod mounts;
mod process;
mod signal;
mod timer;
mod user;
mod vnode;

pub(crate) use crate::file::FileKind;
pub(crate) use descriptor::needs_recheck_of_pipe;
pub(crate) use hooks::{Hooks, UserMarks};

use crate::{
    engine::{
        knote::{Bodies, Body, Knote},
        knote_memory::Parts,
        ops::{Attach, Attached, FastLook, Report},
    },
    file::Direction,
    sys::{
        file::{pipe::NOT_FULL, poll::Events},
        memory::{erased::Erased, scratch::Scratch},
        notify::fsnotify::fs,
    },
    uapi::*, //
};
use core::sync::atomic::Ordering;
use kernel::{fs::File, prelude::*};
use mounts::Mounts;
use process::Process;
use signal::Signal;
use vnode::Vnode;

/// What fsnotify tells of a directory whose entries change.
const ENTRIES: u32 = fs::CREATE | fs::DELETE | fs::MOVED_FROM | fs::MOVED_TO;

/// A filter of the ABI (`EVFILT_*`), whose numbers are these.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Filter {
    Read = EVFILT_READ as i8,
    Write = EVFILT_WRITE as i8,
    Aio = EVFILT_AIO as i8,
    Vnode = EVFILT_VNODE as i8,
    Proc = EVFILT_PROC as i8,
    Signal = EVFILT_SIGNAL as i8,
    Timer = EVFILT_TIMER as i8,
    Except = EVFILT_EXCEPT as i8,
    User = EVFILT_USER as i8,
    Fs = EVFILT_FS as i8,
    Procdesc = EVFILT_PROCDESC as i8,
}

impl Filter {
    /// The filter of that number, if there is one.
    #[inline]
    pub(crate) fn from_raw(raw: i16) -> Option<Self> {
        Some(match raw {
            EVFILT_READ => Filter::Read,
            EVFILT_WRITE => Filter::Write,
            EVFILT_AIO => Filter::Aio,
            EVFILT_VNODE => Filter::Vnode,
            EVFILT_PROC => Filter::Proc,
            EVFILT_SIGNAL => Filter::Signal,
            EVFILT_TIMER => Filter::Timer,
            EVFILT_EXCEPT => Filter::Except,
            EVFILT_USER => Filter::User,
            EVFILT_FS => Filter::Fs,
            EVFILT_PROCDESC => Filter::Procdesc,
            _ => return None,
        })
    }

    /// The filter's number.
    #[inline]
    pub(crate) fn raw(self) -> i16 {
        i16::from(self as i8)
    }

    /// True when its ident is a descriptor (`FILTEROP_ISFD`).
    #[inline]
    pub(crate) fn is_descriptor(self) -> bool {
        matches!(
            self,
            Filter::Read | Filter::Write | Filter::Except | Filter::Vnode | Filter::Procdesc
        )
    }

    /// True when it takes a descriptor that was opened with `O_PATH`.
    pub(crate) fn takes_paths(self) -> bool {
        self == Filter::Vnode
    }

    /// What of a descriptor's file it wakes up for.
    #[inline]
    pub(crate) fn wakes(self) -> Events {
        match self {
            Filter::Read => Direction::Read.wakes(),
            Filter::Write => Direction::Write.wakes(),
            Filter::Except => Direction::Except.wakes(),
            _ => Events::NONE,
        }
    }

    /// True when it wants to be told that an event was reported ([`reported`]).
    #[inline]
    pub(crate) fn counts(self) -> bool {
        !matches!(self, Filter::Read | Filter::Write)
    }

    /// True when what it has to report outlives what the ident names: an exit.
    pub(crate) fn outlives_name(self) -> bool {
        self == Filter::Proc
    }
}

/// How a scan evaluates a knote with the spin lock held, if it can ([`poll_fast`]). A knote that ends with its report is
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
}

/// Checks that a filter can answer all that is asked of it. (A change may have all notes that are in an event, as programs
/// hand events in again. The filters for descriptors, signals and the program's own events take any `fflags`: these
/// select nothing, and in an event may be a socket's error.)
///
/// # Errors
///
/// `EINVAL` if the change has others than those `notes`.
fn check_notes(change: &Kevent, notes: u32) -> Result {
    if change.fflags & !notes != 0 {
        return Err(EINVAL);
    }
    Ok(())
}

/// `f_attach`. The knote may be activated before this returns.
///
/// # Errors
///
/// As each filter says.
pub(crate) fn attach(filter: Filter, attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
    match filter {
        Filter::Read => descriptor::attach(attach, Direction::Read, bodies),
        Filter::Write => descriptor::attach(attach, Direction::Write, bodies),
        Filter::Except => descriptor::attach(attach, Direction::Except, bodies),
        // The specification's has no AIO either.
        Filter::Aio => Err(ENXIO),
        Filter::Proc => Attached::new(keep(Process::attach(attach, bodies)), EV_CLEAR),
        Filter::Procdesc => {
            Attached::new(keep(Process::attach_descriptor(attach, bodies)), EV_CLEAR)
        }
        Filter::Signal => Attached::new(keep(Signal::attach(attach, bodies)), EV_CLEAR),
        Filter::Timer | Filter::User => attach_own(attach.knote, attach.change, bodies),
        Filter::Vnode => Attached::new(keep(Vnode::attach(attach, bodies)), 0),
        Filter::Fs => Attached::new(keep(Mounts::attach(attach)), EV_CLEAR),
    }
}

/// True if all that the filter watches is a part of the knote: a timer, the program's own event.
#[inline(always)]
pub(crate) fn is_own(filter: Filter) -> bool {
    matches!(filter, Filter::Timer | Filter::User)
}

/// [`attach`] for a knote whose filter watches [its own](is_own). (It needs less than the others.)
///
/// # Errors
///
/// `EINVAL`, as the timer's filter says.
#[inline(always)]
pub(crate) fn attach_own(knote: &Knote, change: &Kevent, bodies: &mut Bodies) -> Result<Attached> {
    let (flags, may_be_ready) = if knote.filter() == Filter::Timer {
        timer::attach(&mut knote.parts(bodies), change)?;
        (timer::flags(change), false)
    } else {
        user::touch(knote.body_mut(bodies), change, true);
        (0, change.fflags & NOTE_TRIGGER != 0)
    };
    Ok(Attached {
        source: None,
        flags,
        may_be_ready,
    })
}

#[inline]
fn keep<T: Send + Sync + 'static>(source: Result<T>) -> Result<Erased> {
    Erased::of(source?, GFP_KERNEL_ACCOUNT)
}

/// What the filter keeps, if it is of that type.
#[inline]
fn source<T: Unpin + 'static>(body: &mut Body) -> Option<&mut T> {
    Some(body.source.as_mut()?.as_mut::<T>()?.get_mut())
}

/// `f_touch`: the program changes the parameters of a live knote.
///
/// # Errors
///
/// `EINVAL` for a value that the filter does not take; nothing is changed then. `ENOENT` if the knote
/// has lost its source.
#[inline(always)]
pub(crate) fn touch(parts: &mut Parts<'_>, change: &Kevent) -> Result {
    let filter = parts.knote().filter();
    if is_plain(filter) {
        touch_plain(filter, parts.body, change);
        return Ok(());
    }
    touch_source(parts, change)?;
    let (fflags, data) = (parts.body.fflags, parts.body.data);
    take(parts.body, change);
    if filter == Filter::Timer && !timer::is_armed_by(change) {
        parts.body.fflags = fflags;
        parts.body.data = data;
    }
    Ok(())
}

/// True if a change makes a knote forget what has happened.
#[inline(always)]
pub(crate) fn starts_anew(filter: Filter, change: &Kevent) -> bool {
    filter == Filter::Timer && timer::is_armed_by(change)
}

/// True if the filter keeps nothing that a change is to be told to.
#[inline(always)]
pub(crate) fn is_plain(filter: Filter) -> bool {
    matches!(
        filter,
        Filter::Read | Filter::Write | Filter::Except | Filter::Signal | Filter::Aio | Filter::User
    )
}

/// [`touch`] for a filter that [is plain](is_plain); never sleeps.
#[inline(always)]
pub(crate) fn touch_plain(filter: Filter, body: &mut Body, change: &Kevent) {
    if filter == Filter::User {
        user::touch(body, change, false);
        take_udata(body, change);
    } else {
        take(body, change);
    }
}

/// Takes over what a change says.
#[inline(always)]
fn take(body: &mut Body, change: &Kevent) {
    body.fflags = change.fflags;
    body.data = change.data;
    take_udata(body, change);
}

#[inline(always)]
fn take_udata(body: &mut Body, change: &Kevent) {
    if !change.has(EV_KEEPUDATA) {
        body.udata = change.udata;
    }
}

/// Tells what the filter keeps.
#[inline(never)]
fn touch_source(parts: &mut Parts<'_>, change: &Kevent) -> Result {
    let (filter, file) = (parts.knote().filter(), parts.file);
    let body = &mut *parts.body;
    match filter {
        Filter::Fs => source::<Mounts>(body).ok_or(ENOENT)?.touch(change)?,
        Filter::Proc => source::<Process>(body)
            .ok_or(ENOENT)?
            .touch(change, process::NOTES)?,
        Filter::Procdesc => source::<Process>(body)
            .ok_or(ENOENT)?
            .touch(change, process::NOTES_OF_DESCRIPTORS)?,
        Filter::Timer => timer::touch(parts, change)?,
        Filter::Vnode => {
            let file = file.ok_or(ENOENT)?;
            source::<Vnode>(body).ok_or(ENOENT)?.touch(file, change)?;
        }
        _ => {}
    }
    Ok(())
}

/// The same as [`event`] for a knote on a descriptor, without sleeping, and with a spin lock held.
#[inline(always)]
pub(crate) fn poll_fast(fast_path: FastPath, knote: &Knote, body: &Body, file: &File) -> FastLook {
    match fast_path {
        FastPath::UnixStream => FileKind::UnixStream.poll_fast(file, Direction::Read, true),
        FastPath::Tcp => FileKind::Tcp.poll_fast(file, Direction::Read, true),
        FastPath::Eventfd => FileKind::Eventfd.poll_fast(file, Direction::Read, true),
        FastPath::Pipe | FastPath::PipeEdge => {
            // Only a pipe that is reported needs the mark. To ask costs more than to store it.
            knote.pipe_mark().store(NOT_FULL, Ordering::Relaxed);
            poll_pipe_to_read(file)
        }
        FastPath::ByCall => poll_fast_by_call(knote.filter(), body, file),
        FastPath::No | FastPath::User => FastLook::Unknown,
    }
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

/// The report of the program's own event, if it was triggered. It will reach the program, unless it is [`undelivered`].
#[inline(always)]
pub(crate) fn take_user_event(body: &mut Body) -> Option<Report> {
    let report = user::event(body)?;
    if body.flags & EV_CLEAR != 0 {
        user::clear(body);
    }
    Some(report)
}

/// The part of [`poll_fast`] for the readers of pipes. It is not inlined, since the readers of sockets and eventfds
/// need the registers.
#[inline(never)]
fn poll_pipe_to_read(file: &File) -> FastLook {
    FileKind::Pipe.poll_fast(file, Direction::Read, true)
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

/// The same for all that has no path of its own.
#[inline(never)]
fn poll_fast_by_call(filter: Filter, body: &Body, file: &File) -> FastLook {
    if body.fflags & NOTE_LOWAT != 0 {
        return poll_fast_for_mark(filter, body, file);
    }
    body.kind.poll_by_call(file, direction_of(filter))
}

/// The same for a knote with a low-water mark.
#[inline(never)]
fn poll_fast_for_mark(filter: Filter, body: &Body, file: &File) -> FastLook {
    match body.kind.poll_by_call(file, direction_of(filter)) {
        // A file does not tell of all the room that it comes to have.
        FastLook::Ready(data) if data < body.data && filter == Filter::Write => FastLook::Unknown,
        FastLook::Ready(data) if data < body.data => FastLook::Nothing,
        look => look,
    }
}

/// True if the condition holds, false if it does not, as far as that can be told with a spin lock held
/// and without a report.
#[inline(always)]
pub(crate) fn is_ready_at_once(
    fast_path: FastPath,
    filter: Filter,
    body: &Body,
    file: Option<&File>,
) -> Option<bool> {
    let look = match fast_path {
        FastPath::User => return Some(user::event(body).is_some()),
        FastPath::UnixStream => FileKind::UnixStream.poll_fast(file?, Direction::Read, true),
        FastPath::Tcp => FileKind::Tcp.poll_fast(file?, Direction::Read, true),
        FastPath::Eventfd => FileKind::Eventfd.poll_fast(file?, Direction::Read, true),
        FastPath::Pipe => poll_pipe_to_read(file?),
        FastPath::ByCall => poll_fast_by_call(filter, body, file?),
        FastPath::PipeEdge | FastPath::No => return None,
    };
    match look {
        FastLook::Ready(_) | FastLook::Ended(_) | FastLook::HungUp(_) => Some(true),
        FastLook::Nothing => Some(false),
        FastLook::Unknown => None,
    }
}

/// `event`, which was told at a glance, has not reached the program.
pub(crate) fn undelivered(filter: Filter, body: &mut Body, event: &Kevent) {
    if filter == Filter::User && event.has(EV_CLEAR) {
        user::restore(body, event);
    }
}

/// `f_event`: does the condition hold?
#[inline(always)]
pub(crate) fn event(parts: &mut Parts<'_>, scratch: Scratch) -> Option<Report> {
    match parts.knote().filter() {
        Filter::Read => {
            let (knote, file) = (parts.knote(), parts.file?);
            return descriptor::event(knote, parts.body, file, Direction::Read, scratch);
        }
        Filter::Timer => return timer::event(parts),
        Filter::User => return user::event(parts.body),
        _ => {}
    }
    let Report {
        flags,
        fflags,
        data,
    } = other_event(parts.knote(), parts.body, parts.file, scratch)?;
    Some(Report {
        flags,
        fflags,
        data,
    })
}

/// That of the filters that are less often asked.
#[inline(never)]
fn other_event(
    knote: &Knote,
    body: &mut Body,
    file: Option<&File>,
    scratch: Scratch,
) -> Option<Report> {
    let direction = match knote.filter() {
        Filter::Read => Direction::Read,
        Filter::Write => Direction::Write,
        Filter::Except => Direction::Except,
        Filter::Signal => return source::<Signal>(body)?.event(),
        Filter::Proc | Filter::Procdesc => return source::<Process>(body)?.event(),
        Filter::Vnode => return source::<Vnode>(body)?.event(file?),
        Filter::Fs => return source::<Mounts>(body)?.event(),
        Filter::User | Filter::Timer | Filter::Aio => return None,
    };
    descriptor::event(knote, body, file?, direction, scratch)
}

/// `event` has reached the program. True if there is another one to report already.
#[inline]
pub(crate) fn reported(parts: &mut Parts<'_>, event: &Kevent) -> bool {
    let filter = parts.knote().filter();
    let body = &mut *parts.body;
    match filter {
        Filter::Read | Filter::Write | Filter::Except | Filter::Aio => {}
        Filter::User => {
            if event.has(EV_CLEAR) {
                user::clear(body);
            }
        }
        Filter::Timer => timer::reported(parts, event),
        Filter::Signal => {
            if let Some(signal) = source::<Signal>(body) {
                signal.reported();
            }
        }
        Filter::Proc | Filter::Procdesc => {
            if let Some(process) = source::<Process>(body) {
                return process.reported();
            }
        }
        Filter::Vnode => {
            if let Some(vnode) = source::<Vnode>(body) {
                vnode.reported(event.has(EV_CLEAR));
            }
        }
        Filter::Fs => {
            if let Some(mounts) = source::<Mounts>(body) {
                mounts.reported();
            }
        }
    }
    false
}

/// True when `ident`, which is no descriptor, still names what the knote is about, and not something
/// else by now.
#[inline]
pub(crate) fn is_named(filter: Filter, body: &Body, ident: u64) -> bool {
    match (filter, &body.source) {
        (Filter::Proc, Some(source)) => source
            .as_ref::<Process>()
            .is_some_and(|process| process.has_number(ident)),
        _ => true,
    }
}
