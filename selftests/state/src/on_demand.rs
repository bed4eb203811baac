// SPDX-License-Identifier: GPL-2.0

//! The users of a probe that is registered on demand, as in the module's `sys/probe/on_demand.rs`.
//! A user that must not sleep adds itself and finds out in the same step whether the probe is
//! registered. The work that unregisters the probe does so only if there is no user.

use loom::{
    sync::{
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{self, AcqRel, Acquire, Relaxed, Release},
        },
        Arc, Mutex,
    },
    thread,
};

/// A variant of the protocol.
#[derive(Clone, Copy)]
struct Variant {
    /// True if the work clears `REGISTERED` only if there is no user, in one step. Otherwise it
    /// clears the bit first, and sets it again if there is a user.
    one_step: bool,
    /// The ordering of the step that sets `REGISTERED`.
    set: Ordering,
    /// True if a user that has found the probe unregistered leaves as other users do.
    leaves: bool,
}

const RIGHT: Variant = Variant {
    one_step: true,
    set: Release,
    leaves: true,
};

const REGISTERED: usize = 1;
const USER: usize = 2;

struct OnDemandProbe {
    /// `registered`.
    mutex: Mutex<bool>,
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
            users: AtomicUsize::new(0),
            is_called: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            variant,
        }
    }

    /// Adds a user, and returns whether the probe is registered.
    fn enter(&self) -> bool {
        self.users.fetch_add(USER, Acquire) & REGISTERED != 0
    }

    /// `OnDemandProbe::acquire_ready`.
    fn acquire_ready(&self) -> bool {
        if self.enter() {
            return true;
        }
        if self.variant.leaves {
            self.release();
        } else {
            self.users.fetch_sub(USER, Relaxed);
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
            self.users.fetch_add(REGISTERED, self.variant.set);
        }
    }

    /// `OnDemandProbe::release`.
    fn release(&self) {
        if self.users.fetch_sub(USER, Relaxed) & !REGISTERED == USER {
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
        let unused = if self.variant.one_step {
            let cleared = (self.users).compare_exchange(REGISTERED, 0, AcqRel, Relaxed);
            cleared.is_ok()
        } else if self.users.fetch_and(!REGISTERED, AcqRel) & !REGISTERED == 0 {
            *registered
        } else {
            if *registered {
                self.users.fetch_or(REGISTERED, self.variant.set);
            }
            false
        };
        if unused {
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

/// The work is queued when a user comes and stays. Another user comes beside it.
fn beside_a_user(variant: Variant) {
    loom::model(move || {
        let probe = left_by_all(variant);
        probe.acquire();
        let worker = thread::spawn({
            let probe = probe.clone();
            move || probe.work()
        });
        assert!(probe.acquire_ready(), "refused beside a user");
        probe.use_it();
        probe.release();
        worker.join().unwrap();
    });
}

#[test]
fn a_user_is_not_refused_beside_another_one() {
    beside_a_user(RIGHT);
}

#[test]
#[should_panic(expected = "refused beside a user")]
fn a_user_would_be_refused_if_the_work_took_two_steps() {
    beside_a_user(Variant {
        one_step: false,
        ..RIGHT
    });
}

#[test]
#[should_panic(expected = "a user of no probe")]
fn a_user_would_have_none_if_the_bit_were_set_without_release() {
    loom::model(|| {
        let probe = Arc::new(OnDemandProbe::new(Variant {
            set: Relaxed,
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

/// The probe is not registered. A user that must not sleep comes beside one that registers it.
fn refused_beside_a_registration(variant: Variant) {
    loom::model(move || {
        let probe = Arc::new(OnDemandProbe::new(variant));
        let other = thread::spawn({
            let probe = probe.clone();
            move || user(&probe)
        });
        user_in_a_probe(&probe);
        other.join().unwrap();
        probe.work();
        let registered = *probe.mutex.lock().unwrap();
        assert!(!registered, "registered for nobody");
    });
}

#[test]
fn a_user_that_is_refused_keeps_nothing_registered() {
    refused_beside_a_registration(RIGHT);
}

#[test]
#[should_panic(expected = "registered for nobody")]
fn it_would_stay_registered_if_a_user_left_without_the_work() {
    refused_beside_a_registration(Variant {
        leaves: false,
        ..RIGHT
    });
}
