// SPDX-License-Identifier: GPL-2.0

//! The knote: its fields, and the locks that guard them.
//!
//! A knote is one reference-counted object of a slab cache. It contains everything that is linked
//! into lists, for instance the links of the ready list ([`super::ready_list`]). There may be a
//! million knotes, so nothing is stored twice. What only some knotes need follows the knote in its
//! object ([`super::knote_layout`]).
//!
//! To access a field of a knote, a caller proves that it holds the lock of that field. As a proof
//! it passes a reference that only a holder of the lock can have. For the mutex this is a
//! `&`[`UnderMutex`] or a `&`[`KnoteTable`]; for the spin lock it is a `&`[`ReadyState`]. The
//! [`LockToken`] in that value identifies the lock, and is compared (`assert!`) with that of the
//! knote's kqueue. (The `kernel` crate's `LockedBy` would add a pointer to each field.)

use super::{
    close::Binding,
    filter_ops::{FastPath, Filter},
    knote_layout::KnoteTimer,
    knote_table::KnoteTable, //
    kqueue::{Kqueue, ReadyState},
    locks::{HasLockToken, LockToken},
    pairing::Partner,
    ready_list::{Links, VisitedKnote},
    state::State,
};
pub(crate) use super::{
    knote_inner::{KnoteInner, UnderMutex},
    knote_layout::{Layout, Slabs}, //
};
use crate::sys::{
    file::fdtable::{CurrentFdTable, CurrentFiles},
    memory::slab, //
};
use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr::NonNull,
    sync::atomic::AtomicU32, //
};
use kernel::{
    bindings,
    fs::File,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::ordering,
        Arc,
        ArcBorrow,
        Refcount, //
    },
};

/// A registered event.
///
/// The table of the kqueue and the attachment hold references to the knote, and the knote holds a
/// reference to its kqueue. So the knote and its kqueue keep each other alive until the knote is
/// removed: it leaves the table, and [`Knote::detach`] drops the attachment. (A knote that
/// could not be attached, or was deferred and could not be inserted, never gets into the table. The
/// task that gives it up drops the attachment, if any, and its own reference to the knote. Then
/// [`Knote::detach_on_drop`] retires the knote, unless it was retired before, and releases its
/// file.)
pub(crate) struct Knote {
    refs: Refcount,
    /// Changed under the spin lock. A task without the lock may test it ([`State`]).
    pub(in crate::engine) state: UnsafeCell<State>,
    filter: Filter,
    layout: Layout,
    /// Guarded by the mutex.
    fast_path: UnsafeCell<FastPath>,
    kqueue: Arc<Kqueue>,
    ident: u64,
    /// Guarded by the spin lock.
    pub(in crate::engine) links: UnsafeCell<Links>,
    pub(in crate::engine) binding: Binding,
    pub(in crate::engine) partner: Partner,
    /// The next knote in its chain of the table. Guarded by the mutex. A knote is taken out of its
    /// chain before it is freed, so the field is `None` then and needs no drop.
    next: UnsafeCell<ManuallyDrop<Option<ARef<Knote>>>>,
    /// Guarded by the mutex.
    inner: UnsafeCell<KnoteInner>,
}

// SAFETY: Each field may be used from any thread that holds the lock of the field.
unsafe impl Send for Knote {}
// SAFETY: Each field may be used from any thread that holds the lock of the field.
unsafe impl Sync for Knote {}

// SAFETY: `refs` counts the references. The knote is freed when the last reference is dropped.
unsafe impl AlwaysRefCounted for Knote {
    #[inline]
    fn inc_ref(&self) {
        self.refs.inc();
    }

    #[inline]
    unsafe fn dec_ref(this: NonNull<Self>) {
        // SAFETY: The caller holds a reference, so the knote is valid.
        if unsafe { this.as_ref() }.refs.dec_and_test() {
            // SAFETY: The last reference was dropped. The knote came from `Slab::alloc`, or it is
            // the first field of an object that did, whose other fields need no drop.
            unsafe { slab::free(this) };
        }
    }
}

