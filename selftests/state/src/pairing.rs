// SPDX-License-Identifier: GPL-2.0

//! A pair of knotes, as in the module's `engine/pairing.rs`: the publication of the secondary
//! against a wake-up, and against the close of the descriptor.

use loom::{
    sync::{
        atomic::{
            fence, AtomicBool,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
        Arc, Mutex, MutexGuard,
    },
    thread,
};

/// A source whose wait queue has the entry of the primary.
struct Source {
    is_ready: AtomicBool,
    /// The lock of the wait queue.
    queue: Mutex<()>,
    /// True if the primary has a secondary.
    partner: AtomicBool,
    /// True if the secondary was activated, or was found ready when it was evaluated.
    active: AtomicBool,
    /// True if the registration takes the lock of the queue.
    locks: bool,
}

impl Source {
    /// The waker changes its state, and runs the wake function under the lock of the queue.
    fn wake(&self) {
        self.is_ready.store(true, Relaxed);
        let _queue = self.queue.lock().unwrap();
        if self.partner.load(Acquire) {
            self.active.store(true, Relaxed);
        }
    }

    /// `EV_ADD` of the secondary.
    fn register(&self) {
        self.partner.store(true, Release);
        if self.locks {
            drop(self.queue.lock().unwrap());
        }
        if self.is_ready.load(Relaxed) {
            self.active.store(true, Relaxed);
        }
    }
}

fn model_wake_up(locks: bool) {
    loom::model(move || {
        let source = Arc::new(Source {
            is_ready: AtomicBool::new(false),
            queue: Mutex::new(()),
            partner: AtomicBool::new(false),
            active: AtomicBool::new(false),
            locks,
        });
        let waker = thread::spawn({
            let source = source.clone();
            move || source.wake()
        });
        source.register();
        waker.join().unwrap();
        assert!(source.active.load(Relaxed), "a wake-up is missed");
    });
}

#[test]
fn no_wake_up_is_missed_by_a_secondary() {
    model_wake_up(true);
}

#[test]
#[should_panic(expected = "a wake-up is missed")]
fn a_wake_up_would_be_missed_without_the_lock_of_the_queue() {
    model_wake_up(false);
}

/// What the lock of the tree of bound knotes guards.
#[derive(Default)]
struct Tree {
    primary_retired: bool,
    partner: bool,
    secondary_retired: bool,
}

/// A descriptor with a bound primary.
struct Descriptor {
    /// True while the number maps to the file.
    slot: AtomicBool,
    tree: Mutex<Tree>,
    /// True if the registration holds the lock of the tree throughout.
    locks: bool,
}

impl Descriptor {
    fn close(&self) {
        self.slot.store(false, Relaxed);
        fence(SeqCst);
        self.search();
    }

    /// The probe: ends the knotes of the number if it does not map to the file any more.
    fn search(&self) {
        let mut tree = self.tree.lock().unwrap();
        if !self.slot.load(Relaxed) {
            // Another thread may open the number again meanwhile.
            thread::yield_now();
            tree.primary_retired = true;
            tree.secondary_retired |= tree.partner;
        }
    }

    /// `EV_ADD` of the secondary. False if the knote has to be bound by itself.
    fn register(&self) -> bool {
        let mut tree = self.tree.lock().unwrap();
        if tree.primary_retired || !self.slot.load(Relaxed) {
            return false;
        }
        tree = self.unlock_and_lock(tree);
        tree.partner = true;
        true
    }

    /// Releases the lock and takes it again, unless the registration holds it throughout.
    fn unlock_and_lock<'a>(&'a self, tree: MutexGuard<'a, Tree>) -> MutexGuard<'a, Tree> {
        if self.locks {
            return tree;
        }
        drop(tree);
        self.tree.lock().unwrap()
    }
}

fn model_close(locks: bool, reopens: bool) {
    loom::model(move || {
        let descriptor = Arc::new(Descriptor {
            slot: AtomicBool::new(true),
            tree: Mutex::new(Tree::default()),
            locks,
        });
        if reopens {
            // The number was closed and opened again before the registration, and the search of
            // that close may come before it, after it or in between.
            descriptor.slot.store(false, Relaxed);
        }
        let closer = thread::spawn({
            let descriptor = descriptor.clone();
            move || {
                if reopens {
                    descriptor.search();
                } else {
                    descriptor.close();
                }
            }
        });
        if reopens {
            descriptor.slot.store(true, Relaxed);
        }
        let registered = descriptor.register();
        closer.join().unwrap();
        let ended = descriptor.tree.lock().unwrap().secondary_retired;
        if reopens {
            assert!(!ended, "a secondary of an open descriptor ends");
        } else {
            assert!(!registered || ended, "a secondary of a closed one lives on");
        }
    });
}

#[test]
fn a_close_ends_the_secondary() {
    model_close(true, false);
}

#[test]
#[should_panic(expected = "lives on")]
fn a_close_would_miss_the_secondary_without_the_lock_of_the_tree() {
    model_close(false, false);
}

#[test]
fn an_earlier_close_does_not_end_the_secondary() {
    model_close(true, true);
}
