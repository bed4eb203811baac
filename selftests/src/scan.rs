// SPDX-License-Identifier: GPL-2.0

//! Collection: order, fairness, threads, timeouts, signals, faults.

use crate::common::*;
use kqueue::{abi, ev, note, Event, Filter, Kqueue};
use std::{
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

fn user(ident: u64, flags: u16) -> Event {
    Event::new(ident, Filter::USER, flags).fflags(note::TRIGGER)
}

fn collect(kqueue: &Kqueue, room: usize) -> Vec<u64> {
    let mut events = vec![Event::default(); room];
    let count = kqueue
        .kevent(&[], &mut events, Some(Duration::ZERO))
        .unwrap();
    events[..count].iter().map(|event| event.ident).collect()
}

#[test]
fn first_in_first_out() {
    let kqueue = kqueue();
    let changes: Vec<_> = [5, 3, 9, 1]
        .map(|ident| user(ident, ev::ADD | ev::CLEAR))
        .into();
    change(&kqueue, &changes);
    assert_eq!(collect(&kqueue, 8), [5, 3, 9, 1]);
}

#[test]
fn level_triggered_go_to_the_tail() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[user(1, ev::ADD), user(2, ev::ADD), user(3, ev::ADD)],
    );
    assert_eq!(collect(&kqueue, 2), [1, 2]);
    assert_eq!(collect(&kqueue, 2), [3, 1]);
    assert_eq!(collect(&kqueue, 2), [2, 3]);
}

/// Some filters are evaluated under the spin lock and others are not. Events are reported in the
/// order in which they became pending.
#[test]
fn all_filters_share_one_order() {
    const COUNT: u64 = 60;
    let kqueue = kqueue();
    let mut files = Vec::new();
    for number in 0..COUNT {
        let event = match number % 5 {
            0 => user(number, ev::ADD),
            1 => user(number, ev::ADD | ev::ONESHOT),
            2 => {
                let (reader, writer) = pipe();
                write(&writer, b"x");
                let event = add_read(&reader, 0);
                files.extend([reader, writer]);
                event
            }
            3 => {
                let (reader, writer) = UnixStream::pair().unwrap();
                write(&writer, b"x");
                let event = add_read(&reader, ev::CLEAR);
                files.extend([reader.into(), writer.into()]);
                event
            }
            _ => {
                let (one, other) = UnixStream::pair().unwrap();
                let event = add_write(&one, 0);
                files.extend([one.into(), other.into()]);
                event
            }
        };
        change(&kqueue, &[event.udata(number)]);
    }
    let collect = |room: usize| -> Vec<u64> {
        let mut events = vec![Event::default(); room];
        let count = kqueue.kevent(&[], &mut events, Some(Duration::ZERO));
        events.truncate(count.unwrap());
        events.iter().map(|event| event.udata).collect()
    };
    let mut order = Vec::new();
    for room in [1, 7, 20, 2, 30] {
        order.extend(collect(room));
    }
    assert_eq!(order, (0..COUNT).collect::<Vec<_>>());
    let level = |number: &u64| matches!(number % 5, 0 | 2 | 4);
    let expected: Vec<_> = (0..COUNT).filter(level).collect();
    assert_eq!(collect(100), expected);
    assert_eq!(collect(100), expected);
}

/// The knotes at the head of the ready list are not ready any more, or are deleted or disabled
/// meanwhile. The others must be reported in order.
#[test]
fn unready_knotes_do_not_hide_others() {
    let kqueue = kqueue();
    let pairs: Vec<_> = (0..50).map(|_| UnixStream::pair().unwrap()).collect();
    for (number, (reader, writer)) in pairs.iter().enumerate() {
        write(writer, b"x");
        change(&kqueue, &[add_read(reader, 0).udata(number as u64)]);
    }
    for (number, (reader, _)) in pairs.iter().enumerate() {
        match number % 4 {
            0 => read(reader, 1),
            1 => change(
                &kqueue,
                &[Event::fd(reader.as_raw_fd(), Filter::READ, ev::DELETE)],
            ),
            2 => change(
                &kqueue,
                &[Event::fd(reader.as_raw_fd(), Filter::READ, ev::DISABLE)],
            ),
            _ => {}
        }
    }
    let collect = || -> Vec<u64> { pending(&kqueue).iter().map(|event| event.udata).collect() };
    let expected: Vec<_> = (0..50).filter(|number| number % 4 == 3).collect();
    assert_eq!(collect(), expected);
    // After they are enabled again, they are behind the others.
    for (number, (reader, _)) in pairs.iter().enumerate() {
        if number % 4 == 2 {
            let enable = Event::fd(reader.as_raw_fd(), Filter::READ, ev::ENABLE);
            change(&kqueue, &[enable.udata(number as u64)]);
        }
    }
    let enabled = (0..50).filter(|number| number % 4 == 2);
    assert_eq!(
        collect(),
        expected.into_iter().chain(enabled).collect::<Vec<_>>()
    );
}

