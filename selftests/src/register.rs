// SPDX-License-Identifier: GPL-2.0

//! Registration: batches, receipts, errors.

use crate::common::*;
use kqueue::{abi, ev, note, Event, Filter};
use std::{fs, os::fd::AsRawFd, os::unix::net::UnixStream, time::Duration};

const CLOSED: i32 = 500;

fn user(ident: u64, flags: u16) -> Event {
    Event::new(ident, Filter::USER, flags)
}

#[test]
fn a_successful_change_returns_a_receipt() {
    let kqueue = kqueue();
    let mut events = [Event::default(); 4];
    let add = user(1, ev::ADD | ev::RECEIPT)
        .fflags(note::TRIGGER)
        .udata(42);
    let count = kqueue.kevent(&[add], &mut events, None).unwrap();
    assert_eq!(count, 1);
    assert_eq!(
        (events[0].ident, events[0].flags, events[0].data),
        (1, ev::ERROR, 0)
    );
    assert_eq!(events[0].udata, 42);
    // The event itself was not collected by that call.
    one(&kqueue);
}

/// Differs from DragonFly, FreeBSD, NetBSD, the emulation: A receipt, or an error, is its change
/// with EV_ERROR alone in flags and the error number in data.
/// Because a program can identify the change to which the receipt belongs. (On the BSDs fflags is 0
/// if the change has added a knote; the emulation also keeps the flags of the change.)
#[test]
fn a_receipt_is_its_change() {
    let kqueue = kqueue();
    let mut events = [Event::default(); 4];
    let timer = Event::new(1, Filter::TIMER, ev::ADD | ev::RECEIPT | ev::ONESHOT);
    let changes = [
        // The changes add a knote, modify it, and fail.
        timer.fflags(note::SECONDS).data(3600).udata(1),
        timer.fflags(note::MSECONDS).data(3600).udata(2),
        timer
            .fflags(note::SECONDS | note::MSECONDS)
            .data(3600)
            .udata(3),
    ];
    let count = kqueue.kevent(&changes, &mut events, None).unwrap();
    assert_eq!(count, changes.len());
    for (receipt, (change, errno)) in events.iter().zip(changes.iter().zip([0, 0, libc::EINVAL])) {
        let expected = Event {
            flags: ev::ERROR,
            data: errno.into(),
            ..*change
        };
        assert_eq!(*receipt, expected);
    }
}

/// Differs from DragonFly, FreeBSD, NetBSD: If a change with EV_RECEIPT succeeds and there is no
/// room for its receipt, the receipt is left out and the next changes are applied. If a change
/// fails and there is no room, the call fails with its error.
/// Because FreeBSD and NetBSD silently skip the changes that follow, and the specification writes
/// receipts beyond the end of the list.
#[test]
fn a_receipt_is_omitted_without_room() {
    let add = |i| user(i, ev::ADD | ev::RECEIPT).fflags(note::TRIGGER);
    for room in 0..4 {
        let kqueue = kqueue();
        let changes: Vec<_> = (0..40).map(add).collect();
        let mut events = vec![Event::default(); room];
        let count = kqueue.kevent(&changes, &mut events, None).unwrap();
        assert_eq!(count, room);
        for (event, i) in events.iter().zip(0..) {
            assert_eq!((event.ident, event.flags, event.data), (i, ev::ERROR, 0));
        }
        assert_eq!(pending(&kqueue).len(), 40);
        // A failing change follows these.
        let mut changes = changes;
        changes.push(user(99, ev::DELETE));
        changes.push(add(100));
        let error = errno(kqueue.kevent(&changes, &mut events, None));
        assert_eq!(error, libc::ENOENT);
        assert_eq!(pending(&kqueue).len(), 40);
    }
}

#[test]
fn errors_are_reported_and_later_changes_are_applied() {
    let kqueue = kqueue();
    let mut events = [Event::default(); 8];
    let changes = [
        user(1, ev::ADD).fflags(note::TRIGGER),
        user(2, ev::DELETE),
        Event::new(3, Filter(-20), ev::ADD),
        Event::fd(CLOSED, Filter::READ, ev::ADD),
        user(4, ev::ADD).fflags(note::TRIGGER),
    ];
    let count = kqueue.kevent(&changes, &mut events, None).unwrap();
    let posted: Vec<_> = events[..count]
        .iter()
        .map(|e| (e.ident, e.flags, e.data))
        .collect();
    let error = |ident, errno: i32| (ident, ev::ERROR, i64::from(errno));
    assert_eq!(
        posted,
        [
            error(2, libc::ENOENT),
            error(3, libc::EINVAL),
            error(CLOSED as u64, libc::EBADF)
        ]
    );
    assert_eq!(pending(&kqueue).len(), 2);
}

