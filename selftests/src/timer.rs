// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_TIMER`.

use crate::common::*;
use kqueue::{ev, note, Event, Filter};
use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

fn timer(flags: u16, millis: i64) -> Event {
    Event::new(1, Filter::TIMER, flags).data(millis)
}

/// Counts expirations until there were `count`.
fn collect(kqueue: &kqueue::Kqueue, count: i64) {
    let mut seen = 0;
    while seen < count {
        let event = one(kqueue);
        assert!(event.data > 0);
        assert!(event.has(ev::CLEAR), "the filter sets EV_CLEAR");
        seen += event.data;
    }
}

#[test]
fn is_periodic() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD, 10)]);
    collect(&kqueue, 5);
}

#[test]
fn oneshot_expires_once() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD | ev::ONESHOT, 10)]);
    assert_eq!(one(&kqueue).data, 1);
    assert_eq!(change_error(&kqueue, timer(ev::DELETE, 0)), libc::ENOENT);
}

#[test]
fn does_not_expire_early() {
    let kqueue = kqueue();
    let start = Instant::now();
    change(&kqueue, &[timer(ev::ADD | ev::ONESHOT, 300)]);
    one(&kqueue);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn counts_what_was_not_collected() {
    let kqueue = kqueue();
    let start = Instant::now();
    change(&kqueue, &[timer(ev::ADD, 5)]);
    thread::sleep(Duration::from_millis(200));
    let events = pending(&kqueue);
    let possible = start.elapsed().as_millis() as i64 / 5;
    assert_eq!(events.len(), 1);
    // All periods that went by, but for those since the clock was read.
    assert!(
        (40 - 1..=possible).contains(&events[0].data),
        "{} of {possible}",
        events[0].data
    );
}

#[test]
fn counts_while_disabled() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD | ev::DISABLE, 5)]);
    thread::sleep(Duration::from_millis(100));
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[timer(ev::ENABLE, 5)]);
    assert!(one(&kqueue).data >= 19);
}

#[test]
fn delete_stops_it() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD, 1)]);
    one(&kqueue);
    change(&kqueue, &[timer(ev::DELETE, 0)]);
    thread::sleep(Duration::from_millis(50));
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn delete_drains_a_pending_expiration() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD, 1)]);
    thread::sleep(Duration::from_millis(50));
    change(&kqueue, &[timer(ev::DELETE, 0)]);
    assert!(pending(&kqueue).is_empty());
}

/// Differs from FreeBSD, macOS: A new period of a timer holds from its next expiry on.
/// Because it is the specification's; FreeBSD arms it anew.
#[test]
fn a_new_period_holds_from_the_next_expiry() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD, 20)]);
    change(&kqueue, &[timer(ev::ADD, 86_400_000)]);
    one(&kqueue);
    thread::sleep(Duration::from_millis(100));
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn a_modification_replaces_udata() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[timer(ev::ADD, 10).udata(1), timer(0, 10).udata(2)],
    );
    assert_eq!(one(&kqueue).udata, 2);
}

/// Differs from DragonFly: A negative period is EINVAL. (0 is 1 ms; the specification: one tick.)
/// Because as FreeBSD has it.
#[test]
fn negative_period_is_refused() {
    let kqueue = kqueue();
    for period in [-1, i64::MIN] {
        assert_eq!(change_error(&kqueue, timer(ev::ADD, period)), libc::EINVAL);
    }
    change(&kqueue, &[timer(ev::ADD, 10)]);
    assert_eq!(change_error(&kqueue, timer(ev::ADD, -1)), libc::EINVAL);
    collect(&kqueue, 2);
}

#[test]
fn longest_period_does_not_expire() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD, i64::MAX)]);
    thread::sleep(Duration::from_millis(20));
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn shortest_period_does_not_hang() {
    let kqueue = kqueue();
    change(&kqueue, &[timer(ev::ADD, 0)]);
    collect(&kqueue, 10);
}

#[test]
fn thousands_of_the_shortest_do_not_hang() {
    const COUNT: u64 = 4000;
    let kqueue = kqueue();
    let start = Instant::now();
    let add = |ident| Event::new(ident, Filter::TIMER, ev::ADD).data(1);
    change(&kqueue, &(0..COUNT).map(add).collect::<Vec<_>>());
    thread::sleep(Duration::from_millis(1000));
    let mut events = vec![Event::default(); COUNT as usize];
    let count = kqueue.kevent(&[], &mut events, None).unwrap();
    // Each has counted every period, and none too many.
    let possible = start.elapsed().as_millis() as i64;
    assert_eq!(count, COUNT as usize);
    for event in &events {
        assert!((1000..=possible).contains(&event.data), "{event:?}");
    }
}

