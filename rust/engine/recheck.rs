// SPDX-License-Identifier: GPL-2.0

//! Repeated evaluation of pipes whose reader may have missed a write.
//!
//! A writer wakes the readers of a pipe at the end of its write, because the pipe was polled with
//! `EPOLLET`. But a writer that waits for room during a write wakes the readers only if the pipe
//! was empty before. So a knote that has reported a part of the data (with `EV_CLEAR`), or that
//! waits for more data (`NOTE_LOWAT`), may never be woken for the rest. The kernel has no other
//! notification for that. Therefore a timer of the kqueue checks such pipes again, at growing
//! intervals, until the pipe is empty or the knote is pending.
//!
//! The knotes to be rechecked are in lists, one for each interval between two checks. A knote
//! begins in the first list. Each time a check finds nothing new, the knote moves to the next list,
//! which has twice the interval. The lists use the links of the ready list ([`super::ready_list`]),
//! because a knote is in at most one of these lists. The state of the knote tells in which.
//!
//! # Context
//!
//! The timer fires in hard interrupt context, and its callback takes the kqueue's spin lock. The
//! timer is armed with that lock held.

use super::{
    knote::Knote,
    kqueue::{Kqueue, ReadyState},
    ready_list::{links, Links},
};
use crate::sys::{
    compat::NO_RESTART,
    file::pipe::{Pipe, PipeChange},
    time::hrtimer::{self, Clock},
};
use core::{
    mem::offset_of,
    pin::Pin,
    ptr,
    sync::atomic::Ordering, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::aref::ARef,
    types::Opaque, //
};

/// The number of lists. Knotes stay in the first list for [`FIRST_INTERVAL`] nanoseconds, and in
/// each further list for twice as long as in the one before. From the last list, which has ten
/// seconds, they return to the same list.
const LISTS: usize = 11;
const FIRST_INTERVAL: i64 = 10_000_000;

/// The maximum number of knotes that one interrupt checks, and the delay of the next interrupt in
/// nanoseconds if more knotes are due.
pub(crate) const CHECKS_MAX: usize = 64;
const PAUSE: i64 = 1_000_000;

const NEVER: i64 = i64::MAX;

/// A list of knotes. In these lists, `next` of a knote is the next knote, and `prev` is the address
/// of the pointer to the knote.
#[derive(Clone, Copy)]
struct List {
    head: *const Knote,
    /// The time at which the knotes in the list are checked, or [`NEVER`] until the timer is armed
    /// for them.
    due: i64,
}

impl List {
    const EMPTY: Self = List {
        head: ptr::null(),
        due: NEVER,
    };

    /// Adds a knote to the list. Returns the previous value of its `next`.
    ///
    /// # Safety
    ///
    /// `knote` is valid and in no list. It belongs to the same kqueue as all knotes in this list.
    /// The lock of that kqueue is held, and no reference to their links exists.
    #[inline(always)]
    unsafe fn push(&mut self, knote: *const Knote) -> *const Knote {
        // SAFETY: By this function's contract.
        unsafe {
            let links = links(knote);
            let next = links.next;
            links.next = self.head;
            links.prev = (&raw mut self.head).cast();
            if !self.head.is_null() {
                self::links(self.head).prev = (&raw mut links.next).cast();
            }
            self.head = knote;
            next
        }
    }
}

/// The knotes of a kqueue that are to be rechecked.
///
/// # Invariants
///
/// This value is a part of the [`ReadyState`] of a kqueue and is not moved. All knotes in the lists
/// are valid and belong to that kqueue. A knote of the kqueue is in one of the lists if and only if
/// its state is "to be rechecked".
pub(crate) struct RecheckList {
    lists: [List; LISTS],
    /// The knotes that are being checked, and the number of the list that they were in.
    current: List,
    number: usize,
    /// The time for which the timer is armed, or [`NEVER`].
    armed_for: i64,
}

// SAFETY: Knotes may be used from any thread.
unsafe impl Send for RecheckList {}

impl RecheckList {
    /// Empty lists.
    pub(crate) fn new() -> Self {
        RecheckList {
            lists: [List::EMPTY; LISTS],
            current: List::EMPTY,
            number: 0,
            armed_for: NEVER,
        }
    }

