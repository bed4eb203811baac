// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ`, `EVFILT_WRITE` and `EVFILT_EXCEPT`.
//!
//! # BSD says
//!
//! `EVFILT_READ` reports that a descriptor is readable, and `data` is the number of bytes.
//! `EVFILT_WRITE` reports that a descriptor is writable, and `data` is the room in bytes. `EV_EOF`
//! is set when the other side is gone, and then `fflags` is the error of the socket. Data may
//! remain; if none remain, `EV_NODATA` is set. `NOTE_LOWAT` in `fflags` of the change sets a
//! low-water mark of `data` bytes. `EVFILT_EXCEPT` with `NOTE_OOB` reports urgent data. Its `data`
//! is the number of bytes before the urgent data, or 1 if there are none. Without `NOTE_OOB` it is
//! the same as `EVFILT_READ`.
//!
//! # Linux source
//!
//! The sources are `->poll` and the wake-ups of the wait queues that `->poll` registers. For
//! regular files, directories and block devices they are an fsnotify mark and a probe of the
//! offset. [`crate::file`] describes the state of each kind of file.
//!
//! # Where we differ
//!
//! The file's own `->poll` decides whether `EVFILT_WRITE` is ready, as for poll(2). A TCP socket,
//! for instance, is writable when a third of its buffer is free. `EVFILT_EXCEPT` takes any file
//! that can be polled, and reports `EPOLLPRI`. It reports `EV_EOF` too.

use super::{offset_watch::OffsetWatch, Filter};
use crate::{
    engine::{
        close,
        filter_ops::{AttachArgs, Attached, Readiness, Report},
        knote::{Knote, KnoteInner, LockedKnote, UnderMutex},
        knote_limit::{self, Charge, TimerCharge, User},
        kqueue::Kqueue,
        nesting::Edge,
        wait_entries::{self, ExtraEntries},
    },
    file::{Direction, FileKind, FileState},
    sys::{
        file::{
            chardev::object_of,
            fdtable::CurrentFdTable,
            file_type,
            pipe::{Pipe, NOT_FULL},
            poll::{self, FastPoll, PollEvents},
            signalfd, //
        },
        memory::{erased_box::ErasedBox, user_scratch::UserScratch},
        time::hrtimer::DelayedCall,
    },
    uapi::*, //
};
use core::sync::atomic::Ordering;
use kernel::{fs::File, prelude::*, sync::Arc};

/// The state that only a few kinds of descriptors need besides their knote.
pub(super) struct DescriptorAttachment {
    extra: Option<ExtraEntries>,
    offset: Option<KBox<OffsetWatch>>,
    /// The edge between the kqueue of the knote and a kqueue that it watches.
    _edge: Option<Edge>,
    /// The timer for a low-water mark of a file that does not wake its pollers for each increase of
    /// the room.
    retry: Option<(Pin<KBox<DelayedCall<Knote>>>, TimerCharge)>,
    _charge: Charge,
}

/// The sources of a knote that are in its [`DescriptorAttachment`].
#[derive(Default)]
struct Sources {
    extra: Option<ExtraEntries>,
    offset: Option<KBox<OffsetWatch>>,
    edge: Option<Edge>,
}

