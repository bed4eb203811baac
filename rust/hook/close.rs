// SPDX-License-Identifier: GPL-2.0

//! Hearing of every descriptor that is closed.
//!
//! The kernel has no hook for "this descriptor went away, though its file lives
//! on". But each close of a descriptor, be it by close(2), close_range, dup2,
//! exec, exit or io_uring, calls `locks_remove_posix(file, table)`, and ftrace
//! sees that. By then the slot in the table is empty, or holds
//! the new file; so a binding is over when its (table, number) no longer maps to
//! its file.
//!
//! The knotes that are bound to a file are found by its address: a hash table of fixed size, one
//! bucket for each 64 KiB of memory, whose chains go through the knotes.
//!
//! # Cost
//!
//! While a knote is bound in the system, every close comes here, and nearly all
//! leave again after one barrier and one load: that of a count of the kqueues which belong to the table,
//! and others by hash. So whoever has no kqueue does not walk a chain that somebody else has made long. It is
//! an `ftrace_ops` of its own, since a function probe (fprobe) would have each close look up in a table which
//! probe it is for.
//!
//! # Context and locks
//!
//! The callback runs in the closing task, which may be preempted; it closes nothing itself, so it does
//! not recur. The lock of a part of the buckets is
//! taken there and by whoever binds or unbinds; the kqueue's spin lock nests in it.
//!
//! # Against registration
//!
//! A knote is bound, then its slot is looked at again ([`super::fdtable::Names`]).
//! The closing task empties the slot, then looks for knotes. With a full barrier
//! between the two steps of each, at least one of them sees the other.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

use super::{
    fdtable::{self, CurrentTable, Names, TableId},
    irqlock::IrqLock,
    knote::Knote,
    params,
    probe::{hash, Presence, Probe},
    random::random, //
};
use crate::{generated, knote::Bodies};
use core::{cell::UnsafeCell, ptr};
use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_ulong},
    fmt,
    fs::File,
    prelude::*,
    static_lock_class,
    sync::{
        aref::ARef,
        atomic::{ordering, Atomic},
        barrier::smp_mb,
        Arc, //
    },
    types::Opaque, //
};

/// Binary logarithm of the number of locks.
const LOCK_BITS: u32 = 8;
/// And of the number of counts of kqueues.
const OWNER_BITS: u32 = 10;
/// And of the most and fewest buckets.
const MOST_BITS: u32 = 18;
const FEWEST_BITS: u32 = 12;
/// And of the memory that there is a bucket for.
const MEMORY_BITS: u32 = 16;

/// What binds a knote to the file of a descriptor.
///
/// # Invariants
///
/// `file` is null, or a reference to a file is owned and the knote is in the chain of the file's
/// bucket. The links are guarded by the bucket's lock; `file` only changes while the knote is in no
/// chain, under the mutex.
pub(crate) struct Bound {
    file: UnsafeCell<*mut bindings::file>,
    next: UnsafeCell<*const Knote>,
    /// What points here: a `next`, or the bucket.
    prev: UnsafeCell<*const UnsafeCell<*const Knote>>,
}

impl Bound {
    /// To nothing.
    pub(super) fn none() -> Self {
        Bound {
            file: UnsafeCell::new(ptr::null_mut()),
            next: UnsafeCell::new(ptr::null()),
            prev: UnsafeCell::new(ptr::null()),
        }
    }

    /// True if it is to a file.
    pub(super) fn is_bound(&mut self) -> bool {
        !self.file.get_mut().is_null()
    }

    /// The file.
    ///
    /// # Safety
    ///
    /// The mutex of the knote's kqueue is held, and until the result is used no more the knote is
    /// not unbound.
    #[inline]
    pub(super) unsafe fn file<'a>(&self) -> Option<&'a File> {
        // SAFETY: It does not change while the mutex is held.
        let file = unsafe { *self.file.get() };
        // SAFETY: We own a reference by the type's invariant. An ioctl on another descriptor has
        // no `fdget_pos` active.
        (!file.is_null()).then(|| unsafe { File::from_raw_file(file) })
    }

