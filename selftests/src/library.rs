// SPDX-License-Identifier: GPL-2.0

//! The Rust crate: typed changes and reports, iterators, and creating kqueues.

use crate::common::{pipe, read, write, SOON};
use kqueue::{ev, Change, Event, Events, FileNotes, Kqueue, MountNotes, ProcessNotes, Report};
use std::{
    fs::{self, File},
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    time::Duration,
};

fn next(kqueue: &Kqueue) -> Event {
    let mut events = Events::with_capacity(1);
    kqueue.wait(&mut events, Some(SOON)).unwrap();
    assert_eq!(events.iter().count(), 1, "no event came");
    events.as_slice()[0]
}

fn silent(kqueue: &Kqueue) {
    let mut events = Events::with_capacity(1);
    let none = kqueue.wait(&mut events, Some(Duration::ZERO)).unwrap();
    assert_eq!(none, []);
    assert_eq!((&events).into_iter().count(), 0);
}

#[test]
fn descriptors() {
    let kqueue = Kqueue::new().unwrap();
    let (reader, writer) = pipe();
    let changes = [
        Change::readable(&reader).token(7),
        Change::writable(&writer).once(),
    ];
    kqueue.apply(&changes).unwrap();
    let Report::Writable(room) = next(&kqueue).report() else {
        panic!("no room");
    };
    assert_eq!((room.fd, room.bytes > 0), (writer.as_raw_fd(), true));
    silent(&kqueue);

    write(&writer, b"hello");
    let event = next(&kqueue);
    assert_eq!(event.udata, 7);
    let Report::Readable(input) = event.report() else {
        panic!("{event:?}");
    };
    assert_eq!((input.fd, input.bytes), (reader.as_raw_fd(), 5));
    assert!(!input.end && !input.hung_up && input.error == 0);

    // A knote is level-triggered by default.
    kqueue.apply(&[changes[0].disable()]).unwrap();
    silent(&kqueue);
    kqueue.apply(&[changes[0].enable()]).unwrap();
    next(&kqueue);
    kqueue
        .apply(&[changes[0].delete(), Change::readable(&reader).low_water(6)])
        .unwrap();
    silent(&kqueue);
    write(&writer, b"!");
    next(&kqueue);
    read(&reader, 6);
    drop(writer);
    let Report::Readable(input) = next(&kqueue).report() else {
        panic!();
    };
    assert!(input.end && input.bytes == 0);
    drop(reader);
    silent(&kqueue);
}