#[test]
fn no_room_for_an_error_fails_the_call_there() {
    let kqueue = kqueue();
    let mut events = [Event::default(); 1];
    let changes = [
        user(1, ev::ADD).fflags(note::TRIGGER),
        user(2, ev::DELETE),
        user(3, ev::DELETE),
        user(4, ev::ADD).fflags(note::TRIGGER),
    ];
    assert_eq!(
        errno(kqueue.kevent(&changes, &mut events, None)),
        libc::ENOENT
    );
    let applied: Vec<_> = pending(&kqueue).iter().map(|event| event.ident).collect();
    assert_eq!(applied, [1]);
}

#[test]
fn batches_of_any_length() {
    for count in [1, 15, 16, 17, 1000] {
        let kqueue = kqueue();
        let add = |i| user(i, ev::ADD | ev::RECEIPT).fflags(note::TRIGGER);
        let changes: Vec<_> = (0..count).map(add).collect();
        let mut events = vec![Event::default(); count as usize];
        let receipts = kqueue.kevent(&changes, &mut events, None).unwrap();
        assert_eq!(receipts, count as usize);
        assert!(events
            .iter()
            .zip(0..)
            .all(|(event, i)| event.ident == i && event.data == 0));
        let collected = kqueue
            .kevent(&[], &mut events, Some(Duration::ZERO))
            .unwrap();
        assert_eq!(collected, count as usize);
    }
}

#[test]
fn one_array_for_changes_and_events() {
    let kqueue = kqueue();
    let mut list: Vec<_> = (0..100).map(|i| user(i, ev::ADD | ev::RECEIPT)).collect();
    for event in list.iter_mut().skip(1).step_by(2) {
        event.flags = ev::DELETE;
    }
    let mut args = abi::kqueue_kevent {
        changelist: list.as_ptr() as u64,
        eventlist: list.as_mut_ptr() as u64,
        nchanges: 100,
        nevents: 100,
        ..Default::default()
    };
    args.flags = 0;
    // SAFETY: Both lists are `list`, valid for 100 events.
    let count = unsafe { kqueue::kevent_raw(kqueue.as_raw_fd(), &mut args.clone()) }.unwrap();
    assert_eq!(count, 100);
    for (event, i) in list.iter().zip(0..) {
        let errno = if i % 2 == 0 { 0 } else { libc::ENOENT.into() };
        assert_eq!(
            (event.ident, event.data, event.flags),
            (i, errno, ev::ERROR)
        );
    }
}

#[test]
fn system_flags_are_ignored_in_a_change() {
    let kqueue = kqueue();
    let add = user(1, ev::ADD | ev::EOF | ev::ERROR | ev::HUP).fflags(note::TRIGGER);
    change(&kqueue, &[add]);
    assert_eq!(one(&kqueue).flags, ev::ADD);
}

#[test]
fn modify_and_delete_need_a_knote() {
    let kqueue = kqueue();
    let (reader, _writer) = pipe();
    for flags in [0, ev::DELETE, ev::ENABLE, ev::DISABLE] {
        assert_eq!(change_error(&kqueue, user(1, flags)), libc::ENOENT);
        let event = Event::fd(reader.as_raw_fd(), Filter::READ, flags);
        assert_eq!(change_error(&kqueue, event), libc::ENOENT);
    }
}

#[test]
fn keepudata_keeps_udata() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    write(&writer, b"x");
    // The `udata` of a new knote is that of the change.
    change(&kqueue, &[add_read(&reader, ev::KEEPUDATA).udata(7)]);
    assert_eq!(one(&kqueue).udata, 7);
    change(&kqueue, &[add_read(&reader, ev::KEEPUDATA).udata(8)]);
    assert_eq!(one(&kqueue).udata, 7);
    change(&kqueue, &[add_read(&reader, 0).udata(8)]);
    assert_eq!(one(&kqueue).udata, 8);
    // The same in calls that collect.
    for (flags, udata, expected) in [(ev::KEEPUDATA, 9, 8), (0, 9, 9), (ev::KEEPUDATA, 10, 9)] {
        let events = collect(&kqueue, add_read(&reader, flags).udata(udata));
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].udata, expected);
    }
}

#[test]
fn invalid_descriptors() {
    let kqueue = kqueue();
    for ident in [
        CLOSED as u64,
        u64::from(u32::MAX),
        u64::MAX,
        1 << 32,
        1 << 31,
    ] {
        for filter in [Filter::READ, Filter::WRITE] {
            assert_eq!(
                change_error(&kqueue, Event::new(ident, filter, ev::ADD)),
                libc::EBADF
            );
        }
    }
}

#[test]
fn invalid_filters() {
    let kqueue = kqueue();
    for filter in [0, 1, -12, i16::MIN, i16::MAX] {
        let event = Event::new(1, Filter(filter), ev::ADD);
        assert_eq!(change_error(&kqueue, event), libc::EINVAL);
    }
}

