// SPDX-License-Identifier: GPL-2.0

//! (o) The life of a registration, for every kind of descriptor: add, add again, enable and disable,
//! delete, close.

use super::states::{kinds, For, Peer, Ready, State, STATES};
use crate::{
    measure::{each, Case, Cell, Stopwatch},
    queue::{kqueue, Epoll, Kevents},
    Scale,
};
use kqueue::{ev, Event, Filter, Kqueue};
use std::{os::fd::AsRawFd, time::Duration};

/// An operation, and how it is done.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// One filter, one by one.
    Add,
    /// One filter of all descriptors in one call.
    AddMany,
    /// Both filters in one call; epoll has one item for both.
    AddBoth,
    /// Both filters of all descriptors in one call.
    AddAll,
    AddAgain,
    /// Write interest on and off, as two calls.
    OnAndOff,
    /// Write interest on and off, as two changes of a call that waits anyway, without the cost of
    /// such a call.
    OnAndOffWaiting,
    Delete,
    /// close(2) of the descriptor.
    Close,
    /// close(2) of the queue.
    CloseQueue,
}

impl Step {
    const ALL: [Step; 10] = [
        Step::Add,
        Step::AddMany,
        Step::AddBoth,
        Step::AddAll,
        Step::AddAgain,
        Step::OnAndOff,
        Step::OnAndOffWaiting,
        Step::Delete,
        Step::Close,
        Step::CloseQueue,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::Add => "add",
            Step::AddMany => "add, batch",
            Step::AddBoth => "add both",
            Step::AddAll => "add both, batch",
            Step::AddAgain => "add again",
            Step::OnAndOff => "on and off",
            Step::OnAndOffWaiting => "on and off, waiting",
            Step::Delete => "delete",
            Step::Close => "close",
            Step::CloseQueue => "close queue",
        }
    }

    fn target(self) -> f64 {
        match self {
            Step::Add | Step::AddMany | Step::Delete | Step::CloseQueue => 1.0,
            Step::AddBoth => 0.9,
            Step::AddAll => 0.6,
            Step::AddAgain => 1.1,
            Step::OnAndOff => 1.2,
            Step::OnAndOffWaiting => 0.5,
            Step::Close => 1.15,
        }
    }

    /// The reason why a kind does not have the operation.
    fn excluded(self, state: &State) -> Option<&'static str> {
        let both = matches!(
            self,
            Step::AddBoth | Step::AddAll | Step::OnAndOff | Step::OnAndOffWaiting
        );
        if state.peer == Peer::Poll {
            Some("all operations: poll(2) has no registrations")
        } else if both && state.kind == "kqueue" {
            Some("both directions: a kqueue cannot be written to")
        } else {
            None
        }
    }

    /// Adds up the time of one round over new descriptors.
    fn by_kevent(self, make: fn() -> Ready, count: usize) -> f64 {
        let all: Vec<Ready> = (0..count).map(|_| make()).collect();
        let queue = kqueue();
        let change =
            |ready: &Ready, filter, flags| Event::fd(ready.watched.as_raw_fd(), filter, flags);
        let each_one = |filter, flags| {
            for ready in &all {
                queue.change(&[change(ready, filter, flags)]);
            }
        };
        let both = |ready: &Ready, flags| {
            [Filter::READ, Filter::WRITE].map(|filter| change(ready, filter, flags))
        };
        match self {
            Step::Add | Step::AddMany | Step::AddBoth | Step::AddAll => {}
            Step::OnAndOff | Step::OnAndOffWaiting => {
                each_one(Filter::READ, ev::ADD);
                each_one(Filter::WRITE, ev::ADD | ev::DISABLE);
            }
            _ => each_one(Filter::READ, ev::ADD),
        }
        match self {
            Step::Add | Step::AddAgain => each(count, || each_one(Filter::READ, ev::ADD)),
            Step::AddMany => {
                let add = |ready| change(ready, Filter::READ, ev::ADD);
                let changes: Vec<Event> = all.iter().map(add).collect();
                each(count, || queue.change(&changes))
            }
            Step::AddBoth => each(count, || {
                for ready in &all {
                    queue.change(&both(ready, ev::ADD));
                }
            }),
            Step::AddAll => {
                let changes: Vec<Event> =
                    all.iter().flat_map(|ready| both(ready, ev::ADD)).collect();
                each(count, || queue.change(&changes))
            }
            Step::OnAndOff => each(count, || {
                for ready in &all {
                    queue.change(&[change(ready, Filter::WRITE, ev::ENABLE)]);
                    queue.change(&[change(ready, Filter::WRITE, ev::DISABLE)]);
                }
            }),
            Step::OnAndOffWaiting => on_and_off_waiting(&queue, &all),
            Step::Delete => each(count, || each_one(Filter::READ, ev::DELETE)),
            Step::Close => close(all),
            Step::CloseQueue => each(count, || drop(queue)),
        }
    }

    fn by_epoll(self, make: fn() -> Ready, count: usize) -> f64 {
        let all: Vec<Ready> = (0..count).map(|_| make()).collect();
        let epoll = Epoll::new();
        let (input, both) = (For::Read.events(), For::Read.events() | For::Write.events());
        let add = |events| {
            for ready in &all {
                epoll.add(&ready.watched, events);
            }
        };
        let adds = [Step::Add, Step::AddMany, Step::AddBoth, Step::AddAll];
        if !adds.contains(&self) {
            add(input);
        }
        match self {
            Step::Add | Step::AddMany => each(count, || add(input)),
            Step::AddBoth | Step::AddAll => each(count, || add(both)),
            Step::AddAgain => each(count, || {
                for ready in &all {
                    epoll.modify(&ready.watched, input);
                }
            }),
            Step::OnAndOff | Step::OnAndOffWaiting => each(count, || {
                for ready in &all {
                    epoll.modify(&ready.watched, both);
                    epoll.modify(&ready.watched, input);
                }
            }),
            Step::Delete => each(count, || {
                for ready in &all {
                    epoll.delete(&ready.watched);
                }
            }),
            Step::Close => close(all),
            Step::CloseQueue => each(count, || drop(epoll)),
        }
    }
}

