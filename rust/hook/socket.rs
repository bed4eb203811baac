// SPDX-License-Identifier: GPL-2.0

//! What a socket holds and has room for.
//!
//! C header: [`include/net/sock.h`](srctree/include/net/sock.h)

use crate::generated;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    fs::File,
    sync::{
        atomic::{
            ordering::{Full, Relaxed},
            Atomic, //
        },
        barrier::smp_mb,
    },
};

// States and directions, as in `net/tcp_states.h` and `net/sock.h`.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;
const STREAM: u16 = 1;
const DGRAM: u16 = 2;
const SEQPACKET: u16 = 5;
/// In `urg_data`: there is an urgent byte.
const URG_VALID: u16 = 0x0100;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;

/// What is read of sockets without a call. The C compiler checks the types (`rust/helpers.c`).
mod field {
    use crate::{generated::*, hook::field::Field};
    use core::ffi::c_void;
    use kernel::bindings::{sk_buff_head, sock, wait_queue_head};

    pub(super) const SK: Field<*const sock> = Field::at(kq_offset_KQ_SOCKET_SK);
    pub(super) const WAIT: Field<wait_queue_head> = Field::at(kq_offset_KQ_SOCKET_WAIT);
    pub(super) const FAMILY: Field<u16> = Field::at(kq_offset_KQ_SOCK_FAMILY);
    pub(super) const TYPE: Field<u16> = Field::at(kq_offset_KQ_SOCK_TYPE);
    pub(super) const PROTOCOL: Field<u16> = Field::at(kq_offset_KQ_SOCK_PROTOCOL);
    pub(super) const STATE: Field<u8> = Field::at(kq_offset_KQ_SOCK_STATE);
    pub(super) const SHUTDOWN: Field<u8> = Field::at(kq_offset_KQ_SOCK_SHUTDOWN);
    pub(super) const ERR: Field<i32> = Field::at(kq_offset_KQ_SOCK_ERR);
    pub(super) const RCVLOWAT: Field<i32> = Field::at(kq_offset_KQ_SOCK_RCVLOWAT);
    pub(super) const PROT: Field<*const c_void> = Field::at(kq_offset_KQ_SOCK_PROT);
    pub(super) const RECEIVE_QUEUE: Field<sk_buff_head> =
        Field::at(kq_offset_KQ_SOCK_RECEIVE_QUEUE);
    pub(super) const QUEUE_NEXT: Field<usize> = Field::at(kq_offset_KQ_QUEUE_NEXT);
    pub(super) const IS_READABLE: Field<usize> = Field::at(kq_offset_KQ_PROTO_IS_READABLE);
    pub(super) const UNIX_INQ_LEN: Field<i32> = Field::at(kq_offset_KQ_UNIX_INQ_LEN);
    pub(super) const TCP_RCV_NXT: Field<u32> = Field::at(kq_offset_KQ_TCP_RCV_NXT);
    pub(super) const TCP_COPIED_SEQ: Field<u32> = Field::at(kq_offset_KQ_TCP_COPIED_SEQ);
    pub(super) const TCP_ULP: Field<usize> = Field::at(kq_offset_KQ_TCP_ULP);
    pub(super) const TCP_URG_DATA: Field<u16> = Field::at(kq_offset_KQ_TCP_URG_DATA);
}

/// The operations of the files that are sockets, once one was seen; private to the kernel.
static OPERATIONS: Atomic<usize> = Atomic::new(0);

/// The wait queue that all of a socket's pollers are in (`sock_poll_wait`), if `file` is one. It lives as long as the
/// file.
#[inline]
pub(super) fn wait_queue(file: &File) -> Option<*mut bindings::wait_queue_head> {
    let file = file.as_ptr();
    // SAFETY: The file is valid. If its operations are a socket's, its private data is one.
    unsafe { is_known((*file).f_op).then(|| field::WAIT.of((*file).private_data).cast_mut()) }
}

/// True if what can be read of a socket is known to its protocol alone: TLS, or a BPF program's.
///
/// # Safety
///
/// `sk` is valid.
#[inline]
unsafe fn has_own_queue(sk: *const bindings::sock) -> bool {
    // SAFETY: By this function's contract; a socket has a protocol, which stays.
    unsafe { field::IS_READABLE.read(field::PROT.read(sk)) != 0 }
}

