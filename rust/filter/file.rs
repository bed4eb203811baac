// SPDX-License-Identifier: GPL-2.0

//! The kinds of files, and what each has to tell of its state.
//!
//! A [`FileState`] is chosen by [`of`] when a descriptor is attached. To teach the filters about
//! another kind of file, add it here.
//!
//! | File | Bytes to read | Room to write |
//! |---|---|---|
//! | TCP | bytes in order, without an urgent one that is not inline | of the send buffer |
//! | listening socket | connections that wait | - |
//! | UDP, raw, netlink, packet, UNIX datagrams | payload of all datagrams that wait | of the send buffer |
//! | UNIX stream and seqpacket | bytes that wait | of the send buffer |
//! | sockets of other families | bytes in the receive queue, 1 if they wait elsewhere | of the send buffer |
//! | pipe, FIFO | bytes that wait | in whole buffers; 0 without a reader |
//! | regular file, directory, block device | size less offset | 0 |
//! | terminal, pty | what `FIONREAD` says | what the driver takes at once |
//! | inotify | what `FIONREAD` says | - |
//! | eventfd | the counter | what can be added to it |
//! | timerfd | expirations that wait | - |
//! | kqueue | events that wait | - |
//! | all others | 1 | 1 |

use super::descriptor::Direction;
use crate::{
    hook::{
        chardev::object_of,
        contents,
        fdinfo::{self, Base},
        ioctl,
        pipe::Pipe,
        pollwait::{self, Events},
        socket::Socket,
        usercopy::Scratch, //
    },
    kqueue::Kqueue,
};
use kernel::{fs::File, prelude::*};

/// What poll(2) says of one direction, and of changes.
fn poll(file: &File, direction: Direction) -> Events {
    let events = direction.ready() | direction.gone();
    pollwait::poll(file, events | Events::PRI)
}

/// Is a file ready in one direction?
#[derive(Clone, Copy, Default)]
pub(super) struct Condition {
    pub(super) ready: bool,
    /// The other side is gone, in that direction at least.
    pub(super) eof: bool,
    /// It is gone in both.
    pub(super) hup: bool,
}

impl Condition {
    /// What poll(2) says.
    fn polled(file: &File, direction: Direction) -> Self {
        Self::of(poll(file, direction), direction)
    }

    fn of(events: Events, direction: Direction) -> Self {
        // Files of sysfs and procfs tell of a change by these two.
        let changed = events.any(Events::PRI) && !events.any(Events::HUP | Events::RDHUP);
        Condition {
            ready: events.any(direction.ready()),
            eof: events.any(direction.gone()) && !changed,
            hup: events.any(Events::HUP),
        }
    }
}

/// The state of a file as a kqueue sees it.
pub(super) trait FileState: Sync {
    /// True for a file of this kind.
    fn is(&self, file: &File) -> bool;

    /// What `file` is ready for now. May sleep.
    fn condition(&self, file: &File, direction: Direction) -> Condition {
        Condition::polled(file, direction)
    }

    /// How much there is to read; `None` where nobody counts. May sleep.
    fn readable(&self, file: &File, scratch: Scratch) -> Option<i64>;

    /// How much room there is.
    fn writable(&self, _file: &File) -> Option<i64> {
        None
    }

    /// Has the file tell when there is more room; true if there are `bytes` of it by now.
    fn want_room(&self, _file: &File, _bytes: i64) -> bool {
        false
    }

    /// How many bytes come before the urgent one.
    fn urgent(&self, _file: &File) -> Option<i64> {
        None
    }

    /// The error that the next call on the file will report; it stays there.
    fn error(&self, _file: &File) -> u32 {
        0
    }
}

/// All but the last are asked in this order.
const KINDS: [&dyn FileState; 8] = [
    &Sockets,
    &Pipes,
    &Kqueues,
    &Contents,
    &Counter::EVENT,
    &Counter::TIMER,
    &Asked,
    &Others,
];

/// The kind that `file` is of.
pub(super) fn of(file: &File) -> &'static dyn FileState {
    let found = KINDS.into_iter().find(|kind| kind.is(file));
    found.unwrap_or(&Others)
}

struct Sockets;

impl FileState for Sockets {
    fn is(&self, file: &File) -> bool {
        Socket::of(file).is_some()
    }

