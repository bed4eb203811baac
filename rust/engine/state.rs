// SPDX-License-Identifier: GPL-2.0

//! The states of a knote and all transitions between them.
//!
//! This file does not call the kernel, so that it can be compiled and tested on the host as well.
//!
//! # Vocabulary
//!
//! States, as in `kern_event.c`:
//!
//! - **Active** (`KN_ACTIVE`): the source has fired, and that was not reported yet.
//! - **Queued** (`KN_QUEUED`): the knote is in the ready list of its kqueue.
//! - **Disabled** (`KN_DISABLED`): the knote may be active but must not be reported.
//! - **Recheck**: the knote was reported and was idle then (it may be disabled now). A timer
//!   evaluates it again from time to time ([`super::recheck`]).
//! - **Spent**: the knote has `EV_ONESHOT`, and its event was delivered, or a walk has found it
//!   ready and its event is being delivered. The knote does not exist for the program any more. It
//!   stays attached to its descriptor, because programs often add it again with their next call.
//!   `EV_ADD` renews it. A knote whose attachment another knote shares ([`super::pairing`]) is also
//!   spent when the program deletes it.
//! - **Retired** (`KN_DELETING`, `KN_DETACHED`): the knote is never reported or queued again. Its
//!   source is being detached, or was detached.
//!
//! `KN_PROCESSING`, `KN_WAITING` and `KN_REPROCESS` have no counterpart. A task that processes a
//! knote holds the kqueue's mutex. A source that fires meanwhile queues the knote again, because a
//! scan takes a knote off the list *before* it runs the filter. (If the scan does both in one
//! critical section of the spin lock, a source fires before or after it.)
//!
//! # Invariants
//!
//! Queued implies active (or [being verified](State::begin_verify)), and neither disabled nor
//! retired: whoever disables or retires a queued knote takes it off the list in the same critical
//! section. Recheck implies neither queued nor retired. Spent implies neither active nor queued.
//!
//! ```text
//!                activate                             take
//!   (idle) ------------------> active+queued ----------------------> (idle), in the scan's hands
//!     |  ^                         |   ^                                |
//!     |  |                         |   '------- activate (level) -------|
//!     |  '-------------------------|----------- (clear) ----------------|
//!     | disable                    | disable, unqueue                   | dispatch
//!     v          activate          v                                    v
//!  disabled ---------------> disabled+active                         disabled
//!     ^                            |
//!     '------ enable: queued again if active
//!
//!   (idle) <-- renew -- spent <-- spend -- active+queued
//!
//!   retire, from anywhere: retired, for good
//! ```

use core::{
    marker::PhantomPinned,
    sync::atomic::{AtomicU8, Ordering}, //
};

/// The state of one knote, guarded by the spin lock of its kqueue. It is one byte, because there
/// may be a million knotes.
///
/// The owner of the lock has a mutable reference and changes the state by one atomic store. So a
/// task without the lock may test by an atomic load whether the knote is retired, spent or out of
/// its tree. The type is not `Unpin`, because it is read while a mutable reference exists.
///
/// # Ordering
///
/// The stores and the loads are relaxed, with one exception. The lock orders the stores.
///
/// - Spent: the mutex orders the load after the stores. Only a knote that is being retired is
///   changed without the mutex, and the reader handles that under the lock.
/// - Retired: the load may return an old value, but only if the knote is retired at the same time.
///   A task that has learned of a close by a lock or by what it has read from a source also sees
///   that the knote is retired.
/// - Out of tree: the task that reads it then clears the file of the binding without the lock of
///   the tree, under which the close probe has read that file. So the store has release ordering
///   and the load acquire ordering. (The close probe then retires the knote by a relaxed store. The
///   kernel's memory model keeps the order of the two stores, because they are to the same byte.)
#[derive(Debug, Default)]
pub(crate) struct State(AtomicU8, PhantomPinned);

