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

mod contents;
mod eventfd;
mod kqueue;
mod pidfd;
mod pipe;
mod socket;
mod terminal;
mod timerfd;

use crate::{
    engine::{kqueue::Kqueue, ops::FastLook},
    sys::{
        file::{
            self as sys_file,
            chardev::object_of,
            pipe::Pipe,
            poll::Events,
            socket::{Socket, Stream}, //
        },
        memory::scratch::Scratch,
        process::pid::Process,
    }, //
};
use kernel::fs::File;

/// What can be said of a file that is ready, or at its end, in one direction.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) ready: bool,
    /// The other side is gone, in that direction at least.
    pub(crate) eof: bool,
    /// It is gone in both.
    pub(crate) hup: bool,
    /// As the module's table says.
    pub(crate) data: i64,
    /// There may be more than that: nobody has counted.
    pub(crate) more: bool,
    /// The error that the next call on the file will report; it stays there.
    pub(crate) error: u32,
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
    sys_file::poll::poll(file, events | Events::PRI)
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

impl FileKind {
    /// The kind that `file` is of.
    pub(crate) fn of(file: &File) -> Self {
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
        } else if sys_file::contents::has(file) {
            FileKind::Contents
        } else if sys_file::eventfd::is(file) {
            FileKind::Eventfd
        } else if sys_file::timerfd::is(file) {
            FileKind::Timerfd
        } else if Process::of_pidfd(file).is_some() {
            FileKind::Pidfd
        } else if terminal::is(file) {
            FileKind::Ioctl
        } else {
            FileKind::Other
        }
    }

    /// True for a stream socket of which one look tells what there is to read, nearly always.
    #[inline]
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, FileKind::Tcp | FileKind::UnixStream)
    }

    /// What `file`, of this kind, is ready for now, if it is for something. May sleep.
    pub(crate) fn look(self, file: &File, direction: Direction, scratch: Scratch) -> Option<Look> {
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
    pub(crate) fn poll_fast(
        self,
        file: &File,
        direction: Direction,
        interrupts_off: bool,
    ) -> FastLook {
        match (self, direction) {
            (FileKind::Tcp, Direction::Read) => socket::poll_stream(Stream::Tcp, file),
            (FileKind::UnixStream, Direction::Read) => socket::poll_stream(Stream::Unix, file),
            (FileKind::Socket, Direction::Read) if interrupts_off => socket::poll_messages(file),
            (FileKind::Pipe, Direction::Read) => pipe::poll_to_read(file, interrupts_off),
            (FileKind::Kqueue, Direction::Read) => kqueue::poll_to_read(file),
            (FileKind::Pidfd, Direction::Read) => pidfd::poll_to_read(file),
            (FileKind::Timerfd, Direction::Read) => timerfd::poll_to_read(file),
            (FileKind::Tcp, Direction::Write) => socket::tcp_room(file),
            (FileKind::UnixStream, Direction::Write) => socket::unix_stream_room(file),
            (FileKind::Pipe, Direction::Write) => pipe::room(file),
            (FileKind::Eventfd, Direction::Write) => eventfd::room(file),
            (FileKind::Socket, Direction::Write) => socket::message_room(file),
            // Not a function: the compiler would not see that its results are those of the scan.
            (FileKind::Eventfd, Direction::Read) => {
                match sys_file::eventfd::count_at_once(file).map(i64::try_from) {
                    Some(Ok(count)) => FastLook::ready_if(count != 0, || count),
                    // One that has overflowed is in error.
                    _ => FastLook::Unknown,
                }
            }
            _ => FastLook::Unknown,
        }
    }

    /// What `file` tells in one direction, by one call of a function of its kind. A spin lock is held, and interrupts are
    /// off.
    #[inline(always)]
    pub(crate) fn poll_by_call(self, file: &File, direction: Direction) -> FastLook {
        if direction == Direction::Write {
            match self {
                FileKind::Tcp => socket::tcp_room(file),
                FileKind::UnixStream => socket::unix_stream_room(file),
                FileKind::Pipe => pipe::room(file),
                FileKind::Eventfd => eventfd::room(file),
                FileKind::Socket => socket::message_room(file),
                _ => FastLook::Unknown,
            }
        } else if self == FileKind::Socket {
            socket::poll_messages(file)
        } else {
            self.poll_to_read(file)
        }
    }

    /// The part of that for readers.
    #[inline(never)]
    fn poll_to_read(self, file: &File) -> FastLook {
        self.poll_fast(file, Direction::Read, true)
    }

    /// What `file` tells when it is polled, which may sleep.
    fn ask(self, file: &File, direction: Direction, scratch: Scratch) -> Option<Look> {
        match self {
            FileKind::Tcp | FileKind::UnixStream | FileKind::Socket => {
                socket::look(file, direction)
            }
            FileKind::Contents => contents::look(file, direction),
            FileKind::Pipe => pipe::look(file, direction),
            FileKind::Ioctl => terminal::look(file, direction, scratch),
            _ => Look::of(poll(file, direction), direction, || match self {
                FileKind::Kqueue => kqueue::count(file),
                FileKind::Eventfd => eventfd::count(file, direction),
                FileKind::Timerfd => timerfd::count(file, direction),
                _ => None,
            }),
        }
    }

    /// Has `file` tell when there is more room than it has now. Gives how much that is by then;
    /// `None` for a file that will not tell, as it only does of some room after none.
    pub(crate) fn want_room(self, file: &File) -> Option<i64> {
        match self {
            FileKind::Tcp | FileKind::UnixStream | FileKind::Socket => {
                Socket::of(file)?.want_room()
            }
            _ => None,
        }
    }

    /// True if poll(2) would not tell of all that there is to report in that direction: of a socket
    /// that is shut down for writing.
    pub(crate) fn is_more_than_polled(self, direction: Direction) -> bool {
        match self {
            FileKind::Tcp | FileKind::UnixStream => direction == Direction::Write,
            FileKind::Socket | FileKind::Contents => true,
            _ => false,
        }
    }
}

/// Which of the three filters it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    Except,
}

impl Direction {
    /// The poll events that mean "ready".
    pub(crate) fn ready(self) -> Events {
        match self {
            Direction::Read => Events::IN | Events::RDNORM | Events::RDBAND,
            Direction::Write => Events::OUT | Events::WRNORM | Events::WRBAND,
            Direction::Except => Events::PRI,
        }
    }

    /// The poll events that mean "the other side is gone".
    pub(crate) fn gone(self) -> Events {
        match self {
            Direction::Read | Direction::Except => Events::RDHUP | Events::HUP | Events::ERR,
            Direction::Write => Events::HUP | Events::ERR,
        }
    }

    /// What to wake up for: whether EXCEPT is READ, depends on the program and may change.
    pub(crate) fn wakes(self) -> Events {
        match self {
            Direction::Except => self.ready() | Direction::Read.ready() | self.gone(),
            _ => self.ready() | self.gone(),
        }
    }
}
