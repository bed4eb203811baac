// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_USER`: the program triggers it itself.
//!
//! # BSD says
//!
//! `filt_userattach` and `filt_usertouch`: `NOTE_TRIGGER` makes it active; two bits of `fflags`
//! say what becomes of the 24 bits that are the program's; `data` is stored. It stays active
//! until it is reported with `EV_CLEAR`. `EV_CLEAR` in a modification untriggers it and resets
//! `data`, but not `fflags`. `udata` is that of the `EV_ADD`.

use super::Report;
use crate::uapi::*;

/// A program's own event.
pub(crate) struct User {
    triggered: bool,
    fflags: u32,
    data: i64,
}

impl User {
    pub(super) fn attach(change: &Kevent) -> Self {
        let mut this = User {
            triggered: false,
            fflags: 0,
            data: 0,
        };
        this.apply(change);
        this
    }

    pub(super) fn touch(&mut self, change: &Kevent) {
        self.apply(change);
        if change.has(EV_CLEAR) {
            self.triggered = false;
            self.data = 0;
        }
    }

    fn apply(&mut self, change: &Kevent) {
        if change.fflags & NOTE_TRIGGER != 0 {
            self.triggered = true;
        }
        let fflags = change.fflags & NOTE_FFLAGSMASK;
        match change.fflags & NOTE_FFCTRLMASK {
            NOTE_FFAND => self.fflags &= fflags,
            NOTE_FFOR => self.fflags |= fflags,
            NOTE_FFCOPY => self.fflags = fflags,
            _ => {}
        }
        self.data = change.data;
    }

    pub(super) fn event(&self) -> Option<Report> {
        self.triggered.then_some(Report {
            flags: 0,
            fflags: self.fflags,
            data: self.data,
        })
    }

    pub(super) fn clear(&mut self) {
        *self = User {
            triggered: false,
            fflags: 0,
            data: 0,
        };
    }
}
