// SPDX-License-Identifier: GPL-2.0

//! Kqueues that watch kqueues, and epolls in between.

use crate::{close::dup, common::*};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

fn trigger(kqueue: &Kqueue) {
    change(
        kqueue,
        &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER)],
    );
}

fn epoll_of(kqueue: &Kqueue) -> OwnedFd {
    // SAFETY: The descriptor is new and ours; one event.
    unsafe {
        let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 5,
        };
        let fd = kqueue.as_raw_fd();
        assert_eq!(
            libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event),
            0
        );
        epoll
    }
}

#[test]
fn a_kqueue_reports_the_number_of_pending_events() {
    let (inner, outer) = (kqueue(), kqueue());
    change(&outer, &[add_read(&inner, 0)]);
    assert!(pending(&outer).is_empty());
    trigger(&inner);
    assert_eq!(one(&outer).data, 1);
    change(
        &inner,
        &[Event::new(2, Filter::USER, ev::ADD).fflags(note::TRIGGER)],
    );
    assert_eq!(one(&outer).data, 2);
    assert_eq!(pending(&inner).len(), 2);
    assert_eq!(one(&outer).data, 1);
}

/// A watcher with `EV_CLEAR` that has not collected the first event is notified of the next one.
#[test]
fn clear_reports_each_event() {
    let (inner, outer) = (kqueue(), kqueue());
    let fd = inner.as_raw_fd();
    // SAFETY: The descriptor is new and ours; one event.
    let epoll = unsafe {
        let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 5,
        };
        let added = libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event);
        assert_eq!(added, 0);
        epoll
    };
    let edges = |timeout: i32| {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: There is room for one event.
        unsafe { libc::epoll_wait(epoll.as_raw_fd(), &mut event, 1, timeout) }
    };
    change(&outer, &[add_read(&inner, ev::CLEAR)]);
    for ident in 1..5 {
        change(
            &inner,
            &[Event::new(ident, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER)],
        );
        assert_eq!(one(&outer).data, ident as i64);
        assert!(pending(&outer).is_empty());
        assert_eq!(edges(SOON.as_millis() as i32), 1);
        assert_eq!(edges(0), 0);
    }
    assert_eq!(pending(&inner).len(), 4);
}

#[test]
fn a_kqueue_cannot_be_written_to() {
    let (inner, outer) = (kqueue(), kqueue());
    assert_eq!(change_error(&outer, add_write(&inner, 0)), libc::EOPNOTSUPP);
}

/// Differs from DragonFly, FreeBSD: A kqueue cannot watch itself, nor can kqueues watch each other
/// in a cycle; the change fails with ELOOP.
/// Because each event would cause another one. FreeBSD refuses only a kqueue that watches itself,
/// with EINVAL; epoll returns ELOOP.
#[test]
fn a_kqueue_cannot_watch_itself() {
    let kqueue = kqueue();
    assert_eq!(change_error(&kqueue, add_read(&kqueue, 0)), libc::ELOOP);
    trigger(&kqueue);
    one(&kqueue);
}

#[test]
fn cycles_are_refused() {
    let queues: Vec<_> = (0..3).map(|_| kqueue()).collect();
    change(&queues[0], &[add_read(&queues[1], 0)]);
    change(&queues[1], &[add_read(&queues[2], 0)]);
    for inner in &queues[..2] {
        assert_eq!(change_error(&queues[2], add_read(inner, 0)), libc::ELOOP);
    }
    // Without one edge there is no cycle any more.
    change(
        &queues[0],
        &[Event::fd(queues[1].as_raw_fd(), Filter::READ, ev::DELETE)],
    );
    change(&queues[2], &[add_read(&queues[0], 0)]);
    trigger(&queues[0]);
    one(&queues[1]);
}

/// Watches a triggered kqueue by a one-shot knote, and collects the event.
fn spend(outer: &Kqueue, inner: &impl AsRawFd) {
    change(outer, &[add_read(inner, ev::ONESHOT)]);
    assert_eq!(one(outer).ident, inner.as_raw_fd() as u64);
}

