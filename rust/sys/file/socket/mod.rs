// SPDX-License-Identifier: GPL-2.0

//! The contents of a socket and the free space in its send buffer.
//!
//! Each family protects its queues in its own way. Therefore the state of a socket is read only if
//! its kind is listed here. All other sockets are only polled.
//!
//! The kinds, the fields that are read, what protects the fields, and the kernel functions that do
//! the same:
//!
//! - **TCP**: sequence numbers, state, error, shutdown flags, backlog, send buffer. They are single
//!   words and need no lock (`tcp_poll`, `tcp_inq`, `sk_stream_wspace`).
//! - **UDP**: the first datagrams of `reader_queue` and `sk_receive_queue`, under the locks of both
//!   queues, taken in that order (`first_packet_length`, `udp_poll`).
//! - **UNIX streams**: `inq_len`, a single word that needs no lock (`unix_inq_len`, `unix_poll`).
//! - **Other UNIX sockets**: the first messages of `sk_receive_queue`, or the number of messages of
//!   a listening socket, under the lock of the queue (`unix_inq_len`, `__skb_try_recv_datagram`).
//! - **Raw and ping sockets, netlink, packet**: the first messages of `sk_receive_queue`, under the
//!   lock of the queue with interrupts disabled (`__sock_queue_rcv_skb`, `__skb_try_recv_datagram`;
//!   `raw_recvmsg`, `ping_recvmsg`, `netlink_recvmsg`, `tpacket_rcv`).
//! - **MPTCP**: the state, a single word that needs no lock (`mptcp_poll`).
//! - **All of these**: the shutdown flags, and the size and the charge of the send buffer. They are
//!   single words and need no lock (`datagram_poll`, `sock_writeable`).
//! - **All sockets**: the family, the type, the protocol and the pending error. The error is a
//!   single word. The others do not change, except that `IPV6_ADDRFORM` turns IPv6 into IPv4
//!   (`sk_alloc`, `sock_init_data_uid`, `sock_error`).
//!
//! MPTCP, SCTP, TIPC, KCM, SMC, vsock and others unlink and free messages under the socket lock.
//! This file never waits for that lock, because its owner may sleep in a page fault. Protocols on
//! top of TCP (TLS, espintcp) and BPF sockmaps keep the readable data in queues of their own. For
//! these only `sock_is_readable` is called, as in `tcp_poll`.
//!
//! The functions that must not wait for a lock or sleep say so.
//!
//! C header: [`include/net/sock.h`](srctree/include/net/sock.h)

mod message_socket;
mod messages;
mod stream;

pub(crate) use message_socket::MessageSocket;
pub(crate) use stream::Stream;

use stream::ended;

use super::poll::operations;
use crate::generated;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    fs::File,
    sync::{
        atomic::{
            ordering::{Full, Relaxed},
            Atomic,
        },
        barrier::smp_mb,
    }, //
};

// The states and directions of `net/tcp_states.h` and `net/sock.h`.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;
const STREAM: u16 = 1;
const DGRAM: u16 = 2;
const RAW: u16 = 3;
const SEQPACKET: u16 = 5;
/// A flag in `urg_data`: the stream contains an urgent byte.
const URG_VALID: u16 = 0x0100;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;
const AF_PACKET: u16 = 17;
const IPPROTO_ICMP: u16 = 1;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_ICMPV6: u16 = 58;
const IPPROTO_MPTCP: u16 = 262;

/// The fields of sockets that are read directly. The C compiler checks their types
/// (`rust/helpers.c`).
mod field {
    use crate::{generated::*, sys::memory::field::Field};
    use core::ffi::c_void;
    use kernel::bindings::{sk_buff, sk_buff_head, sock, spinlock_t, wait_queue_head};

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
    pub(super) const QUEUE_NEXT: Field<*const sk_buff> = Field::at(kq_offset_KQ_QUEUE_NEXT);
    pub(super) const MESSAGE_NEXT: Field<*const sk_buff> = Field::at(kq_offset_KQ_SKB_NEXT);
    pub(super) const MESSAGE_LEN: Field<u32> = Field::at(kq_offset_KQ_SKB_LEN);
    pub(super) const QUEUE_LOCK: Field<spinlock_t> = Field::at(kq_offset_KQ_QUEUE_LOCK);
    pub(super) const IS_READABLE: Field<usize> = Field::at(kq_offset_KQ_PROTO_IS_READABLE);
    pub(super) const UNIX_INQ_LEN: Field<i32> = Field::at(kq_offset_KQ_UNIX_INQ_LEN);
    pub(super) const TCP_RCV_NXT: Field<u32> = Field::at(kq_offset_KQ_TCP_RCV_NXT);
    pub(super) const TCP_COPIED_SEQ: Field<u32> = Field::at(kq_offset_KQ_TCP_COPIED_SEQ);
    pub(super) const TCP_ULP: Field<usize> = Field::at(kq_offset_KQ_TCP_ULP);
    pub(super) const TCP_URG_DATA: Field<u16> = Field::at(kq_offset_KQ_TCP_URG_DATA);
}

