// SPDX-License-Identifier: GPL-2.0

//! (e) Many pipes. Each event of a pipe passes a byte on to the next pipe.

use crate::{
    measure::{Case, Stopwatch},
    queue::{has_emulation, kqueue, Emulation, Epoll, EpollEvent, Kevents},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{collections::VecDeque, os::fd::AsRawFd, rc::Rc};

const ACTIVE: usize = 100;
const EVENTS: usize = 256;

/// The index of the pipe whose reader has this number.
type Index = Rc<Vec<usize>>;

fn index(pipes: &[Channel]) -> Index {
    let most = pipes
        .iter()
        .map(|pipe| pipe.reader.as_raw_fd())
        .max()
        .unwrap_or(0);
    let mut index = vec![0; most as usize + 1];
    for (number, pipe) in pipes.iter().enumerate() {
        index[pipe.reader.as_raw_fd() as usize] = number;
    }
    Rc::new(index)
}

/// Returns the nanoseconds of each byte that was passed on. `collect` calls its argument with each
/// reader that is ready.
fn cascade(
    pipes: &[Channel],
    index: &Index,
    writes: usize,
    mut collect: impl FnMut(&mut dyn FnMut(usize)),
) -> f64 {
    let space = pipes.len() / ACTIVE.min(pipes.len());
    pipes.iter().step_by(space).for_each(Channel::send);
    let started = pipes.iter().step_by(space).count();
    let (mut written, mut read) = (started, 0);
    let mut watch = Stopwatch::default();
    watch.time(|| {
        while read < written {
            collect(&mut |fd| {
                let number = index[fd];
                pipes[number].receive();
                read += 1;
                if written < writes {
                    pipes[(number + 1) % pipes.len()].send();
                    written += 1;
                }
            });
        }
    });
    watch.each(read)
}

fn by_kevent(queue: impl Kevents, pipes: Rc<Vec<Channel>>, writes: usize) -> impl FnMut() -> f64 {
    let events = pipes.iter();
    let changes: Vec<Event> = events
        .map(|pipe| Event::fd(pipe.reader.as_raw_fd(), Filter::READ, ev::ADD))
        .collect();
    queue.change(&changes);
    let index = index(&pipes);
    let mut got = vec![Event::default(); EVENTS];
    move || {
        cascade(&pipes, &index, writes, |each| {
            let count = queue.wait(&mut got);
            got[..count]
                .iter()
                .for_each(|event| each(event.ident as usize));
        })
    }
}

/// Passes the bytes without events, since the program knows which pipe is next.
pub(super) fn by_bytes(pipes: Rc<Vec<Channel>>, writes: usize) -> impl FnMut() -> f64 {
    let index = index(&pipes);
    move || {
        let space = pipes.len() / ACTIVE.min(pipes.len());
        let mut ready: VecDeque<usize> = (0..pipes.len()).step_by(space).collect();
        let mut sent = ready.len();
        cascade(&pipes, &index, writes, |each| {
            for _ in 0..ready.len() {
                let Some(number) = ready.pop_front() else {
                    break;
                };
                each(pipes[number].reader.as_raw_fd() as usize);
                if sent < writes {
                    sent += 1;
                    ready.push_back((number + 1) % pipes.len());
                }
            }
        })
    }
}

pub(super) fn by_epoll(pipes: Rc<Vec<Channel>>, writes: usize) -> impl FnMut() -> f64 {
    let epoll = Epoll::new();
    for pipe in pipes.iter() {
        epoll.add(&pipe.reader, libc::EPOLLIN);
    }
    let index = index(&pipes);
    let mut got = vec![EpollEvent { events: 0, u64: 0 }; EVENTS];
    move || {
        cascade(&pipes, &index, writes, |each| {
            let count = epoll.wait(&mut got, -1);
            got[..count]
                .iter()
                .for_each(|event| each(event.u64 as usize));
        })
    }
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let pipes = scale.pick(1000, 50);
    let writes = scale.pick(5000, 200);
    let channels: Rc<Vec<_>> = Rc::new((0..pipes).map(|_| Kind::Pipe.pair()).collect());
    let title = format!("cascade through {pipes} pipes, {ACTIVE} at a time");
    let mut case = Case::new('e', title, 0.8)
        .side("kqueue", by_kevent(kqueue(), channels.clone(), writes))
        .side("epoll", by_epoll(channels.clone(), writes));
    if has_emulation() {
        case = case.side(
            "emulation",
            by_kevent(Emulation::new(), channels.clone(), writes),
        );
    }
    run(case);
}
