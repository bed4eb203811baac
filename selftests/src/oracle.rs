// SPDX-License-Identifier: GPL-2.0

//! Random operations on both ends of each kind of channel. After each operation the events of
//! `EVFILT_READ` and `EVFILT_WRITE` are compared with poll(2), `FIONREAD`, `SIOCOUTQ` and
//! `SO_MEMINFO`.

use crate::{
    common::*,
    datagram::{seqpacket, udp},
    kinds::pty,
    socket::tcp,
};
use kqueue::{ev, Event, Filter, Kqueue};
use std::{
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
};

const OPERATIONS: usize = 3000;

/// The source of the true number of readable bytes.
#[derive(Clone, Copy, PartialEq)]
enum Bytes {
    /// `FIONREAD`.
    Asked,
    /// The sum of the messages that were sent and not received.
    Messages,
}

/// The source of the true room.
#[derive(Clone, Copy, PartialEq)]
enum Room {
    /// `SO_MEMINFO`: the send buffer less what is queued in it.
    Queued,
    /// The same, less the memory that is allocated in the buffer, which `SIOCOUTQ` reports too.
    Allocated,
    /// The room of a pipe in whole buffers.
    Buffers,
    /// Only whether there is room.
    Some,
}

struct End {
    fd: OwnedFd,
    /// The sizes of the messages that are queued for this end.
    queued: std::collections::VecDeque<usize>,
    was_shut: bool,
}

struct Channel {
    name: &'static str,
    ends: [End; 2],
    bytes: Bytes,
    room: Room,
    /// The ends that can be read and those that can be written.
    reads: [bool; 2],
    writes: [bool; 2],
    shutdown: bool,
    kqueue: Kqueue,
}

/// The expected events of one end.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Truth {
    poll: i16,
    bytes: i64,
    room: [i64; 3],
}

impl Channel {
    fn new(
        name: &'static str,
        ends: (impl Into<OwnedFd>, impl Into<OwnedFd>),
        bytes: Bytes,
        room: Room,
    ) -> Self {
        let end = |fd: OwnedFd| {
            // SAFETY: The arguments are integers.
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
            End {
                fd,
                queued: Default::default(),
                was_shut: false,
            }
        };
        let (reads, writes) = match room {
            Room::Buffers => ([true, false], [false, true]),
            _ => ([true; 2], [true; 2]),
        };
        Channel {
            name,
            ends: [end(ends.0.into()), end(ends.1.into())],
            bytes,
            room,
            reads,
            writes,
            shutdown: matches!(room, Room::Queued | Room::Allocated),
            kqueue: kqueue(),
        }
    }

    fn register(&self) {
        for (index, end) in self.ends.iter().enumerate() {
            if self.reads[index] {
                change(&self.kqueue, &[add_read(&end.fd, 0)]);
            }
            if self.writes[index] {
                change(&self.kqueue, &[add_write(&end.fd, 0)]);
            }
        }
    }

    /// True while the other end has room, so that UDP drops nothing.
    fn may_send(&self, index: usize) -> bool {
        let queued = &self.ends[1 - index].queued;
        self.name != "udp" || (queued.len() < 20 && queued.iter().sum::<usize>() < 40_000)
    }

