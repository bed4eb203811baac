// SPDX-License-Identifier: GPL-2.0

//! The kinds of files, and what each has to tell of its state.
//!
//! A [`FileKind`] is chosen when a descriptor is attached. To teach the filters about another kind
//! of file, add it here. Sockets, pipes, eventfds, timerfds, pidfds and kqueues are first polled without a call that
//! may sleep ([`FileKind::poll_fast`]). `->poll` is called if that does not tell.
//!
//! | File | Bytes to read | Room to write |
//! |---|---|---|
//! | TCP | bytes in order, without an urgent one that is not inline | of the send buffer |
//! | listening socket, TCP or UNIX | connections that wait | - |
//! | UDP, raw, netlink, packet, UNIX datagrams and seqpacket | payload of the first 32 messages that wait | of the send buffer |
//! | UNIX stream | bytes that wait | of the send buffer |
//! | TLS, a socket in a sockmap | 1 if the bytes wait there | of the send buffer |
//! | sockets of other families | 1 | 1 |
//! | pipe, FIFO | bytes that wait | in whole buffers; 0 without a reader |
//! | regular file, directory, block device | size less offset | 0 |
//! | terminal, pty | what `FIONREAD` says | what the driver takes at once |
//! | inotify | what `FIONREAD` says | - |
//! | eventfd | the counter | what can be added to it |
//! | timerfd | expirations that wait | - |
//! | kqueue | events that wait | - |
//! | all others | 1 | 1 |
//!
//! What is not counted, or not to its end, reaches each low-water mark.

use super::descriptor::Direction;
use crate::{
    engine::kqueue::Kqueue,
    sys::{
        file::{
            chardev::object_of,
            contents, eventfd, ioctl,
            pipe::Pipe,
            poll::{self, Events, PollFunction},
            socket::{Count, Input, Socket, Stream},
            timerfd,
        },
        memory::scratch::Scratch,
        process::pid::{PidfdState, Process},
    }, //
};
use kernel::fs::{
    file::flags::O_NONBLOCK,
    File,
    LocalFile, //
};

/// What can be said of a file that is ready, or at its end, in one direction.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) ready: bool,
    /// The other side is gone, in that direction at least.
    pub(super) eof: bool,
    /// It is gone in both.
    pub(super) hup: bool,
    /// As the module's table says.
    pub(super) data: i64,
    /// There may be more than that: nobody has counted.
    pub(super) more: bool,
    /// The error that the next call on the file will report; it stays there.
    pub(super) error: u32,
}

impl Look {
    /// There is that much, and nothing else to tell.
    fn ready(data: i64) -> Self {
        Look {
            ready: true,
            eof: false,
            hup: false,
            data,
            more: false,
            error: 0,
        }
    }

    /// What is so when poll(2) says `events`, and `count` counts; `None` if that is nothing.
    fn of(
        events: Events,
        direction: Direction,
        count: impl FnOnce() -> Option<i64>,
    ) -> Option<Self> {
        // Files of sysfs and procfs tell of a change by these two.
        let changed = events.any(Events::PRI) && !events.any(Events::HUP | Events::RDHUP);
        let ready = events.any(direction.ready());
        let eof = events.any(direction.gone()) && !changed;
        (ready || eof).then(|| {
            let count = count();
            Look {
                ready,
                eof,
                hup: events.any(Events::HUP),
                data: count.unwrap_or(ready.into()),
                more: count.is_none(),
                error: 0,
            }
        })
    }
}

/// What poll(2) says of one direction, and of changes.
fn poll(file: &File, direction: Direction) -> Events {
    let events = direction.ready() | direction.gone();
    poll::poll(file, events | Events::PRI)
}

/// The kinds of files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Tcp,
    UnixStream,
    Socket,
    Pipe,
    Kqueue,
    /// Regular files, directories and block devices.
    Contents,
    Eventfd,
    Timerfd,
    Pidfd,
    /// Files that are asked by ioctl(2).
    Ioctl,
    /// All that poll(2) takes and nobody counts, and devices that are always ready.
    Other,
}

static INOTIFY_POLL: PollFunction = PollFunction::new(c"inotify_poll");

fn is_asked(file: &LocalFile) -> bool {
    ioctl::is_terminal(file) || INOTIFY_POLL.is_of(file)
}

