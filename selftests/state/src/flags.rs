// SPDX-License-Identifier: GPL-2.0

//! `maybe_pending` and `closed_or_deferred` of `engine::kqueue`: written under the spin lock, read
//! without it. The flag is the module's own.

use crate::sys::lock::flag::Flag;
use loom::{
    sync::{
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
        Arc, Mutex,
    },
    thread,
};

/// The data that the spin lock protects.
#[derive(Default)]
struct ReadyState {
    in_list: bool,
    in_flight: bool,
    closed: bool,
    deferred: u32,
}

impl ReadyState {
    fn pending(&self) -> bool {
        self.in_list || self.in_flight
    }
}

/// A kqueue with one level-triggered knote, which is ready once its source has fired.
struct Kqueue {
    /// The number of knotes in the table. The mutex protects it.
    table: Mutex<u32>,
    ready: Mutex<ReadyState>,
    maybe_pending: Flag,
    closed_or_deferred: Flag,
}

impl Kqueue {
    fn new() -> Arc<Self> {
        Arc::new(Kqueue {
            table: Mutex::default(),
            ready: Mutex::default(),
            maybe_pending: Flag::new(),
            closed_or_deferred: Flag::new(),
        })
    }

    fn activate(&self) {
        let mut ready = self.ready.lock().unwrap();
        ready.in_list = true;
        self.maybe_pending.set(true);
    }

    fn may_be_pending(&self) -> bool {
        self.maybe_pending.is_set() || self.closed_or_deferred.is_set()
    }

    /// A scan that removes the knote from the list, runs its filter, reports it, and requeues it.
    fn scan(&self) -> u32 {
        let _table = self.table.lock().unwrap();
        {
            let mut ready = self.ready.lock().unwrap();
            if !ready.in_list {
                self.maybe_pending.set(ready.pending());
                return 0;
            }
            ready.in_list = false;
            ready.in_flight = true;
        }
        let mut ready = self.ready.lock().unwrap();
        ready.in_flight = false;
        ready.in_list = true;
        self.maybe_pending.set(ready.pending());
        1
    }

    /// A scan that evaluates the knote under the spin lock, finds it not ready, and removes it from
    /// the list.
    fn glance_at_nothing(&self) {
        let _table = self.table.lock().unwrap();
        let mut ready = self.ready.lock().unwrap();
        ready.in_list = false;
        self.maybe_pending.set(ready.pending());
    }

    /// Adds a knote unless the kqueue was closed.
    fn register(&self) -> bool {
        let mut table = self.table.lock().unwrap();
        if self.closed_or_deferred.is_set() && !self.admit(&mut table) {
            return false;
        }
        *table += 1;
        true
    }

    /// Adds deferred knotes to the table. Returns false if the kqueue was closed.
    fn admit(&self, table: &mut u32) -> bool {
        let mut ready = self.ready.lock().unwrap();
        if ready.closed {
            return false;
        }
        *table += std::mem::take(&mut ready.deferred);
        self.closed_or_deferred.set(ready.closed);
        true
    }

    /// A fork creates a knote.
    fn defer_knote(&self) -> bool {
        let mut ready = self.ready.lock().unwrap();
        if ready.closed {
            return false;
        }
        ready.deferred += 1;
        self.closed_or_deferred.set(true);
        true
    }

    /// Deletes all knotes.
    fn terminate(&self) {
        {
            let mut ready = self.ready.lock().unwrap();
            ready.closed = true;
            self.closed_or_deferred.set(true);
            ready.deferred = 0;
        }
        *self.table.lock().unwrap() = 0;
    }
}

#[test]
fn who_knows_of_an_event_finds_it() {
    loom::model(|| {
        let kqueue = Kqueue::new();
        let known = Arc::new(AtomicBool::new(false));
        let source = thread::spawn({
            let (kqueue, known) = (kqueue.clone(), known.clone());
            move || {
                kqueue.activate();
                known.store(true, Release);
            }
        });
        let other = thread::spawn({
            let kqueue = kqueue.clone();
            move || kqueue.scan()
        });
        if known.load(Acquire) {
            assert!(kqueue.may_be_pending(), "an event that was told of");
            assert_eq!(kqueue.scan(), 1);
        }
        source.join().unwrap();
        other.join().unwrap();
        assert!(kqueue.may_be_pending());
    });
}

#[test]
fn an_event_is_not_hidden_by_a_look_that_found_none() {
    loom::model(|| {
        let kqueue = Kqueue::new();
        kqueue.activate();
        let source = thread::spawn({
            let kqueue = kqueue.clone();
            move || kqueue.activate()
        });
        kqueue.glance_at_nothing();
        source.join().unwrap();
        let pending = kqueue.ready.lock().unwrap().pending();
        assert_eq!(kqueue.may_be_pending(), pending);
    });
}

#[test]
fn nothing_is_registered_after_a_close() {
    loom::model(|| {
        let kqueue = Kqueue::new();
        let others = [
            thread::spawn({
                let kqueue = kqueue.clone();
                move || kqueue.register()
            }),
            thread::spawn({
                let kqueue = kqueue.clone();
                move || kqueue.defer_knote()
            }),
        ];
        kqueue.terminate();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(
            *kqueue.table.lock().unwrap(),
            0,
            "a knote outlives its kqueue"
        );
        assert_eq!(kqueue.ready.lock().unwrap().deferred, 0);
        assert!(!kqueue.register());
    });
}

#[test]
fn a_deferred_knote_is_found_by_a_task_that_knows_of_it() {
    loom::model(|| {
        let kqueue = Kqueue::new();
        let born = Arc::new(AtomicBool::new(false));
        let fork = thread::spawn({
            let (kqueue, born) = (kqueue.clone(), born.clone());
            move || {
                assert!(kqueue.defer_knote());
                born.store(true, Release);
            }
        });
        let other = thread::spawn({
            let kqueue = kqueue.clone();
            move || assert!(kqueue.register())
        });
        let known = born.load(Acquire);
        assert!(kqueue.register());
        if known {
            assert!(*kqueue.table.lock().unwrap() >= 2, "the child is not there");
        }
        fork.join().unwrap();
        other.join().unwrap();
        assert!(kqueue.register());
        assert_eq!(*kqueue.table.lock().unwrap(), 4);
    });
}