/// `f_attach` of the three filters.
///
/// # Errors
///
/// `EINVAL` for writing to a directory, and for a file that can neither be polled nor is a regular
/// file in a visible file system; `ENOSPC` if the user has as many watches of the file as the limit
/// allows; `EOPNOTSUPP` for `EVFILT_EXCEPT` of a regular file, and for a kqueue with any filter but
/// `EVFILT_READ`; `ELOOP` for a cycle of kqueues; `ENOMEM`; `EBADF` if there is no file.
pub(super) fn attach(
    args: AttachArgs<'_>,
    direction: Direction,
    under_mutex: &mut UnderMutex,
) -> Result<Attached> {
    let AttachArgs {
        knote,
        file,
        primary,
        fd_table,
        ..
    } = args;
    if let Some(primary) = primary {
        return attach_secondary(knote, primary, fd_table, direction, under_mutex);
    }
    let file = file.ok_or(EBADF)?;
    let kind = FileKind::of(&file);
    knote.inner_mut(under_mutex).kind = kind;
    let has_poll =
        kind != FileKind::Regular && kind != FileKind::Kqueue && poll::is_pollable(&file);
    if !has_poll {
        // A binding makes each close of the process look for knotes.
        check_direction(&file, kind, direction)?;
    }
    close::bind(knote, file, fd_table, under_mutex)?;
    if !has_poll {
        return attach_other(knote, kind, direction, under_mutex);
    }
    if direction != Direction::Except && kind.polls_socket_queue() {
        wait_entries::add_to_socket_queue(knote, under_mutex)?;
        return attached_to_socket(knote, kind, direction, under_mutex);
    }
    attach_by_poll(knote, kind, (None, None), direction, under_mutex)
}

/// [`attach`] for the secondary of `primary`.
#[inline(never)]
fn attach_secondary(
    knote: &Knote,
    primary: &Knote,
    fd_table: CurrentFdTable,
    direction: Direction,
    under_mutex: &mut UnderMutex,
) -> Result<Attached> {
    if !close::share_binding(knote, primary, fd_table, under_mutex) {
        return Err(EBADF);
    }
    let kind = primary.inner(under_mutex).kind;
    knote.inner_mut(under_mutex).kind = kind;
    let file = knote.file(under_mutex).ok_or(EBADF)?;
    if kind.polls_socket_queue() && wait_entries::share_socket_queue(primary, under_mutex) {
        return attached_to_socket(knote, kind, direction, under_mutex);
    }
    if kind == FileKind::Regular || !poll::is_pollable(file) {
        check_direction(file, kind, direction)?;
        return attach_other(knote, kind, direction, under_mutex);
    }
    let known = primary.inner(under_mutex).attachment.as_ref();
    let known = known.and_then(|known| known.as_ref::<DescriptorAttachment>());
    let known = known.and_then(|known| known.get_ref().extra.as_ref());
    attach_by_poll(knote, kind, (Some(primary), known), direction, under_mutex)
}

/// The result of attaching a knote to a socket whose pollers are all in one wait queue.
#[inline(always)]
fn attached_to_socket(
    knote: &Knote,
    kind: FileKind,
    direction: Direction,
    under_mutex: &mut UnderMutex,
) -> Result<Attached> {
    // The compiler makes a copy of the function for each direction.
    let readiness = match direction {
        Direction::Write => socket_readiness(knote, kind, Direction::Write, under_mutex)?,
        _ => socket_readiness(knote, kind, Direction::Read, under_mutex)?,
    };
    Ok(Attached {
        attachment: None,
        flags: 0,
        readiness,
    })
}

/// Attaches a knote to the wait queues that `->poll` names. `shared` is what a secondary shares
/// with its primary.
#[inline(never)]
fn attach_by_poll(
    knote: &Knote,
    kind: FileKind,
    shared: (Option<&Knote>, Option<&ExtraEntries>),
    direction: Direction,
    under_mutex: &UnderMutex,
) -> Result<Attached> {
    let (events, extra) = wait_entries::add_to_wait_queues(knote, shared, under_mutex)?;
    let attachment = match extra {
        None => None,
        extra => {
            let sources = Sources {
                extra,
                ..Sources::default()
            };
            Some(new_attachment(sources, knote.kqueue().user())?)
        }
    };
    Ok(Attached {
        attachment,
        flags: 0,
        readiness: Readiness::maybe_if(
            events.any(direction.wake_events() | PollEvents::PRI)
                || kind.has_unpolled_state(direction),
        ),
    })
}

