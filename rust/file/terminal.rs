// SPDX-License-Identifier: GPL-2.0

//! Terminals and ptys. Their state is that of the line discipline.

use super::{poll, poll_events, Direction, FileState};
use crate::sys::{
    file::{ioctl, poll::PollEvents, terminal::Terminal},
    memory::user_scratch::UserScratch,
};
use kernel::fs::File;

pub(super) fn evaluate(
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<FileState> {
    let Some(terminal) = Terminal::of(file) else {
        return evaluate_without_discipline(file, direction, scratch);
    };
    let events = terminal.poll(poll_events(direction));
    state_of(events, direction, || match direction {
        // A terminal is readable without bytes when the end-of-file character was typed.
        Direction::Read => terminal.readable(scratch),
        Direction::Write => Some(terminal.write_room()),
        Direction::Except => None,
    })
}

/// Evaluates a terminal that has hung up, or that is changing its line discipline. `->poll` waits
/// for the end of the change. The number of bytes is then read by ioctl(2), which waits for the
/// next change too. If the next change has begun, the room is not known, and is reported as 1.
#[cold]
fn evaluate_without_discipline(
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<FileState> {
    let events = poll(file, direction);
    state_of(events, direction, || match direction {
        Direction::Read => ioctl::readable(file, scratch),
        Direction::Write => Some(Terminal::of(file).map_or(1, |terminal| terminal.write_room())),
        Direction::Except => None,
    })
}

/// The state if poll(2) reports `events`. A terminal that has hung up is ready, and accepts
/// nothing.
#[inline(always)]
fn state_of(
    events: PollEvents,
    direction: Direction,
    count: impl FnOnce() -> Option<i64>,
) -> Option<FileState> {
    let state = FileState::of(events, direction, count)?;
    Some(FileState {
        data: if state.hup && direction == Direction::Write {
            0
        } else {
            state.data
        },
        ..state
    })
}
