// SPDX-License-Identifier: GPL-2.0

//! The states of a knote, and the only transitions between them.
//!
//! Nothing here calls the kernel, so that the file can be compiled and tested on the host as well.
//!
//! # Vocabulary
//!
//! States, as in `kern_event.c`:
//!
//! * **Active** (`KN_ACTIVE`): its source has fired, and that was not reported yet.
//! * **Queued** (`KN_QUEUED`): it is in its kqueue's list of pending knotes.
//! * **Disabled** (`KN_DISABLED`): it may be active but must not be reported.
//! * **Recheck**: it was reported and is idle, or was when it was disabled; a timer checks now and
//!   then whether there is more by now ([`super::recheck`]).
//! * **Deleting** (`KN_DELETING`, `KN_DETACHED`): it is never reported or queued again; its
//!   source is being, or was, taken away.
//!
//! `KN_PROCESSING`, `KN_WAITING` and `KN_REPROCESS` have no counterpart. A task that processes a
//! knote holds the kqueue's mutex. A source that fires meanwhile simply queues the knote again,
//! because a scan takes a knote off the list *before* it runs the filter. (Or the scan does all of
//! that under the spin lock: then a source fires before or after it.)
//!
//! # Invariants
//!
//! Queued implies active (or [in doubt](State::begin_verify)), and neither disabled at the time it
//! was queued nor deleting. Recheck implies neither queued nor deleting.
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

/// What a scan does with a knote that it has taken off the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Run its filter, and report it if the condition still holds.
    Evaluate,
    /// It was disabled while it was queued: the scan leaves it, and it stays active.
    Skip,
}

/// The state of one knote, guarded by its kqueue's spin lock. It is a byte, as there may be a
/// million knotes.
///
/// The owner of the lock has it mutable, reads it freely and changes it by one atomic store. So any
/// task may find out without the lock whether the knote is deleting or unlinked, by an atomic load
/// (`WRITE_ONCE` and `READ_ONCE`, which order nothing). It is not `Unpin`, as others read it while
/// it is mutable.
#[derive(Debug, Default)]
pub(crate) struct State(AtomicU8, PhantomPinned);

const ACTIVE: u8 = 1;
const QUEUED: u8 = 2;
const DISABLED: u8 = 4;
const DELETING: u8 = 8;
/// It was taken out of its tree of bound knotes (`engine::close`).
const UNLINKED: u8 = 16;
/// It is in a list of knotes that are rechecked.
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

    /// The source fired, or a level-triggered condition was reported and still holds.
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

    /// A change: activates, then disables (`EV_DISABLE`), then enables (`EV_ENABLE`), as it says.
    /// True if the knote must now be put into the list.
    #[must_use]
    pub(crate) fn apply_change(&mut self, active: bool, disable: bool, enable: bool) -> bool {
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

    /// Stores those bits, with `QUEUED` if the knote is due.
    #[inline]
    fn enqueue_if_due(&mut self, bits: u8) -> bool {
        // Active, and none of the others. (A scheduled knote is taken off the list of rechecks when
        // it comes into this one.)
        let due = bits & !RECHECK == ACTIVE;
        self.set(if due { bits | QUEUED } else { bits });
        due
    }

    /// `EV_DISPATCH`, after a report. A queued knote stays in the list, where a scan skips it.
    pub(crate) fn disable(&mut self) {
        let bits = self.bits();
        self.set(bits | DISABLED);
    }

    /// True if it must not be reported, whether it is active or not.
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

    /// A scan has evaluated it under the spin lock and takes it off the list. It was enabled. It is
    /// idle now, or disabled if it is `dispatched`.
    pub(crate) fn take_evaluated(&mut self, dispatched: bool) {
        let bits = self.bits() & !(QUEUED | ACTIVE);
        self.set(if dispatched { bits | DISABLED } else { bits });
    }

    /// The same for a knote that is to be rechecked: it is idle, and in another list.
    pub(crate) fn take_for_recheck(&mut self) {
        let bits = self.bits();
        self.set((bits & !(QUEUED | ACTIVE)) | RECHECK);
    }

    /// It was evaluated, and may have more to report later. True if it must now be put into a list
    /// of rechecks.
    #[must_use]
    pub(crate) fn schedule_recheck(&mut self) -> bool {
        let bits = self.bits();
        let due = bits & (QUEUED | DELETING | RECHECK) == 0;
        if due {
            self.set(bits | RECHECK);
        }
        due
    }

    /// True if it must now be taken off its list of rechecks.
    #[must_use]
    pub(crate) fn cancel_recheck(&mut self) -> bool {
        let bits = self.bits();
        let scheduled = bits & RECHECK != 0;
        if scheduled {
            self.set(bits & !RECHECK);
        }
        scheduled
    }

    /// True if it is in a list of rechecks.
    pub(crate) fn is_to_be_rechecked(&mut self) -> bool {
        self.bits() & RECHECK != 0
    }

    /// It is in the list without having been evaluated, and its filter is about to run. It keeps
    /// its place meanwhile, and an activation is remembered. False if it is not in the list.
    #[must_use]
    pub(crate) fn begin_verify(&mut self) -> bool {
        let bits = self.bits();
        let queued = bits & (QUEUED | DISABLED) == QUEUED;
        if queued {
            self.set(bits & !ACTIVE);
        }
        queued
    }

    /// The filter has said whether it is `ready`. True if the knote must now be taken off the list.
    #[must_use]
    pub(crate) fn end_verify(&mut self, ready: bool) -> bool {
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

    /// Retires the knote, which is not to be rechecked. True if it must now be taken off the list.
    #[must_use]
    pub(crate) fn delete(&mut self) -> bool {
        let bits = self.bits();
        self.set((bits | DELETING) & !(QUEUED | ACTIVE));
        bits & QUEUED != 0
    }

    /// The close probe has taken the knote out of its tree of bound knotes.
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
