// SPDX-License-Identifier: GPL-2.0

//! The memory of a knote.
//!
//! A knote is one counted object of a slab cache. It contains all that is linked into the lists of
//! others: the entry of a wait queue ([`crate::sys::file::poll`]), the binding to a descriptor
//! ([`super::close`]), and the links of the ready list ([`super::ready_list`]). There may be a
//! million knotes, so no field repeats what another one says. A knote of `EVFILT_TIMER` has a timer
//! behind it ([`crate::sys::time::hrtimer`]), and a cache for that size.
//!
//! A caller gets at what a lock guards in a knote by showing the value that the lock itself guards:
//! the [`KnoteAccess`] or the [`Table`] for the mutex, the [`Ready`] for the spin lock. The
//! [`Key`](super::locks::Key) in that value proves that it is that of the knote's kqueue. (The
//! `kernel` crate's `LockedBy` has one more pointer for each.)

use super::{
    close::Binding,
    knote::{KnoteAccess, KnoteInner},
    kqueue::{Kqueue, Ready},
    locks::{Key, Keyed},
    ops::{FastPath, Filter},
    ready_list::{Links, VisitedKnote},
    sleepers::WakeFlags,
    state::State,
    table::Table, //
};
use crate::sys::{
    file::{
        fdtable::{CurrentFiles, CurrentTable},
        poll::Entry,
    },
    memory::slab::{self, Memory, Slab},
    time::hrtimer::{Expire, OwnedTimer, TimerOwner}, //
};
use core::{
    cell::UnsafeCell,
    mem::{ManuallyDrop, MaybeUninit},
    ptr::{self, NonNull},
    sync::atomic::AtomicU32, //
};
use kernel::{
    bindings,
    fs::File,
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::ordering,
        Arc,
        ArcBorrow,
        Refcount, //
    },
};

/// A registered event, unique in its kqueue by (ident, filter).
///
/// It is referenced by its kqueue's table, and by what it has attached to its source. It references
/// its kqueue. [`Knote::detach`], with which every knote ends, breaks this circle.
pub(crate) struct Knote {
    refs: Refcount,
    /// Changed under the spin lock.
    pub(in crate::engine) state: UnsafeCell<State>,
    filter: Filter,
    /// Guarded by the mutex.
    fast_path: UnsafeCell<FastPath>,
    kqueue: Arc<Kqueue>,
    ident: u64,
    /// Guarded by the spin lock.
    pub(in crate::engine) links: UnsafeCell<Links>,
    pub(crate) entry: Entry,
    pub(in crate::engine) binding: Binding,
    /// Guarded by the mutex, as the rest. (It is `None` when the knote is dropped, so it is not
    /// dropped.)
    next: UnsafeCell<ManuallyDrop<Option<ARef<Knote>>>>,
    inner: UnsafeCell<KnoteInner>,
}

// There may be a million of them.
const _: () = assert!(size_of::<Knote>() <= 144);

/// A knote of `EVFILT_TIMER`, with its timer.
#[repr(C)]
pub(in crate::engine) struct TimerKnote {
    // This is the first field, so that a pointer to it is a pointer to the whole.
    knote: Knote,
    timer: MaybeUninit<KnoteTimer>,
}

/// The timer of a knote of `EVFILT_TIMER`. The owner of the kqueue's mutex uses it; its function
/// may run meanwhile.
pub(crate) type KnoteTimer = OwnedTimer<Knote>;

/// The slab caches of knotes.
pub(crate) struct Slabs {
    knotes: Slab<Knote>,
    timers: Slab<TimerKnote>,
}

impl Slabs {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Slabs {
            knotes: Slab::new(c"kqueue_knote")?,
            timers: Slab::new(c"kqueue_timer")?,
        })
    }
}

// SAFETY: All parts may be used from any thread, each under its lock.
unsafe impl Send for Knote {}
// SAFETY: As above.
unsafe impl Sync for Knote {}

// SAFETY: As above; the timer is used by who has the mutex, and by its function, which only tells
// that it has fired.
unsafe impl Send for TimerKnote {}

// SAFETY: The count is one of the references that there are; the last one frees.
unsafe impl AlwaysRefCounted for Knote {
    #[inline]
    fn inc_ref(&self) {
        self.refs.inc();
    }

    #[inline]
    unsafe fn dec_ref(this: NonNull<Self>) {
        // SAFETY: The caller has a reference.
        if unsafe { this.as_ref() }.refs.dec_and_test() {
            // SAFETY: That was the last one; knotes come from their slabs, be it with a timer
            // behind them, which needs no dropping.
            unsafe { slab::free(this) };
        }
    }
}

