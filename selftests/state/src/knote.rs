// SPDX-License-Identifier: GPL-2.0

//! The states of a knote, the operations of a scan on them, and one waiting thread.
//!
//! [`State`] is the module's own. The two locks of the kqueue, its ready list and its wait are
//! modelled in the terms of the module.

use crate::engine::state::State;
use loom::{
    sync::{
        atomic::{AtomicU32, Ordering::Relaxed},
        Arc, Mutex,
    },
    thread,
};

/// The data that the spin lock protects: the state of one knote, and whether it is in the list.
#[derive(Default)]
struct ReadyState {
    state: State,
    in_list: bool,
    /// True if the knote was in the list when the scan began, and the scan has not reached it yet.
    unevaluated: bool,
    in_flight: u32,
    /// The number of waiting threads.
    sleepers: u32,
    wake_ups: u32,
}

impl ReadyState {
    fn pending(&self) -> bool {
        self.in_list || self.in_flight > 0
    }

    fn push(&mut self) {
        assert!(!self.in_list, "queued twice");
        self.in_list = true;
    }
}

/// The data that the mutex protects.
#[derive(Default)]
struct KnoteTable {
    removed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Level,
    Clear,
    Oneshot,
    Dispatch,
}

/// A kqueue with one knote. The source of the knote counts how often it has fired.
struct Kqueue {
    kind: Kind,
    table: Mutex<KnoteTable>,
    ready: Mutex<ReadyState>,
    /// The number of events that were not reported, like the signals of a `SignalWatcher`. The
    /// accesses are relaxed, so that the model finds a count which is not ordered by the locks.
    count: AtomicU32,
    reported: AtomicU32,
}

