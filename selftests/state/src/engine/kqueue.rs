// SPDX-License-Identifier: GPL-2.0

//! A model of the data under the spin lock of a kqueue that waiting threads use.

use super::{locks::LockToken, sleepers::Sleepers};
use std::marker::PhantomData;

pub(crate) struct ReadyState {
    pub(crate) sleepers: Sleepers,
    pub(crate) pending: usize,
    pub(crate) closed: bool,
}

impl ReadyState {
    pub(crate) fn new() -> Self {
        ReadyState {
            sleepers: Sleepers::new(&LockToken(PhantomData)),
            pending: 0,
            closed: false,
        }
    }
}