#[test]
fn one_call_reports_no_event_twice() {
    let kqueue = kqueue();
    change(&kqueue, &[user(1, ev::ADD), user(2, ev::ADD)]);
    assert_eq!(collect(&kqueue, 64), [1, 2]);
}

/// Differs from DragonFly, FreeBSD: A knote with EV_ONESHOT is evaluated again when it is
/// collected, as every other knote is. If the condition no longer holds, no event is returned and
/// the knote stays.
/// Because the program would act on a condition that does not hold.
#[test]
fn a_oneshot_condition_that_is_gone_is_not_reported() {
    for flags in [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH] {
        let (reader, writer) = pipe();
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&reader, flags)]);
        write(&writer, b"x");
        read(&reader, 1);
        assert!(pending(&kqueue).is_empty());
        write(&writer, b"y");
        one(&kqueue);
    }
}

#[test]
fn no_room_for_events_never_waits() {
    let kqueue = kqueue();
    change(&kqueue, &[user(1, ev::ADD)]);
    assert_eq!(kqueue.kevent(&[], &mut [], None).unwrap(), 0);
    assert_eq!(kqueue.kevent(&[], &mut [], Some(SOON)).unwrap(), 0);
    one(&kqueue);
}

#[test]
fn a_timeout_returns_no_event_and_no_error() {
    let kqueue = kqueue();
    let start = Instant::now();
    let mut events = [Event::default(); 1];
    let timeout = Duration::from_millis(50);
    assert_eq!(kqueue.kevent(&[], &mut events, Some(timeout)).unwrap(), 0);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn a_huge_timeout_does_not_overflow() {
    let kqueue = kqueue();
    change(&kqueue, &[Event::new(1, Filter::TIMER, ev::ADD).data(50)]);
    let mut events = [Event::default(); 1];
    let count = kqueue
        .kevent(&[], &mut events, Some(Duration::MAX))
        .unwrap();
    assert_eq!(count, 1);
}

#[test]
fn a_sleeper_is_woken() {
    let kqueue = kqueue();
    change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| one(&kqueue));
        thread::sleep(Duration::from_millis(100));
        change(&kqueue, &[user(1, 0)]);
        assert_eq!(sleeper.join().unwrap().ident, 1);
    });
}

#[test]
fn each_event_goes_to_one_of_the_sleepers() {
    const THREADS: usize = 4;
    const EVENTS: u64 = 200;
    let kqueue = kqueue();
    let (seen, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let add = |ident| Event::new(ident, Filter::USER, ev::ADD | ev::ONESHOT);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| loop {
                let mut event = [Event::default(); 1];
                kqueue.kevent(&[], &mut event, None).unwrap();
                if event[0].ident == u64::MAX {
                    ended.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                seen.fetch_add(1, Ordering::Relaxed);
            });
        }
        for ident in 0..EVENTS {
            change(&kqueue, &[add(ident).fflags(note::TRIGGER)]);
        }
        let reaches = |count: &AtomicUsize, expected| {
            let end = Instant::now() + SOON;
            while count.load(Ordering::Relaxed) < expected && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(count.load(Ordering::Relaxed), expected);
        };
        reaches(&seen, EVENTS as usize);
        // Each event ends one of the threads.
        for thread in 1..=THREADS {
            change(&kqueue, &[user(u64::MAX, ev::ADD | ev::ONESHOT)]);
            reaches(&ended, thread);
        }
    });
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn one_event_wakes_one_sleeper() {
    let kqueue = kqueue();
    let woken = AtomicUsize::new(0);
    change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                one(&kqueue);
                woken.fetch_add(1, Ordering::SeqCst);
            });
        }
        for round in 1..=3 {
            thread::sleep(Duration::from_millis(100));
            assert_eq!(woken.load(Ordering::SeqCst), round - 1);
            change(&kqueue, &[user(1, 0)]);
            let end = Instant::now() + SOON;
            while woken.load(Ordering::SeqCst) < round && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
}

