// SPDX-License-Identifier: GPL-2.0

//! Kqueues that watch kqueues.

use crate::{
    report::{Report, Siege},
    siege::{as_many, Assault, Attacker},
    sys, Scale,
};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

fn nest(outer: &Kqueue, inner: &Kqueue) -> io::Result<()> {
    let event = Event::fd(inner.as_raw_fd(), Filter::READ, ev::ADD | ev::CLEAR);
    sys::change(outer, event)
}

fn take(outer: &Kqueue, inner: &Kqueue) -> io::Result<()> {
    let event = Event::fd(inner.as_raw_fd(), Filter::READ, ev::DELETE);
    sys::change(outer, event)
}

fn epoll_add(outer: &OwnedFd, inner: &OwnedFd) -> io::Result<()> {
    let events = libc::EPOLLIN | libc::EPOLLET;
    sys::epoll_ctl(outer, libc::EPOLL_CTL_ADD, inner.as_raw_fd(), events)
}

fn timed(deed: impl FnOnce()) -> f64 {
    let start = sys::time();
    deed();
    sys::time() - start
}

/// An event of a kqueue that as many kqueues as possible watch. A hard interrupt notifies them.
pub fn trigger(report: &mut Report, _: &Path, scale: Scale) {
    let most = scale.of(9000);
    let through_kqueue = || {
        let inner = sys::kqueue().expect("kqueue");
        let event = Event::new(1, Filter::USER, ev::ADD | ev::CLEAR);
        sys::change(&inner, event).expect("an event");
        let outer = as_many(most, |_| {
            let outer = sys::kqueue()?;
            nest(&outer, &inner)?;
            Ok(outer)
        });
        Assault::acting(outer.len(), move || {
            let trigger = Event::new(1, Filter::USER, 0).fflags(note::TRIGGER);
            let took = timed(|| sys::change(&inner, trigger).expect("trigger"));
            // All kqueues collect the event, so that the next one is reported again.
            for kqueue in outer.iter().chain([&inner]) {
                let collected = kqueue.kevent(&[], &mut [Event::default()], None);
                assert_eq!(collected.expect("kevent"), 1);
            }
            took
        })
    };
    let through_epoll = || {
        // SAFETY: The arguments are integers.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        let event = sys::owned(event).expect("eventfd");
        let inner = sys::epoll().expect("epoll");
        epoll_add(&inner, &event).expect("an eventfd");
        let outer = as_many(most, |_| {
            let outer = sys::epoll()?;
            epoll_add(&outer, &inner)?;
            Ok(outer)
        });
        Assault::acting(outer.len(), move || {
            let one = 1u64;
            let took = timed(|| {
                // SAFETY: The source has eight bytes.
                let ret = unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), 8) };
                assert_eq!(ret, 8);
            });
            for epoll in outer.iter().chain([&inner]) {
                // SAFETY: Zero is a valid value of the event, for which there is room.
                unsafe {
                    let mut event: libc::epoll_event = std::mem::zeroed();
                    libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 0);
                }
            }
            took
        })
    };
    report.hold_up(&Siege {
        attack: "a kqueue in many; epoll in epolls",
        bystander: "is interrupted by an event of it",
        kqueue: &through_kqueue,
        native: Some(&through_epoll),
        floor: 0.0,
    });
}

/// Levels of kqueues, each of which watches all kqueues of the next level. One more edge is added
/// at the top, under the mutex of all edges.
fn add_to_top(width: usize) -> Assault {
    let levels: Vec<Vec<Kqueue>> = (0..3).map(|_| as_many(width, |_| sys::kqueue())).collect();
    let mut made = 0;
    for pair in levels.windows(2) {
        for outer in &pair[0] {
            made += as_many(width, |i| nest(outer, &pair[1][i])).len();
        }
    }
    let (above, top) = (
        sys::kqueue().expect("kqueue"),
        sys::kqueue().expect("kqueue"),
    );
    made += as_many(width, |i| nest(&top, &levels[0][i])).len();
    Assault::acting(made, move || {
        let _ = &levels;
        timed(|| {
            if nest(&above, &top).is_ok() {
                take(&above, &top).expect("EV_DELETE");
            }
        })
    })
}

/// The same structure of epolls.
fn epoll_add_to_top(width: usize) -> Assault {
    let levels: Vec<Vec<OwnedFd>> = (0..3).map(|_| as_many(width, |_| sys::epoll())).collect();
    let mut made = 0;
    for pair in levels.windows(2) {
        for outer in &pair[0] {
            made += as_many(width, |i| epoll_add(outer, &pair[1][i])).len();
        }
    }
    let (above, top) = (sys::epoll().expect("epoll"), sys::epoll().expect("epoll"));
    made += as_many(width, |i| epoll_add(&top, &levels[0][i])).len();
    Assault::acting(made, move || {
        let _ = &levels;
        timed(|| {
            if epoll_add(&above, &top).is_ok() {
                sys::epoll_ctl(&above, libc::EPOLL_CTL_DEL, top.as_raw_fd(), 0).expect("delete");
            }
        })
    })
}

/// A dense graph: the time for which others wait while it is checked for cycles, and the cost of
/// nesting for others.
pub fn add(report: &mut Report, _: &Path, scale: Scale) {
    let width = scale.of(60);
    let through_kqueue = || add_to_top(width);
    let through_epoll = || epoll_add_to_top(width);
    let siege = |bystander| Siege {
        attack: "dense levels of kqueues; of epolls",
        bystander,
        kqueue: &through_kqueue,
        native: Some(&through_epoll),
        floor: 0.0,
    };
    report.hold_up(&siege("waits for the mutex of all edges"));
    let (outer, inner) = (
        sys::kqueue().expect("kqueue"),
        sys::kqueue().expect("kqueue"),
    );
    report.besiege(&siege("adds a kqueue to its own"), |_| {
        nest(&outer, &inner).expect("EV_ADD");
        take(&outer, &inner).expect("EV_DELETE");
    });
}

/// The close of many kqueues, each of which watches some others.
pub fn close(report: &mut Report, _: &Path, scale: Scale) {
    for watched_first in [false, true] {
        close_in_order(report, scale.of(1000), watched_first);
    }
}

fn close_in_order(report: &mut Report, size: usize, watched_first: bool) {
    let texts = if watched_first {
        (
            "kqueues in 64 kqueues",
            "closes all, the former first, each",
        )
    } else {
        (
            "kqueues in 64 kqueues",
            "closes all, the latter first, each",
        )
    };
    report.growth(texts, size, |size| {
        let mut attacker = Attacker::start(|| {
            let outer = as_many(64, |_| sys::kqueue());
            let inner = as_many(size, |i| {
                let inner = sys::kqueue()?;
                nest(&outer[i % 64], &inner)?;
                Ok(inner)
            });
            let made = inner.len();
            let mut all = Some(if watched_first {
                (inner, outer)
            } else {
                (outer, inner)
            });
            Assault::acting(made, move || timed(|| drop(all.take())))
        });
        assert_eq!(attacker.made, size, "edges");
        let took = attacker.act();
        attacker.end();
        took
    });
}