#[test]
fn changes_other_than_the_failing_one_are_applied() {
    let kqueue = Kqueue::new().unwrap();
    let (reader, writer) = pipe();
    let number = reader.as_raw_fd();
    let stale = Change::readable(&reader);
    drop(reader);
    let changes = [
        Change::user(1),
        Change::user(2),
        stale,
        Change::writable(&writer),
        Change::user(3).delete(),
    ];
    let rejected = kqueue.apply(&changes).unwrap_err();
    assert_eq!(rejected.index, 2);
    assert_eq!(rejected.error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(stale.event().ident, number as u64);
    assert!(matches!(next(&kqueue).report(), Report::Writable(_)));
    kqueue.apply(&[Change::user(2).delete()]).unwrap();
    kqueue.apply(&[]).unwrap();
}

#[test]
fn receipts() {
    let kqueue = Kqueue::new().unwrap();
    let mut event = Change::user(1).event();
    event.flags |= ev::RECEIPT;
    let mut events = [Event::default(); 2];
    let bad = Change::user(9).delete().event();
    let count = kqueue.kevent(&[event, bad], &mut events, None).unwrap();
    assert_eq!(count, 2);
    assert!(matches!(events[0].report(), Report::Change(Ok(()))));
    let Report::Change(Err(error)) = events[1].report() else {
        panic!("{:?}", events[1]);
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn a_trigger_keeps_the_token() {
    let kqueue = Kqueue::new().unwrap();
    kqueue.apply(&[Change::user(6).token(9)]).unwrap();
    for (trigger, token) in [
        (Change::trigger(6), 9),
        (Change::trigger(6).token(3), 3),
        (Change::trigger(6), 3),
    ] {
        kqueue.apply(&[trigger]).unwrap();
        assert_eq!(next(&kqueue).udata, token);
    }
}

#[test]
fn timers_users_signals() {
    let kqueue = Kqueue::new().unwrap();
    kqueue
        .apply(&[
            Change::timeout(4, Duration::from_micros(1)),
            Change::timer(5, Duration::from_secs(100_000)),
        ])
        .unwrap();
    let Report::Timer { id, expirations } = next(&kqueue).report() else {
        panic!();
    };
    assert_eq!((id, expirations), (4, 1));
    silent(&kqueue);

    kqueue.apply(&[Change::user(6)]).unwrap();
    for _ in 0..3 {
        kqueue.apply(&[Change::trigger(6)]).unwrap();
    }
    assert!(matches!(
        next(&kqueue).report(),
        Report::User { id: 6, flags: 0 }
    ));
    silent(&kqueue);

    // SAFETY: Ignoring a signal, then sending it to this thread.
    unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        kqueue.apply(&[Change::signal(libc::SIGUSR1)]).unwrap();
        libc::raise(libc::SIGUSR1);
        libc::raise(libc::SIGUSR1);
    }
    let Report::Signal { number, count } = next(&kqueue).report() else {
        panic!();
    };
    assert_eq!((number, count), (libc::SIGUSR1, 2));
    silent(&kqueue);
}

#[test]
fn processes() {
    let kqueue = Kqueue::new().unwrap();
    let mut child = Command::new("./busybox")
        .args(["sh", "-c", "read line; ./busybox true; exit 3"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let notes = ProcessNotes::EXIT | ProcessNotes::TRACK;
    kqueue.apply(&[Change::process(child.id(), notes)]).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();

    let (mut made, mut ended) = (Vec::new(), Vec::new());
    while !ended.iter().any(|(pid, _)| *pid == child.id()) {
        let Report::Process(process) = next(&kqueue).report() else {
            panic!();
        };
        made.extend(process.parent().map(|parent| (parent, process.pid)));
        ended.extend(process.status().map(|status| (process.pid, status.code())));
    }
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(made[0].0, child.id());
    assert_eq!(ended, [(made[0].1, Some(0)), (child.id(), Some(3))]);
    child.wait().unwrap();
}

#[test]
fn files_and_mounts() {
    let kqueue = Kqueue::new().unwrap();
    let path = format!("watched.{}", std::process::id());
    let mut file = File::create(&path).unwrap();
    kqueue
        .apply(&[
            Change::file(&file, FileNotes::EXTEND | FileNotes::DELETE),
            Change::mounts(MountNotes::MOUNT),
        ])
        .unwrap();
    file.write_all(b"hello").unwrap();
    let Report::File { fd, notes } = next(&kqueue).report() else {
        panic!();
    };
    assert_eq!((fd, notes), (file.as_raw_fd(), FileNotes::EXTEND));
    fs::remove_file(&path).unwrap();
    let Report::File { notes, .. } = next(&kqueue).report() else {
        panic!();
    };
    assert_eq!(notes, FileNotes::DELETE);
    silent(&kqueue);
}

#[test]
fn iterating_over_events() {
    let kqueue = Kqueue::new().unwrap();
    let changes: Vec<_> = (0..200)
        .flat_map(|id| [Change::user(id), Change::trigger(id)])
        .collect();
    kqueue.apply(&changes).unwrap();
    let mut ids: Vec<_> = kqueue
        .incoming()
        .take(200)
        .map(|event| event.unwrap().ident)
        .collect();
    ids.sort();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
    silent(&kqueue);
    // A kqueue is a descriptor like others.
    let fd = OwnedFd::from(kqueue);
    let outer = Kqueue::new().unwrap();
    outer.apply(&[Change::readable(&fd)]).unwrap();
    let inner = Kqueue::from(fd);
    inner.apply(&[Change::trigger(5)]).unwrap();
    assert!(matches!(next(&outer).report(), Report::Readable(inner) if inner.bytes == 1));
}
