// SPDX-License-Identifier: GPL-2.0

//! Hearing of every descriptor that is closed.
//!
//! The kernel has no hook for "this descriptor went away, though its file lives
//! on". But each close of a descriptor, be it by close(2), close_range, dup2,
//! exec, exit or io_uring, calls `locks_remove_posix(file, table)`, and a function
//! probe (fprobe) sees that. By then the slot in the table is empty, or holds
//! the new file; so a watch is over when its (table, number) no longer maps to
//! its file.
//!
//! # Cost
//!
//! The probe is registered with the first watch in the system and taken away
//! some seconds after the last. While it is there, every close in the system
//! comes here: [`CloseHook::maybe_watched`] sends nearly all of them away after
//! one barrier and one load.
//!
//! # Context and locks
//!
//! The probe runs with preemption off in the closing task. A shard's lock is
//! taken there and by whoever adds or drops a watch; the kqueue's lock nests in it.
//!
//! # Against registration
//!
//! A watch is added, then its slot is looked at again ([`fdtable::current_maps`]).
//! The closing task empties the slot, then looks for watches. With a full barrier
//! between the two steps of each, at least one of them sees the other.
//!
//! C header: [`include/linux/fprobe.h`](srctree/include/linux/fprobe.h)

use super::fdtable::{self, TableId};
use crate::{
    generated,
    knote::Knote, //
};
use core::ops::Deref;
use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_ulong, c_void},
    fs::File,
    new_mutex,
    new_spinlock_irq,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{
        aref::ARef,
        atomic::{ordering, Atomic},
        barrier::smp_mb,
        Arc,
        Mutex,
        SpinLockIrq, //
    },
    time::msecs_to_jiffies,
    types::Opaque, //
};

const SHARD_BITS: u32 = 8;
const FILTER_BITS: u32 = 14;
/// How long the probe outlives the last watch.
const LINGER_MILLIS: u32 = 10_000;

/// (file, knote): all watches of one file are neighbours in the tree.
type Key = (usize, usize);
type Tree = RBTree<Key, Arc<Knote>>;

/// All watches in the system, and the probe that serves them.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct CloseHook {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    probe: Opaque<generated::fprobe>,
    /// Removes the probe when nobody needs it.
    #[pin]
    remove: Opaque<bindings::delayed_work>,
    #[pin]
    registered: Mutex<bool>,
    /// Copy of `registered` to read without the lock.
    ready: Atomic<bool>,
    watches: Atomic<usize>,
    /// How many watches there are by hash of the file; 0 means that the file has none.
    filter: KVVec<Atomic<u32>>,
    shards: KVec<Pin<KBox<SpinLockIrq<Tree>>>>,
}

// SAFETY: The probe and the work are only handed to functions with locks of their own.
unsafe impl Send for CloseHook {}
// SAFETY: As above.
unsafe impl Sync for CloseHook {}

/// A watch of one knote's descriptor; over when dropped.
pub(crate) struct Watch {
    hook: Arc<CloseHook>,
    key: Key,
}

