// SPDX-License-Identifier: GPL-2.0

//! The kinds of files, and how the state of each kind is read.
//!
//! A [`FileKind`] is chosen when a descriptor is attached. Support for another kind of file is
//! added here. All kinds but terminals and unknown files are first evaluated without a call that
//! may sleep ([`FileKind::poll_fast`]). If that does not determine the state, `->poll` is called.
//!
//! | File | Bytes to read | Room to write |
//! |---|---|---|
//! | TCP | bytes in order, without an urgent one that is not inline | of the send buffer |
//! | listening socket, TCP or UNIX | pending connections | - |
//! | UDP, raw, netlink, packet, other UNIX | payload of 32 messages at most | of the send buffer |
//! | UNIX stream | unread bytes | of the send buffer |
//! | TLS, a socket in a sockmap | 1 if the bytes are queued there | of the send buffer |
//! | sockets of other families | 1 | 1 |
//! | pipe, FIFO | unread bytes | in whole buffers; 0 without a reader |
//! | regular file, directory, block device | size minus offset | 0 |
//! | terminal, pty | `FIONREAD` of the line discipline | what the driver accepts at once |
//! | inotify | the size of the events, as `FIONREAD` reports it | - |
//! | eventfd | the counter | what can be added to it |
//! | timerfd | unread expirations | - |
//! | kqueue | pending events | - |
//! | all others | 1 | 1 |
//!
//! An amount that is not counted, or not counted completely, reaches any low-water mark.

mod eventfd;
mod inotify;
mod kqueue;
mod pidfd;
mod pipe;
mod regular;
mod signalfd;
mod socket;
mod terminal;
mod timerfd;

use crate::{
    engine::kqueue::Kqueue,
    sys::{
        file::{
            self as sys_file,
            chardev::object_of,
            pipe::Pipe,
            poll::{FastPoll, PollEvents, PollFunction},
            socket::{MessageSocket, Socket, Stream}, //
        },
        memory::user_scratch::UserScratch,
        process::pid::Process,
    }, //
};
use kernel::fs::File;

/// The state of a file that is ready or at its end in one direction.
#[derive(Clone, Copy)]
pub(crate) struct FileState {
    pub(crate) ready: bool,
    /// The other side is gone, at least in this direction.
    pub(crate) eof: bool,
    /// The other side is gone in both directions.
    pub(crate) hup: bool,
    /// The number of bytes or the room, by the table of the module.
    pub(crate) data: i64,
    /// There may be more than `data`, because it was not counted completely.
    pub(crate) more: bool,
    /// The error that the next call on the file will report. Reading it here does not clear it.
    pub(crate) error: u32,
}

impl FileState {
    /// A file that is ready with `data` and has nothing else to report.
    fn ready(data: i64) -> Self {
        FileState {
            ready: true,
            eof: false,
            hup: false,
            data,
            more: false,
            error: 0,
        }
    }

    /// True unless the amount is less than `mark`. The end of a file, an error, and an amount that
    /// is not counted completely reach every mark.
    pub(crate) fn reaches(&self, mark: i64) -> bool {
        self.data >= mark || self.eof || self.more || self.error != 0
    }

    /// The state if poll(2) reports `events`, with `data` from `count`. `None` if the file is
    /// neither ready nor at its end.
    fn of(
        events: PollEvents,
        direction: Direction,
        count: impl FnOnce() -> Option<i64>,
    ) -> Option<Self> {
        // Files of sysfs and procfs report a change by `EPOLLERR` and `EPOLLPRI`.
        let changed =
            events.any(PollEvents::PRI) && !events.any(PollEvents::HUP | PollEvents::RDHUP);
        let ready = events.any(direction.ready_events());
        let eof = events.any(direction.hangup_events()) && !changed;
        (ready || eof).then(|| {
            let count = count();
            FileState {
                ready,
                eof,
                hup: events.any(PollEvents::HUP),
                data: count.unwrap_or(ready.into()),
                more: count.is_none(),
                error: 0,
            }
        })
    }
}

/// The poll events of one direction, and `EPOLLPRI`.
fn poll_events(direction: Direction) -> PollEvents {
    direction.ready_events() | direction.hangup_events() | PollEvents::PRI
}

/// Calls `->poll` for the [events](poll_events) of one direction.
fn poll(file: &File, direction: Direction) -> PollEvents {
    sys_file::poll::poll(file, poll_events(direction))
}

