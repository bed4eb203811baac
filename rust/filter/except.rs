// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_EXCEPT` with `NOTE_OOB` reports urgent data. See [`super::descriptor`].

use super::descriptor;
use crate::{
    engine::{
        knote::{Bodies, Body},
        knote_memory::Parts,
        ops::{Attach, Attached, FilterOps, Report}, //
    },
    file::Direction,
    sys::{file::poll::Events, memory::scratch::Scratch}, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct Except;

impl FilterOps for Except {
    const IS_DESCRIPTOR: bool = true;
    const IS_PLAIN: bool = true;

    #[inline(always)]
    fn wakes() -> Events {
        Direction::Except.wakes()
    }

    /// # Errors
    ///
    /// See [`descriptor::attach`].
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        descriptor::attach(attach, Direction::Except, bodies)
    }

    #[inline(never)]
    fn event(parts: Parts<'_>, scratch: Scratch) -> Option<Report> {
        descriptor::event(parts, Direction::Except, scratch)
    }

    #[inline(always)]
    fn needs_recheck(body: &Body) -> bool {
        descriptor::reads_pipe_in_parts(body)
    }
}