fn hash(file: usize, bits: u32) -> usize {
    // Files come from a slab: the low bits tell little. 2^64 divided by the golden ratio.
    (file as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (u64::BITS - bits)
}

impl CloseHook {
    /// No watches yet, and no probe.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let mut filter = KVVec::with_capacity(1 << FILTER_BITS, GFP_KERNEL)?;
        for _ in 0..1 << FILTER_BITS {
            filter.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let mut shards = KVec::with_capacity(1 << SHARD_BITS, GFP_KERNEL)?;
        for _ in 0..1 << SHARD_BITS {
            let shard = KBox::pin_init(new_spinlock_irq!(Tree::new()), GFP_KERNEL)?;
            shards.push(shard, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                probe: Opaque::new(generated::fprobe {
                    entry_handler: Some(Self::closing),
                    ..Default::default()
                }),
                // SAFETY: `slot` is valid for writes.
                remove <- Opaque::ffi_init(|slot| unsafe {
                    generated::kq_init_delayed_work(slot, Some(Self::linger_over))
                }),
                registered <- new_mutex!(false),
                ready: Atomic::new(false),
                watches: Atomic::new(0),
                filter,
                shards,
            }),
            GFP_KERNEL,
        )
    }

    /// Tells `knote` when its number in the current task's table no longer refers to `file`.
    ///
    /// The caller looks at the slot once more when it has the watch.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what `register_fprobe` fails with.
    pub(crate) fn watch(self: &Arc<Self>, file: &File, knote: &Arc<Knote>) -> Result<Watch> {
        let key = (file.as_ptr().addr(), Arc::as_ptr(knote).addr());
        let node = RBTreeNode::new(key, knote.clone(), GFP_KERNEL_ACCOUNT)?;
        self.acquire_probe()?;
        let watch = Watch {
            hook: self.clone(),
            key,
        };
        if let Some(count) = self.filter.get(hash(key.0, FILTER_BITS)) {
            count.fetch_add(1, ordering::Full);
        }
        if let Some(shard) = self.shard(key.0) {
            // The key is new: a knote has one watch.
            drop(shard.lock().insert(node));
        }
        // The other half of the barrier in `closing`.
        smp_mb(ordering::Full);
        Ok(watch)
    }

    fn shard(&self, file: usize) -> Option<&SpinLockIrq<Tree>> {
        self.shards.get(hash(file, SHARD_BITS)).map(Deref::deref)
    }

    /// False when the file has no watch.
    fn maybe_watched(&self, file: usize) -> bool {
        self.filter
            .get(hash(file, FILTER_BITS))
            .is_some_and(|count| count.load(ordering::Relaxed) != 0)
    }

    fn acquire_probe(&self) -> Result {
        // Full ordering: either `linger_over` sees our count, or we see that it is not ready.
        self.watches.fetch_add(1, ordering::Full);
        if self.ready.load(ordering::Acquire) {
            return Ok(());
        }
        let mut registered = self.registered.lock();
        if !*registered {
            // SAFETY: The probe is initialised, not registered, and lives until `drop`, which
            // unregisters it.
            let ret = unsafe {
                generated::register_fprobe(
                    self.probe.get(),
                    c"locks_remove_posix".as_char_ptr(),
                    core::ptr::null(),
                )
            };
            if let Err(error) = to_result(ret) {
                self.watches.fetch_sub(1, ordering::Full);
                return Err(error);
            }
            *registered = true;
        }
        self.ready.store(true, ordering::Release);
        Ok(())
    }

    fn release_probe(&self) {
        if self.watches.fetch_sub(1, ordering::Full) == 1 {
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
    /// `work` is within the `remove` of a `CloseHook`.
    unsafe extern "C" fn linger_over(work: *mut bindings::work_struct) {
        // SAFETY: `work` is within `remove` of a live `CloseHook`: `drop` waits for us.
        let this = unsafe {
            let remove = kernel::container_of!(work, bindings::delayed_work, work);
            let remove = remove.cast::<Opaque<bindings::delayed_work>>();
            &*kernel::container_of!(remove, CloseHook, remove)
        };
        let mut registered = this.registered.lock();
        this.ready.store(false, ordering::Relaxed);
        // Pairs with the full ordering in `acquire_probe`.
        smp_mb(ordering::Full);
        if this.watches.load(ordering::Relaxed) != 0 {
            this.ready.store(*registered, ordering::Release);
        } else {
            this.unregister(&mut registered);
        }
    }

    fn unregister(&self, registered: &mut bool) {
        if *registered {
            // SAFETY: The probe is registered; this waits for its handler.
            unsafe { generated::unregister_fprobe(self.probe.get()) };
            *registered = false;
        }
    }

    /// The probe's handler: `locks_remove_posix(file, table)` is being entered.
    ///
    /// # Safety
    ///
    /// Called by the probe of a `CloseHook`, with the registers at that function's entry.
    unsafe extern "C" fn closing(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: The probe is the first field of a live `CloseHook`: `drop` unregisters it.
        let this = unsafe { &*probe.cast::<CloseHook>() };
        // SAFETY: `regs` are those of the probed function's entry, whose first argument this is.
        let file = unsafe { generated::kq_ftrace_argument(regs.cast(), 0) };
        // The slot was emptied before; see the module's notes on registration.
        smp_mb(ordering::Full);
        if this.maybe_watched(file) {
            // SAFETY: As above, the second argument.
            let table = unsafe { generated::kq_ftrace_argument(regs.cast(), 1) };
            // SAFETY: The caller of the probed function holds both.
            unsafe {
                this.closed(
                    file as *mut bindings::file,
                    table as *mut bindings::files_struct,
                )
            };
        }
        0
    }

    /// A descriptor of `file` in `table` was closed: ends the watches that it was for.
    ///
    /// # Safety
    ///
    /// Both are valid, or `table` is the owner of no descriptor table and not equal to one.
    unsafe fn closed(&self, file: *mut bindings::file, table: *mut bindings::files_struct) {
        let address = file.addr();
        let Some(shard) = self.shard(address) else {
            return;
        };
        let mut tree = shard.lock();
        let mut cursor = tree.cursor_lower_bound_mut(&(address, 0));
        while let Some(at) = cursor {
            let (key, knote) = at.current();
            if key.0 != address {
                break;
            }
            let ours = knote.kqueue().is_in_table(TableId::of(table));
            // SAFETY: The table is valid if it is a kqueue's.
            let over = ours
                && unsafe {
                    fdtable::is_dying(table) || !fdtable::maps(table, knote.ident(), file)
                };
            if over {
                Knote::descriptor_closed(knote.as_arc_borrow());
            }
            cursor = at.move_next();
        }
    }
}

#[pinned_drop]
impl PinnedDrop for CloseHook {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised in `new`; no watch is left that could queue it again.
        unsafe { bindings::cancel_delayed_work_sync(self.remove.get()) };
        let this = self.into_ref();
        this.unregister(&mut this.registered.lock());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let hook = &self.hook;
        let removed = hook
            .shard(self.key.0)
            .and_then(|shard| shard.lock().remove_node(&self.key));
        if let Some(count) = hook.filter.get(hash(self.key.0, FILTER_BITS)) {
            count.fetch_sub(1, ordering::Full);
        }
        drop(removed);
        hook.release_probe();
    }
}

/// What keeps a descriptor's knote bound to it: the file, and the watch of its closing.
pub(crate) struct Binding {
    // Dropped in this order: the file's address must not be used again while it is watched.
    _watch: Watch,
    file: ARef<File>,
}

impl Binding {
    /// Binds `knote` to `file`.
    ///
    /// # Errors
    ///
    /// Those of [`CloseHook::watch`].
    pub(crate) fn new(hook: &Arc<CloseHook>, file: ARef<File>, knote: &Arc<Knote>) -> Result<Self> {
        Ok(Binding {
            _watch: hook.watch(&file, knote)?,
            file,
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}
