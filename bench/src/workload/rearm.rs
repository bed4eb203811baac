// SPDX-License-Identifier: GPL-2.0

//! (b) Re-arm after each event.

use crate::{
    measure::{each, Case},
    queue::{has_emulation, kqueue, Emulation, Epoll, EpollEvent, Kevents},
    sys::Kind,
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::os::fd::AsRawFd;

const READY: usize = 16;

fn by_kevent(queue: impl Kevents, events: usize) -> impl FnMut() -> f64 {
    let channels: Vec<_> = (0..READY).map(|_| Kind::Unix.pair()).collect();
    for channel in &channels {
        channel.send();
        let fd = channel.reader.as_raw_fd();
        queue.change(&[Event::fd(fd, Filter::READ, ev::ADD | ev::DISPATCH)]);
    }
    let mut got = vec![Event::default(); READY];
    let mut enable: Vec<Event> = Vec::with_capacity(READY);
    move || {
        let _open = &channels;
        let mut left = events;
        each(events, || {
            while left > 0 {
                let count = queue.kevent(&enable, &mut got, None);
                enable.clear();
                for event in &got[..count] {
                    let flags = ev::ENABLE | ev::DISPATCH;
                    enable.push(Event::new(event.ident, Filter::READ, flags));
                }
                left = left.saturating_sub(count);
            }
        })
    }
}

fn by_epoll(events: usize) -> impl FnMut() -> f64 {
    const FLAGS: i32 = libc::EPOLLIN | libc::EPOLLONESHOT;
    let epoll = Epoll::new();
    let channels: Vec<_> = (0..READY).map(|_| Kind::Unix.pair()).collect();
    for channel in &channels {
        channel.send();
        epoll.add(&channel.reader, FLAGS);
    }
    let mut got = vec![EpollEvent { events: 0, u64: 0 }; READY];
    move || {
        let _open = &channels;
        let mut left = events;
        each(events, || {
            while left > 0 {
                let count = epoll.wait(&mut got, -1);
                for event in &got[..count] {
                    epoll.modify(&(event.u64 as i32), FLAGS);
                }
                left = left.saturating_sub(count);
            }
        })
    }
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let events = scale.pick(16_000, 160);
    let mut case = Case::new('b', "re-arm after each event, 16 ready", 0.5)
        .side("kqueue", by_kevent(kqueue(), events))
        .side("epoll", by_epoll(events));
    if has_emulation() {
        case = case.side("emulation", by_kevent(Emulation::new(), events));
    }
    run(case);
}
