// SPDX-License-Identifier: GPL-2.0

//! A probe that is registered only while an object is watched.
//!
//! Registering a probe patches kernel code. An [`OnDemandProbe`] therefore registers its [`Probe`]
//! with the first user and unregisters it some seconds after the last user has left. A
//! [`WatchedProbe`] is a probe on demand together with the [`Watch`]es of the objects that the
//! probe serves. While the probe is registered, every task in the system that reaches the probed
//! code runs the probe. [`WatchedProbe::is_watched`] rejects nearly all of these calls after one
//! load.
//!
//! # Context and locks
//!
//! The watches are in several trees, each protected by a spin lock that is held with interrupts
//! disabled. A probe may run in any context that allows such locks. The callback of
//! [`WatchedProbe::for_each`] runs under such a lock, so the locks that it takes nest inside. The
//! mutex `registered` of an on-demand probe serialises registering and unregistering. It is taken
//! in task context only, outside all other locks of this file.
//!
//! # Examples
//!
//! ```ignore
//! let probe = WatchedProbe::new(Tracepoint::<Fork<Target>>::new())?;
//! let watch = probe.watch(process.id(), &target)?; // Registers the probe if necessary.
//! drop(watch); // The probe is unregistered after a delay.
//! probe.stop(); // Before unload: unregisters the probe and waits for running calls.
//! ```

use core::ops::Deref;
use kernel::{
    alloc::Flags,
    bindings,
    ffi::c_int,
    fmt,
    new_mutex,
    new_spinlock_irq,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{
        atomic::{ordering, Atomic},
        barrier::smp_mb,
        Arc,
        Mutex,
        SpinLockIrq, //
    },
    time::msecs_to_jiffies,
    types::Opaque, //
};

use crate::{generated, sys::memory::slab::Memory};

/// The delay between the end of the last watch and the removal of the probe.
const LINGER_MILLIS: u32 = 10_000;

/// The key (object, target): the watches of one object are neighbours in the tree.
type Key = (usize, usize);
type Tree<T> = RBTree<Key, Arc<T>>;
/// A subset of the watches, with its lock.
type Shard<T> = Pin<KBox<SpinLockIrq<Tree<T>>>>;

/// A method of calling a function when a certain event happens in the kernel.
///
/// # Safety
///
/// After `unregister` has returned, the function is not called any more, and no call of it is
/// running.
pub(crate) unsafe trait Probe: Send + Sync + Sized + 'static {
    /// Registers the probe, so that the function is called.
    ///
    /// # Safety
    ///
    /// `on_demand` contains this probe. It stays valid and is not moved before `unregister` has
    /// returned. The probe is not registered.
    unsafe fn register(&self, on_demand: *const OnDemandProbe<Self>) -> Result;

    /// Unregisters the probe and waits for calls that are running. May sleep.
    ///
    /// # Safety
    ///
    /// The probe is registered with the same `on_demand`.
    unsafe fn unregister(&self, on_demand: *const OnDemandProbe<Self>);
}

/// A probe that reports events of objects.
pub(crate) trait ObjectProbe: Probe {
    /// The type of the target that a watch notifies.
    type Target: Send + Sync + 'static;
    /// The binary logarithm of the number of shards, each with its own lock.
    const SHARD_BITS: u32;
    /// The binary logarithm of the number of counters that [`WatchedProbe::is_watched`] reads.
    const FILTER_BITS: u32;
}

/// A probe that is registered while it has users.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct OnDemandProbe<P: Probe> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    probe: P,
    /// The delayed work that unregisters the probe.
    #[pin]
    remove: Opaque<bindings::delayed_work>,
    #[pin]
    registered: Mutex<bool>,
    /// A copy of `registered` that is read without the lock. It is set with release ordering and
    /// read with acquire ordering, so the probe is registered for a task that reads true.
    ready: Atomic<bool>,
    /// The number of users.
    users: Atomic<usize>,
}

// SAFETY: The work is only passed to functions that do their own locking. The other fields are
// `Send`.
unsafe impl<P: Probe> Send for OnDemandProbe<P> {}
// SAFETY: The work is only passed to functions that do their own locking. The other fields are
// `Sync`.
unsafe impl<P: Probe> Sync for OnDemandProbe<P> {}

/// A probe and the watches that it serves.
#[pin_data]
#[repr(C)]
pub(crate) struct WatchedProbe<P: ObjectProbe> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    probe: OnDemandProbe<P>,
    /// The number of watches by hash of the object. A count of 0 means that no such object is
    /// watched.
    filter: KVVec<Atomic<u32>>,
    shards: KVec<Shard<P::Target>>,
}

/// A watch of one object by one target. Dropping it ends the watch.
pub(crate) struct Watch<P: ObjectProbe> {
    probe: Arc<WatchedProbe<P>>,
    key: Key,
}