/// The `->poll` function of epoll instances.
static EPOLL_POLL: PollFunction = PollFunction::new(c"ep_eventpoll_poll");

/// The kinds of files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Tcp,
    UnixStream,
    Udp,
    /// UNIX sockets except streams.
    UnixMessages,
    /// Netlink, raw and ping sockets.
    Messages,
    /// All other sockets.
    Socket,
    Pipe,
    Kqueue,
    /// Regular files, directories and block devices.
    Regular,
    Eventfd,
    Timerfd,
    Pidfd,
    Signalfd,
    Inotify,
    /// Terminals and ptys.
    Terminal,
    /// Files without `->poll`, such as `/dev/null`, which are always ready.
    AlwaysReady,
    /// epoll instances.
    Epoll,
    /// Files that can be polled and are not counted.
    Other,
}

impl FileKind {
    /// The length of an array that has an element for each kind.
    pub(crate) const COUNT: usize = {
        // `Other` is the last kind.
        assert!((FileKind::Other as usize) < 32);
        32
    };

    /// The index of the kind in such an array. The mask tells the compiler that the index is valid.
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self as usize & (Self::COUNT - 1)
    }

    /// Determines the kind of `file`.
    pub(crate) fn of(file: &File) -> Self {
        if let Some(socket) = Socket::of(file) {
            return match (Stream::of(&socket), MessageSocket::of(&socket)) {
                (Some(Stream::Tcp), _) => FileKind::Tcp,
                (Some(Stream::Unix), _) => FileKind::UnixStream,
                (_, Some(MessageSocket::Udp)) => FileKind::Udp,
                (_, Some(MessageSocket::Unix)) => FileKind::UnixMessages,
                (_, Some(MessageSocket::Other)) => FileKind::Messages,
                (None, None) => FileKind::Socket,
            };
        }
        if Pipe::of(file).is_some() {
            FileKind::Pipe
        } else if object_of::<Kqueue>(file).is_some() {
            FileKind::Kqueue
        } else if sys_file::file_type::has_contents(file) {
            FileKind::Regular
        } else if sys_file::eventfd::is(file) {
            FileKind::Eventfd
        } else if sys_file::timerfd::is(file) {
            FileKind::Timerfd
        } else if Process::of_pidfd(file).is_some() {
            FileKind::Pidfd
        } else if sys_file::signalfd::is(file) {
            FileKind::Signalfd
        } else if sys_file::inotify::is(file) {
            FileKind::Inotify
        } else if EPOLL_POLL.is_of(file) {
            FileKind::Epoll
        } else if sys_file::terminal::is(file) {
            FileKind::Terminal
        } else if sys_file::poll::is_pollable(file) {
            FileKind::Other
        } else {
            FileKind::AlwaysReady
        }
    }

    /// True if a one-shot knote of such a file stays attached after its event was delivered, so
    /// that `EV_ADD` can renew it. A knote of a kqueue has an edge to it, and one of a regular file
    /// counts as a watch of it; for the program both must end with the event. A file of an unknown
    /// kind may be polled on other wait queues by the next `EV_ADD`.
    #[inline(always)]
    pub(crate) fn can_be_renewed(self) -> bool {
        !matches!(
            self,
            FileKind::Kqueue | FileKind::Regular | FileKind::Socket | FileKind::Other
        )
    }

    /// True for a socket of any kind.
    fn is_socket(self) -> bool {
        self.polls_socket_queue() || self == FileKind::Socket
    }

    /// True if all pollers of such a file are in the wait queue of a socket, and `->poll` does no
    /// more than to register there and to read the state (`tcp_poll`, `udp_poll`, `unix_poll`,
    /// `unix_dgram_poll`, `datagram_poll`). (`unix_dgram_poll` also registers with the peer, when a
    /// call of it finds that the peer accepts nothing.)
    #[inline(always)]
    pub(crate) fn polls_socket_queue(self) -> bool {
        matches!(
            self,
            FileKind::Tcp
                | FileKind::UnixStream
                | FileKind::Udp
                | FileKind::UnixMessages
                | FileKind::Messages
        )
    }

    /// The state of `file`, which is of this kind, or `None` if it is neither ready nor at its end.
    /// May sleep.
    pub(crate) fn evaluate(
        self,
        file: &File,
        direction: Direction,
        scratch: UserScratch,
    ) -> Option<FileState> {
        let (data, eof, hup) = match self.poll_fast(file, direction, false) {
            FastPoll::Ready(data) => (data, false, false),
            FastPoll::Ended(data) => (data, true, false),
            FastPoll::HungUp(data) => (data, true, true),
            FastPoll::NotReady => return None,
            FastPoll::Failed | FastPoll::Unknown => {
                return self.poll_and_count(file, direction, scratch)
            }
        };
        Some(FileState {
            eof,
            hup,
            // All other kinds that are evaluated in this way are counted.
            more: self.is_uncounted(),
            ..FileState::ready(data)
        })
    }

    /// True if this kind is evaluated by [`FileKind::poll_fast`] and is not counted.
    pub(crate) fn is_uncounted(self) -> bool {
        matches!(
            self,
            FileKind::Pidfd | FileKind::Signalfd | FileKind::AlwaysReady
        )
    }

    /// Evaluates `file` without sleeping. The caller may hold a spin lock. If the caller states
    /// that interrupts are disabled, the evaluation is faster and handles more kinds.
    #[inline(always)]
    pub(crate) fn poll_fast(
        self,
        file: &File,
        direction: Direction,
        interrupts_off: bool,
    ) -> FastPoll {
        match (self, direction) {
            (FileKind::Tcp, Direction::Read) => socket::poll_stream(Stream::Tcp, file),
            (FileKind::UnixStream, Direction::Read) => socket::poll_stream(Stream::Unix, file),
            (FileKind::Udp, Direction::Read) if interrupts_off => socket::poll_udp(file),
            (FileKind::UnixMessages, Direction::Read) if interrupts_off => {
                socket::poll_unix_messages(file)
            }
            (FileKind::Messages, Direction::Read) if interrupts_off => socket::poll_messages(file),
            (FileKind::Pipe, Direction::Read) => pipe::poll_to_read(file, interrupts_off),
            (FileKind::Kqueue, Direction::Read) => kqueue::poll_to_read(file),
            (FileKind::Pidfd, Direction::Read) => pidfd::poll_to_read(file),
            (FileKind::Timerfd, Direction::Read) => timerfd::poll_to_read(file),
            (FileKind::Signalfd, Direction::Read) if interrupts_off => signalfd::poll_to_read(file),
            (FileKind::Inotify, Direction::Read) if interrupts_off => inotify::poll_to_read(file),
            (FileKind::Regular, Direction::Write) => FastPoll::Ready(0),
            // The operations of a file can be replaced, for instance when its device goes away.
            (FileKind::AlwaysReady, Direction::Read | Direction::Write)
                if !sys_file::poll::is_pollable(file) =>
            {
                FastPoll::Ready(1)
            }
            (FileKind::Tcp, Direction::Write) => socket::tcp_room(file),
            (FileKind::UnixStream, Direction::Write) => socket::unix_stream_room(file),
            (FileKind::Pipe, Direction::Write) => pipe::room(file),
            (FileKind::Eventfd, Direction::Write) => eventfd::room(file),
            (FileKind::Udp, Direction::Write) => socket::udp_room(file),
            (FileKind::UnixMessages, Direction::Write) => socket::unix_message_room(file),
            (FileKind::Messages, Direction::Write) => socket::message_room(file),
            (FileKind::Pidfd, Direction::Write) => pidfd::poll_to_write(file),
            // `->poll` of these never reports that they are writable, an error or a hang-up.
            (FileKind::Timerfd | FileKind::Signalfd | FileKind::Inotify, Direction::Write) => {
                FastPoll::NotReady
            }
            // This is not a function, because the compiler would not match its results with those
            // of the scan.
            (FileKind::Eventfd, Direction::Read) => {
                match sys_file::eventfd::try_count(file).map(i64::try_from) {
                    Some(Ok(count)) => FastPoll::ready_if(count != 0, || count),
                    // An eventfd that has overflowed reports an error.
                    _ => FastPoll::Unknown,
                }
            }
            _ => FastPoll::Unknown,
        }
    }

    /// Evaluates `file` in one direction by one call of a function of its kind. The caller holds a
    /// spin lock, and interrupts are disabled.
    #[inline(always)]
    pub(crate) fn poll_by_call(self, file: &File, direction: Direction) -> FastPoll {
        match (direction, self) {
            (Direction::Write, _) => self.poll_fast(file, Direction::Write, true),
            (_, FileKind::Udp) => socket::poll_udp(file),
            (_, FileKind::UnixMessages) => socket::poll_unix_messages(file),
            (_, FileKind::Messages) => socket::poll_messages(file),
            _ => self.poll_to_read(file),
        }
    }

    /// The part of [`FileKind::poll_by_call`] for readers.
    #[inline(never)]
    fn poll_to_read(self, file: &File) -> FastPoll {
        self.poll_fast(file, Direction::Read, true)
    }

    /// The state of a file with an error ([`FastPoll::Failed`]). `None` if that cannot be
    /// determined without sleeping. Interrupts are disabled.
    #[inline(always)]
    pub(crate) fn failure(self, file: &File, direction: Direction) -> Option<FileState> {
        if !self.polls_socket_queue() {
            return None;
        }
        socket::failure(file, direction)
    }

    /// True if this kind is never evaluated by [`FileKind::poll_fast`].
    #[inline(always)]
    pub(crate) fn is_only_polled(self) -> bool {
        matches!(self, FileKind::Terminal | FileKind::Epoll | FileKind::Other)
    }

    /// [`FileKind::evaluate`] for a kind that [is only polled](FileKind::is_only_polled).
    #[inline(always)]
    pub(crate) fn evaluate_by_poll(
        self,
        file: &File,
        direction: Direction,
        scratch: UserScratch,
    ) -> Option<FileState> {
        if self == FileKind::Terminal {
            terminal::evaluate(file, direction, scratch)
        } else {
            FileState::of(poll(file, direction), direction, || None)
        }
    }

    /// Polls `file` and reads its state. May sleep.
    fn poll_and_count(
        self,
        file: &File,
        direction: Direction,
        scratch: UserScratch,
    ) -> Option<FileState> {
        match self {
            _ if self.is_socket() => socket::evaluate(file, direction),
            FileKind::Regular => regular::evaluate(file, direction),
            FileKind::Pipe => pipe::evaluate(file, direction),
            FileKind::Inotify => inotify::evaluate(file, direction, scratch),
            FileKind::Signalfd => signalfd::evaluate(file, direction),
            // Another task may take what there is between the poll and the count. Then the file is
            // not ready any more.
            FileKind::Kqueue | FileKind::Eventfd | FileKind::Timerfd => {
                FileState::of(poll(file, direction), direction, || match self {
                    FileKind::Kqueue => kqueue::count(file),
                    FileKind::Eventfd => eventfd::count(file, direction),
                    _ => timerfd::count(file, direction),
                })
                .filter(|state| state.eof || state.data > 0)
            }
            _ => self.evaluate_by_poll(file, direction, scratch),
        }
    }

    /// Requests a wake-up when `file` has more room than now. Returns the room after the request.
    /// `None` for a file without such a wake-up: it wakes its pollers only when it has some room
    /// after it had none.
    pub(crate) fn request_room_wakeup(self, file: &File) -> Option<i64> {
        if !self.is_socket() {
            return None;
        }
        Socket::of(file)?.request_room_wakeup()
    }

    /// True if the poll events do not include everything that is reported in that direction. An
    /// example is a socket that is shut down for writing.
    pub(crate) fn has_unpolled_state(self, direction: Direction) -> bool {
        match self {
            FileKind::Tcp | FileKind::UnixStream => direction == Direction::Write,
            FileKind::Regular => true,
            _ => self.is_socket(),
        }
    }
}

/// The three filters of descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    Except,
}

impl Direction {
    /// The poll events that mean "ready".
    pub(crate) fn ready_events(self) -> PollEvents {
        match self {
            Direction::Read => PollEvents::IN | PollEvents::RDNORM | PollEvents::RDBAND,
            Direction::Write => PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND,
            Direction::Except => PollEvents::PRI,
        }
    }

    /// The poll events that mean "the other side is gone".
    pub(crate) fn hangup_events(self) -> PollEvents {
        match self {
            Direction::Read | Direction::Except => {
                PollEvents::RDHUP | PollEvents::HUP | PollEvents::ERR
            }
            Direction::Write => PollEvents::HUP | PollEvents::ERR,
        }
    }

    /// The poll events that wake the knote. `EVFILT_EXCEPT` includes those of `EVFILT_READ`,
    /// because a change can turn one into the other by `NOTE_OOB`.
    pub(crate) fn wake_events(self) -> PollEvents {
        match self {
            Direction::Except => {
                self.ready_events() | Direction::Read.ready_events() | self.hangup_events()
            }
            _ => self.ready_events() | self.hangup_events(),
        }
    }
}