/// A knote whose kqueue's mutex is held, and its fields that the mutex guards.
///
/// # Invariants
///
/// The mutex is held, and no other reference to the fields exists.
pub(crate) struct LockedKnote<'a> {
    knote: &'a Knote,
    pub(crate) inner: &'a mut KnoteInner,
    /// The file of its descriptor.
    pub(crate) file: Option<&'a File>,
    /// The method by which a scan evaluates the knote under the spin lock.
    pub(crate) fast_path: &'a mut FastPath,
}

impl<'a> LockedKnote<'a> {
    /// The knote.
    #[inline]
    pub(crate) fn knote(&self) -> &'a Knote {
        self.knote
    }

    /// The same knote, borrowed for a shorter time.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> LockedKnote<'_> {
        // INVARIANT: The invariant holds for `self`, which is borrowed mutably meanwhile.
        LockedKnote {
            knote: self.knote,
            inner: self.inner,
            file: self.file,
            fast_path: self.fast_path,
        }
    }

    /// True if the number of the descriptor still refers to its file.
    #[inline]
    pub(crate) fn ident_refers_to_file(&self, _: &ReadyState, fd_table: CurrentFdTable) -> bool {
        // SAFETY: The holder of a `ReadyState` holds a spin lock, and so is in an RCU read-side
        // critical section.
        let files = unsafe { CurrentFiles::in_rcu(fd_table) };
        self.file
            .is_some_and(|file| files.maps(self.knote.ident, file))
    }

    /// The timer of a knote of `EVFILT_TIMER`.
    #[inline]
    pub(crate) fn timer(&mut self) -> Option<&KnoteTimer> {
        let timer = self.knote.timer()?;
        // SAFETY: The timer lives as long as the knote. By the type's invariant the mutex is held,
        // and no other task uses the timer.
        Some(unsafe { timer.as_ref() })
    }
}

/// The reference count of a new knote. (`Refcount::new` would call a C function.)
#[inline(always)]
fn one_reference() -> Refcount {
    let one = bindings::refcount_t {
        refs: bindings::atomic_t { counter: 1 },
    };
    // SAFETY: `Refcount` is a transparent wrapper of `refcount_t`, which may have any value.
    unsafe { core::mem::transmute::<bindings::refcount_t, Refcount>(one) }
}

impl Knote {
    /// A knote with one reference, to be stored in an object of this layout.
    #[inline(always)]
    pub(super) fn new(
        kqueue: ArcBorrow<'_, Kqueue>,
        ident: u64,
        filter: Filter,
        layout: Layout,
        inner: KnoteInner,
    ) -> Self {
        Knote {
            refs: one_reference(),
            state: UnsafeCell::new(State::default()),
            filter,
            layout,
            fast_path: UnsafeCell::new(FastPath::Unsupported),
            kqueue: kqueue.into(),
            ident,
            links: UnsafeCell::new(Links::NONE),
            binding: Binding::none(),
            partner: Partner::none(),
            next: UnsafeCell::new(ManuallyDrop::new(None)),
            inner: UnsafeCell::new(inner),
        }
    }

    /// The ident: for a filter of descriptors, the number of the descriptor.
    #[inline]
    pub(crate) fn ident(&self) -> u64 {
        self.ident
    }

    /// The filter.
    #[inline]
    pub(crate) fn filter(&self) -> Filter {
        self.filter
    }

    /// The object that the knote is stored in.
    #[inline(always)]
    pub(in crate::engine) fn layout(&self) -> Layout {
        self.layout
    }

