// SPDX-License-Identifier: GPL-2.0

//! What a kqueue's spin lock guards, as far as sleepers care.

use super::{locks::Key, sleepers::Sleepers};
use std::marker::PhantomData;

pub(crate) struct Ready {
    pub(crate) sleepers: Sleepers,
    pub(crate) pending: usize,
    pub(crate) closed: bool,
}

impl Ready {
    pub(crate) fn new() -> Self {
        Ready {
            sleepers: Sleepers::new(&Key(PhantomData)),
            pending: 0,
            closed: false,
        }
    }
}
