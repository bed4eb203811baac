// SPDX-License-Identifier: GPL-2.0

//! A probe into the kernel that exists only while somebody watches an object.
//!
//! A [`Presence`] is a [`Probe`] and the rule of when it is there: it is registered with the first
//! who needs it and taken away some seconds after the last has left (registering patches code). A
//! [`Hook`] is that, with the [`Watch`]es of objects that the probe serves. While it is there,
//! everybody in the system comes by: [`Hook::is_watched`] sends nearly all of them away after one
//! load.
//!
//! # Context and locks
//!
//! The locks of the watches are spin locks, interrupts off; a probe may be
//! called in any context that allows those. What a probe does with a target in
//! [`Hook::for_each`] nests in such a lock.

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

/// How long a probe outlives its last watch.
const LINGER_MILLIS: u32 = 10_000;

/// (object, target): all watches of one object are neighbours in the tree.
type Key = (usize, usize);
type Tree<T> = RBTree<Key, Arc<T>>;
/// A part of all watches, and its lock.
type Shard<T> = Pin<KBox<SpinLockIrq<Tree<T>>>>;

/// A way to have a function called when something happens in the kernel.
///
/// # Safety
///
/// After `unregister` has returned, the function is not called, and no call of it is running.
pub(crate) unsafe trait Probe: Send + Sync + Sized + 'static {
    /// Has the function called from now on.
    ///
    /// # Safety
    ///
    /// `presence` is what this is the probe of. It stays valid and in its place until `unregister`
    /// has returned. Not registered yet.
    unsafe fn register(&self, presence: *const Presence<Self>) -> Result;

    /// Ends that, and waits for calls that are running. May sleep.
    ///
    /// # Safety
    ///
    /// Registered, with the same `presence`.
    unsafe fn unregister(&self, presence: *const Presence<Self>);
}

/// A probe that tells of objects.
pub(crate) trait Watched: Probe {
    /// Who wants to know.
    type Target: Send + Sync + 'static;
    /// Binary logarithm of the number of locks that the watches are spread over.
    const SHARD_BITS: u32;
    /// Binary logarithm of the number of counters that tell whether an object is watched.
    const FILTER_BITS: u32;
}

/// A probe that is there while it is needed.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Presence<P: Probe> {
    // First, so that a pointer to it is a pointer to the whole.
    probe: P,
    /// Removes the probe when nobody needs it.
    #[pin]
    remove: Opaque<bindings::delayed_work>,
    #[pin]
    registered: Mutex<bool>,
    /// Copy of `registered` to read without the lock.
    ready: Atomic<bool>,
    /// How many need it.
    needs: Atomic<usize>,
}

// SAFETY: The work is only handed to functions with locks of their own; the rest is `Send`.
unsafe impl<P: Probe> Send for Presence<P> {}
// SAFETY: As above.
unsafe impl<P: Probe> Sync for Presence<P> {}

/// A probe and the watches that it serves.
#[pin_data]
#[repr(C)]
pub(crate) struct Hook<P: Watched> {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    presence: Presence<P>,
    /// How many watches there are by hash of the object; 0 means that it has none.
    filter: KVVec<Atomic<u32>>,
    shards: KVec<Shard<P::Target>>,
}

/// A watch of one object by one target; over when dropped.
pub(crate) struct Watch<P: Watched> {
    hook: Arc<Hook<P>>,
    key: Key,
}