/// The top bits of a hash of an object's address.
#[inline]
pub(crate) fn hash(object: usize, bits: u32) -> usize {
    // Objects come from slabs, so the low bits of their addresses carry little information. The
    // factor is 2^64 divided by the golden ratio.
    (object as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (u64::BITS - bits)
}

impl<P: Probe> OnDemandProbe<P> {
    /// An on-demand probe that is not registered.
    pub(crate) fn new(probe: P) -> impl PinInit<Self> {
        pin_init!(Self {
            probe,
            // SAFETY: The initialiser guarantees that `slot` is valid for writes.
            remove <- Opaque::ffi_init(|slot| unsafe {
                generated::kq_init_delayed_work(slot, Some(Self::remove_if_unused))
            }),
            registered <- new_mutex!(false),
            ready: Atomic::new(false),
            users: Atomic::new(0),
        })
    }

    /// For statistics: whether the probe is registered, and the number of watches.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = *self.registered.lock();
        let users = self.users.load(ordering::Relaxed);
        writeln!(f, "{name} registered: {registered} watches: {users}")
    }

    /// Adds a user if the probe is registered. Does not sleep.
    fn acquire_ready(&self) -> Option<()> {
        // The full ordering guarantees that either `remove_if_unused` sees this count, or `ready`
        // is seen as false here.
        self.users.fetch_add(1, ordering::Full);
        if self.ready.load(ordering::Acquire) {
            return Some(());
        }
        self.users.fetch_sub(1, ordering::Full);
        None
    }

    /// Adds a user and registers the probe if necessary. May sleep.
    ///
    /// # Errors
    ///
    /// The errors of [`Probe::register`].
    pub(crate) fn acquire(&self) -> Result {
        if self.acquire_ready().is_some() {
            return Ok(());
        }
        let mut registered = self.registered.lock();
        self.users.fetch_add(1, ordering::Full);
        if !*registered {
            // SAFETY: The probe is not registered. The structure is pinned, and `drop` unregisters
            // the probe.
            if let Err(error) = unsafe { self.probe.register(self) } {
                self.users.fetch_sub(1, ordering::Full);
                return Err(error);
            }
            *registered = true;
        }
        self.ready.store(true, ordering::Release);
        Ok(())
    }

    /// Removes a user. If it was the last one, schedules the removal of the probe.
    pub(crate) fn release(&self) {
        if self.users.fetch_sub(1, ordering::Full) == 1 {
            // SAFETY: The work was initialised in `new`. `drop` cancels it.
            unsafe {
                bindings::mod_delayed_work_on(
                    bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                    bindings::system_dfl_wq,
                    self.remove.get(),
                    msecs_to_jiffies(LINGER_MILLIS),
                )
            };
        }
    }

    /// The function of the delayed work: unregisters the probe unless it has a user again.
    ///
    /// # Safety
    ///
    /// `work` is within the field `remove` of a live `OnDemandProbe<P>`.
    unsafe extern "C" fn remove_if_unused(work: *mut bindings::work_struct) {
        // SAFETY: `work` is within the field `remove` of an on-demand probe. That probe is alive,
        // because `drop` waits for this function.
        let this = unsafe {
            let remove = kernel::container_of!(work, bindings::delayed_work, work);
            let remove = remove.cast::<Opaque<bindings::delayed_work>>();
            &*kernel::container_of!(remove, OnDemandProbe<P>, remove)
        };
        let mut registered = this.registered.lock();
        this.ready.store(false, ordering::Relaxed);
        // Pairs with the full ordering in `acquire_ready`.
        smp_mb(ordering::Full);
        if this.users.load(ordering::Relaxed) != 0 {
            this.ready.store(*registered, ordering::Release);
        } else {
            this.unregister(&mut registered);
        }
    }

    /// Unregisters the probe now. It gets no users any more.
    ///
    /// The owner calls this instead of leaving it to `drop`, because a call of the probe that is
    /// running may hold the last reference but one.
    pub(crate) fn stop(&self) {
        // Unregister first. A probe call that fails to add a watch could otherwise queue the work
        // again.
        self.unregister(&mut self.registered.lock());
        // SAFETY: The work was initialised in `new`.
        unsafe { bindings::cancel_delayed_work_sync(self.remove.get()) };
    }

    fn unregister(&self, registered: &mut bool) {
        if *registered {
            // SAFETY: `acquire` has registered the probe.
            unsafe { self.probe.unregister(self) };
            *registered = false;
        }
    }
}