impl Kqueue {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Kqueue {
            kind,
            table: Mutex::default(),
            ready: Mutex::default(),
            count: AtomicU32::new(0),
            reported: AtomicU32::new(0),
        })
    }

    /// The source fires. This happens in any context, so it does not take the mutex.
    fn fire(&self) {
        self.count.fetch_add(1, Relaxed);
        self.activate();
    }

    /// The source fires, and activates the knote only if no event was counted before
    /// (`SignalWatcher::signalled`).
    fn signal(&self) {
        if self.count.fetch_add(1, Relaxed) == 0 {
            self.activate();
        }
    }

    fn push_and_wake(&self, ready: &mut ReadyState) {
        ready.push();
        if ready.sleepers > 0 {
            ready.wake_ups += 1;
        }
    }

    fn activate(&self) {
        let mut ready = self.ready.lock().unwrap();
        if ready.state.activate() {
            self.push_and_wake(&mut ready);
        }
    }

    /// Returns how often the knote was reported, which is at most once for one scan.
    fn scan(&self) -> u32 {
        let mut table = self.table.lock().unwrap();
        {
            let mut ready = self.ready.lock().unwrap();
            ready.unevaluated = ready.in_list;
        }
        let mut reports = 0;
        while self.take() {
            let count = self.count.load(Relaxed);
            if count > 0 && !self.ready.lock().unwrap().state.is_retired() {
                self.reported.fetch_add(count, Relaxed);
                reports += 1;
                self.commit(&mut table, count);
            }
            self.ready.lock().unwrap().in_flight -= 1;
        }
        assert!(reports <= 1, "one scan reported a knote twice");
        reports
    }

    /// A scan of a filter that collects all events at once (`Signal::event`).
    fn scan_signals(&self) {
        let _table = self.table.lock().unwrap();
        {
            let mut ready = self.ready.lock().unwrap();
            ready.unevaluated = ready.in_list;
        }
        while self.take() {
            let count = self.count.swap(0, Relaxed);
            self.reported.fetch_add(count, Relaxed);
            self.ready.lock().unwrap().in_flight -= 1;
        }
    }

    /// A scan of a filter that is evaluated under the spin lock.
    fn fast_scan(&self) -> u32 {
        let _table = self.table.lock().unwrap();
        let mut ready = self.ready.lock().unwrap();
        if !ready.in_list {
            return 0;
        }
        assert!(!ready.state.is_disabled());
        let count = self.count.load(Relaxed);
        if count == 0 || self.kind != Kind::Level {
            self.take_evaluated(&mut ready, count > 0);
        }
        if count == 0 {
            return 0;
        }
        if self.kind != Kind::Level {
            self.count.fetch_sub(count, Relaxed);
        }
        self.reported.fetch_add(count, Relaxed);
        1
    }

    /// Takes the knote, which is `reported` or not, off the list.
    fn take_evaluated(&self, ready: &mut ReadyState, reported: bool) {
        if reported && self.kind == Kind::Oneshot {
            ready.state.spend();
        } else {
            let dispatched = reported && self.kind == Kind::Dispatch;
            ready.state.take_evaluated(dispatched);
        }
        ready.in_list = false;
    }

    /// `EV_ADD` of a knote that is spent. It is evaluated before it is activated.
    fn renew(&self) {
        let _table = self.table.lock().unwrap();
        let mut ready = self.ready.lock().unwrap();
        if !ready.state.renew() {
            return;
        }
        let is_ready = self.count.load(Relaxed) > 0;
        if ready.state.apply_change(is_ready, false, false) {
            self.push_and_wake(&mut ready);
        }
    }

    /// A scan that runs the filter without the lock, and spends the knote after the event was
    /// copied out.
    fn scan_that_spends(&self) {
        let _table = self.table.lock().unwrap();
        {
            let mut ready = self.ready.lock().unwrap();
            ready.unevaluated = ready.in_list;
        }
        if !self.take() {
            return;
        }
        let count = self.count.load(Relaxed);
        let mut ready = self.ready.lock().unwrap();
        ready.in_flight -= 1;
        if count > 0 {
            self.count.fetch_sub(count, Relaxed);
            self.reported.fetch_add(count, Relaxed);
            if !ready.state.is_retired() {
                ready.in_list = false;
                ready.unevaluated = false;
                ready.state.spend();
            }
        }
    }

    /// Such a scan whose event cannot be copied out. It puts the event back before it releases the
    /// mutex.
    fn fast_scan_that_faults(&self) {
        let _table = self.table.lock().unwrap();
        let dispatched = self.kind == Kind::Dispatch;
        let told = {
            let mut ready = self.ready.lock().unwrap();
            let count = self.count.load(Relaxed);
            if !ready.in_list || count == 0 {
                return;
            }
            assert!(!ready.state.is_disabled());
            if self.kind != Kind::Level {
                self.take_evaluated(&mut ready, true);
                self.count.fetch_sub(count, Relaxed);
            }
            count
        };
        // Here it faults.
        if self.kind != Kind::Level {
            self.count.fetch_add(told, Relaxed);
        }
        let mut ready = self.ready.lock().unwrap();
        let mut due = ready.in_list;
        ready.in_list = false;
        ready.state.renew();
        due |= ready.state.apply_change(true, false, dispatched);
        if due {
            self.push_and_wake(&mut ready);
        }
    }

    fn take(&self) -> bool {
        let mut ready = self.ready.lock().unwrap();
        if !ready.in_list || !ready.unevaluated {
            return false;
        }
        ready.in_list = false;
        ready.unevaluated = false;
        ready.state.take();
        ready.in_flight += 1;
        true
    }

    fn commit(&self, table: &mut KnoteTable, count: u32) {
        if self.kind != Kind::Level {
            self.count.fetch_sub(count, Relaxed);
        }
        match self.kind {
            Kind::Oneshot => self.remove(table),
            Kind::Dispatch => {
                let mut ready = self.ready.lock().unwrap();
                ready.state.disable();
                self.take_off_disabled(&mut ready);
            }
            Kind::Level => {
                let mut ready = self.ready.lock().unwrap();
                if ready.state.activate() {
                    ready.push();
                }
            }
            Kind::Clear => {}
        }
    }

    /// The descriptor is closed. This does not take the mutex.
    fn retire(&self) {
        let mut ready = self.ready.lock().unwrap();
        if ready.state.retire() {
            assert!(ready.in_list);
            ready.in_list = false;
            ready.unevaluated = false;
        }
    }

    fn remove(&self, table: &mut KnoteTable) {
        self.retire();
        table.removed = true;
    }

    /// `EV_DELETE`.
    fn delete(&self) {
        self.remove(&mut self.table.lock().unwrap());
    }

    fn change(&self, disable: bool, enable: bool) {
        let _table = self.table.lock().unwrap();
        let mut ready = self.ready.lock().unwrap();
        if ready.state.apply_change(false, disable, enable) {
            self.push_and_wake(&mut ready);
        } else if ready.state.is_disabled() {
            self.take_off_disabled(&mut ready);
        }
    }

    /// Takes the knote, which was just disabled, off the list.
    fn take_off_disabled(&self, ready: &mut ReadyState) {
        if ready.in_list {
            ready.in_list = false;
            ready.unevaluated = false;
            ready.state.unqueue();
        }
    }

    /// A change marks the knote active without an evaluation, and no scan follows.
    fn change_unseen(&self) {
        let _table = self.table.lock().unwrap();
        {
            let mut ready = self.ready.lock().unwrap();
            if ready.state.apply_change(true, false, false) {
                self.push_and_wake(&mut ready);
            }
        }
        if !self.ready.lock().unwrap().state.begin_verify() {
            return;
        }
        let is_ready = self.count.load(Relaxed) > 0;
        let mut ready = self.ready.lock().unwrap();
        if ready.state.end_verify(is_ready) {
            assert!(ready.in_list);
            ready.in_list = false;
        }
    }

    fn disable(&self) {
        self.change(true, false);
    }

    fn enable(&self) {
        self.change(false, true);
    }

    /// kevent() without a timeout, up to the point where it sleeps. Returns true if it sleeps.
    fn scan_or_sleep(&self) -> bool {
        if self.scan() > 0 {
            return false;
        }
        let mut ready = self.ready.lock().unwrap();
        let sleeps = !ready.pending();
        if sleeps {
            ready.sleepers += 1;
        }
        sleeps
    }

    /// Checks that no thread sleeps while an event is pending and no wake-up has been sent.
    fn check_sleepers(&self) {
        let ready = self.ready.lock().unwrap();
        if ready.pending() && ready.sleepers > 0 {
            assert!(ready.wake_ups > 0, "asleep with an event pending");
        }
    }
}

