// SPDX-License-Identifier: GPL-2.0

//! A kqueue belongs to a descriptor table, and a forked child cannot use it.

use crate::common::*;
use kqueue::{ev, note, Event, Filter};
use std::{
    hint,
    sync::atomic::{AtomicUsize, Ordering},
    thread, //
};

fn user() -> Event {
    Event::new(1, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER)
}

/// Differs from DragonFly, FreeBSD: A forked child has a descriptor of the kqueue, and using it
/// fails with EBADF.
/// Because Linux cannot leave a descriptor out of a fork.
#[test]
fn the_child_cannot_use_it() {
    let kqueue = kqueue();
    change(&kqueue, &[user()]);
    assert!(in_child(|| {
        change_error(&kqueue, user()) == libc::EBADF
            && errno(kqueue.kevent(&[], &mut [Event::default(); 1], None)) == libc::EBADF
    }));
    // The actions and the exit of the child have changed nothing.
    one(&kqueue);
}

#[test]
fn the_child_has_its_own() {
    let ours = kqueue();
    change(&ours, &[user()]);
    assert!(in_child(|| {
        let theirs = kqueue();
        change(&theirs, &[user().udata(2)]);
        one(&theirs).udata == 2
    }));
    one(&ours);
}

#[test]
fn a_process_that_shares_the_table_can_use_it() {
    let kqueue = kqueue();
    // SAFETY: As fork(2), but with one descriptor table; the child leaves with `_exit`.
    unsafe {
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        let child = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::pid_t;
        if child == 0 {
            change(&kqueue, &[user().udata(3)]);
            libc::_exit(0);
        }
        assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
    }
    assert_eq!(one(&kqueue).udata, 3);
}

/// The first call on a kqueue checks more than later calls do. Two threads can make it together.
#[test]
fn threads_make_the_first_call_together() {
    for _ in 0..4 {
        let kqueues: Vec<_> = (0..500).map(|_| kqueue()).collect();
        let arrived = AtomicUsize::new(0);
        let trigger = Event::new(1, Filter::USER, ev::ADD).fflags(note::TRIGGER);
        let trigger_all = || {
            let mut failures = 0;
            for (i, kqueue) in kqueues.iter().enumerate() {
                arrived.fetch_add(1, Ordering::AcqRel);
                let mut spins = 0;
                while arrived.load(Ordering::Acquire) < 2 * (i + 1) {
                    spins += 1;
                    // Both threads may be on one processor.
                    if spins % 1000 == 0 {
                        thread::yield_now();
                    } else {
                        hint::spin_loop();
                    }
                }
                failures += usize::from(kqueue.kevent(&[trigger], &mut [], None).is_err());
            }
            failures
        };
        let failures: usize = thread::scope(|scope| {
            let threads = [scope.spawn(trigger_all), scope.spawn(trigger_all)];
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(failures, 0);
        for kqueue in &kqueues {
            one(kqueue);
        }
    }
}

#[test]
fn fork_during_registration() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    thread::scope(|scope| {
        let registering = scope.spawn(|| {
            for _ in 0..2000 {
                change(&kqueue, &[add_read(&reader, 0), add_write(&writer, 0)]);
                let delete = |event: Event| Event {
                    flags: ev::DELETE,
                    ..event
                };
                change(
                    &kqueue,
                    &[delete(add_read(&reader, 0)), delete(add_write(&writer, 0))],
                );
            }
        });
        while !registering.is_finished() {
            assert!(in_child(|| true));
        }
    });
    change(&kqueue, &[add_write(&writer, 0)]);
    one(&kqueue);
}
