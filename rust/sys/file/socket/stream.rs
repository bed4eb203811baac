// SPDX-License-Identifier: GPL-2.0

//! What a stream socket holds and has room for, by loads alone.

use super::field;
use super::{
    has_own_queue,
    is_known, //
    Kind,
    Socket,
    AF_INET,
    AF_INET6,
    AF_UNIX,
    CLOSE,
    CLOSE_WAIT,
    ESTABLISHED,
    IPPROTO_TCP,
    LISTEN,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    STREAM,
};
use crate::{generated, sys::file::poll::operations};
use kernel::{bindings, fs::File};

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

    /// The `struct sock` of `file` if it is of that kind, and its state. What else is read of it
    /// means something only if it is read after the state.
    #[inline(always)]
    fn sock(self, file: &File) -> Option<(*const bindings::sock, u8)> {
        // SAFETY: The file is valid. If its operations are a socket's, its private data is one,
        // which lives as long as the file, and has its `sk` until it is released. Family, type and
        // protocol tell of what kind that is.
        unsafe {
            if !is_known(operations(file)) {
                return None;
            }
            let sk = field::SK.read((*file.as_ptr()).private_data);
            if sk.is_null() || field::TYPE.read(sk) != STREAM {
                return None;
            }
            let state = field::STATE.read_acquire(sk);
            let family = field::FAMILY.read(sk);
            let fits = match self {
                Stream::Unix => family == AF_UNIX,
                Stream::Tcp => {
                    (family == AF_INET || family == AF_INET6)
                        && field::PROTOCOL.read(sk) == IPPROTO_TCP
                }
            };
            fits.then_some((sk, state))
        }
    }

    /// What there is to read from `file`, if it is of that kind and there is nothing else to tell:
    /// bytes, or connections that wait. Takes no lock, and never sleeps.
    #[inline]
    pub(crate) fn input(self, file: &File) -> Input {
        let Some((sk, state)) = self.sock(file) else {
            return Input::Other;
        };
        if state != ESTABLISHED {
            return self.input_otherwise(sk, state);
        }
        // SAFETY: It is of the kind that is asked for, and has the fields of that kind.
        unsafe {
            let (readable, plain) = match self {
                Stream::Unix => (field::UNIX_INQ_LEN.read(sk), true),
                Stream::Tcp => {
                    // `tcp_inq`, when there is neither an urgent byte nor an end. (An end that
                    // comes just now may be counted as a byte; it is told right after that.) Of
                    // what has another protocol on top, TLS for one, only that knows how much can
                    // be read.
                    let readable = field::TCP_RCV_NXT
                        .read(sk)
                        .wrapping_sub(field::TCP_COPIED_SEQ.read(sk));
                    (readable as i32, Self::is_plain(sk))
                }
            };
            if !plain || field::SHUTDOWN.read(sk) != 0 || field::ERR.read(sk) != 0 {
                return self.input_otherwise(sk, state);
            }
            // The bytes of a UNIX socket count what was skipped, too: an urgent one. What is left
            // of one that was read, waits without counting.
            let queue = field::RECEIVE_QUEUE.of(sk);
            let waits = || field::QUEUE_NEXT.read(queue).addr() != queue.addr();
            if readable > 0 {
                return if readable >= field::RCVLOWAT.read(sk) && (self == Stream::Tcp || waits()) {
                    Input::Bytes(readable.into())
                } else {
                    Input::Other
                };
            }
            let hidden = self == Stream::Unix && (waits() || has_own_queue(sk));
            if readable == 0 && !hidden {
                Input::Nothing
            } else {
                Input::Other
            }
        }
    }
}

