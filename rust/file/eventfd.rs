// SPDX-License-Identifier: GPL-2.0

//! Eventfds. The state is the counter, and what can be added to it.

use super::Direction;
use crate::sys::file::{eventfd, poll::FastPoll};
use kernel::fs::File;

#[inline(never)]
pub(super) fn room(file: &File) -> FastPoll {
    match eventfd::try_count(file) {
        Some(count) if count < EVENTFD_MOST => FastPoll::Ready(room_of_counter(count)),
        _ => FastPoll::Unknown,
    }
}

/// The largest value that the counter of an eventfd can have.
const EVENTFD_MOST: u64 = u64::MAX - 1;

fn room_of_counter(count: u64) -> i64 {
    i64::try_from(EVENTFD_MOST.saturating_sub(count)).unwrap_or(i64::MAX)
}

pub(super) fn count(file: &File, direction: Direction) -> Option<i64> {
    let count = eventfd::count(file)?;
    match direction {
        Direction::Read => Some(i64::try_from(count).unwrap_or(i64::MAX)),
        Direction::Write => Some(room_of_counter(count)),
        Direction::Except => None,
    }
}