    /// Ends the binding, if there is one, and drops the reference to the file.
    ///
    /// # Safety
    ///
    /// The mutex of the kqueue of `knote`, whose bindings those are, is held. This is its binding, and nobody has
    /// a reference to its file.
    #[inline]
    pub(super) unsafe fn unbind(&self, knote: &Knote, bindings: &mut Bindings) {
        // SAFETY: It does not change but in there.
        if unsafe { *self.file.get() }.is_null() {
            return;
        }
        // SAFETY: By this function's contract.
        unsafe { self.give_up(knote, &bindings.hook) };
        bindings.one_less();
    }

    /// The same for one that is there, without counting it off.
    ///
    /// # Safety
    ///
    /// As [`Bound::unbind`], or nobody else uses the knote; made by that hook.
    pub(super) unsafe fn give_up(&self, knote: &Knote, hook: &CloseHook) {
        // SAFETY: It does not change but here.
        let file = unsafe { *self.file.get() };
        debug_assert!(ptr::eq(self, &knote.bound));
        if let Some((_, lock)) = hook.bucket(file.addr()) {
            let _guard = lock.lock();
            // SAFETY: The lock is held, and the knote is in the chain by the type's invariant; so
            // what points to it is valid, and the next one too.
            unsafe {
                let next = *self.next.get();
                (*(*self.prev.get())).get().write_volatile(next);
                if let Some(next) = next.as_ref() {
                    *next.bound.prev.get() = *self.prev.get();
                }
            }
        }
        // INVARIANT: In no chain, and the reference is given up.
        // SAFETY: We are the only one to change it; the reference is ours.
        unsafe {
            *self.file.get() = ptr::null_mut();
            bindings::fput(file);
        }
    }
}

/// The knotes that are bound to descriptors, and the probe that tells of closes.
#[pin_data]
#[repr(C)]
pub(crate) struct CloseHook {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    presence: Presence<CloseProbe>,
    /// How many kqueues there are by hash of the table that they belong to.
    owners: KVec<Atomic<u32>>,
    /// Secret and odd, so that nobody knows whose files share a chain.
    multiplier: u64,
    /// What a hash is shifted by to be the number of a bucket.
    shift: u32,
    /// The first knote in each chain.
    buckets: KVVec<UnsafeCell<*const Knote>>,
    /// Each for the buckets whose numbers end alike.
    locks: KVec<Pin<KBox<IrqLock<()>>>>,
}

// SAFETY: The buckets are guarded by the locks; an address that was read without one is only
// compared with null.
unsafe impl Send for CloseHook {}
// SAFETY: As above.
unsafe impl Sync for CloseHook {}

/// The table that a kqueue belongs to.
pub(crate) struct Owner {
    hook: Arc<CloseHook>,
    table: TableId,
}

impl Owner {
    #[inline]
    pub(crate) fn table(&self) -> TableId {
        self.table
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let owners = &self.hook.owners;
        if let Some(count) = owners.get(hash(self.table.address(), OWNER_BITS)) {
            count.fetch_sub(1, ordering::Relaxed);
        }
    }
}

/// How many knotes of one kqueue are bound. While there are some, the probe is there.
pub(crate) struct Bindings {
    hook: Arc<CloseHook>,
    count: usize,
}

impl Bindings {
    pub(crate) fn new(hook: &Arc<CloseHook>) -> Self {
        Bindings {
            hook: hook.clone(),
            count: 0,
        }
    }

