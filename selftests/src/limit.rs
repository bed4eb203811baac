// SPDX-License-Identifier: GPL-2.0

//! Limits and parameters.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{fs, os::fd::AsRawFd};

fn user(ident: u64, flags: u16) -> Event {
    Event::new(ident, Filter::USER, flags)
}

/// Differs from DragonFly, FreeBSD, macOS: A user has at most max_user_knotes events, by default as
/// many as fit into 4% of memory; beyond that EV_ADD fails with ENOSPC. An event that takes more
/// memory counts as several (kqueue(4)).
/// Because one user must not take all of the kernel's memory; epoll has such a limit too.
#[test]
fn knotes_of_a_user() {
    let _limit = Parameter::set("max_user_knotes", 10);
    let (first, second) = (kqueue(), kqueue());
    for ident in 0..5 {
        change(&first, &[user(ident, ev::ADD)]);
        change(&second, &[user(ident, ev::ADD)]);
    }
    assert_eq!(change_error(&first, user(5, ev::ADD)), libc::ENOSPC);
    assert_eq!(change_error(&second, user(5, ev::ADD)), libc::ENOSPC);
    // An existing knote can be changed. A deleted knote makes room in any kqueue.
    change(&first, &[user(0, ev::ADD), user(0, ev::DELETE)]);
    change(&second, &[user(5, ev::ADD)]);
    assert_eq!(change_error(&first, user(0, ev::ADD)), libc::ENOSPC);
    drop(second);
    change(&first, &[user(0, ev::ADD)]);
}

/// A one-shot event that was delivered is deleted, but the module keeps its memory for the next
/// `EV_ADD`. That memory does not take anything from the user.
#[test]
fn delivered_one_shots_make_room() {
    let _limit = Parameter::set("max_user_knotes", 10);
    let kqueue = kqueue();
    let pipes: Vec<_> = (0..10).map(|_| pipe()).collect();
    for (reader, writer) in &pipes {
        write(writer, b"x");
        change(&kqueue, &[add_read(reader, ev::ONESHOT)]);
    }
    assert_eq!(change_error(&kqueue, user(0, ev::ADD)), libc::ENOSPC);
    assert_eq!(pending(&kqueue).len(), 10);
    assert_eq!(knotes(&kqueue), 0);
    for ident in 0..10 {
        change(&kqueue, &[user(ident, ev::ADD)]);
    }
    assert_eq!(change_error(&kqueue, user(10, ev::ADD)), libc::ENOSPC);
    let (reader, _) = &pipes[0];
    assert_eq!(
        change_error(&kqueue, add_read(reader, ev::ONESHOT)),
        libc::ENOSPC
    );
    assert_eq!(knotes(&kqueue), 10);
}

#[test]
fn another_user_has_a_limit_of_their_own() {
    let _limit = Parameter::set("max_user_knotes", 1);
    let ours = kqueue();
    change(&ours, &[user(1, ev::ADD)]);
    assert!(in_child(|| {
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::setuid(12345) }, 0);
        // All users may open the device.
        let theirs = kqueue();
        change(&theirs, &[user(1, ev::ADD)]);
        change_error(&theirs, user(2, ev::ADD)) == libc::ENOSPC
    }));
}

#[test]
fn the_default_limit_is_not_zero() {
    let path = "/sys/module/kqueue/parameters/max_user_knotes";
    let limit: u32 = fs::read_to_string(path).unwrap().trim().parse().unwrap();
    assert!(limit > 10_000, "{limit}");
}

/// Continues as another user, who holds no other resources.
fn become_user(uid: libc::uid_t) {
    // SAFETY: No preconditions.
    assert_eq!(unsafe { libc::setuid(uid) }, 0);
}

fn timer(ident: u64) -> Event {
    Event::new(ident, Filter::TIMER, ev::ADD).data(86_400_000)
}

/// Adds events until one fails. Returns their number and the error.
fn fill(kqueue: &Kqueue, event: impl Fn(u64) -> Event) -> (u64, i32) {
    let mut added = 0;
    loop {
        match kqueue.kevent(&[event(added)], &mut [], None) {
            Ok(_) => added += 1,
            Err(error) => return (added, error.raw_os_error().unwrap()),
        }
    }
}

/// Differs from DragonFly, FreeBSD: A user has at most max_user_timers timers (4096), and all users
/// together have at most calloutmax (65536); beyond that EV_ADD fails with ENOMEM. CAP_SYS_RESOURCE
/// exempts from both limits.
/// Because the specification has one limit for the system, which one user can use up.
#[test]
fn timers_of_a_user() {
    let theirs = Gate::new();
    let done = Gate::new();
    let pid = fork(|| {
        become_user(12345);
        let kqueue = kqueue();
        assert_eq!(fill(&kqueue, timer), (4096, libc::ENOMEM));
        // An existing knote can be changed. A deleted knote makes room in any kqueue.
        change(
            &kqueue,
            &[timer(0), Event::new(0, Filter::TIMER, ev::DELETE)],
        );
        assert_eq!(fill(&crate::common::kqueue(), timer), (1, libc::ENOMEM));
        change(&kqueue, &[timer(0)]);
        theirs.open();
        done.wait();
        0
    });
    theirs.wait();
    assert!(in_child(|| {
        become_user(12346);
        fill(&kqueue(), timer) == (4096, libc::ENOMEM)
    }));
    // Neither limit applies to root.
    let _limit = Parameter::set("calloutmax", 1);
    let kqueue = kqueue();
    let all: Vec<_> = (0..5000).map(timer).collect();
    change(&kqueue, &all);
    done.open();
    assert_eq!(reap(pid), 0);
}

