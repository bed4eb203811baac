// SPDX-License-Identifier: GPL-2.0

//! What a socket holds and has room for.
//!
//! Each family guards what it holds in a way of its own, so a socket is looked into only if it is
//! of a kind that is listed here. All others are polled, and nothing else.
//!
//! | Kind | Read | Guarded by | Checked against |
//! |---|---|---|---|
//! | TCP | sequence numbers, state, error, shutdown, backlog, send buffer | nothing: single words | `tcp_poll`, `tcp_inq`, `sk_stream_wspace` |
//! | UDP | the first datagrams of `reader_queue` and `sk_receive_queue` | the locks of both, in that order | `first_packet_length`, `udp_poll` |
//! | UNIX, streams | `inq_len` | nothing: a single word | `unix_inq_len`, `unix_poll` |
//! | UNIX, others | the first messages of `sk_receive_queue`; of a listener, how many | that queue's lock | `unix_inq_len`, `__skb_try_recv_datagram` |
//! | raw and ping sockets, netlink, packet | the first messages of `sk_receive_queue` | that queue's lock, interrupts off | `__sock_queue_rcv_skb`, `__skb_try_recv_datagram`; `raw_recvmsg`, `ping_recvmsg`, `netlink_recvmsg`, `tpacket_rcv` |
//! | MPTCP | state | nothing: a single word | `mptcp_poll` |
//! | all of these | what is shut down, size and charge of the send buffer | nothing: single words | `datagram_poll`, `sock_writeable` |
//! | all there are | family, type, protocol, the error | nothing: the error is a single word, the others stay (`IPV6_ADDRFORM` makes IPv4 of IPv6) | `sk_alloc`, `sock_init_data_uid`, `sock_error` |
//!
//! MPTCP, SCTP, TIPC, KCM, SMC, vsock and others unlink and free messages under the socket's lock,
//! which is not for us to wait for: whoever has it may sleep in a page fault. What is on top of TCP
//! (TLS, espintcp) or in between (the sockmap of BPF) keeps what can be read to itself: of that
//! only `sock_is_readable` is asked, as `tcp_poll` asks it.
//!
//! C header: [`include/net/sock.h`](srctree/include/net/sock.h)

mod messages;
mod stream;

pub(crate) use stream::{Input, Stream};

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

// States and directions, as in `net/tcp_states.h` and `net/sock.h`.
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
/// In `urg_data`: there is an urgent byte.
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

/// What is read of sockets without a call. The C compiler checks the types (`rust/helpers.c`).
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

/// The operations of the files that are sockets, once one was seen; private to the kernel.
static OPERATIONS: Atomic<usize> = Atomic::new(0);

/// The wait queue that all of a socket's pollers are in (`sock_poll_wait`), if `file` is one. It
/// lives as long as the file.
#[inline]
pub(crate) fn wait_queue(file: &File) -> Option<*mut bindings::wait_queue_head> {
    let known = is_known(operations(file));
    let file = file.as_ptr();
    // SAFETY: The file is valid. If its operations are a socket's, its private data is one.
    unsafe { known.then(|| field::WAIT.of((*file).private_data).cast_mut()) }
}

/// True if what can be read of a socket is known to its protocol alone: TLS, or a BPF program's.
///
/// # Safety
///
/// `sk` is valid, and of TCP, UDP or the UNIX family.
#[inline]
unsafe fn has_own_queue(sk: *const bindings::sock) -> bool {
    // SAFETY: By this function's contract; a socket has a protocol. It may be replaced meanwhile
    // (by `update_sk_prot` of TLS, and `psock_update_sk_prot`), but those of these families are
    // never freed while there are sockets: they belong to the kernel, or to the module of a ULP,
    // which `tcp_cleanup_ulp` lets go of when the socket is released.
    unsafe { field::IS_READABLE.read(field::PROT.read(sk)) != 0 }
}

/// True if files with these operations are known to be sockets.
#[inline]
fn is_known(operations: &bindings::file_operations) -> bool {
    // SAFETY: Valid, and read at once. (The `kernel` crate's load is a call.)
    let known = unsafe { OPERATIONS.as_ptr().read_volatile() };
    ptr::from_ref(operations).addr() == known
}

/// What a socket may be asked: see the table above.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Unix,
    Mptcp,
    /// Those whose messages wait in the receive queue, and are taken from it under its lock.
    Messages,
    /// The same; they may also be in a ring that the program has mapped.
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

/// How much there is.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Exactly(i64),
    /// Nobody has counted the rest.
    AtLeast(i64),
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

