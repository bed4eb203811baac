// SPDX-License-Identifier: GPL-2.0

//! The search that a close leaves to a task work, as in the module's `engine/close/search.rs`. A
//! task that closes a further descriptor of the same file leaves its knote to a queued search that
//! has not begun. (The barrier of the probe, which the test `binding` is about, is not needed here:
//! the tasks are ordered by the lock of the bucket.)

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

/// The address of the file.
const FILE: usize = 1;

/// A variant of the protocol.
#[derive(Clone, Copy)]
struct Variant {
    /// True if a closing task takes the lock of the bucket before it reads the file of the work.
    takes_lock: bool,
    /// True if a search makes the work free when it begins, and false if it does so at its end.
    begins_free: bool,
    /// The ordering of the operation by which a search makes the work free.
    free: Ordering,
    /// The ordering of the operation by which a task gets the work.
    get: Ordering,
}

const RIGHT: Variant = Variant {
    takes_lock: true,
    begins_free: true,
    free: Release,
    get: Acquire,
};

/// Two descriptors of one file, each with a knote of the same kqueue.
struct World {
    /// True while the slot of the table has the file.
    slots: [AtomicBool; 2],
    /// True while the knote is in the tree. The lock of the bucket protects this.
    bound: Mutex<[bool; 2]>,
    /// `CloseWork::file`.
    file: AtomicUsize,
    /// `CloseWork::head`. It is true while the work is in the list of a task.
    head: UnsafeCell<bool>,
    variant: Variant,
}

impl World {
    /// close(2), whose search has stopped at its limit before it has found the knote. Then the task
    /// returns to user space.
    fn close(&self, number: usize) {
        self.slots[number].store(false, Relaxed);
        if self.finish_on_return() {
            self.run();
        }
    }

    /// `BoundKnotes::finish_later`. Returns true if the current task has queued the work.
    fn finish_on_return(&self) -> bool {
        // `bound_kqueue`, which finds the kqueue by its first knote in the tree.
        if self.variant.takes_lock && *self.bound.lock().unwrap() == [false; 2] {
            return false;
        }
        let (get, relaxed) = (self.variant.get, Relaxed);
        if self.file.compare_exchange(0, FILE, get, relaxed).is_err() {
            return false;
        }
        // SAFETY: Only the task that has changed the file from 0 uses the head, as loom checks.
        self.head.with_mut(|head| unsafe { *head = true });
        true
    }

    /// The task work.
    fn run(&self) {
        // `task_work_run` reads the head before it calls the function.
        // SAFETY: Only the task that has changed the file from 0 uses the head, as loom checks.
        self.head.with_mut(|head| unsafe { *head = false });
        if self.variant.begins_free {
            self.file.swap(0, self.variant.free);
        }
        self.search_all();
        if !self.variant.begins_free {
            self.file.swap(0, self.variant.free);
        }
    }

    fn search_all(&self) {
        for number in 0..2 {
            // `next_number`
            if !self.bound.lock().unwrap()[number] {
                continue;
            }
            if !self.slots[number].load(Relaxed) {
                self.bound.lock().unwrap()[number] = false;
            }
        }
    }
}

fn model(variant: Variant) {
    loom::model(move || {
        let world = Arc::new(World {
            slots: [AtomicBool::new(true), AtomicBool::new(true)],
            bound: Mutex::new([true; 2]),
            file: AtomicUsize::new(0),
            head: UnsafeCell::new(false),
            variant,
        });
        let other = thread::spawn({
            let world = world.clone();
            move || world.close(1)
        });
        world.close(0);
        other.join().unwrap();
        assert_eq!(*world.bound.lock().unwrap(), [false; 2], "a knote is left");
        assert_eq!(world.file.load(Relaxed), 0);
    });
}

#[test]
fn each_knote_is_found() {
    model(RIGHT);
}

#[test]
#[should_panic(expected = "a knote is left")]
fn one_would_be_left_if_the_task_did_not_take_the_lock() {
    let variant = Variant {
        takes_lock: false,
        ..RIGHT
    };
    model(variant);
}

#[test]
#[should_panic(expected = "a knote is left")]
fn one_would_be_left_if_the_work_were_free_at_the_end() {
    let variant = Variant {
        begins_free: false,
        ..RIGHT
    };
    model(variant);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn two_tasks_would_have_the_head_without_release() {
    let variant = Variant {
        free: Relaxed,
        ..RIGHT
    };
    model(variant);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn two_tasks_would_have_the_head_without_acquire() {
    let variant = Variant {
        get: Relaxed,
        ..RIGHT
    };
    model(variant);
}
