// SPDX-License-Identifier: GPL-2.0

//! (c) Collect ready descriptors among 10,000 that are not ready.

use crate::{
    measure::{Case, Stopwatch},
    queue::{has_emulation, kqueue, Emulation, Epoll, EpollEvent, Kevents},
    ring::{has_ring, Ring},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{os::fd::AsRawFd, rc::Rc};

/// The number of collections in one round.
const TIMES: usize = 50;

fn by_kevent(
    queue: impl Kevents,
    channels: Rc<Vec<Channel>>,
    ready: usize,
    edge: bool,
) -> impl FnMut() -> f64 {
    let flags = if edge { ev::ADD | ev::CLEAR } else { ev::ADD };
    let events = channels.iter();
    let changes: Vec<Event> = events
        .map(|channel| Event::fd(channel.reader.as_raw_fd(), Filter::READ, flags))
        .collect();
    queue.change(&changes);
    let mut got = vec![Event::default(); ready];
    move || collect(&channels[..ready], edge, || queue.wait(&mut got))
}

pub(super) fn by_epoll(
    channels: Rc<Vec<Channel>>,
    ready: usize,
    edge: bool,
) -> impl FnMut() -> f64 {
    let epoll = Epoll::new();
    let flags = if edge {
        libc::EPOLLIN | libc::EPOLLET
    } else {
        libc::EPOLLIN
    };
    for channel in channels.iter() {
        epoll.add(&channel.reader, flags);
    }
    let mut got = vec![EpollEvent { events: 0, u64: 0 }; ready];
    move || collect(&channels[..ready], edge, || epoll.wait(&mut got, -1))
}

fn by_ring(channels: Rc<Vec<Channel>>, ready: usize) -> impl FnMut() -> f64 {
    let mut ring = Ring::new(channels.len()).expect("io_uring");
    for channel in channels.iter() {
        ring.add(&channel.reader);
    }
    move || collect(&channels[..ready], true, || ring.wait())
}

/// Returns the nanoseconds of each event. Only the collection is measured.
fn collect(ready: &[Channel], edge: bool, mut wait: impl FnMut() -> usize) -> f64 {
    let mut watch = Stopwatch::default();
    if !edge {
        ready.iter().for_each(Channel::send);
    }
    for _ in 0..TIMES {
        if edge {
            ready.iter().for_each(Channel::send);
        }
        let mut left = ready.len();
        while left > 0 {
            left = left.saturating_sub(watch.time(&mut wait));
        }
        if edge {
            ready.iter().for_each(Channel::receive);
        }
    }
    if !edge {
        ready.iter().for_each(Channel::receive);
    }
    watch.each(TIMES * ready.len())
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    for kind in Kind::ALL {
        let idle = scale.pick(10_000, 300);
        // The first eventfd of the system is not used, because the module reads its counter as
        // text.
        let _first = kind.pair();
        let channels: Rc<Vec<_>> = Rc::new((0..idle).map(|_| kind.pair()).collect());
        for edge in [false, true] {
            for ready in [1, 16, 256] {
                let how = if edge { "edge" } else { "level" };
                let title = format!("collect {ready} of {idle} {}, {how}", kind.name());
                let mut case = Case::new('c', title, 0.9)
                    .side("kqueue", by_kevent(kqueue(), channels.clone(), ready, edge))
                    .side("epoll", by_epoll(channels.clone(), ready, edge));
                if edge && has_ring() {
                    case = case.side("io_uring", by_ring(channels.clone(), ready));
                }
                if has_emulation() && matches!(kind, Kind::Unix) {
                    let emulated = by_kevent(Emulation::new(), channels.clone(), ready, edge);
                    case = case.side("emulation", emulated);
                }
                run(case);
            }
        }
    }
}