/// What can be told of one direction of a file without sleeping.
#[derive(Clone, Copy)]
pub(crate) enum FastLook {
    /// It is ready, with that `data`.
    Ready(i64),
    /// The other side is gone, in that direction; there is that much left.
    Ended(i64),
    /// The same, and poll(2) reports `POLLHUP`.
    HungUp(i64),
    Nothing,
    /// The file has to be polled, which may sleep.
    Unknown,
}

impl FastLook {
    fn ready_if(ready: bool, data: impl FnOnce() -> i64) -> Self {
        if ready {
            FastLook::Ready(data())
        } else {
            FastLook::Nothing
        }
    }

    #[inline(always)]
    fn of_socket(input: Input) -> Self {
        match input {
            Input::Bytes(count) => FastLook::Ready(count),
            Input::Ended(count) => FastLook::Ended(count),
            Input::HungUp(count) => FastLook::HungUp(count),
            Input::Nothing => FastLook::Nothing,
            Input::Other => FastLook::Unknown,
        }
    }
}

impl FileKind {
    /// The kind that `file` is of.
    pub(super) fn of(file: &File) -> Self {
        if let Some(socket) = Socket::of(file) {
            return match Stream::of(&socket) {
                Some(Stream::Tcp) => FileKind::Tcp,
                Some(Stream::Unix) => FileKind::UnixStream,
                None => FileKind::Socket,
            };
        }
        if Pipe::of(file).is_some() {
            FileKind::Pipe
        } else if object_of::<Kqueue>(file).is_some() {
            FileKind::Kqueue
        } else if contents::has(file) {
            FileKind::Contents
        } else if eventfd::is(file) {
            FileKind::Eventfd
        } else if timerfd::is(file) {
            FileKind::Timerfd
        } else if Process::of_pidfd(file).is_some() {
            FileKind::Pidfd
        } else if is_asked(file) {
            FileKind::Ioctl
        } else {
            FileKind::Other
        }
    }

    /// True for a stream socket of which one look tells what there is to read, nearly always.
    #[inline]
    pub(super) fn is_stream(self) -> bool {
        matches!(self, FileKind::Tcp | FileKind::UnixStream)
    }

    /// What `file`, of this kind, is ready for now, if it is for something. May sleep.
    pub(super) fn look(self, file: &File, direction: Direction, scratch: Scratch) -> Option<Look> {
        let (data, eof, hup) = match self.poll_fast(file, direction, false) {
            FastLook::Ready(data) => (data, false, false),
            FastLook::Ended(data) => (data, true, false),
            FastLook::HungUp(data) => (data, true, true),
            FastLook::Nothing => return None,
            FastLook::Unknown => return self.ask(file, direction, scratch),
        };
        Some(Look {
            eof,
            hup,
            ..Look::ready(data)
        })
    }

    /// The same, as far as it can be told without sleeping, and with a spin lock held: how much there is. To say
    /// that interrupts are off then is faster, and more can be told.
    #[inline(always)]
    pub(super) fn poll_fast(
        self,
        file: &File,
        direction: Direction,
        interrupts_off: bool,
    ) -> FastLook {
        match (self, direction) {
            (FileKind::Tcp, Direction::Read) => FastLook::of_socket(Stream::Tcp.input(file)),
            (FileKind::UnixStream, Direction::Read) => {
                FastLook::of_socket(Stream::Unix.input(file))
            }
            (FileKind::Socket, Direction::Read) if interrupts_off => poll_messages(file),
            (FileKind::Pipe, Direction::Read) => poll_pipe_to_read(file, interrupts_off),
            (FileKind::Kqueue, Direction::Read) => {
                match object_of::<Kqueue>(file).and_then(|kqueue| kqueue.pending_at_once()) {
                    Some(count) => FastLook::ready_if(count != 0, || count as i64),
                    None => FastLook::Unknown,
                }
            }
            (FileKind::Pidfd, Direction::Read) => match Process::poll_pidfd(file) {
                PidfdState::Running => FastLook::Nothing,
                PidfdState::Exited => FastLook::Ready(1),
                PidfdState::Gone => FastLook::HungUp(1),
                PidfdState::Other => FastLook::Unknown,
            },
            (FileKind::Timerfd, Direction::Read) => match timerfd::count_at_once(file) {
                Some(count) => {
                    FastLook::ready_if(count != 0, || i64::try_from(count).unwrap_or(i64::MAX))
                }
                None => FastLook::Unknown,
            },
            (FileKind::Tcp, Direction::Write) => tcp_room(file),
            (FileKind::UnixStream, Direction::Write) => unix_stream_room(file),
            (FileKind::Pipe, Direction::Write) => pipe_room(file),
            (FileKind::Eventfd, Direction::Write) => eventfd_room(file),
            (FileKind::Socket, Direction::Write) => message_room(file),
            (FileKind::Eventfd, Direction::Read) => {
                match eventfd::count_at_once(file).map(i64::try_from) {
                    Some(Ok(count)) => FastLook::ready_if(count != 0, || count),
                    // One that has overflowed is in error.
                    _ => FastLook::Unknown,
                }
            }
            _ => FastLook::Unknown,
        }
    }

