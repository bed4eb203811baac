// SPDX-License-Identifier: GPL-2.0

//! Terminals and ptys. Their state is that of the line discipline.

use super::{poll, poll_events, Direction, FileState};
use crate::sys::{
    file::{ioctl, terminal::Terminal},
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
    match direction {
        // A terminal is readable without bytes when the end-of-file character was typed.
        Direction::Read => FileState::of(events, direction, || terminal.readable(scratch)),
        // A terminal that has hung up is ready, and accepts nothing.
        Direction::Write => {
            let state = FileState::of(events, direction, || Some(terminal.write_room()))?;
            Some(FileState {
                data: if state.hup { 0 } else { state.data },
                ..state
            })
        }
        Direction::Except => FileState::of(events, direction, || None),
    }
}

/// Evaluates a terminal that has hung up, or that is changing its line discipline, for which
/// `->poll` and ioctl(2) wait. A terminal that has hung up is ready, and has neither bytes nor room.
#[cold]
fn evaluate_without_discipline(
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<FileState> {
    let state = FileState::of(poll(file, direction), direction, || match direction {
        Direction::Read => ioctl::readable(file, scratch),
        Direction::Write | Direction::Except => None,
    })?;
    Some(FileState {
        data: if state.hup && direction == Direction::Write {
            0
        } else {
            state.data
        },
        ..state
    })
}
