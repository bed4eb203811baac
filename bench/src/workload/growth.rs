// SPDX-License-Identifier: GPL-2.0

//! (l) The cost of one operation with many knotes.

use crate::{
    measure::{each, Case},
    queue::{kqueue, Kevents},
    sys::parameter,
    Scale,
};
use kqueue::{ev, note, Event, Filter, Kqueue};

/// Creates a kqueue with that many user events.
fn with(count: usize) -> Kqueue {
    let queue = kqueue();
    let idents: Vec<_> = (0..count as u64).collect();
    for some in idents.chunks(1024) {
        let event = |ident: &u64| Event::new(*ident, Filter::USER, ev::ADD | ev::CLEAR);
        let changes: Vec<_> = some.iter().map(event).collect();
        queue.change(&changes);
    }
    queue
}

/// Triggers and collects some of the events, which are far from each other.
fn trigger(queue: &Kqueue, count: usize, times: usize) -> f64 {
    let step = (count / 1000).max(1);
    each(times, || {
        for time in 0..times {
            let ident = (time * step * 7 % count) as u64;
            let change = Event::new(ident, Filter::USER, 0).fflags(note::TRIGGER);
            queue
                .kevent(&[change], &mut [Event::default(); 1], None)
                .expect("kevent");
        }
    })
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let times = scale.pick(5000, 100);
    parameter("max_user_knotes", 4_000_000);
    for count in [10_000, 100_000, 1_000_000] {
        let count = scale.pick(count, count / 100);
        let few = scale.pick(1000, 100);
        let (many_queue, few_queue) = (with(count), with(few));
        run(Case::new(
            'l',
            format!("trigger one of {count}, collect it; of {few}"),
            1.5,
        )
        .side("kqueue", move || trigger(&many_queue, count, times))
        .side("few", move || trigger(&few_queue, few, times)));
    }
}
