// SPDX-License-Identifier: GPL-2.0

//! The close of every descriptor that a knote is bound to.
//!
//! The kernel has no hook for "this descriptor went away, though its file lives on". But each close
//! of a descriptor that was not opened with `O_PATH`, be it by close(2), close_range, dup2, exec,
//! exit or io_uring, calls `locks_remove_posix(file, table)`, and ftrace sees that. By then the slot
//! in the table is empty, or holds the new file, except at exit. So a binding is over when its
//! (table, number) no longer maps to its file. A table that is being torn down is left alone: each
//! kqueue that belongs to it is closed with it, and that ends its knotes.
//!
//! # Which knotes end
//!
//! The bound knotes are in a hash table of trees, one tree for each 64 KiB of memory. The hash is of
//! (file, table); each tree is ordered by (file, table, number). So a process that closes a
//! descriptor meets only what its own table has bound, however many knotes others have on the file.
//!
//! The probed function does not say which number was closed. It is taken from the system call that
//! the task is in ([`Closed`](crate::sys::file::closing::Closed)): close(2), dup2(2) and dup3(2) name it, close_range(2) closes from the
//! lower end of its range. If that number has ended no knote, or there is none, the numbers that are
//! bound to the file are looked through, at most [`MOST_MAPPED`](walk::MOST_MAPPED) of those that are still mapped (fewer if
//! the call has named a number, unless the task uses io_uring, which closes some at the end of any
//! call). If that was not all, and the call has named no number, the task goes through all of them once
//! before it returns to userspace ([`Rewalk`]), in a context that can be preempted: once for all that
//! it has closed in the call.
//!
//! # Descriptors that were opened with `O_PATH`
//!
//! `locks_remove_posix` is not called for those. They are closed by `filp_close`, or, in close(2), by
//! `fput_close_sync`, as all others are; a function probe sees these calls while such a descriptor is watched
//! ([`PathCloses`]), and leaves all other files alone. (Both are in another file of the kernel's than most of their callers;
//! in a kernel whose linker inlines all the same a close may not be seen. Then the knote stays until somebody collects, when
//! it is seen that its number is another file's, and is not reported.)
//!
//! # Cost
//!
//! While a knote is bound in the system, every close comes here, and nearly all
//! leave again after one barrier and one load: that of a count of the kqueues which belong to the
//! table, and others by hash. It is an `ftrace_ops` of its own, since a function probe (fprobe)
//! would have each close look up in a table which probe it is for.
//!
//! A close allocates nothing. A knote that ends leaves its tree at once, and what linked it there
//! becomes a task work of the closing task ([`ClosedKnote`]), which takes the knote out of its
//! kqueue before the system call returns.
//!
//! # Context and locks
//!
//! The callback runs in the closing task, with preemption off if somebody else traces the function
//! as well; so what it does is bounded. It closes nothing itself, so it does not recur. The lock of a
//! part of the trees is a spin lock that is taken by tasks only: here and by whoever binds or unbinds.
//! The kqueue's spin lock nests in it. It is released after [`ROUND`](walk::ROUND) knotes.
//!
//! # Against registration
//!
//! A knote is bound, then its slot is looked at again ([`crate::sys::file::fdtable::Names`]).
//! The closing task empties the slot, then looks for knotes. With a full barrier
//! between the two steps of each, at least one of them sees the other.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

mod bound;
mod closed;
mod owner;
mod probe;
mod walk;

pub(crate) use bound::{bind, Bindings, Bound};
pub(crate) use closed::{ClosedKnote, ClosedList};
pub(crate) use owner::Owner;
pub(crate) use probe::PathCloses;
pub(crate) use walk::Rewalk;

use super::knote_memory::Knote;
use crate::sys::{
    lock::irqlock::TaskLock,
    memory::{
        ram,
        random::random,
        treap::{Root, Treap},
    },
    probe::hook::{hash, Presence}, //
};
use kernel::{
    fmt,
    prelude::*,
    static_lock_class,
    sync::{atomic::Atomic, Arc},
};
use probe::{CloseProbe, PathProbe};

/// Binary logarithm of the number of locks.
const LOCK_BITS: u32 = 8;
/// And of the number of counts of kqueues.
const OWNER_BITS: u32 = 10;
/// And of the most and fewest buckets.
const MOST_BITS: u32 = 18;
const FEWEST_BITS: u32 = 12;
/// And of the memory that there is a bucket for.
const MEMORY_BITS: u32 = 16;