/// A one-shot knote may stay in the kqueue after its event, but it does not exist for the program.
#[test]
fn a_delivered_one_shot_knote_closes_no_cycle() {
    let queues: Vec<_> = (0..3).map(|_| kqueue()).collect();
    trigger(&queues[1]);
    change(&queues[1], &[add_read(&queues[2], 0)]);
    spend(&queues[0], &queues[1]);
    // The knote that was delivered is the only edge between the first kqueue and the second one.
    change(&queues[2], &[add_read(&queues[0], ev::CLEAR)]);
    let again = add_read(&queues[1], ev::ONESHOT);
    assert_eq!(change_error(&queues[0], again), libc::ELOOP);
    let delete = Event::fd(queues[1].as_raw_fd(), Filter::READ, ev::DELETE);
    assert_eq!(change_error(&queues[0], delete), libc::ENOENT);
    trigger(&queues[0]);
    assert_eq!(one(&queues[2]).ident, queues[0].as_raw_fd() as u64);
    // Without the new edge, it can be added again.
    let delete = Event::fd(queues[0].as_raw_fd(), Filter::READ, ev::DELETE);
    change(&queues[2], &[delete]);
    one(&queues[0]);
    spend(&queues[0], &queues[1]);
    assert_eq!(
        change_error(&queues[1], add_read(&queues[1], 0)),
        libc::ELOOP
    );
}

/// A one-shot knote that was added again after its event does close a cycle.
#[test]
fn a_renewed_one_shot_knote_closes_a_cycle() {
    let (inner, outer) = (kqueue(), kqueue());
    trigger(&inner);
    for _ in 0..3 {
        spend(&outer, &inner);
    }
    change(&outer, &[add_read(&inner, ev::ONESHOT)]);
    let back = add_read(&outer, 0);
    assert_eq!(change_error(&inner, back), libc::ELOOP);
    assert_eq!(one(&outer).ident, inner.as_raw_fd() as u64);
    change(&inner, &[back]);
    assert_eq!(change_error(&outer, add_read(&inner, 0)), libc::ELOOP);
}

/// Neither do such knotes count as paths, up or down.
#[test]
fn delivered_one_shot_knotes_are_no_paths() {
    let (inner, outer, outermost) = (kqueue(), kqueue(), kqueue());
    trigger(&inner);
    let again = duplicates(&inner, 3 * PATHS);
    for fd in &again {
        // This may be refused only if earlier ones still counted.
        spend(&outer, fd);
    }
    change(&outermost, &[add_read(&outer, ev::CLEAR)]);
    spend(&outer, &again[0]);
    let changes = again[..PATHS / 2].iter().map(|fd| add_read(fd, ev::CLEAR));
    change(&outer, &changes.collect::<Vec<_>>());
    drop(again);
    trigger(&outer);
    assert!(one(&outermost).data > 0);
}

/// Nor do those of many kqueues that have watched the same one.
#[test]
fn delivered_one_shot_knotes_of_many_queues_are_no_paths() {
    let inner = kqueue();
    trigger(&inner);
    let outers: Vec<_> = (0..PATHS + 2).map(|_| kqueue()).collect();
    for outer in &outers {
        spend(outer, &inner);
    }
    change(&outers[0], &[add_read(&inner, ev::CLEAR)]);
    assert_eq!(one(&outers[0]).ident, inner.as_raw_fd() as u64);
}

/// Closing a kqueue that is watched by such a knote alone ends it.
#[test]
fn a_delivered_one_shot_knote_keeps_no_kqueue() {
    let (inner, outer, witness) = (kqueue(), kqueue(), kqueue());
    trigger(&inner);
    spend(&outer, &inner);
    let (reader, writer) = std::io::pipe().unwrap();
    change(&inner, &[add_read(&reader, 0)]);
    change(&witness, &[add_read(&reader, 0)]);
    let fd = inner.as_raw_fd();
    drop(inner);
    assert_eq!(
        change_error(&outer, Event::fd(fd, Filter::READ, ev::ADD | ev::ONESHOT)),
        libc::EBADF
    );
    std::io::Write::write_all(&mut &writer, b"x").unwrap();
    assert_eq!(one(&witness).data, 1);
    assert!(pending(&outer).is_empty());
}

