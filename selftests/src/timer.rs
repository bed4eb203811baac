// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_TIMER`.

use crate::common::*;
use kqueue::{ev, note, Event, Filter};
use std::{
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

fn timer(flags: u16, millis: i64) -> Event {
    Event::new(1, Filter::TIMER, flags).data(millis)
}

/// Returns whether poll(2) reports the kqueue as readable.
fn is_readable(kqueue: &kqueue::Kqueue) -> bool {
    let mut poll = libc::pollfd {
        fd: kqueue.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: One structure.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

/// Collects events until `count` expirations were reported.
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
    let event = one(&kqueue);
    let possible = start.elapsed().as_millis() as i64 / 5;
    // The count includes all periods that have passed until the clock was read.
    assert!(
        (40 - 1..=possible).contains(&event.data),
        "{} of {possible}",
        event.data
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

/// Differs from DragonFly: EV_ADD of a timer that exists starts it with the new period from that
/// time on, and forgets expirations that were not collected.
/// Because programs put off a time-out in this way, and all other systems do the same.
#[test]
fn adding_again_restarts_the_period() {
    const A_DAY: i64 = 86_400_000;
    let kqueue = kqueue();
    // No former expiration is left, whether the timer is disabled or not.
    for flags in [0, ev::DISABLE, ev::DISPATCH] {
        change(&kqueue, &[timer(ev::ADD | flags, 1)]);
        thread::sleep(Duration::from_millis(50));
        change(&kqueue, &[timer(ev::ADD, A_DAY)]);
        assert!(!is_readable(&kqueue));
        assert!(crate::common::collect(&kqueue, timer(ev::ENABLE, 0)).is_empty());
        assert!(!is_readable(&kqueue));
        // This also holds in one call.
        change(&kqueue, &[timer(ev::ADD, 1)]);
        thread::sleep(Duration::from_millis(50));
        assert!(crate::common::collect(&kqueue, timer(ev::ADD, A_DAY)).is_empty());
        // A shorter period takes effect at once.
        change(&kqueue, &[timer(ev::ADD, 1)]);
        one(&kqueue);
        change(&kqueue, &[timer(ev::DELETE, 0)]);
    }
}

#[test]
fn a_timer_restarted_in_time_never_expires() {
    const PERIOD: Duration = Duration::from_millis(3000);
    let kqueue = kqueue();
    let add = timer(ev::ADD | ev::ONESHOT, PERIOD.as_millis() as i64);
    let start = Instant::now();
    let mut before = start;
    change(&kqueue, &[add]);
    while start.elapsed() < 2 * PERIOD {
        thread::sleep(Duration::from_millis(50));
        change(&kqueue, &[add]);
        let events = pending(&kqueue);
        let now = Instant::now();
        // On a machine that was suspended for that long, the timer may expire.
        if now - before >= PERIOD {
            return;
        }
        assert!(events.is_empty(), "{events:?}");
        before = now;
    }
    assert_eq!(one(&kqueue).data, 1);
}

/// Differs from DragonFly: A change of a timer without EV_ADD does not alter its period, its unit
/// or its count.
/// Because programs enable a timer without giving the period again; FreeBSD and NetBSD do the same.
#[test]
fn other_changes_leave_the_period_alone() {
    let kqueue = kqueue();
    let flags = [ev::DISABLE, ev::ENABLE, 0, ev::DISABLE | ev::ENABLE];
    let others = [
        timer(0, 0),
        timer(0, 86_400_000),
        timer(0, -1),
        timer(0, 1).fflags(note::NSECONDS),
        timer(0, 1).fflags(note::SECONDS | note::MSECONDS),
        timer(0, 0).fflags(note::ABSTIME),
    ];
    for other in others {
        let start = Instant::now();
        change(&kqueue, &[timer(ev::ADD, 20)]);
        thread::sleep(Duration::from_millis(200));
        for flags in flags {
            change(&kqueue, &[Event { flags, ..other }]);
        }
        let counted = one(&kqueue).data;
        let possible = start.elapsed().as_millis() as i64 / 20;
        assert!((9..=possible).contains(&counted), "{counted} of {possible}");
        thread::sleep(Duration::from_millis(100));
        let all = counted + one(&kqueue).data;
        let possible = start.elapsed().as_millis() as i64 / 20;
        assert!((14..=possible).contains(&all), "{all} of {possible}");
    }
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

/// Differs from DragonFly: A negative period fails with EINVAL. (A period of 0 is 1 ms; in the
/// specification it is one tick.)
/// Because FreeBSD does the same.
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
    // Each timer has counted every period exactly once.
    let possible = start.elapsed().as_millis() as i64;
    assert_eq!(count, COUNT as usize);
    for event in &events {
        assert!((1000..=possible).contains(&event.data), "{event:?}");
    }
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

/// Differs from DragonFly: Timers have the units of FreeBSD, and milliseconds without a unit.
/// Because programs use these units.
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
fn a_passed_time_stays_pending() {
    let kqueue = kqueue();
    let at = now() + 300;
    change(&kqueue, &[alarm(ev::ADD, at)]);
    for _ in 0..3 {
        let event = one(&kqueue);
        assert!(now() >= at);
        assert_eq!((event.data, event.has(ev::CLEAR)), (1, false));
    }
    // The timer can be set again. A time in the past expires at once.
    change(&kqueue, &[alarm(ev::ADD, now() + 86_400_000)]);
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[alarm(ev::ADD, at - 1000)]);
    assert_eq!(one(&kqueue).data, 1);
    change(&kqueue, &[alarm(ev::ADD, 0)]);
    assert_eq!(one(&kqueue).data, 1);
    change(&kqueue, &[timer(ev::DELETE, 0)]);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn a_time_is_reported_once_with_clear_dispatch_or_oneshot() {
    let kqueue = kqueue();
    change(&kqueue, &[alarm(ev::ADD | ev::CLEAR, now() - 1000)]);
    assert!(one(&kqueue).has(ev::CLEAR));
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[timer(ev::DELETE, 0)]);
    change(&kqueue, &[alarm(ev::ADD | ev::DISPATCH, now() - 1000)]);
    for _ in 0..2 {
        assert_eq!(one(&kqueue).data, 1);
        assert!(pending(&kqueue).is_empty());
        change(&kqueue, &[timer(ev::ENABLE, 0)]);
    }
    change(&kqueue, &[timer(ev::DELETE, 0)]);
    change(&kqueue, &[alarm(ev::ADD | ev::ONESHOT, now() - 1000)]);
    assert_eq!(one(&kqueue).data, 1);
    assert_eq!(change_error(&kqueue, timer(ev::DELETE, 0)), libc::ENOENT);
}

#[test]
fn a_time_can_be_changed_and_become_a_period() {
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

/// An expiration of the former period is not reported after the change, even if the timer fires at
/// the moment of the change.
#[test]
fn a_timer_restarted_while_it_fires_is_not_reported() {
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
        // The timer fires at some point of this loop.
        for _ in 0..(round * 37) % 2000 {
            std::hint::spin_loop();
        }
        change(&kqueue, &[far]);
        assert!(pending(&kqueue).is_empty(), "round {round}");
    }
    // One thread changes many timers while another one collects. Each last setting is reported
    // once.
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
            change(&kqueue, &all(alarm(ev::ADD | ev::CLEAR, now() + round)));
        }
        change(
            &kqueue,
            &all(alarm(ev::ADD | ev::CLEAR, now() + 50).udata(1)),
        );
        assert_eq!(collector.join().unwrap(), TIMERS);
    });
    assert!(pending(&kqueue).is_empty());
}

/// Differs from DragonFly, FreeBSD: NOTE_ABSTIME is a time since the epoch. If the clock is set,
/// the timer follows it.
/// Because timerfd does the same; FreeBSD computes the remaining time once, and DragonFly does not
/// have the note.
#[test]
fn a_time_follows_the_clock_when_it_is_set() {
    let kqueue = kqueue();
    change(&kqueue, &[alarm(ev::ADD | ev::ONESHOT, now() + 3_600_000)]);
    let set = |seconds: i64| {
        let time = libc::timespec {
            tv_sec: now() / 1000 + seconds,
            tv_nsec: 0,
        };
        // SAFETY: The time is valid. The test is root in a guest.
        let ret = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) };
        assert_eq!(ret, 0);
    };
    set(7200);
    assert_eq!(one(&kqueue).data, 1);
    set(-7200);
}

/// Differs from the BSDs: NOTE_BOOTTIME is a period, or with NOTE_ABSTIME a time, of the clock that
/// goes on during suspend.
/// Because the other clock for periods stops during suspend; macOS has NOTE_MACH_CONTINUOUS_TIME.
#[test]
fn the_boot_clock() {
    let kqueue = kqueue();
    let start = Instant::now();
    change(&kqueue, &[timer(ev::ADD, 20).fflags(note::BOOTTIME)]);
    thread::sleep(Duration::from_millis(200));
    let counted = one(&kqueue).data;
    let possible = start.elapsed().as_millis() as i64 / 20;
    assert!((9..=possible).contains(&counted), "{counted} of {possible}");
    collect(&kqueue, 3);
    let boot = || {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: There is room for the time.
        let ret = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
        assert_eq!(ret, 0);
        time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    };
    let at = boot() + 300;
    change(
        &kqueue,
        &[alarm(ev::ADD, at).fflags(note::BOOTTIME | note::ABSTIME)],
    );
    assert!(!one(&kqueue).has(ev::CLEAR));
    assert!(boot() >= at);
}

#[test]
fn ten_thousand_at_once() {
    const COUNT: u64 = 10_000;
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
        // Each collection is late. The delays must not add up.
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
