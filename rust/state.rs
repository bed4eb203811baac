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
//! * **Told**: it was reported and is idle, or was when it was disabled; its kqueue looks now and then
//!   whether there is more by now ([`crate::hook::told`]).
//! * **Deleting** (`KN_DELETING`, `KN_DETACHED`): it is never reported or queued again; its
//!   source is being, or was, taken away.
//!
//! `KN_PROCESSING`, `KN_WAITING` and `KN_REPROCESS` have no counterpart: who processes a knote
//! holds the kqueue's mutex, and a source that fires meanwhile simply queues it again, because a
//! scan takes a knote off the list *before* it runs the filter. (Or it does all of that under the
//! spin lock: then a source fires before or after it.)
//!
//! # Invariants
//!
//! Queued implies active (or [in doubt](State::doubt)), and neither disabled at the time it was
//! queued nor deleting. Told implies neither queued nor deleting.
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

/// The state of one knote; guarded by its kqueue's spin lock. A byte, as there may be a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State(u8);

const ACTIVE: u8 = 1;
const QUEUED: u8 = 2;
const DISABLED: u8 = 4;
const DELETING: u8 = 8;
/// It was taken out of the tree of what is bound to descriptors (`hook::close`).
const UNLINKED: u8 = 16;
/// It is in a list of those that are looked at now and then.
const TOLD: u8 = 32;

impl State {
    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// The source fired, or a level-triggered condition was reported and holds on.
    ///
    /// True if the knote must now be put into the list.
    #[must_use]
    pub(crate) fn activate(&mut self) -> bool {
        if self.has(DELETING) {
            return false;
        }
        self.0 |= ACTIVE;
        self.enqueue_if_due()
    }

    /// A change: activates, then `EV_DISABLE`, then `EV_ENABLE`, as it says. True if the knote must now be put
    /// into the list.
    #[must_use]
    pub(crate) fn change(&mut self, active: bool, disable: bool, enable: bool) -> bool {
        if self.has(DELETING) {
            return false;
        }
        if active {
            self.0 |= ACTIVE;
        }
        if disable {
            self.0 |= DISABLED;
        }
        if enable {
            self.0 &= !DISABLED;
        }
        self.enqueue_if_due()
    }

    fn enqueue_if_due(&mut self) -> bool {
        // Active, and none of the others. (One that was told is taken off that list when it comes into this one.)
        let due = self.0 & !TOLD == ACTIVE;
        if due {
            self.0 |= QUEUED;
        }
        due
    }

    /// `EV_DISPATCH`, after a report. A queued knote is left for a scan to skip.
    pub(crate) fn disable(&mut self) {
        self.0 |= DISABLED;
    }

    /// True if it must not be reported, be it active or not.
    pub(crate) fn is_disabled(self) -> bool {
        self.has(DISABLED)
    }

    /// A scan took the knote off the list.
    pub(crate) fn take(&mut self) -> Take {
        self.0 &= !QUEUED;
        if self.has(DISABLED) {
            return Take::Skip;
        }
        self.0 &= !ACTIVE;
        Take::Evaluate
    }

    /// A scan has decided about it at a glance, and took it off the list: enabled as it was, it is idle now, or
    /// disabled if it is `dispatched`.
    pub(crate) fn settle(&mut self, dispatched: bool) {
        self.0 &= !(QUEUED | ACTIVE);
        if dispatched {
            self.0 |= DISABLED;
        }
    }

    /// The same for one that is told: it is idle, and in another list.
    pub(crate) fn settle_told(&mut self) {
        self.0 = (self.0 & !(QUEUED | ACTIVE)) | TOLD;
    }

    /// It was looked at, and may have more to tell later on. True if it must now be put into the list of those.
    #[must_use]
    pub(crate) fn tell(&mut self) -> bool {
        let due = self.0 & (QUEUED | DELETING | TOLD) == 0;
        if due {
            self.0 |= TOLD;
        }
        due
    }

    /// True if it must now be taken off the list of those that were told.
    #[must_use]
    pub(crate) fn untell(&mut self) -> bool {
        let told = self.has(TOLD);
        if told {
            self.0 &= !TOLD;
        }
        told
    }

    /// True if it is in that list.
    pub(crate) fn is_told(self) -> bool {
        self.has(TOLD)
    }

    /// It is in the list without having been looked at, and its filter is about to be run. It keeps
    /// its place meanwhile; what its source tells is remembered. False if there is nothing to look
    /// at.
    #[must_use]
    pub(crate) fn doubt(&mut self) -> bool {
        let queued = self.0 & (QUEUED | DISABLED) == QUEUED;
        if queued {
            self.0 &= !ACTIVE;
        }
        queued
    }

    /// The filter has said whether it is `ready`. True if the knote must now be taken off the list.
    #[must_use]
    pub(crate) fn resolve(&mut self, ready: bool) -> bool {
        if !self.has(QUEUED) {
            return false;
        }
        if ready {
            self.0 |= ACTIVE;
        }
        let idle = !self.has(ACTIVE);
        if idle {
            self.0 &= !QUEUED;
        }
        idle
    }

    /// The knote, which is not told, goes. True if it must now be taken off the list.
    #[must_use]
    pub(crate) fn delete(&mut self) -> bool {
        let queued = self.has(QUEUED);
        self.0 = (self.0 | DELETING) & !(QUEUED | ACTIVE);
        queued
    }

    /// The close probe has taken the knote out of the tree of what is bound to descriptors.
    pub(crate) fn unlink(&mut self) {
        self.0 |= UNLINKED;
    }

    /// True once [`State::unlink`] was called.
    pub(crate) fn is_unlinked(self) -> bool {
        self.has(UNLINKED)
    }

    /// True once [`State::delete`] was called.
    pub(crate) fn is_deleting(self) -> bool {
        self.has(DELETING)
    }

    /// Its name in `/proc/PID/fdinfo`.
    pub(crate) fn name(self) -> &'static str {
        let [deleting, disabled, queued, active] =
            [DELETING, DISABLED, QUEUED, ACTIVE].map(|bit| self.has(bit));
        match (deleting, disabled, queued, active) {
            (true, ..) => "deleting",
            (_, true, _, true) => "disabled,active",
            (_, true, _, false) => "disabled",
            (_, _, true, _) => "queued",
            (_, _, false, true) => "active",
            (_, _, false, false) => "idle",
        }
    }
}
