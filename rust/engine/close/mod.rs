// SPDX-License-Identifier: GPL-2.0

//! Notification of the close of each descriptor that a knote is bound to.
//!
//! The kernel has no callback for "this descriptor was closed although its file lives on". But each
//! close of a descriptor that was not opened with `O_PATH`, by close(2), close_range, dup2, exec,
//! exit or io_uring, calls `locks_remove_posix(file, table)`, which ftrace can trace. At that time
//! the slot in the descriptor table is empty or has the new file, except at exit. So a binding has
//! ended when its (descriptor table, number) no longer maps to its file. The probe ignores a
//! descriptor table that is being torn down, because each kqueue that belongs to it is closed with
//! it, and that ends its knotes.
//!
//! # Which knotes end
//!
//! The bound knotes are in a hash table of trees, with one tree for each 64 KiB of memory. The hash
//! is computed from (file, descriptor table), and each tree is ordered by (file, descriptor table,
//! number). So a process that closes a descriptor visits only knotes of its own descriptor table,
//! no matter how many knotes other processes have bound to the file.
//!
//! The number of the closed descriptor is not an argument of the probed function. The system call
//! of the task determines it ([`ClosedNumber`](crate::sys::file::closing::ClosedNumber)): close(2),
//! dup2(2) and dup3(2) name it, and close_range(2) closes in ascending order. If no knote of that
//! number has ended, or if the call names no number, the search visits the numbers that are bound
//! to the file, and at most [`MAPPED_MAX`](search::MAPPED_MAX) numbers that still map to it. (It
//! visits fewer if the call has named a number, unless the task uses io_uring, which may close
//! other descriptors at the end of any call.) If some numbers remain and the call has not named a
//! single number, or if the task uses io_uring, the task visits all of them before it returns to
//! user space ([`CloseWork`]), in a context that can be preempted, and only once or twice for all
//! descriptors that it has closed in the call.
//!
//! # Descriptors that were opened with `O_PATH`
//!
//! `locks_remove_posix` is not called for these descriptors. Like all others, they are closed by
//! `filp_close` or, in close(2), by `fput_close_sync`. A function probe is registered on both
//! functions while such a descriptor is watched ([`PathCloseWatch`]), and it ignores all other
//! files. (Most callers of the two functions are in other files of the kernel. If the linker
//! inlines the functions nevertheless, the probe may miss a close. Then the knote is not reported,
//! and it stays until a scan finds that its number refers to another file.)
//!
//! # Cost
//!
//! While any knote is bound, every close in the system calls the probe. Nearly all calls return
//! after one barrier and two loads, which read the number of kqueues whose descriptor tables have
//! the same hash. The probe is an `ftrace_ops` of its own, because a function probe (fprobe) would
//! add a lookup in a hash table to each close.
//!
//! The probe stays registered for ten seconds after the last knote was unbound
//! ([`CloseProbe::LINGER_MILLIS`](crate::sys::probe::on_demand::Probe::LINGER_MILLIS)).
//!
//! A close allocates nothing. A knote that ends leaves its tree at once. The probe removes up to
//! [`REMOVED_MAX`](search::REMOVED_MAX) knotes from their kqueues, if their mutexes are free. For
//! each of the others the memory of its links becomes a task work of the closing task
//! ([`ClosedKnote`]), which removes the knote before the system call returns.
//!
//! # Context and locks
//!
//! The callback runs in the closing task. If another tracer traces the function as well, preemption
//! is disabled, so the work of the callback is bounded. The callback closes no file, so it does not
//! recur. A spin lock guards a part of the trees. Only tasks take it, in the callback and when they
//! bind or unbind a knote. The kqueue's spin lock nests in it. A search releases it after
//! [`KNOTES_PER_LOCK`](search::KNOTES_PER_LOCK) knotes.
//!
//! # Against registration
//!
//! A registration binds the knote and then reads the slot of its descriptor again
//! ([`crate::sys::file::fdtable::CurrentFiles`]). The closing task empties the slot and then looks
//! for knotes. Each of them executes a full barrier between the two steps, so at least one of them
//! sees what the other has done (`selftests/state`, `binding`). The release of the lock of the
//! descriptor table is no such barrier for the closing task, because on a weakly ordered machine
//! later loads may come before it.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

mod binding;
mod closed_knotes;
mod owner_fd_table;
mod probe;
mod search;

pub(crate) use binding::{bind, share_binding, Binding, BindingCount};
pub(crate) use closed_knotes::{ClosedKnote, ClosedList};
pub(crate) use owner_fd_table::OwnerFdTable;
pub(crate) use probe::PathCloseWatch;
pub(crate) use search::CloseWork;

use super::knote::Knote;
use crate::sys::{
    lock::raw_spin::TaskLock,
    memory::{
        hash::hash,
        random::random,
        total_memory::total_memory,
        treap::{Root, Treap}, //
    },
    probe::on_demand::OnDemandProbe, //
};
use kernel::{
    fmt,
    prelude::*,
    static_lock_class,
    sync::{atomic::Atomic, Arc},
};
use probe::{CloseProbe, PathProbe};

