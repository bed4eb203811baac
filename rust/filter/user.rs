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
        knote::{Bodies, Body},
        knote_memory::Parts,
        ops::{Attach, Attached, FilterOps, Readiness, Report}, //
    },
    sys::memory::scratch::Scratch,
    uapi::*, //
};
use kernel::prelude::*;

/// The filter.
pub(super) struct User;

impl FilterOps for User {
    const IS_OWN: bool = true;
    const IS_PLAIN: bool = true;
    const COUNTS: bool = true;

    #[inline(always)]
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        touch(attach.knote.body_mut(bodies), attach.change, true);
        Ok(Attached {
            source: None,
            flags: 0,
            readiness: Readiness::maybe_if(attach.change.fflags & NOTE_TRIGGER != 0),
        })
    }

    #[inline(always)]
    fn touch_knote(body: &mut Body, change: &Kevent) {
        touch(body, change, false);
        body.take_udata(change);
    }

    #[inline(always)]
    fn event(parts: Parts<'_>, _: Scratch) -> Option<Report> {
        event(parts.body)
    }

    #[inline(always)]
    fn reported(parts: Parts<'_>, event: &Kevent) -> bool {
        if event.has(EV_CLEAR) {
            clear(parts.body);
        }
        false
    }

    fn undelivered(body: &mut Body, event: &Kevent) {
        if event.has(EV_CLEAR) {
            restore(body, event);
        }
    }
}

/// Applies a change. The knote saves the `fflags` and `data` of the event, and not those of the
/// change.
#[inline(always)]
fn touch(body: &mut Body, change: &Kevent, is_new: bool) {
    if is_new {
        body.fflags = 0;
    }
    if change.fflags & NOTE_TRIGGER != 0 {
        body.triggered = true;
    }
    let fflags = change.fflags & NOTE_FFLAGSMASK;
    match change.fflags & NOTE_FFCTRLMASK {
        NOTE_FFAND => body.fflags &= fflags,
        NOTE_FFOR => body.fflags |= fflags,
        NOTE_FFCOPY => body.fflags = fflags,
        _ => {}
    }
    body.data = change.data;
    if !is_new && change.has(EV_CLEAR) {
        body.triggered = false;
        body.data = 0;
    }
}

#[inline]
pub(super) fn event(body: &Body) -> Option<Report> {
    body.triggered.then_some(Report {
        flags: 0,
        fflags: body.fflags,
        data: body.data,
    })
}

#[inline]
pub(super) fn clear(body: &mut Body) {
    body.triggered = false;
    body.fflags = 0;
    body.data = 0;
}

/// Restores the state that was cleared for an event, because the event was not delivered.
fn restore(body: &mut Body, event: &Kevent) {
    body.triggered = true;
    body.fflags = event.fflags;
    body.data = event.data;
}
