// SPDX-License-Identifier: GPL-2.0

//! Timers, whose number is limited.

use crate::{
    report::{Report, Siege},
    siege::{as_many, Assault, Attacker},
    sys, Scale,
};
use kqueue::{ev, note, Event, Filter};
use std::{os::fd::AsRawFd, path::Path};

/// A timer that does not fire.
fn timer(ident: usize, flags: u16) -> Event {
    let event = Event::new(ident as u64, Filter::TIMER, flags).fflags(note::SECONDS);
    event.data(1_000_000)
}

/// As many timers as one user may have.
pub fn timers(report: &mut Report, _: &Path, _: Scale) {
    const MORE_THAN_ALLOWED: usize = 100_000;
    let through_kqueue = || {
        let kqueue = sys::kqueue().expect("kqueue");
        let made = as_many(MORE_THAN_ALLOWED, |i| {
            sys::change(&kqueue, timer(i, ev::ADD))
        });
        Assault::of(made.len(), kqueue)
    };
    let through_timerfd = || {
        let made = as_many(4096, |_| {
            // SAFETY: The arguments are integers.
            let fd = sys::owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?;
            let time = libc::timespec {
                tv_sec: 1_000_000,
                tv_nsec: 0,
            };
            let time = libc::itimerspec {
                it_interval: time,
                it_value: time,
            };
            // SAFETY: The time is valid.
            let ret = unsafe {
                libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const time, std::ptr::null_mut())
            };
            sys::checked(ret)?;
            Ok(fd)
        });
        Assault::of(made.len(), made)
    };
    let kqueue = sys::kqueue().expect("kqueue");
    let attacker = Attacker::start(through_kqueue);
    let added = sys::change(&kqueue, timer(0, ev::ADD | ev::ONESHOT));
    attacker.end();
    report.require(
        "root gets no timer when a user has all they may have",
        added.is_ok(),
    );
    let siege = Siege {
        attack: "all timers that one may have; timerfds",
        bystander: "adds and deletes a timer",
        kqueue: &through_kqueue,
        native: Some(&through_timerfd),
        floor: 0.0,
    };
    report.besiege(&siege, |_| {
        // If the timer is refused, a failure was already reported.
        let _ = sys::change(&kqueue, timer(1, ev::ADD));
        let _ = sys::change(&kqueue, timer(1, ev::DELETE));
    });
}
