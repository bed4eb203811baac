// SPDX-License-Identifier: GPL-2.0

//! Work that is left to the owner of the mutex by a thread that must not wait for it, such as a
//! closing task that has to remove a knote. The thread adds the work to a lock-free list, and the
//! owner of the mutex takes it from there. The flag is the module's own.
//!
//! The thread that leaves work adds it to the list, sets the flag, executes a full barrier, and
//! tries the mutex once. If the mutex is free, the thread does the work itself.
//!
//! The owner releases the mutex, executes a full barrier, and reads the flag. If the flag is set,
//! it tries the mutex again. The thread that then has the mutex clears the flag, executes a full
//! barrier, and takes everything from the list.

use crate::sys::lock::flag::Flag;
use loom::{
    cell::UnsafeCell,
    sync::{
        atomic::{
            fence, AtomicBool, AtomicUsize,
            Ordering::{self, Acquire, Relaxed, Release, SeqCst},
        },
        Arc,
    },
    thread,
};

/// A variant of the protocol.
#[derive(Clone, Copy)]
struct Variant {
    /// True if the variant has the full barriers of the description above.
    barriers: bool,
    /// True if the variant also has a barrier between the list and the flag.
    barrier_of_list: bool,
}

const RIGHT: Variant = Variant {
    barriers: true,
    barrier_of_list: true,
};

struct Kqueue {
    /// The mutex, which is held at the beginning.
    locked: AtomicBool,
    /// The number of removed knotes. The mutex protects it.
    removed: UnsafeCell<usize>,
    /// The number of entries of the list.
    left: AtomicUsize,
    leftover_work: Flag,
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

    /// Does the remaining work, unless another thread has the mutex.
    fn do_leftover_work(&self) {
        while self.try_lock() {
            self.leftover_work.set(false);
            self.barrier();
            let left = self.left.swap(0, Acquire);
            self.removed.with_mut(|removed| {
                // SAFETY: Valid; the mutex is held, as loom checks.
                unsafe { *removed += left }
            });
            self.unlock();
            self.barrier();
            if !self.leftover_work.is_set() {
                return;
            }
        }
    }

    /// Releases the mutex. Every release is done by this function.
    fn release(&self) {
        self.unlock();
        self.barrier();
        if self.leftover_work.is_set() {
            self.do_leftover_work();
        }
    }

    /// Removes the knote of a closed descriptor without waiting.
    fn leave(&self) {
        self.left.fetch_add(1, Release);
        if self.variant.barrier_of_list {
            self.barrier();
        }
        self.leftover_work.set(true);
        self.barrier();
        self.do_leftover_work();
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
            leftover_work: Flag::new(),
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