/// The address of the `file_operations` of sockets, which are private to the kernel, once a socket
/// was found; 0 until then. The accesses are relaxed, because the address is only compared.
static OPERATIONS: Atomic<usize> = Atomic::new(0);

/// The wait queue that all pollers of a socket are in (`sock_poll_wait`), if `file` is a socket. It
/// lives as long as the file.
#[inline]
pub(crate) fn wait_queue(file: &File) -> Option<*mut bindings::wait_queue_head> {
    let known = is_known(operations(file));
    let file = file.as_ptr();
    // SAFETY: The file is valid. If its operations are those of sockets, its private data is a
    // socket.
    unsafe { known.then(|| field::WAIT.of((*file).private_data).cast_mut()) }
}

/// The shutdown flags of a socket. A connection that is reset gets its error first, and then these
/// flags (`tcp_done_with_error`). A caller that reads its error after this call does not see the
/// end of a connection without the error that has ended it, as in `tcp_poll`.
///
/// # Safety
///
/// `sk` is a valid socket.
#[inline(always)]
unsafe fn shutdown_flags(sk: *const bindings::sock) -> u8 {
    // The acquire ordering is that of the `smp_rmb()` in `tcp_poll`. What is read afterwards, such
    // as the number of bytes that are left, is not older than the flags.
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { field::SHUTDOWN.read_acquire(sk) }
}

/// True if only the protocol of the socket knows what can be read, as with TLS or a BPF sockmap.
///
/// # Safety
///
/// `sk` is a valid socket of TCP, UDP or the UNIX family.
#[inline]
unsafe fn has_own_queue(sk: *const bindings::sock) -> bool {
    // SAFETY: The caller guarantees that the socket is valid, and a socket has a protocol
    // structure. The kernel may replace the structure concurrently (`update_sk_prot` of TLS,
    // `psock_update_sk_prot`). The structures of these families are never freed while sockets
    // exist. They belong to the kernel image or to the module of a ULP, and `tcp_cleanup_ulp` drops
    // the reference to that module only when the socket is released.
    unsafe { field::IS_READABLE.read(field::PROT.read(sk)) != 0 }
}

/// True if files with these operations are known to be sockets.
#[inline]
fn is_known(operations: &bindings::file_operations) -> bool {
    // SAFETY: The static is valid, and one volatile load reads it. (The atomic load of the `kernel`
    // crate is a function call.)
    let known = unsafe { OPERATIONS.as_ptr().read_volatile() };
    ptr::from_ref(operations).addr() == known
}

/// The kind of a socket, which determines what may be read from it (see the list above).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Unix,
    Mptcp,
    /// Sockets whose messages are in the receive queue and are removed from it under its lock.
    Messages,
    /// Like `Messages`, but the messages may also be in a ring that the program has mapped.
    Packet,
    /// All others.
    Polled,
}

impl Kind {
    fn of(family: u16, kind: u16, protocol: u16) -> Self {
        match (family, kind, protocol) {
            (AF_UNIX, _, _) => Kind::Unix,
            (AF_INET | AF_INET6, STREAM, IPPROTO_TCP) => Kind::Tcp,
            (AF_INET | AF_INET6, STREAM, IPPROTO_MPTCP) => Kind::Mptcp,
            (AF_INET | AF_INET6, DGRAM, IPPROTO_UDP) => Kind::Udp,
            (AF_INET | AF_INET6, DGRAM, IPPROTO_ICMP | IPPROTO_ICMPV6)
            | (AF_INET | AF_INET6, RAW, _)
            | (AF_NETLINK, _, _) => Kind::Messages,
            (AF_PACKET, _, _) => Kind::Packet,
            _ => Kind::Polled,
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Exactly(i64),
    /// A lower bound; the rest was not counted.
    AtLeast(i64),
}

/// The socket behind a file.
///
/// # Invariants
///
/// The socket is valid as long as its file, which is borrowed for `'a`. `kind` is its kind.
pub(crate) struct Socket<'a> {
    sock: NonNull<bindings::sock>,
    kind: Kind,
    _file: PhantomData<&'a File>,
}

impl<'a> Socket<'a> {
    /// The socket of `file`, if it is a socket.
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        let operations = operations(file);
        let socket = if is_known(operations) {
            // SAFETY: The file is valid. Its operations are those of sockets, so its private data
            // is a socket.
            unsafe { (*file.as_ptr()).private_data.cast() }
        } else {
            // SAFETY: The file is valid. The result is null for a file that is not a socket.
            unsafe { bindings::sock_from_file(file.as_ptr()) }
        };
        let socket: NonNull<bindings::socket> = NonNull::new(socket)?;
        if !is_known(operations) {
            OPERATIONS.store(ptr::from_ref(operations).addr(), Relaxed);
        }
        // SAFETY: A socket lives as long as its file. It has its `sk` until it is released.
        let sock = NonNull::new(unsafe { (*socket.as_ptr()).sk })?;
        // SAFETY: The socket and its `sk` live as long as the file.
        let (family, kind, protocol) = unsafe {
            let sock = sock.as_ptr();
            (
                field::FAMILY.read(sock),
                field::TYPE.read(sock),
                field::PROTOCOL.read(sock),
            )
        };
        // INVARIANT: The socket lives as long as its file, and the kind was just determined.
        Some(Socket {
            sock,
            kind: Kind::of(family, kind, protocol),
            _file: PhantomData,
        })
    }

