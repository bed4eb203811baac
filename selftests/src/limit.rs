// SPDX-License-Identifier: GPL-2.0

//! Limits and parameters.

use crate::common::*;
use kqueue::{ev, Event, Filter};
use std::fs;

fn user(ident: u64, flags: u16) -> Event {
    Event::new(ident, Filter::USER, flags)
}

/// Differs from DragonFly, FreeBSD, macOS: A user has at most max_user_knotes events, by default
/// what fits into 4% of memory; beyond it ENOSPC.
/// Because a user is not to take all of the kernel's memory; epoll has such a limit too.
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
    // One that is there can be changed; one that goes makes room, in any kqueue.
    change(&first, &[user(0, ev::ADD), user(0, ev::DELETE)]);
    change(&second, &[user(5, ev::ADD)]);
    assert_eq!(change_error(&first, user(0, ev::ADD)), libc::ENOSPC);
    drop(second);
    change(&first, &[user(0, ev::ADD)]);
}

#[test]
fn another_user_has_knotes_of_their_own() {
    let _limit = Parameter::set("max_user_knotes", 1);
    let ours = kqueue();
    change(&ours, &[user(1, ev::ADD)]);
    assert!(in_child(|| {
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::setuid(12345) }, 0);
        // The device is for everybody.
        let theirs = kqueue();
        change(&theirs, &[user(1, ev::ADD)]);
        change_error(&theirs, user(2, ev::ADD)) == libc::ENOSPC
    }));
}

#[test]
fn a_user_s_default_is_not_nothing() {
    let path = "/sys/module/kqueue/parameters/max_user_knotes";
    let limit: u32 = fs::read_to_string(path).unwrap().trim().parse().unwrap();
    assert!(limit > 10_000, "{limit}");
}

#[test]
fn timers_in_the_system() {
    let _limit = Parameter::set("calloutmax", 2);
    let kqueue = kqueue();
    let timer = |ident| Event::new(ident, Filter::TIMER, ev::ADD).data(86_400_000);
    change(&kqueue, &[timer(1), timer(2)]);
    assert_eq!(change_error(&kqueue, timer(3)), libc::ENOMEM);
}

#[test]
fn parameters_are_root_s_to_change() {
    assert!(in_child(|| {
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::setuid(12345) }, 0);
        let path = "/sys/module/kqueue/parameters/calloutmax";
        fs::read_to_string(path).is_ok() && fs::write(path, "1").is_err()
    }));
}
