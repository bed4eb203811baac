// SPDX-License-Identifier: GPL-2.0

//! The operations of a compared round, and where they come from.

use super::{
    exchange::{Crowd, Exchange, STREAMS},
    kin::{Deed, Kin},
};
use crate::{chaos::kinds::KINDS, random::Random};
use kqueue::note;

/// How many descriptors a round plays with.
pub const SLOTS: u8 = 12;

/// Kinds that are not compared: what poll(2) says of them changes by being asked, or they need a
/// server.
const LEFT_OUT: [&str; 8] = [
    "procfs",
    "sysfs",
    "userfaultfd",
    "io_uring",
    "fuse",
    "fuse_file",
    "binder",
    "perf",
];

/// What is done with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Write,
    Send,
    Read,
    Receive,
    Shutdown,
    Accept,
    Urgent,
    Listen,
    Disconnect,
    Mode,
    Seek,
    Truncate,
    /// Writes until there is no more room.
    Fill,
    /// Reads until there is nothing left.
    Drain,
    Timer,
    Flush,
}

const ACTS: [Act; 16] = [
    Act::Write,
    Act::Send,
    Act::Read,
    Act::Receive,
    Act::Shutdown,
    Act::Accept,
    Act::Urgent,
    Act::Listen,
    Act::Disconnect,
    Act::Mode,
    Act::Seek,
    Act::Truncate,
    Act::Fill,
    Act::Drain,
    Act::Timer,
    Act::Flush,
];

/// One operation. What it cannot be applied to is skipped, so that any part of a list is one as
/// well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Descriptors of that kind, opened as the seed says, at those places.
    Open {
        kind: usize,
        seed: u64,
        at: [u8; 3],
    },
    /// A socket that is not bound and not connected.
    Bare(u8, u8),
    /// Opens the file of a descriptor again, in another way.
    Reopen(u8, u8, i32),
    Dup(u8, u8),
    Close(u8),
    Act(u8, Act, usize),
    Sleep(u8),
    Exchange(Exchange),
    Crowd(Crowd),
    /// Waits for so many milliseconds while a knote is activated all the time that is not ready.
    Wait(u8),
    Kin(Kin),
}

fn op(random: &mut Random) -> Op {
    let mut slot = || random.below(SLOTS.into()) as u8;
    let at = [slot(), slot(), slot()];
    let [a, b, _] = at;
    match random.weighted(&[120, 15, 15, 20, 25, 600, 20, 6, 4, 1, 2]) {
        0 => {
            let kind = loop {
                let kind = random.index(KINDS.len());
                if !LEFT_OUT.contains(&KINDS[kind].0) {
                    break kind;
                }
            };
            let seed = random.next();
            Op::Open { kind, seed, at }
        }
        1 => Op::Bare(random.below(16) as u8, a),
        2 => {
            let ways = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_PATH];
            Op::Reopen(a, b, random.pick(&ways))
        }
        3 => Op::Dup(a, b),
        4 => Op::Close(a),
        5 => {
            let weights = [20, 14, 14, 8, 3, 6, 3, 3, 2, 5, 3, 2, 4, 8, 3, 1];
            let act = ACTS[random.weighted(&weights)];
            Op::Act(a, act, random.pick(&[1, 1, 2, 7, 64, 600, 4096, 20_000]))
        }
        6 => Op::Sleep(random.below(8) as u8),
        7 => Op::Exchange(Exchange {
            // What tells its readers least is tried most.
            kind: if random.chance(40) {
                0
            } else {
                random.index(STREAMS.len())
            },
            seed: random.next(),
            flags: random.pick(&Exchange::FLAGS),
            first: random.pick(&[0, 1, 100]),
            size: random.pick(&[1, 5000, 70_000, 300_000]),
            part: random.pick(&[1, 2, 4]),
            delay: random.pick(&[0, 2, 20, 60]),
        }),
        8 => Op::Crowd(Crowd {
            sleepers: 2 + random.below(4) as u8,
            events: random.pick(&[1, 2, 3, 5]),
            closed: random.pick(&[0, 1, 8, 40]),
            room: random.pick(&[1, 2, 20]),
        }),
        9 => Op::Wait(random.pick(&[1, 20])),
        _ => Op::Kin(Kin {
            deeds: [0; 5].map(|_| random.pick(&[Deed::Fork, Deed::Exec, Deed::Rise])),
            notes: random.pick(&[note::FORK, note::EXEC, note::FORK | note::EXEC]),
            every: random.pick(&[1, 2, 9]),
        }),
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
        assert_eq!(kinds.len(), 11);
    }

    #[test]
    fn what_is_left_out_has_that_name() {
        let exists = |name: &&str| KINDS.iter().any(|kind| kind.0 == *name);
        assert!(LEFT_OUT.iter().all(exists) && STREAMS.iter().all(exists));
    }
}
