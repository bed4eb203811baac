// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_SIGNAL`.

use crate::common::*;
use kqueue::{ev, Event, Filter};
use std::{
    os::{
        fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    sync::atomic::{AtomicUsize, Ordering},
};

fn signal(number: i32) -> Event {
    Event::new(number as u64, Filter::SIGNAL, ev::ADD)
}

fn ignore(number: i32) {
    // SAFETY: No handler.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

fn kill(pid: i32, number: i32) {
    // SAFETY: No preconditions.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0);
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn counts_signals_that_have_a_handler() {
    // SAFETY: The handler is async-signal-safe.
    unsafe { libc::signal(libc::SIGUSR1, count as *const () as usize) };
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGUSR1).udata(4)]);
    assert!(pending(&kqueue).is_empty());
    for _ in 0..3 {
        // SAFETY: It returns when the handler has run.
        unsafe { libc::raise(libc::SIGUSR1) };
    }
    let event = one(&kqueue);
    assert_eq!((event.ident, event.udata), (libc::SIGUSR1 as u64, 4));
    assert_eq!(event.data, 3);
    assert!(event.has(ev::CLEAR));
    assert_eq!(HANDLED.load(Ordering::SeqCst), 3);
    assert!(pending(&kqueue).is_empty());
    kill(own_pid(), libc::SIGUSR1);
    assert_eq!(one(&kqueue).data, 1);
}

#[test]
fn counts_ignored_signals() {
    ignore(libc::SIGUSR2);
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGUSR2)]);
    kill(own_pid(), libc::SIGUSR2);
    kill(own_pid(), libc::SIGUSR2);
    assert_eq!(one(&kqueue).data, 2);
}

#[test]
fn counts_signals_ignored_by_default() {
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGCHLD)]);
    reap(fork(|| 0));
    assert_eq!(one(&kqueue).data, 1);
}

/// Differs from the BSDs: SIGCHLD for a child that ends is not counted while its action is SIG_IGN.
/// It is counted with SA_NOCLDWAIT and with the default action, and a SIGCHLD that kill(2) sends
/// always is.
/// Because Linux does not send the signal to a parent that ignores it. EVFILT_PROC reports the
/// child.
#[test]
fn an_ignored_sigchld_of_a_child_is_not_counted() {
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGCHLD)]);
    let ends = || {
        let gate = Gate::new();
        let child = fork(|| {
            gate.wait();
            0
        });
        let exit = Event::new(child as u64, Filter::PROC, ev::ADD);
        change(&kqueue, &[exit.fflags(kqueue::note::EXIT)]);
        gate.open();
        let mut signals = 0;
        loop {
            let events = soon(&kqueue);
            let ended = events.iter().any(|event| event.filter == Filter::PROC);
            signals += events
                .iter()
                .filter(|event| event.filter == Filter::SIGNAL)
                .map(|event| event.data)
                .sum::<i64>();
            if ended {
                break;
            }
        }
        // SAFETY: If it is not gone yet. Before it is, the signal is sent, or not.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        signals += pending(&kqueue).iter().map(|event| event.data).sum::<i64>();
        signals
    };
    assert_eq!(ends(), 1);
    // SAFETY: No handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_NOCLDWAIT;
        assert_eq!(
            libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut()),
            0
        );
    }
    assert_eq!(ends(), 1);
    ignore(libc::SIGCHLD);
    assert_eq!(ends(), 0);
    kill(own_pid(), libc::SIGCHLD);
    assert_eq!(one(&kqueue).data, 1);
}

/// Differs from epoll: Every signal that is sent is counted, even if it is blocked, ignored or
/// already pending, and it is delivered to its handler as well.
/// Because the BSDs do the same; a signalfd reports one signal for all that are pending, and only
/// if they are blocked.
#[test]
fn counts_blocked_and_pending_signals() {
    // The test runs in a process with one thread. Otherwise another thread would receive the
    // signal.
    assert!(in_child(|| {
        // SAFETY: The set is initialised.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        let kqueue = kqueue();
        change(&kqueue, &[signal(libc::SIGTERM)]);
        for _ in 0..5 {
            kill(own_pid(), libc::SIGTERM);
        }
        one(&kqueue).data == 5
    }));
}

