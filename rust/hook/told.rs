// SPDX-License-Identifier: GPL-2.0

//! Looks, now and then, whether more was written into pipes since their readers were last told of what is there.
//!
//! Who writes tells the reader when it is done, if it is asked to (`EPOLLET`). But one who has to
//! wait for room in the middle of a write only tells if the pipe was empty before, and the reader
//! who has been told of less may never learn of the rest. There is nobody who could be asked to say
//! so; until the pipe was seen empty a timer of the kqueue looks, less and less often.
//!
//! The knotes of such pipes are in lists, one for each time between two looks. What is told comes into the first
//! one, and for each look at which there was nothing new goes on to the next one. The links are those of the list
//! of what is pending ([`super::queue`]), of which a knote is in one at most: its state says in which.
//!
//! # Context
//!
//! The timer fires in a hard interrupt (in a thread on PREEMPT_RT), where the kqueue's spin lock is taken. It is
//! set with that held.

use super::{
    hrtimer::{self, Clock},
    knote::Knote,
    pipe::{Pipe, Progress},
    queue::{links, Links}, //
};
use crate::kqueue::{Kqueue, Ready};
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

/// How many lists there are. In the first one, knotes stay for [`FIRST`] nanoseconds, and in each other one for twice
/// as long as in the one before, in the last one over and over: ten milliseconds and ten seconds.
const LISTS: usize = 11;
const FIRST: i64 = 10_000_000;

/// How many knotes are looked at in one interrupt, and how long it is until the next one then.
pub(crate) const LOOKS: usize = 64;
const PAUSE: i64 = 1_000_000;

const NEVER: i64 = i64::MAX;

/// Singly linked, but that the `prev` of each knote is the address of the pointer to it.
#[derive(Clone, Copy)]
struct List {
    head: *const Knote,
    /// When those in the list are to be looked at. Nothing is known of that until it is asked for.
    due: i64,
}

impl List {
    const EMPTY: Self = List {
        head: ptr::null(),
        due: NEVER,
    };

    /// Puts a knote into the list, and gives what its `next` was.
    ///
    /// # Safety
    ///
    /// `knote` is valid and in no list any more. This and all knotes that are in the list are of its kqueue, whose lock
    /// is held; and nobody has a reference to their links.
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

/// The knotes of a kqueue that are told.
///
/// # Invariants
///
/// It stays in its place, in the [`Ready`] of a kqueue. All knotes in the lists are valid, of that kqueue and told,
/// and all that are told are in one of them.
pub(crate) struct Told {
    lists: [List; LISTS],
    /// Those that are being looked at, and the number of the list that they are from.
    current: List,
    number: usize,
    /// What the timer is set to.
    set_to: i64,
}

// SAFETY: Knotes may be used from any thread.
unsafe impl Send for Told {}

impl Told {
    /// Nothing was told.
    pub(crate) fn new() -> Self {
        Told {
            lists: [List::EMPTY; LISTS],
            current: List::EMPTY,
            number: 0,
            set_to: NEVER,
        }
    }

    /// True if something was told that no timer is set for.
    #[inline]
    pub(crate) fn is_forgotten(&self) -> bool {
        !self.lists[0].head.is_null() && self.lists[0].due == NEVER
    }

    /// Puts a knote into the first list, and gives what its `next` was.
    ///
    /// # Safety
    ///
    /// `knote` is valid and of the kqueue whose `Ready` this is in, whose lock is held; it was taken out of the list of
    /// what is pending, and is told. Nobody has a reference to its links.
    #[inline(always)]
    pub(super) unsafe fn push(&mut self, knote: *const Knote) -> *const Knote {
        // INVARIANT: It is told, and in no other list.
        // SAFETY: By this function's contract and the type's invariant.
        unsafe { self.lists[0].push(knote) }
    }
}

impl Ready {
    /// A knote of this kqueue that was looked at may have more to tell later on, unless it is pending or retired: it
    /// will be looked at.
    pub(crate) fn tell(&mut self, knote: &Knote) {
        self.untell(knote);
        self.tell_again(knote, 0);
    }

    fn tell_again(&mut self, knote: &Knote, number: usize) {
        if knote.state(self).tell() {
            // INVARIANT: It is told.
            // SAFETY: Neither told until now nor pending, it is in no list. It is of this kqueue, as was checked.
            unsafe { self.told.lists[number].push(knote) };
        }
    }

    /// Takes a knote of this kqueue off the list of what was told, if it is in there. True if it was.
    #[inline(always)]
    pub(crate) fn untell(&mut self, knote: &Knote) -> bool {
        knote.check(self);
        // SAFETY: Just checked.
        unsafe { self.untell_checked(knote) }
    }

    /// # Safety
    ///
    /// The knote is of this kqueue.
    #[inline(always)]
    pub(super) unsafe fn untell_checked(&mut self, knote: &Knote) -> bool {
        // SAFETY: The lock of its kqueue is held, and `self` is borrowed by nobody else.
        let told = unsafe { &mut *knote.state.get() }.untell();
        if told {
            // INVARIANT: It is not told any more.
            // SAFETY: The lock is held. The knote was told and so in one of the lists, in which its neighbours are valid.
            unsafe {
                let Links { next, prev } = core::mem::replace(links(knote), Links::NONE);
                prev.cast::<*const Knote>().cast_mut().write(next);
                if !next.is_null() {
                    links(next).prev = prev;
                }
            }
        }
        told
    }

