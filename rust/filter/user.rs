// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_USER`: the program triggers it itself.
//!
//! # BSD says
//!
//! `filt_userattach` and `filt_usertouch`: `NOTE_TRIGGER` makes it active; two bits of `fflags`
//! say what becomes of the 24 bits that are the program's; `data` is stored. It stays active
//! until it is reported with `EV_CLEAR`. `EV_CLEAR` in a modification untriggers it and resets
//! `data`, but not `fflags`. (`udata` is that of the last change here, as with all other filters.)

use crate::{
    engine::{knote::Body, ops::Report},
    uapi::*,
};

/// What the knote saves is the event's own, not what the change said.
pub(super) fn touch(body: &mut Body, change: &Kevent, is_new: bool) {
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

/// It was cleared for an event that has not reached the program.
pub(super) fn restore(body: &mut Body, event: &Kevent) {
    body.triggered = true;
    body.fflags = event.fflags;
    body.data = event.data;
}
