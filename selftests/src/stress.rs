// SPDX-License-Identifier: GPL-2.0

//! Random operations of several threads for `KQUEUE_STRESS_SECONDS`, with an exact count of events.

use crate::{common::*, datagram::udp, kinds::pty, socket::tcp};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::OpenOptions,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const QUEUES: usize = 4;

/// The ident of the user events that are counted. The other events are not.
const COUNTED: u64 = 1 << 40;

/// Opens non-blocking descriptors of a random kind.
fn open(random: &mut Random) -> Vec<OwnedFd> {
    let pair = |(a, b): (OwnedFd, OwnedFd)| vec![a, b];
    let new = match random.below(7) {
        0 => pair(pty()),
        1 => {
            let (a, b) = tcp();
            vec![a.into(), b.into()]
        }
        2 => {
            let (a, b) = udp(Ipv4Addr::LOCALHOST.into());
            vec![a.into(), b.into()]
        }
        3 => pair(pipe()),
        4 => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_TMPFILE);
            vec![options.open("/dev/shm").unwrap().into()]
        }
        // SAFETY: New descriptors.
        5 => unsafe {
            let eventfd = OwnedFd::from_raw_fd(libc::eventfd(0, 0));
            let memory = libc::memfd_create(c"stress".as_ptr(), 0);
            vec![eventfd, OwnedFd::from_raw_fd(memory)]
        },
        _ => {
            let (a, b) = UnixStream::pair().unwrap();
            vec![a.into(), b.into()]
        }
    };
    for fd in &new {
        // SAFETY: The arguments are integers.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    }
    new
}

/// Applies a random operation to a descriptor. It may fail.
fn use_it(fd: &OwnedFd, random: &mut Random) {
    let mut buffer = [1u8; 600];
    let size = [8, 600][random.below(2) as usize];
    let (fd, pointer) = (fd.as_raw_fd(), buffer.as_mut_ptr().cast());
    // SAFETY: The buffer is longer than that.
    unsafe {
        match random.below(8) {
            0..4 => libc::write(fd, pointer, size),
            4 | 5 => libc::read(fd, pointer, size),
            6 => libc::lseek(fd, random.below(3) as i64, libc::SEEK_SET) as isize,
            _ => libc::send(fd, pointer, 1, libc::MSG_OOB | libc::MSG_NOSIGNAL),
        }
    };
}

/// Applies random changes, most of which succeed. Only the listed errors may occur.
fn disturb(queues: &[Kqueue], random: &mut Random, files: &mut Vec<OwnedFd>) {
    let kqueue = &queues[random.below(QUEUES as u64) as usize];
    let apply = |event: Event| {
        let mut events = [Event::default(); 1];
        let receipt = Event {
            flags: event.flags | ev::RECEIPT,
            ..event
        };
        let count = kqueue.kevent(&[receipt], &mut events, None).unwrap();
        let errno = events[0].data as i32;
        assert_eq!(count, 1);
        assert!(
            [0, libc::ENOENT, libc::EBADF].contains(&errno),
            "{event:?}: {errno}"
        );
    };
    let flags = [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH, ev::DISABLE][random.below(5) as usize];
    let filters = [Filter::READ, Filter::WRITE, Filter::EXCEPT, Filter::VNODE];
    let filter = filters[random.below(4) as usize];
    match random.below(12) {
        0 | 1 if files.len() < 64 => files.extend(open(random)),
        0..4 if !files.is_empty() => {
            let at = random.below(files.len() as u64) as usize;
            drop(files.swap_remove(at));
        }
        4 | 5 if !files.is_empty() => {
            let at = random.below(files.len() as u64) as usize;
            use_it(&files[at], random);
        }
        6 => apply(Event::new(random.below(16), Filter::TIMER, ev::ADD | flags).data(1)),
        7 => apply(Event::new(random.below(16), Filter::TIMER, ev::DELETE)),
        8 => {
            apply(Event::new(random.below(16), Filter::USER, ev::ADD | flags).fflags(note::TRIGGER))
        }
        9 => apply(Event::new(
            random.below(16),
            Filter::USER,
            [ev::DELETE, ev::ENABLE][flags as usize % 2],
        )),
        10 => {
            // SAFETY: The result is new and ours; the original stays open.
            let _ = unsafe { OwnedFd::from_raw_fd(libc::dup(kqueue.as_raw_fd())) };
        }
        _ => {
            let fd = random.below(80) as i32 + 3;
            let action = [ev::ADD | flags, ev::ADD | flags, ev::DELETE, ev::ENABLE];
            let event = Event::fd(fd, filter, ev::RECEIPT | action[random.below(4) as usize]);
            // A low-water mark, urgent data, or any change of a file.
            let fflags = [0, note::LOWAT, note::OOB, 0x7f][random.below(4) as usize];
            let event = event.fflags(fflags).data(random.below(300) as i64);
            // Any descriptor of the process, whatever it is. (The receipt makes the call return
            // before it collects what others count.)
            let mut events = [Event::default(); 1];
            assert_eq!(kqueue.kevent(&[event], &mut events, None).unwrap(), 1);
        }
    }
}

/// Collects events until `stop` is set, and counts those that must be reported exactly once.
fn scan(kqueue: &Kqueue, stop: &AtomicBool, seen: &AtomicU64) {
    let mut events = [Event::default(); 16];
    while !stop.load(Ordering::Relaxed) {
        let count = kqueue
            .kevent(&[], &mut events, Some(Duration::from_millis(20)))
            .unwrap();
        let counted = events[..count]
            .iter()
            .filter(|event| event.ident >= COUNTED);
        seen.fetch_add(counted.count() as u64, Ordering::Relaxed);
    }
}

#[test]
fn random_operations_lose_nothing() {
    let seconds = std::env::var("KQUEUE_STRESS_SECONDS").map_or(10, |s| s.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let queues: Vec<Kqueue> = (0..QUEUES).map(|_| kqueue()).collect();
    let (seen, sent) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for kqueue in &queues {
            scope.spawn(|| scan(kqueue, &stop, &seen));
            scope.spawn(|| scan(kqueue, &stop, &seen));
        }
        let workers: Vec<_> = (1..=3u64)
            .map(|worker| {
                let (queues, sent) = (&queues, &sent);
                scope.spawn(move || {
                    let mut random = Random(worker.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let mut files = Vec::new();
                    let mut number = 0;
                    while Instant::now() < end {
                        for _ in 0..16 {
                            disturb(queues, &mut random, &mut files);
                        }
                        // Each of these is reported once, whatever goes on around it.
                        number += 1;
                        let ident = COUNTED + (worker << 32) + number;
                        let event = Event::new(ident, Filter::USER, ev::ADD | ev::ONESHOT);
                        let kqueue = &queues[random.below(QUEUES as u64) as usize];
                        change(kqueue, &[event.fflags(note::TRIGGER)]);
                        sent.fetch_add(1, Ordering::Relaxed);
                        if random.below(64) == 0 {
                            assert!(in_child(|| change_error(kqueue, event) == libc::EBADF));
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        let end = Instant::now() + SOON;
        while seen.load(Ordering::Relaxed) < sent.load(Ordering::Relaxed) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        // Give a duplicate event time to arrive.
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
    assert!(sent.load(Ordering::Relaxed) > 0);
}