#[test]
fn counts_real_time_and_thread_directed_signals() {
    let number = libc::SIGRTMIN() + 3;
    ignore(number);
    ignore(64);
    let kqueue = kqueue();
    change(&kqueue, &[signal(number), signal(64)]);
    // SAFETY: No preconditions; the value is not looked at.
    unsafe {
        assert_eq!(libc::sigqueue(own_pid(), number, std::mem::zeroed()), 0);
        for thread in [libc::gettid(), own_pid()] {
            assert_eq!(
                libc::syscall(libc::SYS_tgkill, own_pid(), thread, number),
                0
            );
        }
    }
    kill(own_pid(), 64);
    let mut events = soon(&kqueue);
    events.sort_by_key(|event| event.ident);
    let counts: Vec<_> = events
        .iter()
        .map(|event| (event.ident, event.data))
        .collect();
    assert_eq!(counts, [(number as u64, 3), (64, 1)]);
}

#[test]
fn other_signals_are_not_counted() {
    ignore(libc::SIGUSR1);
    ignore(libc::SIGUSR2);
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGUSR1)]);
    kill(own_pid(), libc::SIGUSR2);
    kill(own_pid(), 0);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn signals_of_other_processes_are_not_counted() {
    ignore(libc::SIGUSR1);
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGUSR1)]);
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        0
    });
    kill(pid, libc::SIGUSR1);
    gate.open();
    reap(pid);
    assert!(pending(&kqueue).is_empty());
    // A signal from another process is counted.
    let us = own_pid();
    reap(fork(|| {
        kill(us, libc::SIGUSR1);
        0
    }));
    assert_eq!(one(&kqueue).data, 1);
}

#[test]
fn the_process_that_adds_the_knote_is_watched() {
    ignore(libc::SIGUSR1);
    let kqueue = kqueue();
    let (ready, gate) = (Gate::new(), Gate::new());
    // SAFETY: As fork(2), but with one descriptor table; the child leaves with `_exit`.
    let child = unsafe {
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        let child = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::pid_t;
        if child == 0 {
            change(&kqueue, &[signal(libc::SIGUSR1)]);
            ready.open();
            gate.wait();
            libc::_exit(0);
        }
        child
    };
    ready.wait();
    kill(own_pid(), libc::SIGUSR1);
    assert!(pending(&kqueue).is_empty());
    kill(child, libc::SIGUSR1);
    assert_eq!(one(&kqueue).data, 1);
    gate.open();
    reap(child);
    assert!(pending(&kqueue).is_empty());
}

