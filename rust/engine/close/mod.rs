// SPDX-License-Identifier: GPL-2.0

//! The close of every descriptor that a knote is bound to.
//!
//! The kernel has no hook for "this descriptor was closed, though its file lives on". But each
//! close of a descriptor that was not opened with `O_PATH`, by close(2), close_range, dup2, exec,
//! exit or io_uring, calls `locks_remove_posix(file, table)`, which ftrace can trace. At that time
//! the slot in the table is empty or has the new file, except at exit. So a binding has ended when
//! its (table, number) no longer maps to its file. Nothing is done for a table that is being torn
//! down: each kqueue that belongs to it is closed with it, which ends its knotes.
//!
//! # Which knotes end
//!
//! The bound knotes are in a hash table of trees, one tree for each 64 KiB of memory. The hash is
//! of (file, table), and each tree is ordered by (file, table, number). So a process that closes a
//! descriptor meets only the knotes of its own table, however many knotes others have on the file.
//!
//! The probed function is not told which number was closed. The system call of the task says that
//! ([`ClosedNumber`](crate::sys::file::closing::ClosedNumber)): close(2), dup2(2) and dup3(2) name
//! it, and close_range(2) closes from the lower end of its range. If that number has ended no
//! knote, or if the call names none, the walk passes the numbers that are bound to the file, at
//! most [`MAPPED_MAX`](walk::MAPPED_MAX) of those that are still mapped. (It passes fewer if the
//! call has named a number, unless the task uses io_uring, which closes some at the end of any
//! call.) If some remain and the call has named no number, the task passes all of them before it
//! returns to userspace ([`WalkWork`]), in a context that can be preempted, and once for all
//! descriptors that it has closed in the call.
//!
//! # Descriptors that were opened with `O_PATH`
//!
//! `locks_remove_posix` is not called for those. They are closed by `filp_close` or, in close(2),
//! by `fput_close_sync`, as all others are. A function probe sees these calls while such a
//! descriptor is watched ([`PathCloseWatch`]), and ignores all other files. (Both functions are in
//! another file of the kernel than most of their callers. In a kernel whose linker inlines them all
//! the same, a close may not be seen. Then the knote stays until a scan finds that its number
//! refers to another file, and it is not reported.)
//!
//! # Cost
//!
//! While a knote is bound in the system, every close calls the probe. Nearly all closes leave it
//! after one barrier and one load: that of a count of the kqueues whose tables have the same hash.
//! The probe is an `ftrace_ops` of its own, since a function probe (fprobe) would look up in a
//! table at each close which probe is called.
//!
//! A close allocates nothing. A knote that ends leaves its tree at once. The memory of its links
//! then becomes a task work of the closing task ([`ClosedKnote`]), which removes the knote from its
//! kqueue before the system call returns.
//!
//! # Context and locks
//!
//! The callback runs in the closing task, with preemption disabled if the function is also traced
//! by something else; so its work is bounded. It closes nothing itself, so it does not recur. The
//! lock of a part of the trees is a spin lock that only tasks take: here, and to bind or unbind a
//! knote. The kqueue's spin lock nests in it. It is released after
//! [`KNOTES_PER_LOCK`](walk::KNOTES_PER_LOCK) knotes.
//!
//! # Against registration
//!
//! A registration binds the knote and then reads the slot of its descriptor again
//! ([`crate::sys::file::fdtable::CurrentFiles`]). The closing task empties the slot and then looks
//! for knotes. Each has a full barrier between the two steps, so at least one of them sees what the
//! other has done.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

mod binding;
mod closed;
mod owner;
mod probe;
mod walk;

pub(crate) use binding::{bind, Binding, BindingCount};
pub(crate) use closed::{ClosedKnote, ClosedList};
pub(crate) use owner::OwnerTable;
pub(crate) use probe::PathCloseWatch;
pub(crate) use walk::WalkWork;

