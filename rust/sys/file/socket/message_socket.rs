// SPDX-License-Identifier: GPL-2.0

//! The state of sockets with messages, determined without sleeping and without waiting for a lock.

use super::{
    ended, field, has_own_queue, is_known, messages::Messages, shutdown_flags, Kind, Socket,
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLOSE, DGRAM, ESTABLISHED, IPPROTO_UDP, RCV_SHUTDOWN,
    SEND_SHUTDOWN, STREAM,
};
use crate::{
    generated,
    sys::file::poll::{operations, FastPoll}, //
};
use core::ptr;
use kernel::{
    bindings,
    fs::{file::flags::O_NONBLOCK, File}, //
};

/// The kinds of sockets whose messages are in queues that are locked for a moment only. All pollers
/// of such a socket are in its own wait queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageSocket {
    Udp,
    /// UNIX sockets except streams.
    Unix,
    /// Netlink, raw and ping sockets.
    Other,
}

/// True if a queue has no messages. The queue need not be locked: if a message is added meanwhile,
/// the socket wakes its pollers after that (`datagram_poll` relies on the same).
///
/// # Safety
///
/// `queue` is valid.
unsafe fn is_empty(queue: *mut bindings::sk_buff_head) -> bool {
    // SAFETY: By this function's contract. The field is a single word, which is only compared.
    let next = unsafe { field::QUEUE_NEXT.read(queue) };
    ptr::eq(next, queue.cast())
}

/// A locked queue of a socket, if interrupts were already disabled.
struct TriedQueue(*mut bindings::sk_buff_head);

impl TriedQueue {
    /// Locks the queue if its lock is free. The caller must not wait for the lock, because it may
    /// hold a lock that the owner waits for.
    ///
    /// # Safety
    ///
    /// `queue` is valid until the value is dropped. Messages are added to it and removed from it
    /// only under its lock. Interrupts are disabled.
    #[inline(always)]
    unsafe fn lock(queue: *mut bindings::sk_buff_head) -> Option<Self> {
        // SAFETY: The caller upholds this function's safety contract.
        let locked = unsafe { generated::kq_spin_trylock(field::QUEUE_LOCK.of(queue).cast_mut()) };
        // The value is created only if the lock was acquired, because its drop releases the lock.
        locked.then(|| TriedQueue(queue))
    }

    /// The first message, which stays valid while the queue is locked.
    fn first(&self) -> Option<*mut bindings::sk_buff> {
        // SAFETY: This value locks the queue, so it is valid.
        let first = unsafe { field::QUEUE_NEXT.read(self.0) };
        (!ptr::eq(first, self.0.cast())).then_some(first.cast_mut())
    }
}

impl Drop for TriedQueue {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: The queue was locked in `lock`.
        unsafe { generated::kq_spin_unlock(field::QUEUE_LOCK.of(self.0).cast_mut()) };
    }
}

impl MessageSocket {
    /// The kind of the socket, if it is one of these.
    pub(crate) fn of(socket: &Socket<'_>) -> Option<Self> {
        match socket.kind {
            Kind::Udp => Some(MessageSocket::Udp),
            Kind::Unix if socket.socket_type() != STREAM => Some(MessageSocket::Unix),
            Kind::Messages => Some(MessageSocket::Other),
            _ => None,
        }
    }

    /// The `struct sock` of `file`, if the file is a socket of this kind.
    #[inline(always)]
    fn sock(self, file: &File) -> Option<*mut bindings::sock> {
        // SAFETY: The file is valid. If its operations are those of sockets, its private data is a
        // socket. The socket lives as long as the file and has its `sk` until it is released. The
        // family, the type and the protocol determine its kind.
        unsafe {
            if !is_known(operations(file)) {
                return None;
            }
            let sk = field::SK.read((*file.as_ptr()).private_data);
            if sk.is_null() {
                return None;
            }
            let (family, kind) = (field::FAMILY.read(sk), field::TYPE.read(sk));
            let fits = match self {
                MessageSocket::Udp => {
                    (family == AF_INET || family == AF_INET6)
                        && kind == DGRAM
                        && field::PROTOCOL.read(sk) == IPPROTO_UDP
                }
                MessageSocket::Unix => family == AF_UNIX && kind != STREAM,
                MessageSocket::Other => {
                    family == AF_NETLINK
                        || Kind::of(family, kind, field::PROTOCOL.read(sk)) == Kind::Messages
                }
            };
            fits.then_some(sk.cast_mut())
        }
    }

