// SPDX-License-Identifier: GPL-2.0

//! The objects that knotes are stored in.
//!
//! A knote is the first field of its object. What only some knotes need follows it:
//!
//! | [`Layout`] | Object | What follows the knote |
//! |---|---|---|
//! | `Plain`, `Secondary` | [`Knote`] | nothing |
//! | `Bound` | [`BoundKnote`] | the wait-queue entry, and the links of the tree of bound knotes |
//! | `Timed` | [`TimedKnote`] | the timer ([`crate::sys::time::hrtimer`]) |
//!
//! A knote of a descriptor is `Bound`, unless it is the secondary of a [pair](super::pairing),
//! which shares the binding and the wait-queue entry of its primary. Each object has a slab cache
//! of its own.

use super::{
    filter_ops::Filter,
    knote::Knote,
    knote_inner::KnoteInner,
    kqueue::Kqueue, //
};
use crate::sys::{
    compat::NO_RESTART,
    file::poll::WaitEntry,
    memory::{
        slab::{AllocMode, Slab},
        treap,
    },
    time::hrtimer::{Expire, OwnedTimer, TimerOwner}, //
};
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr::{self, NonNull}, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::{aref::ARef, ArcBorrow}, //
};

/// The object that a knote is stored in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Plain,
    Bound,
    Timed,
    Secondary,
}

impl Layout {
    /// The layout of a knote of this filter that shares nothing with another knote.
    #[inline(always)]
    pub(crate) fn of(filter: Filter) -> Self {
        if filter.is_descriptor() {
            Layout::Bound
        } else if filter.has_timer() {
            Layout::Timed
        } else {
            Layout::Plain
        }
    }
}

/// A knote that is bound to a descriptor.
#[repr(C)]
pub(in crate::engine) struct BoundKnote {
    // This is the first field, so that a pointer to it is also a pointer to the structure.
    knote: Knote,
    /// The entry in the (first) wait queue of the source, guarded by the lock of that queue.
    pub(super) wait_entry: WaitEntry,
    /// The links of the knote in its tree, guarded by the lock of the tree. After the close probe
    /// has taken the knote out of the tree, this is the memory of a
    /// [`ClosedKnote`](super::close::ClosedKnote). (There may be a million knotes, so the two share
    /// the memory.)
    pub(super) node: UnsafeCell<treap::Links<Knote>>,
}

const _: () = assert!(
    size_of::<bindings::callback_head>() <= size_of::<treap::Links<Knote>>()
        && align_of::<bindings::callback_head>() <= align_of::<treap::Links<Knote>>()
);

const _: () = assert!(size_of::<Knote>() <= 96 && size_of::<BoundKnote>() <= 152);

/// A knote of `EVFILT_TIMER` and its timer.
#[repr(C)]
pub(in crate::engine) struct TimedKnote {
    // This is the first field, so that a pointer to it is also a pointer to the structure.
    knote: Knote,
    timer: MaybeUninit<KnoteTimer>,
}

/// The timer of a knote of `EVFILT_TIMER`. It is armed and cancelled under the kqueue's mutex. Its
/// callback may run at the same time.
pub(crate) type KnoteTimer = OwnedTimer<Knote>;

// SAFETY: Each field of the knote may be used from any thread that holds the lock of the field. The
// wait-queue entry and the links are guarded by locks of their own.
unsafe impl Send for BoundKnote {}

// SAFETY: Each field of the knote may be used from any thread that holds the lock of the field. The
// timer is used by the owner of the mutex and by its callback, which uses only what any thread may:
// it records that the timer has fired, and activates the knote.
unsafe impl Send for TimedKnote {}

/// The slab caches of knotes.
pub(crate) struct Slabs {
    plain: Slab<Knote>,
    bound: Slab<BoundKnote>,
    timed: Slab<TimedKnote>,
}

impl Slabs {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Slabs {
            plain: Slab::new(c"kqueue_knote")?,
            bound: Slab::new(c"kqueue_bound_knote")?,
            timed: Slab::new(c"kqueue_timer")?,
        })
    }
}

impl BoundKnote {
    /// The knote.
    #[inline(always)]
    pub(super) fn knote(&self) -> &Knote {
        &self.knote
    }
}

impl Knote {
    /// Allocates a knote of `kqueue`. The knote is not in the table yet and has no source.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(crate) fn alloc(
        slabs: &Slabs,
        kqueue: ArcBorrow<'_, Kqueue>,
        ident: u64,
        filter: Filter,
        layout: Layout,
        inner: impl FnOnce() -> KnoteInner,
        mode: AllocMode,
    ) -> Result<ARef<Self>> {
        let knote = || Knote::new(kqueue, ident, filter, layout, inner());
        let knote = match layout {
            Layout::Plain | Layout::Secondary => slabs.plain.alloc(mode, knote)?,
            Layout::Bound => {
                let bound = slabs.bound.alloc(mode, || BoundKnote {
                    knote: knote(),
                    wait_entry: WaitEntry::new(Self::wake_function),
                    node: UnsafeCell::new(treap::Links::NONE),
                })?;
                bound.cast()
            }
            Layout::Timed => {
                let timed = slabs.timed.alloc(mode, || TimedKnote {
                    knote: knote(),
                    timer: MaybeUninit::uninit(),
                })?;
                // SAFETY: The memory was just allocated and is not shared. A knote is not moved.
                // `detach` or `drop` cancels the timer before the knote is freed.
                unsafe { KnoteTimer::init((&raw mut (*timed.as_ptr()).timer).cast()) };
                timed.cast()
            }
        };
        // SAFETY: The knote was created with one reference, which is passed to the caller.
        Ok(unsafe { ARef::from_raw(knote) })
    }

    /// The object of a knote that is bound to a descriptor. `None` for all others.
    #[inline(always)]
    pub(in crate::engine) fn bound(&self) -> Option<&BoundKnote> {
        if self.layout() != Layout::Bound {
            return None;
        }
        // SAFETY: A knote with this layout was allocated as the first field of a `BoundKnote`. The
        // other fields are shared in the same way as the knote, because each has a lock.
        Some(unsafe { &*ptr::from_ref(self).cast::<BoundKnote>() })
    }

    /// The wait-queue entry of a knote that is bound to a descriptor.
    #[inline(always)]
    pub(crate) fn wait_entry(&self) -> Option<&WaitEntry> {
        Some(&self.bound()?.wait_entry)
    }

    /// The timer of a knote of `EVFILT_TIMER`.
    #[inline]
    pub(in crate::engine) fn timer(&self) -> Option<NonNull<KnoteTimer>> {
        if self.layout() != Layout::Timed {
            return None;
        }
        let timed = ptr::from_ref(self).cast::<TimedKnote>().cast_mut();
        // SAFETY: A knote with this layout was allocated as the first field of a `TimedKnote`. (The
        // address of the timer is computed from that of the knote, as `container_of!` does.)
        NonNull::new(unsafe { &raw mut (*timed).timer }.cast())
    }
}

impl Expire for Knote {
    fn expire(&self) {
        self.activate();
    }
}

impl TimerOwner for Knote {
    unsafe extern "C" fn expired(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By this function's contract, the hrtimer is that of an `OwnedTimer<Knote>`, which
        // is the `timer` of a `TimedKnote`. The knote is alive, because its timer is cancelled
        // before it is freed, which waits for this function.
        let knote = unsafe {
            let timer = KnoteTimer::set_fired(timer).cast::<MaybeUninit<KnoteTimer>>();
            &(*kernel::container_of!(timer, TimedKnote, timer)).knote
        };
        knote.activate();
        NO_RESTART
    }
}
