// SPDX-License-Identifier: GPL-2.0

//! The watches of the objects that a probe reports on.
//!
//! A [`WatchedProbe`] is a [probe on demand](OnDemandProbe) together with the [`Watch`]es of the
//! objects that the probe serves. While the probe is registered, every task in the system that
//! reaches the probed code runs the probe. [`WatchedProbe::is_watched`] rejects nearly all of these
//! calls after one load.
//!
//! # Context and locks
//!
//! The watches are in several trees, each protected by a spin lock that is held with interrupts
//! disabled. A probe may run in any context that allows such locks. The callback of
//! [`WatchedProbe::for_each`] runs under such a lock, so the locks that it takes nest inside.
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
    fmt,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    static_lock_class,
    sync::{
        atomic::{ordering, Atomic},
        barrier::smp_mb,
        Arc, //
    }, //
};

use super::on_demand::{OnDemandProbe, Probe};
use crate::sys::{
    lock::raw_spin::IrqLock,
    memory::{hash::hash, slab::AllocMode}, //
};

/// The key (object, target): the watches of one object are neighbours in the tree.
type Key = (usize, usize);
type Tree<T> = RBTree<Key, Arc<T>>;
/// A subset of the watches, with its lock.
type Shard<T> = Pin<KBox<IrqLock<Tree<T>>>>;

/// A probe that reports events of objects.
pub(crate) trait ObjectProbe: Probe {
    /// The type of the target that a watch notifies.
    type Target: Send + Sync + 'static;
    /// The binary logarithm of the number of shards, each with its own lock.
    const SHARD_BITS: u32;
    /// The binary logarithm of the number of counters that [`WatchedProbe::is_watched`] reads.
    const FILTER_BITS: u32;
}

/// A probe and the watches that it serves.
#[pin_data]
#[repr(C)]
pub(crate) struct WatchedProbe<P: ObjectProbe> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    probe: OnDemandProbe<P>,
    /// The number of watches by hash of the object. A count of 0 means that no such object is
    /// watched. The accesses are relaxed. An increment comes before the full barrier that ends the
    /// insertion. A decrement may come early or late: a probe that reads the number at the same
    /// time may serve the watch or not, since the watch is being dropped.
    filter: KVVec<Atomic<u32>>,
    shards: KVec<Shard<P::Target>>,
}

/// A watch of one object by one target. Dropping it ends the watch.
pub(crate) struct Watch<P: ObjectProbe> {
    probe: Arc<WatchedProbe<P>>,
    key: Key,
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
            let shard = KBox::pin_init(
                IrqLock::new(Tree::new(), c"watches", static_lock_class!()),
                GFP_KERNEL,
            )?;
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
        self.insert(object, target, AllocMode::NoSleep.flags(), || {
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
            count.fetch_add(1, ordering::Relaxed);
        }
        if let Some(shard) = self.shard(object) {
            // The key is new, because the target has no watch of this object. So nothing is
            // replaced, and nothing is freed under the lock.
            let replaced = shard.lock().insert(node);
            drop(replaced);
        }
        // This orders the insertion before what the caller reads of the object. It pairs with the
        // barrier that a probe executes before `is_watched`.
        smp_mb(ordering::Full);
        Ok(watch)
    }

    fn shard(&self, object: usize) -> Option<&IrqLock<Tree<P::Target>>> {
        self.shards
            .get(hash(object, P::SHARD_BITS))
            .map(Deref::deref)
    }

    /// False if the object has no watch. May be true for an unwatched object with an equal hash.
    ///
    /// The load orders nothing. A probe that reports the change of a state which a registration
    /// reads after [`WatchedProbe::watch`] executes a full barrier before this call. Other probes
    /// report that something happens. They need no barrier: a task that does it after it has
    /// learned of the watch reads the count of that watch, and otherwise the two happen at the same
    /// time.
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

impl<P: ObjectProbe> Drop for Watch<P> {
    fn drop(&mut self) {
        let probe = &self.probe;
        let removed = probe
            .shard(self.key.0)
            .and_then(|shard| shard.lock().remove_node(&self.key));
        if let Some(count) = probe.filter.get(hash(self.key.0, P::FILTER_BITS)) {
            count.fetch_sub(1, ordering::Relaxed);
        }
        drop(removed);
        probe.probe.release();
    }
}
