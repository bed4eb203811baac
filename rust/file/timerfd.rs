// SPDX-License-Identifier: GPL-2.0

//! Timerfds: the expirations that wait.

use super::Direction;
use crate::{engine::ops::FastLook, sys::file::timerfd};
use kernel::fs::File;

/// The expirations of a timerfd that wait.
#[inline(always)]
pub(super) fn poll_to_read(file: &File) -> FastLook {
    match timerfd::count_at_once(file) {
        Some(count) => FastLook::ready_if(count != 0, || i64::try_from(count).unwrap_or(i64::MAX)),
        None => FastLook::Unknown,
    }
}

/// The same when the count cannot be read without sleeping.
pub(super) fn count(file: &File, direction: Direction) -> Option<i64> {
    match direction {
        Direction::Read => Some(i64::try_from(timerfd::count(file)?).unwrap_or(i64::MAX)),
        Direction::Write | Direction::Except => None,
    }
}
