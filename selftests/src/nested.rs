// SPDX-License-Identifier: GPL-2.0

//! Kqueues that watch kqueues, and epolls in between.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

fn trigger(kqueue: &Kqueue) {
    change(
        kqueue,
        &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER)],
    );
}

fn epoll_of(kqueue: &Kqueue) -> OwnedFd {
    // SAFETY: The descriptor is new and ours; one event.
    unsafe {
        let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 5,
        };
        let fd = kqueue.as_raw_fd();
        assert_eq!(
            libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event),
            0
        );
        epoll
    }
}

#[test]
fn a_kqueue_tells_how_many_are_pending() {
    let (inner, outer) = (kqueue(), kqueue());
    change(&outer, &[add_read(&inner, 0)]);
    assert!(pending(&outer).is_empty());
    trigger(&inner);
    assert_eq!(one(&outer).data, 1);
    change(
        &inner,
        &[Event::new(2, Filter::USER, ev::ADD).fflags(note::TRIGGER)],
    );
    assert_eq!(one(&outer).data, 2);
    assert_eq!(pending(&inner).len(), 2);
    assert_eq!(one(&outer).data, 1);
}

/// Who was told of an event and has not collected it is told of the next one all the same.
#[test]
fn each_event_is_told_to_who_asks_for_edges() {
    let (inner, outer) = (kqueue(), kqueue());
    let fd = inner.as_raw_fd();
    // SAFETY: The descriptor is new and ours; one event.
    let epoll = unsafe {
        let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 5,
        };
        let added = libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event);
        assert_eq!(added, 0);
        epoll
    };
    let edges = |timeout: i32| {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: Room for one event.
        unsafe { libc::epoll_wait(epoll.as_raw_fd(), &mut event, 1, timeout) }
    };
    change(&outer, &[add_read(&inner, ev::CLEAR)]);
    for ident in 1..5 {
        change(
            &inner,
            &[Event::new(ident, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER)],
        );
        assert_eq!(one(&outer).data, ident as i64);
        assert!(pending(&outer).is_empty());
        assert_eq!(edges(SOON.as_millis() as i32), 1);
        assert_eq!(edges(0), 0);
    }
    assert_eq!(pending(&inner).len(), 4);
}

#[test]
fn a_kqueue_cannot_be_written_to() {
    let (inner, outer) = (kqueue(), kqueue());
    assert_eq!(change_error(&outer, add_write(&inner, 0)), libc::EOPNOTSUPP);
}

#[test]
fn a_kqueue_of_itself_is_refused() {
    let kqueue = kqueue();
    assert_eq!(change_error(&kqueue, add_read(&kqueue, 0)), libc::ELOOP);
    trigger(&kqueue);
    one(&kqueue);
}

#[test]
fn circles_are_refused() {
    let queues: Vec<_> = (0..3).map(|_| kqueue()).collect();
    change(&queues[0], &[add_read(&queues[1], 0)]);
    change(&queues[1], &[add_read(&queues[2], 0)]);
    for inner in &queues[..2] {
        assert_eq!(change_error(&queues[2], add_read(inner, 0)), libc::ELOOP);
    }
    // With a link taken away it is a circle no more.
    change(
        &queues[0],
        &[Event::fd(queues[1].as_raw_fd(), Filter::READ, ev::DELETE)],
    );
    change(&queues[2], &[add_read(&queues[0], 0)]);
    trigger(&queues[0]);
    one(&queues[1]);
}

#[test]
fn chains_are_bounded() {
    let queues: Vec<_> = (0..6).map(|_| kqueue()).collect();
    let link = |outer: usize| add_read(&queues[outer + 1], 0);
    // From both ends, so that the link in the middle makes it long.
    for outer in [0, 4, 1, 3] {
        change(&queues[outer], &[link(outer)]);
    }
    assert_eq!(change_error(&queues[2], link(2)), libc::ELOOP);
    change(
        &queues[0],
        &[Event::fd(queues[1].as_raw_fd(), Filter::READ, ev::DELETE)],
    );
    change(&queues[2], &[link(2)]);
    // A chain of five passes an event on.
    trigger(&queues[5]);
    assert_eq!(one(&queues[1]).data, 1);
}

#[test]
fn many_paths_are_walked_once() {
    // 4 layers of 8: 4096 paths.
    let layers: Vec<Vec<_>> = (0..4).map(|_| (0..8).map(|_| kqueue()).collect()).collect();
    for pair in layers.windows(2) {
        for outer in &pair[0] {
            let changes: Vec<_> = pair[1].iter().map(|inner| add_read(inner, 0)).collect();
            change(outer, &changes);
        }
    }
    trigger(&layers[3][0]);
    assert_eq!(soon(&layers[0][0]).len(), 8);
}

#[test]
fn closing_the_inner_ends_the_link() {
    let outer = kqueue();
    let inner = kqueue();
    change(&outer, &[add_read(&inner, 0)]);
    trigger(&inner);
    one(&outer);
    drop(inner);
    assert!(pending(&outer).is_empty());
}

#[test]
fn closing_the_outer_ends_the_link() {
    let inner = kqueue();
    for _ in 0..10 {
        let outer = kqueue();
        change(&outer, &[add_read(&inner, 0)]);
    }
    trigger(&inner);
    one(&inner);
}

#[test]
fn a_kqueue_of_an_epoll_of_a_kqueue() {
    let (inner, outer) = (kqueue(), kqueue());
    let epoll = epoll_of(&inner);
    change(&outer, &[add_read(&epoll, 0)]);
    assert!(pending(&outer).is_empty());
    trigger(&inner);
    assert_eq!(one(&outer).ident, epoll.as_raw_fd() as u64);
    one(&inner);
    assert!(pending(&outer).is_empty());
}

#[test]
fn a_circle_through_an_epoll_does_no_harm() {
    let kqueue = kqueue();
    let epoll = epoll_of(&kqueue);
    change(&kqueue, &[add_read(&epoll, 0)]);
    change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
    for _ in 0..20 {
        change(
            &kqueue,
            &[Event::new(1, Filter::USER, 0).fflags(note::TRIGGER)],
        );
        let events = soon(&kqueue);
        assert!(events.iter().any(|event| event.filter == Filter::USER));
    }
    drop(epoll);
    assert!(pending(&kqueue).is_empty());
}
