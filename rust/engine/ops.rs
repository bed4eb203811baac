// SPDX-License-Identifier: GPL-2.0

//! What the engine and its filters are to each other.
//!
//! This is the only file of the engine that names a floor above it: the table of filters.

pub(crate) use crate::filter::{FastPath, FileKind, Filter, Hooks, UserMarks};

use super::{knote::Knote, shared::Shared};
use crate::{
    sys::{file::fdtable::CurrentTable, memory::erased::Erased},
    uapi::Kevent, //
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// What a filter has to tell when its condition holds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Report {
    /// Besides the knote's own: `EV_EOF` and its like.
    pub(crate) flags: u16,
    pub(crate) fflags: u32,
    pub(crate) data: i64,
}

impl Report {
    /// There is that much, and nothing else to tell.
    #[inline(always)]
    pub(crate) fn of(data: i64) -> Self {
        Report {
            data,
            ..Report::default()
        }
    }
}

/// What a filter gets to attach with.
pub(crate) struct Attach<'a> {
    pub(crate) knote: &'a Knote,
    pub(crate) change: &'a Kevent,
    /// The descriptor's file, for a filter that is on descriptors.
    pub(crate) file: Option<ARef<File>>,
    /// The table that has it.
    pub(crate) table: CurrentTable,
    pub(crate) shared: &'a Shared,
}

/// What attaching has come to.
pub(crate) struct Attached {
    /// What the filter keeps for the knote; dropping it detaches (`f_detach`).
    pub(crate) source: Option<Erased>,
    /// The flags that the filter always sets.
    pub(crate) flags: u16,
    /// False if the condition is known not to hold yet.
    pub(crate) may_be_ready: bool,
}

impl Attached {
    pub(crate) fn new(source: Result<Erased>, flags: u16) -> Result<Self> {
        Ok(Attached {
            source: Some(source?),
            flags,
            may_be_ready: true,
        })
    }
}

/// What can be told of one direction of a file without sleeping.
#[derive(Clone, Copy)]
pub(crate) enum FastLook {
    /// It is ready, with that `data`.
    Ready(i64),
    /// The other side is gone, in that direction; there is that much left.
    Ended(i64),
    /// The same, and poll(2) reports `POLLHUP`.
    HungUp(i64),
    Nothing,
    /// The file has to be polled, which may sleep.
    Unknown,
}

impl FastLook {
    pub(crate) fn ready_if(ready: bool, data: impl FnOnce() -> i64) -> Self {
        if ready {
            FastLook::Ready(data())
        } else {
            FastLook::Nothing
        }
    }
}