const ACTIVE: u8 = 1;
const QUEUED: u8 = 2;
const DISABLED: u8 = 4;
const RETIRED: u8 = 8;
/// The knote was taken out of its tree of bound knotes (`engine::close`).
const OUT_OF_TREE: u8 = 16;
/// The knote is in a list of knotes that are to be rechecked.
const RECHECK: u8 = 32;
/// The knote is one-shot, and its event was delivered or is being delivered, or it was deleted and
/// another knote shares its attachment.
const SPENT: u8 = 64;

impl State {
    #[inline]
    fn bits(&mut self) -> u8 {
        *self.0.get_mut()
    }

    #[inline]
    fn set(&mut self, bits: u8) {
        self.0.store(bits, Ordering::Relaxed);
    }

    /// Tests a bit without the lock. See "Ordering" in the documentation of the type.
    #[inline]
    fn has(&self, bit: u8) -> bool {
        self.0.load(Ordering::Relaxed) & bit != 0
    }

    /// Marks the knote active, because its source fired, or because a level-triggered condition was
    /// reported and still holds.
    ///
    /// True if the knote must now be put into the list.
    #[must_use]
    pub(crate) fn activate(&mut self) -> bool {
        let bits = self.bits();
        if bits & (RETIRED | SPENT) != 0 {
            return false;
        }
        self.enqueue_if_due(bits | ACTIVE)
    }

