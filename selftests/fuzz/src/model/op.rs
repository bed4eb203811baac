// SPDX-License-Identifier: GPL-2.0

//! The operations of a checked round, and how they are chosen.

use crate::{operation::Operation, random::Random};
use kqueue::{ev, note, Filter};

/// The number of descriptors that a round uses.
pub const SLOTS: usize = 12;
/// The number of kqueues. The last one watches the others.
pub const QUEUES: usize = 3;
/// The number of children.
pub const CHILDREN: usize = 2;
/// Blocked signals, which are only counted: two standard signals and one real-time signal, which is
/// queued.
pub const SIGNALS: [i32; 3] = [libc::SIGUSR1, libc::SIGUSR2, 40];

/// The object of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Fd(u8),
    User(u16),
    Timer(u8),
    Signal(u8),
    Child(u8),
    Queue(u8),
    /// The filter does not exist.
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
    /// Each change has `EV_RECEIPT`.
    Receipts,
    /// The same call collects at most this number of events.
    Collect(u8),
    /// The event list is empty.
    Silent,
}

/// The memory of the event list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Good,
    /// Memory that was never touched, except the page of the first events, which are this number.
    Fresh(u8),
    /// The memory ends after this number of events.
    Short(u8),
    /// The memory is read-only.
    ReadOnly,
}

/// The way in which a descriptor is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    Close,
    Range,
    /// A child that shares the descriptor table closes it.
    Sharer,
    /// io_uring closes it.
    Ring,
    /// dup2(2) replaces it by another file, which is closed afterwards.
    Dup,
}

/// One operation. An operation that cannot be applied is skipped, so any part of a list is a valid
/// list.
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
    /// Writes until no room is left.
    Fill(u8),
    Seek(u8, u16),
    Chmod(u8),
    /// Forks a child, which keeps copies of all descriptors until `Release`.
    Hold,
    Release,
    /// A child closes its copies of the descriptors.
    ChildCloses,
    /// A child tries to use the kqueue.
    ChildUses(u8),
    /// Closes a kqueue and opens another one.
    Reopen(u8),
    /// Opens and closes a duplicate of the kqueue's descriptor.
    Copy(u8),
    Changes(u8, How, Vec<Change>),
    /// Adds a number of one-shot user events.
    Burst(u8, u16),
    /// Adds a descriptor with `EV_ONESHOT`, for reading and for writing, and enables both knotes, this
    /// number of times. Each call collects events.
    Oneshots(u8, u8, u8),
    Collect(u8, u16, Memory),
    /// Collects events, at most this number per call, until all events that must come have come.
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
        3, 3, 2, 2, 3, 4, 1, 12, 8, 2, 3, 2, 1, 1, 1, 1, 1, 1, 26, 1, 16, 3, 5, 1, 1, 1, 1, 1, 4, 5,
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
        28 => Op::Oneshots(queue, a, random.pick(&[1, 2, 5])),
        _ => Op::Info(queue),
    }
}

impl Operation for Op {
    fn random(random: &mut Random) -> Self {
        op(random)
    }
}

#[cfg(test)]
mod tests {
    use super::Op;

    #[test]
    fn lists_follow_from_their_seed() {
        crate::operation::tests::check::<Op>(30);
    }
}
