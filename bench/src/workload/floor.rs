// SPDX-License-Identifier: GPL-2.0

//! (m) Lower bounds: the part of the cost that does not belong to the interface, so that no
//! implementation can be below it. The first side is not kqueue here, but the same program without
//! events.

use super::{cascade, collect, life, pingpong};
use crate::{
    measure::{each, Case, Stopwatch},
    queue::{kqueue, Epoll, EpollEvent, Kevents},
    sys::Kind,
    Scale,
};
use kqueue::{ev, Event, Filter, Kqueue};
use std::{os::fd::AsRawFd, rc::Rc, time::Duration};

/// The lower bound of an ioctl(2): an unknown one, which the module refuses at once.
fn refused(kqueue: &Kqueue) {
    // SAFETY: The arguments are integers.
    let ret = unsafe { libc::ioctl(kqueue.as_raw_fd(), 0) };
    assert_eq!(ret, -1);
}

/// The lower bound of an epoll_wait(2): one without room, which the kernel refuses at once.
fn refused_wait(epoll: &Epoll) {
    // SAFETY: There is no room.
    let ret = unsafe { libc::epoll_wait(epoll.as_raw_fd(), std::ptr::null_mut(), 0, 0) };
    assert_eq!(ret, -1);
}

/// The lower bound of a change: one of an unknown filter, which the module refuses when it has read
/// the change and has taken the mutex of the kqueue.
fn refused_change(kqueue: &Kqueue) {
    let change = Event::new(0, Filter(i16::MAX), ev::ADD);
    assert!(kqueue.kevent(&[change], &mut [], None).is_err());
}

/// Changes of registrations, and the end of many: what remains of them without a kqueue.
fn changes(scale: Scale, run: &mut dyn FnMut(Case)) {
    let calls = scale.pick(5000, 100);
    let pair = Rc::new(Kind::Unix.pair());
    for (title, deletes) in [
        ("add again, on and off: a change that is refused", false),
        ("delete: a change that is refused", true),
    ] {
        let (ours, epoll) = (kqueue(), Epoll::new());
        let pair = pair.clone();
        run(Case::new('m', title, None)
            .side("kqueue", move || {
                each(calls, || (0..calls).for_each(|_| refused_change(&ours)))
            })
            .side("epoll", move || {
                let mut watch = Stopwatch::default();
                for _ in 0..calls {
                    epoll.add(&pair.reader, libc::EPOLLIN);
                    watch.time(|| match deletes {
                        true => epoll.delete(&pair.reader),
                        false => epoll.modify(&pair.reader, libc::EPOLLIN),
                    });
                    if !deletes {
                        epoll.delete(&pair.reader);
                    }
                }
                watch.each(calls)
            }));
    }

    let count = scale.pick(256, 16);
    let title = "close of TCP: the descriptors alone";
    run(Case::new('m', title, None)
        .side("nothing", move || life::close_of_tcp(count, false))
        .side("epoll", move || life::close_of_tcp(count, true)));
    let many = scale.pick(10_000, 200);
    let title = format!("exit with {many} of eventfd: the descriptors alone");
    run(Case::new('m', title, None)
        .side("nothing", move || life::exit(many, |_| {}))
        .side("epoll", move || life::exit_by_epoll(many))
        .rounds(3));
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let calls = scale.pick(5000, 100);
    let (ours, epoll) = (kqueue(), Epoll::new());
    run(Case::new('m', "a system call that is refused", None)
        .side("ioctl", move || {
            each(calls, || (0..calls).for_each(|_| refused(&ours)))
        })
        .side("epoll", move || {
            each(calls, || (0..calls).for_each(|_| refused_wait(&epoll)))
        }));

    let (ours, epoll) = (kqueue(), Epoll::new());
    run(Case::new('m', "a call that finds nothing", None)
        .side("kqueue", move || {
            let mut got = [Event::default(); 1];
            each(calls, || {
                for _ in 0..calls {
                    Kevents::kevent(&ours, &[], &mut got, Some(Duration::ZERO));
                }
            })
        })
        .side("epoll", move || {
            let mut got = [EpollEvent { events: 0, u64: 0 }; 1];
            each(calls, || {
                for _ in 0..calls {
                    epoll.wait(&mut got, 0);
                }
            })
        }));

    let channels: Rc<Vec<_>> = Rc::new((0..100).map(|_| Kind::Unix.pair()).collect());
    let ours = kqueue();
    run(
        Case::new('m', "collect 1, UNIX: a call that is refused", None)
            .side("ioctl", move || {
                let mut watch = Stopwatch::default();
                for _ in 0..calls {
                    watch.time(|| refused(&ours));
                }
                watch.each(calls)
            })
            .side("epoll", collect::by_epoll(channels, 1, false)),
    );

    let rounds = scale.pick(3000, 50);
    run(Case::new('m', "ping-pong: the bytes alone", None)
        .side("bytes", move || pingpong::by_bytes(rounds))
        .side("epoll", move || pingpong::by_epoll(rounds, false)));

    let (pipes, writes) = (scale.pick(1000, 50), scale.pick(5000, 200));
    let channels: Rc<Vec<_>> = Rc::new((0..pipes).map(|_| Kind::Pipe.pair()).collect());
    run(Case::new('m', "cascade: the bytes alone", None)
        .side("bytes", cascade::by_bytes(channels.clone(), writes))
        .side("epoll", cascade::by_epoll(channels, writes)));
    changes(scale, run);
}