/// A waiting thread whose timeout expires, at any place in the list, must not affect the others and
/// must not consume an event.
#[test]
fn a_sleeper_that_gives_up_leaves_the_others_asleep() {
    const SLEEPERS: usize = 3;
    for gives_up in 0..SLEEPERS {
        let kqueue = kqueue();
        change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
        let woken = AtomicUsize::new(0);
        thread::scope(|scope| {
            let mut impatient = None;
            for number in 0..SLEEPERS {
                if number == gives_up {
                    let timeout = Some(Duration::from_millis(600));
                    let kqueue = &kqueue;
                    impatient = Some(scope.spawn(move || {
                        let mut events = [Event::default(); 1];
                        kqueue.kevent(&[], &mut events, timeout).unwrap()
                    }));
                } else {
                    scope.spawn(|| {
                        one(&kqueue);
                        woken.fetch_add(1, Ordering::SeqCst);
                    });
                }
                // Most likely they sleep in this order.
                thread::sleep(Duration::from_millis(100));
            }
            assert_eq!(impatient.unwrap().join().unwrap(), 0);
            for round in 1..SLEEPERS {
                assert_eq!(woken.load(Ordering::SeqCst), round - 1);
                change(&kqueue, &[user(1, 0)]);
                let end = Instant::now() + SOON;
                while woken.load(Ordering::SeqCst) < round && Instant::now() < end {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        assert_eq!(woken.load(Ordering::SeqCst), SLEEPERS - 1);
    }
}

/// An event that comes when the timeout expires is reported by this call or by the next one.
#[test]
fn an_event_at_the_time_out_is_not_lost() {
    const ROUNDS: u64 = 500;
    let kqueue = kqueue();
    change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
    let (told, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let end = Instant::now() + 4 * SOON;
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let is_behind = || told.load(Ordering::SeqCst) < sent.load(Ordering::SeqCst);
                while is_behind() && Instant::now() < end {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_micros(1000 + round % 7 * 50));
                sent.fetch_add(1, Ordering::SeqCst);
                change(&kqueue, &[user(1, 0)]);
            }
        });
        while told.load(Ordering::SeqCst) < ROUNDS as usize {
            let mut events = [Event::default(); 1];
            let timeout = Some(Duration::from_micros(1100));
            let count = kqueue.kevent(&[], &mut events, timeout).unwrap();
            told.fetch_add(count, Ordering::SeqCst);
            assert!(Instant::now() < end, "an event was lost");
        }
    });
    assert!(pending(&kqueue).is_empty());
}

/// A level-triggered condition that persists is reported to all waiting threads.
#[test]
fn a_level_triggered_event_reaches_every_sleeper() {
    let kqueue = kqueue();
    change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD)]);
    thread::scope(|scope| {
        let sleepers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    kqueue
                        .kevent(&[], &mut [Event::default(); 1], None)
                        .unwrap()
                })
            })
            .collect();
        // Most threads sleep by then.
        thread::sleep(Duration::from_millis(200));
        change(&kqueue, &[user(1, 0)]);
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), 1);
        }
    });
}

#[test]
fn a_killed_sleeper_loses_no_wake_up() {
    const ROUNDS: u64 = 300;
    let kqueue = kqueue();
    let seen = AtomicUsize::new(0);
    thread::scope(|scope| {
        // This thread survives. It would not wake up if an event woke only a thread that is being
        // killed.
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                one(&kqueue);
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 0..ROUNDS {
            // SAFETY: As fork(2), but with one descriptor table; the child leaves with `_exit`.
            let sleeper = unsafe {
                let flags = libc::CLONE_FILES | libc::SIGCHLD;
                let pid = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::pid_t;
                if pid == 0 {
                    // The list of the killed thread is unmapped, so it cannot collect the event.
                    let nowhere = std::ptr::without_provenance_mut::<Event>(4096);
                    let _ = kqueue.kevent(&[], std::slice::from_raw_parts_mut(nowhere, 1), None);
                    libc::_exit(0);
                }
                pid
            };
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
            let oneshot = ev::ADD | ev::ONESHOT;
            let event = Event::new(round, Filter::USER, oneshot).fflags(note::TRIGGER);
            // The kill and the event happen at the same time, in either order.
            thread::scope(|both| {
                both.spawn(|| {
                    // SAFETY: The process is a child of this one.
                    unsafe { libc::kill(sleeper, libc::SIGKILL) }
                });
                change(&kqueue, &[event]);
            });
            reap(sleeper);
            let end = Instant::now() + SOON;
            while seen.load(Ordering::SeqCst) <= round as usize {
                assert!(Instant::now() < end, "event {round} woke nobody who lives");
                thread::yield_now();
            }
        }
    });
}

extern "C" fn ignore(_: libc::c_int) {}

