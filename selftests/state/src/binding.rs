// SPDX-License-Identifier: GPL-2.0

//! A binding against the close of its descriptor, as `engine/close/mod.rs` has them: each writes, then looks for what the
//! other writes.

use loom::{
    sync::{
        atomic::{
            fence, AtomicBool,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
        Arc, Mutex,
    },
    thread,
};

/// A descriptor, and a bucket for its file.
struct World {
    /// The slot of the table has the file.
    slot: AtomicBool,
    /// What the probe looks at without the lock: the bucket is not empty.
    bucket: AtomicBool,
    /// A knote is in the bucket, under its lock.
    bound: Mutex<bool>,
    retired: AtomicBool,
    barriers: bool,
}

impl World {
    fn barrier(&self) {
        if self.barriers {
            fence(SeqCst);
        }
    }

    /// `EV_ADD`: false is `EBADF`.
    fn bind(&self) -> bool {
        let mut bound = self.bound.lock().unwrap();
        *bound = true;
        self.bucket.store(true, Relaxed);
        self.barrier();
        self.slot.load(Relaxed)
    }

    /// close(2): the slot is emptied (`rcu_assign_pointer`), then the probe runs.
    fn close(&self) {
        self.slot.store(false, Release);
        self.barrier();
        if !self.bucket.load(Relaxed) {
            return;
        }
        let bound = self.bound.lock().unwrap();
        if *bound && !self.slot.load(Relaxed) {
            self.retired.store(true, Relaxed);
        }
    }
}

fn model(barriers: bool) {
    loom::model(move || {
        let world = Arc::new(World {
            slot: AtomicBool::new(true),
            bucket: AtomicBool::new(false),
            bound: Mutex::new(false),
            retired: AtomicBool::new(false),
            barriers,
        });
        let closer = thread::spawn({
            let world = world.clone();
            move || world.close()
        });
        let added = world.bind();
        closer.join().unwrap();
        assert!(
            !added || world.retired.load(Acquire),
            "a knote of a closed descriptor lives on"
        );
    });
}

#[test]
fn one_of_bind_and_close_sees_the_other() {
    model(true);
}

#[test]
#[should_panic(expected = "lives on")]
fn neither_would_without_barriers() {
    model(false);
}
