// SPDX-License-Identifier: GPL-2.0

//! Pidfds. A pidfd is readable once the process has exited.

use crate::{
    engine::ops::FastLook,
    sys::process::pid::{PidfdState, Process},
};
use kernel::fs::File;

/// Whether the process of a pidfd has exited.
#[inline(always)]
pub(super) fn poll_to_read(file: &File) -> FastLook {
    match Process::poll_pidfd(file) {
        PidfdState::Running => FastLook::Nothing,
        PidfdState::Exited => FastLook::Ready(1),
        PidfdState::Gone => FastLook::HungUp(1),
        PidfdState::Other => FastLook::Unknown,
    }
}