#[test]
fn timers_in_the_system() {
    let _limit = Parameter::set("calloutmax", 2);
    let _limit = Parameter::set("max_user_timers", 2);
    let done = Gate::new();
    let taken = Gate::new();
    let pid = fork(|| {
        become_user(12345);
        let kqueue = kqueue();
        change(&kqueue, &[timer(1)]);
        taken.open();
        done.wait();
        0
    });
    taken.wait();
    assert!(in_child(|| {
        become_user(12346);
        fill(&kqueue(), timer) == (1, libc::ENOMEM)
    }));
    done.open();
    assert_eq!(reap(pid), 0);
}

/// A low-water mark of a pipe's room uses a timer.
#[test]
fn timers_of_low_water_marks_count() {
    let _limit = Parameter::set("max_user_timers", 1);
    assert!(in_child(|| {
        become_user(12345);
        let kqueue = kqueue();
        let pipes: Vec<_> = (0..2).map(|_| pipe()).collect();
        let add = |index: usize| {
            let (_, writer) = &pipes[index];
            write(writer, &[0; 1]);
            add_write(writer, 0).fflags(note::LOWAT).data(1 << 16)
        };
        change(&kqueue, &[add(0)]);
        assert!(pending(&kqueue).is_empty());
        assert_eq!(change_error(&kqueue, timer(1)), libc::ENOMEM);
        // Without a timer the event is reported too early, and not too late.
        change(&kqueue, &[add(1)]);
        assert_eq!(one(&kqueue).ident, pipes[1].1.as_raw_fd() as u64);
        drop(pipes);
        change(&kqueue, &[timer(1)]);
        true
    }));
}

/// The timer of a low-water mark does not outlive a one-shot event that was delivered.
#[test]
fn delivered_one_shots_give_their_timers_back() {
    let _limit = Parameter::set("max_user_timers", 1);
    assert!(in_child(|| {
        become_user(12345);
        let kqueue = kqueue();
        let (reader, writer) = pipe();
        write(&writer, b"x");
        let add = add_write(&writer, ev::ONESHOT);
        change(&kqueue, &[add.fflags(note::LOWAT).data(1 << 16)]);
        assert!(pending(&kqueue).is_empty());
        assert_eq!(change_error(&kqueue, timer(1)), libc::ENOMEM);
        read(&reader, 1);
        assert_eq!(one(&kqueue).ident, writer.as_raw_fd() as u64);
        assert_eq!(knotes(&kqueue), 0);
        change(&kqueue, &[timer(1)]);
        true
    }));
}

/// A knote that takes more memory counts as several.
#[test]
fn larger_knotes_count_as_several() {
    let _limit = Parameter::set("max_user_knotes", 12);
    assert!(in_child(|| {
        become_user(12345);
        let own = u64::from(std::process::id());
        let file = fs::File::open("/proc/self/exe").unwrap();
        let again: Vec<_> = (0..13).map(|_| file.try_clone().unwrap()).collect();
        let fd = |filter| {
            let again = &again;
            move |index: u64| {
                let fd = again[index as usize].as_raw_fd();
                Event::fd(fd, filter, ev::ADD).fflags(note::DELETE)
            }
        };
        let of_own = |filter| move |_| Event::new(own, filter, ev::ADD).fflags(note::EXIT);
        let signals = |index| Event::new(10 + index, Filter::SIGNAL, ev::ADD);
        // Each kqueue is closed before the next one is filled.
        let users = fill(&kqueue(), |ident| user(ident, ev::ADD)).0;
        let timers = fill(&kqueue(), timer).0;
        let signals = fill(&kqueue(), signals).0;
        let files = fill(&kqueue(), fd(Filter::VNODE)).0;
        assert_eq!((users, timers, signals, files), (12, 6, 4, 3));
        let (first, second) = (kqueue(), kqueue());
        change(&first, &[of_own(Filter::PROC)(0)]);
        assert_eq!(fill(&second, |ident| user(ident, ev::ADD)).0, 8);
        drop(second);
        change(&first, &[Event::new(0, Filter::FS, ev::ADD)]);
        assert_eq!(fill(&first, |ident| user(ident, ev::ADD)).0, 5);
        true
    }));
}

fn add_many(kqueue: &Kqueue, count: u64) {
    for first in (0..count).step_by(1000) {
        let changes: Vec<_> = (first..first + 1000)
            .map(|ident| user(ident, ev::ADD))
            .collect();
        change(kqueue, &changes);
    }
}

