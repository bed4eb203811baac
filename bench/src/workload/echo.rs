// SPDX-License-Identifier: GPL-2.0

//! (f) An echo server. One thread serves, and another one sends requests on many connections.

use crate::{
    measure::{each, Case},
    queue::{has_emulation, kqueue, Emulation, Epoll, EpollEvent, Kevents},
    sys::{receive, send, Channel, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{os::fd::AsRawFd, thread};

const EVENTS: usize = 64;

/// Returns the nanoseconds of each request. `serve` waits, and calls its argument with each
/// connection that has a request.
fn echo(
    connections: usize,
    rounds: usize,
    server: impl FnOnce(&[Channel]) -> Box<dyn FnMut(&mut dyn FnMut(i32))> + Send,
) -> f64 {
    let channels: Vec<_> = (0..connections).map(|_| Kind::Tcp.pair()).collect();
    let requests = connections * rounds;
    thread::scope(|scope| {
        let channels = &channels;
        scope.spawn(move || {
            let mut serve = server(channels);
            let mut served = 0;
            while served < requests + connections {
                serve(&mut |fd| {
                    receive(&fd);
                    send(&fd);
                    served += 1;
                });
            }
        });
        let ask = |rounds: usize| {
            for _ in 0..rounds {
                channels.iter().for_each(|channel| send(&channel.writer));
                channels.iter().for_each(|channel| receive(&channel.writer));
            }
        };
        ask(1);
        each(requests, || ask(rounds))
    })
}

fn by_kevent<Q: Kevents + 'static>(
    connections: usize,
    rounds: usize,
    make: impl FnOnce() -> Q + Send,
) -> f64 {
    echo(connections, rounds, |channels| {
        let queue = make();
        for channel in channels {
            queue.change(&[Event::fd(channel.reader.as_raw_fd(), Filter::READ, ev::ADD)]);
        }
        let mut got = [Event::default(); EVENTS];
        Box::new(move |each| {
            let count = queue.wait(&mut got);
            got[..count]
                .iter()
                .for_each(|event| each(event.ident as i32));
        })
    })
}

fn by_epoll(connections: usize, rounds: usize) -> f64 {
    echo(connections, rounds, |channels| {
        let epoll = Epoll::new();
        for channel in channels {
            epoll.add(&channel.reader, libc::EPOLLIN);
        }
        let mut got = [EpollEvent { events: 0, u64: 0 }; EVENTS];
        Box::new(move |each| {
            let count = epoll.wait(&mut got, -1);
            got[..count].iter().for_each(|event| each(event.u64 as i32));
        })
    })
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let connections = scale.pick(200, 20);
    let rounds = scale.pick(20, 3);
    let title = format!("a request to an echo server of {connections} connections");
    let mut case = Case::new('f', title, None)
        .side("kqueue", move || by_kevent(connections, rounds, kqueue))
        .side("epoll", move || by_epoll(connections, rounds));
    if has_emulation() {
        case = case.side("emulation", move || {
            by_kevent(connections, rounds, Emulation::new)
        });
    }
    run(case);
}
