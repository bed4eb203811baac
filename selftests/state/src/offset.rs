// SPDX-License-Identifier: GPL-2.0

//! The watch of a file offset and a task that moves the offset, as in the module's
//! `sys/probe/seek.rs`. Each side writes its own word, and then reads the word of the other side.

use loom::{
    sync::{
        atomic::{
            fence, AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
        Arc, Mutex,
    },
    thread,
};

/// A variant of the protocol.
#[derive(Clone, Copy)]
struct Variant {
    /// True if the probe executes a barrier before it reads the number of watches.
    barrier: bool,
    /// True if the probe reads the number of watches after the offset was stored, and false if it
    /// does so when the operation begins.
    reads_at_return: bool,
}

const RIGHT: Variant = Variant {
    barrier: true,
    reads_at_return: true,
};

/// An open file, whose offset is at the end at the beginning.
struct World {
    at_end: AtomicBool,
    /// The number of watches. The probe reads this without the lock.
    watches: AtomicUsize,
    /// True if the tree of watches has the watch. The lock of the shard protects this.
    inserted: Mutex<bool>,
    /// True if the knote was activated by the probe.
    activated: AtomicBool,
    variant: Variant,
}

impl World {
    /// `EV_ADD`: inserts the watch, and then evaluates the knote. True if the knote is ready.
    fn watch(&self) -> bool {
        self.watches.fetch_add(1, Relaxed);
        *self.inserted.lock().unwrap() = true;
        fence(SeqCst);
        !self.at_end.load(Relaxed)
    }

    fn is_watched(&self) -> bool {
        if self.variant.barrier {
            fence(SeqCst);
        }
        self.watches.load(Relaxed) != 0
    }

    /// lseek(2), which moves the offset back, with the probe.
    fn seek(&self) {
        let watched_before = !self.variant.reads_at_return && self.is_watched();
        self.at_end.store(false, Relaxed);
        let watched_now = self.variant.reads_at_return && self.is_watched();
        if (watched_before || watched_now) && *self.inserted.lock().unwrap() {
            self.activated.store(true, Relaxed);
        }
    }
}

fn model(variant: Variant) {
    loom::model(move || {
        let world = Arc::new(World {
            at_end: AtomicBool::new(true),
            watches: AtomicUsize::new(0),
            inserted: Mutex::new(false),
            activated: AtomicBool::new(false),
            variant,
        });
        let mover = thread::spawn({
            let world = world.clone();
            move || world.seek()
        });
        let is_ready = world.watch();
        mover.join().unwrap();
        assert!(
            is_ready || world.activated.load(Relaxed),
            "the move is lost"
        );
    });
}

#[test]
fn one_of_watch_and_move_sees_the_other() {
    model(RIGHT);
}

#[test]
#[should_panic(expected = "the move is lost")]
fn neither_would_without_the_barrier_of_the_probe() {
    let variant = Variant {
        barrier: false,
        ..RIGHT
    };
    model(variant);
}

#[test]
#[should_panic(expected = "the move is lost")]
fn neither_would_if_the_probe_read_at_the_beginning() {
    let variant = Variant {
        reads_at_return: false,
        ..RIGHT
    };
    model(variant);
}
