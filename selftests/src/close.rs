// SPDX-License-Identifier: GPL-2.0

//! Closing a descriptor ends its events, even if the file is open elsewhere.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    io::Write,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

pub fn dup(fd: &impl AsRawFd) -> OwnedFd {
    // SAFETY: The result is new and ours.
    unsafe { OwnedFd::from_raw_fd(libc::dup(fd.as_raw_fd())) }
}

/// Puts the file of `fd` at `number`, as dup2(2) does.
fn dup2(fd: &impl AsRawFd, number: RawFd) {
    // SAFETY: The callers own the number.
    assert_eq!(unsafe { libc::dup2(fd.as_raw_fd(), number) }, number);
}

/// Closes the read end of a pipe by `close` while a duplicate is open, and checks that no event is
/// reported any more.
#[track_caller]
fn ends_events(close: impl FnOnce(OwnedFd)) {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    let other = dup(&reader);
    change(&kqueue, &[add_read(&reader, 0)]);
    write(&writer, b"x");
    one(&kqueue);
    close(reader);
    assert_eq!(knotes(&kqueue), 0);
    assert!(pending(&kqueue).is_empty());
    write(&writer, b"y");
    assert!(pending(&kqueue).is_empty());
    // The file itself is still open.
    change(&kqueue, &[add_read(&other, 0)]);
    assert_eq!(one(&kqueue).data, 2);
}

/// Differs from epoll, the emulation: Closing a descriptor ends its events, even if a duplicate of
/// it is open in the process.
/// Because the BSDs do the same; epoll watches the open file until its last descriptor is closed.
#[test]
fn close_with_a_dup_open() {
    ends_events(drop);
}

/// Differs from epoll, the emulation: Closing a descriptor ends its events, even if a child has a
/// copy of it.
/// Because the BSDs do the same.
#[test]
fn close_with_a_copy_open_in_a_child() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    change(&kqueue, &[add_read(&reader, 0), add_write(&writer, 0)]);
    let _holder = Holder::fork(|| {});
    drop(reader);
    assert_eq!(knotes(&kqueue), 1);
    write(&writer, b"x");
    assert_eq!(one(&kqueue).filter, Filter::WRITE);
    drop(writer);
    assert!(pending(&kqueue).is_empty());
    assert_eq!(knotes(&kqueue), 0);
}

#[test]
fn dup2_onto_a_watched_descriptor() {
    let (other, _writer) = pipe();
    ends_events(|reader| {
        dup2(&other, reader.as_raw_fd());
    });
}

/// A one-shot event that was delivered leaves nothing behind at the number of its descriptor.
#[test]
fn dup2_onto_the_descriptor_of_a_delivered_one_shot() {
    let kqueue = kqueue();
    let ((reader, writer), (other, other_writer)) = (pipe(), pipe());
    write(&writer, b"abc");
    change(&kqueue, &[add_read(&reader, ev::ONESHOT)]);
    assert_eq!(one(&kqueue).data, 3);
    // Nothing is reported, and a poll finds nothing, although there is more.
    write(&writer, b"d");
    assert!(pending(&kqueue).is_empty());
    assert!(!is_readable(&kqueue));
    dup2(&other, reader.as_raw_fd());
    assert_eq!(change_error(&kqueue, enable(&reader)), libc::ENOENT);
    change(&kqueue, &[add_read(&reader, ev::ONESHOT)]);
    assert!(pending(&kqueue).is_empty());
    write(&other_writer, b"x");
    assert_eq!(one(&kqueue).data, 1);
    // The number is closed and used again.
    drop(reader);
    let (again, again_writer) = pipe();
    write(&again_writer, b"12345");
    change(&kqueue, &[add_read(&again, ev::ONESHOT)]);
    assert_eq!(one(&kqueue).data, 5);
    assert_eq!(knotes(&kqueue), 0);
}

fn enable(fd: &impl AsRawFd) -> Event {
    Event {
        flags: ev::ENABLE,
        ..add_read(fd, 0)
    }
}

