// SPDX-License-Identifier: GPL-2.0

//! (i) Many threads wait on one queue. Each event is for one of them.

use crate::{
    measure::{each, Case},
    queue::{kqueue, Epoll, EpollEvent, Kevents},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{
    os::fd::AsRawFd,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

const CHANNELS: usize = 64;

/// Returns the nanoseconds of each event over all threads. `work` serves until it is told to end.
fn threads(
    threads: usize,
    events: usize,
    channels: &[Channel],
    work: impl Fn(&dyn Fn() -> bool) + Sync,
) -> f64 {
    channels.iter().for_each(Channel::send);
    let left = AtomicUsize::new(events);
    let take = || {
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        });
        before.is_ok()
    };
    let cost = each(events, || {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work(&take));
            }
        });
    });
    channels.iter().for_each(Channel::receive);
    cost
}

fn by_kevent(count: usize, events: usize) -> f64 {
    let channels: Vec<_> = (0..CHANNELS).map(|_| Kind::Unix.pair()).collect();
    let queue = kqueue();
    for channel in &channels {
        let fd = channel.reader.as_raw_fd();
        queue.change(&[Event::fd(fd, Filter::READ, ev::ADD | ev::DISPATCH)]);
    }
    threads(count, events, &channels, |take| {
        let mut change = None;
        let mut got = [Event::default(); 1];
        while take() {
            Kevents::kevent(&queue, change.as_slice(), &mut got, None);
            change = Some(Event::new(
                got[0].ident,
                Filter::READ,
                ev::ENABLE | ev::DISPATCH,
            ));
        }
        queue.change(change.as_slice());
    })
}

fn by_epoll(count: usize, events: usize) -> f64 {
    const FLAGS: i32 = libc::EPOLLIN | libc::EPOLLONESHOT;
    let channels: Vec<_> = (0..CHANNELS).map(|_| Kind::Unix.pair()).collect();
    let epoll = Epoll::new();
    for channel in &channels {
        epoll.add(&channel.reader, FLAGS);
    }
    threads(count, events, &channels, |take| {
        let mut got = [EpollEvent { events: 0, u64: 0 }; 1];
        while take() {
            epoll.wait(&mut got, -1);
            epoll.modify(&(got[0].u64 as i32), FLAGS);
        }
    })
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let events = scale.pick(10_000, 200);
    for count in [2, 8] {
        let title = format!("an event for one of {count} threads, re-armed");
        run(Case::new('i', title, None)
            .side("kqueue", move || by_kevent(count, events))
            .side("epoll", move || by_epoll(count, events)));
    }
}