/// True if files with these operations are known to be sockets.
#[inline]
fn is_known(operations: *const bindings::file_operations) -> bool {
    // SAFETY: Valid, and read at once. (The `kernel` crate's load is a call.)
    let known = unsafe { OPERATIONS.as_ptr().read_volatile() };
    operations.addr() == known
}

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

    /// What there is to read from `file`, if it is of that kind and there is nothing else to tell. Takes
    /// no lock, and never sleeps.
    #[inline]
    pub(crate) fn input(self, file: &File) -> Input {
        // SAFETY: The file is valid. If its operations are a socket's, its private data is one, which lives
        // as long as the file, and has its `sk` until it is released. That is of the kind that is asked
        // for, if family, type and protocol are, and then has the fields of that kind.
        unsafe {
            let file = file.as_ptr();
            if !is_known((*file).f_op) {
                return Input::Other;
            }
            let sk = field::SK.read((*file).private_data);
            if sk.is_null() || field::TYPE.read(sk) != STREAM {
                return Input::Other;
            }
            // First: what the others say before a connection stands, means nothing.
            if field::STATE.read_acquire(sk) != ESTABLISHED {
                return Input::Other;
            }
            let family = field::FAMILY.read(sk);
            let (readable, plain) = match self {
                Stream::Unix if family == AF_UNIX => (field::UNIX_INQ_LEN.read(sk), true),
                Stream::Tcp
                    if (family == AF_INET || family == AF_INET6)
                        && field::PROTOCOL.read(sk) == IPPROTO_TCP =>
                {
                    // `tcp_inq`, when there is neither an urgent byte nor an end. (An end that comes just now may
                    // be counted as a byte; it is told right after that.) Of what has another protocol on top, TLS
                    // for one, only that knows how much can be read.
                    let readable = field::TCP_RCV_NXT
                        .read(sk)
                        .wrapping_sub(field::TCP_COPIED_SEQ.read(sk));
                    let plain = field::TCP_URG_DATA.read(sk) == 0
                        && field::TCP_ULP.read(sk) == 0
                        && !has_own_queue(sk);
                    (readable.cast_signed(), plain)
                }
                _ => return Input::Other,
            };
            if !plain || field::SHUTDOWN.read(sk) != 0 || field::ERR.read(sk) != 0 {
                return Input::Other;
            }
            // The bytes of a UNIX socket count what was skipped, too: an urgent one. What is left of one that
            // was read, waits without counting.
            let queue = field::RECEIVE_QUEUE.of(sk);
            let waits = || field::QUEUE_NEXT.read(queue) != queue.addr();
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
        // SAFETY: The file is valid.
        let operations = unsafe { (*file.as_ptr()).f_op };
        if !is_known(operations) {
            OPERATIONS.store(operations.addr(), Relaxed);
        }
        // SAFETY: A socket lives as long as its file, and has its `sk` until it is released.
        let sock = NonNull::new(unsafe { (*socket.as_ptr()).sk })?;
        // SAFETY: As above.
        let (family, kind, protocol) = unsafe {
            let sock = sock.as_ptr();
            (
                field::FAMILY.read(sock),
                field::TYPE.read(sock),
                field::PROTOCOL.read(sock),
            )
        };
        let kind = match (family, kind, protocol) {
            (AF_UNIX, _, _) => Kind::Unix,
            (AF_INET | AF_INET6, STREAM, IPPROTO_TCP) => Kind::Tcp,
            (AF_INET | AF_INET6, DGRAM, IPPROTO_UDP) => Kind::Udp,
            _ => Kind::Other,
        };
        Some(Socket {
            sock,
            kind,
            _file: PhantomData,
        })
    }

    fn state(&self) -> u8 {
        // SAFETY: Valid by the type's invariant.
        unsafe { field::STATE.read(self.sock.as_ptr()) }
    }

    fn socket_type(&self) -> u16 {
        // SAFETY: As above.
        unsafe { field::TYPE.read(self.sock.as_ptr()) }
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
        let shutdown = unsafe { field::SHUTDOWN.read(self.sock.as_ptr()) };
        (shutdown & RCV_SHUTDOWN != 0, shutdown & SEND_SHUTDOWN != 0)
    }

    /// True when as many bytes are there as `SO_RCVLOWAT` says. For most kinds poll(2) knows.
    pub(crate) fn has_low_water(&self) -> bool {
        if self.kind != Kind::Unix || self.socket_type() != STREAM || self.state() == LISTEN {
            return true;
        }
        // SAFETY: As above.
        let mark = unsafe { field::RCVLOWAT.read(self.sock.as_ptr()) };
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
        smp_mb(Full);
    }

    /// Bytes before the urgent one, if there is one.
    pub(crate) fn urgent(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant; TCP's.
        unsafe {
            if self.kind != Kind::Tcp || field::TCP_URG_DATA.read(sock) & URG_VALID == 0 {
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
        unsafe { field::ERR.read(self.sock.as_ptr()) }.unsigned_abs()
    }
}