/// Runs two or three threads in all interleavings, and then `check`.
fn model(kind: Kind, threads: &'static [fn(&Kqueue)], check: fn(&Kqueue)) {
    loom::model(move || {
        let kqueue = Kqueue::new(kind);
        let running: Vec<_> = threads
            .iter()
            .map(|run| {
                let kqueue = kqueue.clone();
                thread::spawn(move || run(&kqueue))
            })
            .collect();
        for thread in running {
            thread.join().unwrap();
        }
        check(&kqueue);
    });
}

fn nothing_is_lost(kqueue: &Kqueue) {
    kqueue.scan();
    let reported = kqueue.reported.load(Relaxed);
    assert_eq!((kqueue.count.load(Relaxed), reported), (0, 2));
    assert_eq!(kqueue.scan(), 0);
}

#[test]
fn activation_against_scan() {
    model(
        Kind::Clear,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            |kqueue| {
                kqueue.scan();
            },
        ],
        nothing_is_lost,
    );
}

#[test]
fn two_activations_against_scan() {
    model(
        Kind::Clear,
        &[Kqueue::fire, Kqueue::fire, |kqueue| {
            kqueue.scan();
        }],
        nothing_is_lost,
    );
}

#[test]
fn signals_against_scan() {
    model(
        Kind::Clear,
        &[Kqueue::signal, Kqueue::signal, Kqueue::scan_signals],
        |kqueue| {
            kqueue.scan_signals();
            let reported = kqueue.reported.load(Relaxed);
            assert_eq!((kqueue.count.load(Relaxed), reported), (0, 2));
            assert!(!kqueue.ready.lock().unwrap().pending());
        },
    );
}

#[test]
#[should_panic(expected = "a signal is lost")]
fn a_signal_would_be_lost_if_it_were_counted_after_the_activation() {
    model(
        Kind::Clear,
        &[
            |kqueue| {
                kqueue.activate();
                kqueue.count.fetch_add(1, Relaxed);
            },
            Kqueue::scan_signals,
        ],
        |kqueue| {
            kqueue.scan_signals();
            assert_eq!(kqueue.reported.load(Relaxed), 1, "a signal is lost");
        },
    );
}