    /// Writes or reads at random, and sometimes shuts an end down.
    fn operate(&mut self, random: &mut Random) {
        let index = random.below(2) as usize;
        let size = 1 + match random.below(4) {
            0 => random.below(16),
            1 => random.below(600),
            2 => random.below(5000),
            _ => random.below(40_000),
        } as usize;
        let fd = self.ends[index].fd.as_raw_fd();
        let buffer = vec![b'x'; size];
        match random.below(100) {
            0..48 if self.writes[index] && self.may_send(index) => {
                let flags = libc::MSG_NOSIGNAL;
                // SAFETY: The buffer is valid for its length.
                let sent = unsafe {
                    match self.room {
                        Room::Queued | Room::Allocated => {
                            libc::send(fd, buffer.as_ptr().cast(), size, flags)
                        }
                        _ => libc::write(fd, buffer.as_ptr().cast(), size),
                    }
                };
                if sent > 0 {
                    self.ends[1 - index].queued.push_back(sent as usize);
                }
            }
            48..99 if self.reads[index] => {
                let mut buffer = buffer;
                // SAFETY: The buffer is valid for its length.
                let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), size) };
                if got >= 0 {
                    self.ends[index].queued.pop_front();
                }
            }
            // The close happens late in the list, so that other states occur before.
            99 if self.shutdown && random.below(8) == 0 => {
                let how = random.below(3) as libc::c_int;
                // SAFETY: The arguments are integers.
                unsafe { libc::shutdown(fd, how) };
                self.ends[index].was_shut = true;
            }
            _ => {}
        }
    }

    fn truth(&self, index: usize) -> Truth {
        let fd = self.ends[index].fd.as_raw_fd();
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP,
            revents: 0,
        };
        let mut bytes: libc::c_int = 0;
        let mut unsent: libc::c_int = 0;
        let mut memory = [0u32; 9];
        let mut size = size_of_val(&memory) as u32;
        // SAFETY: There is room for a structure, two ints and the array.
        unsafe {
            assert!(libc::poll(&mut poll, 1, 0) >= 0);
            if self.bytes == Bytes::Asked {
                assert_eq!(libc::ioctl(fd, libc::FIONREAD, &mut bytes), 0);
            } else {
                bytes = self.ends[index].queued.iter().sum::<usize>() as libc::c_int;
            }
            if matches!(self.room, Room::Queued | Room::Allocated) {
                assert_eq!(libc::ioctl(fd, libc::TIOCOUTQ, &mut unsent), 0);
                let pointer = memory.as_mut_ptr().cast();
                let option = libc::SO_MEMINFO;
                let ret = libc::getsockopt(fd, libc::SOL_SOCKET, option, pointer, &mut size);
                assert_eq!(ret, 0);
            }
        }
        let [_, _, allocated, buffer, _, queued, ..] = memory.map(i64::from);
        Truth {
            poll: poll.revents,
            bytes: bytes.into(),
            room: match self.room {
                Room::Queued => [(buffer - queued).max(0), buffer, unsent.into()],
                Room::Allocated => {
                    assert_eq!(allocated, i64::from(unsent));
                    [(buffer - allocated).max(0), buffer, unsent.into()]
                }
                Room::Buffers => {
                    // SAFETY: The arguments are integers.
                    let whole = unsafe { libc::fcntl(fd, libc::F_GETPIPE_SZ) };
                    [0, whole.into(), bytes.into()]
                }
                Room::Some => [0; 3],
            },
        }
    }

    /// Compares the events. Returns false if data arrived meanwhile.
    fn compare(&self) -> bool {
        let before = [self.truth(0), self.truth(1)];
        let events = pending(&self.kqueue);
        if before != [self.truth(0), self.truth(1)] {
            return false;
        }
        for (index, truth) in before.into_iter().enumerate() {
            let find = |filter| {
                let ident = self.ends[index].fd.as_raw_fd() as u64;
                let mut all = events.iter();
                all.find(|event| event.ident == ident && event.filter == filter)
            };
            let seen = |event: Option<&Event>| format!("{} {index} {truth:?} {event:?}", self.name);
            if self.reads[index] {
                let event = find(Filter::READ);
                let ready = truth.poll & (libc::POLLIN | libc::POLLRDHUP | libc::POLLHUP) != 0;
                assert_eq!(event.is_some(), ready, "{}", seen(event));
                if let Some(event) = event {
                    assert_eq!(event.data, truth.bytes, "{}", seen(Some(event)));
                    let over = truth.poll & (libc::POLLRDHUP | libc::POLLHUP) != 0;
                    assert_eq!(event.has(ev::EOF), over, "{}", seen(Some(event)));
                    let empty = over && truth.bytes == 0;
                    assert_eq!(event.has(ev::NODATA), empty, "{}", seen(Some(event)));
                    let both = truth.poll & libc::POLLHUP != 0;
                    assert_eq!(event.has(ev::HUP), both, "{}", seen(Some(event)));
                }
            }
            if self.writes[index] {
                let event = find(Filter::WRITE);
                let ready = truth.poll & (libc::POLLOUT | libc::POLLHUP) != 0;
                // A terminal does not wake its pollers for every increase of the room.
                let told = self.room != Room::Some;
                assert!(event.is_some() || !ready || !told, "{}", seen(event));
                if let Some(event) = event {
                    assert!(ready || event.has(ev::EOF), "{}", seen(Some(event)));
                    self.compare_room(event, truth);
                }
            }
        }
        true
    }

    fn compare_room(&self, event: &Event, truth: Truth) {
        let [room, whole, held] = truth.room;
        let right = match self.room {
            // An aborted connection has discarded the data that it has not sent.
            Room::Queued => {
                event.data == room && (event.has(ev::EOF) || event.data <= whole - held)
            }
            Room::Allocated => event.data == room,
            Room::Buffers => event.data % 4096 == 0 && event.data <= whole - held,
            Room::Some => event.data > 0,
        };
        assert!(right, "{} {truth:?} {event:?}", self.name);
    }
}

#[track_caller]
fn agrees(make: impl Fn() -> Channel) {
    let mut done = 0;
    for seed in 1.. {
        let mut random = Random(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let mut channel = make();
        channel.register();
        // After some operations a channel that was shut down reports no new states.
        let mut left = 60;
        for _ in 0..300 {
            channel.operate(&mut random);
            while !channel.compare() {}
            done += 1;
            if channel.ends.iter().any(|end| end.was_shut) {
                left -= 1;
            }
            if done == OPERATIONS {
                return;
            }
            if left == 0 {
                break;
            }
        }
    }
}

#[test]
fn of_tcp() {
    agrees(|| Channel::new("tcp", tcp(), Bytes::Asked, Room::Queued));
}

#[test]
fn of_unix_streams() {
    let pair = || UnixStream::pair().unwrap();
    agrees(|| Channel::new("stream", pair(), Bytes::Asked, Room::Allocated));
}

#[test]
fn of_unix_seqpackets() {
    agrees(|| Channel::new("seqpacket", seqpacket(), Bytes::Messages, Room::Allocated));
}

#[test]
fn of_unix_datagrams() {
    let pair = || UnixDatagram::pair().unwrap();
    agrees(|| Channel::new("datagram", pair(), Bytes::Messages, Room::Allocated));
}

#[test]
fn of_udp() {
    agrees(|| {
        let (a, b) = udp(Ipv4Addr::LOCALHOST.into());
        b.connect(a.local_addr().unwrap()).unwrap();
        Channel::new("udp", (a, b), Bytes::Messages, Room::Allocated)
    });
}

#[test]
fn of_pipes() {
    agrees(|| Channel::new("pipe", pipe(), Bytes::Asked, Room::Buffers));
}

#[test]
fn of_ptys() {
    agrees(|| Channel::new("pty", pty(), Bytes::Asked, Room::Some));
}