/// Runs a call that a signal to this thread interrupts. The signal is sent again until the call has
/// returned, because the first ones may come before the call. (It is not sent for ever, so that a
/// call that is restarted ends.) `flags` are those of its handler.
fn interrupted<T>(flags: libc::c_int, call: impl FnOnce() -> T) -> T {
    // SAFETY: The handler does nothing, the structures are plain data; the thread is ours.
    let thread = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = flags;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        libc::pthread_self()
    };
    let returned = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                thread::sleep(Duration::from_millis(100));
                if returned.load(Ordering::Acquire) {
                    break;
                }
                // SAFETY: The thread waits for us, so it lives.
                assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
            }
        });
        let result = call();
        returned.store(true, Ordering::Release);
        result
    })
}

#[test]
fn a_signal_interrupts_and_never_restarts() {
    for flags in [0, libc::SA_RESTART] {
        let kqueue = kqueue();
        let mut events = [Event::default(); 1];
        let result = interrupted(flags, || kqueue.kevent(&[], &mut events, Some(SOON)));
        assert_eq!(errno(result), libc::EINTR);
    }
}

#[test]
fn changes_are_applied_before_an_interrupted_wait() {
    let kqueue = kqueue();
    let mut events = [Event::default(); 1];
    let add = Event::new(1, Filter::USER, ev::ADD);
    let result = interrupted(0, || kqueue.kevent(&[add], &mut events, None));
    assert_eq!(errno(result), libc::EINTR);
    change(&kqueue, &[user(1, 0)]);
    one(&kqueue);
}

/// Maps two pages, of which the second one is not accessible. Returns a list of which `fit` events
/// are in the first page.
fn guarded(fit: usize) -> *mut Event {
    const PAGE: usize = 4096;
    // SAFETY: New mappings of our own.
    unsafe {
        let map = libc::mmap(
            std::ptr::null_mut(),
            2 * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(map, libc::MAP_FAILED);
        let guard = map.cast::<u8>().add(PAGE);
        assert_eq!(libc::mprotect(guard.cast(), PAGE, libc::PROT_NONE), 0);
        guard.cast::<Event>().sub(fit)
    }
}

/// Collects `count` events into a list that has memory for `fit` events.
fn collect_guarded(kqueue: &Kqueue, fit: usize, count: u32) -> std::io::Result<Vec<Event>> {
    let list = guarded(fit);
    let mut args = abi::kqueue_kevent {
        eventlist: list as u64,
        nevents: count,
        flags: abi::KQUEUE_TIMEOUT,
        ..Default::default()
    };
    // SAFETY: The kernel may write what it can; the list is used by nobody else. As many as it says
    // were written.
    unsafe {
        let count = kqueue::kevent_raw(kqueue.as_raw_fd(), &mut args)?;
        Ok(std::slice::from_raw_parts(list, count).to_vec())
    }
}

/// Differs from DragonFly, FreeBSD: Events that cannot be copied to the program stay pending. A
/// call that faults after it has stored some events returns these, although there may be room for
/// more.
/// Because the specification loses the events that it has taken off the list.
#[test]
fn a_fault_while_copying_out_loses_nothing() {
    for flags in [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH] {
        let kqueue = kqueue();
        let changes: Vec<_> = (0..5).map(|ident| user(ident, ev::ADD | flags)).collect();
        change(&kqueue, &changes);
        assert_eq!(errno(collect_guarded(&kqueue, 0, 5)), libc::EFAULT);
        let first = collect_guarded(&kqueue, 2, 5).unwrap();
        let first: Vec<_> = first.iter().map(|event| event.ident).collect();
        assert_eq!(first, [0, 1]);
        let rest: Vec<_> = pending(&kqueue).iter().map(|event| event.ident).collect();
        let expected: &[u64] = if flags == 0 {
            &[2, 3, 4, 0, 1]
        } else {
            &[2, 3, 4]
        };
        assert_eq!(rest, expected, "flags {flags:x}");
    }
}

/// After a fault, the values that `EV_CLEAR` would have reset are still there, and values that came
/// meanwhile are added.
#[test]
fn a_fault_while_copying_out_keeps_the_contents_of_events() {
    let kqueue = kqueue();
    let (reader, writer) = UnixStream::pair().unwrap();
    let trigger = |ident, data| {
        Event::new(ident, Filter::USER, ev::ADD | ev::CLEAR)
            .fflags(note::TRIGGER | note::FFCOPY | ident as u32)
            .data(data)
    };
    let dispatched = add_read(&reader, ev::CLEAR | ev::DISPATCH);
    change(&kqueue, &[trigger(7, 70), trigger(8, 80), dispatched]);
    write(&writer, b"abc");
    assert_eq!(errno(collect_guarded(&kqueue, 0, 3)), libc::EFAULT);
    let events = collect_guarded(&kqueue, 1, 3).unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (events[0].ident, events[0].fflags, events[0].data),
        (7, 7, 70)
    );
    write(&writer, b"de");
    let events = pending(&kqueue);
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(
        (events[0].ident, events[0].fflags, events[0].data),
        (8, 8, 80)
    );
    assert_eq!(
        (events[1].ident, events[1].data),
        (reader.as_raw_fd() as u64, 5)
    );
    // The first knote was reset and the other one was disabled.
    write(&writer, b"f");
    assert!(pending(&kqueue).is_empty());
}