/// The binary logarithm of the number of locks.
const LOCK_BITS: u32 = 8;
/// The binary logarithm of the number of counters of kqueues.
const OWNER_BITS: u32 = 10;
/// The binary logarithms of the maximum and the minimum number of buckets.
const BUCKET_BITS_MAX: u32 = 18;
const BUCKET_BITS_MIN: u32 = 12;
/// The binary logarithm of the number of bytes of memory for each bucket.
const MEMORY_BITS: u32 = 16;

/// The knotes that are bound to descriptors, and the probes of closes.
#[pin_data]
#[repr(C)]
pub(crate) struct BoundKnotes {
    // This is the first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    close_probe: OnDemandProbe<CloseProbe>,
    #[pin]
    path_probe: OnDemandProbe<PathProbe>,
    /// The number of kqueues, by the hash of their descriptor table. The changes need no ordering
    /// of their own. An increment comes before the kqueue has a descriptor, so it also comes before
    /// the full barrier of each registration. A decrement comes after the end of all knotes of the
    /// kqueue, because a task that drops the last reference to the kqueue comes after all others. A
    /// task that still reads the number before the decrement looks into a tree without need.
    owner_counts: KVec<Atomic<u32>>,
    /// A secret odd number, so that a program cannot find out which files share a tree.
    multiplier: u64,
    /// The number by which a hash is shifted right to get the number of its bucket.
    shift: u32,
    /// Each bucket is a tree of knotes.
    buckets: KVVec<Root<Knote>>,
    /// Each lock guards the buckets whose numbers have the same low bits.
    locks: KVec<Pin<KBox<TaskLock<()>>>>,
    /// True if the probe was called for the close that tests it. The accesses are relaxed, because
    /// one task does them all: the probe runs in the task that closes.
    self_test_hit: Atomic<bool>,
}

// SAFETY: The locks guard the buckets. An address that is read without a lock is only compared with
// null.
unsafe impl Send for BoundKnotes {}

// SAFETY: The locks guard the buckets. An address that is read without a lock is only compared with
// null.
unsafe impl Sync for BoundKnotes {}

/// A tree of bound knotes and its lock.
#[derive(Clone, Copy)]
struct Bucket<'a> {
    root: &'a Root<Knote>,
    lock: &'a TaskLock<()>,
}

impl<'a> Bucket<'a> {
    /// # Safety
    ///
    /// The lock is held for as long as the result is used. The bucket belongs to `bound_knotes`.
    #[inline]
    unsafe fn tree(self, bound_knotes: &BoundKnotes) -> Treap<'a, Knote> {
        // SAFETY: By this function's contract, the lock is held. A knote is taken out of its tree
        // before it is freed, so all knotes in the tree are valid. The multiplier never changes.
        unsafe { Treap::new(self.root, bound_knotes.multiplier) }
    }
}

impl BoundKnotes {
    /// Empty trees. The probes are not registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let wanted = total_memory() >> MEMORY_BITS;
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

    /// False if no kqueue belongs to the descriptor table at this address. The load orders nothing.
    /// The caller has executed the barrier of the closing task before (see "Against registration").
    #[inline]
    fn may_have_kqueue(&self, fd_table: usize) -> bool {
        self.owner_counts
            .get(hash(fd_table, OWNER_BITS))
            // SAFETY: The counter is valid. A single load reads it. (The atomic loads of the
            // `kernel` crate are function calls.)
            .is_some_and(|count| unsafe { count.as_ptr().read_volatile() } != 0)
    }

    #[inline]
    fn bucket_of(&self, file: usize, fd_table: usize) -> usize {
        let hash = (file as u64 ^ (fd_table as u64).rotate_left(u64::BITS / 2))
            .wrapping_mul(self.multiplier);
        hash.wrapping_shr(self.shift) as usize
    }

    #[inline]
    fn bucket(&self, file: usize, fd_table: usize) -> Option<Bucket<'_>> {
        let number = self.bucket_of(file, fd_table);
        Some(Bucket {
            root: self.buckets.get(number)?,
            lock: self.locks.get(number & ((1 << LOCK_BITS) - 1))?,
        })
    }

    /// False if no knote of a kqueue of this descriptor table is bound to the file at this address.
    /// As for [`BoundKnotes::may_have_kqueue`], the caller has executed the barrier before.
    #[inline]
    fn may_be_bound(&self, file: usize, fd_table: usize) -> bool {
        self.buckets
            .get(self.bucket_of(file, fd_table))
            .is_some_and(|root| !root.is_empty())
    }

    /// Prints whether the close probe is registered and how many kqueues have bound knotes. Then it
    /// prints whether the probe for descriptors that were opened with `O_PATH` is registered and
    /// how many knotes need it.
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