/// The longest permitted chain is built from both ends, from one end, and from the other end. It
/// passes events on, and its links can be deleted in any order.
#[test]
fn long_chains() {
    raise_descriptor_limit();
    for length in [2, 6, 120, PATHS] {
        let mut upwards: Vec<_> = (0..length).collect();
        upwards.reverse();
        let downwards = (0..length).collect();
        let ends = (0..length).map(|at| {
            if at % 2 == 0 {
                at / 2
            } else {
                length - 1 - at / 2
            }
        });
        for order in [upwards, downwards, ends.collect()] {
            let queues: Vec<_> = (0..length + 2).map(|_| kqueue()).collect();
            let link = |outer: usize| add_read(&queues[outer + 1], ev::CLEAR);
            for outer in &order {
                change(&queues[*outer], &[link(*outer)]);
            }
            if length == PATHS {
                let error = change_error(&queues[length], link(length));
                assert_eq!(error, libc::ENOSPC);
            }
            // A cycle of any length is refused.
            let circle = add_read(&queues[0], 0);
            assert_eq!(change_error(&queues[length], circle), libc::ELOOP);
            for ident in 0..2 {
                let event = Event::new(ident, Filter::USER, ev::ADD | ev::CLEAR);
                change(&queues[length], &[event.fflags(note::TRIGGER)]);
                assert_eq!(one(&queues[0]).data, 1);
                for queue in &queues[..=length] {
                    let _ = pending(queue);
                }
            }
            // Every second kqueue is closed, and then the rest.
            let mut queues: Vec<_> = queues.into_iter().map(Some).collect();
            queues.iter_mut().step_by(2).for_each(|queue| *queue = None);
        }
    }
}

/// When a program exits and leaves a chain of kqueues, the chain is released link by link.
#[test]
fn a_long_chain_is_released_at_exit() {
    assert!(in_child(|| {
        raise_descriptor_limit();
        // Only the next kqueue holds a reference to each one but the outermost.
        let mut outer = kqueue();
        for _ in 0..PATHS {
            let inner = outer;
            outer = kqueue();
            change(&outer, &[add_read(&inner, 0)]);
            std::mem::forget(inner);
        }
        true
    }));
}

#[test]
fn layers_pass_an_event_on() {
    // There are 8 + 64 paths from the lowest kqueue.
    let layers: Vec<Vec<_>> = (0..3).map(|_| (0..8).map(|_| kqueue()).collect()).collect();
    for pair in layers.windows(2) {
        for outer in &pair[0] {
            let changes: Vec<_> = pair[1].iter().map(|inner| add_read(inner, 0)).collect();
            change(outer, &changes);
        }
    }
    trigger(&layers[2][0]);
    for outer in &layers[0] {
        assert_eq!(soon(outer).len(), 8);
    }
}

/// The largest number of paths up from a kqueue, and down from a kqueue that is watched.
const PATHS: usize = 512;

fn duplicates(kqueue: &Kqueue, count: usize) -> Vec<OwnedFd> {
    raise_descriptor_limit();
    let fd = kqueue.as_raw_fd();
    // SAFETY: The descriptors are new and ours.
    (0..count)
        .map(|_| unsafe { OwnedFd::from_raw_fd(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0)) })
        .collect()
}

