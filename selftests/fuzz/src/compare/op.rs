// SPDX-License-Identifier: GPL-2.0

//! The operations of a compared round, and how they are chosen.

use super::{
    exchange::{Crowd, Exchange, STREAMS},
    kin::{Deed, Kin},
};
use crate::{chaos::kinds::KINDS, operation::Operation, random::Random};
use kqueue::note;

/// The number of descriptors that a round uses.
pub const SLOTS: u8 = 12;

/// Kinds that are not compared, because a call of poll(2) changes its own result, or because they
/// need a server.
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

/// An action on a descriptor.
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
    /// Writes until no room is left.
    Fill,
    /// Reads until no data is left.
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

/// One operation. An operation that cannot be applied is skipped, so any part of a list is a valid
/// list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opens descriptors of one kind. The seed determines how, and `at` are their slots.
    Open {
        kind: usize,
        seed: u64,
        at: [u8; 3],
    },
    /// Opens a socket that is not bound and not connected.
    Bare(u8, u8),
    /// Opens the file of a descriptor again, with other flags.
    Reopen(u8, u8, i32),
    Dup(u8, u8),
    Close(u8),
    Act(u8, Act, usize),
    Sleep(u8),
    Exchange(Exchange),
    Crowd(Crowd),
    /// Waits for a number of milliseconds. Meanwhile a knote that is not ready is activated all the
    /// time.
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
            // Pipes wake their readers least often, so they are used most often.
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

impl Operation for Op {
    fn random(random: &mut Random) -> Self {
        op(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_follow_from_their_seed() {
        crate::operation::tests::check::<Op>(11);
    }

    #[test]
    fn what_is_left_out_has_that_name() {
        let exists = |name: &&str| KINDS.iter().any(|kind| kind.0 == *name);
        assert!(LEFT_OUT.iter().all(exists) && STREAMS.iter().all(exists));
    }
}
