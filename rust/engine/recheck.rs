// SPDX-License-Identifier: GPL-2.0

//! Pipes whose reader may have missed a write.
//!
//! A writer wakes the reader of a pipe when it is done, since the reader has asked for that
//! (`EPOLLET`). But a writer that waits for room during a write wakes the reader only if the pipe
//! was empty before. So a reader to which a part of the data was reported (with `EV_CLEAR`), or
//! that waits for more (`NOTE_LOWAT`), may never be woken for the rest. No other part of the kernel
//! notifies of it. Therefore a timer of the kqueue checks such pipes again, less and less often,
//! until the pipe is empty or the knote is pending.
//!
//! The knotes to be rechecked are in lists, one for each interval between two checks. A knote
//! begins in the first list. It moves to the next one, which has twice the interval, each time that
//! the check finds nothing new. The lists use the links of the ready list ([`super::ready_list`]):
//! a knote is in one of them at most, and its state says in which.
//!
//! # Context
//!
//! The timer fires in a hard interrupt, where the kqueue's spin lock is taken. It is armed with
//! that lock held.

use super::{
    knote_memory::Knote,
    kqueue::{Kqueue, Ready},
    ready_list::{links, Links},
};
use crate::sys::{
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
/// each other list for twice as long as in the one before. In the last one, ten seconds long, they
/// stay again and again.
const LISTS: usize = 11;
const FIRST_INTERVAL: i64 = 10_000_000;

/// How many knotes are checked in one interrupt, and how many nanoseconds later the next interrupt
/// comes if there are more.
pub(crate) const CHECKS_MAX: usize = 64;
const PAUSE: i64 = 1_000_000;

const NEVER: i64 = i64::MAX;

/// A list of knotes. `next` of a knote is the next knote; `prev` is the address of the pointer to
/// the knote.
#[derive(Clone, Copy)]
struct List {
    head: *const Knote,
    /// When the knotes in the list are to be checked; [`NEVER`] until the timer is armed for them.
    due: i64,
}

impl List {
    const EMPTY: Self = List {
        head: ptr::null(),
        due: NEVER,
    };

    /// Adds a knote to the list. Returns what its `next` was.
    ///
    /// # Safety
    ///
    /// `knote` is valid and in no list. It and all knotes in this list belong to one kqueue, whose
    /// lock is held, and nobody has a reference to their links.
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
/// It stays in its place, in the [`Ready`] of a kqueue. All knotes in the lists are valid, belong
/// to that kqueue, and have a state that says so; and all knotes with that state are in one of
/// them.
pub(crate) struct RecheckList {
    lists: [List; LISTS],
    /// The knotes that are being checked, and the number of the list that they come from.
    current: List,
    number: usize,
    /// When the timer fires next.
    armed_for: i64,
}

// SAFETY: Knotes may be used from any thread.
unsafe impl Send for RecheckList {}

impl RecheckList {
    /// No knotes.
    pub(crate) fn new() -> Self {
        RecheckList {
            lists: [List::EMPTY; LISTS],
            current: List::EMPTY,
            number: 0,
            armed_for: NEVER,
        }
    }

    /// True if there are knotes for which the timer is not armed yet.
    #[inline]
    pub(crate) fn needs_timer(&self) -> bool {
        !self.lists[0].head.is_null() && self.lists[0].due == NEVER
    }

    /// Adds a knote to the first list. Returns what its `next` was.
    ///
    /// # Safety
    ///
    /// `knote` is valid and belongs to the kqueue whose `Ready` this is in, whose lock is held. It
    /// was removed from the ready list, and its state says that it is to be rechecked. Nobody has a
    /// reference to its links.
    #[inline(always)]
    pub(in crate::engine) unsafe fn push(&mut self, knote: *const Knote) -> *const Knote {
        // INVARIANT: Its state says so, and it is in no other list.
        // SAFETY: By this function's contract and the type's invariant.
        unsafe { self.lists[0].push(knote) }
    }
}

impl Ready {
    /// Schedules a recheck of a knote of this kqueue, from the first interval on, unless it is
    /// pending or retired.
    pub(crate) fn schedule_recheck(&mut self, knote: &Knote) {
        self.cancel_recheck(knote);
        self.schedule_recheck_in(knote, 0);
    }

    fn schedule_recheck_in(&mut self, knote: &Knote, number: usize) {
        if knote.state(self).schedule_recheck() {
            // INVARIANT: Its state says so now. SAFETY: It was neither pending nor to be rechecked,
            // so it is in no list. It belongs to this kqueue, as was checked.
            unsafe { self.rechecks.lists[number].push(knote) };
        }
    }

    /// Removes a knote of this kqueue from the list of rechecks that it is in, if it is in one.
    /// True if it was.
    #[inline(always)]
    pub(crate) fn cancel_recheck(&mut self, knote: &Knote) -> bool {
        knote.check(self);
        // SAFETY: Just checked.
        unsafe { self.cancel_recheck_checked(knote) }
    }

    /// # Safety
    ///
    /// The knote is of this kqueue.
    #[inline(always)]
    pub(in crate::engine) unsafe fn cancel_recheck_checked(&mut self, knote: &Knote) -> bool {
        // SAFETY: The lock of its kqueue is held, and `self` is borrowed by nobody else.
        let was_scheduled = unsafe { &mut *knote.state.get() }.cancel_recheck();
        if was_scheduled {
            // INVARIANT: Its state does not say so any more. SAFETY: The lock is held. The knote
            // was in one of the lists, in which its neighbours are valid.
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

    /// A knote that is due for a check by `now`, and the number of its list.
    fn next_due(&mut self, now: i64) -> Option<(ARef<Knote>, usize)> {
        let rechecks = &mut self.rechecks;
        if rechecks.current.head.is_null() {
            // The list that has waited longest comes first, so that no list waits for ever.
            let lists = rechecks.lists.iter_mut().enumerate();
            let (number, list) = lists
                .filter(|(_, list)| !list.head.is_null() && list.due <= now)
                .min_by_key(|(_, list)| list.due)?;
            rechecks.current.head = core::mem::replace(list, List::EMPTY).head;
            rechecks.number = number;
            // INVARIANT: All knotes of that list are in this one now.
            // SAFETY: The lock is held, and they are valid.
            unsafe { links(rechecks.current.head).prev = (&raw mut rechecks.current.head).cast() };
        }
        // SAFETY: In a list, it is valid.
        let knote = unsafe { rechecks.current.head.as_ref() }?;
        Some((knote.into(), rechecks.number))
    }

    /// Checks one knote that is due by `now`. Returns `None` if no knote is due, `Some(None)` if
    /// the check found nothing new, and the knote if there is more to report.
    pub(crate) fn recheck_next(&mut self, now: i64) -> Option<Option<ARef<Knote>>> {
        let (knote, number) = self.next_due(now)?;
        let position = knote.pipe_position().load(Ordering::Relaxed);
        let file = knote.file_to_recheck(self);
        // Interrupts are disabled, as the lock is held.
        let change = file
            .and_then(Pipe::of)
            .map_or(PipeChange::Empty, |pipe| pipe.change_since(position));
        self.cancel_recheck(&knote);
        // The table has a reference too, so this one is not the last.
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

/// The timer of a kqueue that checks its pipes again.
#[pin_data(PinnedDrop)]
pub(crate) struct RecheckTimer {
    #[pin]
    timer: Opaque<bindings::hrtimer>,
}

// SAFETY: The timer is only handed to functions with locks of their own.
unsafe impl Send for RecheckTimer {}
// SAFETY: As above.
unsafe impl Sync for RecheckTimer {}

impl RecheckTimer {
    /// A timer that is not armed.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(RecheckTimer {
            // SAFETY: `slot` is valid for writes and stays in its place; `drop` cancels the timer.
            timer <- Opaque::ffi_init(|slot| unsafe {
                hrtimer::set_up(slot, Clock::Monotonic, Self::fire)
            }),
        })
    }

    /// The kqueue whose `recheck_timer` has that timer.
    fn kqueue(timer: *mut bindings::hrtimer) -> *const Kqueue {
        let timer = timer.cast::<Opaque<bindings::hrtimer>>();
        let recheck_timer = timer.wrapping_byte_sub(offset_of!(RecheckTimer, timer));
        recheck_timer
            .wrapping_byte_sub(offset_of!(Kqueue, recheck_timer))
            .cast_const()
            .cast()
    }

    /// Stops the timer, and waits for its function. No knote is added any more.
    pub(crate) fn cancel(&self) {
        // SAFETY: The timer was set up. Not under a lock that its function takes: the kqueue is
        // being released.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }

    /// The timer's function.
    ///
    /// # Safety
    ///
    /// `timer` is that of the `recheck_timer` of a kqueue, as [`Kqueue::set`] has checked.
    unsafe extern "C" fn fire(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By this function's contract. It lives: the `recheck_timer` is the first of its
        // fields to be dropped, which waits for us.
        unsafe { &*Self::kqueue(timer) }.recheck_next(Clock::Monotonic.now());
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

#[pinned_drop]
impl PinnedDrop for RecheckTimer {
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}

impl Kqueue {
    /// Arms the timer for knotes that have come into the first list.
    #[cold]
    #[inline(never)]
    pub(crate) fn arm_first_recheck(&self, rechecks: &mut RecheckList) {
        let due = Clock::Monotonic.now().saturating_add(FIRST_INTERVAL);
        rechecks.lists[0].due = due;
        if due < rechecks.armed_for {
            self.arm_recheck_timer(rechecks, due);
        }
    }

    /// Arms the timer again, after it has fired and knotes that were due have been checked.
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
        // SAFETY: The timer was set up, and `drop` cancels it.
        unsafe { hrtimer::start(timer, at) };
    }
}
