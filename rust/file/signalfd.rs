// SPDX-License-Identifier: GPL-2.0

//! Signalfds. A signalfd is readable if one of its signals is pending for the task that collects
//! events, as with poll(2).

use super::{poll, Direction, FileState};
use crate::sys::file::{poll::FastPoll, signalfd};
use kernel::fs::File;

/// Whether a signal is pending, if that can be determined without waiting. Interrupts are disabled.
#[inline(never)]
pub(super) fn poll_to_read(file: &File) -> FastPoll {
    match signalfd::try_is_ready(file) {
        Some(ready) => FastPoll::ready_if(ready, || 1),
        None => FastPoll::Unknown,
    }
}

pub(super) fn evaluate(file: &File, direction: Direction) -> Option<FileState> {
    signalfd::verify_layout(file);
    FileState::of(poll(file, direction), direction, || None)
}