fn delete(kqueue: &Kqueue, idents: std::ops::Range<u64>) {
    let changes: Vec<_> = idents.map(|ident| user(ident, ev::DELETE)).collect();
    change(kqueue, &changes);
}

/// The table of a kqueue keeps no memory that the limit does not count.
#[test]
fn empty_tables_are_freed() {
    const COUNT: u64 = 4_000;
    let _limit = Parameter::set("max_user_knotes", 5_000);
    assert!(in_child(|| {
        become_user(12345);
        let kqueues: Vec<_> = (0..8).map(|_| kqueue()).collect();
        for kqueue in &kqueues {
            add_many(kqueue, COUNT);
            delete(kqueue, 0..COUNT);
        }
        true
    }));
}

/// Nor does one in which all one-shot events were delivered, once the room was needed: here by an
/// `EV_ADD` that fails all the same.
#[test]
fn tables_of_delivered_one_shots_are_freed() {
    const COUNT: u64 = 300;
    let _limit = Parameter::set("max_user_knotes", 1000);
    let _limit = Parameter::set("max_object_watches", 1);
    assert!(in_child(|| {
        become_user(12345);
        let file = fs::File::open("/proc/self/exe").unwrap();
        let watch = Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD).fflags(note::DELETE);
        let (first, second) = (kqueue(), kqueue());
        change(&first, &[watch]);
        let (most, error) = fill(&first, |ident| user(ident, ev::ADD));
        assert_eq!(error, libc::ENOSPC);
        delete(&first, 0..most);
        let (reader, writer) = pipe();
        write(&writer, b"x");
        let readers: Vec<_> = (0..COUNT).map(|_| reader.try_clone().unwrap()).collect();
        for reader in &readers {
            change(&second, &[add_read(reader, ev::ONESHOT)]);
        }
        let collected: usize = (0..COUNT).map(|_| pending(&second).len()).sum();
        assert_eq!(collected as u64, COUNT);
        assert_eq!(change_error(&second, watch), libc::ENOSPC);
        let room = fill(&first, |ident| user(ident, ev::ADD));
        assert_eq!(room, (most, libc::ENOSPC));
        true
    }));
}

#[test]
fn sparse_tables_count_and_shrink() {
    const COUNT: u64 = 20_000;
    // The table has four slots of eight bytes for each of 16384 knotes. One unit is 160 bytes.
    const TABLE: u64 = 4 * 16384 * 8 / 160;
    let _limit = Parameter::set("max_user_knotes", 25_000);
    assert!(in_child(|| {
        become_user(12345);
        let (first, second) = (kqueue(), kqueue());
        add_many(&first, COUNT);
        delete(&first, 1..COUNT);
        let (most, error) = fill(&second, |ident| user(ident, ev::ADD));
        assert_eq!((most, error), (25_000 - 1 - 2 * TABLE, libc::ENOSPC));
        // Another knote is added after one was deleted.
        delete(&second, 0..1);
        change(&first, &[user(COUNT, ev::ADD)]);
        for ident in 0..TABLE - 20 {
            change(&second, &[user(most + ident, ev::ADD)]);
        }
        // All counts have their former values.
        change(&first, &[user(0, ev::DELETE), user(COUNT, ev::DELETE)]);
        delete(&second, 1..most + TABLE - 20);
        true
    }));
}

/// A range of subordinate user IDs does not give a user more knotes.
#[test]
fn a_user_namespace_counts_for_its_owner() {
    let _limit = Parameter::set("max_user_knotes", 10);
    let _limit = Parameter::set("max_user_timers", 1);
    let unshared = Gate::new();
    let mapped = Gate::new();
    let pid = fork(|| {
        become_user(12345);
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0);
        unshared.open();
        mapped.wait();
        let taken = Gate::new();
        let done = Gate::new();
        let other = fork(|| {
            become_user(1);
            let kqueue = kqueue();
            change(&kqueue, &[timer(1)]);
            assert_eq!(fill(&kqueue, |ident| user(ident, ev::ADD)).0, 8);
            delete(&kqueue, 0..3);
            taken.open();
            done.wait();
            0
        });
        taken.wait();
        assert!(in_child(|| {
            become_user(2);
            let kqueue = kqueue();
            let room = fill(&kqueue, |ident| user(ident, ev::ADD));
            assert_eq!(room, (3, libc::ENOSPC));
            delete(&kqueue, 0..3);
            change_error(&kqueue, timer(1)) == libc::ENOMEM
        }));
        done.open();
        assert_eq!(reap(other), 0);
        0
    });
    unshared.wait();
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 100000 1000").unwrap();
    }
    mapped.open();
    assert_eq!(reap(pid), 0);
    // The charges of the killed process were released.
    assert!(in_child(|| {
        become_user(12345);
        fill(&kqueue(), |ident| user(ident, ev::ADD)).0 == 10
    }));
}

#[test]
fn only_root_can_change_parameters() {
    assert!(in_child(|| {
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::setuid(12345) }, 0);
        let path = "/sys/module/kqueue/parameters/calloutmax";
        fs::read_to_string(path).is_ok() && fs::write(path, "1").is_err()
    }));
}