#[test]
fn lookup_among_many() {
    const COUNT: u64 = 20_000;
    let kqueue = kqueue();
    // All idents have the same low bits, or the same high bits.
    let idents: Vec<u64> = (0..COUNT)
        .map(|i| if i % 2 == 0 { i } else { i << 40 })
        .collect();
    let apply = |flags| {
        let changes: Vec<_> = idents.iter().map(|ident| user(*ident, flags)).collect();
        change(&kqueue, &changes);
    };
    apply(ev::ADD);
    apply(ev::DISABLE);
    apply(ev::DELETE);
    assert_eq!(change_error(&kqueue, user(idents[7], 0)), libc::ENOENT);
}

#[test]
fn threads_register_at_once() {
    let kqueue = kqueue();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let kqueue = &kqueue;
            scope.spawn(move || {
                for i in 0..500 {
                    change(
                        kqueue,
                        &[user(i, ev::ADD), user(thread * 1000 + 5000 + i, ev::ADD)],
                    );
                }
            });
        }
    });
    let delete: Vec<_> = (0..500).map(|i| user(i, ev::DELETE)).collect();
    change(&kqueue, &delete);
    assert_eq!(change_error(&kqueue, user(499, 0)), libc::ENOENT);
    change(&kqueue, &[user(8499, ev::DELETE)]);
}

/// A call that changes and collects evaluates a new knote once. A knote that it has not evaluated
/// must not be regarded as ready afterwards.
#[test]
fn a_change_does_not_make_a_knote_ready() {
    let (reader, _writer) = pipe();
    let histories: [&[u16]; 4] = [
        &[0, 0],
        &[0, ev::DISABLE],
        &[ev::DISABLE, 0],
        &[0, ev::DISABLE, 0],
    ];
    for history in histories {
        let kqueue = kqueue();
        for flags in history {
            let change = add_read(&reader, *flags);
            let mut events = [Event::default(); 4];
            let count = kqueue.kevent(&[change], &mut events, Some(Duration::ZERO));
            assert_eq!(count.unwrap(), 0);
        }
        change(&kqueue, &[add_read(&reader, ev::ENABLE)]);
        let mut poll = libc::pollfd {
            fd: kqueue.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: One valid structure.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 0) }, 0, "{history:?}");
    }
}

/// Returns a change for each filter, and the objects that the changes refer to.
fn one_of_each_filter() -> (Vec<Event>, impl Sized) {
    let (reader, writer) = pipe();
    let sockets = UnixStream::pair().unwrap();
    let file = fs::File::open("/dev/shm").unwrap();
    let add = |ident, filter| Event::new(ident, filter, ev::ADD);
    let fd = |file: &dyn AsRawFd| file.as_raw_fd() as u64;
    let events = vec![
        add(fd(&reader), Filter::READ),
        add(fd(&writer), Filter::WRITE),
        add(fd(&sockets.0), Filter::READ),
        add(fd(&sockets.0), Filter::WRITE),
        add(fd(&sockets.0), Filter::EXCEPT).fflags(note::OOB),
        add(fd(&file), Filter::VNODE).fflags(note::WRITE),
        add(std::process::id().into(), Filter::PROC).fflags(note::FORK),
        add(libc::SIGUSR1 as u64, Filter::SIGNAL),
        add(1, Filter::TIMER).data(1_000_000),
        add(1, Filter::USER),
        add(0, Filter::FS),
    ];
    (events, (reader, writer, sockets, file))
}

/// Returns the lines of the kqueue's knotes in `/proc`.
fn lines(kqueue: &kqueue::Kqueue) -> Vec<String> {
    let path = format!("/proc/self/fdinfo/{}", kqueue.as_raw_fd());
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("knote "));
    lines.map(str::to_owned).collect()
}

/// Returns the value after `name` in a line. `radix` is the base in which it is printed.
fn value(line: &str, name: &str, radix: u32) -> i128 {
    let mut words = line.split(' ');
    words.find(|word| *word == name).unwrap();
    i128::from_str_radix(words.next().unwrap(), radix).unwrap()
}

#[test]
fn every_filter_replaces_udata() {
    let (events, _files) = one_of_each_filter();
    for event in events {
        let kqueue = kqueue();
        change(&kqueue, &[event.udata(1)]);
        for (flags, udata, expected) in [
            (ev::ADD, 2, 2),
            (ev::ADD | ev::KEEPUDATA, 3, 2),
            (0, 4, 4),
            (ev::KEEPUDATA, 5, 4),
            (ev::DISABLE, 6, 6),
            (ev::ENABLE, 7, 7),
        ] {
            change(&kqueue, &[Event { flags, ..event }.udata(udata)]);
            assert_eq!(
                value(&lines(&kqueue)[0], "udata:", 16),
                expected,
                "{event:?}"
            );
        }
    }
}