    #[inline]
    fn one_more(&mut self) -> Result {
        if self.count == 0 {
            self.hook.presence.acquire()?;
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn one_less(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            self.hook.presence.release();
        }
    }
}

impl Drop for Bindings {
    fn drop(&mut self) {
        // Of knotes that were not unbound, but given up.
        if self.count > 0 {
            self.hook.presence.release();
        }
    }
}

/// Binds `knote` to `file`: it hears when its number in `table`, which is its kqueue's, no longer refers to the file.
///
/// # Errors
///
/// `EBADF` if the number refers to something else by now; then it may be bound all the same. What registering the
/// probe fails with: `EBUSY` if ftrace is switched off.
pub(crate) fn bind(
    knote: &Knote,
    file: ARef<File>,
    table: CurrentTable,
    bodies: &mut Bodies,
) -> Result {
    knote.check(bodies);
    // SAFETY: The mutex is held.
    if unsafe { knote.bound.file() }.is_some() {
        return Ok(());
    }
    bodies.bindings.one_more()?;
    // SAFETY: As above.
    if unsafe { bodies.bindings.hook.link(knote, file, table) } {
        return Ok(());
    }
    // SAFETY: As above.
    if unsafe { knote.bound.file() }.is_none() {
        bodies.bindings.one_less();
    }
    Err(EBADF)
}

/// The probe of the function.
#[repr(C)]
pub(crate) struct CloseProbe {
    // First, so that a pointer to it is a pointer to the whole.
    ops: Opaque<bindings::ftrace_ops>,
}

// SAFETY: The structure is only handed to functions with locks of their own.
unsafe impl Send for CloseProbe {}
// SAFETY: As above.
unsafe impl Sync for CloseProbe {}

// SAFETY: The structure is not the kernel's own (`FTRACE_OPS_FL_DYNAMIC`), so
// `unregister_ftrace_function` waits for all tasks that may be in the callback or on their way.
unsafe impl Probe for CloseProbe {
    unsafe fn register(&self, _: *const Presence<Self>) -> Result {
        const NAME: &CStr = c"locks_remove_posix";
        let ops = self.ops.get();
        // SAFETY: The structure is initialised, not registered, and stays in its place. The name, of
        // that length, is only read.
        unsafe {
            to_result(bindings::ftrace_set_filter(
                ops,
                NAME.as_char_ptr().cast_mut().cast(),
                NAME.to_bytes().len() as c_int,
                1,
            ))?;
            to_result(bindings::register_ftrace_function(ops))
                .inspect_err(|_| bindings::ftrace_free_filter(ops))
        }
    }

    unsafe fn unregister(&self, _: *const Presence<Self>) {
        let ops = self.ops.get();
        // SAFETY: Registered, by this function's contract.
        unsafe {
            bindings::unregister_ftrace_function(ops);
            bindings::ftrace_free_filter(ops);
        }
    }
}

impl CloseProbe {
    /// The callback: `locks_remove_posix(file, table)` is being entered.
    ///
    /// # Safety
    ///
    /// Called by the probe of a [`CloseHook`], with the registers at that function's entry.
    unsafe extern "C" fn closing(
        _ip: c_ulong,
        _parent: c_ulong,
        ops: *mut bindings::ftrace_ops,
        regs: *mut bindings::ftrace_regs,
    ) {
        // SAFETY: It is the first field of the first field of the first field of a live hook, which
        // unregisters before it goes.
        let hook = unsafe { &*ops.cast::<CloseHook>() };
        // SAFETY: `regs` are those of the probed function's entry, whose first argument this is.
        let file = unsafe { generated::kq_ftrace_argument(regs.cast(), 0) } as usize;
        // The slot was emptied before; see the module's notes on registration.
        smp_mb(ordering::Full);
        // SAFETY: As above, the second argument.
        let table = unsafe { generated::kq_ftrace_argument(regs.cast(), 1) } as usize;
        if hook.has_kqueue(table) && hook.may_be_bound(file) {
            // SAFETY: The caller of the probed function holds both.
            unsafe {
                hook.closed(
                    file as *mut bindings::file,
                    table as *mut bindings::files_struct,
                )
            };
        }
    }
}

impl CloseHook {
    /// Nothing is bound yet, and the probe is not registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let wanted = params::total_memory() >> MEMORY_BITS;
        let bits = wanted.checked_ilog2().unwrap_or(0);
        let bits = bits.clamp(FEWEST_BITS, MOST_BITS);
        let mut buckets = KVVec::with_capacity(1 << bits, GFP_KERNEL)?;
        for _ in 0..1usize << bits {
            buckets.push(UnsafeCell::new(ptr::null()), GFP_KERNEL)?;
        }
        let mut locks = KVec::with_capacity(1 << LOCK_BITS, GFP_KERNEL)?;
        for _ in 0..1 << LOCK_BITS {
            let lock = IrqLock::new((), c"kqueue_bound", static_lock_class!());
            locks.push(KBox::pin_init(lock, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let probe = CloseProbe {
            ops: Opaque::new(bindings::ftrace_ops {
                func: Some(CloseProbe::closing),
                // Whoever switches ftrace off (`kernel.ftrace_enabled`) is told that it is in use.
                flags: (bindings::FTRACE_OPS_FL_SAVE_ARGS | bindings::FTRACE_OPS_FL_PERMANENT)
                    as c_ulong,
                ..Default::default()
            }),
        };
        let mut owners = KVec::with_capacity(1 << OWNER_BITS, GFP_KERNEL)?;
        for _ in 0..1 << OWNER_BITS {
            owners.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                presence <- Presence::new(probe),
                owners,
                multiplier: random() | 1,
                shift: u64::BITS - bits,
                buckets,
                locks,
            }),
            GFP_KERNEL,
        )
    }

