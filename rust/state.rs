// SPDX-License-Identifier: GPL-2.0

//! The states of a knote, and the only ways between them.
//!
//! Nothing here calls the kernel, so that the file compiles and is tested on the
//! host as well.
//!
//! # Vocabulary
//!
//! States, as in `kern_event.c`:
//!
//! * **Active** (`KN_ACTIVE`): its source has reported something that was not collected yet.
//! * **Queued** (`KN_QUEUED`): it is in its kqueue's list of pending knotes.
//! * **Disabled** (`KN_DISABLED`): it may be active but must not be reported.
//! * **Deleting** (`KN_DELETING`, `KN_DETACHED`): it is never reported or queued again; its
//!   source is being, or was, taken away.
//!
//! `KN_PROCESSING`, `KN_WAITING` and `KN_REPROCESS` have no counterpart: who processes a knote
//! holds the kqueue's mutex, and a source that fires meanwhile simply queues it again, because a
//! scan takes a knote off the list *before* it runs the filter.
//!
//! # Invariants
//!
//! Queued implies active, and neither disabled at the time it was queued nor deleting.
//!
//! ```text
//!                activate                        take: Evaluate
//!   (idle) ------------------> active+queued ----------------------> (idle), in the scan's hands
//!     |  ^                       |      |  ^                            |
//!     |  |                       |      |  '--- activate (level) -------|
//!     |  '-----------------------|------|------ (clear) ----------------|
//!     | disable                  |      | disable                       | dispatch
//!     v          activate        |      v          take: Skip           v
//!  disabled ---------------> disabled+active <----- (queued)         disabled
//!     ^                          |
//!     '------ enable: queued again if active
//!
//!   delete, from anywhere: deleting, for good
//! ```

/// What a scan does with the knote that it took off the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Run its filter, and report it if the condition still holds.
    Evaluate,
    /// It was disabled while queued: leave it, active as it is.
    Skip,
}

/// The state of one knote; guarded by its kqueue's spin lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    active: bool,
    queued: bool,
    disabled: bool,
    deleting: bool,
}

impl State {
    /// The source fired, or a level-triggered condition was reported and holds on.
    ///
    /// True if the knote must now be put into the list.
    #[must_use]
    pub(crate) fn activate(&mut self) -> bool {
        if self.deleting {
            return false;
        }
        self.active = true;
        self.enqueue_if_due()
    }

    /// `EV_ENABLE`. True if the knote must now be put into the list.
    #[must_use]
    pub(crate) fn enable(&mut self) -> bool {
        self.disabled = false;
        self.enqueue_if_due()
    }

    fn enqueue_if_due(&mut self) -> bool {
        let due = self.active && !self.queued && !self.disabled && !self.deleting;
        self.queued |= due;
        due
    }

    /// `EV_DISABLE`, or `EV_DISPATCH` after a report. A queued knote is left for a scan to skip.
    pub(crate) fn disable(&mut self) {
        self.disabled = true;
    }

    /// A scan took the knote off the list.
    pub(crate) fn take(&mut self) -> Take {
        self.queued = false;
        if self.disabled {
            return Take::Skip;
        }
        self.active = false;
        Take::Evaluate
    }

    /// The knote goes. True if it must now be taken off the list.
    #[must_use]
    pub(crate) fn delete(&mut self) -> bool {
        let queued = self.queued;
        self.deleting = true;
        self.queued = false;
        self.active = false;
        queued
    }

    /// True once [`State::delete`] was called.
    pub(crate) fn is_deleting(&self) -> bool {
        self.deleting
    }

    /// Its name in `/proc/PID/fdinfo`.
    pub(crate) fn name(&self) -> &'static str {
        match (self.deleting, self.disabled, self.queued, self.active) {
            (true, ..) => "deleting",
            (_, true, _, true) => "disabled,active",
            (_, true, _, false) => "disabled",
            (_, _, true, _) => "queued",
            (_, _, false, true) => "active",
            (_, _, false, false) => "idle",
        }
    }
}
