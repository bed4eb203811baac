// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE` of one descriptor share its wait-queue entry and its binding.
//! The program must not notice that: each of the two comes, goes and fires as if the other one did
//! not exist. (`paths` compares the events of such pairs for all kinds and states.)

use crate::{
    common::*,
    datagram::seqpacket,
    kinds::pty,
    socket::tcp, //
};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::OpenOptions,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// A descriptor that can become readable and writable.
struct Ends {
    kind: &'static str,
    watched: OwnedFd,
    /// What makes it readable is written here, and what it was written to is read here. `None` if
    /// that is the descriptor itself.
    peer: Option<OwnedFd>,
    /// What is written in one piece.
    piece: &'static [u8],
}

impl Ends {
    fn other(&self) -> &OwnedFd {
        self.peer.as_ref().unwrap_or(&self.watched)
    }

    /// Makes the descriptor readable.
    fn send(&self) {
        write(self.other(), self.piece);
    }

    /// Reads all that there is.
    fn drain(&self) {
        empty(&self.watched);
    }

    /// Writes until there is no room.
    fn fill(&self) {
        fill(&self.watched, self.piece);
    }

    /// Makes room.
    fn make_room(&self) {
        empty(self.other());
    }
}

fn set_nonblocking(fd: &impl AsRawFd) {
    // SAFETY: The arguments are integers.
    let ret = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(ret, 0);
}

fn empty(fd: &impl AsRawFd) {
    let mut buffer = vec![0u8; 1 << 16];
    // SAFETY: The buffer is valid for its length.
    while unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}

fn fill(fd: &impl AsRawFd, piece: &[u8]) {
    // A writer that has no room for a large piece may have room for a small one.
    let large = piece.repeat(if piece.len() == 8 { 1 } else { 4096 });
    for piece in [&large[..], piece] {
        // SAFETY: The buffer is valid for its length.
        while unsafe { libc::write(fd.as_raw_fd(), piece.as_ptr().cast(), piece.len()) } > 0 {}
    }
}

fn eventfd() -> OwnedFd {
    // SAFETY: The result is new and ours.
    unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_NONBLOCK)) }
}

/// One descriptor of each kind that can be watched in both directions and that blocks writers.
fn all_kinds() -> Vec<Ends> {
    let pair = |kind, (watched, peer): (OwnedFd, OwnedFd)| {
        set_nonblocking(&watched);
        set_nonblocking(&peer);
        Ends {
            kind,
            watched,
            peer: Some(peer),
            piece: b"x",
        }
    };
    let (a, b) = UnixStream::pair().unwrap();
    let (c, d) = UnixDatagram::pair().unwrap();
    let (e, f) = tcp();
    let fifo = std::env::temp_dir().join(format!("pairs-{}", std::process::id()));
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: The name is a valid string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let both = OpenOptions::new().read(true).write(true).open(&fifo);
    std::fs::remove_file(&fifo).unwrap();
    let both = OwnedFd::from(both.unwrap());
    set_nonblocking(&both);
    let (master, slave) = pty();
    let (reverse_master, reverse_slave) = pty();
    vec![
        pair("UNIX stream", (a.into(), b.into())),
        pair("UNIX datagram", (c.into(), d.into())),
        pair("seqpacket", seqpacket()),
        pair("TCP", (e.into(), f.into())),
        pair("terminal", (slave, master)),
        pair("master", (reverse_master, reverse_slave)),
        Ends {
            kind: "FIFO",
            watched: both,
            peer: None,
            piece: b"x",
        },
        Ends {
            kind: "eventfd",
            watched: eventfd(),
            peer: None,
            piece: &[0, 0, 0, 0, 0, 0, 0, 64],
        },
    ]
}

/// The two filters, in both orders.
const ORDERS: [[Filter; 2]; 2] = [[Filter::READ, Filter::WRITE], [Filter::WRITE, Filter::READ]];

