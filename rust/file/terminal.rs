// SPDX-License-Identifier: GPL-2.0

//! Terminals and ptys. Their number of bytes is read by ioctl(2).

use super::{poll, Direction, FileState};
use crate::sys::{file::ioctl, memory::user_scratch::UserScratch};
use kernel::fs::File;

pub(super) fn evaluate(
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<FileState> {
    let events = poll(file, direction);
    match direction {
        // A terminal is readable without bytes when the end-of-file character was typed.
        Direction::Read => FileState::of(events, direction, || ioctl::readable(file, scratch)),
        // A terminal that has hung up is ready, and accepts nothing.
        Direction::Write => {
            FileState::of(events, direction, || ioctl::write_room(file)).map(|state| FileState {
                data: if state.hup { 0 } else { state.data },
                ..state
            })
        }
        Direction::Except => FileState::of(events, direction, || None),
    }
}
