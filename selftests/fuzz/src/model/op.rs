// SPDX-License-Identifier: GPL-2.0

//! The operations of a checked round, and where they come from.

use crate::random::Random;
use kqueue::{ev, note, Filter};

/// How many descriptors a round plays with.
pub const SLOTS: usize = 12;
/// How many kqueues. The last one watches the others.
pub const QUEUES: usize = 3;
/// How many children.
pub const CHILDREN: usize = 2;
/// Signals that are blocked, so that they are counted and no more: two that are merged, and one that is queued.
pub const SIGNALS: [i32; 3] = [libc::SIGUSR1, libc::SIGUSR2, 40];

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Fd(u8),
    User(u16),
    Timer(u8),
    Signal(u8),
    Child(u8),
    Queue(u8),
    /// There is no such filter.
    Nothing,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub target: Target,
    pub filter: Filter,
    pub flags: u16,
    pub fflags: u32,
    pub data: i64,
}

/// How a call with changes is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Each is answered.
    Receipts,
    /// The same call collects at most so many events.
    Collect(u8),
    /// There is no room for an answer.
    Silent,
}

/// Where events are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Good,
    /// Memory that was never touched, but for the page of the first so many.
    Fresh(u8),
    /// The memory ends after so many.
    Short(u8),
    /// It cannot be written to.
    ReadOnly,
}

/// Who closes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    Close,
    Range,
    /// A child that shares the descriptors.
    Sharer,
    /// io_uring.
    Ring,
    /// dup2(2) of something else, which is closed in turn.
    Dup,
}

/// One operation. What it cannot be applied to is skipped, so that any part of a list is one as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Pipe(u8, u8),
    Pair(u8, u8),
    Eventfd(u8, u32),
    File(u8),
    Dup(u8, u8),
    Close(u8, Closer),
    CloseRange(u8, u8),
    Write(u8, u16),
    Read(u8, u16),
    /// Until there is no more room.
    Fill(u8),
    Seek(u8, u16),
    Chmod(u8),
    /// A child with copies of all descriptors, until released.
    Hold,
    Release,
    /// A child closes its own copies.
    ChildCloses,
    /// A child tries to use the kqueue.
    ChildUses(u8),
    /// Closes it, and opens another one.
    Reopen(u8),
    /// Opens and closes a copy of it.
    Copy(u8),
    Changes(u8, How, Vec<Change>),
    /// So many one-shot user events.
    Burst(u8, u16),
    Collect(u8, u16, Memory),
    /// With room for so many at a time, until all have come that must.
    CollectAll(u8, u8),
    Signal(u8),
    Spawn(u8),
    End(u8),
    Reap(u8),
    Sleep(u8),
    Poll(u8),
    Info(u8),
}

fn change(random: &mut Random, queue: u8) -> Change {
    let outer = usize::from(queue) == QUEUES - 1;
    let (target, filter) = match random.weighted(&[10, 6, 3, 3, 1, u32::from(outer) * 4, 1]) {
        0 => {
            let filter = random.pick(&[Filter::READ, Filter::READ, Filter::WRITE, Filter::VNODE]);
            (Target::Fd(random.below(SLOTS as u64) as u8), filter)
        }
        1 => (Target::User(random.below(6) as u16), Filter::USER),
        2 => (Target::Timer(random.below(3) as u8), Filter::TIMER),
        3 => (Target::Signal(random.below(3) as u8), Filter::SIGNAL),
        4 => (
            Target::Child(random.below(CHILDREN as u64) as u8),
            Filter::PROC,
        ),
        5 => (
            Target::Queue(random.below(QUEUES as u64 - 1) as u8),
            Filter::READ,
        ),
        _ => (Target::Nothing, Filter(random.pick(&[-12, 0, 1, i16::MIN]))),
    };
    let mut flags = match random.weighted(&[60, 10, 10, 10, 10]) {
        0 => {
            let property = random.pick(&[0, 0, 0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH]);
            let more = random.pick(&[0, 0, 0, 0, ev::CLEAR, ev::DISABLE, ev::ENABLE]);
            ev::ADD | property | more
        }
        1 => 0,
        2 => ev::DELETE,
        3 => ev::ENABLE,
        _ => ev::DISABLE,
    };
    let (mut fflags, mut data) = (0, 0);
    match filter {
        Filter::USER => {
            let operation = [note::FFNOP, note::FFAND, note::FFOR, note::FFCOPY];
            fflags = random.pick(&operation) | random.below(8) as u32;
            if random.chance(60) {
                fflags |= note::TRIGGER;
            }
            data = random.below(100) as i64;
            if random.chance(5) {
                flags |= ev::CLEAR;
            }
        }
        Filter::TIMER if flags & ev::ADD != 0 => {
            data = random.pick(&[1, 2, 5, 20, 3_600_000]);
        }
        Filter::PROC => fflags = note::EXIT,
        Filter::VNODE => fflags = note::WRITE | note::EXTEND | note::ATTRIB,
        Filter::READ if matches!(target, Target::Fd(_)) && random.chance(10) => {
            fflags = note::LOWAT;
            data = random.below(800) as i64;
        }
        _ => {}
    }
    if random.chance(5) {
        flags |= ev::KEEPUDATA;
    }
    Change {
        target,
        filter,
        flags,
        fflags,
        data,
    }
}

