// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_AIO` is refused. The specification's system refuses it as well, because its asynchronous
//! I/O was removed.
//!
//! `EVFILT_READ` on an eventfd reports the completions of Linux AIO and of io_uring. `EVFILT_READ`
//! on the descriptor of an io_uring reports those of io_uring.

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