#[test]
fn scan_against_scan_of_a_level_triggered_knote() {
    model(
        Kind::Level,
        &[
            |kqueue| {
                kqueue.fire();
                assert_eq!(kqueue.scan(), 1, "missed because another looked");
            },
            |kqueue| {
                kqueue.scan();
            },
        ],
        |kqueue| assert!(kqueue.ready.lock().unwrap().in_list),
    );
}

#[test]
fn scan_against_scan_of_a_oneshot_knote() {
    model(
        Kind::Oneshot,
        &[
            |kqueue| {
                kqueue.scan();
            },
            |kqueue| {
                kqueue.fire();
                kqueue.scan();
            },
        ],
        |kqueue| {
            assert_eq!(kqueue.reported.load(Relaxed), 1);
            assert!(kqueue.table.lock().unwrap().removed);
            assert!(!kqueue.ready.lock().unwrap().in_list);
        },
    );
}

#[test]
fn delete_against_activation_and_scan() {
    model(
        Kind::Level,
        &[Kqueue::fire, Kqueue::delete, |kqueue| {
            kqueue.scan();
        }],
        |kqueue| {
            assert!(!kqueue.ready.lock().unwrap().pending());
            assert_eq!(kqueue.scan(), 0, "reported after it was deleted");
        },
    );
}

#[test]
fn close_against_activation_and_scan() {
    model(
        Kind::Level,
        &[Kqueue::fire, Kqueue::retire, |kqueue| {
            kqueue.scan();
        }],
        |kqueue| {
            assert!(!kqueue.ready.lock().unwrap().pending());
            assert_eq!(kqueue.scan(), 0, "reported after its descriptor was closed");
        },
    );
}

#[test]
fn close_against_delete_and_enable() {
    model(
        Kind::Level,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.retire();
            },
            Kqueue::delete,
            Kqueue::enable,
        ],
        |kqueue| assert!(!kqueue.ready.lock().unwrap().pending()),
    );
}

#[test]
fn disable_and_enable_against_scan() {
    model(
        Kind::Clear,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            |kqueue| {
                kqueue.disable();
                kqueue.enable();
            },
            |kqueue| {
                kqueue.scan();
            },
        ],
        nothing_is_lost,
    );
}

#[test]
fn dispatch_against_activation() {
    model(
        Kind::Dispatch,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            |kqueue| {
                kqueue.scan();
                kqueue.scan();
            },
        ],
        |kqueue| {
            kqueue.enable();
            nothing_is_lost(kqueue);
        },
    );
}

#[test]
fn no_sleeper_misses_an_event() {
    for kind in [Kind::Level, Kind::Clear] {
        model(
            kind,
            &[
                Kqueue::fire,
                |kqueue| {
                    kqueue.scan();
                },
                |kqueue| {
                    kqueue.scan_or_sleep();
                },
            ],
            Kqueue::check_sleepers,
        );
    }
}

#[test]
fn activation_against_a_fast_scan() {
    model(
        Kind::Clear,
        &[Kqueue::fire, Kqueue::fire, |kqueue| {
            kqueue.fast_scan();
        }],
        nothing_is_lost,
    );
}

#[test]
fn close_against_activation_and_a_fast_scan() {
    model(
        Kind::Level,
        &[Kqueue::fire, Kqueue::retire, |kqueue| {
            kqueue.fast_scan();
        }],
        |kqueue| {
            assert!(!kqueue.ready.lock().unwrap().pending());
            assert_eq!(
                kqueue.fast_scan(),
                0,
                "reported after its descriptor was closed"
            );
        },
    );
}

#[test]
fn a_fast_scan_that_disables_against_activation() {
    model(
        Kind::Dispatch,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            |kqueue| {
                kqueue.fast_scan();
                kqueue.fast_scan();
            },
        ],
        |kqueue| {
            kqueue.enable();
            nothing_is_lost(kqueue);
        },
    );
}

#[test]
fn activation_against_a_fast_scan_that_is_taken_back() {
    for kind in [Kind::Level, Kind::Clear] {
        model(
            kind,
            &[
                |kqueue| {
                    kqueue.fire();
                    kqueue.fire();
                },
                |kqueue| {
                    kqueue.fast_scan_that_faults();
                    kqueue.fast_scan_that_faults();
                },
            ],
            |kqueue| {
                assert_eq!(kqueue.count.load(Relaxed), 2, "an event is gone");
                assert_eq!(kqueue.fast_scan(), 1, "an event is not pending");
                assert_eq!(kqueue.reported.load(Relaxed), 2);
            },
        );
    }
}

