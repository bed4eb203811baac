// SPDX-License-Identifier: GPL-2.0

//! (g) Arm, fire and cancel many timers.

use crate::{
    measure::{Case, Stopwatch},
    queue::{has_emulation, kqueue, Emulation, Epoll, EpollEvent, Kevents},
    sys::{owned, parameter, receive},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{os::fd::OwnedFd, thread::sleep, time::Duration};

const EVENTS: usize = 256;
/// The timers fire while the program sleeps, all before the end of the sleep.
const PERIOD: Duration = Duration::from_millis(1);
const ALL_FIRED: Duration = Duration::from_millis(50);

fn by_kevent(queue: &impl Kevents, timers: usize, fire: bool) -> f64 {
    let period = if fire {
        PERIOD
    } else {
        Duration::from_secs(1000)
    };
    let mut watch = Stopwatch::default();
    let mut got = vec![Event::default(); EVENTS];
    let event = |ident: usize, flags| {
        Event::new(ident as u64, Filter::TIMER, flags).data(period.as_millis() as i64)
    };
    watch.time(|| {
        let add: Vec<_> = (0..timers)
            .map(|ident| event(ident, ev::ADD | ev::ONESHOT))
            .collect();
        queue.change(&add);
    });
    if fire {
        sleep(ALL_FIRED);
        watch.time(|| {
            let mut left = timers;
            while left > 0 {
                left -= queue.wait(&mut got);
            }
        });
    } else {
        watch.time(|| {
            let delete: Vec<_> = (0..timers).map(|ident| event(ident, ev::DELETE)).collect();
            queue.change(&delete);
        });
    }
    watch.each(timers)
}

fn by_timerfd(timers: usize, fire: bool) -> f64 {
    let period = if fire {
        PERIOD
    } else {
        Duration::from_secs(1000)
    };
    let epoll = Epoll::new();
    let mut watch = Stopwatch::default();
    let mut fds: Vec<OwnedFd> = Vec::with_capacity(timers);
    let mut got = vec![EpollEvent { events: 0, u64: 0 }; EVENTS];
    watch.time(|| {
        for _ in 0..timers {
            // SAFETY: The arguments are integers.
            let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
            let fd = owned(fd.into());
            // SAFETY: Zero is a valid time.
            let mut times: libc::itimerspec = unsafe { std::mem::zeroed() };
            times.it_value.tv_sec = period.as_secs() as i64;
            times.it_value.tv_nsec = period.subsec_nanos().into();
            let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
            // SAFETY: The times are valid.
            unsafe { libc::timerfd_settime(raw, 0, &times, std::ptr::null_mut()) };
            epoll.add(&fd, libc::EPOLLIN);
            fds.push(fd);
        }
    });
    if fire {
        sleep(ALL_FIRED);
        watch.time(|| {
            let mut left = timers;
            while left > 0 {
                let count = epoll.wait(&mut got, -1);
                for event in &got[..count] {
                    receive(&(event.u64 as i32));
                }
                left -= count;
            }
        });
    }
    // Each timerfd is used once, so its close is a part of the work.
    watch.time(|| fds.clear());
    watch.each(timers)
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let timers = scale.pick(10_000, 100);
    parameter("calloutmax", 1_000_000);
    parameter("max_user_timers", 1_000_000);
    // Wait until the close probe of earlier workloads is unregistered, because the other side
    // closes descriptors.
    sleep(Duration::from_secs(scale.pick(11, 0) as u64));
    for fire in [true, false] {
        let what = if fire { "fire" } else { "cancel" };
        let mut case = Case::new('g', format!("arm and {what} {timers} timers"), 0.4)
            .side("kqueue", move || by_kevent(&kqueue(), timers, fire))
            .side("timerfd", move || by_timerfd(timers, fire));
        if has_emulation() {
            case = case.side("emulation", move || {
                by_kevent(&Emulation::new(), timers, fire)
            });
        }
        run(case);
    }
}