fn event(fd: &impl AsRawFd, filter: Filter, flags: u16) -> Event {
    Event::fd(fd.as_raw_fd(), filter, flags)
}

/// The filters of the events.
fn filters(events: &[Event]) -> Vec<Filter> {
    events.iter().map(|event| event.filter).collect()
}

/// Makes `queue` sleep, and meanwhile calls `act`. Returns the events.
fn while_asleep(queue: &Kqueue, act: impl FnOnce() + Send) -> Vec<Event> {
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            act();
        });
        soon(queue)
    })
}

/// Each of the two is woken while both exist, while the other one is deleted, and after it was
/// added again.
#[test]
fn each_is_woken_whatever_happens_to_the_other() {
    for ends in all_kinds() {
        for [first, second] in ORDERS {
            let name = ends.kind;
            let fd = &ends.watched;
            let queue = kqueue();
            ends.drain();
            ends.make_room();
            for filter in [first, second] {
                change(&queue, &[event(fd, filter, ev::ADD | ev::CLEAR)]);
            }
            let check = |present: &[Filter]| {
                if present.contains(&Filter::READ) {
                    pending(&queue);
                    ends.drain();
                    pending(&queue);
                    let events = while_asleep(&queue, || ends.send());
                    assert!(filters(&events).contains(&Filter::READ), "{name}");
                    ends.drain();
                }
                if present.contains(&Filter::WRITE) {
                    ends.fill();
                    pending(&queue);
                    pending(&queue);
                    let mut seen = Vec::new();
                    while !seen.contains(&Filter::WRITE) {
                        seen.extend(filters(&while_asleep(&queue, || ends.make_room())));
                    }
                    ends.drain();
                }
                pending(&queue);
                assert_eq!(knotes(&queue), present.len(), "{name}");
            };
            check(&[first, second]);
            for (deleted, other) in [(first, second), (second, first), (first, second)] {
                change(&queue, &[event(fd, deleted, ev::DELETE)]);
                for flags in [ev::DELETE, ev::ENABLE, ev::DISABLE, 0, ev::DELETE] {
                    let error = change_error(&queue, event(fd, deleted, flags));
                    assert_eq!(error, libc::ENOENT, "{name}");
                }
                check(&[other]);
                change(&queue, &[event(fd, deleted, ev::ADD | ev::CLEAR)]);
                check(&[first, second]);
            }
            for filter in [first, second] {
                change(&queue, &[event(fd, filter, ev::DELETE)]);
            }
            assert_eq!(knotes(&queue), 0, "{name}");
            ends.drain();
            ends.send();
            assert!(pending(&queue).is_empty(), "{name}");
        }
    }
}

/// One wake-up can be for both. Each is reported once, and a poller and a waiting thread see it.
#[test]
fn one_wake_up_activates_both() {
    for [first, second] in ORDERS {
        for deleted in [None, Some(first), Some(second)] {
            let (a, b) = UnixStream::pair().unwrap();
            let queue = kqueue();
            for filter in [first, second] {
                change(&queue, &[event(&a, filter, ev::ADD | ev::CLEAR)]);
            }
            pending(&queue);
            let mut expected = vec![Filter::READ, Filter::WRITE];
            if let Some(filter) = deleted {
                change(&queue, &[event(&a, filter, ev::DELETE)]);
                expected.retain(|other| *other != filter);
            }
            let outer = kqueue();
            change(&outer, &[add_read(&queue, 0)]);
            let seen = while_asleep(&outer, || drop(b));
            assert_eq!(seen[0].data, expected.len() as i64);
            let mut events = pending(&queue);
            events.sort_by_key(|event| event.filter != Filter::READ);
            assert_eq!(filters(&events), expected);
            assert!(events.iter().all(|event| event.flags & ev::EOF != 0));
            assert!(pending(&queue).is_empty());
        }
    }
}