fn is_readable(kqueue: &Kqueue) -> bool {
    let mut poll = libc::pollfd {
        fd: kqueue.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: One structure.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// Differs from DragonFly, FreeBSD: dup2(2) of another descriptor of the same open file onto a
/// watched descriptor does not end the knote.
/// Because the number refers to the same open file before and after the call, so the kernel cannot
/// tell the two apart.
#[test]
fn dup2_of_the_same_file_does_not_end_the_knote() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    let same = reader.try_clone().unwrap();
    change(&kqueue, &[add_read(&reader, 0)]);
    dup2(&same, reader.as_raw_fd());
    drop(same);
    write(&writer, b"x");
    assert_eq!(one(&kqueue).ident, reader.as_raw_fd() as u64);
}

#[test]
fn dup3_onto_a_watched_descriptor() {
    let (other, _writer) = pipe();
    ends_events(|reader| {
        // SAFETY: Both descriptors are ours.
        let ret = unsafe { libc::dup3(other.as_raw_fd(), reader.as_raw_fd(), libc::O_CLOEXEC) };
        assert_eq!(ret, reader.as_raw_fd());
    });
}

#[test]
fn close_range() {
    ends_events(|reader| {
        let fd = std::os::fd::IntoRawFd::into_raw_fd(reader) as libc::c_uint;
        // SAFETY: The descriptor is ours and not used any more.
        let ret = unsafe { libc::syscall(libc::SYS_close_range, fd, fd, 0) };
        assert_eq!(ret, 0);
    });
}

#[test]
fn exit_of_a_child_does_not_end_the_knote() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    change(&kqueue, &[add_read(&reader, 0)]);
    assert!(in_child(|| true));
    write(&writer, b"x");
    one(&kqueue);
}

#[test]
fn close_of_a_dup_does_not_end_the_knote() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    change(&kqueue, &[add_read(&reader, 0)]);
    drop(dup(&reader));
    write(&writer, b"x");
    one(&kqueue);
}

#[test]
fn close_with_an_event_pending() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    change(
        &kqueue,
        &[add_read(&reader, 0), add_write(&writer, ev::ONESHOT)],
    );
    write(&writer, b"x");
    drop((reader, writer));
    assert!(pending(&kqueue).is_empty());
    assert_eq!(knotes(&kqueue), 0);
}

#[test]
fn the_peer_sees_the_end_when_close_returns() {
    let kqueue = kqueue();
    for _ in 0..50 {
        let (reader, writer) = pipe();
        change(&kqueue, &[add_write(&writer, 0)]);
        drop(writer);
        // The read returns end of file, and not EAGAIN.
        read(&reader, 0);

        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        change(&kqueue, &[add_read(&ours, 0), add_write(&ours, 0)]);
        drop(ours);
        read(&theirs, 0);
    }
}

#[test]
fn a_reused_number_is_another_descriptor() {
    let kqueue = kqueue();
    let (reader, _writer) = pipe();
    let (other, other_writer) = pipe();
    let number = reader.as_raw_fd();
    change(&kqueue, &[add_read(&reader, 0).udata(1)]);
    dup2(&other, number);
    write(&other_writer, b"xyz");
    assert!(pending(&kqueue).is_empty());
    let modify = Event::fd(number, Filter::READ, 0);
    assert_eq!(change_error(&kqueue, modify), libc::ENOENT);
    change(&kqueue, &[add_read(&reader, 0).udata(2)]);
    let event = one(&kqueue);
    assert_eq!((event.data, event.udata), (3, 2));
}

/// Differs from DragonFly: EV_ADD fails with EBADF if another thread closes the descriptor during
/// the call.
/// Because the specification adds the knote, deletes it at once, and reports success.
#[test]
fn threads_close_and_reuse_while_another_scans() {
    const ROUNDS: u64 = 1500;
    const THREADS: usize = 2;
    let kqueue = kqueue();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let (kqueue, done) = (&kqueue, &done);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let (mut a, b) = UnixStream::pair().unwrap();
                    let _other = dup(&b);
                    let udata = thread << 32 | round;
                    let add = add_read(&b, 0).udata(udata);
                    change(kqueue, &[add]);
                    a.write_all(b"x").unwrap();
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let mut last = [0u64; THREADS];
            while done.load(Ordering::Relaxed) < THREADS {
                for event in pending(&kqueue) {
                    let (thread, round) = ((event.udata >> 32) as usize, event.udata & 0xffff_ffff);
                    // An event of an earlier round would belong to a closed descriptor.
                    assert!(round >= last[thread], "{event:?} after {last:?}");
                    last[thread] = round;
                }
            }
        });
    });
    assert_eq!(knotes(&kqueue), 0);
}

