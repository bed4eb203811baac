// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_AIO` is refused. The specification's system refuses it as well, because its asynchronous
//! I/O was removed.
//!
//! `EVFILT_READ` on an eventfd reports the completions of Linux AIO and of io_uring. `EVFILT_READ`
//! on the descriptor of an io_uring reports those of io_uring.

use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FilterOps, Report}, //
        knote::{LockedKnote, UnderMutex},
    },
    sys::memory::user_scratch::UserScratch, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct Aio;

impl FilterOps for Aio {
    const CHANGE_AFFECTS_KNOTE_ONLY: bool = true;

    /// # Errors
    ///
    /// `ENXIO`.
    fn attach(_: AttachArgs<'_>, _: &mut UnderMutex) -> Result<Attached> {
        Err(ENXIO)
    }

    fn event(_: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        None
    }
}