/// Differs from DragonFly: EVFILT_SIGNAL with a number outside the range from 1 to 64 fails with
/// EINVAL.
/// Because no such signal exists.
#[test]
fn invalid_signal_numbers() {
    let kqueue = kqueue();
    for ident in [0, 65, 1 << 32 | 10, u64::MAX] {
        let event = Event::new(ident, Filter::SIGNAL, ev::ADD);
        assert_eq!(change_error(&kqueue, event), libc::EINVAL, "{ident}");
    }
    let all: Vec<_> = (1..=64).map(signal).collect();
    change(&kqueue, &all);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn oneshot_and_disable() {
    ignore(libc::SIGUSR1);
    ignore(libc::SIGUSR2);
    let kqueue = kqueue();
    let mut oneshot = signal(libc::SIGUSR1);
    oneshot.flags |= ev::ONESHOT;
    let mut disabled = signal(libc::SIGUSR2);
    disabled.flags |= ev::DISABLE;
    change(&kqueue, &[oneshot, disabled]);
    kill(own_pid(), libc::SIGUSR1);
    kill(own_pid(), libc::SIGUSR2);
    kill(own_pid(), libc::SIGUSR2);
    assert_eq!(one(&kqueue).ident, libc::SIGUSR1 as u64);
    kill(own_pid(), libc::SIGUSR1);
    assert!(pending(&kqueue).is_empty());
    // The count has continued.
    disabled.flags = ev::ENABLE;
    change(&kqueue, &[disabled]);
    assert_eq!(one(&kqueue).data, 2);
}

#[test]
fn each_of_several_kqueues_counts() {
    ignore(libc::SIGUSR1);
    let (first, second) = (kqueue(), kqueue());
    change(&first, &[signal(libc::SIGUSR1)]);
    change(&second, &[signal(libc::SIGUSR1)]);
    kill(own_pid(), libc::SIGUSR1);
    assert_eq!(one(&first).data, 1);
    kill(own_pid(), libc::SIGUSR1);
    assert_eq!(one(&first).data, 1);
    assert_eq!(one(&second).data, 2);
}

/// Differs from the BSDs: A user has at most max_object_watches (128) watches of one signal to a
/// process, of the forks and programs of one process, and of the offset of an open file; beyond
/// that EV_ADD fails with ENOSPC.
/// Because the process that sends the signal, forks or reads pays for each watch.
#[test]
fn watches_of_one_signal_are_limited() {
    ignore(libc::SIGUSR1);
    ignore(libc::SIGUSR2);
    let limit = Parameter::set("max_object_watches", 2);
    let kqueues = [kqueue(), kqueue(), kqueue()];
    for kqueue in &kqueues[..2] {
        change(kqueue, &[signal(libc::SIGUSR1)]);
    }
    let third = &kqueues[2];
    assert_eq!(change_error(third, signal(libc::SIGUSR1)), libc::ENOSPC);
    // The limits of other signals and of other processes are separate.
    change(third, &[signal(libc::SIGUSR2)]);
    assert!(in_child(|| {
        let kqueue = kqueue();
        change(&kqueue, &[signal(libc::SIGUSR1)]);
        kill(own_pid(), libc::SIGUSR1);
        one(&kqueue).data == 1
    }));
    drop(limit);
    let _limit = Parameter::set("max_object_watches", 1);
    assert_eq!(change_error(third, signal(libc::SIGUSR1)), libc::ENOSPC);
    let [first, second, third] = kqueues;
    drop(first);
    assert_eq!(change_error(&third, signal(libc::SIGUSR1)), libc::ENOSPC);
    drop(second);
    change(&third, &[signal(libc::SIGUSR1)]);
    kill(own_pid(), libc::SIGUSR1);
    kill(own_pid(), libc::SIGUSR2);
    assert_eq!(soon(&third).len(), 2);
}

/// A user has the largest number of watches, and the sender of the signal is not blocked.
#[test]
fn the_largest_number_of_watches_counts() {
    ignore(libc::SIGUSR1);
    let kqueues: Vec<_> = (0..128).map(|_| kqueue()).collect();
    let all: Vec<_> = (1..=64).map(signal).collect();
    for kqueue in &kqueues {
        change(kqueue, &all);
    }
    for round in 1..4 {
        for _ in 0..round {
            kill(own_pid(), libc::SIGUSR1);
        }
        for kqueue in &kqueues {
            let event = one(kqueue);
            assert_eq!((event.ident, event.data), (libc::SIGUSR1 as u64, round));
        }
    }
}

#[test]
fn an_alarm_counts() {
    ignore(libc::SIGALRM);
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGALRM)]);
    let timer = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: 1000,
        },
    };
    // SAFETY: The timer is valid.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    assert_eq!(one(&kqueue).data, 1);
}

#[test]
fn a_knote_survives_exec() {
    if let Ok(fd) = std::env::var("KQUEUE_FD") {
        // SAFETY: The program that called exec has left it to us.
        let kqueue = kqueue::Kqueue::from(unsafe { OwnedFd::from_raw_fd(fd.parse().unwrap()) });
        kill(own_pid(), libc::SIGUSR1);
        assert_eq!(one(&kqueue).data, 2);
        return;
    }
    assert!(in_child(|| {
        ignore(libc::SIGUSR1);
        // SAFETY: The number is ours.
        let kqueue = kqueue::Kqueue::from(unsafe {
            OwnedFd::from_raw_fd(kqueue::open(0).unwrap().into_raw_fd())
        });
        change(&kqueue, &[signal(libc::SIGUSR1)]);
        kill(own_pid(), libc::SIGUSR1);
        panic!(
            "{}",
            again("signal::a_knote_survives_exec", kqueue.as_raw_fd()).exec()
        );
    }));
}

#[test]
fn a_storm_from_two_senders() {
    const EACH: i64 = 5000;
    ignore(libc::SIGUSR1);
    let kqueue = kqueue();
    change(&kqueue, &[signal(libc::SIGUSR1)]);
    let us = own_pid();
    let send = || {
        for _ in 0..EACH {
            kill(us, libc::SIGUSR1);
        }
        0
    };
    let (first, second) = (fork(send), fork(send));
    let mut seen = 0;
    while seen < 2 * EACH {
        seen += one(&kqueue).data;
    }
    assert_eq!(seen, 2 * EACH);
    reap(first);
    reap(second);
    assert!(pending(&kqueue).is_empty());
}
