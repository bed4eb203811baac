// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_USER` reports events that the program triggers itself.
//!
//! # BSD says
//!
//! See `filt_userattach` and `filt_usertouch`. `NOTE_TRIGGER` activates the knote. Two bits of
//! `fflags` select how the other 24 bits, which belong to the program, are combined with the saved
//! ones. `data` is saved. The knote stays active until it is reported with `EV_CLEAR`. `EV_CLEAR`
//! in a modification resets the trigger and `data`, but not `fflags`. Here `udata` is that of the
//! last change, as with all other filters.

use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FastPath, FilterOps, Readiness, Report}, //
        knote::{KnoteInner, LockedKnote, UnderMutex},
    },
    sys::memory::user_scratch::UserScratch,
    uapi::*, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct User;

impl FilterOps for User {
    const SOURCE_IS_IN_KNOTE: bool = true;
    const CHANGE_AFFECTS_KNOTE_ONLY: bool = true;
    const HANDLES_DELIVERY: bool = true;

    #[inline(always)]
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        touch(args.knote.inner_mut(under_mutex), args.change, true);
        Ok(Attached {
            attachment: None,
            flags: 0,
            readiness: Readiness::maybe_if(args.change.fflags & NOTE_TRIGGER != 0),
        })
    }

    #[inline(always)]
    fn touch_params(inner: &mut KnoteInner, change: &Kevent) {
        touch(inner, change, false);
        inner.set_udata(change);
    }

    #[inline(always)]
    fn event(locked: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        event(locked.inner)
    }

    fn select_fast_path(inner: &KnoteInner) -> FastPath {
        if inner.flags & EV_ONESHOT != 0 {
            FastPath::Unsupported
        } else {
            FastPath::User
        }
    }

    #[inline(always)]
    fn delivered(locked: LockedKnote<'_>, event: &Kevent) -> bool {
        if event.has(EV_CLEAR) {
            clear(locked.inner);
        }
        false
    }

    fn undelivered(inner: &mut KnoteInner, event: &Kevent) {
        if event.has(EV_CLEAR) {
            restore(inner, event);
        }
    }
}

/// Applies a change. The knote saves the `fflags` and `data` of the event, and not those of the
/// change.
#[inline(always)]
fn touch(inner: &mut KnoteInner, change: &Kevent, is_new: bool) {
    if is_new {
        inner.fflags = 0;
    }
    if change.fflags & NOTE_TRIGGER != 0 {
        inner.triggered = true;
    }
    let fflags = change.fflags & NOTE_FFLAGSMASK;
    match change.fflags & NOTE_FFCTRLMASK {
        NOTE_FFAND => inner.fflags &= fflags,
        NOTE_FFOR => inner.fflags |= fflags,
        NOTE_FFCOPY => inner.fflags = fflags,
        _ => {}
    }
    inner.data = change.data;
    if !is_new && change.has(EV_CLEAR) {
        inner.triggered = false;
        inner.data = 0;
    }
}

#[inline]
pub(super) fn event(inner: &KnoteInner) -> Option<Report> {
    inner.triggered.then_some(Report {
        flags: 0,
        fflags: inner.fflags,
        data: inner.data,
    })
}

#[inline]
pub(super) fn clear(inner: &mut KnoteInner) {
    inner.triggered = false;
    inner.fflags = 0;
    inner.data = 0;
}

/// Restores the state that was cleared for an event, because the event was not delivered.
fn restore(inner: &mut KnoteInner, event: &Kevent) {
    inner.triggered = true;
    inner.fflags = event.fflags;
    inner.data = event.data;
}
