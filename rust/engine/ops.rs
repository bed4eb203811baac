// SPDX-License-Identifier: GPL-2.0

//! What the engine asks of a filter, and what the two pass to each other.
//!
//! A filter says what one kind of event source means by "ready" and by `data`. It is a
//! [`FilterOps`], which is the specification's `struct filterops`, and a row of the table in
//! `rust/filter/mod.rs`, which is its `sysfilt_ops[]`. The engine calls the methods of [`Filter`],
//! which the table makes of its rows, without an indirect call.
//!
//! This is the only file of the engine that names a floor above it: that table.

pub(crate) use crate::filter::{FastPath, FileKind, Filter, FilterProbes, UserMarks};

use super::{
    knote::{Knote, KnoteAccess, KnoteInner},
    knote_memory::LockedKnote,
};
use crate::{
    sys::{
        file::{fdtable::CurrentTable, poll::Events},
        memory::{erased::Erased, scratch::Scratch},
    },
    uapi::Kevent, //
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// A filter (`struct filterops`).
///
/// Its functions are called under the kqueue's mutex, in process context, and may sleep unless it
/// is said that they must not. There is no `f_detach`: what a filter keeps for a knote,
/// [`Attached::source`], detaches when it is dropped.
pub(crate) trait FilterOps {
    /// The ident is a descriptor (`FILTEROP_ISFD`). The descriptor may be one that was opened with
    /// `O_PATH` if the filter [takes those](Self::ACCEPTS_O_PATH).
    const IS_DESCRIPTOR: bool = false;
    /// See above.
    const ACCEPTS_O_PATH: bool = false;
    /// What a knote has to report may outlive what its ident names: the exit of a process.
    const OUTLIVES_IDENT: bool = false;
    /// All that the filter watches is a part of the knote.
    const IS_SELF_CONTAINED: bool = false;
    /// Each knote has a timer ([`LockedKnote::timer`]).
    const HAS_TIMER: bool = false;
    /// A change of a knote is [`touch_knote`](Self::touch_knote) and no more.
    const TOUCHES_KNOTE_ONLY: bool = false;
    /// The filter is told when an event was delivered ([`delivered`](Self::delivered)).
    const HANDLES_DELIVERY: bool = false;
    /// The memory of a knote and of what the filter keeps for it, in units of
    /// [`super::limit::UNIT`].
    const WEIGHT: u8 = 1;

    /// The poll events of a descriptor's file that activate a knote.
    fn wake_events() -> Events {
        Events::NONE
    }

    /// Attaches a new knote to its source (`f_attach`). The knote may be activated before this
    /// returns.
    ///
    /// # Errors
    ///
    /// As the filter says. Nothing stays attached.
    fn attach(args: AttachArgs<'_>, access: &mut KnoteAccess) -> Result<Attached>;

    /// Changes the parameters of a knote (`f_touch`).
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that the filter does not take: nothing is changed then. `ENOENT` if the
    /// knote has lost its source.
    #[inline(always)]
    fn touch(locked: LockedKnote<'_>, change: &Kevent) -> Result {
        Self::touch_knote(locked.inner, change);
        Ok(())
    }

    /// The part of that for what the knote itself keeps. Must not sleep: it is called with the
    /// kqueue's spin lock held if the filter [is plain](Self::TOUCHES_KNOTE_ONLY).
    #[inline(always)]
    fn touch_knote(inner: &mut KnoteInner, change: &Kevent) {
        inner.set_params(change);
    }

    /// True if a change makes a knote forget what has happened before.
    #[inline(always)]
    fn discards_pending(_change: &Kevent) -> bool {
        false
    }

    /// Does the condition hold (`f_event`)? `scratch` is memory of the program for a file's answer.
    fn event(locked: LockedKnote<'_>, scratch: Scratch) -> Option<Report>;

    /// The knote may hear no more of its source before there is more to report, so it has to be
    /// rechecked.
    #[inline(always)]
    fn needs_recheck(_inner: &KnoteInner) -> bool {
        false
    }

    /// `event` was delivered. True if there is another one to report already.
    #[inline(always)]
    fn delivered(_locked: LockedKnote<'_>, _event: &Kevent) -> bool {
        false
    }

    /// `event` was made without sleeping ([`FastPath`]), and was not delivered.
    #[inline(always)]
    fn undelivered(_inner: &mut KnoteInner, _event: &Kevent) {}

    /// True when `ident`, which is no descriptor, still names what the knote is about. Must not
    /// sleep: the kqueue's spin lock is held.
    #[inline(always)]
    fn matches_ident(_inner: &KnoteInner, _ident: u64) -> bool {
        true
    }
}

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
pub(crate) struct AttachArgs<'a> {
    pub(crate) knote: &'a Knote,
    pub(crate) change: &'a Kevent,
    /// The descriptor's file, for a filter that is on descriptors.
    pub(crate) file: Option<ARef<File>>,
    /// The table that has it.
    pub(crate) table: CurrentTable,
}

/// What attaching has come to.
pub(crate) struct Attached {
    /// What the filter keeps for the knote; dropping it detaches (`f_detach`).
    pub(crate) source: Option<Erased>,
    /// The flags that the filter always sets.
    pub(crate) flags: u16,
    pub(crate) readiness: Readiness,
}

/// Whether the condition of a knote holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    No,
    /// The filter has to be run.
    Maybe,
    Yes,
}

impl Readiness {
    /// The readiness of a knote whose filter has to be run if the condition `may` hold.
    pub(crate) fn maybe_if(may: bool) -> Self {
        if may {
            Readiness::Maybe
        } else {
            Readiness::No
        }
    }
}

impl Attached {
    /// With that source. The condition may hold already.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(crate) fn with<T: Send + Sync + 'static>(source: T, flags: u16) -> Result<Self> {
        Ok(Attached {
            source: Some(Erased::of(source, GFP_KERNEL_ACCOUNT)?),
            flags,
            readiness: Readiness::Maybe,
        })
    }
}

/// What can be told of one direction of a file without sleeping.
#[derive(Clone, Copy)]
pub(crate) enum FastPoll {
    /// It is ready, with that `data`.
    Ready(i64),
    /// The other side is gone, in that direction; there is that much left.
    Ended(i64),
    /// The same, and poll(2) reports `POLLHUP`.
    HungUp(i64),
    NotReady,
    /// The file has to be polled, which may sleep.
    Unknown,
}

impl FastPoll {
    pub(crate) fn ready_if(ready: bool, data: impl FnOnce() -> i64) -> Self {
        if ready {
            FastPoll::Ready(data())
        } else {
            FastPoll::NotReady
        }
    }
}