use super::knote_memory::Knote;
use crate::sys::{
    lock::irqlock::TaskLock,
    memory::{
        ram,
        random::random,
        treap::{Root, Treap},
    },
    probe::watched::{hash, OnDemandProbe}, //
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
/// Binary logarithm of the number of counts of kqueues.
const OWNER_BITS: u32 = 10;
/// Binary logarithms of the most and of the fewest buckets.
const BUCKET_BITS_MAX: u32 = 18;
const BUCKET_BITS_MIN: u32 = 12;
/// Binary logarithm of the memory for which there is one bucket.
const MEMORY_BITS: u32 = 16;

/// The knotes that are bound to descriptors, and the probes of closes.
#[pin_data]
#[repr(C)]
pub(crate) struct BoundKnotes {
    // This is the first field, so that a pointer to it is a pointer to the whole.
    #[pin]
    close_probe: OnDemandProbe<CloseProbe>,
    #[pin]
    path_probe: OnDemandProbe<PathProbe>,
    /// The number of kqueues, by hash of the table that they belong to.
    owner_counts: KVec<Atomic<u32>>,
    /// Secret and odd, so that nobody can know which files share a tree.
    multiplier: u64,
    /// A hash is shifted by this to get the number of its bucket.
    shift: u32,
    /// Each bucket is a tree of knotes.
    buckets: KVVec<Root<Knote>>,
    /// Each lock is for the buckets whose numbers have the same low bits.
    locks: KVec<Pin<KBox<TaskLock<()>>>>,
    /// The probe has seen the close that tests it.
    self_test_hit: Atomic<bool>,
}

// SAFETY: The buckets are guarded by the locks; an address that was read without one is only
// compared with null.
unsafe impl Send for BoundKnotes {}

// SAFETY: As above.
unsafe impl Sync for BoundKnotes {}

/// A tree of bound knotes, and its lock.
#[derive(Clone, Copy)]
struct Bucket<'a> {
    root: &'a Root<Knote>,
    lock: &'a TaskLock<()>,
}

impl<'a> Bucket<'a> {
    /// # Safety
    ///
    /// The lock is held for as long as the result is used; the bucket belongs to `bound_knotes`.
    #[inline]
    unsafe fn tree(self, bound_knotes: &BoundKnotes) -> Treap<'a, Knote> {
        // SAFETY: By this function's contract. A knote is taken out of its tree before it is freed.
        unsafe { Treap::new(self.root, bound_knotes.multiplier) }
    }
}

impl BoundKnotes {
    /// Nothing is bound yet, and the probe is not registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let wanted = ram::total_memory() >> MEMORY_BITS;
        let bits = wanted.checked_ilog2().unwrap_or(0);
        let bits = bits.clamp(BUCKET_BITS_MIN, BUCKET_BITS_MAX);
        let mut buckets = KVVec::with_capacity(1 << bits, GFP_KERNEL)?;
        for _ in 0..1usize << bits {
            buckets.push(Root::new(), GFP_KERNEL)?;
        }
        let mut locks = KVec::with_capacity(1 << LOCK_BITS, GFP_KERNEL)?;
        for _ in 0..1 << LOCK_BITS {
            let lock = TaskLock::new((), c"kqueue_bound", static_lock_class!());
            locks.push(KBox::pin_init(lock, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let mut owner_counts = KVec::with_capacity(1 << OWNER_BITS, GFP_KERNEL)?;
        for _ in 0..1 << OWNER_BITS {
            owner_counts.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                close_probe <- OnDemandProbe::new(CloseProbe::new()),
                path_probe <- OnDemandProbe::new(PathProbe::new()),
                owner_counts,
                multiplier: random() | 1,
                shift: u64::BITS - bits,
                buckets,
                locks,
                self_test_hit: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// False if there is no kqueue of the table at that address.
    #[inline]
    fn may_have_kqueue(&self, table: usize) -> bool {
        self.owner_counts
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

    /// False if no knote of that table's kqueues is bound to the file at that address.
    #[inline]
    fn may_be_bound(&self, file: usize, table: usize) -> bool {
        self.buckets
            .get(self.bucket_of(file, table))
            .is_some_and(|root| !root.is_empty())
    }

    /// Prints for an administrator whether the probe is registered, and how many kqueues have bound
    /// knotes; and the same for knotes of descriptors that were opened with `O_PATH`.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.close_probe.show("close", f)?;
        self.path_probe.show("path", f)
    }

    /// Unregisters the probes now. No knote is bound any more.
    pub(crate) fn stop(&self) {
        self.close_probe.stop();
        self.path_probe.stop();
    }
}
