// SPDX-License-Identifier: GPL-2.0

//! Timerfds. The state is the number of unread expirations.

use super::Direction;
use crate::sys::file::{poll::FastPoll, timerfd};
use kernel::fs::File;

/// The number of unread expirations, if it can be read without sleeping.
#[inline(always)]
pub(super) fn poll_to_read(file: &File) -> FastPoll {
    match timerfd::try_count(file) {
        Some(count) => FastPoll::ready_if(count != 0, || i64::try_from(count).unwrap_or(i64::MAX)),
        None => FastPoll::Unknown,
    }
}

/// The number of unread expirations. May sleep.
pub(super) fn count(file: &File, direction: Direction) -> Option<i64> {
    match direction {
        Direction::Read => Some(i64::try_from(timerfd::count(file)?).unwrap_or(i64::MAX)),
        Direction::Write | Direction::Except => None,
    }
}