/// The top bits of a hash of an object's address.
#[inline]
pub(crate) fn hash(object: usize, bits: u32) -> usize {
    // Objects come from slabs: the low bits tell little. 2^64 divided by the golden ratio.
    (object as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (u64::BITS - bits)
}

impl<P: Probe> Presence<P> {
    /// Not registered.
    pub(crate) fn new(probe: P) -> impl PinInit<Self> {
        pin_init!(Self {
            probe,
            // SAFETY: `slot` is valid for writes.
            remove <- Opaque::ffi_init(|slot| unsafe {
                generated::kq_init_delayed_work(slot, Some(Self::linger_over))
            }),
            registered <- new_mutex!(false),
            ready: Atomic::new(false),
            needs: Atomic::new(0),
        })
    }

    /// For an administrator: whether the probe is registered, and how many watch.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = *self.registered.lock();
        let needs = self.needs.load(ordering::Relaxed);
        writeln!(f, "{name} registered: {registered} watches: {needs}")
    }

    /// Counts one who needs the probe, if it is there.
    fn acquire_ready(&self) -> Option<()> {
        // Full ordering: either `linger_over` sees our count, or we see that it is not ready.
        self.needs.fetch_add(1, ordering::Full);
        if self.ready.load(ordering::Acquire) {
            return Some(());
        }
        self.needs.fetch_sub(1, ordering::Full);
        None
    }

    /// Counts one who needs the probe.
    ///
    /// # Errors
    ///
    /// What registering fails with.
    pub(crate) fn acquire(&self) -> Result {
        if self.acquire_ready().is_some() {
            return Ok(());
        }
        let mut registered = self.registered.lock();
        self.needs.fetch_add(1, ordering::Full);
        if !*registered {
            // SAFETY: Not registered. A presence is pinned, and `drop` unregisters.
            if let Err(error) = unsafe { self.probe.register(self) } {
                self.needs.fetch_sub(1, ordering::Full);
                return Err(error);
            }
            *registered = true;
        }
        self.ready.store(true, ordering::Release);
        Ok(())
    }

    /// One less needs it.
    pub(crate) fn release(&self) {
        if self.needs.fetch_sub(1, ordering::Full) == 1 {
            // SAFETY: Initialised in `new`, cancelled in `drop`.
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

    /// The delayed work's function: nobody has needed the probe for a while.
    ///
    /// # Safety
    ///
    /// `work` is within the `remove` of a `Presence<P>`.
    unsafe extern "C" fn linger_over(work: *mut bindings::work_struct) {
        // SAFETY: `work` is within `remove` of a live hook: `drop` waits for us.
        let this = unsafe {
            let remove = kernel::container_of!(work, bindings::delayed_work, work);
            let remove = remove.cast::<Opaque<bindings::delayed_work>>();
            &*kernel::container_of!(remove, Presence<P>, remove)
        };
        let mut registered = this.registered.lock();
        this.ready.store(false, ordering::Relaxed);
        // Pairs with the full ordering in `acquire_ready`.
        smp_mb(ordering::Full);
        if this.needs.load(ordering::Relaxed) != 0 {
            this.ready.store(*registered, ordering::Release);
        } else {
            this.unregister(&mut registered);
        }
    }

    /// Takes the probe away now. Nobody will need it any more.
    ///
    /// Not left to `drop`: a probe that is running may have the last reference but one.
    pub(crate) fn stop(&self) {
        // First, so that no probe which adds a watch in vain can queue the work again.
        self.unregister(&mut self.registered.lock());
        // SAFETY: Initialised in `new`.
        unsafe { bindings::cancel_delayed_work_sync(self.remove.get()) };
    }

    fn unregister(&self, registered: &mut bool) {
        if *registered {
            // SAFETY: It is registered, by `acquire`.
            unsafe { self.probe.unregister(self) };
            *registered = false;
        }
    }
}

impl<P: Watched> Hook<P> {
    /// No watches yet, and the probe is not registered.
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
                presence <- Presence::new(probe),
                filter,
                shards,
            }),
            GFP_KERNEL,
        )
    }

    /// Tells `target` of what happens to the object at that address from now on. It has at most
    /// one watch of an object; it sees to it that the address is not another object's meanwhile.
    ///
    /// There is a full barrier after the watch was added.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what registering fails with.
    pub(crate) fn watch(
        self: &Arc<Self>,
        object: usize,
        target: &Arc<P::Target>,
    ) -> Result<Watch<P>> {
        self.insert(object, target, GFP_KERNEL_ACCOUNT, || {
            self.presence.acquire()
        })
    }

    /// The same from a probe, that is, in atomic context and while there is another watch.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EAGAIN` if the other watch went, and the probe with it.
    pub(crate) fn watch_too(
        self: &Arc<Self>,
        object: usize,
        target: &Arc<P::Target>,
    ) -> Result<Watch<P>> {
        self.insert(object, target, Memory::Atomic.flags(), || {
            self.presence.acquire_ready().ok_or(EAGAIN)
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
            hook: self.clone(),
            key,
        };
        if let Some(count) = self.filter.get(hash(object, P::FILTER_BITS)) {
            count.fetch_add(1, ordering::Full);
        }
        if let Some(shard) = self.shard(object) {
            // The key is new: the target has no watch of this object.
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

    /// False when the object has no watch.
    pub(crate) fn is_watched(&self, object: usize) -> bool {
        self.filter
            .get(hash(object, P::FILTER_BITS))
            // SAFETY: Read at once. (The `kernel` crate's atomic loads are function calls.)
            .is_some_and(|count| unsafe { count.as_ptr().read_volatile() } != 0)
    }

    /// Calls `each` with the object's targets, under a spin lock.
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

    /// The object's next target after that with address `after`, to call it without the lock.
    pub(crate) fn next(&self, object: usize, after: usize) -> Option<Arc<P::Target>> {
        let tree = self.shard(object)?.lock();
        let cursor = tree.cursor_lower_bound(&(object, after.checked_add(1)?))?;
        let (key, target) = cursor.current();
        (key.0 == object).then(|| target.clone())
    }

    /// For an administrator: whether the probe is registered, and how many watch.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.presence.show(name, f)
    }

    /// Takes the probe away now. No watch is added any more.
    pub(crate) fn stop(&self) {
        self.presence.stop();
    }
}

#[pinned_drop]
impl<P: Probe> PinnedDrop for Presence<P> {
    fn drop(self: Pin<&mut Self>) {
        self.into_ref().stop();
    }
}

impl<P: Watched> Drop for Watch<P> {
    fn drop(&mut self) {
        let hook = &self.hook;
        let removed = hook
            .shard(self.key.0)
            .and_then(|shard| shard.lock().remove_node(&self.key));
        if let Some(count) = hook.filter.get(hash(self.key.0, P::FILTER_BITS)) {
            count.fetch_sub(1, ordering::Full);
        }
        drop(removed);
        hook.presence.release();
    }
}
