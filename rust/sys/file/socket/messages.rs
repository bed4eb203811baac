// SPDX-License-Identifier: GPL-2.0

//! The messages in the receive queues of a socket.

use super::{
    field,
    has_own_queue,
    stream::Stream,
    Count,
    Kind,
    MessageSocket,
    Socket,
    STREAM, //
};
use crate::generated;
use core::ptr;
use kernel::{bindings, ffi::c_ulong};

/// The messages of one or two queues, as far as they were counted.
#[derive(Default)]
pub(super) struct Messages {
    pub(super) count: usize,
    pub(super) bytes: i64,
    /// True if there are more messages than were counted.
    pub(super) more: bool,
}

impl Messages {
    /// The maximum number of messages to count. The sender, which may be any process or remote
    /// host, determines how many there are, and each one costs a cache miss.
    const COUNT_MAX: usize = 32;

    fn count(&mut self, queue: &Queue) {
        // SAFETY: The queue is locked.
        unsafe { self.count_some(queue.queue, Self::COUNT_MAX) };
    }

    /// Counts further messages until `most` are counted in total.
    ///
    /// # Safety
    ///
    /// The queue is locked.
    #[inline(always)]
    pub(super) unsafe fn count_some(&mut self, queue: *mut bindings::sk_buff_head, most: usize) {
        // SAFETY: The queue is locked, so its messages are not freed. The first and the last
        // message are linked with the head of the queue.
        unsafe {
            let mut message = field::QUEUE_NEXT.read(queue);
            while !ptr::eq(message, queue.cast()) {
                if self.count == most {
                    self.more = true;
                    return;
                }
                self.count += 1;
                self.bytes += i64::from(field::MESSAGE_LEN.read(message));
                message = field::MESSAGE_NEXT.read(message);
            }
        }
    }

    /// The number of bytes. `None` if there are no messages.
    fn total(self) -> Option<Count> {
        match self {
            Messages { count: 0, .. } => None,
            Messages {
                bytes, more: true, ..
            } => Some(Count::AtLeast(bytes)),
            Messages { bytes, .. } => Some(Count::Exactly(bytes)),
        }
    }
}

/// A locked queue of a socket.
struct Queue {
    queue: *mut bindings::sk_buff_head,
    flags: c_ulong,
}

impl Queue {
    /// # Safety
    ///
    /// `queue` is valid until the value is dropped. Messages are added to it and removed from it
    /// only under its lock. The owner of that lock does not wait for a lock that the caller holds.
    unsafe fn lock(queue: *mut bindings::sk_buff_head) -> Self {
        // SAFETY: The caller upholds this function's safety contract. Interrupts are disabled, as
        // in `skb_queue_tail`, because some queues are filled in interrupt context.
        let flags =
            unsafe { generated::kq_spin_lock_irqsave(field::QUEUE_LOCK.of(queue).cast_mut()) };
        Queue { queue, flags }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: The queue was locked in `lock`.
        unsafe {
            generated::kq_spin_unlock_irqrestore(
                field::QUEUE_LOCK.of(self.queue).cast_mut(),
                self.flags,
            );
        }
    }
}

impl<'a> Socket<'a> {
    /// The number of readable bytes or, for a listening socket, of pending connections. `None` if
    /// only the protocol knows.
    pub(crate) fn readable(&self) -> Option<Count> {
        let sock = self.sock.as_ptr();
        let listening = self.is_listening();
        // SAFETY: The type's invariant guarantees that the socket is valid. Each function is called
        // for sockets of its kind only.
        let count: i64 = unsafe {
            match self.kind {
                Kind::Unix if listening => generated::kq_sock_receive_queue_len(sock).into(),
                Kind::Tcp if listening => generated::kq_sock_accept_backlog(sock).into(),
                Kind::Tcp | Kind::Udp | Kind::Unix if self.has_other_bytes() => return None,
                Kind::Tcp => match generated::kq_sock_tcp_inq(sock) {
                    0 => self.after_urgent().into(),
                    count => count.into(),
                },
                Kind::Unix if self.socket_type() == STREAM => field::UNIX_INQ_LEN.read(sock).into(),
                Kind::Udp => {
                    let mut messages = Messages::default();
                    // Messages move from the other queue to the reader queue under both locks.
                    let reader = Queue::lock(generated::kq_sock_reader_queue(sock));
                    messages.count(&reader);
                    if !messages.more {
                        messages.count(&Queue::lock(generated::kq_sock_receive_queue(sock)));
                    }
                    drop(reader);
                    return messages.total().or(Some(Count::Exactly(0)));
                }
                Kind::Unix | Kind::Messages | Kind::Packet => {
                    let mut messages = Messages::default();
                    messages.count(&Queue::lock(generated::kq_sock_receive_queue(sock)));
                    return match messages.total() {
                        // The messages may be in a ring that the program has mapped.
                        None if self.kind == Kind::Packet => None,
                        None => Some(Count::Exactly(0)),
                        total => total,
                    };
                }
                Kind::Mptcp | Kind::Polled => return None,
            }
        };
        Some(Count::Exactly(count.max(0)))
    }

    /// [`Socket::readable`] for a socket that is not listening and has few messages. `None` if the
    /// number cannot be determined now. Never sleeps and does not wait for a lock. Interrupts are
    /// disabled. `blocks` says that the file is not `O_NONBLOCK`. (A UDP socket may move messages
    /// from one of its queues to the other meanwhile, and then the result may be 0. Therefore the
    /// result does not tell whether the socket is ready.)
    pub(crate) fn try_readable(&self, blocks: bool) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: The type's invariant guarantees that the socket is valid. Each function is called
        // for sockets of its kind only.
        let stream: i32 = unsafe {
            match Stream::of(self) {
                None => return MessageSocket::of(self)?.try_bytes(sock, blocks),
                Some(_) if self.is_listening() => return None,
                Some(Stream::Tcp) if Stream::is_plain_tcp(sock) => generated::kq_sock_tcp_inq(sock),
                Some(Stream::Unix) if !has_own_queue(sock) => field::UNIX_INQ_LEN.read(sock),
                Some(_) => return None,
            }
        };
        Some(stream.max(0).into())
    }

    /// The number of bytes of a TCP socket that follow an urgent byte if that byte is next. A read
    /// skips the urgent byte (`tcp_recvmsg_locked`), but `tcp_inq` stops at it.
    fn after_urgent(&self) -> i32 {
        let sock = self.sock.as_ptr();
        // SAFETY: The type's invariant guarantees that the socket is valid, and the caller calls
        // this for TCP sockets only. All reads are of single words.
        unsafe {
            if field::TCP_URG_DATA.read(sock) == 0 || generated::kq_sock_urgent_distance(sock) != 0
            {
                return 0;
            }
            let queued = field::TCP_RCV_NXT
                .read(sock)
                .wrapping_sub(field::TCP_COPIED_SEQ.read(sock)) as i32;
            // The urgent byte and a FIN have a place in the sequence.
            queued - 1 - i32::from(generated::kq_sock_is_done(sock))
        }
    }

    /// True if there is something to read outside the socket's own queue, whose size only the
    /// protocol knows.
    fn has_other_bytes(&self) -> bool {
        let sock = self.sock.as_ptr();
        // SAFETY: The type's invariant guarantees that the socket is valid, and its kind may have
        // such a queue. The function is called with no lock held, as in `tcp_poll`, `udp_poll` and
        // `unix_poll`.
        unsafe { has_own_queue(sock) && generated::kq_sock_is_readable(sock) }
    }
}