fn changes(random: &mut Random) -> Op {
    let queue = random.below(QUEUES as u64) as u8;
    let how = match random.weighted(&[4, 4, 1]) {
        0 => How::Receipts,
        1 => How::Collect(random.pick(&[1, 1, 2, 4, 16, 64])),
        _ => How::Silent,
    };
    let count = random.pick(&[1, 1, 1, 2, 3, 8, 20]);
    let list = (0..count).map(|_| change(random, queue)).collect();
    Op::Changes(queue, how, list)
}

fn collect(random: &mut Random) -> Op {
    let queue = random.below(QUEUES as u64) as u8;
    let memory = match random.weighted(&[12, 2, 2, 1]) {
        0 => Memory::Good,
        1 => Memory::Fresh(random.below(4) as u8),
        2 => Memory::Short(random.below(20) as u8),
        _ => Memory::ReadOnly,
    };
    Op::Collect(
        queue,
        random.pick(&[1, 1, 2, 3, 8, 16, 17, 64, 400]),
        memory,
    )
}

fn op(random: &mut Random) -> Op {
    let mut slot = || random.below(SLOTS as u64) as u8;
    let (a, b) = (slot(), slot());
    let queue = random.below(QUEUES as u64) as u8;
    let size = random.pick(&[1, 1, 8, 100, 600]);
    let weights = [
        3, 3, 2, 2, 3, 4, 1, 12, 8, 2, 3, 2, 1, 1, 1, 1, 1, 1, 26, 1, 16, 3, 5, 1, 1, 1, 1, 1, 5,
    ];
    match random.weighted(&weights) {
        0 => Op::Pipe(a, b),
        1 => Op::Pair(a, b),
        2 => Op::Eventfd(a, random.below(2) as u32),
        3 => Op::File(a),
        4 => Op::Dup(a, b),
        5 => {
            let closers = [
                Closer::Close,
                Closer::Close,
                Closer::Close,
                Closer::Range,
                Closer::Dup,
                Closer::Sharer,
                Closer::Ring,
            ];
            Op::Close(a, random.pick(&closers))
        }
        6 => Op::CloseRange(a.min(b), a.max(b)),
        7 => Op::Write(a, size),
        8 => Op::Read(a, random.pick(&[1, 100, 600, 4096, 65535])),
        9 => Op::Fill(a),
        10 => Op::Seek(a, random.pick(&[0, 0, 1, 500, 2000])),
        11 => Op::Chmod(a),
        12 => Op::Hold,
        13 => Op::Release,
        14 => Op::ChildCloses,
        15 => Op::ChildUses(queue),
        16 => Op::Reopen(queue),
        17 => Op::Copy(queue),
        18 => changes(random),
        19 => Op::Burst(queue, random.pick(&[3, 17, 70, 200, 300])),
        20 => collect(random),
        21 => Op::CollectAll(queue, random.pick(&[1, 2, 5, 16, 40])),
        22 => Op::Signal(random.below(SIGNALS.len() as u64) as u8),
        23 => Op::Spawn(random.below(CHILDREN as u64) as u8),
        24 => Op::End(random.below(CHILDREN as u64) as u8),
        25 => Op::Reap(random.below(CHILDREN as u64) as u8),
        26 => Op::Sleep(random.below(8) as u8),
        27 => Op::Poll(queue),
        _ => Op::Info(queue),
    }
}

/// So many operations.
pub fn generate(seed: u64, steps: usize) -> Vec<Op> {
    let mut random = Random::new(seed);
    (0..steps).map(|_| op(&mut random)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_list() {
        assert_eq!(generate(3, 500), generate(3, 500));
        assert_eq!(generate(3, 500)[..100], generate(3, 100)[..]);
        assert_ne!(generate(3, 100), generate(4, 100));
    }

    #[test]
    fn all_kinds_of_operations_come() {
        let list = generate(1, 20_000);
        let kinds: std::collections::HashSet<_> = list.iter().map(std::mem::discriminant).collect();
        assert_eq!(kinds.len(), 29);
    }
}