/// The close of the descriptor ends both, and so does a descriptor that takes the place of the old
/// one, in whatever order they were added and whichever was deleted.
#[test]
fn a_close_ends_both() {
    for [first, second] in ORDERS {
        for deleted in [None, Some(first), Some(second)] {
            for dup2 in [false, true] {
                let (a, b) = UnixStream::pair().unwrap();
                let kept = a.try_clone().unwrap();
                let queue = kqueue();
                for filter in [first, second] {
                    change(&queue, &[event(&a, filter, ev::ADD)]);
                }
                if let Some(filter) = deleted {
                    change(&queue, &[event(&a, filter, ev::DELETE)]);
                }
                write(&b, b"x");
                let number = a.as_raw_fd();
                if dup2 {
                    let (other, _) = pipe();
                    // SAFETY: The number is ours.
                    assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
                } else {
                    drop(a);
                }
                assert_eq!(knotes(&queue), 0);
                assert!(pending(&queue).is_empty());
                for filter in [first, second] {
                    change(&queue, &[event(&kept, filter, ev::ADD)]);
                }
                assert_eq!(pending(&queue).len(), 2);
                assert_eq!(knotes(&queue), 2);
            }
        }
    }
}

/// A one-shot event of one of the two leaves the other one alone.
#[test]
fn one_shots_of_a_pair() {
    for ends in all_kinds() {
        for [first, second] in ORDERS {
            for oneshot in [first, second] {
                let name = ends.kind;
                let fd = &ends.watched;
                ends.drain();
                ends.make_room();
                ends.send();
                let queue = kqueue();
                for filter in [first, second] {
                    let flags = if filter == oneshot { ev::ONESHOT } else { 0 };
                    change(&queue, &[event(fd, filter, ev::ADD | flags)]);
                }
                for _ in 0..3 {
                    assert_eq!(pending(&queue).len(), 2, "{name}");
                    assert_eq!(knotes(&queue), 1, "{name}");
                    assert_eq!(pending(&queue).len(), 1, "{name}");
                    let error = change_error(&queue, event(fd, oneshot, ev::DELETE));
                    assert_eq!(error, libc::ENOENT, "{name}");
                    change(&queue, &[event(fd, oneshot, ev::ADD | ev::ONESHOT)]);
                }
                assert_eq!(pending(&queue).len(), 2, "{name}");
                change(
                    &queue,
                    &[event(fd, first, ev::ADD), event(fd, second, ev::ADD)],
                );
                assert_eq!(pending(&queue).len(), 2, "{name}");
                change(
                    &queue,
                    &[event(fd, first, ev::DELETE), event(fd, second, ev::DELETE)],
                );
                assert_eq!(knotes(&queue), 0, "{name}");
            }
        }
    }
}

/// A third filter of the descriptor, and a second number of the file, are on their own.
#[test]
fn further_knotes_of_the_file() {
    for [first, second] in ORDERS {
        let (a, b) = UnixStream::pair().unwrap();
        let dup = a.try_clone().unwrap();
        let queue = kqueue();
        for fd in [&a, &dup] {
            for filter in [first, second] {
                change(&queue, &[event(fd, filter, ev::ADD)]);
            }
        }
        change(&queue, &[event(&a, Filter::EXCEPT, ev::ADD)]);
        write(&b, b"x");
        assert_eq!(pending(&queue).len(), 5);
        change(&queue, &[event(&a, first, ev::DELETE)]);
        assert_eq!(pending(&queue).len(), 4);
        drop(a);
        assert_eq!(knotes(&queue), 2);
        assert_eq!(pending(&queue).len(), 2);
        change(&queue, &[event(&dup, first, ev::DELETE)]);
        drop(b);
        assert_eq!(filters(&pending(&queue)), [second]);
    }
}

