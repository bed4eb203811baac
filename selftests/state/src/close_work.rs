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

/// `SEVERAL_FILES`
const SEVERAL_FILES: usize = usize::MAX;

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
    /// The addresses of the files of the two descriptors.
    files: [usize; 2],
    /// True if a task that finds the work queued for another file extends it to several files.
    extends: bool,
}

const RIGHT: Variant = Variant {
    takes_lock: true,
    begins_free: true,
    free: Release,
    get: Acquire,
    files: [1, 1],
    extends: true,
};

const TWO_FILES: Variant = Variant {
    files: [1, 2],
    ..RIGHT
};

/// Two descriptors, of one file or of two, each with a knote of the same kqueue.
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
        if self.finish_on_return(self.variant.files[number]) {
            self.run();
        }
    }

    /// `BoundKnotes::finish_later`. Returns true if the current task has queued the work.
    fn finish_on_return(&self, file: usize) -> bool {
        // `bound_kqueue`, which finds the kqueue by its first knote in the tree of the file.
        if self.variant.takes_lock {
            let bound = self.bound.lock().unwrap();
            if !(0..2).any(|number| bound[number] && self.variant.files[number] == file) {
                return false;
            }
        }
        let (get, relaxed) = (self.variant.get, Relaxed);
        let mut before = 0;
        loop {
            let after = if before == 0 { file } else { SEVERAL_FILES };
            match self.file.compare_exchange(before, after, get, relaxed) {
                Ok(0) => break,
                Ok(_) => return false,
                Err(other) if [file, SEVERAL_FILES].contains(&other) => return false,
                Err(_) if !self.variant.extends => return false,
                Err(other) => before = other,
            }
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
        let mut file = self.file.load(Relaxed);
        if self.variant.begins_free {
            file = self.file.swap(0, self.variant.free);
        }
        self.search(file);
        if !self.variant.begins_free {
            self.file.swap(0, self.variant.free);
        }
    }

    /// `search_all`, or `search_files_of` for several files.
    fn search(&self, file: usize) {
        for number in 0..2 {
            if ![SEVERAL_FILES, self.variant.files[number]].contains(&file) {
                continue;
            }
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
fn each_knote_of_two_files_is_found() {
    model(TWO_FILES);
}

#[test]
#[should_panic(expected = "a knote is left")]
fn one_would_be_left_if_the_work_were_not_extended() {
    let variant = Variant {
        extends: false,
        ..TWO_FILES
    };
    model(variant);
}

#[test]
#[should_panic(expected = "a knote is left")]
fn one_of_two_files_would_be_left_if_the_task_did_not_take_the_lock() {
    let variant = Variant {
        takes_lock: false,
        ..TWO_FILES
    };
    model(variant);
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