    /// A kqueue of that table is made, and exists for as long as the result.
    pub(crate) fn enter(self: &Arc<Self>, table: TableId) -> Owner {
        if let Some(count) = self.owners.get(hash(table.address(), OWNER_BITS)) {
            count.fetch_add(1, ordering::Relaxed);
        }
        Owner {
            hook: self.clone(),
            table,
        }
    }

    /// False when there is no kqueue of the table at that address.
    #[inline]
    fn has_kqueue(&self, table: usize) -> bool {
        self.owners
            .get(hash(table, OWNER_BITS))
            // SAFETY: Read at once. (The `kernel` crate's atomic loads are function calls.)
            .is_some_and(|count| unsafe { count.as_ptr().read_volatile() } != 0)
    }

    #[inline]
    fn bucket_of(&self, file: usize) -> usize {
        let hash = (file as u64).wrapping_mul(self.multiplier);
        hash.wrapping_shr(self.shift) as usize
    }

    #[inline]
    fn bucket(&self, file: usize) -> Option<(&UnsafeCell<*const Knote>, &IrqLock<()>)> {
        let number = self.bucket_of(file);
        let lock = self.locks.get(number & ((1 << LOCK_BITS) - 1))?;
        Some((self.buckets.get(number)?, lock))
    }

    /// False when no knote is bound to the file at that address.
    #[inline]
    fn may_be_bound(&self, file: usize) -> bool {
        self.buckets
            .get(self.bucket_of(file))
            // SAFETY: Read at once, and only compared.
            .is_some_and(|bucket| unsafe { !bucket.get().read_volatile().is_null() })
    }

    /// Puts `knote`, which is bound to nothing, into the chain of `file`. True if its number in `table` refers to the
    /// file after that.
    ///
    /// # Safety
    ///
    /// The mutex of its kqueue is held.
    unsafe fn link(&self, knote: &Knote, file: ARef<File>, table: CurrentTable) -> bool {
        let bound = &knote.bound;
        let Some((bucket, lock)) = self.bucket(file.as_ptr().addr()) else {
            return false;
        };
        let _guard = lock.lock();
        // INVARIANT: The reference is the binding's now, and the knote is put into the chain.
        // SAFETY: The mutex is held, and the lock; the first of the chain is valid. A knote is
        // unbound before it is freed.
        unsafe {
            *bound.file.get() = ARef::into_raw(file).as_ptr().cast();
            let next = *bucket.get();
            *bound.next.get() = next;
            *bound.prev.get() = bucket;
            if let Some(next) = next.as_ref() {
                *next.bound.prev.get() = &raw const bound.next;
            }
            bucket.get().write_volatile(knote);
        }
        smp_mb(ordering::Full);
        // SAFETY: A spin lock is held, which is an RCU read-side critical section. The mutex is held.
        unsafe {
            let names = Names::in_rcu(table);
            bound
                .file()
                .is_some_and(|file| names.maps(knote.ident(), file))
        }
    }

    /// A descriptor of `file` in `table` was closed: ends the knotes that were bound to it.
    ///
    /// # Safety
    ///
    /// Both are valid, or `table` is the owner of no descriptor table and not equal to one.
    unsafe fn closed(&self, file: *mut bindings::file, table: *mut bindings::files_struct) {
        let Some((bucket, lock)) = self.bucket(file.addr()) else {
            return;
        };
        let _guard = lock.lock();
        // SAFETY: The lock is held, so those in the chain stay, and are bound.
        unsafe {
            let mut at = *bucket.get();
            while let Some(knote) = at.as_ref() {
                at = *knote.bound.next.get();
                let over = *knote.bound.file.get() == file
                    && knote.kqueue().is_in_table(TableId::of(table))
                    && (fdtable::is_dying(table) || !fdtable::maps(table, knote.ident(), file));
                if over {
                    knote.descriptor_closed();
                }
            }
        }
    }

    /// For an administrator: whether the probe is registered, and how many kqueues have a knote that is bound.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.presence.show(name, f)
    }

    /// Takes the probe away now. No knote is bound any more.
    pub(crate) fn stop(&self) {
        self.presence.stop();
    }
}