#[test]
fn timers_are_bounded() {
    let kqueue = kqueue();
    let mut added = 0;
    let error = loop {
        let event = Event::new(added, Filter::TIMER, ev::ADD).data(86_400_000);
        match kqueue.kevent(&[event], &mut [], None) {
            Ok(_) => added += 1,
            Err(error) => break error.raw_os_error(),
        }
        assert!(added <= 4096);
    };
    assert_eq!((added, error), (4096, Some(libc::ENOMEM)));
    // One that goes makes room for another.
    change(
        &kqueue,
        &[Event::new(0, Filter::TIMER, ev::DELETE), timer(ev::ADD, 1)],
    );
}

#[test]
fn idents_are_per_filter() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[timer(ev::ADD, 10), Event::new(1, Filter::USER, ev::ADD)],
    );
    assert_eq!(one(&kqueue).filter, Filter::TIMER);
    change(&kqueue, &[Event::new(1, Filter::USER, ev::DELETE)]);
    one(&kqueue);
}

/// Differs from DragonFly: Timers have FreeBSD's units, and without one milliseconds.
/// Because programs use them.
#[test]
fn periods_in_other_units() {
    let units = [
        (note::SECONDS, 1, 1_000),
        (note::MSECONDS, 250, 250),
        (note::USECONDS, 250_000, 250),
        (note::NSECONDS, 250_000_000, 250),
    ];
    for (unit, period, millis) in units {
        let kqueue = kqueue();
        let start = Instant::now();
        change(&kqueue, &[timer(ev::ADD, period).fflags(unit)]);
        let event = one(&kqueue);
        let elapsed = start.elapsed().as_millis() as i64;
        assert!(elapsed >= millis, "{unit}: {elapsed} ms");
        assert!(event.data <= elapsed / millis, "{unit}: {event:?}");
    }
}

#[test]
fn two_units_are_refused() {
    let kqueue = kqueue();
    for units in [
        note::SECONDS | note::MSECONDS,
        0xf,
        note::USECONDS | note::NSECONDS,
    ] {
        let event = timer(ev::ADD, 1).fflags(units);
        assert_eq!(change_error(&kqueue, event), libc::EINVAL);
    }
}

#[test]
fn a_nanosecond_does_not_hang() {
    let kqueue = kqueue();
    let start = Instant::now();
    change(&kqueue, &[timer(ev::ADD, 1).fflags(note::NSECONDS)]);
    collect(&kqueue, 1_000_000);
    thread::sleep(Duration::from_millis(100));
    let counted = one(&kqueue).data;
    assert!(counted >= 100_000_000 - 1);
    assert!(counted <= start.elapsed().as_nanos() as i64);
}

