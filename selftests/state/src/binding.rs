// SPDX-License-Identifier: GPL-2.0

//! A binding and the close of its descriptor, as in the module's `engine/close`. Each side writes
//! its own word, and then reads the word of the other side.

use loom::{
    sync::{
        atomic::{
            fence, AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
        Arc, Mutex,
    },
    thread,
};

/// A descriptor, and the hash bucket of its file.
struct World {
    /// True while the slot of the table has the file.
    slot: AtomicBool,
    /// True while the bucket is not empty. The probe reads this without the lock.
    bucket: AtomicBool,
    /// True while a knote is in the bucket. The lock of the bucket protects this.
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

    /// `EV_ADD`. Returns false for `EBADF`.
    fn bind(&self) -> bool {
        let mut bound = self.bound.lock().unwrap();
        *bound = true;
        self.bucket.store(true, Relaxed);
        self.barrier();
        self.slot.load(Relaxed)
    }

    /// close(2): clears the slot, then runs the probe. The store has no ordering of its own,
    /// because `rcu_assign_pointer()` of `NULL` is `WRITE_ONCE()`.
    fn close(&self) {
        self.slot.store(false, Relaxed);
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
            !added || world.retired.load(Relaxed),
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
