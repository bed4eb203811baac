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
        eventfd,
        fdinfo::{self, Base},
        ioctl,
        pipe::Pipe,
        pollwait::{self, Events},
        socket::Socket,
        usercopy::Scratch, //
    },
    kqueue::Kqueue,
};
use kernel::fs::File;

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
    /// The error that the next call on the file will report; it stays there.
    pub(super) error: u32,
}

impl Look {
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
        (ready || eof).then(|| Look {
            ready,
            eof,
            hup: events.any(Events::HUP),
            data: count().unwrap_or(ready.into()),
            error: 0,
        })
    }
}

/// What poll(2) says of one direction, and of changes.
fn poll(file: &File, direction: Direction) -> Events {
    let events = direction.ready() | direction.gone();
    pollwait::poll(file, events | Events::PRI)
}

/// The state of a file as a kqueue sees it.
pub(super) trait FileState: Sync {
    /// True for a file of this kind.
    fn is(&self, file: &File) -> bool;

    /// What `file` is ready for now, if it is for something. May sleep.
    fn look(&self, file: &File, direction: Direction, scratch: Scratch) -> Option<Look>;

    /// Has the file tell when there is more room than it has now. Gives how much that is by then;
    /// `None` for a file that will not tell, as it only does of some room after none.
    fn want_room(&self, _file: &File) -> Option<i64> {
        None
    }
}

/// All but the last are asked in this order.
const KINDS: [&dyn FileState; 8] = [
    &Sockets, &Pipes, &Kqueues, &Contents, &Eventfds, &Timerfds, &Asked, &Others,
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

    fn look(&self, file: &File, direction: Direction, _: Scratch) -> Option<Look> {
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
            Direction::Read => {
                (events.any(direction.ready()) && socket.has_low_water()) || error != 0
            }
            Direction::Write => events.any(direction.ready()) || error != 0,
            Direction::Except => events.any(direction.ready()),
        };
        (ready || eof).then(|| {
            let data = match direction {
                Direction::Read => socket.readable(),
                Direction::Write => Some(socket.writable()),
                // At the mark there is nothing before it.
                Direction::Except => socket.urgent().map(|count| count.max(1)),
            };
            Look {
                ready,
                eof,
                hup,
                data: data.unwrap_or(ready.into()),
                error,
            }
        })
    }

    fn want_room(&self, file: &File) -> Option<i64> {
        let socket = Socket::of(file)?;
        socket.want_room();
        Some(socket.writable())
    }
}

struct Pipes;

impl FileState for Pipes {
    fn is(&self, file: &File) -> bool {
        Pipe::of(file).is_some()
    }

    fn look(&self, file: &File, direction: Direction, _: Scratch) -> Option<Look> {
        Look::of(poll(file, direction), direction, || {
            let pipe = Pipe::of(file)?;
            match direction {
                Direction::Read => Some(pipe.readable()),
                Direction::Write => Some(pipe.writable()),
                Direction::Except => None,
            }
        })
    }
}

struct Kqueues;

impl FileState for Kqueues {
    fn is(&self, file: &File) -> bool {
        object_of::<Kqueue>(file).is_some()
    }

    fn look(&self, file: &File, direction: Direction, _: Scratch) -> Option<Look> {
        Look::of(poll(file, direction), direction, || {
            Some(object_of::<Kqueue>(file)?.poll_state().0 as i64)
        })
    }
}

/// Regular files, directories and block devices.
struct Contents;

impl FileState for Contents {
    fn is(&self, file: &File) -> bool {
        contents::has(file)
    }

    fn look(&self, file: &File, direction: Direction, _: Scratch) -> Option<Look> {
        let (ready, data) = match direction {
            Direction::Read => {
                let distance = contents::distance(file);
                (distance != 0, distance)
            }
            Direction::Write => (true, 0),
            Direction::Except => (false, 0),
        };
        ready.then_some(Look {
            ready,
            eof: false,
            hup: false,
            data,
            error: 0,
        })
    }
}

struct Eventfds;

impl FileState for Eventfds {
    fn is(&self, file: &File) -> bool {
        eventfd::is(file)
    }

    fn look(&self, file: &File, direction: Direction, _: Scratch) -> Option<Look> {
        /// The largest value that the counter can have.
        const MOST: u64 = u64::MAX - 1;
        Look::of(poll(file, direction), direction, || {
            let count = eventfd::count(file)?;
            let count = match direction {
                Direction::Read => count,
                Direction::Write => MOST.saturating_sub(count),
                Direction::Except => return None,
            };
            Some(i64::try_from(count).unwrap_or(i64::MAX))
        })
    }
}

struct Timerfds;

impl FileState for Timerfds {
    fn is(&self, file: &File) -> bool {
        pollwait::is_polled_by(file, c"timerfd_poll")
    }

    fn look(&self, file: &File, direction: Direction, _: Scratch) -> Option<Look> {
        Look::of(poll(file, direction), direction, || match direction {
            Direction::Read => {
                let count = fdinfo::number(file, b"ticks:", Base::Ten)?;
                Some(i64::try_from(count).unwrap_or(i64::MAX))
            }
            Direction::Write | Direction::Except => None,
        })
    }
}

/// Files that are asked by ioctl(2).
struct Asked;

impl FileState for Asked {
    fn is(&self, file: &File) -> bool {
        ioctl::is_terminal(file) || pollwait::is_polled_by(file, c"inotify_poll")
    }

    fn look(&self, file: &File, direction: Direction, scratch: Scratch) -> Option<Look> {
        Look::of(poll(file, direction), direction, || match direction {
            Direction::Read => ioctl::readable(file, scratch),
            // None if it has hung up.
            Direction::Write => Some(ioctl::room(file).unwrap_or(0)),
            Direction::Except => None,
        })
    }
}

/// All that poll(2) takes and nobody counts, and devices that are always ready.
struct Others;

impl FileState for Others {
    fn is(&self, _: &File) -> bool {
        true
    }

    fn look(&self, file: &File, direction: Direction, _: Scratch) -> Option<Look> {
        Look::of(poll(file, direction), direction, || None)
    }
}