    fn condition(&self, file: &File, direction: Direction) -> Condition {
        let events = poll(file, direction);
        let Some(socket) = Socket::of(file) else {
            return Condition::default();
        };
        // For poll(2) a socket that never was connected has hung up.
        if socket.is_unconnected() {
            return Condition::default();
        }
        let mut condition = Condition::of(events, direction);
        let error = socket.error() != 0;
        let (no_more_in, no_more_out) = socket.shutdown();
        let over = match direction {
            Direction::Read | Direction::Except => no_more_in || events.any(Events::RDHUP),
            Direction::Write => no_more_out,
        };
        // An error ends a connection, but not a socket for datagrams. A message in the error queue
        // ends nothing.
        let broken = error && socket.is_connection();
        condition.eof = over || broken || condition.hup;
        if direction == Direction::Read {
            condition.ready = condition.ready && socket.has_low_water();
        }
        if direction != Direction::Except {
            condition.ready |= error;
        }
        condition
    }

    fn readable(&self, file: &File, _: Scratch) -> Option<i64> {
        Socket::of(file)?.readable()
    }

    fn writable(&self, file: &File) -> Option<i64> {
        Some(Socket::of(file)?.writable())
    }

    fn want_room(&self, file: &File, bytes: i64) -> bool {
        Socket::of(file).is_some_and(|socket| {
            socket.want_room();
            socket.writable() >= bytes
        })
    }

    fn urgent(&self, file: &File) -> Option<i64> {
        Socket::of(file)?.urgent()
    }

    fn error(&self, file: &File) -> u32 {
        Socket::of(file).map_or(0, |socket| socket.error())
    }
}

struct Pipes;

impl FileState for Pipes {
    fn is(&self, file: &File) -> bool {
        Pipe::of(file).is_some()
    }

    fn readable(&self, file: &File, _: Scratch) -> Option<i64> {
        Some(Pipe::of(file)?.readable())
    }

    fn writable(&self, file: &File) -> Option<i64> {
        Some(Pipe::of(file)?.writable())
    }
}

struct Kqueues;

impl FileState for Kqueues {
    fn is(&self, file: &File) -> bool {
        object_of::<Kqueue>(file).is_some()
    }

    fn readable(&self, file: &File, _: Scratch) -> Option<i64> {
        Some(object_of::<Kqueue>(file)?.poll_state().0 as i64)
    }
}

/// Regular files, directories and block devices.
struct Contents;

impl FileState for Contents {
    fn is(&self, file: &File) -> bool {
        contents::has(file)
    }

    fn condition(&self, file: &File, direction: Direction) -> Condition {
        Condition {
            ready: match direction {
                Direction::Read => contents::distance(file) != 0,
                Direction::Write => true,
                Direction::Except => false,
            },
            ..Condition::default()
        }
    }

    fn readable(&self, file: &File, _: Scratch) -> Option<i64> {
        Some(contents::distance(file))
    }

    fn writable(&self, _: &File) -> Option<i64> {
        Some(0)
    }
}

/// A file that tells its count in `/proc/PID/fdinfo`.
struct Counter {
    poll: &'static CStr,
    key: &'static [u8],
    base: Base,
    /// The counter's largest value, if one can add to it.
    most: Option<u64>,
}

impl Counter {
    const EVENT: Counter = Counter {
        poll: c"eventfd_poll",
        key: b"eventfd-count:",
        base: Base::Sixteen,
        most: Some(u64::MAX - 1),
    };
    const TIMER: Counter = Counter {
        poll: c"timerfd_poll",
        key: b"ticks:",
        base: Base::Ten,
        most: None,
    };

    fn count(&self, file: &File) -> Option<u64> {
        fdinfo::number(file, self.key, self.base)
    }
}

fn clamped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl FileState for Counter {
    fn is(&self, file: &File) -> bool {
        pollwait::is_polled_by(file, self.poll)
    }

    fn readable(&self, file: &File, _: Scratch) -> Option<i64> {
        self.count(file).map(clamped)
    }

    fn writable(&self, file: &File) -> Option<i64> {
        let room = self.most?.saturating_sub(self.count(file)?);
        Some(clamped(room))
    }
}

/// Files that are asked by ioctl(2).
struct Asked;

impl FileState for Asked {
    fn is(&self, file: &File) -> bool {
        ioctl::is_terminal(file) || pollwait::is_polled_by(file, c"inotify_poll")
    }

    fn readable(&self, file: &File, scratch: Scratch) -> Option<i64> {
        ioctl::readable(file, scratch)
    }

    fn writable(&self, file: &File) -> Option<i64> {
        ioctl::room(file)
    }
}

struct Others;

impl FileState for Others {
    fn is(&self, _: &File) -> bool {
        true
    }

    fn readable(&self, _: &File, _: Scratch) -> Option<i64> {
        None
    }
}
