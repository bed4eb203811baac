// SPDX-License-Identifier: GPL-2.0

//! A wait queue that is freed (`POLLFREE`) while a thread removes its entry, as `Entry` of the
//! module's `sys/file/poll.rs` does. The entry points to its queue until it is removed from it.

use loom::{
    cell::UnsafeCell,
    sync::{
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{self, Acquire, Relaxed, Release},
        },
        Arc, Mutex,
    },
    thread,
};

/// A wait queue, which is freed by RCU after `POLLFREE`.
struct Queue {
    /// True while the entry is in the list. The lock of the queue protects this.
    linked: Mutex<bool>,
    freed: AtomicBool,
}

/// The entry. Its owner frees the memory of its links after it is detached.
struct Entry {
    /// True while the entry points to a queue.
    head: AtomicBool,
    links: UnsafeCell<()>,
}

struct World {
    queue: Queue,
    entry: Entry,
    /// The number of RCU read-side critical sections that began before the grace period.
    readers: AtomicUsize,
    given_up: Ordering,
}

impl World {
    /// The source wakes its queue for the last time, waits for a grace period, and frees the queue.
    fn give_up(&self) {
        {
            let mut linked = self.queue.linked.lock().unwrap();
            if *linked {
                // list_del_init()
                self.entry.links.with_mut(|_| ());
                *linked = false;
                // The last access.
                self.entry.head.store(false, self.given_up);
            }
        }
        // The grace period: a reader that came before is waited for, one that comes later sees what
        // was written before it. (If there is one the queue stays, in that order of events.)
        if self.readers.fetch_add(0, Ordering::AcqRel) == 0 {
            self.queue.freed.store(true, Ordering::Relaxed);
        }
    }

    /// Runs `Entry::detach` and then frees the entry.
    fn detach(&self) {
        if self.entry.head.load(Acquire) {
            self.readers.fetch_add(1, Ordering::AcqRel);
            if self.entry.head.load(Acquire) {
                let mut linked = self.queue.linked.lock().unwrap();
                assert!(
                    !self.queue.freed.load(Ordering::Relaxed),
                    "the lock of a queue that is gone"
                );
                // remove_wait_queue(), which may do so once more.
                self.entry.links.with_mut(|_| ());
                *linked = false;
                self.entry.head.store(false, Relaxed);
            }
            self.readers.fetch_sub(1, Ordering::AcqRel);
        }
        // Freed: whoever touches it now is seen by loom to race with this.
        self.entry.links.with_mut(|_| ());
    }
}

fn model(given_up: Ordering) {
    loom::model(move || {
        let world = Arc::new(World {
            queue: Queue {
                linked: Mutex::new(true),
                freed: AtomicBool::new(false),
            },
            entry: Entry {
                head: AtomicBool::new(true),
                links: UnsafeCell::new(()),
            },
            readers: AtomicUsize::new(0),
            given_up,
        });
        let source = thread::spawn({
            let world = world.clone();
            move || world.give_up()
        });
        world.detach();
        source.join().unwrap();
    });
}

#[test]
fn an_entry_outlives_the_queue_that_gives_it_up() {
    model(Release);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn not_if_it_were_given_up_without_release() {
    model(Relaxed);
}
