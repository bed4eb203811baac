// SPDX-License-Identifier: GPL-2.0

//! Operations with several threads or processes that have one outcome nevertheless: all data that
//! was written is reported, all pending events are collected, and a call with a timeout returns in
//! time.

use crate::{
    chaos::kinds::{self, Place, KINDS},
    random::Random,
    sys::{self, address_mut, call, Fd},
};
use kqueue::{ev, note, Event, Filter};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

/// A timeout in nanoseconds that is never reached unless something hangs.
const SOON: i64 = 40_000_000_000;
/// The timeout of a call that waits for an event which may not come.
const MOMENT: i64 = 20_000_000;

/// The kinds that are connected pairs. The last two of the opened descriptors are the ends. For the
/// first kinds of the list, `data` is the number of bytes that can be read.
pub const STREAMS: [&str; 11] = [
    "pipe",
    "unix_stream",
    "tcp",
    "tcp6",
    "packets",
    "unix_seqpacket",
    "ktls",
    "mptcp",
    "sctp",
    "tipc",
    "vsock",
];
const COUNTED: usize = 4;

/// A process writes with blocking calls, and this thread reads when an event is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The index in [`STREAMS`].
    pub kind: usize,
    pub seed: u64,
    /// The flags and parameters of the reader's knote.
    pub flags: u16,
    /// The number of bytes of the first write.
    pub first: usize,
    /// The number of bytes of the second write, which is one call.
    pub size: usize,
    /// If bytes are counted, each read takes the reported number divided by this number.
    pub part: usize,
    /// The delay in milliseconds between an event and the read.
    pub delay: u8,
}

/// Several threads collect one-shot events, while other pending descriptors are closed. A thread
/// that has collected an event does not call again before all events are collected, so that each
/// wake-up is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    pub sleepers: u8,
    /// The number of events, which is at most the number of threads.
    pub events: u8,
    pub closed: u8,
    /// The maximum number of events that a thread takes in one call.
    pub room: u8,
}

/// The reader and the writer of a pair that was opened.
fn ends(name: &str, fds: &[Fd]) -> Option<(Fd, Fd)> {
    match (name, fds) {
        ("pipe" | "packets", &[reads, writes]) => Some((reads, writes)),
        ("unix_stream" | "unix_seqpacket", &[one, other]) => Some((one, other)),
        // The first descriptor is a listening socket.
        (_, &[_, one, other]) => Some((one, other)),
        _ => None,
    }
}

/// The number of bytes that can be read, as `FIONREAD` says.
pub fn readable(fd: Fd) -> Option<i64> {
    let mut bytes = 0i32;
    let args = [
        fd as usize,
        libc::FIONREAD as usize,
        address_mut(&mut bytes),
    ];
    call(libc::SYS_ioctl, &args).ok().map(|_| bytes.into())
}

/// Sets or clears the blocking mode of a descriptor.
pub fn set_blocking(fd: Fd, blocks: bool) {
    let flags = call(libc::SYS_fcntl, &[fd as usize, libc::F_GETFL as usize]).unwrap_or(0);
    let flags = if blocks {
        flags & !(libc::O_NONBLOCK as usize)
    } else {
        flags | libc::O_NONBLOCK as usize
    };
    let _ = call(
        libc::SYS_fcntl,
        &[fd as usize, libc::F_SETFL as usize, flags],
    );
}

fn is_readable(fd: Fd) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    sys::poll(std::slice::from_mut(&mut poll), 0);
    poll.revents & libc::POLLIN != 0
}

fn kill(pid: i32) {
    let _ = call(libc::SYS_kill, &[pid as usize, libc::SIGKILL as usize]);
    sys::reap(pid);
}

impl Exchange {
    pub const FLAGS: [u16; 4] = [0, ev::CLEAR, ev::CLEAR, ev::DISPATCH];

    pub fn run(self, place: &Place) -> Result<(), String> {
        let name = STREAMS[self.kind];
        let Some(kind) = kinds::kind(name) else {
            return Ok(());
        };
        let fds = (KINDS[kind].1)(&mut Random::new(self.seed), place);
        let result = match (ends(name, &fds), sys::kqueue()) {
            (Some((reads, writes)), Ok(queue)) => {
                let result = self.between(name, reads, writes, queue);
                sys::close(queue);
                result
            }
            _ => Ok(()),
        };
        fds.into_iter().for_each(sys::close);
        result
    }