    /// The kqueue that the knote belongs to.
    #[inline]
    pub(crate) fn kqueue(&self) -> ArcBorrow<'_, Kqueue> {
        self.kqueue.as_arc_borrow()
    }

    /// Panics if the lock is that of another kqueue, as the `kernel` crate's `LockedBy` does.
    #[inline]
    pub(in crate::engine) fn check<L: HasLockToken>(&self, guarded: &L) {
        self.check_token(guarded.token());
    }

    #[inline]
    fn check_token<L>(&self, token: &LockToken<L>) {
        assert!(token.is_of(self.kqueue.locks()));
    }

    /// The fields that the mutex guards.
    #[inline]
    pub(crate) fn inner<'a>(&'a self, under_mutex: &'a UnderMutex) -> &'a KnoteInner {
        self.check(under_mutex);
        // SAFETY: The mutex of the knote's kqueue is held. No mutable reference exists while
        // `under_mutex` is borrowed, since one can be obtained only through a mutable borrow of
        // `under_mutex`, or by `drop`, when no reference to the knote is left.
        unsafe { &*self.inner.get() }
    }

    /// The fields that the mutex guards, for a change.
    #[inline]
    pub(crate) fn inner_mut<'a>(&'a self, under_mutex: &'a mut UnderMutex) -> &'a mut KnoteInner {
        self.check(under_mutex);
        // SAFETY: The mutex of the knote's kqueue is held, and `under_mutex` is borrowed mutably,
        // so no other reference to the fields exists.
        unsafe { &mut *self.inner.get() }
    }

    /// The next knote in its chain of the table.
    #[inline]
    pub(crate) fn next<'a>(&'a self, table: &'a LockToken<KnoteTable>) -> Option<&'a ARef<Knote>> {
        self.check_token(table);
        // SAFETY: The mutex is held, and no mutable reference exists while the token is borrowed,
        // since one can be obtained only through a mutable borrow of the token.
        unsafe { &*self.next.get() }.as_ref()
    }

    /// The next knote in its chain, for a change.
    #[inline]
    pub(crate) fn next_mut<'a>(
        &'a self,
        token: &'a mut LockToken<KnoteTable>,
    ) -> &'a mut Option<ARef<Knote>> {
        self.check_token(token);
        // SAFETY: The mutex is held, and the token is borrowed mutably, so no other reference
        // exists.
        unsafe { &mut *self.next.get() }
    }

    /// The fields that the mutex guards, and the file of the descriptor.
    #[inline]
    pub(crate) fn locked<'a>(&'a self, under_mutex: &'a mut UnderMutex) -> LockedKnote<'a> {
        self.check(under_mutex);
        // INVARIANT: The mutex is held, and `under_mutex` is borrowed mutably.
        LockedKnote {
            knote: self,
            // SAFETY: The mutex is held, and `under_mutex` is borrowed mutably, so no other
            // reference to the field exists.
            inner: unsafe { &mut *self.inner.get() },
            // SAFETY: The mutex is held, and the knote is not unbound while `under_mutex` is
            // borrowed.
            file: unsafe { self.binding.file() },
            // SAFETY: The mutex is held, and `under_mutex` is borrowed mutably, so no other
            // reference to the field exists.
            fast_path: unsafe { &mut *self.fast_path.get() },
        }
    }

    /// The file of its descriptor.
    #[inline]
    pub(crate) fn file<'a>(&'a self, under_mutex: &'a UnderMutex) -> Option<&'a File> {
        self.check(under_mutex);
        // SAFETY: The mutex is held, and the knote is not unbound while `under_mutex` is borrowed.
        unsafe { self.binding.file() }
    }

    /// The state of the knote.
    #[inline]
    pub(crate) fn state<'a>(&'a self, ready: &'a mut ReadyState) -> &'a mut State {
        self.check(ready);
        // SAFETY: The spin lock of the knote's kqueue is held, and `ready` is borrowed mutably, so
        // no other mutable reference to the state exists. The state is atomic, and it is not
        // `Unpin`, so shared references may exist beside this one.
        unsafe { &mut *self.state.get() }
    }

    /// The fields that a walk of the ready list needs. The caller has checked that the knote
    /// belongs to the kqueue.
    ///
    /// # Safety
    ///
    /// Both locks of the knote's kqueue are held for as long as the result is used, and no other
    /// reference to the fields that they guard exists.
    #[inline]
    pub(in crate::engine) unsafe fn visited<'a>(
        &'a self,
        files: &'a CurrentFiles<'a>,
    ) -> VisitedKnote<'a> {
        // SAFETY: By this function's contract.
        unsafe {
            VisitedKnote {
                knote: self,
                state: &mut *self.state.get(),
                inner: &mut *self.inner.get(),
                fast_path: *self.fast_path.get(),
                bound_file: self.binding.file(),
                files,
            }
        }
    }

    /// The write position that the knote's pipe had when the knote was last reported
    /// ([`crate::sys::file::pipe`]). It has no meaning before that. `None` for a knote that is not
    /// `Bound`; no knote that reads a pipe is one.
    ///
    /// Only the owner of the mutex stores it. A check of the pipe reads it under the spin lock. The
    /// accesses are relaxed. The owner schedules the check under the spin lock, after the store, so
    /// the check reads this position or that of a later evaluation.
    #[inline]
    pub(crate) fn pipe_position(&self) -> Option<&AtomicU32> {
        Some(self.wait_entry()?.spare())
    }

    /// The file of the knote's descriptor, if the knote is to be rechecked.
    pub(in crate::engine) fn file_to_recheck<'a>(
        &'a self,
        ready: &'a mut ReadyState,
    ) -> Option<&'a File> {
        if !self.state(ready).is_to_be_rechecked() {
            return None;
        }
        // SAFETY: The knote was bound when the recheck was scheduled under this lock. A knote is
        // retired under this lock before it is unbound, and a retired knote is not to be rechecked.
        // So the knote stays bound for as long as `ready` is borrowed.
        unsafe { self.binding.file() }
    }

    /// True if the knote was retired. The state is read without the lock, so the knote may be
    /// retired after a false result.
    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        // SAFETY: The state is valid. It is atomic, and it is not `Unpin`, so a shared reference
        // may exist next to a mutable one.
        unsafe { &*self.state.get() }.is_retired()
    }

    /// True if the knote is spent. Without the mutex the result may be stale.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        // SAFETY: The state lives as long as the knote. It is atomic, so that it may be read while
        // the owner of the spin lock has it mutable.
        unsafe { &*self.state.get() }.is_spent()
    }

    /// Takes a reference to the knote, unless the last one was just dropped. The caller has found
    /// the knote in a tree of bound knotes and holds the lock of the tree.
    ///
    /// Relaxed ordering suffices, as in `refcount_inc_not_zero()`. The lock orders this call after
    /// the insertion of the knote. It also keeps the memory valid, because the knote is taken out
    /// of the tree before it is freed.
    pub(in crate::engine) fn get_unless_zero(&self) -> Option<ARef<Self>> {
        let refs = self.refs.as_atomic();
        let mut count = refs.load(ordering::Relaxed);
        while count > 0 {
            match refs.cmpxchg(count, count.checked_add(1)?, ordering::Relaxed) {
                // SAFETY: The reference was just taken.
                Ok(_) => return Some(unsafe { ARef::from_raw(NonNull::from(self)) }),
                Err(other) => count = other,
            }
        }
        None
    }

    /// True if the close probe has taken the knote out of its tree of bound knotes. That is final.
    /// The probe takes the knote out under the lock of that tree, so only a caller that holds this
    /// lock can rely on a false result.
    #[inline]
    pub(in crate::engine) fn is_out_of_tree(&self) -> bool {
        // SAFETY: The state is valid. It is atomic, and it is not `Unpin`, so a shared reference
        // may exist next to a mutable one.
        unsafe { &*self.state.get() }.is_out_of_tree()
    }

    /// Detaches a retired knote from its source. No callback runs after that.
    pub(crate) fn detach(&self, under_mutex: &mut UnderMutex) {
        debug_assert!(self.is_retired());
        self.unpair(under_mutex);
        let mut locked = self.locked(under_mutex);
        // The wait-queue entry is detached first, since the queue belongs to the file.
        if let Some(entry) = self.wait_entry() {
            entry.detach();
        }
        if let Some(timer) = locked.timer() {
            timer.cancel();
        }
        // Then the source is dropped, which may use the file as well.
        drop(locked.inner.attachment.take());
        // SAFETY: The mutex is held, and `locked`, which had a reference to the file, is not used
        // any more.
        unsafe { self.binding.unbind(self, &mut under_mutex.binding_count) };
    }
}