impl<P: ObjectProbe> WatchedProbe<P> {
    /// A probe without watches that is not registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(probe: P) -> Result<Arc<Self>> {
        let mut filter = KVVec::with_capacity(1 << P::FILTER_BITS, GFP_KERNEL)?;
        for _ in 0..1 << P::FILTER_BITS {
            filter.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let mut shards = KVec::with_capacity(1 << P::SHARD_BITS, GFP_KERNEL)?;
        for _ in 0..1 << P::SHARD_BITS {
            let shard = KBox::pin_init(new_spinlock_irq!(Tree::new()), GFP_KERNEL)?;
            shards.push(shard, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                probe <- OnDemandProbe::new(probe),
                filter,
                shards,
            }),
            GFP_KERNEL,
        )
    }

    /// Notifies `target` of events of the object at this address until the watch is dropped. A
    /// target has at most one watch of an object. The target guarantees that the address is not
    /// reused for another object meanwhile.
    ///
    /// A full barrier follows the insertion of the watch.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and the errors of [`Probe::register`].
    pub(crate) fn watch(
        self: &Arc<Self>,
        object: usize,
        target: &Arc<P::Target>,
    ) -> Result<Watch<P>> {
        self.insert(object, target, GFP_KERNEL_ACCOUNT, || self.probe.acquire())
    }

    /// Adds a watch in atomic context, from within a probe call. The caller knows that another
    /// watch exists.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EAGAIN` if the other watch was dropped meanwhile and the probe was unregistered.
    pub(crate) fn watch_atomic(
        self: &Arc<Self>,
        object: usize,
        target: &Arc<P::Target>,
    ) -> Result<Watch<P>> {
        self.insert(object, target, Memory::Atomic.flags(), || {
            self.probe.acquire_ready().ok_or(EAGAIN)
        })
    }

    fn insert(
        self: &Arc<Self>,
        object: usize,
        target: &Arc<P::Target>,
        flags: Flags,
        acquire: impl FnOnce() -> Result,
    ) -> Result<Watch<P>> {
        let key = (object, Arc::as_ptr(target).addr());
        let node = RBTreeNode::new(key, target.clone(), flags)?;
        acquire()?;
        let watch = Watch {
            probe: self.clone(),
            key,
        };
        if let Some(count) = self.filter.get(hash(object, P::FILTER_BITS)) {
            count.fetch_add(1, ordering::Full);
        }
        if let Some(shard) = self.shard(object) {
            // The key is new, because the target has no watch of this object.
            drop(shard.lock().insert(node));
        }
        smp_mb(ordering::Full);
        Ok(watch)
    }

    fn shard(&self, object: usize) -> Option<&SpinLockIrq<Tree<P::Target>>> {
        self.shards
            .get(hash(object, P::SHARD_BITS))
            .map(Deref::deref)
    }

    /// False if the object has no watch. May be true for an unwatched object with an equal hash.
    ///
    /// The load orders nothing. A probe that reports the change of a state which a registration
    /// reads after [`WatchedProbe::watch`] executes a full barrier before this call.
    pub(crate) fn is_watched(&self, object: usize) -> bool {
        self.filter
            .get(hash(object, P::FILTER_BITS))
            // SAFETY: A single load reads the counter. (The atomic loads of the `kernel` crate are
            // function calls.)
            .is_some_and(|count| unsafe { count.as_ptr().read_volatile() } != 0)
    }

    /// Calls `each` with each target of the object, under the shard's spin lock.
    pub(crate) fn for_each(&self, object: usize, mut each: impl FnMut(&Arc<P::Target>)) {
        let Some(shard) = self.shard(object) else {
            return;
        };
        let mut tree = shard.lock();
        let mut cursor = tree.cursor_lower_bound_mut(&(object, 0));
        while let Some(at) = cursor {
            let (key, target) = at.current();
            if key.0 != object {
                break;
            }
            each(target);
            cursor = at.move_next();
        }
    }

    /// The target of the object that follows the one at address `after`. The caller can use it
    /// without holding the lock.
    pub(crate) fn next(&self, object: usize, after: usize) -> Option<Arc<P::Target>> {
        let tree = self.shard(object)?.lock();
        let cursor = tree.cursor_lower_bound(&(object, after.checked_add(1)?))?;
        let (key, target) = cursor.current();
        (key.0 == object).then(|| target.clone())
    }

    /// For statistics: whether the probe is registered, and the number of watches.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.probe.show(name, f)
    }

    /// Unregisters the probe now. No watch is added any more.
    pub(crate) fn stop(&self) {
        self.probe.stop();
    }
}

#[pinned_drop]
impl<P: Probe> PinnedDrop for OnDemandProbe<P> {
    fn drop(self: Pin<&mut Self>) {
        self.into_ref().stop();
    }
}

impl<P: ObjectProbe> Drop for Watch<P> {
    fn drop(&mut self) {
        let probe = &self.probe;
        let removed = probe
            .shard(self.key.0)
            .and_then(|shard| shard.lock().remove_node(&self.key));
        if let Some(count) = probe.filter.get(hash(self.key.0, P::FILTER_BITS)) {
            count.fetch_sub(1, ordering::Full);
        }
        drop(removed);
        probe.probe.release();
    }
}
