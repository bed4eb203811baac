// SPDX-License-Identifier: GPL-2.0

//! The users of a probe that is registered on demand, as in the module's `sys/probe/on_demand.rs`.
//! A user that must not sleep adds itself and then reads whether the probe is ready. The work that
//! unregisters the probe clears that word and then reads the number of users.

use loom::{
    sync::{
        atomic::{
            fence, AtomicBool, AtomicUsize,
            Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
        Arc, Mutex,
    },
    thread,
};

/// A variant of the protocol.
#[derive(Clone, Copy)]
struct Variant {
    /// True if the user has a full barrier between its two steps.
    barrier_of_user: bool,
    /// True if the work has a full barrier between its two steps.
    barrier_of_work: bool,
    /// The ordering of the store that makes the probe ready.
    ready: Ordering,
    /// True if a user that has found the probe not ready leaves as other users do.
    leaves: bool,
}

const RIGHT: Variant = Variant {
    barrier_of_user: true,
    barrier_of_work: true,
    ready: Release,
    leaves: true,
};

struct OnDemandProbe {
    /// `registered`.
    mutex: Mutex<bool>,
    ready: AtomicBool,
    users: AtomicUsize,
    /// True while the kernel calls the probe.
    is_called: AtomicBool,
    /// True if the delayed work is queued.
    queued: AtomicBool,
    variant: Variant,
}

impl OnDemandProbe {
    fn new(variant: Variant) -> Self {
        OnDemandProbe {
            mutex: Mutex::new(false),
            ready: AtomicBool::new(false),
            users: AtomicUsize::new(0),
            is_called: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            variant,
        }
    }

    /// Adds a user, and returns whether the probe is registered.
    fn enter(&self) -> bool {
        if self.variant.barrier_of_user {
            // An operation with the kernel's full ordering.
            fence(SeqCst);
            self.users.fetch_add(1, AcqRel);
            fence(SeqCst);
        } else {
            self.users.fetch_add(1, Relaxed);
        }
        self.ready.load(Acquire)
    }

    /// `OnDemandProbe::acquire_ready`.
    fn acquire_ready(&self) -> bool {
        if self.enter() {
            return true;
        }
        if self.variant.leaves {
            self.release();
        } else {
            self.users.fetch_sub(1, Relaxed);
        }
        false
    }

    /// `OnDemandProbe::acquire`.
    fn acquire(&self) {
        if self.enter() {
            return;
        }
        let mut registered = self.mutex.lock().unwrap();
        if !*registered {
            self.is_called.store(true, Relaxed);
            *registered = true;
        }
        self.ready.store(true, self.variant.ready);
    }

    /// `OnDemandProbe::release`.
    fn release(&self) {
        if self.users.fetch_sub(1, Relaxed) == 1 {
            // `mod_delayed_work_on()` is fully ordered.
            self.queued.swap(true, AcqRel);
        }
    }

    /// The delayed work, if it is queued: `OnDemandProbe::remove_if_unused`.
    fn work(&self) {
        if !self.queued.swap(false, AcqRel) {
            return;
        }
        let mut registered = self.mutex.lock().unwrap();
        self.ready.store(false, Relaxed);
        if self.variant.barrier_of_work {
            fence(SeqCst);
        }
        if self.users.load(Relaxed) != 0 {
            self.ready.store(*registered, self.variant.ready);
        } else if *registered {
            self.is_called.store(false, Relaxed);
            *registered = false;
        }
    }

    /// What a user relies on from the return of `acquire` to the call of `release`.
    fn use_it(&self) {
        assert!(self.is_called.load(Relaxed), "a user of no probe");
    }
}

/// The last user of a probe has just left.
fn left_by_all(variant: Variant) -> Arc<OnDemandProbe> {
    let probe = OnDemandProbe::new(variant);
    probe.acquire();
    probe.release();
    Arc::new(probe)
}

/// Runs the function at the same time as the work, which is queued.
fn model(variant: Variant, user: fn(&OnDemandProbe)) {
    loom::model(move || {
        let probe = left_by_all(variant);
        let worker = thread::spawn({
            let probe = probe.clone();
            move || probe.work()
        });
        user(&probe);
        worker.join().unwrap();
        // The next time that the work is done, if it is queued.
        probe.work();
        assert_eq!(probe.users.load(Relaxed), 0);
        let registered = *probe.mutex.lock().unwrap();
        assert!(!registered, "registered for nobody");
    });
}

/// A user that must not sleep, such as the knote of a child.
fn user_in_a_probe(probe: &OnDemandProbe) {
    if probe.acquire_ready() {
        probe.use_it();
        probe.release();
    }
}

/// A user that may register the probe.
fn user(probe: &OnDemandProbe) {
    probe.acquire();
    probe.use_it();
    probe.release();
}

#[test]
fn a_user_has_a_registered_probe() {
    model(RIGHT, user_in_a_probe);
    model(RIGHT, user);
}

#[test]
fn two_users_have_a_registered_probe() {
    let mut builder = loom::model::Builder::new();
    // More switches than the faults that are found take.
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let probe = left_by_all(RIGHT);
        let others = [user_in_a_probe, user].map(|user| {
            let probe = probe.clone();
            thread::spawn(move || user(&probe))
        });
        probe.work();
        for other in others {
            other.join().unwrap();
        }
        probe.work();
        let registered = *probe.mutex.lock().unwrap();
        assert!(!registered, "registered for nobody");
    });
}

#[test]
#[should_panic(expected = "a user of no probe")]
fn a_user_would_have_none_without_its_barrier() {
    let variant = Variant {
        barrier_of_user: false,
        ..RIGHT
    };
    model(variant, user_in_a_probe);
}

#[test]
#[should_panic(expected = "a user of no probe")]
fn a_user_would_have_none_without_the_barrier_of_the_work() {
    let variant = Variant {
        barrier_of_work: false,
        ..RIGHT
    };
    model(variant, user_in_a_probe);
}

#[test]
#[should_panic(expected = "a user of no probe")]
fn a_user_would_have_none_if_the_probe_were_ready_without_release() {
    loom::model(|| {
        let probe = Arc::new(OnDemandProbe::new(Variant {
            ready: Relaxed,
            ..RIGHT
        }));
        let first = thread::spawn({
            let probe = probe.clone();
            move || user(&probe)
        });
        user_in_a_probe(&probe);
        first.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "registered for nobody")]
fn it_would_stay_registered_if_a_user_left_without_the_work() {
    let variant = Variant {
        leaves: false,
        ..RIGHT
    };
    model(variant, user_in_a_probe);
}