const PAGE: usize = 4096;

/// Maps memory that has not been touched, or that must not be accessed.
fn map(bytes: usize, protection: libc::c_int) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A new mapping.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(map, libc::MAP_FAILED);
    map.cast()
}

const READ_WRITE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

/// Collects events into memory that may be inaccessible.
fn collect_into(kqueue: &Kqueue, list: *mut u8, room: usize) -> std::io::Result<Vec<Event>> {
    change_and_collect_into(kqueue, &[], list, room)
}

/// Applies changes and collects events into such memory, in one call.
fn change_and_collect_into(
    kqueue: &Kqueue,
    changes: &[Event],
    list: *mut u8,
    room: usize,
) -> std::io::Result<Vec<Event>> {
    let mut args = abi::kqueue_kevent {
        changelist: changes.as_ptr() as u64,
        nchanges: changes.len() as u32,
        eventlist: list as u64,
        nevents: room as u32,
        flags: abi::KQUEUE_TIMEOUT,
        ..Default::default()
    };
    // SAFETY: The list is used by nobody else; as many as the kernel says were written.
    unsafe {
        let count = kqueue::kevent_raw(kqueue.as_raw_fd(), &mut args)?;
        let event = |at: usize| list.cast::<Event>().add(at).read_unaligned();
        Ok((0..count).map(event).collect())
    }
}

/// Returns the number of pending events that the kernel reports to a kqueue that watches this one.
/// The kqueue is watched from then on.
fn count_pending(kqueue: &Kqueue) -> i64 {
    let outer = self::kqueue();
    change(&outer, &[add_read(kqueue, 0)]);
    let events = pending(&outer);
    events.first().map_or(0, |event| event.data)
}

fn poll(kqueue: &Kqueue) -> i32 {
    let mut poll = libc::pollfd {
        fd: kqueue.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: One valid structure.
    unsafe { libc::poll(&mut poll, 1, 0) }
}

/// Returns changes that make `count` events pending. Some of them are evaluated under the spin lock
/// and some are not. `udata` is the index of the change.
fn ready_ones(count: usize, flags: u16, sockets: &[(UnixStream, UnixStream)]) -> Vec<Event> {
    let mut sockets = sockets.iter();
    let mut change = |number: u64| {
        if number % 7 == 3 {
            if let Some((one, _)) = sockets.next() {
                return add_write(one, flags).udata(number);
            }
        }
        user(number, ev::ADD | flags).udata(number)
    };
    (0..count as u64).map(&mut change).collect()
}

fn udatas(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.udata).collect()
}

fn sockets() -> Vec<(UnixStream, UnixStream)> {
    (0..40).map(|_| UnixStream::pair().unwrap()).collect()
}

/// The kernel allocates the memory of the list when it writes to it.
#[test]
fn an_untouched_eventlist_is_faulted_in() {
    let sockets = sockets();
    for count in [1, 129, 4096] {
        let offsets = [1001, PAGE - 24, 0, 8, 500, PAGE - 32, PAGE - 1];
        // The kernel's checkers make a larger number too slow.
        let few = if count > 1000 { 2 } else { offsets.len() };
        for &offset in &offsets[..few] {
            for flags in [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH] {
                let kqueue = kqueue();
                change(&kqueue, &ready_ones(count, flags, &sockets));
                let rounds = if flags == 0 { 2 } else { 1 };
                for _ in 0..rounds {
                    let bytes = (count + 7) * 32 + 2 * PAGE;
                    let map = map(bytes, READ_WRITE);
                    // As in a program's data: what stands before it in its first page was used.
                    if offset % 2 == 1 {
                        // SAFETY: That is ours.
                        unsafe { *map = 1 };
                    }
                    let list = map.wrapping_add(offset);
                    let events = collect_into(&kqueue, list, count + 7).unwrap();
                    let expected: Vec<_> = (0..count as u64).collect();
                    assert_eq!(udatas(&events), expected, "offset {offset} flags {flags:x}");
                    // SAFETY: That is ours.
                    assert_eq!(unsafe { libc::munmap(map.cast(), bytes) }, 0);
                }
                let left = if flags == 0 { count.min(64) } else { 0 };
                assert_eq!(pending(&kqueue).len(), left);
            }
        }
    }
}

