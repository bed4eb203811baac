// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_WRITE` reports that a descriptor is writable. `data` is the number of bytes that it
//! accepts. See [`super::descriptor`].

use super::{descriptor, Filter};
use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FastPath, FilterOps, Report}, //
        knote::{KnoteInner, LockedKnote, UnderMutex},
    },
    file::Direction,
    sys::{file::poll::PollEvents, memory::user_scratch::UserScratch}, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct Write;

impl FilterOps for Write {
    const IS_DESCRIPTOR: bool = true;
    const CHANGE_AFFECTS_KNOTE_ONLY: bool = true;
    const PARTNER: Option<Filter> = Some(Filter::Read);

    #[inline(always)]
    fn wake_events() -> PollEvents {
        Direction::Write.wake_events()
    }

    /// # Errors
    ///
    /// See [`descriptor::attach`].
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        descriptor::attach(args, Direction::Write, under_mutex)
    }

    #[inline(never)]
    fn event(locked: LockedKnote<'_>, scratch: UserScratch) -> Option<Report> {
        descriptor::event(locked, Direction::Write, scratch)
    }

    fn select_fast_path(inner: &KnoteInner) -> FastPath {
        FastPath::to_write(inner)
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