/// Files without wait queues, and filters that the file refuses, with a knote of the other filter.
#[test]
fn files_that_are_not_polled() {
    for [first, second] in ORDERS {
        for path in ["/dev/null", "/dev/zero", "/proc/self/status"] {
            let file = std::fs::File::open(path).unwrap();
            let queue = kqueue();
            change(
                &queue,
                &[event(&file, first, ev::ADD), event(&file, second, ev::ADD)],
            );
            assert_eq!(pending(&queue).len(), 2, "{path}");
            change(&queue, &[event(&file, first, ev::DELETE)]);
            assert_eq!(filters(&pending(&queue)), [second], "{path}");
            drop(file);
            assert_eq!(knotes(&queue), 0, "{path}");
        }
        let path = std::env::temp_dir().join(format!("pairs-file-{}", std::process::id()));
        std::fs::write(&path, b"abc").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let queue = kqueue();
        change(
            &queue,
            &[event(&file, first, ev::ADD), event(&file, second, ev::ADD)],
        );
        assert_eq!(pending(&queue).len(), 2);
        change(&queue, &[event(&file, second, ev::DELETE)]);
        assert_eq!(filters(&pending(&queue)), [first]);
        change(
            &queue,
            &[
                event(&file, second, ev::ADD),
                event(&file, first, ev::DELETE),
            ],
        );
        assert_eq!(filters(&pending(&queue)), [second]);
        std::fs::remove_file(&path).unwrap();
    }
    let folder = std::fs::File::open("/").unwrap();
    let (inner, queue) = (kqueue(), kqueue());
    change(&queue, &[add_read(&folder, 0), add_read(&inner, 0)]);
    assert_eq!(change_error(&queue, add_write(&folder, 0)), libc::EINVAL);
    assert_eq!(change_error(&queue, add_write(&inner, 0)), libc::EOPNOTSUPP);
    assert_eq!(knotes(&queue), 2);
    change(&queue, &[event(&folder, Filter::READ, ev::DELETE)]);
    assert_eq!(knotes(&queue), 1);
}

/// A user is charged for a pair as for one knote, also after the one that was added first is gone.
#[test]
fn a_pair_counts_as_one() {
    let _limit = Parameter::set("max_user_knotes", 10);
    for [first, second] in ORDERS {
        let queue = kqueue();
        let sockets: Vec<_> = (0..11).map(|_| UnixStream::pair().unwrap()).collect();
        let (last, all) = sockets.split_last().unwrap();
        for (a, _) in all {
            change(
                &queue,
                &[event(a, first, ev::ADD), event(a, second, ev::ADD)],
            );
        }
        let full = |count| {
            for _ in 0..3 {
                let error = change_error(&queue, event(&last.0, first, ev::ADD));
                assert_eq!(error, libc::ENOSPC);
            }
            assert_eq!(knotes(&queue), count);
        };
        full(20);
        for (a, _) in all {
            change(&queue, &[event(a, first, ev::DELETE)]);
        }
        full(10);
        let (a, _) = &all[0];
        change(&queue, &[event(a, first, ev::ADD)]);
        full(11);
        change(&queue, &[event(a, second, ev::DELETE)]);
        full(10);
        change(&queue, &[event(a, first, ev::DELETE)]);
        change(&queue, &[event(&last.0, first, ev::ADD)]);
        change(&queue, &[event(&last.0, second, ev::ADD)]);
        assert_eq!(knotes(&queue), 11);
    }
}

/// The memory of pairs whose events were one-shot and have been delivered makes room for others.
#[test]
fn one_shot_pairs_make_room() {
    let _limit = Parameter::set("max_user_knotes", 10);
    for [first, second] in ORDERS {
        let queue = kqueue();
        let sockets: Vec<_> = (0..20).map(|_| UnixStream::pair().unwrap()).collect();
        for all in sockets.chunks(10) {
            for (a, b) in all {
                write(b, b"x");
                for filter in [first, second] {
                    change(&queue, &[event(a, filter, ev::ADD | ev::ONESHOT)]);
                }
            }
            assert_eq!(pending(&queue).len(), 2 * all.len());
            assert_eq!(knotes(&queue), 0);
        }
    }
}