/// What the mutex guards of a knote.
///
/// # Invariants
///
/// The mutex is held, and what it guards is borrowed by nobody else.
pub(crate) struct LockedKnote<'a> {
    knote: &'a Knote,
    pub(crate) inner: &'a mut KnoteInner,
    /// The file of its descriptor.
    pub(crate) file: Option<&'a File>,
    /// How a scan evaluates it under the spin lock.
    pub(crate) fast_path: &'a mut FastPath,
}

impl<'a> LockedKnote<'a> {
    /// The knote.
    #[inline]
    pub(crate) fn knote(&self) -> &'a Knote {
        self.knote
    }

    /// The same parts, for a shorter time.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> LockedKnote<'_> {
        // INVARIANT: As for `self`, which is borrowed.
        LockedKnote {
            knote: self.knote,
            inner: self.inner,
            file: self.file,
            fast_path: self.fast_path,
        }
    }

    /// True if the number of the descriptor still refers to its file.
    #[inline]
    pub(crate) fn ident_refers_to_file(&self, _: &Ready, table: CurrentTable) -> bool {
        // SAFETY: The holder of a `Ready` holds a spin lock, and so is in an RCU read-side critical
        // section.
        let files = unsafe { CurrentFiles::in_rcu(table) };
        self.file
            .is_some_and(|file| files.maps(self.knote.ident, file))
    }

    /// The timer of a knote of `EVFILT_TIMER`.
    #[inline]
    pub(crate) fn timer(&mut self) -> Option<&KnoteTimer> {
        let timer = self.knote.timer()?;
        // SAFETY: It lives as its knote does. By the type's invariant the mutex is held, and nobody
        // else has this.
        Some(unsafe { timer.as_ref() })
    }
}

/// A count of one. (`Refcount::new` makes it by a call of C.)
#[inline(always)]
fn one_reference() -> Refcount {
    let one = bindings::refcount_t {
        refs: bindings::atomic_t { counter: 1 },
    };
    // SAFETY: A `Refcount` is a transparent wrapper of this, and may have any value.
    unsafe { core::mem::transmute::<bindings::refcount_t, Refcount>(one) }
}

