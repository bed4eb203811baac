// SPDX-License-Identifier: GPL-2.0

//! (n) Collect descriptors of every kind, in every state that stays ready, registered in every way.
//!
//! The cells are generated from the lists of [`STATES`], [`Way`] and numbers. A combination that
//! cannot exist is left out by a rule that has a reason ([`absent`], [`Way::excluded`]). A test
//! checks that each combination of kind, direction and state is either measured or left out.

use super::states::{absent, combinations, For, Peer, Ready, State, STATES};
use crate::{
    measure::{Case, Cell, Stopwatch},
    queue::{kqueue, Epoll, EpollEvent, Kevents},
    sys::Kind,
    Scale,
};
use kqueue::{ev, note, Event};
use std::{os::fd::AsRawFd, rc::Rc};

/// The number of collections in one round.
const TIMES: usize = 20;

/// A way to register a descriptor.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Level-triggered.
    Level,
    /// `EV_CLEAR` and `EPOLLET`. `EV_ADD` and `EPOLL_CTL_MOD`, which are not measured, make the
    /// descriptor pending again.
    Clear,
    /// `EV_ONESHOT` and `EPOLLONESHOT`. Adding it again is measured as well: with kevent(2), the
    /// call that collects does that.
    Oneshot,
    /// `EV_DISPATCH` and `EPOLLONESHOT`, measured in the same way.
    Dispatch,
    /// `NOTE_LOWAT` with a mark that is reached; epoll without a mark.
    LowWater,
}

impl Way {
    const ALL: [Way; 5] = [
        Way::Level,
        Way::Clear,
        Way::Oneshot,
        Way::Dispatch,
        Way::LowWater,
    ];

    fn name(self) -> &'static str {
        match self {
            Way::Level => "level",
            Way::Clear => "EV_CLEAR",
            Way::Oneshot => "EV_ONESHOT",
            Way::Dispatch => "EV_DISPATCH",
            Way::LowWater => "NOTE_LOWAT",
        }
    }

    /// The target ratio. More is allowed where the bytes have to be counted under a lock or in a
    /// walk.
    fn target(self, state: &State, ready: usize) -> f64 {
        let is_counted = [
            "UDP",
            "UNIX datagram",
            "UNIX seqpacket",
            "netlink",
            "pipe",
            "FIFO",
            "terminal",
            "terminal master",
        ]
        .contains(&state.kind)
            && state.what == For::Read
            && state.state.contains("data");
        match (self, ready) {
            (Way::Oneshot, 1) => 0.9,
            (Way::Oneshot, _) => 0.7,
            (_, 1) => 1.0,
            _ if is_counted => 1.1,
            _ => 0.9,
        }
    }

    /// The reason why a state cannot be registered in this way.
    fn excluded(self, state: &State) -> Option<&'static str> {
        match self {
            Way::LowWater if !state.is_counted => {
                Some("NOTE_LOWAT: nothing is counted, so that every mark is reached")
            }
            Way::Clear | Way::Oneshot | Way::Dispatch if state.peer == Peer::Poll => {
                Some("EV_CLEAR, EV_ONESHOT, EV_DISPATCH: poll(2) has no such way")
            }
            _ => None,
        }
    }

    /// The flags of the first registration.
    fn flags(self) -> u16 {
        match self {
            Way::Level | Way::LowWater => ev::ADD,
            Way::Clear => ev::ADD | ev::CLEAR,
            Way::Oneshot => ev::ADD | ev::ONESHOT,
            Way::Dispatch => ev::ADD | ev::DISPATCH,
        }
    }

    /// The flags of the changes of the call that collects.
    fn again(self) -> Option<u16> {
        match self {
            Way::Level | Way::LowWater | Way::Clear => None,
            Way::Oneshot => Some(ev::ADD | ev::ONESHOT),
            Way::Dispatch => Some(ev::ENABLE | ev::DISPATCH),
        }
    }

    fn epoll_flags(self) -> libc::c_int {
        match self {
            Way::Level | Way::LowWater => 0,
            Way::Clear => libc::EPOLLET,
            Way::Oneshot | Way::Dispatch => libc::EPOLLONESHOT,
        }
    }
}

fn by_kevent(all: Rc<Vec<Ready>>, state: &'static State, way: Way) -> impl FnMut() -> f64 {
    let queue = kqueue();
    let changes = |flags| -> Vec<Event> {
        let event = |ready: &Ready| {
            let event = Event::fd(ready.watched.as_raw_fd(), state.what.filter(), flags);
            if way == Way::LowWater {
                event.fflags(note::LOWAT).data(1)
            } else {
                event
            }
        };
        all.iter().map(event).collect()
    };
    let add = changes(way.flags());
    let again = way.again().map(changes).unwrap_or_default();
    queue.change(&add);
    let mut got = vec![Event::default(); all.len()];
    let open = all.clone();
    move || {
        let mut watch = Stopwatch::default();
        for time in 0..TIMES {
            if way == Way::Clear && time > 0 {
                queue.change(&add);
            }
            // Events that the first registration has made pending are collected without changes.
            let mut changes = if time > 0 { &again[..] } else { &[] };
            if time == 0 && way.again().is_some() {
                queue.change(&again);
            }
            let mut left = open.len();
            while left > 0 {
                let count = if time == 0 {
                    Kevents::wait(&queue, &mut got)
                } else {
                    watch.time(|| Kevents::kevent(&queue, changes, &mut got, None))
                };
                changes = &[];
                left = left.saturating_sub(count);
            }
        }
        if way == Way::Clear {
            queue.change(&add);
        }
        watch.each((TIMES - 1) * open.len())
    }
}