/// Threads add, delete and close both directions while the peers write and hang up, and another
/// thread collects. Nothing is lost at the end, and the queue is empty after it.
#[test]
fn pairs_that_come_and_go_while_they_fire() {
    let queue = kqueue();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                pending(&queue);
                thread::yield_now();
            }
        });
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let queue = &queue;
                scope.spawn(move || {
                    let mut seed = worker as u32 + 1;
                    let mut random = |below: u32| {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (seed >> 16) % below
                    };
                    for _ in 0..150 {
                        let (a, b) = UnixStream::pair().unwrap();
                        let peer = thread::Builder::new();
                        let peer = peer.spawn(move || {
                            write(&b, b"x");
                            drop(b);
                        });
                        for _ in 0..random(6) + 2 {
                            let filter = ORDERS[0][random(2) as usize];
                            let flags = [ev::ADD, ev::ADD | ev::ONESHOT, ev::DELETE];
                            let flags = flags[random(3) as usize];
                            let result = queue.kevent(&[event(&a, filter, flags)], &mut [], None);
                            if let Err(error) = result {
                                assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
                            }
                        }
                        peer.unwrap().join().unwrap();
                        // The peer is gone, so both are ready.
                        let own = kqueue();
                        for filter in ORDERS[random(2) as usize] {
                            change(&own, &[event(&a, filter, ev::ADD)]);
                        }
                        assert_eq!(pending(&own).len(), 2);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(knotes(&queue), 0);
}

/// A number that is closed and opened again by another thread, in turn with registrations of both
/// directions. A registration that succeeds is there, or was ended by a close after it.
#[test]
fn registrations_against_closes_of_the_number() {
    let (a, b) = UnixStream::pair().unwrap();
    write(&b, b"x");
    // No other descriptor of this process gets so high a number.
    let number = 900;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: The number is ours.
                unsafe {
                    libc::dup2(a.as_raw_fd(), number);
                    libc::close(number);
                }
            }
        });
        for round in 0..3000 {
            let queue = kqueue();
            for filter in ORDERS[round % 2] {
                let change = Event::new(number as u64, filter, ev::ADD);
                if let Err(error) = queue.kevent(&[change], &mut [], None) {
                    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
                }
            }
            assert!(pending(&queue).len() <= 2);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let queue = kqueue();
    // SAFETY: The number is ours.
    assert_eq!(unsafe { libc::dup2(a.as_raw_fd(), number) }, number);
    for filter in ORDERS[0] {
        change(&queue, &[Event::new(number as u64, filter, ev::ADD)]);
    }
    // A duplicate in the place of the same file ends nothing.
    // SAFETY: The number is ours.
    assert_eq!(unsafe { libc::dup2(a.as_raw_fd(), number) }, number);
    assert_eq!(pending(&queue).len(), 2);
    // SAFETY: The number is ours.
    assert_eq!(unsafe { libc::close(number) }, 0);
    assert_eq!(knotes(&queue), 0);
}

/// A low-water mark of the writer, whose room grows without a wake-up, in a pair.
#[test]
fn low_water_marks_of_a_pair() {
    for [first, second] in ORDERS {
        let (a, b) = UnixStream::pair().unwrap();
        set_nonblocking(&a);
        set_nonblocking(&b);
        fill(&a, b"x");
        let queue = kqueue();
        for filter in [first, second] {
            let mark = if filter == Filter::READ { 3 } else { 4096 };
            change(
                &queue,
                &[event(&a, filter, ev::ADD).fflags(note::LOWAT).data(mark)],
            );
        }
        assert!(pending(&queue).is_empty());
        write(&b, b"xy");
        assert!(pending(&queue).is_empty());
        write(&b, b"z");
        assert_eq!(one(&queue).filter, Filter::READ);
        change(&queue, &[event(&a, Filter::READ, ev::DELETE)]);
        empty(&b);
        assert_eq!(one(&queue).filter, Filter::WRITE);
    }
}