/// The same in a call that also applies the changes.
#[test]
fn a_call_with_changes_faults_in_an_untouched_eventlist() {
    let sockets = sockets();
    for (before, after) in [(0, 16), (120, 16), (126, 5), (200, 100), (4000, 90)] {
        for flags in [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH] {
            let kqueue = kqueue();
            let changes = ready_ones(before + after, flags, &sockets);
            change(&kqueue, &changes[..before]);
            let list = map((before + after) * 32, READ_WRITE);
            let changes = &changes[before..];
            let events = change_and_collect_into(&kqueue, changes, list, before + after).unwrap();
            let expected: Vec<_> = (0..(before + after) as u64).collect();
            assert_eq!(udatas(&events), expected, "{before} {after} {flags:x}");
        }
    }
}

/// Returns the address of a list whose memory is inaccessible after `fit` events.
fn bad_memory(kind: usize, fit: usize) -> *mut u8 {
    let map = map(3 * PAGE, READ_WRITE);
    let bad = map.wrapping_add(PAGE);
    // SAFETY: The mapping is ours.
    unsafe {
        match kind {
            0 => assert_eq!(libc::munmap(bad.cast(), PAGE), 0),
            1 => assert_eq!(libc::mprotect(bad.cast(), PAGE, libc::PROT_NONE), 0),
            2 => assert_eq!(libc::mprotect(bad.cast(), PAGE, libc::PROT_READ), 0),
            // Page faults always succeed there, but no data can be written.
            _ => {
                let file = std::fs::File::options()
                    .read(true)
                    .write(true)
                    .open("/dev/slowpoll")
                    .expect("the module slowpoll is loaded");
                let flags = libc::MAP_SHARED | libc::MAP_FIXED;
                let fd = file.as_raw_fd();
                let at = libc::mmap(bad.cast(), PAGE, READ_WRITE, flags, fd, 0);
                assert_eq!(at.cast(), bad);
            }
        }
    }
    bad.wrapping_sub(fit * 32)
}

/// The call returns the events for which there was memory, and no event is lost.
#[test]
fn inaccessible_memory_ends_the_call() {
    const COUNT: usize = 150;
    let sockets = sockets();
    for kind in 0..4 {
        for fit in [0usize, 1, 15, 16, 17, 100] {
            for flags in [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH] {
                let kqueue = kqueue();
                let changes = ready_ones(COUNT, flags, &sockets);
                // In the same call or before.
                let changes = if fit % 2 == 0 {
                    change(&kqueue, &changes);
                    &[][..]
                } else {
                    &changes[..]
                };
                let list = bad_memory(kind, fit);
                let result = change_and_collect_into(&kqueue, changes, list, COUNT);
                if fit == 0 {
                    assert_eq!(errno(result), libc::EFAULT, "{kind} {flags:x}");
                } else {
                    let expected: Vec<_> = (0..fit as u64).collect();
                    let events = result.unwrap();
                    assert_eq!(udatas(&events), expected, "{kind} {flags:x}");
                }
                let mut events = vec![Event::default(); COUNT];
                let count = kqueue.kevent(&[], &mut events, Some(Duration::ZERO));
                events.truncate(count.unwrap());
                let mut expected: Vec<_> = (fit as u64..COUNT as u64).collect();
                if flags == 0 {
                    expected.extend(0..fit as u64);
                }
                assert_eq!(udatas(&events), expected, "{kind} {fit} {flags:x}");
            }
        }
    }
}