    fn ask(self, file: &File, direction: Direction, scratch: Scratch) -> Option<Look> {
        let count = || match (self, direction) {
            (FileKind::Pipe, Direction::Read) => Some(Pipe::of(file)?.readable()),
            (FileKind::Pipe, Direction::Write) => Some(Pipe::of(file)?.writable()),
            (FileKind::Kqueue, _) => Some(object_of::<Kqueue>(file)?.poll_state().0 as i64),
            (FileKind::Eventfd, _) => count_eventfd(file, direction),
            (FileKind::Timerfd, Direction::Read) => {
                Some(i64::try_from(timerfd::count(file)?).unwrap_or(i64::MAX))
            }
            (FileKind::Ioctl, Direction::Read) => ioctl::readable(file, scratch),
            (FileKind::Ioctl, Direction::Write) => ioctl::room(file),
            _ => None,
        };
        match self {
            FileKind::Tcp | FileKind::UnixStream | FileKind::Socket => {
                look_at_socket(file, direction)
            }
            FileKind::Contents => look_at_contents(file, direction),
            // What has hung up is ready, and takes nothing.
            FileKind::Ioctl if direction == Direction::Write => {
                Look::of(poll(file, direction), direction, count).map(|look| Look {
                    data: if look.hup { 0 } else { look.data },
                    ..look
                })
            }
            // A slot that is being filled or emptied is not ready; what is put into it will be told.
            FileKind::Pipe if direction == Direction::Read => {
                Look::of(poll(file, direction), direction, count)
                    .filter(|look| look.eof || look.data > 0)
            }
            _ => Look::of(poll(file, direction), direction, count),
        }
    }

    /// Has `file` tell when there is more room than it has now. Gives how much that is by then;
    /// `None` for a file that will not tell, as it only does of some room after none.
    pub(super) fn want_room(self, file: &File) -> Option<i64> {
        match self {
            FileKind::Tcp | FileKind::UnixStream | FileKind::Socket => {
                Socket::of(file)?.want_room()
            }
            _ => None,
        }
    }

    /// True if poll(2) would not tell of all that there is to report in that direction: of a socket
    /// that is shut down for writing.
    pub(super) fn is_more_than_polled(self, direction: Direction) -> bool {
        match self {
            FileKind::Tcp | FileKind::UnixStream => direction == Direction::Write,
            FileKind::Socket | FileKind::Contents => true,
            _ => false,
        }
    }
}

/// What there is to read from a socket that is no stream. Interrupts are off.
#[inline(never)]
pub(super) fn poll_messages(file: &File) -> FastLook {
    let blocks = file.flags() & O_NONBLOCK == 0;
    Socket::of(file).map_or(FastLook::Unknown, |socket| {
        FastLook::of_socket(socket.messages_at_once(blocks))
    })
}

/// What there is to read from a pipe that is not full.
#[inline(always)]
fn poll_pipe_to_read(file: &File, interrupts_off: bool) -> FastLook {
    let Some(pipe) = Pipe::of(file).filter(|_| contents::is_open_to_read(file)) else {
        return FastLook::Unknown;
    };
    if !pipe.has_writer() {
        return poll_pipe_without_writer(&pipe, file);
    }
    match pipe.readable_at_once(interrupts_off) {
        Some(bytes) => FastLook::ready_if(bytes > 0, || bytes),
        None => FastLook::Unknown,
    }
}