    /// True if the first list has knotes for which the timer is not armed yet.
    #[inline]
    pub(crate) fn needs_timer(&self) -> bool {
        !self.lists[0].head.is_null() && self.lists[0].due == NEVER
    }

    /// Adds a knote to the first list. Returns the previous value of its `next`.
    ///
    /// # Safety
    ///
    /// `knote` is valid and belongs to the kqueue whose `ReadyState` contains this value. The lock
    /// of that kqueue is held. The knote was taken off the ready list, and its state is "to be
    /// rechecked". No reference to its links exists.
    #[inline(always)]
    pub(in crate::engine) unsafe fn push(&mut self, knote: *const Knote) -> *const Knote {
        // INVARIANT: The state of the knote is "to be rechecked", and it is in no other list.
        // SAFETY: By this function's contract, the knote is valid and in no list, and the lock is
        // held. By the type's invariant, the knotes of the list belong to the same kqueue.
        unsafe { self.lists[0].push(knote) }
    }
}

impl ReadyState {
    /// Schedules a recheck of a knote of this kqueue after the first interval, unless the knote is
    /// pending or retired.
    pub(crate) fn schedule_recheck(&mut self, knote: &Knote) {
        self.cancel_recheck(knote);
        self.schedule_recheck_in(knote, 0);
    }

    fn schedule_recheck_in(&mut self, knote: &Knote, number: usize) {
        if knote.state(self).schedule_recheck() {
            // INVARIANT: The state of the knote was just set to "to be rechecked".
            // SAFETY: The knote was neither pending nor to be rechecked, so it is in no list.
            // `state` has checked that it belongs to this kqueue.
            unsafe { self.rechecks.lists[number].push(knote) };
        }
    }

    /// Takes a knote of this kqueue off its list of rechecks. True if the knote was in one.
    #[inline(always)]
    pub(crate) fn cancel_recheck(&mut self, knote: &Knote) -> bool {
        knote.check(self);
        // SAFETY: `check` has checked that the knote belongs to this kqueue.
        unsafe { self.cancel_recheck_checked(knote) }
    }

    /// # Safety
    ///
    /// The knote belongs to this kqueue.
    #[inline(always)]
    pub(in crate::engine) unsafe fn cancel_recheck_checked(&mut self, knote: &Knote) -> bool {
        // SAFETY: The lock of the knote's kqueue is held, and `self` is borrowed mutably.
        let was_scheduled = unsafe { &mut *knote.state.get() }.cancel_recheck();
        if was_scheduled {
            // INVARIANT: The state of the knote is no longer "to be rechecked".
            // SAFETY: The lock is held. The knote was in one of the lists, so its neighbours are
            // valid.
            unsafe {
                let Links { next, prev } = core::mem::replace(links(knote), Links::NONE);
                prev.cast::<*const Knote>().cast_mut().write(next);
                if !next.is_null() {
                    links(next).prev = prev;
                }
            }
        }
        was_scheduled
    }

    /// The next knote whose check is due at the time `now`, and the number of its list.
    fn next_due(&mut self, now: i64) -> Option<(ARef<Knote>, usize)> {
        let rechecks = &mut self.rechecks;
        if rechecks.current.head.is_null() {
            // The list that was due first is checked first, so that no list waits forever.
            let lists = rechecks.lists.iter_mut().enumerate();
            let (number, list) = lists
                .filter(|(_, list)| !list.head.is_null() && list.due <= now)
                .min_by_key(|(_, list)| list.due)?;
            rechecks.current.head = core::mem::replace(list, List::EMPTY).head;
            rechecks.number = number;
            // INVARIANT: All knotes of that list are now in `current`.
            // SAFETY: The lock is held, and the knotes are valid.
            unsafe { links(rechecks.current.head).prev = (&raw mut rechecks.current.head).cast() };
        }
        // SAFETY: A knote in a list is valid.
        let knote = unsafe { rechecks.current.head.as_ref() }?;
        Some((knote.into(), rechecks.number))
    }