/// A woken thread that faults while copying must not consume the wake-up.
#[test]
fn a_faulting_sleeper_loses_no_wake_up() {
    const ROUNDS: u64 = 300;
    let kqueue = kqueue();
    let (seen, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                let event = one(&kqueue);
                assert_eq!(event.filter, Filter::USER);
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            let end = Instant::now() + 2 * SOON;
            let mut args = abi::kqueue_kevent {
                eventlist: 4096,
                nevents: 4,
                flags: abi::KQUEUE_TIMEOUT,
                tv_nsec: 50_000_000,
                ..Default::default()
            };
            while done.load(Ordering::SeqCst) == 0 && Instant::now() < end {
                // SAFETY: Nothing is mapped at that address.
                let result = unsafe { kqueue::kevent_raw(kqueue.as_raw_fd(), &mut args) };
                if let Ok(count) = result {
                    assert_eq!(count, 0);
                }
            }
        });
        for round in 0..ROUNDS {
            // A knote in front of it is deleted before it can be collected.
            let (reader, writer) = pipe();
            let low_water = add_read(&reader, 0).fflags(note::LOWAT).data(2);
            change(&kqueue, &[low_water]);
            write(&writer, b"x");
            let reader = (round % 2 == 0).then_some(reader);
            change(&kqueue, &[user(round, ev::ADD | ev::ONESHOT)]);
            drop(reader);
            let end = Instant::now() + SOON;
            while seen.load(Ordering::SeqCst) <= round as usize {
                assert!(
                    Instant::now() < end,
                    "event {round} woke nobody who can take it"
                );
                thread::yield_now();
            }
            // The writer is closed last, so that no end of file is reported.
            drop(writer);
        }
        done.store(1, Ordering::SeqCst);
    });
}

/// A knote that a call has added and not evaluated, because its list was full, is pending only if
/// it is ready.
#[test]
fn knotes_that_were_not_evaluated_are_not_ready() {
    let (reader, writer) = pipe();
    let other = UnixStream::pair().unwrap();
    let kinds: [&dyn Fn(u16) -> Event; 3] = [
        &|flags| add_read(&reader, flags),
        &|flags| add_read(&other.0, flags).fflags(note::LOWAT).data(100),
        &|flags| Event::new(77, Filter::USER, ev::ADD | flags),
    ];
    for before in [1usize, 2, 15, 16, 17, 70] {
        for room in [before, 1, before.div_ceil(2), before + 1] {
            for kind in &kinds {
                for exists in [false, true] {
                    let kqueue = kqueue();
                    if exists {
                        change(&kqueue, &[kind(0)]);
                    }
                    let clear = ev::ADD | ev::CLEAR;
                    let ready: Vec<_> = (0..before as u64).map(|i| user(i, clear)).collect();
                    change(&kqueue, &ready);
                    let mut events = vec![Event::default(); room];
                    let changes = [kind(if exists { ev::ENABLE } else { 0 })];
                    let count = kqueue.kevent(&changes, &mut events, Some(Duration::ZERO));
                    let count = count.unwrap();
                    assert_eq!(count, before.min(room));
                    let left = (before - count) as i64;
                    assert_eq!(poll(&kqueue), i32::from(left > 0), "{before} {room}");
                    assert_eq!(count_pending(&kqueue), left, "{before} {room}");
                }
            }
        }
    }
    // A ready knote is pending.
    write(&writer, b"x");
    let kqueue = kqueue();
    change(&kqueue, &[user(1, ev::ADD | ev::CLEAR)]);
    let mut events = [Event::default(); 1];
    let count = kqueue.kevent(&[kinds[0](0)], &mut events, Some(Duration::ZERO));
    assert_eq!((count.unwrap(), events[0].ident), (1, 1));
    assert_eq!(one(&kqueue).ident, reader.as_raw_fd() as u64);
}

#[test]
fn knotes_that_were_not_evaluated_after_a_fault_are_not_ready() {
    let (reader, _writer) = pipe();
    for fit in [0usize, 1, 16, 20] {
        let kqueue = kqueue();
        let clear = ev::ADD | ev::CLEAR;
        let ready: Vec<_> = (0..40).map(|i| user(i, clear)).collect();
        change(&kqueue, &ready);
        let changes = [add_read(&reader, 0), user(100, clear)];
        let list = bad_memory(1, fit);
        let result = change_and_collect_into(&kqueue, &changes, list, 100);
        match fit {
            0 => assert_eq!(errno(result), libc::EFAULT),
            _ => assert_eq!(result.unwrap().len(), fit),
        }
        assert_eq!(count_pending(&kqueue), 41 - fit as i64);
        let events = pending(&kqueue);
        assert_eq!(events.len(), 41 - fit);
        assert_eq!(events.last().unwrap().ident, 100);
    }
}

