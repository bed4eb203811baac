// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_USER`.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{sync::Arc, thread};

fn user(flags: u16) -> Event {
    Event::new(1, Filter::USER, flags)
}

fn trigger(kqueue: &Kqueue) {
    change(kqueue, &[user(0).fflags(note::TRIGGER)]);
}

#[test]
fn not_ready_until_triggered() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD)]);
    assert!(pending(&kqueue).is_empty());
    trigger(&kqueue);
    assert_eq!(one(&kqueue).ident, 1);
}

#[test]
fn triggered_at_add() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD).fflags(note::TRIGGER)]);
    assert_eq!(one(&kqueue).filter, Filter::USER);
}

#[test]
fn stays_triggered_without_clear() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD)]);
    trigger(&kqueue);
    one(&kqueue);
    one(&kqueue);
}

#[test]
fn clear_resets_when_reported() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD | ev::CLEAR)]);
    trigger(&kqueue);
    one(&kqueue);
    assert!(pending(&kqueue).is_empty());
    trigger(&kqueue);
    one(&kqueue);
}

/// Differs from macOS, the emulation: EV_CLEAR in a change of an existing EVFILT_USER resets the
/// trigger, even if the change has NOTE_TRIGGER. EV_CLEAR belongs in the change that adds the
/// knote.
/// Because the specification and FreeBSD do this. (FreeBSD also resets fflags.)
#[test]
fn clear_in_a_modification_untriggers_and_keeps_fflags() {
    let kqueue = kqueue();
    let set = user(ev::ADD)
        .fflags(note::FFCOPY | 0x15 | note::TRIGGER)
        .data(7);
    change(&kqueue, &[set, user(ev::CLEAR).data(9)]);
    assert!(pending(&kqueue).is_empty());
    trigger(&kqueue);
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.data), (0x15, 0));
    change(&kqueue, &[user(ev::CLEAR).fflags(note::TRIGGER)]);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn fflags_operations() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD).fflags(note::FFCOPY | 0xf0)]);
    change(&kqueue, &[user(0).fflags(note::FFOR | 0x0f)]);
    change(&kqueue, &[user(0).fflags(note::FFAND | 0x3c)]);
    change(&kqueue, &[user(0).fflags(note::FFNOP | 0xff)]);
    trigger(&kqueue);
    assert_eq!(one(&kqueue).fflags, 0x3c);
}

#[test]
fn fflags_are_24_bits() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[user(ev::ADD).fflags(note::FFCOPY | note::TRIGGER | 0x3fff_ffff)],
    );
    assert_eq!(one(&kqueue).fflags, note::FFLAGSMASK);
}

#[test]
fn data_and_udata_come_back() {
    let kqueue = kqueue();
    let add = user(ev::ADD).fflags(note::TRIGGER).data(-5).udata(u64::MAX);
    change(&kqueue, &[add]);
    let event = one(&kqueue);
    assert_eq!((event.data, event.udata), (-5, u64::MAX));
}

/// Differs from DragonFly: A change of an EVFILT_USER replaces udata, as for all other filters.
/// Because FreeBSD, NetBSD, OpenBSD and macOS do the same, and programs give udata with each
/// NOTE_TRIGGER.
#[test]
fn a_change_replaces_udata() {
    let changes = [
        (0, 2, 2),
        (ev::KEEPUDATA, 3, 2),
        (ev::ADD, 4, 4),
        (ev::ADD | ev::KEEPUDATA, 5, 4),
        (ev::ENABLE, 6, 6),
    ];
    for collects in [false, true] {
        let kqueue = kqueue();
        change(&kqueue, &[user(ev::ADD | ev::CLEAR).udata(1)]);
        for (flags, udata, expected) in changes {
            let trigger = user(flags).fflags(note::TRIGGER).udata(udata);
            let events = if collects {
                collect(&kqueue, trigger)
            } else {
                change(&kqueue, &[trigger]);
                pending(&kqueue)
            };
            assert_eq!(events.len(), 1, "{events:?}");
            assert_eq!(events[0].udata, expected);
        }
        // This also holds for a change without a trigger.
        change(&kqueue, &[user(0).udata(7)]);
        change(&kqueue, &[user(ev::KEEPUDATA).fflags(note::TRIGGER)]);
        assert_eq!(one(&kqueue).udata, 7);
    }
}

#[test]
fn delete_removes_a_pending_knote() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD), user(ev::DELETE)]);
    assert_eq!(
        change_error(&kqueue, user(0).fflags(note::TRIGGER)),
        libc::ENOENT
    );
}

#[test]
fn disabled_is_kept_until_enabled() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD | ev::DISABLE)]);
    trigger(&kqueue);
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[user(ev::ENABLE)]);
    one(&kqueue);
}

#[test]
fn disabled_while_pending_is_not_reported() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD).fflags(note::TRIGGER)]);
    change(&kqueue, &[user(ev::DISABLE)]);
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[user(ev::ENABLE)]);
    one(&kqueue);
}

/// Differs from the manuals of FreeBSD and macOS: EV_ADD of a knote that exists does not enable it.
/// Because the code of these systems does the same; only their manuals say otherwise.
#[test]
fn add_again_does_not_enable() {
    let kqueue = kqueue();
    change(&kqueue, &[user(ev::ADD | ev::DISABLE)]);
    change(&kqueue, &[user(ev::ADD).fflags(note::TRIGGER)]);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn oneshot_is_deleted_when_reported() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[user(ev::ADD | ev::ONESHOT).fflags(note::TRIGGER)],
    );
    one(&kqueue);
    assert!(pending(&kqueue).is_empty());
    assert_eq!(change_error(&kqueue, user(ev::DELETE)), libc::ENOENT);
}

#[test]
fn dispatch_disables_when_reported() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[user(ev::ADD | ev::DISPATCH).fflags(note::TRIGGER)],
    );
    one(&kqueue);
    assert!(pending(&kqueue).is_empty());
    // The trigger was not reset. It is still set when the knote is enabled again.
    change(&kqueue, &[user(ev::ENABLE)]);
    one(&kqueue);
}

#[test]
fn dispatch_with_clear_waits_for_both() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[user(ev::ADD | ev::DISPATCH | ev::CLEAR).fflags(note::TRIGGER)],
    );
    one(&kqueue);
    change(&kqueue, &[user(ev::ENABLE)]);
    assert!(pending(&kqueue).is_empty());
    trigger(&kqueue);
    one(&kqueue);
}

#[test]
fn any_number_is_a_valid_ident() {
    let kqueue = kqueue();
    for ident in [0, 1, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        change(
            &kqueue,
            &[Event::new(ident, Filter::USER, ev::ADD).fflags(note::TRIGGER)],
        );
    }
    let mut idents: Vec<u64> = soon(&kqueue).iter().map(|event| event.ident).collect();
    idents.sort();
    assert_eq!(idents, [0, 1, u64::from(u32::MAX), 1 << 63, u64::MAX]);
}

#[test]
fn many_threads_trigger_and_each_event_is_seen() {
    const THREADS: u64 = 4;
    const EACH: u64 = 50;
    let kqueue = Arc::new(kqueue());
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let kqueue = kqueue.clone();
            thread::spawn(move || {
                for i in 0..EACH {
                    let event = Event::new(thread * EACH + i, Filter::USER, ev::ADD | ev::ONESHOT);
                    change(&kqueue, &[event.fflags(note::TRIGGER)]);
                }
            })
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    while seen.len() < (THREADS * EACH) as usize {
        for event in soon(&kqueue) {
            assert!(seen.insert(event.ident), "{} came twice", event.ident);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(pending(&kqueue).is_empty());
}