/// Differs from DragonFly, FreeBSD, macOS: The flags of an event are those with which the knote was
/// added, including EV_ADD, and those that the filter sets, but not EV_ENABLE, EV_DISABLE or
/// EV_KEEPUDATA.
/// Because an event that is passed as a change must not undo what another change has done. (FreeBSD
/// and macOS leave out EV_ADD too, and the specification leaves out nothing.)
#[test]
fn events_lack_flags_that_act_once() {
    let (events, _files) = one_of_each_filter();
    let actions = ev::ENABLE | ev::DISABLE | ev::DELETE | ev::KEEPUDATA;
    for event in events {
        for first in [0, ev::ENABLE, ev::DISABLE, ev::KEEPUDATA] {
            let kqueue = kqueue();
            for flags in [
                ev::ADD | first,
                ev::ENABLE,
                ev::ADD | ev::ENABLE,
                ev::KEEPUDATA,
            ] {
                change(&kqueue, &[Event { flags, ..event }]);
                let flags = value(&lines(&kqueue)[0], "flags:", 16) as u16;
                assert_eq!(flags & actions, 0, "{event:?}");
                assert_ne!(flags & ev::ADD, 0, "{event:?}");
            }
        }
    }
    // The events are passed in as they were reported.
    let kqueue = kqueue();
    change(&kqueue, &[user(1, ev::ADD | ev::DISABLE | ev::CLEAR)]);
    change(&kqueue, &[user(1, ev::ENABLE).fflags(note::TRIGGER)]);
    assert_eq!(one(&kqueue).flags, ev::ADD | ev::CLEAR);
    change(
        &kqueue,
        &[user(2, ev::ADD | ev::ENABLE).fflags(note::TRIGGER)],
    );
    assert_eq!(one(&kqueue).flags, ev::ADD);
}

/// `/proc` lists all knotes, however many there are, in the order of filter and ident. So it does
/// not reveal which of them collide in the kernel's table.
#[test]
fn proc_lists_knotes_in_sorted_order() {
    let kqueue = kqueue();
    let mut random = Random(0x1234_5678_9abc_def1);
    for count in [1, 30, 100, 3000, 20_000] {
        let known = lines(&kqueue).len();
        let changes: Vec<_> = (known..count)
            .map(|_| user(random.below(u64::MAX), ev::ADD))
            .collect();
        change(&kqueue, &changes);
        if count == 100 {
            let (events, _files) = one_of_each_filter();
            change(&kqueue, &events);
            let order = |line: &String| (-value(line, "filter:", 10), value(line, "ident:", 10));
            let listed: Vec<_> = lines(&kqueue).iter().map(order).collect();
            assert_eq!(listed.len(), 100 + events.len());
            assert!(listed.is_sorted(), "{listed:?}");
            let delete = |event: Event| Event {
                flags: ev::DELETE,
                ..event
            };
            let changes: Vec<_> = events.into_iter().map(delete).collect();
            change(&kqueue, &changes);
        }
        let idents: Vec<_> = lines(&kqueue)
            .iter()
            .map(|line| value(line, "ident:", 10))
            .collect();
        assert_eq!(idents.len(), count);
        assert!(idents.is_sorted());
    }
}

/// Differs from FreeBSD, NetBSD, OpenBSD, macOS: EV_EOF is accompanied by EV_NODATA if nothing is
/// left to read, and by EV_HUP if both directions have ended.
/// Because the specification has these flags and the others do not. A program that compares all
/// bits of flags has to mask them.
#[test]
fn flags_that_accompany_eof() {
    const END: u16 = ev::EOF | ev::NODATA | ev::HUP;
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    write(&writer, b"xy");
    drop(writer);
    change(&kqueue, &[add_read(&reader, 0)]);
    let event = one(&kqueue);
    assert_eq!((event.data, event.flags & END), (2, ev::EOF | ev::HUP));
    read(&reader, 2);
    let event = one(&kqueue);
    assert_eq!((event.data, event.flags & END), (0, END));
    assert_eq!(event.flags & !END, ev::ADD);
    drop(reader);
    let (ours, peer) = UnixStream::pair().unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    change(&kqueue, &[add_read(&ours, 0)]);
    assert_eq!(one(&kqueue).flags & END, ev::EOF | ev::NODATA);
    drop(peer);
    assert_eq!(one(&kqueue).flags & END, END);
    drop(ours);
    let child = fork(|| 0);
    let exit = Event::new(child as u64, Filter::PROC, ev::ADD);
    change(&kqueue, &[exit.fflags(note::EXIT)]);
    let event = one(&kqueue);
    let always = ev::ADD | ev::CLEAR | ev::ONESHOT;
    assert_eq!(event.flags, always | ev::EOF | ev::NODATA);
    reap(child);
}
