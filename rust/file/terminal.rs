// SPDX-License-Identifier: GPL-2.0

//! Terminals, ptys and inotify. Their number of bytes is read by ioctl(2).

use super::{poll, Direction, FileState};
use crate::sys::{
    file::{ioctl, poll::PollFunction},
    memory::user_scratch::UserScratch,
};
use kernel::fs::{File, LocalFile};

static INOTIFY_POLL: PollFunction = PollFunction::new(c"inotify_poll");

pub(super) fn is(file: &LocalFile) -> bool {
    ioctl::is_terminal(file) || INOTIFY_POLL.is_of(file)
}

pub(super) fn evaluate(
    file: &File,
    direction: Direction,
    scratch: UserScratch,
) -> Option<FileState> {
    let events = poll(file, direction);
    match direction {
        // A terminal is readable without bytes when the end-of-file character was typed. An inotify
        // instance without bytes was emptied by another task after the poll.
        Direction::Read => FileState::of(events, direction, || ioctl::readable(file, scratch))
            .filter(|state| state.eof || state.data > 0 || ioctl::is_terminal(file)),
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
