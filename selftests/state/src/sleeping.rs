// SPDX-License-Identifier: GPL-2.0

//! Several threads wait for one kqueue and are woken one at a time by the module's own
//! `engine/sleepers.rs`.

use crate::{
    bindings::Task,
    engine::{
        kqueue::ReadyState,
        sleepers::{self, Deadline, SleepEnd, WakeFlags},
    },
    sys::lock::raw_spin::IrqLock,
};
use loom::{sync::Arc, thread};

type Lock = Arc<IrqLock<ReadyState>>;

/// Makes an event pending.
fn fire(lock: &Lock) {
    let mut ready = lock.lock();
    ready.pending += 1;
    ready.sleepers.wake_one(WakeFlags::default());
}

/// kevent(): collects one event, or gives why there was none.
fn collect(lock: &Lock, deadline: Deadline) -> SleepEnd {
    loop {
        {
            let mut ready = lock.lock();
            if ready.closed {
                return SleepEnd::Condition;
            }
            if ready.pending > 0 {
                ready.pending -= 1;
                // What is left is for others.
                if ready.pending > 0 {
                    ready.sleepers.wake_one(WakeFlags::default());
                }
                return SleepEnd::Condition;
            }
        }
        match sleepers::sleep(lock, deadline, |ready| ready.pending > 0 || ready.closed) {
            SleepEnd::Condition => {}
            other => return other,
        }
    }
}

/// Starts a thread that is that task and collects an event.
fn collector(lock: &Lock, task: &Task, deadline: Deadline) -> thread::JoinHandle<SleepEnd> {
    let (lock, task) = (lock.clone(), task.clone());
    thread::spawn(move || {
        task.enter();
        collect(&lock, deadline)
    })
}

fn model(check: impl Fn(Lock, [Task; 2]) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // More switches than any of those faults took that this was tried with.
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let lock = Arc::new(IrqLock::new(ReadyState::new()));
        check(lock, [Task::new(), Task::new()]);
    });
}

#[test]
fn each_event_ends_a_sleep() {
    model(|lock, tasks| {
        let sleepers = tasks
            .each_ref()
            .map(|task| collector(&lock, task, Deadline::Never));
        fire(&lock);
        fire(&lock);
        for sleeper in sleepers {
            // If one were not woken, loom would say that nothing goes on.
            assert!(sleeper.join().unwrap() == SleepEnd::Condition);
        }
        let ready = lock.lock();
        assert_eq!(ready.pending, 0);
        assert!(ready.sleepers.is_empty());
    });
}

/// One of two waiting threads leaves because it is woken by something else. An event that comes
/// meanwhile must be collected by the other thread.
fn one_leaves(wake: fn(&Task), deadline: Deadline) {
    model(move |lock, tasks| {
        let [leaves, stays] = tasks.each_ref();
        let leaver = collector(&lock, leaves, deadline);
        let stayer = collector(&lock, stays, Deadline::Never);
        wake(leaves);
        fire(&lock);
        if leaver.join().unwrap() == SleepEnd::Condition {
            // That was the event; another one for the one that sleeps on.
            fire(&lock);
        }
        assert!(stayer.join().unwrap() == SleepEnd::Condition);
        assert!(lock.lock().sleepers.is_empty());
    });
}

#[test]
fn a_signal_takes_no_wake_up_with_it() {
    one_leaves(Task::signal, Deadline::Never);
}

#[test]
fn a_timeout_takes_no_wake_up_with_it() {
    one_leaves(Task::time_out, Deadline::At(1));
}

#[test]
fn a_close_ends_all_sleeps() {
    model(|lock, tasks| {
        let sleepers = tasks
            .each_ref()
            .map(|task| collector(&lock, task, Deadline::Never));
        loop {
            let mut ready = lock.lock();
            ready.closed = true;
            if ready.sleepers.wake_several() {
                break;
            }
        }
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap() == SleepEnd::Condition);
        }
        assert!(lock.lock().sleepers.is_empty());
    });
}
