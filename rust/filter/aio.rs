// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_AIO`: refused, as the specification's system does, whose asynchronous I/O was removed.
//!
//! `EVFILT_READ` on an eventfd, or on the descriptor of a ring, reports the completions of Linux AIO and of io_uring.

use crate::{
    engine::{
        knote::Bodies,
        knote_memory::Parts,
        ops::{Attach, Attached, FilterOps, Report}, //
    },
    sys::memory::scratch::Scratch, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct Aio;

impl FilterOps for Aio {
    const IS_PLAIN: bool = true;

    /// # Errors
    ///
    /// `ENXIO`.
    fn attach(_: Attach<'_>, _: &mut Bodies) -> Result<Attached> {
        Err(ENXIO)
    }

    fn event(_: Parts<'_>, _: Scratch) -> Option<Report> {
        None
    }
}