#[test]
fn periods_beyond_the_clock_never_expire() {
    let kqueue = kqueue();
    for unit in [
        note::SECONDS,
        note::USECONDS,
        note::NSECONDS,
        note::SECONDS | note::ABSTIME,
    ] {
        change(&kqueue, &[timer(ev::ADD, i64::MAX).fflags(unit)]);
        thread::sleep(Duration::from_millis(20));
        assert!(pending(&kqueue).is_empty());
        change(&kqueue, &[timer(ev::DELETE, 0)]);
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

fn alarm(flags: u16, millis: i64) -> Event {
    timer(flags, millis).fflags(note::ABSTIME)
}

#[test]
fn a_time_comes_once() {
    let kqueue = kqueue();
    let at = now() + 300;
    change(&kqueue, &[alarm(ev::ADD, at)]);
    assert_eq!(one(&kqueue).data, 1);
    assert!(now() >= at);
    thread::sleep(Duration::from_millis(100));
    assert!(pending(&kqueue).is_empty());
    // It is there still, and can be set again; one that has passed comes at once.
    change(&kqueue, &[alarm(ev::ADD, at - 1000)]);
    assert_eq!(one(&kqueue).data, 1);
    change(&kqueue, &[alarm(ev::ADD, 0)]);
    assert_eq!(one(&kqueue).data, 1);
    change(&kqueue, &[timer(ev::DELETE, 0)]);
}

#[test]
fn a_time_can_be_put_off_and_become_a_period() {
    let kqueue = kqueue();
    change(&kqueue, &[alarm(ev::ADD, now() + 200)]);
    change(&kqueue, &[alarm(ev::ADD, now() + 86_400_000)]);
    thread::sleep(Duration::from_millis(400));
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[timer(ev::ADD, 10)]);
    collect(&kqueue, 3);
    change(&kqueue, &[alarm(ev::ADD | ev::ONESHOT, now() + 86_400_000)]);
    thread::sleep(Duration::from_millis(50));
    assert!(pending(&kqueue).is_empty());
    assert_eq!(change_error(&kqueue, alarm(ev::ADD, -1)), libc::EINVAL);
}

/// What it was set to before does not count from then on, were it firing at that moment.
#[test]
fn what_is_put_off_while_it_fires_is_not_reported() {
    let kqueue = kqueue();
    let micros = |fflags, count| timer(ev::ADD, count).fflags(fflags | note::USECONDS);
    let far = alarm(ev::ADD, now() + 86_400_000);
    for round in 0..1000 {
        let first = if round % 2 == 0 {
            micros(note::ABSTIME, (now() + 1) * 1000)
        } else {
            micros(0, 1 + round % 50)
        };
        change(&kqueue, &[first]);
        // It fires anywhere in here.
        for _ in 0..(round * 37) % 2000 {
            std::hint::spin_loop();
        }
        change(&kqueue, &[far]);
        assert!(pending(&kqueue).is_empty(), "round {round}");
    }
    // Many at once, changed by one thread while another collects: each of the last comes once.
    const TIMERS: u64 = 100;
    let all = |event: Event| -> Vec<Event> {
        (0..TIMERS).map(|ident| Event { ident, ..event }).collect()
    };
    thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut last = 0;
            while last < TIMERS {
                last += soon(&kqueue).iter().map(|event| event.udata).sum::<u64>();
            }
            last
        });
        for round in 0..50 {
            change(&kqueue, &all(micros(0, 1 + round)));
            change(&kqueue, &all(alarm(ev::ADD, now() + round)));
        }
        change(&kqueue, &all(alarm(ev::ADD, now() + 50).udata(1)));
        assert_eq!(collector.join().unwrap(), TIMERS);
    });
    assert!(pending(&kqueue).is_empty());
}

/// Differs from DragonFly: NOTE_ABSTIME is a time since the epoch, which follows the clock when it
/// is set.
/// Because as FreeBSD has it.
#[test]
fn a_time_follows_the_clock_when_it_is_set() {
    let kqueue = kqueue();
    change(&kqueue, &[alarm(ev::ADD | ev::ONESHOT, now() + 3_600_000)]);
    let set = |seconds: i64| {
        let time = libc::timespec {
            tv_sec: now() / 1000 + seconds,
            tv_nsec: 0,
        };
        // SAFETY: A valid time; root in a guest of our own.
        let ret = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) };
        assert_eq!(ret, 0);
    };
    set(7200);
    assert_eq!(one(&kqueue).data, 1);
    set(-7200);
}

#[test]
fn ten_thousand_at_once() {
    const COUNT: u64 = 10_000;
    let _limit = Parameter::set("calloutmax", COUNT as u32);
    let kqueue = kqueue();
    let oneshot = ev::ADD | ev::ONESHOT;
    let add = |ident| Event::new(ident, Filter::TIMER, oneshot).data((ident % 200) as i64);
    change(&kqueue, &(0..COUNT).map(add).collect::<Vec<_>>());
    let mut seen = vec![0; COUNT as usize];
    let mut left = COUNT;
    while left > 0 {
        for event in soon(&kqueue) {
            assert_eq!(event.data, 1);
            seen[event.ident as usize] += 1;
            left -= 1;
        }
    }
    assert!(seen.iter().all(|count| *count == 1));
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn a_period_does_not_drift() {
    const PERIOD: i64 = 10;
    let kqueue = kqueue();
    let before = Instant::now();
    change(&kqueue, &[timer(ev::ADD, PERIOD)]);
    let after = Instant::now();
    let mut seen = 0;
    while seen < 100 {
        // Late every time, which must not add up.
        thread::sleep(Duration::from_millis(3));
        let asked = after.elapsed().as_millis() as i64 / PERIOD;
        seen += one(&kqueue).data;
        let possible = before.elapsed().as_millis() as i64 / PERIOD;
        assert!(
            (asked..=possible).contains(&seen),
            "{seen} of {asked} to {possible}"
        );
    }
}