fn by_epoll(all: Rc<Vec<Ready>>, state: &'static State, way: Way) -> impl FnMut() -> f64 {
    let epoll = Epoll::new();
    let events = state.what.events() | way.epoll_flags();
    for ready in all.iter() {
        epoll.add(&ready.watched, events);
    }
    let mut got = vec![EpollEvent { events: 0, u64: 0 }; all.len()];
    move || {
        let again = || {
            for ready in all.iter() {
                epoll.modify(&ready.watched, events);
            }
        };
        let mut watch = Stopwatch::default();
        again();
        for time in 0..TIMES {
            if time > 0 && way == Way::Clear {
                again();
            }
            if time > 0 && way.again().is_some() {
                watch.time(again);
            }
            let mut left = all.len();
            while left > 0 {
                let count = if time == 0 {
                    epoll.wait(&mut got, -1)
                } else {
                    watch.time(|| epoll.wait(&mut got, -1))
                };
                left = left.saturating_sub(count);
            }
        }
        watch.each((TIMES - 1) * all.len())
    }
}

fn by_poll(all: Rc<Vec<Ready>>, state: &'static State) -> impl FnMut() -> f64 {
    let one = |ready: &Ready| libc::pollfd {
        fd: ready.watched.as_raw_fd(),
        events: state.what.events() as libc::c_short,
        revents: 0,
    };
    let mut list: Vec<_> = all.iter().map(one).collect();
    move || {
        let mut watch = Stopwatch::default();
        for _ in 0..TIMES {
            // SAFETY: The list has this length.
            let count = watch
                .time(|| unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, -1) });
            assert_eq!(count as usize, all.len());
        }
        watch.each(TIMES * all.len())
    }
}

/// All cells in turn.
pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let numbers = numbers(scale);
    // The first eventfd of the system is not used, because the module reads its counter as text.
    let _first = Kind::Eventfd.pair();
    for state in STATES {
        for &ready in numbers {
            let all: Rc<Vec<Ready>> = Rc::new((0..ready).map(|_| (state.make)()).collect());
            for way in Way::ALL {
                if way.excluded(state).is_some() {
                    continue;
                }
                let (kind, name) = (state.kind, state.state);
                let title = format!("collect {ready} of {kind}, {name}, {}", way.name());
                let case = Case::new('n', title, way.target(state, ready))
                    .cell(Cell::new(kind, name, way.name(), ready))
                    .side("kqueue", by_kevent(all.clone(), state, way));
                run(match state.peer {
                    Peer::Epoll => case.side("epoll", by_epoll(all.clone(), state, way)),
                    Peer::Poll => case.side("poll", by_poll(all.clone(), state)),
                });
            }
        }
    }
}

/// The numbers of ready descriptors.
fn numbers(scale: Scale) -> &'static [usize] {
    &[1, 16, 256][..scale.pick(3, 2)]
}

/// The reason for each cell that is left out.
pub fn excluded(scale: Scale) -> impl Iterator<Item = &'static str> {
    let ways = STATES
        .iter()
        .flat_map(|state| Way::ALL.map(|way| way.excluded(state)))
        .flatten();
    let absent = combinations().filter_map(|(kind, what, state)| absent(kind, what, state));
    let absent = absent.flat_map(|reason| Way::ALL.map(|_| reason));
    let reasons = ways.chain(absent);
    reasons.flat_map(move |reason| numbers(scale).iter().map(move |_| reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_combination_is_measured_or_left_out_for_a_reason() {
        let mut measured = HashSet::new();
        for state in STATES {
            let key = (state.kind, state.what, state.state);
            assert!(measured.insert(key), "{} {} twice", state.kind, state.state);
        }
        for (kind, what, state) in combinations() {
            let is_measured = measured.remove(&(kind, what, state));
            let is_absent = absent(kind, what, state).is_some();
            assert!(
                is_measured != is_absent,
                "{kind} {what:?} {state}: measured {is_measured}, left out {is_absent}",
            );
        }
        assert!(measured.is_empty(), "not combinations: {measured:?}");
    }

    #[test]
    fn each_state_is_ready_and_stays_ready() {
        // A kqueue needs the module, and the signal would end the other threads of the test.
        let can_be_tested = |state: &&State| !["kqueue", "signalfd"].contains(&state.kind);
        for state in STATES.iter().filter(can_be_tested) {
            let ready = (state.make)();
            for _ in 0..2 {
                let mut one = libc::pollfd {
                    fd: ready.watched.as_raw_fd(),
                    events: state.what.events() as libc::c_short,
                    revents: 0,
                };
                // SAFETY: The list has one element.
                let count = unsafe { libc::poll(&mut one, 1, 1000) };
                assert_eq!(count, 1, "{} {}", state.kind, state.state);
                let has_error = one.revents & libc::POLLERR != 0;
                assert!(has_error || state.state != "error", "{}", state.kind);
            }
        }
    }
}
