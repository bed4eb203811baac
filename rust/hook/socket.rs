// SPDX-License-Identifier: GPL-2.0

//! What a socket holds and has room for.
//!
//! C header: [`include/net/sock.h`](srctree/include/net/sock.h)

use crate::generated;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    fs::File,
    sync::{atomic::ordering, barrier::smp_mb}, //
};

// States and directions, as in `net/tcp_states.h` and `net/sock.h`.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;
const STREAM: u16 = 1;
const SEQPACKET: u16 = 5;
/// In `urg_data`: there is an urgent byte.
const URG_VALID: u16 = 0x0100;

/// How the bytes of a socket are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Unix,
    Other,
}

/// The kinds of stream sockets of which one look tells what is ready, nearly always.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Tcp,
    Unix,
}

impl Stream {
    /// The kind that a socket is of, if it is of one.
    pub(crate) fn of(socket: &Socket<'_>) -> Option<Self> {
        match socket.kind {
            Kind::Tcp => Some(Stream::Tcp),
            Kind::Unix if socket.socket_type() == STREAM => Some(Stream::Unix),
            _ => None,
        }
    }

    fn look(self, file: &File) -> Option<generated::kq_sock_look> {
        let mut look = generated::kq_sock_look::default();
        // SAFETY: The file is valid; for one that is no socket the functions get null. A socket
        // lives as long as its file.
        let looked = unsafe {
            let socket = bindings::sock_from_file(file.as_ptr());
            match self {
                Stream::Tcp => generated::kq_sock_tcp_look(socket, &raw mut look),
                Stream::Unix => generated::kq_sock_unix_look(socket, &raw mut look),
            }
        };
        looked.then_some(look)
    }

    /// What there is to read from `file`, if it is of that kind and there is nothing else to tell.
    #[inline]
    pub(crate) fn input(self, file: &File) -> Input {
        let Some(look) = self.look(file) else {
            return Input::Other;
        };
        let plain =
            look.state == ESTABLISHED && look.shutdown == 0 && look.error == 0 && look.urgent == 0;
        match look.readable {
            count if plain && count >= look.low_water.max(1) => Input::Bytes(count.into()),
            0 if plain && !look.hidden => Input::Nothing,
            _ => Input::Other,
        }
    }
}

/// What one look at a stream socket tells.
pub(crate) enum Input {
    /// As many bytes as `SO_RCVLOWAT` asks for, and no end and no error.
    Bytes(i64),
    /// Neither bytes nor an end nor an error.
    Nothing,
    /// One has to look closer.
    Other,
}

/// The socket behind a file.
///
/// # Invariants
///
/// Valid, as its file is, and of that kind.
pub(crate) struct Socket<'a> {
    sock: NonNull<bindings::sock>,
    kind: Kind,
    _file: PhantomData<&'a File>,
}

/// A socket's queue, locked.
struct Queue(*mut bindings::sk_buff_head);

impl Queue {
    /// # Safety
    ///
    /// `queue` is valid until the value is dropped.
    unsafe fn lock(queue: *mut bindings::sk_buff_head) -> Self {
        // SAFETY: By this function's contract.
        unsafe { generated::kq_skb_queue_lock(queue) };
        Queue(queue)
    }

    /// All bytes in it; there are no more messages than the receive buffer has room for.
    fn bytes(&self) -> i64 {
        let mut bytes = 0;
        // SAFETY: The queue is locked, so the messages in it stay.
        unsafe {
            let mut message = generated::kq_skb_first(self.0);
            while !message.is_null() {
                bytes += i64::from(generated::kq_skb_len(message));
                message = generated::kq_skb_next(self.0, message);
            }
        }
        bytes
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: Locked in `lock`.
        unsafe { generated::kq_skb_queue_unlock(self.0) };
    }
}