impl Knote {
    /// A knote of `kqueue` that is not in its table yet, and has no source.
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
        inner: impl FnOnce() -> KnoteInner,
        memory: Memory,
    ) -> Result<ARef<Self>> {
        let make = || Knote {
            refs: one_reference(),
            state: UnsafeCell::new(State::default()),
            filter,
            fast_path: UnsafeCell::new(FastPath::Unsupported),
            kqueue: kqueue.into(),
            ident,
            links: UnsafeCell::new(Links::NONE),
            entry: Entry::new(Self::woken),
            binding: Binding::none(),
            next: UnsafeCell::new(ManuallyDrop::new(None)),
            inner: UnsafeCell::new(inner()),
        };
        let knote = if filter.has_timer() {
            let timer = MaybeUninit::uninit();
            let make = || TimerKnote {
                knote: make(),
                timer,
            };
            let whole = slabs.timers.alloc(memory, make)?;
            // SAFETY: It is in its place, and ours. `detach` cancels it, or `drop`.
            unsafe { KnoteTimer::init((&raw mut (*whole.as_ptr()).timer).cast()) };
            whole.cast()
        } else {
            slabs.knotes.alloc(memory, make)?
        };
        // SAFETY: The reference that it was made with is the caller's.
        Ok(unsafe { ARef::from_raw(knote) })
    }

    /// What the knote is about: the number of the descriptor for a filter of descriptors.
    #[inline]
    pub(crate) fn ident(&self) -> u64 {
        self.ident
    }

    /// The kind of event.
    #[inline]
    pub(crate) fn filter(&self) -> Filter {
        self.filter
    }

    /// The kqueue that it belongs to.
    #[inline]
    pub(crate) fn kqueue(&self) -> ArcBorrow<'_, Kqueue> {
        self.kqueue.as_arc_borrow()
    }

    #[inline]
    fn timer(&self) -> Option<NonNull<KnoteTimer>> {
        if !self.filter.has_timer() {
            return None;
        }
        let whole = ptr::from_ref(self).cast::<TimerKnote>().cast_mut();
        // SAFETY: One with that filter is the first part of a `TimerKnote`. (That it may be left by
        // this pointer is what `container_of!` relies on too.)
        NonNull::new(unsafe { &raw mut (*whole).timer }.cast())
    }

    /// Panics if the lock is that of another kqueue, as the `kernel` crate's `LockedBy` does.
    #[inline]
    pub(in crate::engine) fn check<L: Keyed>(&self, guarded: &L) {
        self.check_key(guarded.key());
    }

    #[inline]
    fn check_key<L>(&self, key: &Key<L>) {
        assert!(key.is_of(self.kqueue.locks()));
    }

    /// What the mutex guards.
    #[inline]
    pub(crate) fn inner<'a>(&'a self, access: &'a KnoteAccess) -> &'a KnoteInner {
        self.check(access);
        // SAFETY: The mutex of the knote's kqueue is held, and nobody has `&mut` while `access` is
        // borrowed: without the mutex only `drop` has, once there are no references.
        unsafe { &*self.inner.get() }
    }

    /// What the mutex guards, for a change.
    #[inline]
    pub(crate) fn inner_mut<'a>(&'a self, access: &'a mut KnoteAccess) -> &'a mut KnoteInner {
        self.check(access);
        // SAFETY: As above, and `access` is borrowed by nobody else.
        unsafe { &mut *self.inner.get() }
    }

    /// The next knote in its chain of the table.
    #[inline]
    pub(crate) fn next<'a>(&'a self, table: &'a Key<Table>) -> Option<&'a ARef<Knote>> {
        self.check_key(table);
        // SAFETY: The mutex is held, and nobody has `&mut` while the key is borrowed.
        unsafe { &*self.next.get() }.as_ref()
    }

    /// The next knote in its chain, for a change.
    #[inline]
    pub(crate) fn next_mut<'a>(&'a self, table: &'a mut Key<Table>) -> &'a mut Option<ARef<Knote>> {
        self.check_key(table);
        // SAFETY: As above, and the key is borrowed by nobody else.
        unsafe { &mut *self.next.get() }
    }

    /// What the mutex guards and the file of its descriptor.
    #[inline]
    pub(crate) fn locked<'a>(&'a self, access: &'a mut KnoteAccess) -> LockedKnote<'a> {
        self.check(access);
        // INVARIANT: The mutex is held, and `access` is borrowed by nobody else.
        LockedKnote {
            knote: self,
            // SAFETY: As just said.
            inner: unsafe { &mut *self.inner.get() },
            // SAFETY: The mutex is held, and nobody can unbind while `access` is borrowed.
            file: unsafe { self.binding.file() },
            // SAFETY: As for `inner`.
            fast_path: unsafe { &mut *self.fast_path.get() },
        }
    }

    /// The file of its descriptor.
    #[inline]
    pub(crate) fn file<'a>(&'a self, access: &'a KnoteAccess) -> Option<&'a File> {
        self.check(access);
        // SAFETY: As in `locked`.
        unsafe { self.binding.file() }
    }

    /// Its state.
    #[inline]
    pub(crate) fn state<'a>(&'a self, ready: &'a mut Ready) -> &'a mut State {
        self.check(ready);
        // SAFETY: The spin lock of the knote's kqueue is held, and `ready` is borrowed by nobody
        // else.
        unsafe { &mut *self.state.get() }
    }

    /// What a walk of the ready list needs, for a caller that knows the knote to be of this kqueue.
    ///
    /// # Safety
    ///
    /// Both locks of its kqueue are held for as long as the result is used, and what they guard is
    /// borrowed by nobody else.
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

    /// The mark that its pipe had when the knote was last reported ([`crate::sys::file::pipe`]). It
    /// has no meaning before that.
    #[inline]
    pub(crate) fn pipe_position(&self) -> &AtomicU32 {
        self.entry.spare()
    }

    /// The file of its descriptor, if it is to be rechecked.
    pub(in crate::engine) fn file_to_recheck<'a>(
        &'a self,
        ready: &'a mut Ready,
    ) -> Option<&'a File> {
        if !self.state(ready).is_to_be_rechecked() {
            return None;
        }
        // SAFETY: It was bound by whoever scheduled the recheck under this lock, and is not
        // retired, which comes before it is unbound and needs this lock: it is bound for as long as
        // `ready` is borrowed.
        unsafe { self.binding.file() }
    }

    /// True if it was retired. It is read without the lock, so the knote may be retired after a
    /// false result.
    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        // SAFETY: Valid; it is atomic, and may be seen by others while it is mutable.
        unsafe { &*self.state.get() }.is_deleting()
    }

    /// A reference to the knote, unless the last one was just dropped.
    pub(in crate::engine) fn get(&self) -> Option<ARef<Self>> {
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

    /// True if the close probe has taken the knote out of its tree of bound knotes. For the owner
    /// of the lock of that tree, under which that is done.
    #[inline]
    pub(in crate::engine) fn is_unlinked(&self) -> bool {
        // SAFETY: As above.
        unsafe { &*self.state.get() }.is_unlinked()
    }

    /// Detaches a retired knote from its source: no callback comes after that.
    pub(crate) fn detach(&self, access: &mut KnoteAccess) {
        debug_assert!(self.is_retired());
        let mut locked = self.locked(access);
        // The entry goes first, since the queue is the file's.
        self.entry.detach();
        if let Some(timer) = locked.timer() {
            timer.cancel();
        }
        // Then the source is dropped, which may use the file as well.
        drop(locked.inner.source.take());
        // SAFETY: The mutex is held, and there is no reference to the file.
        unsafe { self.binding.unbind(self, &mut access.binding_count) };
    }

    /// The function of the wait-queue entry.
    ///
    /// # Safety
    ///
    /// `wait` is that of a knote, and linked; called under its queue's lock.
    unsafe extern "C" fn woken(
        wait: *mut bindings::wait_queue_entry,
        _mode: kernel::ffi::c_uint,
        flags: kernel::ffi::c_int,
        key: *mut core::ffi::c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: By this function's contract. The knote lives: it is unlinked before it is freed,
        // under the lock that our caller holds.
        let this = unsafe { &*kernel::container_of!(wait.cast::<Entry>(), Knote, entry) };
        // SAFETY: As above; the entry is touched no more after this.
        unsafe {
            Entry::woken(wait, key, this.filter.wake_events(), || {
                this.activate_with(WakeFlags::of_wake_function(flags));
            });
        }
        1
    }
}