    fn between(self, name: &str, reads: Fd, writes: Fd, queue: Fd) -> Result<(), String> {
        set_blocking(reads, false);
        set_blocking(writes, true);
        let add = Event::fd(reads, Filter::READ, ev::ADD | self.flags);
        if sys::kevent(queue, &[add], 0, 0, 0).is_err() {
            return Ok(());
        }
        let first = vec![7; self.first];
        if self.first > 0 && sys::write(writes, &first) != Ok(self.first) {
            return Ok(());
        }
        let writer = match sys::clone(0) {
            Ok(0) => {
                let bytes = vec![7; self.size];
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    match sys::write(writes, rest) {
                        Ok(count @ 1..) => rest = &rest[count..],
                        // The data does not fit into one message, or the socket is not connected.
                        Err(libc::EMSGSIZE) if rest.len() > 1000 => {
                            let _ = sys::write(writes, &rest[..1000]);
                            rest = &rest[1000..];
                        }
                        Err(libc::EINTR) => {}
                        _ => sys::exit(1),
                    }
                }
                sys::exit(0);
            }
            Ok(pid) => pid as i32,
            Err(_) => return Ok(()),
        };
        let result = self.read_all(name, reads, queue);
        kill(writer);
        result
    }

    fn read_all(self, name: &str, reads: Fd, queue: Fd) -> Result<(), String> {
        let all = (self.first + self.size) as i64;
        let counted = self.kind < COUNTED;
        let mut buffer = vec![0; 1 << 16];
        // The number of bytes that were read, and the number that was reported in total.
        let (mut got, mut reported) = (0, 0);
        let mut last = sys::now();
        let mut event = Event::default();
        while got < all {
            let changes = Event::fd(reads, Filter::READ, ev::ENABLE);
            let changes = if self.flags & ev::DISPATCH != 0 {
                &[changes][..]
            } else {
                &[]
            };
            let list = address_mut(&mut event);
            if sys::kevent(queue, changes, list, 1, MOMENT) == Ok(1) {
                sys::sleep_ms(self.delay.into());
                last = sys::now();
                if event.has(ev::EOF | ev::ERROR) {
                    return Ok(());
                }
                reported = got + event.data;
                let most = if counted {
                    (event.data as usize / self.part).clamp(1, buffer.len())
                } else {
                    buffer.len()
                };
                while let Ok(count @ 1..) = sys::read(reads, &mut buffer[..most]) {
                    got += count as i64;
                    if counted {
                        break;
                    }
                }
                continue;
            }
            // With EV_CLEAR, the reader itself has to remember how much of the reported data is
            // left.
            let left = readable(reads).unwrap_or(0);
            if counted && self.flags & ev::CLEAR != 0 && got + left == reported {
                if let Ok(count @ 1..) = sys::read(reads, &mut buffer) {
                    got += count as i64;
                    last = sys::now();
                }
            }
            if sys::now() - last > SOON {
                if is_readable(reads) {
                    return Err(format!(
                        "no event for data that was written: {name}, {got} bytes of {all} were read, \
                         {reported} were reported, {left} are left"
                    ));
                }
                // The writer has failed, or the network has lost the data.
                return Ok(());
            }
            if !is_readable(reads) && sys::now() - last > SOON / 20 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The event that ends a thread of a crowd.
const STOP: u64 = 1 << 20;

/// The state that the threads of a crowd share.
#[derive(Default)]
struct Batch {
    /// The number of events so far, and the number of those that were collected.
    made: AtomicUsize,
    collected: AtomicUsize,
    is_over: AtomicBool,
}

impl Batch {
    /// True if all events were collected.
    fn has_collected(&self, made: usize) -> bool {
        self.collected.load(Relaxed) >= made
    }
}

/// Creates a descriptor that is readable, and returns it with its peer: a pipe, or a timer.
fn ready(at: u8) -> Vec<Fd> {
    let mut fds = [0i32; 2];
    if at % 2 == 0 {
        if call(libc::SYS_pipe2, &[address_mut(&mut fds), 0]).is_ok() {
            let _ = sys::write(fds[1], b"x");
            return fds.to_vec();
        }
    } else if let Ok(timer) = call(libc::SYS_timerfd_create, &[1, 0]) {
        let time = [0i64, 0, 0, 1];
        let args = [timer, 0, sys::address(&time), 0];
        let _ = call(libc::SYS_timerfd_settime, &args);
        return vec![timer as Fd];
    }
    Vec::new()
}

impl Crowd {
    pub fn run(self) -> Result<(), String> {
        let Ok(queue) = sys::kqueue() else {
            return Ok(());
        };
        let batch = Batch::default();
        let result = thread::scope(|threads| {
            for _ in 0..self.sleepers {
                threads.spawn(|| self.sleep(queue, &batch));
            }
            let result = self.feed(queue, &batch);
            batch.is_over.store(true, Relaxed);
            let stop = Event::new(STOP, Filter::USER, ev::ADD).fflags(note::TRIGGER);
            let _ = sys::kevent(queue, &[stop], 0, 0, 0);
            // If wake-ups are lost, this one may be lost as well.
            if result.is_err() {
                sys::close(queue);
            }
            result
        });
        sys::close(queue);
        result
    }

    fn sleep(self, queue: Fd, batch: &Batch) {
        let mut events = [Event::default(); 20];
        let room = usize::from(self.room).min(events.len());
        loop {
            let list = address_mut(&mut events);
            let count = match sys::kevent(queue, &[], list, room, i64::MAX) {
                Ok(count) => count,
                Err(libc::EINTR) => continue,
                Err(_) => return,
            };
            let events = &events[..count];
            if events.iter().any(|event| event.ident == STOP) {
                return;
            }
            let users = events.iter().filter(|event| event.filter == Filter::USER);
            let ours = users.count();
            // Further events are created only after these are collected.
            let made = batch.made.load(Relaxed);
            batch.collected.fetch_add(ours, Relaxed);
            while ours > 0 && !batch.has_collected(made) && !batch.is_over.load(Relaxed) {
                sys::sleep_ms(1);
            }
        }
    }

    fn feed(self, queue: Fd, batch: &Batch) -> Result<(), String> {
        let once = ev::ADD | ev::ONESHOT;
        for _ in 0..24 {
            let others: Vec<Vec<Fd>> = (0..self.closed).map(ready).collect();
            let first = others.iter().filter_map(|fds| fds.first());
            let mut changes: Vec<Event> = first
                .map(|&fd| Event::fd(fd, Filter::READ, ev::ADD))
                .collect();
            let events = self.events.min(self.sleepers);
            for at in 0..events {
                let event = Event::new(at.into(), Filter::USER, once);
                changes.push(event.fflags(note::TRIGGER));
            }
            let made = batch.made.load(Relaxed) + usize::from(events);
            batch.made.store(made, Relaxed);
            if sys::kevent(queue, &changes, 0, 0, 0).is_err() {
                return Ok(());
            }
            for fd in others.into_iter().flatten() {
                sys::close(fd);
            }
            let end = sys::now() + SOON;
            while !batch.has_collected(made) {
                if sys::now() > end {
                    return Err(format!(
                        "no thread collects pending events although threads wait: {} of {made} were",
                        batch.collected.load(Relaxed)
                    ));
                }
                sys::sleep_ms(1);
            }
            if batch.has_collected(made + 1) {
                return Err("an event was collected twice".into());
            }
        }
        Ok(())
    }
}

/// Waits `ms` milliseconds for an event that does not come, while a knote that is not ready is
/// activated.
pub fn wait(ms: u8) -> Result<(), String> {
    let mut fds = [0i32; 2];
    let Ok(queue) = sys::kqueue() else {
        return Ok(());
    };
    let kind = (libc::SOCK_STREAM | libc::SOCK_NONBLOCK) as usize;
    let args = [libc::AF_UNIX as usize, kind, 0, address_mut(&mut fds)];
    let _ = call(libc::SYS_socketpair, &args);
    let add = Event::fd(fds[0], Filter::READ, ev::ADD)
        .fflags(note::LOWAT)
        .data(100_000);
    let mut event = Event::default();
    let list = address_mut(&mut event);
    let mut result = Ok(());
    if sys::kevent(queue, &[add], 0, 0, 0).is_ok() {
        let end = sys::now() + SOON;
        let writer = sys::clone(0);
        if writer == Ok(0) {
            while sys::now() < end {
                let _ = sys::write(fds[1], b"x");
                let _ = sys::read(fds[0], &mut [0; 8]);
            }
            sys::exit(0);
        }
        let waited = sys::kevent(queue, &[], list, 1, i64::from(ms) * 1_000_000);
        if sys::now() > end {
            result = Err(format!(
                "a call returns later than its timeout: {ms} ms, {waited:?}"
            ));
        } else if waited == Ok(1) {
            result = Err(format!("an event below the low-water mark: {event:?}"));
        }
        if let Ok(writer) = writer {
            kill(writer as i32);
        }
    }
    [queue, fds[0], fds[1]].into_iter().for_each(sys::close);
    result
}