#[test]
fn close_against_a_fast_scan_that_is_taken_back() {
    model(
        Kind::Dispatch,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.retire();
            },
            Kqueue::fast_scan_that_faults,
        ],
        |kqueue| {
            assert!(!kqueue.ready.lock().unwrap().pending());
            assert_eq!(kqueue.scan(), 0, "reported after its descriptor was closed");
        },
    );
}

#[test]
fn a_dispatch_that_is_taken_back_is_enabled() {
    model(
        Kind::Dispatch,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            Kqueue::fast_scan_that_faults,
        ],
        nothing_is_lost,
    );
}

#[test]
fn a_oneshot_that_is_taken_back_is_renewed() {
    model(
        Kind::Oneshot,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            Kqueue::fast_scan_that_faults,
        ],
        |kqueue| {
            assert_eq!(kqueue.fast_scan(), 1, "the event is not pending");
            assert_eq!(kqueue.count.load(Relaxed), 0);
            kqueue.fire();
            assert_eq!(kqueue.fast_scan(), 0, "reported twice");
        },
    );
}

#[test]
fn activation_against_a_oneshot_that_is_added_again() {
    model(
        Kind::Oneshot,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            |kqueue| {
                kqueue.fast_scan();
                kqueue.renew();
            },
        ],
        |kqueue| {
            let spent = kqueue.ready.lock().unwrap().state.is_spent();
            assert!(!spent, "only a scan spends it");
            kqueue.fast_scan();
            assert_eq!(kqueue.reported.load(Relaxed), 2, "an event is lost");
        },
    );
}

#[test]
fn activation_against_a_oneshot_that_is_spent_after_its_delivery() {
    model(
        Kind::Oneshot,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            |kqueue| {
                kqueue.scan_that_spends();
                kqueue.renew();
            },
        ],
        |kqueue| {
            kqueue.renew();
            kqueue.fast_scan();
            assert_eq!(kqueue.reported.load(Relaxed), 2, "an event is lost");
        },
    );
}

#[test]
fn close_against_activation_of_a_spent_knote() {
    model(
        Kind::Oneshot,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fast_scan();
            },
            Kqueue::fire,
            Kqueue::retire,
        ],
        |kqueue| {
            let mut ready = kqueue.ready.lock().unwrap();
            assert!(!ready.pending() && !ready.state.is_spent());
            assert!(!ready.state.renew() && !ready.state.activate());
        },
    );
}

#[test]
fn no_sleeper_misses_what_is_taken_back() {
    model(
        Kind::Clear,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fast_scan_that_faults();
            },
            |kqueue| {
                kqueue.scan_or_sleep();
            },
        ],
        Kqueue::check_sleepers,
    );
}

fn pending_is_what_has_fired(kqueue: &Kqueue) {
    let fired = kqueue.count.load(Relaxed) > 0;
    assert_eq!(kqueue.ready.lock().unwrap().pending(), fired);
}

#[test]
fn a_change_that_was_not_looked_at_against_activation() {
    model(
        Kind::Clear,
        &[
            |kqueue| {
                kqueue.fire();
                kqueue.fire();
            },
            Kqueue::change_unseen,
        ],
        |kqueue| {
            pending_is_what_has_fired(kqueue);
            nothing_is_lost(kqueue);
        },
    );
    model(Kind::Clear, &[Kqueue::change_unseen], |kqueue| {
        pending_is_what_has_fired(kqueue);
    });
}

#[test]
fn a_change_that_was_not_looked_at_against_activation_and_scan() {
    model(
        Kind::Clear,
        &[Kqueue::fire, |kqueue| {
            kqueue.change_unseen();
            kqueue.scan();
        }],
        |kqueue| {
            kqueue.scan();
            assert_eq!(kqueue.reported.load(Relaxed), 1);
            pending_is_what_has_fired(kqueue);
        },
    );
}

#[test]
fn a_change_that_was_not_looked_at_against_close() {
    model(
        Kind::Level,
        &[Kqueue::fire, Kqueue::retire, Kqueue::change_unseen],
        |kqueue| assert!(!kqueue.ready.lock().unwrap().pending()),
    );
}