    /// Applies a change: first activates, then disables (`EV_DISABLE`), then enables (`EV_ENABLE`)
    /// the knote, as requested. True if the knote must now be put into the list.
    #[must_use]
    pub(crate) fn apply_change(&mut self, active: bool, disable: bool, enable: bool) -> bool {
        let mut bits = self.bits();
        if bits & (RETIRED | SPENT) != 0 {
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

    /// Stores `bits`, together with `QUEUED` if the knote is due.
    #[inline]
    fn enqueue_if_due(&mut self, bits: u8) -> bool {
        // A knote is due if it is active and no other bit is set. (A knote in a list of rechecks is
        // taken off that list when it is put into the ready list.)
        let due = bits & !RECHECK == ACTIVE;
        self.set(if due { bits | QUEUED } else { bits });
        due
    }

    /// Disables the knote after a report (`EV_DISPATCH`). If it is in the list, the caller takes it
    /// off ([`State::unqueue`]).
    pub(crate) fn disable(&mut self) {
        let bits = self.bits();
        self.set(bits | DISABLED);
    }

    /// True if the knote is in the ready list.
    pub(crate) fn is_queued(&mut self) -> bool {
        self.bits() & QUEUED != 0
    }

    /// True if the knote must not be reported, whether it is active or not.
    pub(crate) fn is_disabled(&mut self) -> bool {
        self.bits() & DISABLED != 0
    }

    /// Records that the knote, which is enabled, was taken off the list to be evaluated.
    pub(crate) fn take(&mut self) {
        let bits = self.bits();
        debug_assert!(bits & DISABLED == 0);
        self.set(bits & !(QUEUED | ACTIVE));
    }

    /// Records that the knote was taken off the list because it was just disabled. It stays active,
    /// so that it is queued again when it is enabled.
    pub(crate) fn unqueue(&mut self) {
        let bits = self.bits();
        debug_assert!(bits & DISABLED != 0);
        self.set(bits & !QUEUED);
    }

    /// Records that a scan has evaluated the knote, which was enabled, under the spin lock, and
    /// takes it off the list. The knote is idle now, or disabled if it was `dispatched`.
    pub(crate) fn take_evaluated(&mut self, dispatched: bool) {
        let bits = self.bits() & !(QUEUED | ACTIVE);
        self.set(if dispatched { bits | DISABLED } else { bits });
    }

    /// [`State::take_evaluated`] for a one-shot knote that a scan has found ready.
    pub(crate) fn spend(&mut self) {
        let bits = self.bits();
        self.set((bits & !(QUEUED | ACTIVE)) | SPENT);
    }

    /// Makes a spent knote enabled and idle, because it is added again or its event could not be
    /// delivered. False if the knote is not spent.
    pub(crate) fn renew(&mut self) -> bool {
        let bits = self.bits();
        let spent = bits & SPENT != 0;
        if spent {
            self.set(bits & !(SPENT | DISABLED));
        }
        spent
    }

    /// True if the knote is spent. The owner of the mutex may read this without the spin lock,
    /// because a knote is spent and renewed only under the mutex.
    pub(crate) fn is_spent(&self) -> bool {
        self.has(SPENT)
    }

    /// [`State::take_evaluated`] for a knote that goes to a list of rechecks.
    pub(crate) fn take_for_recheck(&mut self) {
        let bits = self.bits();
        self.set((bits & !(QUEUED | ACTIVE)) | RECHECK);
    }

    /// Records that the knote was evaluated and may have more to report later. True if it must now
    /// be put into a list of rechecks.
    #[must_use]
    pub(crate) fn schedule_recheck(&mut self) -> bool {
        let bits = self.bits();
        let due = bits & (QUEUED | RETIRED | RECHECK | SPENT) == 0;
        if due {
            self.set(bits | RECHECK);
        }
        due
    }

    /// Cancels a recheck. True if the knote must now be taken off its list of rechecks.
    #[must_use]
    pub(crate) fn cancel_recheck(&mut self) -> bool {
        let bits = self.bits();
        let scheduled = bits & RECHECK != 0;
        if scheduled {
            self.set(bits & !RECHECK);
        }
        scheduled
    }

    /// True if the knote is in a list of rechecks.
    pub(crate) fn is_to_be_rechecked(&mut self) -> bool {
        self.bits() & RECHECK != 0
    }

    /// Begins the evaluation of a knote that was queued without an evaluation. The knote keeps its
    /// place in the list while the filter runs, and an activation during that time is recorded.
    /// False if the knote is not in the list.
    #[must_use]
    pub(crate) fn begin_verify(&mut self) -> bool {
        let bits = self.bits();
        let queued = bits & (QUEUED | DISABLED) == QUEUED;
        if queued {
            self.set(bits & !ACTIVE);
        }
        queued
    }

    /// Ends the evaluation: `ready` is the result of the filter. True if the knote must now be
    /// taken off the list.
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

    /// Retires the knote, which is in no list of rechecks. True if it must now be taken off the
    /// list.
    #[must_use]
    pub(crate) fn retire(&mut self) -> bool {
        let bits = self.bits();
        self.set((bits | RETIRED) & !(QUEUED | ACTIVE | SPENT));
        bits & QUEUED != 0
    }

    /// Records that the close probe has taken the knote out of its tree of bound knotes. The probe
    /// does not read the file of the binding after this.
    pub(crate) fn leave_tree(&mut self) {
        let bits = self.bits();
        self.0.store(bits | OUT_OF_TREE, Ordering::Release);
    }

    /// True once [`State::leave_tree`] was called. If so, the close probe has read the file of the
    /// binding for the last time before this call returns.
    pub(crate) fn is_out_of_tree(&self) -> bool {
        self.0.load(Ordering::Acquire) & OUT_OF_TREE != 0
    }

    /// True if the knote does not exist for the program: it is retired or spent.
    pub(crate) fn is_invisible(&mut self) -> bool {
        self.bits() & (RETIRED | SPENT) != 0
    }

    /// True once [`State::retire`] was called.
    pub(crate) fn is_retired(&self) -> bool {
        self.has(RETIRED)
    }

    /// The name of the state in `/proc/PID/fdinfo`.
    pub(crate) fn name(&mut self) -> &'static str {
        let bits = self.bits();
        let [retired, disabled, queued, active] =
            [RETIRED, DISABLED, QUEUED, ACTIVE].map(|bit| bits & bit != 0);
        match (retired, disabled, queued, active) {
            (true, ..) => "retired",
            (_, true, _, true) => "disabled,active",
            (_, true, _, false) => "disabled",
            (_, _, true, _) => "queued",
            (_, _, false, true) => "active",
            (_, _, false, false) => "idle",
        }
    }
}