/// There are more sleepers than one critical section of the spin lock wakes.
#[test]
fn closing_the_kqueue_wakes_its_sleepers() {
    let kqueue = kqueue();
    let fd = kqueue.as_raw_fd();
    let (reader, _writer) = pipe();
    change(&kqueue, &[add_read(&reader, 0)]);
    let sleep = move || {
        // SAFETY: The number is closed while we sleep, and not used again before we are woken.
        let kqueue = std::mem::ManuallyDrop::new(Kqueue::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        errno(kqueue.kevent(&[], &mut [Event::default(); 1], None))
    };
    let sleepers: Vec<_> = (0..40).map(|_| thread::spawn(sleep)).collect();
    thread::sleep(Duration::from_millis(200));
    drop(kqueue);
    for sleeper in sleepers {
        assert_eq!(sleeper.join().unwrap(), libc::EBADF);
    }
}

#[test]
fn a_dup_keeps_the_kqueue_open() {
    let kqueue = kqueue();
    let other = Kqueue::from(dup(&kqueue));
    change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD)]);
    drop(kqueue);
    change(
        &other,
        &[Event::new(1, Filter::USER, 0).fflags(note::TRIGGER)],
    );
    one(&other);
}

#[test]
fn a_copy_in_a_child_keeps_no_knote_of_a_closed_kqueue() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    change(&kqueue, &[add_write(&writer, 0)]);
    let theirs = writer.as_raw_fd();
    let _holder = Holder::fork(move || {
        // SAFETY: The child's copy, which it does not use.
        unsafe { libc::close(theirs) };
    });
    drop(kqueue);
    drop(writer);
    // The child's copy of the kqueue does not keep our pipe open.
    read(&reader, 0);
}

#[test]
fn killed_at_any_moment() {
    for delay in 0..20 {
        // SAFETY: The child runs until it is killed.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let kqueue = kqueue();
            thread::scope(|scope| {
                scope.spawn(|| loop {
                    let _ = kqueue.kevent(&[], &mut [Event::default(); 8], None);
                });
                loop {
                    let (mut a, b) = UnixStream::pair().unwrap();
                    let timer = Event::new(1, Filter::TIMER, ev::ADD).data(1);
                    change(&kqueue, &[add_read(&b, 0), add_write(&a, ev::CLEAR), timer]);
                    a.write_all(b"x").unwrap();
                }
            });
        }
        thread::sleep(Duration::from_millis(delay * 7));
        // SAFETY: The process is a child of this one.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
}

#[test]
fn threads_behind_a_sleeping_poll_can_be_killed() {
    let kqueue = kqueue();
    let slow = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/slowpoll")
        .expect("the module slowpoll is loaded");
    let clone = |child: &dyn Fn()| {
        // SAFETY: As fork(2), but with one descriptor table; the child leaves with `_exit`.
        unsafe {
            let flags = libc::CLONE_FILES | libc::SIGCHLD;
            let pid = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::pid_t;
            if pid == 0 {
                child();
                libc::_exit(1);
            }
            pid
        }
    };
    let polling = clone(&|| change(&kqueue, &[add_read(&slow, 0)]));
    let mut polled = [0];
    while polled == [0] {
        std::thread::sleep(Duration::from_millis(10));
        std::io::Read::read_exact(&mut &slow, &mut polled).unwrap();
    }
    // The first child holds the mutex. The second one waits for it, and must not wait for ever.
    let waiting = clone(&|| change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD)]));
    std::thread::sleep(Duration::from_millis(300));
    for pid in [waiting, polling] {
        // SAFETY: The process is a child of this one.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        assert_eq!(reap(pid), libc::SIGKILL);
    }
    write(&slow, b"x");
    change(&kqueue, &[add_read(&slow, 0)]);
    one(&kqueue);
}

/// Descriptors are closed in the middle of a scan that has already reported events. The scan must
/// end and the events of the other descriptors must remain.
#[test]
fn closing_pending_descriptors_while_another_thread_collects() {
    const COUNT: usize = 40;
    const ROUNDS: usize = 400;
    let kqueue = kqueue();
    let ready = || {
        let (reader, writer) = UnixStream::pair().unwrap();
        write(&writer, b"x");
        change(&kqueue, &[add_read(&reader, 0)]);
        (reader, writer)
    };
    // The evaluation of some of them takes longer.
    let rooms: Vec<_> = (0..COUNT / 4)
        .map(|_| UnixStream::pair().unwrap())
        .collect();
    for (one, _) in &rooms {
        change(&kqueue, &[add_write(one, 0)]);
    }
    let mut pairs: Vec<_> = (0..COUNT).map(|_| ready()).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let count = pending(&kqueue).len();
                assert!(count <= COUNT + rooms.len(), "{count}");
            }
        });
        for round in 0..ROUNDS {
            // The close happens sometimes at the head and sometimes at the tail of the list.
            let at = [0, COUNT / 2, COUNT - 1][round % 3];
            drop(pairs.remove(at));
            pairs.push(ready());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(pending(&kqueue).len(), COUNT + rooms.len());
}
