// SPDX-License-Identifier: GPL-2.0

//! Pidfds. A pidfd is readable once the process has exited.

use crate::sys::{
    file::poll::FastPoll,
    process::pid::{PidfdState, Process}, //
};
use kernel::fs::File;

/// Whether the process of a pidfd has exited.
#[inline(always)]
pub(super) fn poll_to_read(file: &File) -> FastPoll {
    match Process::poll_pidfd(file) {
        PidfdState::Running => FastPoll::NotReady,
        PidfdState::Exited => FastPoll::Ready(1),
        PidfdState::Gone => FastPoll::HungUp(1),
        PidfdState::Other => FastPoll::Unknown,
    }
}

/// Evaluates a pidfd for a writer. It is never writable, and has hung up once its process was
/// reaped.
#[inline(never)]
pub(super) fn poll_to_write(file: &File) -> FastPoll {
    match Process::poll_pidfd(file) {
        PidfdState::Running | PidfdState::Exited => FastPoll::NotReady,
        PidfdState::Gone => FastPoll::HungUp(0),
        PidfdState::Other => FastPoll::Unknown,
    }
}