/// The knotes that are bound to descriptors, and the probe that tells of closes.
#[pin_data]
#[repr(C)]
pub(crate) struct CloseHook {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    presence: Presence<CloseProbe>,
    #[pin]
    paths: Presence<PathProbe>,
    /// How many kqueues there are by hash of the table that they belong to.
    owners: KVec<Atomic<u32>>,
    /// Secret and odd, so that nobody knows whose files share a chain.
    multiplier: u64,
    /// What a hash is shifted by to be the number of a bucket.
    shift: u32,
    /// A tree of knotes each.
    buckets: KVVec<Root<Knote>>,
    /// Each for the buckets whose numbers end alike.
    locks: KVec<Pin<KBox<TaskLock<()>>>>,
    /// The probe has seen the close that tests it.
    proved: Atomic<bool>,
}

// SAFETY: The buckets are guarded by the locks; an address that was read without one is only
// compared with null.
unsafe impl Send for CloseHook {}

// SAFETY: As above.
unsafe impl Sync for CloseHook {}

/// A tree of bound knotes, and its lock.
#[derive(Clone, Copy)]
struct Bucket<'a> {
    root: &'a Root<Knote>,
    lock: &'a TaskLock<()>,
}

impl<'a> Bucket<'a> {
    /// # Safety
    ///
    /// The lock is held for as long as the result is used; the bucket is that hook's.
    #[inline]
    unsafe fn tree(self, hook: &CloseHook) -> Treap<'a, Knote> {
        // SAFETY: By this function's contract. A knote is taken out of its tree before it is freed.
        unsafe { Treap::new(self.root, hook.multiplier) }
    }
}

impl CloseHook {
    /// Nothing is bound yet, and the probe is not registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let wanted = ram::total_memory() >> MEMORY_BITS;
        let bits = wanted.checked_ilog2().unwrap_or(0);
        let bits = bits.clamp(FEWEST_BITS, MOST_BITS);
        let mut buckets = KVVec::with_capacity(1 << bits, GFP_KERNEL)?;
        for _ in 0..1usize << bits {
            buckets.push(Root::new(), GFP_KERNEL)?;
        }
        let mut locks = KVec::with_capacity(1 << LOCK_BITS, GFP_KERNEL)?;
        for _ in 0..1 << LOCK_BITS {
            let lock = TaskLock::new((), c"kqueue_bound", static_lock_class!());
            locks.push(KBox::pin_init(lock, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let mut owners = KVec::with_capacity(1 << OWNER_BITS, GFP_KERNEL)?;
        for _ in 0..1 << OWNER_BITS {
            owners.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                presence <- Presence::new(CloseProbe::new()),
                paths <- Presence::new(PathProbe::new()),
                owners,
                multiplier: random() | 1,
                shift: u64::BITS - bits,
                buckets,
                locks,
                proved: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
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
    fn bucket_of(&self, file: usize, table: usize) -> usize {
        let hash =
            (file as u64 ^ (table as u64).rotate_left(u64::BITS / 2)).wrapping_mul(self.multiplier);
        hash.wrapping_shr(self.shift) as usize
    }

    #[inline]
    fn bucket(&self, file: usize, table: usize) -> Option<Bucket<'_>> {
        let number = self.bucket_of(file, table);
        Some(Bucket {
            root: self.buckets.get(number)?,
            lock: self.locks.get(number & ((1 << LOCK_BITS) - 1))?,
        })
    }

    /// False when no knote of the table's kqueues is bound to the file at that address.
    #[inline]
    fn may_be_bound(&self, file: usize, table: usize) -> bool {
        self.buckets
            .get(self.bucket_of(file, table))
            .is_some_and(|root| !root.is_empty())
    }

    /// For an administrator: whether the probe is registered, and how many kqueues have a knote that is bound; the same for
    /// knotes of descriptors that were opened with `O_PATH`.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.presence.show("close", f)?;
        self.paths.show("path", f)
    }

    /// Takes the probes away now. No knote is bound any more.
    pub(crate) fn stop(&self) {
        self.presence.stop();
        self.paths.stop();
    }
}