/// Whether a new knote of a socket whose pollers are all in one wait queue is ready. `->poll` is
/// not called for this. When the filter finds that the socket has no room, it requests the wake-up
/// for more room, as `->poll` would have done.
#[inline(always)]
fn socket_readiness(
    knote: &Knote,
    kind: FileKind,
    direction: Direction,
    under_mutex: &mut UnderMutex,
) -> Result<Readiness> {
    let has_mark = knote.inner(under_mutex).fflags & NOTE_LOWAT != 0;
    let file = knote.file(under_mutex).ok_or(EBADF)?;
    Ok(match kind.poll_fast(file, direction, false) {
        FastPoll::Ready(_) if !has_mark => Readiness::Yes,
        FastPoll::NotReady => Readiness::No,
        _ => Readiness::Maybe,
    })
}

/// Checks that a file that has other sources than `->poll` can be watched in a direction.
///
/// # Errors
///
/// `EINVAL` and `EOPNOTSUPP`, as for [`attach`].
#[inline(never)]
fn check_direction(file: &File, kind: FileKind, direction: Direction) -> Result {
    match (kind, direction) {
        (FileKind::Regular, Direction::Write) if file_type::is_directory(file) => Err(EINVAL),
        (FileKind::Regular, Direction::Except) => Err(EOPNOTSUPP),
        (FileKind::Kqueue, Direction::Write | Direction::Except) => Err(EOPNOTSUPP),
        (FileKind::Regular | FileKind::Kqueue, _) => Ok(()),
        // Character devices such as `/dev/null`, and files that are generated when they are read,
        // are always ready.
        _ if file_type::is_character_device(file) || file_type::is_generated(file) => Ok(()),
        _ => Err(EINVAL),
    }
}

/// Attaches a knote to a file that has other sources than `->poll`, in a direction that was
/// [checked](check_direction).
#[inline(never)]
fn attach_other(
    knote: &Knote,
    kind: FileKind,
    direction: Direction,
    under_mutex: &mut UnderMutex,
) -> Result<Attached> {
    let file = knote.file(under_mutex).ok_or(EBADF)?;
    let mut sources = Sources::default();
    match kind {
        FileKind::Regular if direction == Direction::Read => {
            let watch = OffsetWatch::new(file, knote)?;
            sources.offset = Some(KBox::new(watch, GFP_KERNEL_ACCOUNT)?);
        }
        // The knote is bound before the edge exists, and unbound after the edge is gone. See
        // `Nesting::with_watchers`.
        FileKind::Kqueue => {
            sources.edge = connect_edge(file, knote)?;
            let own = (None, None);
            sources.extra = wait_entries::add_to_wait_queues(knote, own, under_mutex)?.1;
        }
        // These are always ready.
        _ => {}
    }
    Ok(Attached {
        attachment: match &sources {
            Sources {
                extra: None,
                offset: None,
                edge: None,
            } => None,
            _ => Some(new_attachment(sources, knote.kqueue().user())?),
        },
        flags: 0,
        readiness: Readiness::Maybe,
    })
}

/// Allocates an attachment and charges its memory. The attachment is built in its place, because it
/// is large.
#[inline(never)]
fn new_attachment(sources: Sources, user: &Arc<User>) -> Result<ErasedBox> {
    /// The size of this state in bytes, including the memory that it refers to.
    const COST: usize = 2 * knote_limit::UNIT;
    let charge = Charge::new(user, COST)?;
    let Sources {
        extra,
        offset,
        edge,
    } = sources;
    ErasedBox::new(
        init!(DescriptorAttachment {
            extra,
            offset,
            _edge: edge,
            retry: None,
            _charge: charge,
        }),
        GFP_KERNEL_ACCOUNT,
    )
}

#[cold]
fn connect_edge(file: &File, knote: &Knote) -> Result<Option<Edge>> {
    let Some(kqueue) = object_of::<Kqueue>(file) else {
        return Ok(None);
    };
    let watcher = knote.kqueue();
    let nesting = &watcher.shared().nesting;
    nesting.connect(watcher.into(), kqueue.into()).map(Some)
}

