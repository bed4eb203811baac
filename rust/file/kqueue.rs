// SPDX-License-Identifier: GPL-2.0

//! Kqueues. The state is the number of pending events.

use crate::{
    engine::kqueue::Kqueue,
    sys::file::{chardev::object_of, poll::FastPoll}, //
};
use kernel::fs::File;

/// The number of pending events. The lock of the kqueue is tried, and not waited for.
#[inline(always)]
pub(super) fn poll_to_read(file: &File) -> FastPoll {
    match object_of::<Kqueue>(file).and_then(|kqueue| kqueue.try_pending()) {
        Some(count) => FastPoll::ready_if(count != 0, || count as i64),
        None => FastPoll::Unknown,
    }
}

/// The number of pending events. This waits for the lock.
pub(super) fn count(file: &File) -> Option<i64> {
    Some(object_of::<Kqueue>(file)?.announce_poller().0 as i64)
}
