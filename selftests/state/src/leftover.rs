// SPDX-License-Identifier: GPL-2.0

//! What is left to the owner of the mutex by those who may not wait for it, as a closing task that cannot remove a
//! knote: it is put into a list without a lock, and taken out by who has the mutex. The flag that says so is the
//! module's own, `Kqueue::owed`.
//!
//! Who leaves it: adds to the list; sets the flag; full barrier; tries the mutex once, and does it if that is free.
//! Who has the mutex: releases it; full barrier; looks at the flag, and tries the mutex again if it is set. Who then
//! has it clears the flag; full barrier; takes all.

use crate::sys::lock::flag::Flag;
use loom::{
    cell::UnsafeCell,
    sync::{
        atomic::{
            fence, AtomicBool, AtomicUsize,
            Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
        Arc,
    },
    thread,
};

/// What a variant of the protocol has.
#[derive(Clone, Copy)]
struct Variant {
    /// Full barriers where the text above has them.
    barriers: bool,
    /// And one between the list and the flag.
    barrier_of_list: bool,
}

const RIGHT: Variant = Variant {
    barriers: true,
    barrier_of_list: true,
};

struct Kqueue {
    /// The mutex; taken to begin with.
    locked: AtomicBool,
    /// Under it: how many knotes were removed.
    removed: UnsafeCell<usize>,
    /// The list: how many are in it.
    left: AtomicUsize,
    owed: Flag,
    variant: Variant,
}

impl Kqueue {
    fn barrier(&self) {
        if self.variant.barriers {
            fence(SeqCst);
        }
    }

    /// `mutex_trylock()`, which orders nothing if it fails.
    fn try_lock(&self) -> bool {
        const FAILED: Ordering = Relaxed;
        let taken = self.locked.compare_exchange(false, true, Acquire, FAILED);
        taken.is_ok()
    }

    fn unlock(&self) {
        self.locked.store(false, Release);
    }

    /// Does what was left, unless somebody else has the mutex.
    fn settle(&self) {
        while self.try_lock() {
            self.owed.set(false);
            self.barrier();
            let left = self.left.swap(0, AcqRel);
            self.removed.with_mut(|removed| {
                // SAFETY: Valid; the mutex is held, as loom checks.
                unsafe { *removed += left }
            });
            self.unlock();
            self.barrier();
            if !self.owed.is_set() {
                return;
            }
        }
    }

    /// Every release of the mutex.
    fn release(&self) {
        self.unlock();
        self.barrier();
        if self.owed.is_set() {
            self.settle();
        }
    }

    /// A closed descriptor's knote is to be removed, without waiting.
    fn leave(&self) {
        self.left.fetch_add(1, Release);
        if self.variant.barrier_of_list {
            self.barrier();
        }
        self.owed.set(true);
        self.barrier();
        self.settle();
    }
}

fn model(variant: Variant, leavers: usize) {
    let mut builder = loom::model::Builder::new();
    // More switches than the faults that are found take.
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let kqueue = Arc::new(Kqueue {
            locked: AtomicBool::new(true),
            removed: UnsafeCell::new(0),
            left: AtomicUsize::new(0),
            owed: Flag::new(),
            variant,
        });
        let leaving: Vec<_> = (0..leavers)
            .map(|_| {
                let kqueue = kqueue.clone();
                thread::spawn(move || kqueue.leave())
            })
            .collect();
        kqueue.release();
        for leaver in leaving {
            leaver.join().unwrap();
        }
        assert!(!kqueue.locked.load(Acquire));
        assert_eq!(kqueue.left.load(Acquire), 0, "left for ever");
        // SAFETY: Valid; nobody else is there.
        let removed = kqueue.removed.with(|removed| unsafe { *removed });
        assert_eq!(removed, leavers);
    });
}

#[test]
fn nothing_is_left_for_ever() {
    model(RIGHT, 1);
    model(RIGHT, 2);
}

#[test]
#[should_panic(expected = "left for ever")]
fn it_would_be_without_barriers() {
    let variant = Variant {
        barriers: false,
        ..RIGHT
    };
    model(variant, 1);
}

#[test]
#[should_panic(expected = "left for ever")]
fn it_would_be_if_the_flag_came_before_the_list() {
    let variant = Variant {
        barrier_of_list: false,
        ..RIGHT
    };
    model(variant, 2);
}