/// Handles a low-water mark that is not reached: `file` has `room` bytes of room, and `mark` are
/// requested. Returns the room if it has reached the mark meanwhile. Otherwise the file wakes the
/// knote when it has more room, or a timer activates the knote.
#[cold]
fn await_room(
    knote: &Knote,
    inner: &mut KnoteInner,
    file: &File,
    room: i64,
    mark: i64,
) -> Option<i64> {
    /// The time in nanoseconds until the timer activates the knote.
    const RETRY_NANOS: i64 = 10_000_000;
    if let Some(room) = inner.kind.request_room_wakeup(file) {
        return (room >= mark).then_some(room);
    }
    // Without memory or without a place for a timer, an early event is better than none.
    let Some(retry) = retry_timer(knote, inner) else {
        return Some(room);
    };
    retry.after(RETRY_NANOS);
    None
}

fn retry_timer<'a>(
    knote: &Knote,
    inner: &'a mut KnoteInner,
) -> Option<Pin<&'a DelayedCall<Knote>>> {
    let kqueue = knote.kqueue();
    if inner.attachment.is_none() {
        inner.attachment = Some(new_attachment(Sources::default(), kqueue.user()).ok()?);
    }
    let attachment = inner
        .attachment
        .as_mut()?
        .as_mut::<DescriptorAttachment>()?
        .get_mut();
    if attachment.retry.is_none() {
        let charge = TimerCharge::new(kqueue.user()).ok()?;
        let retry = KBox::pin_init(DelayedCall::new(knote), GFP_KERNEL_ACCOUNT).ok()?;
        attachment.retry = Some((retry, charge));
    }
    attachment.retry.as_ref().map(|(retry, _)| retry.as_ref())
}

/// True for a reader that waits for more bytes although the pipe may not be empty: one with
/// `EV_CLEAR` or with a low-water mark. A pipe may not wake such a reader.
#[inline(always)]
pub(super) fn needs_pipe_recheck(inner: &KnoteInner) -> bool {
    inner.kind == FileKind::Pipe && (inner.flags & EV_CLEAR != 0 || inner.fflags & NOTE_LOWAT != 0)
}