fn raise_descriptor_limit() {
    let limit = libc::rlimit {
        rlim_cur: 65536,
        rlim_max: 65536,
    };
    // SAFETY: One structure; root may raise it.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Differs from DragonFly, FreeBSD: At most 512 paths lead up from a kqueue to those that watch it,
/// directly or through others, and a kqueue that is watched has at most 512 paths down; beyond that
/// EV_ADD fails with ENOSPC. So a chain has at most 513 kqueues.
/// Because a process that triggers an event pays for all of these paths; epoll has such limits too.
#[test]
fn the_number_of_paths_is_limited() {
    let inner = kqueue();
    let again = duplicates(&inner, PATHS + 1);
    let outers: Vec<_> = (0..10).map(|_| kqueue()).collect();
    for (index, fd) in again[..PATHS].iter().enumerate() {
        change(&outers[index % outers.len()], &[add_read(fd, ev::CLEAR)]);
    }
    for outer in &outers {
        let error = change_error(outer, add_read(&again[PATHS], 0));
        assert_eq!(error, libc::ENOSPC);
    }
    trigger(&inner);
    let mut told = 0;
    while told < PATHS {
        told += outers
            .iter()
            .map(|outer| pending(outer).len())
            .sum::<usize>();
    }
    assert_eq!(told, PATHS);
    // A deleted edge makes room.
    change(
        &outers[0],
        &[Event::fd(again[0].as_raw_fd(), Filter::READ, ev::DELETE)],
    );
    change(&outers[1], &[add_read(&again[PATHS], 0)]);
    drop(outers);
    let outer = kqueue();
    let changes: Vec<_> = again[..PATHS].iter().map(|fd| add_read(fd, 0)).collect();
    change(&outer, &changes);
    assert_eq!(
        change_error(&outer, add_read(&again[PATHS], 0)),
        libc::ENOSPC
    );
}

#[test]
fn a_kqueue_that_watches_many_cannot_be_watched() {
    const COUNT: usize = 4 * PATHS;
    raise_descriptor_limit();
    let (outer, outermost) = (kqueue(), kqueue());
    let inners: Vec<_> = (0..COUNT).map(|_| kqueue()).collect();
    let (few, many) = inners.split_at(PATHS);
    let add = |inners: &[Kqueue]| -> Vec<_> {
        let changes = inners.iter().map(|inner| add_read(inner, ev::CLEAR));
        changes.collect()
    };
    change(&outer, &add(few));
    change(&outermost, &[add_read(&outer, 0)]);
    assert_eq!(change_error(&outer, add(many)[0]), libc::ENOSPC);
    change(
        &outermost,
        &[Event::fd(outer.as_raw_fd(), Filter::READ, ev::DELETE)],
    );
    change(&outer, &add(many));
    assert_eq!(change_error(&outermost, add_read(&outer, 0)), libc::ENOSPC);
    trigger(&inners[COUNT - 1]);
    assert_eq!(one(&outer).ident, inners[COUNT - 1].as_raw_fd() as u64);
}

const KQUEUES: usize = 7;

/// A model of the graph: how often the first kqueue watches the second one.
#[derive(Default)]
struct Model([[usize; KQUEUES]; KQUEUES]);

impl Model {
    /// Returns the number of paths from a kqueue in one direction.
    fn paths(&self, from: usize, up: bool) -> usize {
        let edges = |to: usize| {
            if up {
                self.0[to][from]
            } else {
                self.0[from][to]
            }
        };
        let next = (0..KQUEUES).filter(|to| edges(*to) > 0);
        next.map(|to| edges(to) * (1 + self.paths(to, up))).sum()
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        from == to || (0..KQUEUES).any(|next| self.0[from][next] > 0 && self.reaches(next, to))
    }

    /// Returns the expected result of adding an edge. The edge is added if that is a success.
    fn add(&mut self, watcher: usize, watched: usize) -> Option<i32> {
        // The check stops at a graph that is too large.
        if self.paths(watched, false) > PATHS {
            return Some(libc::ENOSPC);
        }
        if self.reaches(watched, watcher) {
            return Some(libc::ELOOP);
        }
        self.0[watcher][watched] += 1;
        let too_many = (0..KQUEUES).any(|kqueue| {
            let (up, down) = (self.paths(kqueue, true), self.paths(kqueue, false));
            up > PATHS || (up > 0 && down > PATHS)
        });
        if too_many {
            self.0[watcher][watched] -= 1;
            return Some(libc::ENOSPC);
        }
        None
    }
}

#[test]
fn random_graphs_agree_with_a_model() {
    const DUPLICATES: usize = 8;
    let seed = 0x9e37_79b9_7f4a_7c15;
    let mut random = Random(seed);
    let mut outcomes = [0; 3];
    for round in 0..20 {
        let kqueues: Vec<_> = (0..KQUEUES).map(|_| kqueue()).collect();
        let fds: Vec<_> = kqueues
            .iter()
            .map(|kqueue| duplicates(kqueue, DUPLICATES))
            .collect();
        let mut model = Model::default();
        let mut there: Vec<(usize, usize, usize)> = Vec::new();
        for step in 0..300 {
            let place = format!("seed {seed:x} round {round} step {step}");
            if random.below(4) == 0 && !there.is_empty() {
                let at = random.below(there.len() as u64) as usize;
                let (watcher, watched, fd) = there.swap_remove(at);
                let fd = fds[watched][fd].as_raw_fd();
                change(
                    &kqueues[watcher],
                    &[Event::fd(fd, Filter::READ, ev::DELETE)],
                );
                model.0[watcher][watched] -= 1;
                continue;
            }
            // Most edges lead from lower to higher numbers. Otherwise most of them would close a
            // cycle.
            let (mut watcher, mut watched) = (
                random.below(KQUEUES as u64) as usize,
                random.below(KQUEUES as u64) as usize,
            );
            if random.below(16) != 0 && watcher > watched {
                (watcher, watched) = (watched, watcher);
            }
            let fd = random.below(DUPLICATES as u64) as usize;
            if there.contains(&(watcher, watched, fd)) {
                continue;
            }
            let expected = model.add(watcher, watched);
            let add = add_read(&fds[watched][fd], 0);
            let error = kqueues[watcher].kevent(&[add], &mut [], None).err();
            let error = error.and_then(|error| error.raw_os_error());
            assert_eq!(error, expected, "{place}: {watcher} watches {watched}");
            outcomes[match error {
                None => 0,
                Some(libc::ELOOP) => 1,
                _ => 2,
            }] += 1;
            if error.is_none() {
                there.push((watcher, watched, fd));
            }
        }
    }
    // All of them were seen.
    assert!(outcomes.iter().all(|count| *count > 50), "{outcomes:?}");
}

#[test]
fn closing_the_inner_ends_the_link() {
    let outer = kqueue();
    let inner = kqueue();
    change(&outer, &[add_read(&inner, 0)]);
    trigger(&inner);
    one(&outer);
    drop(inner);
    assert!(pending(&outer).is_empty());
}

#[test]
fn a_dup_keeps_a_kqueue_that_is_watched() {
    for watchers in 0..4 {
        let inner = kqueue();
        let other = Kqueue::from(dup(&inner));
        let outers: Vec<_> = (0..watchers).map(|_| kqueue()).collect();
        for outer in &outers {
            change(outer, &[add_read(&inner, ev::CLEAR)]);
        }
        let (reader, writer) = pipe();
        change(&inner, &[add_write(&writer, ev::DISABLE)]);
        drop(writer);
        // The kqueue stays open after the close of the duplicate, and after the close of the
        // watched number while the other one is open.
        drop(Kqueue::from(dup(&other)));
        trigger(&inner);
        for outer in &outers {
            one(outer);
        }
        one(&other);
        drop(inner);
        let second = Event::new(2, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER);
        change(&other, &[second]);
        assert_eq!(one(&other).ident, 2);
        for outer in &outers {
            assert!(pending(outer).is_empty());
            change(outer, &[add_read(&other, 0)]);
        }
        // The close of the last descriptor ends the kqueue, which releases the pipe.
        drop(other);
        read(&reader, 0);
    }
}

#[test]
fn closing_the_outer_ends_the_link() {
    let inner = kqueue();
    for _ in 0..10 {
        let outer = kqueue();
        change(&outer, &[add_read(&inner, 0)]);
    }
    trigger(&inner);
    one(&inner);
}

#[test]
fn a_kqueue_of_an_epoll_of_a_kqueue() {
    let (inner, outer) = (kqueue(), kqueue());
    let epoll = epoll_of(&inner);
    change(&outer, &[add_read(&epoll, 0)]);
    assert!(pending(&outer).is_empty());
    trigger(&inner);
    assert_eq!(one(&outer).ident, epoll.as_raw_fd() as u64);
    one(&inner);
    assert!(pending(&outer).is_empty());
}

#[test]
fn a_cycle_through_an_epoll_is_harmless() {
    let kqueue = kqueue();
    let epoll = epoll_of(&kqueue);
    change(&kqueue, &[add_read(&epoll, 0)]);
    change(&kqueue, &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
    for _ in 0..20 {
        change(
            &kqueue,
            &[Event::new(1, Filter::USER, 0).fflags(note::TRIGGER)],
        );
        let events = soon(&kqueue);
        assert!(events.iter().any(|event| event.filter == Filter::USER));
    }
    drop(epoll);
    assert!(pending(&kqueue).is_empty());
}