impl Expire for Knote {
    fn expire(&self) {
        self.activate();
    }
}

impl TimerOwner for Knote {
    unsafe extern "C" fn expired(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By this function's contract: the timer of a knote is in a `TimerKnote`. It lives:
        // its timer is cancelled before it is freed, which waits for us.
        let knote = unsafe {
            let timer = KnoteTimer::set_fired(timer).cast::<MaybeUninit<KnoteTimer>>();
            &(*kernel::container_of!(timer, TimerKnote, timer)).knote
        };
        knote.activate();
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

/// The place of a knote in a chain of its table.
///
/// # Invariants
///
/// `slot` has a knote. It and all behind it are borrowed for `'a`, with the key.
pub(crate) struct ChainSlot<'a> {
    slot: NonNull<Option<ARef<Knote>>>,
    key: &'a mut Key<Table>,
}

impl<'a> ChainSlot<'a> {
    /// The first place in `chain`, a chain of the table of `key`, whose knote satisfies `is`.
    #[inline]
    pub(crate) fn find(
        chain: &'a mut Option<ARef<Knote>>,
        key: &'a mut Key<Table>,
        mut is: impl FnMut(&Knote) -> bool,
    ) -> Option<Self> {
        let mut slot = NonNull::from(chain);
        loop {
            // SAFETY: It is the chain, or within the knote before, which is in the chain; nobody
            // else uses those, who would need the key for that.
            let knote = unsafe { slot.as_ref() }.as_ref()?;
            if is(knote) {
                // INVARIANT: As above.
                return Some(ChainSlot { slot, key });
            }
            slot = NonNull::from(knote.next_mut(key));
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
        // SAFETY: By the type's invariant; the slot gets what was behind the knote.
        unsafe {
            let knote = slot.read().unwrap_unchecked();
            slot.write(knote.next_mut(self.key).take());
            knote
        }
    }
}

impl Drop for Knote {
    #[inline]
    fn drop(&mut self) {
        // The entry is only linked, and a timer only armed, while the knote is attached.
        let timer = self.timer();
        // SAFETY: The timer is there still, and nobody else has a reference to the knote.
        let is_armed = timer.is_some_and(|timer| unsafe { timer.as_ref() }.is_armed());
        if !self.is_retired() || self.binding.is_bound() || is_armed {
            self.end();
        }
        self.kqueue.uncharge_knote(self.filter);
    }
}

impl Knote {
    /// Ends a knote that is dropped without having been detached.
    #[cold]
    #[inline(never)]
    fn end(&mut self) {
        // In this order: a task that finds the knote in the list does not use it any more, and
        // nothing puts it there again.
        if !self.is_retired() {
            self.kqueue.retire(self);
        }
        if self.binding.is_bound() {
            self.entry.detach();
            drop(self.inner.get_mut().source.take());
            // SAFETY: Nobody else has a reference to the knote.
            unsafe {
                self.binding
                    .release_file(self, &self.kqueue.shared().bound_knotes)
            };
        }
        if let Some(timer) = self.timer() {
            // SAFETY: It is there still, and nobody else has a reference to the knote.
            unsafe { timer.as_ref() }.cancel();
        }
    }
}
