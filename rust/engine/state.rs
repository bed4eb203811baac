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
//! * **Recheck**: it was reported and is idle, or was when it was disabled; a timer checks now and then
//!   whether there is more by now ([`super::recheck`]).
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
//! queued nor deleting. Recheck implies neither queued nor deleting.
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

use core::{
    marker::PhantomPinned,
    sync::atomic::{AtomicU8, Ordering}, //
};

/// What a scan does with the knote that it took off the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Run its filter, and report it if the condition still holds.
    Evaluate,
    /// It was disabled while queued: leave it, active as it is.
    Skip,
}

/// The state of one knote; guarded by its kqueue's spin lock. A byte, as there may be a million.
///
/// Who has the lock has it mutable, reads it as it likes and changes it by one atomic store. So whether the knote is
/// deleting or unlinked may be asked without the lock, by an atomic load (`WRITE_ONCE` and `READ_ONCE`: that orders
/// nothing). As it is seen by others while it is mutable it is not `Unpin`.
#[derive(Debug, Default)]
pub(crate) struct State(AtomicU8, PhantomPinned);

const ACTIVE: u8 = 1;
const QUEUED: u8 = 2;
const DISABLED: u8 = 4;
const DELETING: u8 = 8;
/// It was taken out of the tree of what is bound to descriptors (`engine::close`).
const UNLINKED: u8 = 16;
/// It is in a list of those that are looked at now and then.
const RECHECK: u8 = 32;

impl State {
    #[inline]
    fn bits(&mut self) -> u8 {
        *self.0.get_mut()
    }

    #[inline]
    fn set(&mut self, bits: u8) {
        self.0.store(bits, Ordering::Relaxed);
    }

    /// Without the lock.
    #[inline]
    fn has(&self, bit: u8) -> bool {
        self.0.load(Ordering::Relaxed) & bit != 0
    }

    /// The source fired, or a level-triggered condition was reported and holds on.
    ///
    /// True if the knote must now be put into the list.
    #[must_use]
    pub(crate) fn activate(&mut self) -> bool {
        let bits = self.bits();
        if bits & DELETING != 0 {
            return false;
        }
        self.enqueue_if_due(bits | ACTIVE)
    }

    /// A change: activates, then `EV_DISABLE`, then `EV_ENABLE`, as it says. True if the knote must now be put
    /// into the list.
    #[must_use]
    pub(crate) fn change(&mut self, active: bool, disable: bool, enable: bool) -> bool {
        let mut bits = self.bits();
        if bits & DELETING != 0 {
            return false;
        }
        if active {
            bits |= ACTIVE;
        }
        if disable {
            bits |= DISABLED;
        }
        if enable {
            bits &= !DISABLED;
        }
        self.enqueue_if_due(bits)
    }

    /// It has those bits from here on, and `QUEUED` if that is due.
    #[inline]
    fn enqueue_if_due(&mut self, bits: u8) -> bool {
        // Active, and none of the others. (One that was scheduled is taken off that list when it comes into this one.)
        let due = bits & !RECHECK == ACTIVE;
        self.set(if due { bits | QUEUED } else { bits });
        due
    }

    /// `EV_DISPATCH`, after a report. A queued knote is left for a scan to skip.
    pub(crate) fn disable(&mut self) {
        let bits = self.bits();
        self.set(bits | DISABLED);
    }

    /// True if it must not be reported, be it active or not.
    pub(crate) fn is_disabled(&mut self) -> bool {
        self.bits() & DISABLED != 0
    }

    /// A scan took the knote off the list.
    pub(crate) fn take(&mut self) -> Take {
        let bits = self.bits() & !QUEUED;
        if bits & DISABLED != 0 {
            self.set(bits);
            return Take::Skip;
        }
        self.set(bits & !ACTIVE);
        Take::Evaluate
    }

    /// A scan has decided about it at a glance, and took it off the list: enabled as it was, it is idle now, or
    /// disabled if it is `dispatched`.
    pub(crate) fn settle(&mut self, dispatched: bool) {
        let bits = self.bits() & !(QUEUED | ACTIVE);
        self.set(if dispatched { bits | DISABLED } else { bits });
    }

    /// The same for one that is scheduled: it is idle, and in another list.
    pub(crate) fn settle_for_recheck(&mut self) {
        let bits = self.bits();
        self.set((bits & !(QUEUED | ACTIVE)) | RECHECK);
    }

    /// It was looked at, and may have more to tell later on. True if it must now be put into the list of those.
    #[must_use]
    pub(crate) fn schedule_recheck(&mut self) -> bool {
        let bits = self.bits();
        let due = bits & (QUEUED | DELETING | RECHECK) == 0;
        if due {
            self.set(bits | RECHECK);
        }
        due
    }

    /// True if it must now be taken off the list of those that were scheduled.
    #[must_use]
    pub(crate) fn cancel_recheck(&mut self) -> bool {
        let bits = self.bits();
        let scheduled = bits & RECHECK != 0;
        if scheduled {
            self.set(bits & !RECHECK);
        }
        scheduled
    }

    /// True if it is in that list.
    pub(crate) fn is_to_be_rechecked(&mut self) -> bool {
        self.bits() & RECHECK != 0
    }

    /// It is in the list without having been looked at, and its filter is about to be run. It keeps
    /// its place meanwhile; what its source tells is remembered. False if there is nothing to look
    /// at.
    #[must_use]
    pub(crate) fn doubt(&mut self) -> bool {
        let bits = self.bits();
        let queued = bits & (QUEUED | DISABLED) == QUEUED;
        if queued {
            self.set(bits & !ACTIVE);
        }
        queued
    }

    /// The filter has said whether it is `ready`. True if the knote must now be taken off the list.
    #[must_use]
    pub(crate) fn resolve(&mut self, ready: bool) -> bool {
        let mut bits = self.bits();
        if bits & QUEUED == 0 {
            return false;
        }
        if ready {
            bits |= ACTIVE;
        }
        let idle = bits & ACTIVE == 0;
        if idle {
            bits &= !QUEUED;
        }
        self.set(bits);
        idle
    }

    /// The knote, which is not scheduled, goes. True if it must now be taken off the list.
    #[must_use]
    pub(crate) fn delete(&mut self) -> bool {
        let bits = self.bits();
        self.set((bits | DELETING) & !(QUEUED | ACTIVE));
        bits & QUEUED != 0
    }

    /// The close probe has taken the knote out of the tree of what is bound to descriptors.
    pub(crate) fn unlink(&mut self) {
        let bits = self.bits();
        self.set(bits | UNLINKED);
    }

    /// True once [`State::unlink`] was called.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.has(UNLINKED)
    }

    /// True once [`State::delete`] was called.
    pub(crate) fn is_deleting(&self) -> bool {
        self.has(DELETING)
    }

    /// Its name in `/proc/PID/fdinfo`.
    pub(crate) fn name(&mut self) -> &'static str {
        let bits = self.bits();
        let [deleting, disabled, queued, active] =
            [DELETING, DISABLED, QUEUED, ACTIVE].map(|bit| bits & bit != 0);
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