impl<'a> Socket<'a> {
    /// The socket of `file`, if it is one.
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        let operations = operations(file);
        let socket = if is_known(operations) {
            // SAFETY: The file is valid. The private data of a file with a socket's operations is
            // one.
            unsafe { (*file.as_ptr()).private_data.cast() }
        } else {
            // SAFETY: The file is valid; the result is null for a file that is no socket.
            unsafe { bindings::sock_from_file(file.as_ptr()) }
        };
        let socket: NonNull<bindings::socket> = NonNull::new(socket)?;
        if !is_known(operations) {
            OPERATIONS.store(ptr::from_ref(operations).addr(), Relaxed);
        }
        // SAFETY: A socket lives as long as its file, and has its `sk` until it is released.
        let sock = NonNull::new(unsafe { (*socket.as_ptr()).sk })?;
        // SAFETY: The reason given above applies here too.
        let (family, kind, protocol) = unsafe {
            let sock = sock.as_ptr();
            (
                field::FAMILY.read(sock),
                field::TYPE.read(sock),
                field::PROTOCOL.read(sock),
            )
        };
        // INVARIANT: As above.
        Some(Socket {
            sock,
            kind: Kind::of(family, kind, protocol),
            _file: PhantomData,
        })
    }

    /// True if more can be told of it than poll(2) says.
    fn is_listed(&self) -> bool {
        self.kind != Kind::Polled
    }

    /// Those of TCP, which the UNIX family and MPTCP have too; nothing for the others.
    fn state(&self) -> u8 {
        // SAFETY: Valid by the type's invariant.
        unsafe { field::STATE.read(self.sock.as_ptr()) }
    }

    /// True if connections wait there that are counted.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Unix) && self.state() == LISTEN
    }

    fn socket_type(&self) -> u16 {
        // SAFETY: The reason given above applies here too.
        unsafe { field::TYPE.read(self.sock.as_ptr()) }
    }

    /// True for a socket that is connected before it is used.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self.socket_type(), STREAM | SEQPACKET)
    }

    /// True for a connection that was not begun.
    pub(crate) fn is_unconnected(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Unix | Kind::Mptcp)
            && self.is_connection()
            && self.state() == CLOSE
            && self.shutdown() == (false, false)
            && self.error() == 0
    }

    /// Which directions are shut down, as far as poll(2) does not say so: in, out.
    pub(crate) fn shutdown(&self) -> (bool, bool) {
        if !self.is_listed() {
            return (false, false);
        }
        // SAFETY: The reason given above applies here too.
        let shutdown = unsafe { field::SHUTDOWN.read(self.sock.as_ptr()) };
        (shutdown & RCV_SHUTDOWN != 0, shutdown & SEND_SHUTDOWN != 0)
    }

    /// True when as many bytes are there as `SO_RCVLOWAT` says. For most kinds poll(2) knows.
    pub(crate) fn has_low_water(&self) -> bool {
        if self.kind != Kind::Unix || self.socket_type() != STREAM || self.is_listening() {
            return true;
        }
        // SAFETY: The reason given above applies here too.
        let mark = unsafe { field::RCVLOWAT.read(self.sock.as_ptr()) };
        // For one byte poll(2) knows as well.
        mark <= 1
            || match self.readable() {
                Some(Count::Exactly(bytes)) => bytes >= mark.into(),
                Some(Count::AtLeast(_)) | None => true,
            }
    }

    /// Bytes of room, if it is of a kind that poll(2) asks for nothing else, and has as much as it
    /// asks for (`datagram_poll`; `unix_dgram_poll` of a connection, whose other side has no other
    /// sender). Takes no lock, and never sleeps.
    pub(crate) fn room_at_once(&self) -> Input {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant. All are single words.
        unsafe {
            let has_room = match self.kind {
                Kind::Udp | Kind::Messages => generated::kq_sock_is_writable(sock),
                Kind::Unix if self.is_connection() && self.state() == ESTABLISHED => {
                    generated::kq_sock_unix_is_writable(sock)
                }
                _ => false,
            };
            if !has_room || field::ERR.read(sock) != 0 || field::SHUTDOWN.read(sock) != 0 {
                return Input::Other;
            }
            Input::Bytes(i64::from(generated::kq_sock_wspace(sock)).max(0))
        }
    }

    /// Bytes of room in the send buffer; `None` if only the kind of socket knows.
    pub(crate) fn writable(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant. Sizes and what is charged to them are single
        // words.
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

    /// Has the socket wake its pollers when it has more room. (TCP only tells those who were told
    /// that there is none.) Gives how much it has got by then; `None` if only the kind of socket
    /// knows.
    pub(crate) fn want_room(&self) -> Option<i64> {
        self.writable()?;
        // SAFETY: Valid by the type's invariant. It has its `struct socket` until it is released;
        // the bit is set at once, as `tcp_poll` and `sock_wait_for_wmem` do.
        unsafe { generated::kq_sock_want_room(self.sock.as_ptr()) };
        smp_mb(Full);
        self.writable()
    }

    /// Bytes before the urgent one, if there is one.
    pub(crate) fn urgent(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant; TCP's. Both ends of the distance are single words.
        unsafe {
            if self.kind != Kind::Tcp || field::TCP_URG_DATA.read(sock) & URG_VALID == 0 {
                return None;
            }
            Some((generated::kq_sock_urgent_distance(sock) as i32).into())
        }
    }

    /// The error that the next call on the socket will report; it stays there.
    pub(crate) fn error(&self) -> u32 {
        // SAFETY: Valid by the type's invariant.
        unsafe { field::ERR.read(self.sock.as_ptr()) }.unsigned_abs()
    }
}
