// SPDX-License-Identifier: GPL-2.0

//! (j) Memory of idle registrations, in bytes.

use crate::{
    measure::Case,
    queue::{kqueue, Epoll, Kevents},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{fs, os::fd::AsRawFd, rc::Rc, thread::sleep, time::Duration};

/// Returns the bytes that the kernel has allocated, after caches were dropped and deferred frees
/// were done.
fn allocated() -> i64 {
    let mut before = i64::MAX;
    loop {
        let _ = fs::write("/proc/sys/vm/drop_caches", "3");
        // The kernel keeps empty slabs for a while.
        for cache in fs::read_dir("/sys/kernel/slab")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::write(cache.path().join("shrink"), "1");
        }
        sleep(Duration::from_millis(300));
        let now = allocated_now();
        if now >= before {
            return now;
        }
        before = now;
    }
}

/// The sum of slabs and vmalloc, without page tables.
fn allocated_now() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let of = |name: &str| -> i64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a line");
        let number = line.split_whitespace().nth(1).expect("a number");
        number.parse::<i64>().expect("a number") * 1024
    };
    of("Slab:") + of("VmallocUsed:") + of("Percpu:")
}

/// Returns the bytes of each of the `count` registrations that `register` makes. Its result is kept
/// until the measurement.
fn bytes<R>(count: usize, register: impl FnOnce() -> R) -> f64 {
    let before = allocated();
    let kept = register();
    let after = allocated();
    drop(kept);
    (after - before) as f64 / count as f64
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let count = scale.pick(100_000, 2000);
    let channels: Rc<Vec<Channel>> = Rc::new((0..count).map(|_| Kind::Unix.pair()).collect());
    let (ours, theirs) = (channels.clone(), channels);
    run(
        Case::new('j', format!("bytes of each of {count} idle sockets"), 1.0)
            .side("kqueue", move || {
                bytes(count, || {
                    let queue = kqueue();
                    for channel in ours.iter() {
                        let fd = channel.reader.as_raw_fd();
                        queue.change(&[Event::fd(fd, Filter::READ, ev::ADD)]);
                    }
                    queue
                })
            })
            .side("epoll", move || {
                bytes(count, || {
                    let epoll = Epoll::new();
                    theirs
                        .iter()
                        .for_each(|channel| epoll.add(&channel.reader, libc::EPOLLIN));
                    epoll
                })
            })
            .rounds(3),
    );
}
