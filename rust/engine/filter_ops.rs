// SPDX-License-Identifier: GPL-2.0

//! The interface between the engine and the filters.
//!
//! A filter defines what one kind of event source means by "ready" and by `data`. It is a type that
//! implements [`FilterOps`] (`struct filterops` in the specification), and a row of the table in
//! `rust/filter/mod.rs` (`sysfilt_ops[]`). The engine calls the methods of [`Filter`], which are
//! generated from the rows of the table and make no indirect calls.
//!
//! This is the only file of the engine that imports from a layer above it: that table, and the
//! types of the filters and of the kinds of files that the engine stores.

pub(crate) use crate::filter::{FastPath, FileKind, Filter, FilterProbes, UserMarks};

use super::knote::{Knote, KnoteInner, LockedKnote, UnderMutex};
use crate::{
    sys::{
        file::{fdtable::CurrentFdTable, poll::PollEvents},
        memory::{erased_box::ErasedBox, user_scratch::UserScratch},
    },
    uapi::Kevent, //
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// A filter (`struct filterops`).
///
/// The functions are called under the kqueue's mutex, in process context. They may sleep unless
/// their documentation says that they must not. There is no `f_detach`: dropping the attachment
/// of a knote ([`Attached::attachment`]) detaches it.
pub(crate) trait FilterOps {
    /// True if the ident is a descriptor (`FILTEROP_ISFD`).
    const IS_DESCRIPTOR: bool = false;
    /// True if the descriptor may be one that was opened with `O_PATH`.
    const ACCEPTS_O_PATH: bool = false;
    /// True if the report of a knote may outlive the object that its ident names. An example is the
    /// exit of a process, whose PID may be used again before the exit has been reported. Such a
    /// knote stays in the table until then, behind a new knote of the same ident.
    const STAYS_AFTER_PID_REUSE: bool = false;
    /// True if the event source is a part of the knote.
    const SOURCE_IS_IN_KNOTE: bool = false;
    /// True if each knote has a timer ([`LockedKnote::timer`]).
    const HAS_TIMER: bool = false;
    /// True if a change only stores parameters in the knote ([`touch_params`](Self::touch_params)),
    /// and has no effect on the source. Then the engine applies the change in one critical section
    /// of the spin lock. It also does not evaluate a knote that is disabled, because `EV_ENABLE`
    /// evaluates it.
    const CHANGE_AFFECTS_KNOTE_ONLY: bool = false;
    /// The filter with which knotes of the same descriptor [form a pair](super::pairing).
    const PARTNER: Option<Filter> = None;
    /// True if the engine calls [`delivered`](Self::delivered) after an event was delivered, for
    /// instance to reset what was reported.
    const HANDLES_DELIVERY: bool = false;
    /// The memory of a knote and of its attachment, in units of [`super::knote_limit::UNIT`].
    const CHARGE_UNITS: u8 = 1;

    /// The poll events of a descriptor's file that activate a knote.
    fn wake_events() -> PollEvents {
        PollEvents::NONE
    }

    /// Attaches a new knote to its source (`f_attach`). The knote may be activated before this
    /// returns.
    ///
    /// # Errors
    ///
    /// Those of the filter. After an error nothing stays attached.
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached>;

    /// Changes the parameters of a knote (`f_touch`).
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that the filter does not support; nothing is changed then. `ENOENT` if
    /// the knote has no source any more.
    #[inline(always)]
    fn touch(locked: LockedKnote<'_>, change: &Kevent) -> Result {
        Self::touch_params(locked.inner, change);
        Ok(())
    }

    /// The part of [`touch`](Self::touch) that affects only the knote itself. It must not sleep,
    /// because it is called under the kqueue's spin lock if the filter has
    /// [`CHANGE_AFFECTS_KNOTE_ONLY`](Self::CHANGE_AFFECTS_KNOTE_ONLY).
    #[inline(always)]
    fn touch_params(inner: &mut KnoteInner, change: &Kevent) {
        inner.set_params(change);
    }

    /// True if a change discards the events that have occurred before.
    #[inline(always)]
    fn discards_pending(_change: &Kevent) -> bool {
        false
    }

    /// Evaluates a knote: returns a report if the condition holds (`f_event`). It may sleep.
    /// `scratch` is memory of the program that an ioctl of the file may write to.
    fn event(locked: LockedKnote<'_>, scratch: UserScratch) -> Option<Report>;

    /// Selects the method by which a scan evaluates the knote under the kqueue's spin lock. The
    /// method either returns the result of [`event`](Self::event), or leaves the evaluation to it.
    fn select_fast_path(_inner: &KnoteInner) -> FastPath {
        FastPath::Unsupported
    }

    /// True if the knote has to be rechecked, because its source may not fire although there is
    /// more to report.
    #[inline(always)]
    fn needs_recheck(_inner: &KnoteInner) -> bool {
        false
    }

    /// Called after `event` was delivered. True if the knote has another event to report already.
    #[inline(always)]
    fn delivered(_locked: LockedKnote<'_>, _event: &Kevent) -> bool {
        false
    }

    /// True if a one-shot knote stays attached after its event was delivered, because `EV_ADD` can
    /// [renew it](super::state).
    #[inline(always)]
    fn can_be_renewed(_inner: &KnoteInner) -> bool {
        false
    }

    /// True if `EV_ADD` may renew a spent knote. If this is false, the knote is removed, and a new
    /// one is attached. It must not sleep, because the kqueue's spin lock is held.
    #[inline(always)]
    fn is_renewable(_locked: &LockedKnote<'_>) -> bool {
        true
    }

    /// Called if `event`, which a scan has created by the [`FastPath`], was not delivered.
    #[inline(always)]
    fn undelivered(_inner: &mut KnoteInner, _event: &Kevent) {}

    /// True if `ident`, which is not a descriptor, still names the object of the knote. It must not
    /// sleep, because the kqueue's spin lock is held.
    #[inline(always)]
    fn matches_ident(_inner: &KnoteInner, _ident: u64) -> bool {
        true
    }

    /// True if two knotes of the same ident watch the same object. (The ident of one of them may
    /// have named another object when it was added.)
    #[inline(always)]
    fn watches_same(_inner: &KnoteInner, _other: &KnoteInner) -> bool {
        true
    }
}

/// The result of a filter whose condition holds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Report {
    /// The flags of the event besides those of the knote, for instance `EV_EOF`.
    pub(crate) flags: u16,
    pub(crate) fflags: u32,
    pub(crate) data: i64,
}

impl Report {
    /// A report that consists of `data` alone.
    #[inline(always)]
    pub(crate) fn of(data: i64) -> Self {
        Report {
            data,
            ..Report::default()
        }
    }
}

/// The arguments of [`FilterOps::attach`].
pub(crate) struct AttachArgs<'a> {
    pub(crate) knote: &'a Knote,
    pub(crate) change: &'a Kevent,
    /// The file of the descriptor, if the ident is a descriptor and there is no `primary`.
    pub(crate) file: Option<ARef<File>>,
    /// The primary of the pair that the knote becomes a part of.
    pub(crate) primary: Option<&'a Knote>,
    /// The descriptor table of the caller.
    pub(crate) fd_table: CurrentFdTable,
}

/// The result of [`FilterOps::attach`].
pub(crate) struct Attached {
    /// The state that the filter keeps for the knote. Dropping it detaches the knote (`f_detach`).
    pub(crate) attachment: Option<ErasedBox>,
    /// The flags that the filter sets implicitly.
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
    /// A result with this attachment, for a knote whose condition may hold already.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(crate) fn with<T: Send + Sync + 'static>(attachment: T, flags: u16) -> Result<Self> {
        Ok(Attached {
            attachment: Some(ErasedBox::of(attachment, GFP_KERNEL_ACCOUNT)?),
            flags,
            readiness: Readiness::Maybe,
        })
    }
}