    /// The number of bytes in the messages, if there are few; or whether the socket has ended or
    /// has an error. Interrupts are disabled.
    #[inline(always)]
    pub(crate) fn poll(self, file: &File) -> FastPoll {
        let Some(sk) = self.sock(file) else {
            return FastPoll::Unknown;
        };
        // SAFETY: The socket is valid and of this kind.
        let (shutdown, error) = unsafe { (shutdown_flags(sk), field::ERR.read(sk)) };
        if error != 0 {
            return FastPoll::Failed;
        }
        let blocks = file.flags() & O_NONBLOCK == 0;
        if shutdown != 0 {
            // SAFETY: The socket is valid and of this kind.
            return unsafe { self.poll_ended(sk, shutdown, blocks) };
        }
        // SAFETY: The socket is valid and of this kind.
        match unsafe { self.try_count(sk, blocks) } {
            None | Some(Messages { more: true, .. }) => FastPoll::Unknown,
            Some(Messages { count: 0, .. }) => FastPoll::NotReady,
            Some(Messages { bytes, .. }) => FastPoll::Ready(bytes),
        }
    }

    /// [`MessageSocket::poll`] for a socket with these shutdown flags. The end of a connection is
    /// determined as in `unix_poll`.
    ///
    /// # Safety
    ///
    /// `sk` is a valid socket of this kind. Interrupts are disabled.
    #[inline(always)]
    unsafe fn poll_ended(self, sk: *mut bindings::sock, shutdown: u8, blocks: bool) -> FastPoll {
        // SAFETY: By this function's contract. All reads are of single words.
        unsafe {
            let is_connection = self == MessageSocket::Unix && field::TYPE.read(sk) != DGRAM;
            if !is_connection || shutdown & RCV_SHUTDOWN == 0 {
                return FastPoll::Unknown;
            }
            match self.try_bytes(sk, blocks) {
                Some(bytes) => ended(bytes, shutdown, field::STATE.read(sk)),
                None => FastPoll::Unknown,
            }
        }
    }

    /// Counts the first messages. `None` if another task holds a lock, or if the socket may have
    /// more to report. `blocks` says that the file is not `O_NONBLOCK`.
    ///
    /// # Safety
    ///
    /// `sk` is a valid socket of this kind. Interrupts are disabled.
    #[inline(always)]
    pub(super) unsafe fn try_count(
        self,
        sk: *mut bindings::sock,
        blocks: bool,
    ) -> Option<Messages> {
        /// The maximum number of messages to count. It is small because interrupts are disabled
        /// meanwhile.
        const TRY_COUNT_MAX: usize = 4;
        let mut messages = Messages::default();
        // SAFETY: By this function's contract. Each function is called for sockets of its kind
        // only.
        unsafe {
            let queue = field::RECEIVE_QUEUE.of(sk).cast_mut();
            match self {
                MessageSocket::Udp => {
                    if has_own_queue(sk) {
                        return None;
                    }
                    let reader = TriedQueue::lock(generated::kq_sock_reader_queue(sk))?;
                    let queue = TriedQueue::lock(queue)?;
                    messages.count_some(reader.0, TRY_COUNT_MAX);
                    messages.count_some(queue.0, TRY_COUNT_MAX);
                    // If a read may block, `udp_poll` drops a datagram whose checksum is wrong.
                    let first = reader.first().or_else(|| queue.first());
                    if blocks && first.is_some_and(|first| !generated::kq_skb_is_checked(first)) {
                        return None;
                    }
                    return Some(messages);
                }
                // An unconnected or closed connection has more to report, and so has a listening
                // socket.
                MessageSocket::Unix => {
                    let is_connection = field::TYPE.read(sk) != DGRAM;
                    if (is_connection && field::STATE.read(sk) != ESTABLISHED) || has_own_queue(sk)
                    {
                        return None;
                    }
                }
                MessageSocket::Other => {}
            }
            if !is_empty(queue) {
                let queue = TriedQueue::lock(queue)?;
                messages.count_some(queue.0, TRY_COUNT_MAX);
            }
        }
        Some(messages)
    }

