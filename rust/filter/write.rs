// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_WRITE` reports that a descriptor is writable. `data` is the number of bytes that it
//! accepts. See [`super::descriptor`].

use super::descriptor;
use crate::{
    engine::{
        knote::Bodies,
        knote_memory::Parts,
        ops::{Attach, Attached, FilterOps, Report}, //
    },
    file::Direction,
    sys::{file::poll::Events, memory::scratch::Scratch}, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct Write;

impl FilterOps for Write {
    const IS_DESCRIPTOR: bool = true;
    const IS_PLAIN: bool = true;

    #[inline(always)]
    fn wakes() -> Events {
        Direction::Write.wakes()
    }

    /// # Errors
    ///
    /// See [`descriptor::attach`].
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        descriptor::attach(attach, Direction::Write, bodies)
    }

    #[inline(never)]
    fn event(parts: Parts<'_>, scratch: Scratch) -> Option<Report> {
        descriptor::event(parts, Direction::Write, scratch)
    }
}
