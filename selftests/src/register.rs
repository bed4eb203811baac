// SPDX-License-Identifier: GPL-2.0

//! Registration: batches, receipts, errors.

use crate::common::*;
use kqueue::{abi, ev, note, Event, Filter};
use std::{os::fd::AsRawFd, time::Duration};

const CLOSED: i32 = 500;

fn user(ident: u64, flags: u16) -> Event {
    Event::new(ident, Filter::USER, flags)
}

#[test]
fn receipt_answers_a_change_that_worked() {
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

#[test]
fn errors_are_posted_and_the_rest_is_applied() {
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
fn udata_is_kept_when_that_is_asked_for() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    write(&writer, b"x");
    // Of a new one it is what the change says.
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
fn descriptors_that_are_none() {
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
fn filters_that_are_none() {
    let kqueue = kqueue();
    for filter in [0, 1, -11, i16::MIN, i16::MAX] {
        let event = Event::new(1, Filter(filter), ev::ADD);
        assert_eq!(change_error(&kqueue, event), libc::EINVAL);
    }
}

#[test]
fn lookup_among_many() {
    const COUNT: u64 = 20_000;
    let kqueue = kqueue();
    // Idents that are all equal in their low, or in their high bits.
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

/// A call that changes and collects need not look twice; but what it has not looked at must not be
/// taken for ready after that.
#[test]
fn a_change_makes_nothing_ready() {
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