/// Evaluates a knote for which [`needs_pipe_recheck`] is true.
#[inline(never)]
fn evaluate_pipe(
    knote: &Knote,
    inner: &mut KnoteInner,
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<Report> {
    let pipe = Pipe::of(file);
    let position = pipe.as_ref().map_or(NOT_FULL, |pipe| pipe.full_position());
    if let Some(stored) = knote.pipe_position() {
        stored.store(position, Ordering::Relaxed);
    }
    let report = evaluate_slow(knote, inner, file, direction, scratch);
    let waits = match &report {
        None => true,
        Some(report) => inner.flags & EV_CLEAR != 0 && report.flags & EV_EOF == 0,
    };
    // A write to an empty pipe wakes the reader.
    if waits && pipe.is_some_and(|pipe| !pipe.is_empty()) {
        knote.kqueue().schedule_recheck(knote);
    }
    report
}

/// True if the source of a spent knote still wakes it. (A secondary is woken by its primary, and
/// only files whose wait queues stay the same have pairs.)
#[inline(always)]
pub(super) fn is_renewable(locked: &LockedKnote<'_>) -> bool {
    let (kind, knote) = (locked.inner.kind, locked.knote());
    match kind {
        // A signalfd is polled on a wait queue of the task that polls it, which may end before the
        // signalfd does.
        FileKind::Signalfd => knote
            .wait_entry()
            .is_some_and(|entry| entry.is_in(signalfd::wait_queue())),
        // A terminal is polled by its line discipline, which can be replaced.
        FileKind::Terminal => knote.wait_entry().is_none_or(|entry| entry.is_linked()),
        _ => kind.can_be_renewed() || kind == FileKind::Regular,
    }
}

/// `f_event` of the three filters.
#[inline(always)]
pub(super) fn event(
    locked: LockedKnote<'_>,
    direction: Direction,
    scratch: UserScratch,
) -> Option<Report> {
    let (knote, file) = (locked.knote(), locked.file?);
    let inner = locked.inner;
    if direction != Direction::Write && needs_pipe_recheck(inner) {
        return evaluate_pipe(knote, inner, file, direction, scratch);
    }
    if inner.kind.is_only_polled() && direction != Direction::Except {
        let state = inner.kind.evaluate_by_poll(file, direction, scratch)?;
        let data = if inner.fflags & NOTE_LOWAT == 0 || state.reaches(inner.data) {
            state.data
        } else if direction == Direction::Read {
            return None;
        } else {
            await_room(knote, inner, file, state.data, inner.data)?
        };
        return Some(Report {
            flags: eof_flags_of(knote.filter(), &state),
            fflags: 0,
            data,
        });
    }
    match inner.kind.poll_fast(file, direction, false) {
        FastPoll::NotReady => None,
        FastPoll::Ready(data) if inner.fflags & NOTE_LOWAT == 0 => Some(Report {
            data,
            ..Report::default()
        }),
        _ => {
            // The fields are copied one by one, because the compiler would otherwise keep all
            // reports in memory.
            let Report {
                flags,
                fflags,
                data,
            } = evaluate_slow(knote, inner, file, direction, scratch)?;
            Some(Report {
                flags,
                fflags,
                data,
            })
        }
    }
}

/// The flags that report the end of a file with `left` bytes remaining.
pub(super) fn eof_flags(filter: Filter, left: i64) -> u16 {
    if left == 0 || filter == Filter::Write {
        EV_EOF | EV_NODATA
    } else {
        EV_EOF
    }
}

/// The flags that report the end of a file, if the file is at its end.
#[inline(always)]
fn eof_flags_of(filter: Filter, state: &FileState) -> u16 {
    match state {
        FileState { eof: false, .. } => 0,
        FileState { hup: false, .. } => eof_flags(filter, state.data),
        FileState { .. } => eof_flags(filter, state.data) | EV_HUP,
    }
}

/// Evaluates a reader of a file with contents under the spin lock of its kqueue.
#[inline(never)]
pub(super) fn poll_contents(inner: &KnoteInner) -> FastPoll {
    let attachment = inner
        .attachment
        .as_ref()
        .and_then(|attachment| attachment.as_ref::<DescriptorAttachment>());
    match attachment.and_then(|attachment| attachment.get_ref().offset.as_ref()) {
        Some(offset) => {
            let distance = offset.record_state();
            FastPoll::ready_if(distance != 0, || distance)
        }
        None => FastPoll::Unknown,
    }
}

/// Evaluates a knote whose state [`FileKind::poll_fast`] does not determine, or which has a
/// low-water mark.
#[inline(never)]
fn evaluate_slow(
    knote: &Knote,
    inner: &mut KnoteInner,
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<Report> {
    let (fflags, mark) = (inner.fflags, inner.data);
    if inner.kind == FileKind::Regular {
        let attachment = inner
            .attachment
            .as_mut()
            .and_then(|attachment| attachment.as_mut::<DescriptorAttachment>());
        if let Some(offset) = attachment.and_then(|attachment| attachment.get_mut().offset.as_mut())
        {
            offset.record_state();
        }
    }
    let direction = match direction {
        Direction::Except if fflags & NOTE_OOB == 0 => Direction::Read,
        direction => direction,
    };
    let state = inner.kind.evaluate(file, direction, scratch)?;
    let mut report = Report {
        data: state.data,
        fflags: state.error,
        ..Report::default()
    };
    report.flags = eof_flags_of(knote.filter(), &state);
    if fflags & NOTE_LOWAT != 0 && !state.reaches(mark) {
        match direction {
            Direction::Read => return None,
            Direction::Write => {
                report.data = await_room(knote, inner, file, state.data, mark)?;
            }
            Direction::Except => {}
        }
    }
    if direction == Direction::Except && state.ready && state.error == 0 {
        report.fflags = NOTE_OOB;
    }
    Some(report)
}