impl<'a> Socket<'a> {
    /// The socket of `file`, if it is one.
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        // SAFETY: The file is valid; the result is null for a file that is no socket.
        let socket = unsafe { bindings::sock_from_file(file.as_ptr()) };
        let socket = NonNull::new(socket)?;
        // SAFETY: A socket lives as long as its file, and has its `sk` until it is released.
        let sock = NonNull::new(unsafe { (*socket.as_ptr()).sk })?;
        // SAFETY: As above.
        let kind = unsafe {
            if generated::kq_sock_is_unix(sock.as_ptr()) {
                Kind::Unix
            } else if generated::kq_sock_is_tcp(sock.as_ptr()) {
                Kind::Tcp
            } else if generated::kq_sock_is_udp(sock.as_ptr()) {
                Kind::Udp
            } else {
                Kind::Other
            }
        };
        Some(Socket {
            sock,
            kind,
            _file: PhantomData,
        })
    }

    fn state(&self) -> u8 {
        // SAFETY: Valid by the type's invariant.
        unsafe { generated::kq_sock_state(self.sock.as_ptr()) }
    }

    fn socket_type(&self) -> u16 {
        // SAFETY: As above.
        unsafe { generated::kq_sock_type(self.sock.as_ptr()) }
    }

    /// True for a socket that is connected before it is used.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self.socket_type(), STREAM | SEQPACKET)
    }

    /// True for a connection that was not begun.
    pub(crate) fn is_unconnected(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Unix)
            && self.is_connection()
            && self.state() == CLOSE
            && self.shutdown() == (false, false)
            && self.error() == 0
    }

    /// Which directions are shut down: in, out.
    pub(crate) fn shutdown(&self) -> (bool, bool) {
        // SAFETY: As above.
        let shutdown = unsafe { generated::kq_sock_shutdown(self.sock.as_ptr()) };
        (shutdown & RCV_SHUTDOWN != 0, shutdown & SEND_SHUTDOWN != 0)
    }

    /// True when as many bytes are there as `SO_RCVLOWAT` says. For most kinds poll(2) knows.
    pub(crate) fn has_low_water(&self) -> bool {
        if self.kind != Kind::Unix || self.socket_type() != STREAM || self.state() == LISTEN {
            return true;
        }
        // SAFETY: As above.
        let mark = unsafe { generated::kq_sock_low_water(self.sock.as_ptr()) };
        // For one byte poll(2) knows as well.
        mark <= 1 || self.readable() >= Some(mark.into())
    }

    /// Bytes to read, or for a listening socket the connections that wait. `None` if they wait
    /// where only the kind of socket knows.
    pub(crate) fn readable(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        let listening = self.state() == LISTEN;
        // SAFETY: Valid by the type's invariant, and of the kind that each function takes.
        let count: i64 = unsafe {
            match self.kind {
                Kind::Unix if listening => generated::kq_sock_receive_queue_len(sock).into(),
                _ if listening => generated::kq_sock_accept_backlog(sock).into(),
                Kind::Tcp => generated::kq_sock_tcp_inq(sock).into(),
                Kind::Unix if self.is_connection() => generated::kq_sock_unix_inq(sock) as i64,
                Kind::Udp => {
                    // Messages move from the other queue to the reader's, under both locks.
                    let reader = Queue::lock(generated::kq_sock_reader_queue(sock));
                    let received = Queue::lock(generated::kq_sock_receive_queue(sock));
                    reader.bytes() + received.bytes()
                }
                Kind::Unix => Queue::lock(generated::kq_sock_receive_queue(sock)).bytes(),
                Kind::Other => match Queue::lock(generated::kq_sock_receive_queue(sock)).bytes() {
                    0 => return None,
                    bytes => bytes,
                },
            }
        };
        Some(count.max(0))
    }

    /// Bytes of room in the send buffer.
    pub(crate) fn writable(&self) -> i64 {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant.
        let space: i64 = unsafe {
            if self.kind == Kind::Tcp {
                generated::kq_sock_stream_wspace(sock).into()
            } else {
                generated::kq_sock_wspace(sock).into()
            }
        };
        space.max(0)
    }

    /// Has the socket wake its pollers when it has more room; what it has got before, look for
    /// afterwards. (TCP only tells those who were told that there is none.)
    pub(crate) fn want_room(&self) {
        // SAFETY: Valid by the type's invariant.
        unsafe { generated::kq_sock_want_room(self.sock.as_ptr()) };
        smp_mb(ordering::Full);
    }

    /// Bytes before the urgent one, if there is one.
    pub(crate) fn urgent(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant; TCP's.
        unsafe {
            if self.kind != Kind::Tcp || generated::kq_sock_urgent(sock) & URG_VALID == 0 {
                return None;
            }
            Some(
                generated::kq_sock_urgent_distance(sock)
                    .cast_signed()
                    .into(),
            )
        }
    }

    /// The error that the next call on the socket will report; it stays there.
    pub(crate) fn error(&self) -> u32 {
        // SAFETY: Valid by the type's invariant.
        unsafe { generated::kq_sock_error(self.sock.as_ptr()) }.unsigned_abs()
    }
}