    /// True if this kind of socket is listed above.
    fn is_listed(&self) -> bool {
        self.kind != Kind::Polled
    }

    /// The state of the socket. TCP, MPTCP and the UNIX family use the TCP states; for other
    /// families the value has no meaning.
    fn state(&self) -> u8 {
        // SAFETY: The type's invariant guarantees that the socket is valid.
        unsafe { field::STATE.read(self.sock.as_ptr()) }
    }

    /// True if the socket is listening and its pending connections can be counted.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Unix) && self.state() == LISTEN
    }

    fn socket_type(&self) -> u16 {
        // SAFETY: The type's invariant guarantees that the socket is valid.
        unsafe { field::TYPE.read(self.sock.as_ptr()) }
    }

    /// True for a connection-oriented socket.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self.socket_type(), STREAM | SEQPACKET)
    }

    /// True for a connection-oriented socket that was never connected.
    pub(crate) fn is_unconnected(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Unix | Kind::Mptcp)
            && self.is_connection()
            && self.state() == CLOSE
            && self.shutdown() == (false, false)
            && self.error() == 0
    }

    /// True if poll(2) reports a hang-up for a socket of one of the listed kinds.
    pub(crate) fn has_hung_up(&self) -> bool {
        let both = self.shutdown() == (true, true);
        both || (self.is_connection() && self.is_listed() && self.state() == CLOSE)
    }

    /// The directions that are shut down, receive and send, as far as poll(2) does not report them.
    pub(crate) fn shutdown(&self) -> (bool, bool) {
        if !self.is_listed() {
            return (false, false);
        }
        // SAFETY: The type's invariant guarantees that the socket is valid.
        let shutdown = unsafe { shutdown_flags(self.sock.as_ptr()) };
        (shutdown & RCV_SHUTDOWN != 0, shutdown & SEND_SHUTDOWN != 0)
    }

    /// True if at least `SO_RCVLOWAT` bytes are readable. For most kinds poll(2) checks that.
    pub(crate) fn has_low_water(&self) -> bool {
        if self.kind != Kind::Unix || self.socket_type() != STREAM || self.is_listening() {
            return true;
        }
        // SAFETY: The type's invariant guarantees that the socket is valid.
        let mark = unsafe { field::RCVLOWAT.read(self.sock.as_ptr()) };
        // For a mark of one byte, poll(2) suffices.
        mark <= 1
            || match self.readable() {
                Some(Count::Exactly(bytes)) => bytes >= mark.into(),
                Some(Count::AtLeast(_)) | None => true,
            }
    }

    /// The free space in the send buffer in bytes. `None` if only the protocol knows.
    pub(crate) fn writable(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: The type's invariant guarantees that the socket is valid. The sizes and the
        // charges are single words.
        let space: i64 = unsafe {
            match self.kind {
                Kind::Tcp => generated::kq_sock_stream_wspace(sock).into(),
                Kind::Udp | Kind::Unix | Kind::Messages | Kind::Packet => {
                    generated::kq_sock_wspace(sock).into()
                }
                Kind::Mptcp | Kind::Polled => return None,
            }
        };
        Some(space.max(0))
    }

    /// Makes the socket wake its pollers when its free space grows. (TCP wakes only pollers that
    /// were told that there is no space.) Returns the free space after that. `None` if only the
    /// protocol knows.
    pub(crate) fn request_room_wakeup(&self) -> Option<i64> {
        self.writable()?;
        // SAFETY: The type's invariant guarantees that the socket is valid. It has its `struct
        // socket` until it is released. The bit is set atomically, as in `tcp_poll` and
        // `sock_wait_for_wmem`.
        unsafe { generated::kq_sock_want_room(self.sock.as_ptr()) };
        // As in `tcp_poll`, this pairs with the barrier between the release of space and the test
        // of the bit (`tcp_check_space`).
        smp_mb(Full);
        self.writable()
    }

    /// The number of bytes before the urgent byte, if there is one.
    pub(crate) fn urgent(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: The type's invariant guarantees that the socket is valid. The TCP fields are read
        // only from a TCP socket. Both ends of the distance are single words.
        unsafe {
            if self.kind != Kind::Tcp || field::TCP_URG_DATA.read(sock) & URG_VALID == 0 {
                return None;
            }
            Some((generated::kq_sock_urgent_distance(sock) as i32).into())
        }
    }

    /// The pending error of the socket, which the next call on the socket will report. It is not
    /// cleared.
    pub(crate) fn error(&self) -> u32 {
        // SAFETY: The type's invariant guarantees that the socket is valid.
        unsafe { field::ERR.read(self.sock.as_ptr()) }.unsigned_abs()
    }
}
