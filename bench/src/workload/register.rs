// SPDX-License-Identifier: GPL-2.0

//! (a) Register and remove many descriptors, in batches and one by one.

use crate::{
    measure::{each, Case},
    queue::{has_emulation, kqueue, Emulation, Epoll, Kevents},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{os::fd::AsRawFd, rc::Rc};

const BATCH: usize = 1024;

fn by_kevent(queue: &impl Kevents, channels: &[Channel], batch: usize) -> f64 {
    let changes = |flags| -> Vec<Event> {
        let events = channels.iter();
        events
            .map(|channel| Event::fd(channel.reader.as_raw_fd(), Filter::READ, flags))
            .collect()
    };
    let (add, delete) = (changes(ev::ADD), changes(ev::DELETE));
    each(channels.len(), || {
        for changes in add.chunks(batch).chain(delete.chunks(batch)) {
            queue.change(changes);
        }
    })
}

fn by_epoll(channels: &[Channel]) -> f64 {
    let epoll = Epoll::new();
    each(channels.len(), || {
        for channel in channels {
            epoll.add(&channel.reader, libc::EPOLLIN);
        }
        for channel in channels {
            epoll.delete(&channel.reader);
        }
    })
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    for count in [1_000, 10_000, 100_000] {
        let count = scale.pick(count, count / 100);
        let channels: Rc<Vec<_>> = Rc::new((0..count).map(|_| Kind::Unix.pair()).collect());
        for (how, batch, target) in [("in batches", BATCH, 0.5), ("one by one", 1, 1.0)] {
            let title = format!("register and remove {count} sockets {how}");
            let (ours, theirs, emulated) = (channels.clone(), channels.clone(), channels.clone());
            let mut case = Case::new('a', title, target)
                .side("kqueue", move || by_kevent(&kqueue(), &ours, batch))
                .side("epoll", move || by_epoll(&theirs));
            if has_emulation() && count <= 10_000 {
                case = case.side("emulation", move || {
                    by_kevent(&Emulation::new(), &emulated, batch)
                });
            }
            run(case.rounds(if count > 10_000 { 3 } else { usize::MAX }));
        }
    }
}
