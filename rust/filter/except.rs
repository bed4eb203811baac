// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_EXCEPT` with `NOTE_OOB` reports urgent data. See [`super::descriptor`].

use super::descriptor;
use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FilterOps, Report}, //
        knote::{KnoteInner, LockedKnote, UnderMutex},
    },
    file::Direction,
    sys::{file::poll::PollEvents, memory::user_scratch::UserScratch}, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct Except;

impl FilterOps for Except {
    const IS_DESCRIPTOR: bool = true;
    const CHANGE_AFFECTS_KNOTE_ONLY: bool = true;

    #[inline(always)]
    fn wake_events() -> PollEvents {
        Direction::Except.wake_events()
    }

    /// # Errors
    ///
    /// See [`descriptor::attach`].
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        descriptor::attach(args, Direction::Except, under_mutex)
    }

    #[inline(never)]
    fn event(locked: LockedKnote<'_>, scratch: UserScratch) -> Option<Report> {
        descriptor::event(locked, Direction::Except, scratch)
    }

    #[inline(always)]
    fn needs_recheck(inner: &KnoteInner) -> bool {
        descriptor::needs_pipe_recheck(inner)
    }

    #[inline(always)]
    fn can_be_renewed(inner: &KnoteInner) -> bool {
        inner.kind.can_be_renewed()
    }

    #[inline(always)]
    fn is_renewable(locked: &LockedKnote<'_>) -> bool {
        descriptor::is_renewable(locked)
    }
}
