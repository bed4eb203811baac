// SPDX-License-Identifier: GPL-2.0

//! `EV_CLEAR`, `EV_ONESHOT` and `EV_DISPATCH` with several threads: no event is lost or reported
//! twice.

use crate::{common::*, socket::tcp};
use kqueue::{ev, Event, Filter, Kqueue};
use std::{
    collections::HashSet,
    io::Write,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering},
        Mutex,
    },
    thread,
};

/// Reads a non-blocking descriptor until it is empty. Returns the number of bytes.
fn drain(fd: &impl AsRawFd) -> usize {
    let mut buffer = [0u8; 4096];
    let mut all = 0;
    loop {
        // SAFETY: The buffer is valid for its length.
        let got = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        if got <= 0 {
            return all;
        }
        all += got as usize;
    }
}

/// One thread writes single bytes, and the other one reads all bytes at each event. No byte that is
/// written between the last read and the next wait may be lost.
fn loses_nothing(mut writer: impl Write + Send, reader: impl AsRawFd) {
    const BYTES: usize = 20_000;
    // SAFETY: The arguments are integers.
    unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, ev::CLEAR)]);
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..BYTES {
                writer.write_all(b"x").unwrap();
            }
            writer
        });
        let mut got = 0;
        while got < BYTES {
            one(&kqueue);
            got += drain(&reader);
        }
        assert_eq!(got, BYTES);
    });
}

#[test]
fn clear_loses_nothing_of_tcp() {
    let (client, server) = tcp();
    loses_nothing(client, server);
}

#[test]
fn clear_loses_nothing_of_a_unix_socket() {
    let (a, b) = UnixStream::pair().unwrap();
    loses_nothing(a, b);
}

#[test]
fn clear_loses_nothing_of_a_pipe() {
    let (reader, writer) = pipe();
    // SAFETY: The arguments are integers.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, 0) };
    loses_nothing(std::fs::File::from(writer), reader);
}

#[test]
fn clear_reports_each_eof_once() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, ev::CLEAR)]);
    drop(writer);
    assert!(one(&kqueue).has(ev::EOF));
    assert!(pending(&kqueue).is_empty());
    for _ in 0..3 {
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let writer = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        assert!(pending(&kqueue).is_empty());
        drop(writer);
        assert!(one(&kqueue).has(ev::EOF));
        assert!(pending(&kqueue).is_empty());
    }
}

/// Several threads share one kqueue of sockets. A socket whose event a thread has collected belongs
/// to that thread until the thread enables the knote again. No two threads may have the same
/// socket, and all bytes that are sent must be received.
#[test]
fn dispatch_gives_a_descriptor_to_one_thread() {
    const SOCKETS: usize = 8;
    const BYTES: usize = 2000;
    let pairs: Vec<(UnixStream, UnixStream)> =
        (0..SOCKETS).map(|_| UnixStream::pair().unwrap()).collect();
    let kqueue = kqueue();
    for (index, (_, b)) in pairs.iter().enumerate() {
        b.set_nonblocking(true).unwrap();
        change(&kqueue, &[add_read(b, ev::DISPATCH).udata(index as u64)]);
    }
    let busy: Vec<AtomicUsize> = (0..SOCKETS).map(|_| AtomicUsize::new(0)).collect();
    let got = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| worker(&kqueue, &pairs, &busy, &got, SOCKETS * BYTES));
        }
        for (a, _) in &pairs {
            scope.spawn(move || {
                for _ in 0..BYTES {
                    (&*a).write_all(b"x").unwrap();
                }
            });
        }
    });
    assert_eq!(got.load(Ordering::SeqCst), SOCKETS * BYTES);
}

const DONE: u64 = u64::MAX;

fn worker(
    kqueue: &Kqueue,
    pairs: &[(UnixStream, UnixStream)],
    busy: &[AtomicUsize],
    got: &AtomicUsize,
    all: usize,
) {
    let mut enable = Vec::new();
    loop {
        let mut events = [Event::default(); 2];
        let count = kqueue.kevent(&enable, &mut events, Some(SOON)).unwrap();
        assert!(count > 0, "no event came");
        enable.clear();
        for event in &events[..count] {
            if event.udata == DONE {
                return;
            }
            let index = event.udata as usize;
            assert_eq!(busy[index].fetch_add(1, Ordering::SeqCst), 0, "two at once");
            let bytes = drain(&pairs[index].1);
            busy[index].fetch_sub(1, Ordering::SeqCst);
            let fd = pairs[index].1.as_raw_fd();
            let event = Event::fd(fd, Filter::READ, ev::ENABLE | ev::DISPATCH).udata(event.udata);
            enable.push(event);
            if got.fetch_add(bytes, Ordering::SeqCst) + bytes == all {
                // Stop all threads: the event stays pending.
                let done = Event::new(0, Filter::USER, ev::ADD).udata(DONE);
                let trigger = done.fflags(kqueue::note::TRIGGER);
                change(kqueue, &[done, trigger]);
            }
        }
    }
}

/// Each one-shot event reaches exactly one of many waiting threads.
#[test]
fn oneshot_reaches_one_thread() {
    const PIPES: usize = 500;
    let pipes: Vec<(OwnedFd, OwnedFd)> = (0..PIPES).map(|_| pipe()).collect();
    let kqueue = kqueue();
    for (reader, _) in &pipes {
        change(&kqueue, &[add_read(reader, ev::ONESHOT)]);
    }
    let seen = Mutex::new(HashSet::new());
    let left = AtomicU64::new(PIPES as u64);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while left.load(Ordering::SeqCst) > 0 {
                    let mut events = [Event::default(); 3];
                    let timeout = std::time::Duration::from_millis(100);
                    let count = kqueue.kevent(&[], &mut events, Some(timeout)).unwrap();
                    for event in &events[..count] {
                        assert!(seen.lock().unwrap().insert(event.ident), "twice");
                        left.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for (_, writer) in &pipes {
            write(writer, b"x");
        }
    });
    assert_eq!(seen.lock().unwrap().len(), PIPES);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn one_descriptor_in_many_kqueues() {
    let (reader, writer) = pipe();
    let queues: Vec<Kqueue> = (0..100).map(|_| kqueue()).collect();
    for kqueue in &queues {
        change(kqueue, &[add_read(&reader, ev::CLEAR)]);
    }
    for bytes in 1..=3 {
        write(&writer, b"x");
        for kqueue in &queues {
            assert_eq!(one(kqueue).data, bytes);
            assert!(pending(kqueue).is_empty());
        }
    }
    drop(reader);
    for kqueue in &queues {
        assert!(pending(kqueue).is_empty());
    }
}

#[test]
fn read_and_write_of_one_descriptor() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0), add_write(&b, ev::CLEAR)]);
    assert_eq!(one(&kqueue).filter, Filter::WRITE);
    a.write_all(b"x").unwrap();
    assert_eq!(one(&kqueue).filter, Filter::READ);
    drop(a);
    let events = soon(&kqueue);
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.has(ev::EOF)), "{events:?}");
}