    /// A knote that is to be looked at by `now`, and the number of its list.
    fn due(&mut self, now: i64) -> Option<(ARef<Knote>, usize)> {
        let told = &mut self.told;
        if told.current.head.is_null() {
            // That which has waited longest, so that none has to wait for the others for good.
            let lists = told.lists.iter_mut().enumerate();
            let (number, list) = lists
                .filter(|(_, list)| !list.head.is_null() && list.due <= now)
                .min_by_key(|(_, list)| list.due)?;
            told.current.head = core::mem::replace(list, List::EMPTY).head;
            told.number = number;
            // INVARIANT: All of them are in the other list now.
            // SAFETY: The lock is held, and they are valid.
            unsafe { links(told.current.head).prev = (&raw mut told.current.head).cast() };
        }
        // SAFETY: In a list, it is valid.
        let knote = unsafe { told.current.head.as_ref() }?;
        Some((knote.into(), told.number))
    }

    /// Looks at a knote that is to be looked at by `now`, and takes it off the list if there is no more to hear of it.
    /// `None` if there is none, or else the knote if there is more to tell.
    pub(crate) fn look_at_told(&mut self, now: i64) -> Option<Option<ARef<Knote>>> {
        let (knote, number) = self.due(now)?;
        let told = knote.end_told().load(Ordering::Relaxed);
        let file = knote.told_file(self);
        // Interrupts are off, as the lock is held.
        let progress = file
            .and_then(Pipe::of)
            .map_or(Progress::Empty, |pipe| pipe.progress(told));
        self.untell(&knote);
        // The table has a reference too, so this one is not the last.
        match progress {
            Progress::Empty => Some(None),
            Progress::More => Some(Some(knote)),
            Progress::None => {
                let number = number.saturating_add(1).min(LISTS - 1);
                let list = &mut self.told.lists[number];
                if list.head.is_null() {
                    list.due = now.saturating_add(FIRST << number);
                }
                self.tell_again(&knote, number);
                Some(None)
            }
        }
    }
}

/// The timer of a kqueue.
#[pin_data(PinnedDrop)]
pub(crate) struct Looker {
    #[pin]
    timer: Opaque<bindings::hrtimer>,
}

// SAFETY: The timer is only handed to functions with locks of their own.
unsafe impl Send for Looker {}
// SAFETY: As above.
unsafe impl Sync for Looker {}

impl Looker {
    /// One that is not set.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Looker {
            // SAFETY: `slot` is valid for writes and stays in its place; `drop` cancels the timer.
            timer <- Opaque::ffi_init(|slot| unsafe {
                hrtimer::set_up(slot, Clock::Monotonic, Self::fire)
            }),
        })
    }

    /// That of the kqueue whose `looker` has that timer.
    fn kqueue(timer: *mut bindings::hrtimer) -> *const Kqueue {
        let timer = timer.cast::<Opaque<bindings::hrtimer>>();
        let looker = timer.wrapping_byte_sub(offset_of!(Looker, timer));
        looker
            .wrapping_byte_sub(offset_of!(Kqueue, looker))
            .cast_const()
            .cast()
    }

    /// Nothing is told any more: it does not fire, nor has its function still to return.
    pub(crate) fn cancel(&self) {
        // SAFETY: The timer was set up. Not under a lock that its function takes: the kqueue is being released.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }

    /// The timer's function.
    ///
    /// # Safety
    ///
    /// `timer` is that of the `looker` of a kqueue, as [`Kqueue::set`] has checked.
    unsafe extern "C" fn fire(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By this function's contract. It lives: the `looker` is the first of its fields to be dropped, which
        // waits for us.
        unsafe { &*Self::kqueue(timer) }.look_at_told(Clock::Monotonic.now());
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

#[pinned_drop]
impl PinnedDrop for Looker {
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}

impl Kqueue {
    /// Something was told that no timer is set for.
    #[cold]
    #[inline(never)]
    pub(crate) fn remember(&self, told: &mut Told) {
        let due = Clock::Monotonic.now().saturating_add(FIRST);
        told.lists[0].due = due;
        if due < told.set_to {
            self.set(told, due);
        }
    }

    /// The timer has fired, and what is due was looked at.
    pub(crate) fn go_on(&self, told: &mut Told, now: i64) {
        let mut next = NEVER;
        for list in &mut told.lists {
            if list.head.is_null() {
                list.due = NEVER;
            }
            next = next.min(list.due);
        }
        if !told.current.head.is_null() {
            next = now.saturating_add(PAUSE);
        }
        told.set_to = NEVER;
        if next != NEVER {
            self.set(told, next);
        }
    }

    fn set(&self, told: &mut Told, at: i64) {
        told.set_to = at;
        let timer = self.looker.timer.get();
        assert!(ptr::eq(self, Looker::kqueue(timer)));
        // SAFETY: The timer was set up, and `drop` cancels it.
        unsafe { hrtimer::start(timer, at) };
    }
}
