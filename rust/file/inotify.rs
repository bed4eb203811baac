// SPDX-License-Identifier: GPL-2.0

//! Inotify. The state is the size of the events.

use super::{poll, Direction, FileState};
use crate::sys::{
    file::{inotify, poll::FastPoll},
    memory::user_scratch::UserScratch,
};
use kernel::fs::File;

/// The size of the events, if it can be determined without waiting. Interrupts are disabled.
#[inline(never)]
pub(super) fn poll_to_read(file: &File) -> FastPoll {
    match inotify::try_readable(file) {
        Some(size) => FastPoll::ready_if(size != 0, || size),
        None => FastPoll::Unknown,
    }
}

/// The state. An instance without events was emptied by another task after the poll.
pub(super) fn evaluate(
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<FileState> {
    let count = || match direction {
        Direction::Read => inotify::readable(file, scratch),
        Direction::Write | Direction::Except => None,
    };
    FileState::of(poll(file, direction), direction, count)
        .filter(|state| direction != Direction::Read || state.eof || state.data > 0)
}