/// The slot of a knote in a chain of its table.
///
/// # Invariants
///
/// `slot` contains a knote. The slot and the rest of its chain are borrowed for `'a`, with the
/// token.
pub(crate) struct ChainSlot<'a> {
    slot: NonNull<Option<ARef<Knote>>>,
    token: &'a mut LockToken<KnoteTable>,
}

impl<'a> ChainSlot<'a> {
    /// The first slot in `chain`, a chain of the table of `token`, whose knote satisfies `is`.
    #[inline]
    pub(crate) fn find(
        chain: &'a mut Option<ARef<Knote>>,
        token: &'a mut LockToken<KnoteTable>,
        mut is: impl FnMut(&Knote) -> bool,
    ) -> Option<Self> {
        let mut slot = NonNull::from(chain);
        loop {
            // SAFETY: The slot is the chain itself, or the link of a knote in the chain. No other
            // reference to it exists, since the token is borrowed mutably.
            let knote = unsafe { slot.as_ref() }.as_ref()?;
            if is(knote) {
                // INVARIANT: The slot contains a knote, and the token is borrowed for `'a`.
                return Some(ChainSlot { slot, token });
            }
            slot = NonNull::from(knote.next_mut(token));
        }
    }

    /// The knote.
    #[inline]
    pub(crate) fn knote(&self) -> &Knote {
        // SAFETY: By the type's invariant.
        unsafe { self.slot.as_ref().as_ref().unwrap_unchecked() }
    }