/// The cost of the two changes in a call that waits anyway.
fn on_and_off_waiting(queue: &Kqueue, all: &[Ready]) -> f64 {
    let wait = |changes: &[Event]| {
        let mut got = [Event::default()];
        Kevents::kevent(queue, changes, &mut got, Some(Duration::ZERO));
    };
    let alone = each(all.len(), || all.iter().for_each(|_| wait(&[])));
    let together = each(all.len(), || {
        for ready in all {
            let fd = ready.watched.as_raw_fd();
            wait(&[ev::ENABLE, ev::DISABLE].map(|flags| Event::fd(fd, Filter::WRITE, flags)));
        }
    });
    together - alone
}

/// The nanoseconds for close(2) of each watched descriptor. The objects that keep them ready are
/// closed later.
fn close(all: Vec<Ready>) -> f64 {
    let count = all.len();
    let mut watch = Stopwatch::default();
    let mut others = Vec::with_capacity(count);
    for ready in all {
        let (watched, other) = ready.split();
        others.push(other);
        watch.time(|| drop(watched));
    }
    watch.each(count)
}

/// close(2) of TCP sockets that are registered with an epoll, or with nothing.
pub fn close_of_tcp(count: usize, with_epoll: bool) -> f64 {
    let make = STATES[0].make;
    if with_epoll {
        Step::Close.by_epoll(make, count)
    } else {
        close((0..count).map(|_| make()).collect())
    }
}

/// exit(2) of a process whose descriptors are registered with an epoll.
pub fn exit_by_epoll(count: usize) -> f64 {
    exit(count, |all| {
        let epoll = Epoll::new();
        for ready in all {
            epoll.add(&ready.watched, For::Read.events());
        }
        std::mem::forget(epoll);
    })
}

/// exit(2) of a process with many registrations.
pub fn exit(count: usize, register: impl Fn(&[Ready])) -> f64 {
    // Eventfds, whose own close costs the least.
    let state = STATES.iter().find(|state| state.kind == "eventfd");
    let make = state.expect("there are eventfds").make;
    // SAFETY: The child registers, waits for a byte, and exits.
    unsafe {
        let mut fds = [0; 4];
        assert_eq!(libc::pipe(fds.as_mut_ptr()), 0);
        assert_eq!(libc::pipe(fds[2..].as_mut_ptr()), 0);
        let pid = libc::fork();
        assert!(pid >= 0);
        let mut byte = 0u8;
        if pid == 0 {
            let all: Vec<Ready> = (0..count).map(|_| make()).collect();
            register(&all);
            libc::write(fds[1], (&raw const byte).cast(), 1);
            libc::read(fds[2], (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
        libc::read(fds[0], (&raw mut byte).cast(), 1);
        let cost = each(count, || {
            libc::write(fds[3], (&raw const byte).cast(), 1);
            assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
        });
        for fd in fds {
            libc::close(fd);
        }
        cost
    }
}

/// All operations for each kind.
pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let count = scale.pick(256, 16);
    for state in kinds() {
        let make = state.make;
        for step in Step::ALL {
            if step.excluded(state).is_some() {
                continue;
            }
            let title = format!("{} of {}", step.name(), state.kind);
            run(Case::new('o', title, step.target())
                .cell(Cell::new(state.kind, "life", step.name(), count))
                .side("kqueue", move || step.by_kevent(make, count))
                .side("epoll", move || step.by_epoll(make, count)));
        }
    }
    let many = scale.pick(10_000, 200);
    let title = format!("exit with {many} of eventfd");
    run(Case::new('o', title, 1.0)
        .cell(Cell::new("eventfd", "life", "exit", many))
        .side("kqueue", move || {
            exit(many, |all| {
                let queue = kqueue();
                let add =
                    |ready: &Ready| Event::fd(ready.watched.as_raw_fd(), Filter::READ, ev::ADD);
                queue.change(&all.iter().map(add).collect::<Vec<_>>());
                std::mem::forget(queue);
            })
        })
        .side("epoll", move || exit_by_epoll(many))
        .rounds(3));
}

/// The reason for each cell that is left out.
pub fn excluded() -> impl Iterator<Item = &'static str> {
    let reasons = kinds().map(|state| Step::ALL.map(|step| step.excluded(state)));
    reasons.flatten().flatten()
}