/// The same for a pipe that has ended, or has not begun.
#[inline(never)]
fn poll_pipe_without_writer(pipe: &Pipe<'_>, file: &File) -> FastLook {
    match pipe.readable_at_once(false) {
        Some(bytes) if pipe.had_writer(file) => FastLook::HungUp(bytes),
        Some(bytes) => FastLook::ready_if(bytes > 0, || bytes),
        None => FastLook::Unknown,
    }
}

// The room of each kind of file. These are functions of their own, as they are reached by a jump from where a scan
// dispatches on the kind.

#[inline(never)]
pub(super) fn tcp_room(file: &File) -> FastLook {
    FastLook::of_socket(Stream::Tcp.room(file))
}

#[inline(never)]
pub(super) fn unix_stream_room(file: &File) -> FastLook {
    FastLook::of_socket(Stream::Unix.room(file))
}

#[inline(never)]
pub(super) fn message_room(file: &File) -> FastLook {
    Socket::of(file).map_or(FastLook::Unknown, |socket| {
        FastLook::of_socket(socket.room_at_once())
    })
}

#[inline(never)]
pub(super) fn pipe_room(file: &File) -> FastLook {
    match Pipe::of(file).filter(|_| contents::is_open_to_write(file)) {
        Some(pipe) if !pipe.has_reader() => FastLook::Ended(0),
        Some(pipe) => {
            let room = pipe.writable();
            FastLook::ready_if(room > 0, || room)
        }
        None => FastLook::Unknown,
    }
}

#[inline(never)]
pub(super) fn eventfd_room(file: &File) -> FastLook {
    match eventfd::count_at_once(file) {
        Some(count) if count < EVENTFD_MOST => FastLook::Ready(room_of_counter(count)),
        _ => FastLook::Unknown,
    }
}

fn look_at_socket(file: &File, direction: Direction) -> Option<Look> {
    let events = poll(file, direction);
    let socket = Socket::of(file)?;
    // For poll(2) a socket that never was connected has hung up.
    if socket.is_unconnected() {
        return None;
    }
    let error = socket.error();
    let hup = events.any(Events::HUP);
    let (no_more_in, no_more_out) = socket.shutdown();
    let over = match direction {
        Direction::Read | Direction::Except => no_more_in || events.any(Events::RDHUP),
        Direction::Write => no_more_out,
    };
    // An error ends a connection, but not a socket for datagrams. A message in the error queue
    // ends nothing.
    let eof = over || hup || (error != 0 && socket.is_connection());
    let ready = match direction {
        Direction::Read => (events.any(direction.ready()) && socket.has_low_water()) || error != 0,
        Direction::Write => events.any(direction.ready()) || error != 0,
        Direction::Except => events.any(direction.ready()),
    };
    (ready || eof).then(|| {
        let count = match direction {
            Direction::Read => socket.readable(),
            Direction::Write => socket.writable().map(Count::Exactly),
            // At the mark there is nothing before it.
            Direction::Except => socket.urgent().map(|count| Count::Exactly(count.max(1))),
        };
        let (data, more) = match count {
            // The one that was there is with another thread by now.
            Some(Count::Exactly(0)) if ready && !eof && socket.is_listening() => (1, false),
            Some(Count::Exactly(data)) => (data, false),
            Some(Count::AtLeast(data)) => (data, true),
            None => (ready.into(), true),
        };
        Look {
            ready,
            eof,
            hup,
            data,
            more,
            error,
        }
    })
}

fn look_at_contents(file: &File, direction: Direction) -> Option<Look> {
    match direction {
        Direction::Read => {
            let distance = contents::distance(file);
            (distance != 0).then(|| Look::ready(distance))
        }
        Direction::Write => Some(Look::ready(0)),
        Direction::Except => None,
    }
}

/// The largest value that the counter of an eventfd can have.
const EVENTFD_MOST: u64 = u64::MAX - 1;

fn room_of_counter(count: u64) -> i64 {
    i64::try_from(EVENTFD_MOST.saturating_sub(count)).unwrap_or(i64::MAX)
}

fn count_eventfd(file: &File, direction: Direction) -> Option<i64> {
    let count = eventfd::count(file)?;
    match direction {
        Direction::Read => Some(i64::try_from(count).unwrap_or(i64::MAX)),
        Direction::Write => Some(room_of_counter(count)),
        Direction::Except => None,
    }
}