    /// Takes the knote out of the chain.
    #[inline]
    pub(crate) fn take(self) -> ARef<Knote> {
        let slot = self.slot.as_ptr();
        // SAFETY: By the type's invariant, the slot is valid, contains a knote and is not shared.
        // The rest of the chain is stored in the slot.
        unsafe {
            let knote = slot.read().unwrap_unchecked();
            slot.write(knote.next_mut(self.token).take());
            knote
        }
    }
}

impl Drop for Knote {
    #[inline]
    fn drop(&mut self) {
        // The entry is linked and the timer is armed only while the knote is attached.
        let timer = self.timer();
        // SAFETY: The timer is still valid, and no other reference to the knote exists.
        let is_armed = timer.is_some_and(|timer| unsafe { timer.as_ref() }.is_armed());
        if !self.is_retired() || self.binding.is_bound() || is_armed {
            self.detach_on_drop();
        }
        if self.layout != Layout::Secondary {
            self.kqueue.uncharge_knote(self.filter);
        }
    }
}

impl Knote {
    /// Ends a knote that is dropped without having been detached.
    #[cold]
    #[inline(never)]
    fn detach_on_drop(&mut self) {
        // The knote is retired first. Then it is not in the ready list, and nothing queues it
        // again.
        if !self.is_retired() {
            self.kqueue.retire(self);
        }
        // A secondary is detached before it is dropped.
        debug_assert!(self.layout != Layout::Secondary || !self.binding.is_bound());
        if self.binding.is_bound() {
            if let Some(entry) = self.wait_entry() {
                entry.detach();
            }
            drop(self.inner.get_mut().attachment.take());
            // SAFETY: No other reference to the knote exists.
            unsafe {
                self.binding
                    .release_file(self, &self.kqueue.shared().bound_knotes)
            };
        }
        if let Some(timer) = self.timer() {
            // SAFETY: The timer is still valid, and no other reference to the knote exists.
            unsafe { timer.as_ref() }.cancel();
        }
    }
}