    /// Checks the next knote that is due at the time `now`. Returns `None` if no knote is due,
    /// `Some(None)` if the check found nothing new, and the knote if there is more to report.
    pub(crate) fn recheck_next(&mut self, now: i64) -> Option<Option<ARef<Knote>>> {
        let (knote, number) = self.next_due(now)?;
        let position = knote
            .pipe_position()
            .map_or(0, |position| position.load(Ordering::Relaxed));
        let file = knote.file_to_recheck(self);
        // Interrupts are disabled, because the lock is held.
        let change = file
            .and_then(Pipe::of)
            .map_or(PipeChange::Empty, |pipe| pipe.change_since(position));
        self.cancel_recheck(&knote);
        // The table holds another reference, so this one is not the last.
        match change {
            PipeChange::Empty => Some(None),
            PipeChange::More => Some(Some(knote)),
            PipeChange::None => {
                let number = number.saturating_add(1).min(LISTS - 1);
                let list = &mut self.rechecks.lists[number];
                if list.head.is_null() {
                    list.due = now.saturating_add(FIRST_INTERVAL << number);
                }
                self.schedule_recheck_in(&knote, number);
                Some(None)
            }
        }
    }
}

/// The timer by which a kqueue checks its pipes again.
#[pin_data(PinnedDrop)]
pub(crate) struct RecheckTimer {
    #[pin]
    timer: Opaque<bindings::hrtimer>,
}

// SAFETY: The timer is only passed to functions that do their own locking.
unsafe impl Send for RecheckTimer {}
// SAFETY: The timer is only passed to functions that do their own locking.
unsafe impl Sync for RecheckTimer {}

impl RecheckTimer {
    /// A timer that is not armed.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(RecheckTimer {
            // SAFETY: `slot` is valid for writes and is not moved. `drop` cancels the timer.
            timer <- Opaque::ffi_init(|slot| unsafe {
                hrtimer::set_up(slot, Clock::Monotonic, Self::fire)
            }),
        })
    }

    /// The kqueue whose `recheck_timer` contains this timer.
    fn kqueue(timer: *mut bindings::hrtimer) -> *const Kqueue {
        let timer = timer.cast::<Opaque<bindings::hrtimer>>();
        let recheck_timer = timer.wrapping_byte_sub(offset_of!(RecheckTimer, timer));
        recheck_timer
            .wrapping_byte_sub(offset_of!(Kqueue, recheck_timer))
            .cast_const()
            .cast()
    }

    /// Cancels the timer and waits for its callback. No knote is scheduled any more.
    pub(crate) fn cancel(&self) {
        // SAFETY: The timer was set up. The kqueue is being released, so the caller holds no lock
        // that the callback takes.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }

    /// The callback of the timer.
    ///
    /// # Safety
    ///
    /// `timer` is the hrtimer of the `recheck_timer` of a kqueue, as `arm_recheck_timer` has
    /// checked.
    unsafe extern "C" fn fire(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By this function's contract, the timer belongs to a kqueue. The kqueue is alive,
        // because `recheck_timer` is the first of its fields to be dropped, and its drop waits for
        // this function.
        unsafe { &*Self::kqueue(timer) }.recheck_next(Clock::Monotonic.now());
        NO_RESTART
    }
}

#[pinned_drop]
impl PinnedDrop for RecheckTimer {
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}

impl Kqueue {
    /// Arms the timer for knotes that were added to the first list.
    #[cold]
    #[inline(never)]
    pub(crate) fn arm_first_recheck(&self, rechecks: &mut RecheckList) {
        let due = Clock::Monotonic.now().saturating_add(FIRST_INTERVAL);
        rechecks.lists[0].due = due;
        if due < rechecks.armed_for {
            self.arm_recheck_timer(rechecks, due);
        }
    }

    /// Arms the timer again, after it has fired and knotes were checked.
    pub(crate) fn arm_next_recheck(&self, rechecks: &mut RecheckList, now: i64) {
        let mut next = NEVER;
        for list in &mut rechecks.lists {
            if list.head.is_null() {
                list.due = NEVER;
            }
            next = next.min(list.due);
        }
        if !rechecks.current.head.is_null() {
            next = now.saturating_add(PAUSE);
        }
        rechecks.armed_for = NEVER;
        if next != NEVER {
            self.arm_recheck_timer(rechecks, next);
        }
    }

    fn arm_recheck_timer(&self, rechecks: &mut RecheckList, at: i64) {
        rechecks.armed_for = at;
        let timer = self.recheck_timer.timer.get();
        assert!(ptr::eq(self, RecheckTimer::kqueue(timer)));
        // SAFETY: The timer was set up. `drop` cancels it before it is freed.
        unsafe { hrtimer::start(timer, at) };
    }
}
