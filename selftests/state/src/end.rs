// SPDX-License-Identifier: GPL-2.0

//! A source that leaves something and then ends, as the last writer of a pipe leaves its bytes
//! (`sys/file/pipe.rs`) and a process its exit status (`sys/process/pid.rs`). It holds a lock for
//! each of the two, which the module does not take. The module reads the end and then what was
//! left.

use loom::{
    sync::{
        atomic::{
            fence, AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
        Arc,
    },
    thread,
};

struct Source {
    left: AtomicUsize,
    has_ended: AtomicBool,
}

impl Source {
    fn leave(&self) {
        self.left.store(1, Relaxed);
    }

    /// This store comes after that of `leave` for all tasks, because the source releases a lock and
    /// takes one again between the two. (In the memory model of loom this has no effect on tasks
    /// that do not take the lock, so the store has release ordering here.)
    fn end(&self) {
        self.has_ended.store(true, Release);
    }
}

fn model(barrier: bool) {
    loom::model(move || {
        let source = Arc::new(Source {
            left: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
        });
        let other = thread::spawn({
            let source = source.clone();
            move || {
                source.leave();
                source.end();
            }
        });
        if source.has_ended.load(Relaxed) {
            if barrier {
                // smp_rmb()
                fence(Acquire);
            }
            let left = source.left.load(Relaxed);
            assert_eq!(left, 1, "the end without what was left");
        }
        other.join().unwrap();
    });
}

#[test]
fn the_end_comes_with_what_was_left() {
    model(true);
}

#[test]
#[should_panic(expected = "the end without what was left")]
fn it_would_not_without_the_barrier() {
    model(false);
}
