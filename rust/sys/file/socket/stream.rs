// SPDX-License-Identifier: GPL-2.0

//! The state of stream sockets, determined by loads alone.

use super::{field, shutdown_flags};
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
use crate::{
    generated,
    sys::file::poll::{operations, FastPoll}, //
};
use kernel::{bindings, fs::File};

/// The kinds of stream sockets whose readiness nearly always follows from a few loads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Tcp,
    Unix,
}

impl Stream {
    /// The kind of the socket, if it is one of these.
    pub(crate) fn of(socket: &Socket<'_>) -> Option<Self> {
        match socket.kind {
            Kind::Tcp => Some(Stream::Tcp),
            Kind::Unix if socket.socket_type() == STREAM => Some(Stream::Unix),
            _ => None,
        }
    }

    /// The `struct sock` of `file` and its state, if the file is a socket of this kind. Other
    /// fields are meaningful only if they are read after the state.
    #[inline(always)]
    fn sock(self, file: &File) -> Option<(*const bindings::sock, u8)> {
        // SAFETY: The file is valid. If its operations are those of sockets, its private data is a
        // socket. The socket lives as long as the file and has its `sk` until it is released. The
        // family, the type and the protocol determine its kind.
        unsafe {
            if !is_known(operations(file)) {
                return None;
            }
            let sk = field::SK.read((*file.as_ptr()).private_data);
            if sk.is_null() || field::TYPE.read(sk) != STREAM {
                return None;
            }
            // As in `inet_sk_state_load`.
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

    /// The number of readable bytes or of pending connections of `file`, if it is of this kind and
    /// there is nothing else to report. Takes no lock and never sleeps.
    #[inline]
    pub(crate) fn poll_fast(self, file: &File) -> FastPoll {
        let Some((sk, state)) = self.sock(file) else {
            return FastPoll::Unknown;
        };
        if state != ESTABLISHED {
            return self.poll_fast_unusual(sk, state);
        }
        // SAFETY: The socket is of this kind and has the fields of this kind.
        unsafe {
            let (readable, plain) = match self {
                Stream::Unix => (field::UNIX_INQ_LEN.read(sk), true),
                Stream::Tcp => {
                    // This is `tcp_inq` for a stream without an urgent byte and without an end. (A
                    // FIN that arrives at this moment may be counted as a byte; it is reported
                    // right afterwards.) If another protocol is on top of TCP, such as TLS, only
                    // that protocol knows what can be read.
                    let readable = field::TCP_RCV_NXT
                        .read(sk)
                        .wrapping_sub(field::TCP_COPIED_SEQ.read(sk));
                    (readable as i32, Self::is_plain_tcp(sk))
                }
            };
            if !plain || field::SHUTDOWN.read(sk) != 0 || field::ERR.read(sk) != 0 {
                return self.poll_fast_unusual(sk, state);
            }
            // `inq_len` of a UNIX socket also counts bytes that were skipped, such as an urgent
            // byte. The remains of an urgent byte that was read stay in the queue without being
            // counted.
            let queue = field::RECEIVE_QUEUE.of(sk);
            let waits = || field::QUEUE_NEXT.read(queue).addr() != queue.addr();
            if readable > 0 {
                return if readable >= field::RCVLOWAT.read(sk) && (self == Stream::Tcp || waits()) {
                    FastPoll::Ready(readable.into())
                } else {
                    FastPoll::Unknown
                };
            }
            let hidden = self == Stream::Unix && (waits() || has_own_queue(sk));
            if readable == 0 && !hidden {
                FastPoll::NotReady
            } else {
                FastPoll::Unknown
            }
        }
    }
}

impl Stream {
    /// True if no protocol is on top of TCP, and the stream contains no urgent byte.
    ///
    /// # Safety
    ///
    /// `sk` is a valid TCP socket.
    #[inline(always)]
    pub(super) unsafe fn is_plain_tcp(sk: *const bindings::sock) -> bool {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            field::TCP_URG_DATA.read(sk) == 0 && field::TCP_ULP.read(sk) == 0 && !has_own_queue(sk)
        }
    }

    /// The result of [`Stream::poll_fast`] for a socket of this kind that is not simply connected:
    /// the pending connections of a listening socket, and the rest of a stream that has ended.
    /// `state` is the state of the socket.
    #[inline(never)]
    fn poll_fast_unusual(self, sk: *const bindings::sock, state: u8) -> FastPoll {
        // SAFETY: The caller has verified that the socket is valid and of this kind. All reads are
        // of single words. (`tcp_inq` reads several words, as `tcp_ioctl` does under the socket
        // lock. Data that arrives or is read meanwhile may or may not be counted.)
        unsafe {
            let shutdown = shutdown_flags(sk);
            if field::ERR.read(sk) != 0 {
                return FastPoll::Failed;
            }
            if state == LISTEN {
                let count = match self {
                    Stream::Unix => generated::kq_sock_receive_queue_len(sk.cast_mut()),
                    Stream::Tcp => generated::kq_sock_accept_backlog(sk.cast_mut()),
                };
                // A connection is added to the queue and counted before the pollers are woken.
                return if shutdown != 0 || (self == Stream::Unix && has_own_queue(sk)) {
                    FastPoll::Unknown
                } else {
                    FastPoll::ready_if(count > 0, || count.into())
                };
            }
            if shutdown & RCV_SHUTDOWN == 0 {
                return FastPoll::Unknown;
            }
            let left = match self {
                Stream::Unix if !has_own_queue(sk) => field::UNIX_INQ_LEN.read(sk),
                Stream::Tcp if Self::is_plain_tcp(sk) => generated::kq_sock_tcp_inq(sk.cast_mut()),
                _ => return FastPoll::Unknown,
            };
            ended(left.max(0).into(), shutdown, state)
        }
    }

    /// The free space of `file`, if it is a connected socket of this kind and has as much space as
    /// poll(2) requires, or the free space at the time of its shutdown. `Unknown` in all other
    /// cases, except that a listening socket is never ready. (TCP wakes only pollers that were told
    /// that there is no space.) Takes no lock and never sleeps.
    #[inline(always)]
    pub(crate) fn room(self, file: &File) -> FastPoll {
        let Some((sk, state)) = self.sock(file) else {
            return FastPoll::Unknown;
        };
        // SAFETY: The socket is of this kind. All reads are of single words.
        // `sk_stream_is_writable` calls the protocol, which for plain TCP reads single words as
        // well.
        unsafe {
            let shutdown = shutdown_flags(sk);
            if field::ERR.read(sk) != 0 {
                return FastPoll::Failed;
            }
            if state == LISTEN && shutdown == 0 {
                return FastPoll::NotReady;
            }
            if self == Stream::Tcp && !Self::is_plain_tcp(sk) {
                return FastPoll::Unknown;
            }
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
                _ => return FastPoll::Unknown,
            };
            let room = room.max(0).into();
            if has_ended {
                ended(room, shutdown, state)
            } else if connected {
                FastPoll::Ready(room)
            } else {
                FastPoll::Unknown
            }
        }
    }
}

/// The result for a direction that has ended, given the shutdown flags and the state of the
/// socket. `POLLHUP` is determined as in `tcp_poll` and `unix_poll`.
pub(super) fn ended(bytes: i64, shutdown: u8, state: u8) -> FastPoll {
    if shutdown == RCV_SHUTDOWN | SEND_SHUTDOWN || state == CLOSE {
        FastPoll::HungUp(bytes)
    } else {
        FastPoll::Ended(bytes)
    }
}
