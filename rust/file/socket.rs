// SPDX-License-Identifier: GPL-2.0

//! Sockets.

use super::{poll, Direction, FileState};
use crate::sys::file::{
    poll::{FastPoll, PollEvents},
    socket::{Count, MessageSocket, Socket, Stream}, //
};
use kernel::fs::{file::flags::O_NONBLOCK, File};

/// Evaluates a UDP socket for a reader. Interrupts are disabled.
#[inline(never)]
pub(super) fn poll_udp(file: &File) -> FastPoll {
    MessageSocket::Udp.poll(file)
}

/// Evaluates a UNIX socket that is not a stream, for a reader. Interrupts are disabled.
#[inline(never)]
pub(super) fn poll_unix_messages(file: &File) -> FastPoll {
    MessageSocket::Unix.poll(file)
}

/// Evaluates another socket with messages for a reader. Interrupts are disabled.
#[inline(never)]
pub(super) fn poll_messages(file: &File) -> FastPoll {
    MessageSocket::Other.poll(file)
}

#[inline(never)]
pub(super) fn tcp_room(file: &File) -> FastPoll {
    Stream::Tcp.room(file)
}

#[inline(never)]
pub(super) fn unix_stream_room(file: &File) -> FastPoll {
    Stream::Unix.room(file)
}

#[inline(never)]
pub(super) fn udp_room(file: &File) -> FastPoll {
    MessageSocket::Udp.room(file)
}

#[inline(never)]
pub(super) fn unix_message_room(file: &File) -> FastPoll {
    MessageSocket::Unix.room(file)
}

#[inline(never)]
pub(super) fn message_room(file: &File) -> FastPoll {
    MessageSocket::Other.room(file)
}

/// The state of a socket with an error ([`FastPoll::Failed`]). `None` if that cannot be determined
/// without sleeping. Interrupts are disabled.
#[inline(always)]
pub(super) fn failure(file: &File, direction: Direction) -> Option<FileState> {
    let socket = Socket::of(file)?;
    let error = socket.error();
    if error == 0 || socket.is_listening() {
        return None;
    }
    let (no_more_in, no_more_out) = socket.shutdown();
    let (ended, data) = match direction {
        Direction::Read => {
            let blocks = file.flags() & O_NONBLOCK == 0;
            (no_more_in, socket.try_readable(blocks)?)
        }
        Direction::Write => (no_more_out, socket.writable()?),
        Direction::Except => return None,
    };
    let hup = socket.has_hung_up();
    Some(FileState {
        ready: true,
        eof: ended || hup || socket.is_connection(),
        hup,
        data,
        more: false,
        error,
    })
}

pub(super) fn evaluate(file: &File, direction: Direction) -> Option<FileState> {
    let events = poll(file, direction);
    let socket = Socket::of(file)?;
    // poll(2) reports a hang-up for a socket that was never connected.
    if socket.is_unconnected() {
        return None;
    }
    let hup = events.any(PollEvents::HUP);
    let (no_more_in, no_more_out) = socket.shutdown();
    let error = socket.error();
    let ended = match direction {
        Direction::Read | Direction::Except => no_more_in || events.any(PollEvents::RDHUP),
        Direction::Write => no_more_out,
    };
    // An error ends a connection, but not a datagram socket. A message in the error queue ends
    // neither.
    let eof = ended || hup || (error != 0 && socket.is_connection());
    let ready = match direction {
        Direction::Read => {
            (events.any(direction.ready_events()) && socket.has_low_water()) || error != 0
        }
        Direction::Write => events.any(direction.ready_events()) || error != 0,
        Direction::Except => events.any(direction.ready_events()),
    };
    (ready || eof).then(|| {
        let count = match direction {
            Direction::Read => socket.readable(),
            Direction::Write => socket.writable().map(Count::Exactly),
            // If the urgent data are next, no bytes are before them.
            Direction::Except => socket.urgent().map(|count| Count::Exactly(count.max(1))),
        };
        let (data, more) = match count {
            // Another thread has accepted the connection meanwhile.
            Some(Count::Exactly(0)) if ready && !eof && socket.is_listening() => (1, false),
            Some(Count::Exactly(data)) => (data, false),
            Some(Count::AtLeast(data)) => (data, true),
            None => (ready.into(), true),
        };
        FileState {
            ready,
            eof,
            hup,
            data,
            more,
            error,
        }
    })
}

/// Evaluates a stream socket for a reader.
#[inline(always)]
pub(super) fn poll_stream(stream: Stream, file: &File) -> FastPoll {
    stream.poll_fast(file)
}