    /// The number of bytes in the messages of a socket that is ready for another reason. `None` as
    /// for [`MessageSocket::try_count`]. (An empty queue is not locked. A UDP socket may move
    /// messages from one of its queues to the other meanwhile, and then the result may be 0. So the
    /// result does not tell whether the socket is ready.)
    ///
    /// # Safety
    ///
    /// That of [`MessageSocket::try_count`].
    #[inline(always)]
    pub(super) unsafe fn try_bytes(self, sk: *mut bindings::sock, blocks: bool) -> Option<i64> {
        // SAFETY: By this function's contract. Only a UDP socket has the second queue, and only UDP
        // and UNIX sockets may have a queue of another protocol.
        unsafe {
            let has_own_queue = self != MessageSocket::Other && has_own_queue(sk);
            if !has_own_queue
                && is_empty(field::RECEIVE_QUEUE.of(sk).cast_mut())
                && (self != MessageSocket::Udp || is_empty(generated::kq_sock_reader_queue(sk)))
            {
                return Some(0);
            }
            let messages = self.try_count(sk, blocks)?;
            (!messages.more).then_some(messages.bytes)
        }
    }

    /// The free space in bytes, if poll(2) checks nothing else for this kind of socket and the
    /// space is as large as poll(2) requires (`datagram_poll`, `unix_dgram_poll`); or whether the
    /// socket has ended or has an error.
    #[inline(always)]
    pub(crate) fn room(self, file: &File) -> FastPoll {
        let Some(sk) = self.sock(file) else {
            return FastPoll::Unknown;
        };
        // SAFETY: The socket is valid and of this kind. All reads are of single words.
        unsafe {
            let is_connection = self == MessageSocket::Unix && field::TYPE.read(sk) != DGRAM;
            let has_room = match self {
                MessageSocket::Udp | MessageSocket::Other => generated::kq_sock_is_writable(sk),
                // The peer of a connection has no other sender.
                MessageSocket::Unix if is_connection => {
                    field::STATE.read(sk) == ESTABLISHED && generated::kq_sock_unix_is_writable(sk)
                }
                MessageSocket::Unix => {
                    generated::kq_sock_unix_is_writable(sk) && Self::peer_has_room(sk)
                }
            };
            let shutdown = shutdown_flags(sk);
            if field::ERR.read(sk) != 0 {
                return FastPoll::Failed;
            }
            if shutdown != 0 && is_connection {
                return Self::room_of_ended(sk, shutdown);
            }
            if !has_room || shutdown != 0 {
                return FastPoll::Unknown;
            }
            FastPoll::Ready(i64::from(generated::kq_sock_wspace(sk)).max(0))
        }
    }

    /// [`MessageSocket::room`] for a UNIX connection with these shutdown flags. Its end is
    /// determined as in `unix_dgram_poll`.
    ///
    /// # Safety
    ///
    /// `sk` is a valid UNIX socket.
    #[cold]
    unsafe fn room_of_ended(sk: *mut bindings::sock, shutdown: u8) -> FastPoll {
        // SAFETY: By this function's contract. The size and the charge are single words.
        let (state, room) = unsafe { (field::STATE.read(sk), generated::kq_sock_wspace(sk)) };
        if shutdown & SEND_SHUTDOWN == 0 && state != CLOSE {
            return FastPoll::Unknown;
        }
        ended(i64::from(room).max(0), shutdown, state)
    }

    /// True if the peer of a UNIX datagram socket, if it has one, accepts another message. False if
    /// that is not so, or if the lock is taken: a wake-up may come under that lock.
    ///
    /// # Safety
    ///
    /// `sk` is a valid UNIX socket.
    #[inline(never)]
    unsafe fn peer_has_room(sk: *mut bindings::sock) -> bool {
        // SAFETY: By this function's contract. The socket has a reference to its peer, and does not
        // lose it while its lock is held. The other reads are of single words, as in
        // `unix_dgram_poll` and `unix_recvq_full_lockless`.
        unsafe {
            if !generated::kq_unix_try_lock(sk) {
                return false;
            }
            let peer = generated::kq_unix_peer(sk);
            let has_room = peer.is_null()
                || generated::kq_unix_peer(peer) == sk
                || generated::kq_sock_receive_queue_len(peer)
                    <= generated::kq_sock_max_backlog(peer);
            generated::kq_unix_unlock(sk);
            has_room
        }
    }
}