impl Stream {
    /// True if nothing is on top of TCP, nor an urgent byte in it.
    ///
    /// # Safety
    ///
    /// `sk` is valid, and of TCP.
    #[inline(always)]
    unsafe fn is_plain(sk: *const bindings::sock) -> bool {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            field::TCP_URG_DATA.read(sk) == 0 && field::TCP_ULP.read(sk) == 0 && !has_own_queue(sk)
        }
    }

    /// [`Stream::input`] of a socket that is not just connected: the connections that wait at one
    /// that listens, and what is left of a stream that has ended. It is of that kind, and in that
    /// state.
    #[inline(never)]
    fn input_otherwise(self, sk: *const bindings::sock, state: u8) -> Input {
        // SAFETY: Valid, and of the kind that is asked for, as our caller has found; all are single
        // words. (`tcp_inq` reads several of them, as `tcp_ioctl` does with the socket locked: what
        // comes or is read meanwhile is counted or not.)
        unsafe {
            if field::ERR.read(sk) != 0 {
                return Input::Other;
            }
            let shutdown = field::SHUTDOWN.read(sk);
            if state == LISTEN {
                let count = match self {
                    Stream::Unix => generated::kq_sock_receive_queue_len(sk.cast_mut()),
                    Stream::Tcp => generated::kq_sock_accept_backlog(sk.cast_mut()),
                };
                return if count > 0 && shutdown == 0 {
                    Input::Bytes(count.into())
                } else {
                    Input::Other
                };
            }
            if shutdown & RCV_SHUTDOWN == 0 {
                return Input::Other;
            }
            let left = match self {
                Stream::Unix if !has_own_queue(sk) => field::UNIX_INQ_LEN.read(sk),
                Stream::Tcp if Self::is_plain(sk) => generated::kq_sock_tcp_inq(sk.cast_mut()),
                _ => return Input::Other,
            };
            Input::ended(left.max(0).into(), shutdown, state)
        }
    }

    /// How many bytes of room `file` has, if it is of that kind, connected, and has as much as
    /// poll(2) asks for, or how much there was when it was shut down; `Other` if not. (TCP tells of
    /// room only those who were told that there is none.) Takes no lock, and never sleeps.
    #[inline(always)]
    pub(crate) fn room(self, file: &File) -> Input {
        let Some((sk, state)) = self.sock(file) else {
            return Input::Other;
        };
        // SAFETY: It is of the kind that is asked for. All are single words;
        // `sk_stream_is_writable` asks the protocol, which for plain TCP looks at single words as
        // well.
        unsafe {
            if field::ERR.read(sk) != 0 || (self == Stream::Tcp && !Self::is_plain(sk)) {
                return Input::Other;
            }
            let shutdown = field::SHUTDOWN.read(sk);
            let connected = state == ESTABLISHED || (self == Stream::Tcp && state == CLOSE_WAIT);
            let has_ended = shutdown & SEND_SHUTDOWN != 0;
            let sk = sk.cast_mut();
            let room = match self {
                Stream::Unix if has_ended || generated::kq_sock_unix_is_writable(sk) => {
                    generated::kq_sock_wspace(sk)
                }
                Stream::Tcp if has_ended || generated::kq_sock_stream_is_writable(sk) => {
                    generated::kq_sock_stream_wspace(sk)
                }
                _ => return Input::Other,
            };
            let room = room.max(0).into();
            if has_ended {
                Input::ended(room, shutdown, state)
            } else if connected {
                Input::Bytes(room)
            } else {
                Input::Other
            }
        }
    }
}

/// What can be told of a socket without a call that may sleep.
pub(crate) enum Input {
    /// As many bytes as `SO_RCVLOWAT` asks for, as much room, or as many connections, and no end
    /// and no error.
    Bytes(i64),
    /// That direction has ended without an error. There are so many bytes left, or so much room.
    Ended(i64),
    /// The same, and poll(2) reports `POLLHUP`.
    HungUp(i64),
    /// Neither bytes nor an end nor an error.
    Nothing,
    /// The socket has to be polled.
    Other,
}

impl Input {
    /// One direction has ended of a socket that is shut down like this, in that state. When poll(2)
    /// reports `POLLHUP` is as in `tcp_poll` and `unix_poll`.
    fn ended(bytes: i64, shutdown: u8, state: u8) -> Self {
        if shutdown == RCV_SHUTDOWN | SEND_SHUTDOWN || state == CLOSE {
            Input::HungUp(bytes)
        } else {
            Input::Ended(bytes)
        }
    }
}