/// A timeout expires although knotes are activated all the time by too little data.
#[test]
fn a_timeout_expires_while_unready_knotes_are_activated() {
    let kqueue = kqueue();
    let pairs: Vec<_> = (0..50).map(|_| UnixStream::pair().unwrap()).collect();
    for (reader, _) in &pairs {
        let low_water = add_read(reader, 0).fflags(note::LOWAT).data(1000);
        change(&kqueue, &[low_water]);
    }
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for half in pairs.chunks(25) {
            let done = &done;
            scope.spawn(move || {
                while done.load(Ordering::Relaxed) == 0 {
                    for (reader, writer) in half {
                        write(writer, b"x");
                        read(reader, 1);
                    }
                }
            });
        }
        for timeout in [1, 50, 300] {
            let (start, timeout) = (Instant::now(), Duration::from_millis(timeout));
            let mut events = [Event::default(); 4];
            let count = kqueue.kevent(&[], &mut events, Some(timeout));
            let elapsed = start.elapsed();
            if elapsed >= SOON || count.as_ref().is_ok_and(|count| *count > 0) {
                done.store(1, Ordering::Relaxed);
            }
            assert_eq!(count.unwrap(), 0);
            assert!(elapsed >= timeout && elapsed < SOON, "{elapsed:?}");
        }
        done.store(1, Ordering::Relaxed);
    });
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Selects a real-time signal, which is queued, so that each one is counted.
fn ask_for_signals(kqueue: &Kqueue) {
    /// Defined in `asm-generic/fcntl.h`; the libc crate lacks it.
    const F_SETSIG: libc::c_int = 10;
    let fd = kqueue.as_raw_fd();
    // SAFETY: The handler only counts; the descriptor is ours.
    unsafe {
        let number = libc::SIGRTMIN() + 3;
        libc::signal(number, count_signal as extern "C" fn(libc::c_int) as usize);
        assert_eq!(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()), 0);
        assert_eq!(libc::fcntl(fd, F_SETSIG, number), 0);
        assert_eq!(libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC), 0);
    }
}

/// Returns the number of signals since the last call. Waits for the expected signals, and then a
/// while for more.
fn signals(expected: usize) -> usize {
    let end = Instant::now() + SOON;
    while SIGNALS.load(Ordering::SeqCst) < expected && Instant::now() < end {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(50));
    SIGNALS.swap(0, Ordering::SeqCst)
}

/// As in the specification, a signal is sent when an event becomes pending and none was before.
#[test]
fn sigio_is_sent_for_the_first_pending_event() {
    let kqueue = kqueue();
    ask_for_signals(&kqueue);
    for flags in [ev::CLEAR, ev::ONESHOT, ev::DISPATCH] {
        let add = |ident| user(ident, ev::ADD | flags);
        change(&kqueue, &[add(1)]);
        assert_eq!(signals(1), 1);
        for ident in 2..10 {
            change(&kqueue, &[add(ident)]);
        }
        assert_eq!(signals(0), 0);
        assert_eq!(collect(&kqueue, 3).len(), 3);
        change(&kqueue, &[add(10)]);
        assert_eq!(signals(0), 0);
        assert_eq!(collect(&kqueue, 64).len(), 7);
        change(&kqueue, &[add(11)]);
        assert_eq!(signals(1), 1);
        // The event was not collected.
        change(&kqueue, &[Event::new(11, Filter::USER, ev::DELETE)]);
        change(&kqueue, &[add(12)]);
        assert_eq!(signals(1), 1);
        assert_eq!(collect(&kqueue, 64), [12]);
        for ident in 1..13 {
            let _ = kqueue.kevent(
                &[Event::new(ident, Filter::USER, ev::DELETE)],
                &mut [],
                None,
            );
        }
    }
    // A knote that stays pending after its report causes no further signal.
    change(&kqueue, &[user(1, ev::ADD)]);
    assert_eq!(signals(1), 1);
    assert_eq!(collect(&kqueue, 64), [1]);
    change(&kqueue, &[user(2, ev::ADD)]);
    assert_eq!(signals(0), 0);
    // Neither a fault nor the close of the kqueue causes a signal.
    assert_eq!(errno(collect_guarded(&kqueue, 0, 2)), libc::EFAULT);
    drop(kqueue);
    assert_eq!(signals(0), 0);
}

#[test]
fn a_timer_that_could_not_be_copied_out_keeps_its_count() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[Event::new(1, Filter::TIMER, ev::ADD | ev::ONESHOT).data(1)],
    );
    thread::sleep(Duration::from_millis(20));
    let args = abi::kqueue_kevent {
        eventlist: 8,
        nevents: 1,
        ..Default::default()
    };
    // SAFETY: Nothing is mapped at that address.
    let result = unsafe { kqueue::kevent_raw(kqueue.as_raw_fd(), &mut args.clone()) };
    assert_eq!(errno(result), libc::EFAULT);
    assert_eq!(one(&kqueue).data, 1);
}
