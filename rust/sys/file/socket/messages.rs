// SPDX-License-Identifier: GPL-2.0

//! The messages that wait in a socket's queues.

use super::field;
use super::{has_own_queue, stream::Input, Count, Kind, Socket, ESTABLISHED, STREAM};
use crate::{generated, sys::lock::irqlock::IrqSave};
use core::ptr;
use kernel::{bindings, ffi::c_ulong, sync::lock::Backend};

/// The messages that wait in a queue, or two, as far as they were counted.
#[derive(Default)]
struct Messages {
    count: usize,
    bytes: i64,
    /// There are more.
    more: bool,
}

impl Messages {
    /// No more are counted: a stranger chooses how many there are, and each is a cache miss.
    const MOST: usize = 32;

    fn count(&mut self, queue: &Queue) {
        // SAFETY: The queue is locked.
        unsafe { self.count_some(queue.queue, Self::MOST) };
    }

    /// Goes on until there are `most`.
    ///
    /// # Safety
    ///
    /// The queue is locked.
    #[inline]
    unsafe fn count_some(&mut self, queue: *mut bindings::sk_buff_head, most: usize) {
        // SAFETY: The queue is locked, so the messages in it stay. The first and the last are
        // linked with the queue itself.
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

    /// `None` if there are none.
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

/// A socket's queue, locked.
struct Queue {
    queue: *mut bindings::sk_buff_head,
    flags: c_ulong,
}

/// A socket's queue, locked while interrupts are off.
struct TriedQueue(*mut bindings::sk_buff_head);

impl TriedQueue {
    /// `None` if the lock is not free: the caller may hold a lock that its holder waits for.
    ///
    /// # Safety
    ///
    /// `queue` is valid until the value is dropped, messages are only put into it and taken from it
    /// under its lock, and interrupts are off.
    unsafe fn lock(queue: *mut bindings::sk_buff_head) -> Option<Self> {
        // SAFETY: The caller upholds this function's safety contract.
        let locked = unsafe { generated::kq_spin_trylock(field::QUEUE_LOCK.of(queue).cast_mut()) };
        // Made only if it is locked: it unlocks when it is dropped.
        locked.then(|| TriedQueue(queue))
    }

    /// The first message, which stays while the queue is locked.
    fn first(&self) -> Option<*mut bindings::sk_buff> {
        // SAFETY: The queue is valid, as it is locked.
        let first = unsafe { field::QUEUE_NEXT.read(self.0) };
        (!ptr::eq(first, self.0.cast())).then_some(first.cast_mut())
    }
}

impl Drop for TriedQueue {
    fn drop(&mut self) {
        // SAFETY: Locked in `lock`.
        unsafe { generated::kq_spin_unlock(field::QUEUE_LOCK.of(self.0).cast_mut()) };
    }
}

impl Queue {
    /// # Safety
    ///
    /// `queue` is valid until the value is dropped, and messages are only put into it and taken
    /// from it under its lock. Who has that lock does not wait for a lock that the caller has.
    unsafe fn lock(queue: *mut bindings::sk_buff_head) -> Self {
        // SAFETY: By this function's contract. Interrupts are off, as in `skb_queue_tail`: some
        // queues are filled from there.
        let flags = unsafe { IrqSave::lock(field::QUEUE_LOCK.of(queue).cast_mut()) };
        Queue { queue, flags }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: Locked in `lock`.
        unsafe { IrqSave::unlock(field::QUEUE_LOCK.of(self.queue).cast_mut(), &self.flags) };
    }
}

impl<'a> Socket<'a> {
    /// Bytes to read, or for a listening socket the connections that wait. `None` if they wait
    /// where only the kind of socket knows.
    pub(crate) fn readable(&self) -> Option<Count> {
        let sock = self.sock.as_ptr();
        let listening = self.is_listening();
        // SAFETY: Valid by the type's invariant, and of the kind that each function takes.
        let count: i64 = unsafe {
            match self.kind {
                Kind::Unix if listening => generated::kq_sock_receive_queue_len(sock).into(),
                Kind::Tcp if listening => generated::kq_sock_accept_backlog(sock).into(),
                Kind::Tcp | Kind::Udp | Kind::Unix if self.has_other_bytes() => return None,
                Kind::Tcp => generated::kq_sock_tcp_inq(sock).into(),
                Kind::Unix if self.socket_type() == STREAM => field::UNIX_INQ_LEN.read(sock).into(),
                Kind::Udp => {
                    let mut messages = Messages::default();
                    // They move from the other queue to the reader's, under both locks.
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
                        // A ring that is mapped has them.
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

    /// Bytes in the messages that wait, if it is of a kind whose messages are counted, there are
    /// few, and nothing else is to be told. Never sleeps, and waits for no lock. Interrupts are
    /// off. The file `blocks` if it is not `O_NONBLOCK`.
    pub(crate) fn messages_at_once(&self, blocks: bool) -> Input {
        /// So many messages are counted in no time, and not more, since interrupts are off
        /// meanwhile.
        const FEW: usize = 4;
        let sock = self.sock.as_ptr();
        let mut messages = Messages::default();
        // SAFETY: Valid by the type's invariant, and of the kind that each function takes.
        // Interrupts are off.
        unsafe {
            if field::ERR.read(sock) != 0 || field::SHUTDOWN.read(sock) != 0 {
                return Input::Other;
            }
            match self.kind {
                Kind::Udp if has_own_queue(sock) => return Input::Other,
                Kind::Udp => {
                    let Some(reader) = TriedQueue::lock(generated::kq_sock_reader_queue(sock))
                    else {
                        return Input::Other;
                    };
                    let Some(queue) = TriedQueue::lock(generated::kq_sock_receive_queue(sock))
                    else {
                        return Input::Other;
                    };
                    messages.count_some(reader.0, FEW);
                    messages.count_some(queue.0, FEW);
                    // `udp_poll` drops a datagram whose checksum is wrong, if a read would block
                    // then.
                    let first = reader.first().or_else(|| queue.first());
                    if blocks && first.is_some_and(|first| !generated::kq_skb_is_checked(first)) {
                        return Input::Other;
                    }
                }
                // A connection that has not begun or has ended has more to tell, as one that
                // listens has.
                Kind::Unix if self.is_connection() && self.state() != ESTABLISHED => {
                    return Input::Other;
                }
                Kind::Unix if has_own_queue(sock) => return Input::Other,
                Kind::Unix | Kind::Messages => {
                    let Some(queue) = TriedQueue::lock(generated::kq_sock_receive_queue(sock))
                    else {
                        return Input::Other;
                    };
                    messages.count_some(queue.0, FEW);
                }
                Kind::Tcp | Kind::Mptcp | Kind::Packet | Kind::Polled => return Input::Other,
            }
        }
        match messages.total() {
            Some(Count::Exactly(bytes)) => Input::Bytes(bytes),
            Some(Count::AtLeast(_)) => Input::Other,
            None => Input::Nothing,
        }
    }

    /// True if there is something to read that is not in the socket's own queue: only its protocol
    /// knows how much.
    fn has_other_bytes(&self) -> bool {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant, and of a kind that may have one. It is asked with
        // no lock held, as `tcp_poll`, `udp_poll` and `unix_poll` do.
        unsafe { has_own_queue(sock) && generated::kq_sock_is_readable(sock) }
    }
}
