// SPDX-License-Identifier: GPL-2.0

//! (d) Two threads wake each other. Each waits on a queue of its own.

use crate::{
    measure::{each, Case},
    queue::{has_emulation, kqueue, Emulation, Epoll, EpollEvent, Kevents},
    ring::{has_ring, Ring},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{os::fd::AsRawFd, thread};

/// Returns the nanoseconds of a byte in each direction.
fn ping_pong(rounds: usize, waiter: impl Fn(&Channel) -> Box<dyn FnMut()> + Sync) -> f64 {
    let (there, back) = (Kind::Unix.pair(), Kind::Unix.pair());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut wait = waiter(&there);
            for _ in 0..=rounds {
                wait();
                there.receive();
                back.send();
            }
        });
        let mut wait = waiter(&back);
        let mut once = || {
            there.send();
            wait();
            back.receive();
        };
        // The other thread is ready when it has answered.
        once();
        each(rounds, || (0..rounds).for_each(|_| once()))
    })
}

fn by_kevent<Q: Kevents + 'static>(rounds: usize, edge: bool, make: impl Fn() -> Q + Sync) -> f64 {
    let flags = if edge { ev::ADD | ev::CLEAR } else { ev::ADD };
    ping_pong(rounds, |channel| {
        let queue = make();
        queue.change(&[Event::fd(channel.reader.as_raw_fd(), Filter::READ, flags)]);
        Box::new(move || {
            queue.wait(&mut [Event::default(); 1]);
        })
    })
}

/// Uses no events: the readers block in read(2).
pub(super) fn by_bytes(rounds: usize) -> f64 {
    ping_pong(rounds, |_| Box::new(|| {}))
}

pub(super) fn by_epoll(rounds: usize, edge: bool) -> f64 {
    let flags = if edge {
        libc::EPOLLIN | libc::EPOLLET
    } else {
        libc::EPOLLIN
    };
    ping_pong(rounds, |channel| {
        let epoll = Epoll::new();
        epoll.add(&channel.reader, flags);
        Box::new(move || {
            epoll.wait(&mut [EpollEvent { events: 0, u64: 0 }; 1], -1);
        })
    })
}

fn by_ring(rounds: usize) -> f64 {
    ping_pong(rounds, |channel| {
        let mut ring = Ring::new(1).expect("io_uring");
        ring.add(&channel.reader);
        Box::new(move || {
            ring.wait();
        })
    })
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let rounds = scale.pick(3000, 50);
    for (how, edge) in [("level", false), ("edge", true)] {
        let mut case = Case::new('d', format!("ping-pong of two threads, {how}"), 1.0)
            .side("kqueue", move || by_kevent(rounds, edge, kqueue))
            .side("epoll", move || by_epoll(rounds, edge));
        if edge && has_ring() {
            case = case.side("io_uring", move || by_ring(rounds));
        }
        if has_emulation() {
            case = case.side("emulation", move || by_kevent(rounds, edge, Emulation::new));
        }
        run(case);
    }
}
