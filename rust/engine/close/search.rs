// SPDX-License-Identifier: GPL-2.0

//! The search of the knotes that are bound to a file, during a close. A search that has reached a
//! limit is left to a task work of the closing task, which looks at all knotes of the file.

use super::{
    binding::Key,
    closed_knotes::ClosedKnote, //
    BoundKnotes,
    Bucket,
};
use crate::{
    engine::{knote::Knote, kqueue::Kqueue},
    sys::{
        file::closing::{uses_io_uring, ClosedNumber},
        file::fdtable::{self, CurrentFiles, FdTableId},
        lock::raw_spin::Task,
        memory::{arrayvec::ArrayVec, treap::Item},
        process::taskwork,
    }, //
};
use core::{
    cell::UnsafeCell,
    ptr,
    sync::atomic::{self, AtomicUsize},
};
use kernel::{
    bindings,
    sync::{lock::Guard, rcu},
};

/// The number of knotes after which a search releases the lock of the tree and takes it again.
pub(super) const KNOTES_PER_LOCK: u32 = 32;
/// The maximum number of numbers that a close visits which still map to the file.
pub(super) const MAPPED_MAX: u32 = 64;
/// The same limit for a system call that has named a number to which no knote was bound.
const MAPPED_MAX_BESIDES_NAMED: u32 = 4;
/// The maximum number of knotes that one search ends. Preemption may be disabled meanwhile.
const ENDED_MAX: u32 = if cfg!(CONFIG_PREEMPT_RT) { 64 } else { 1024 };
/// The maximum number of knotes that a search removes itself. The closing task removes the others
/// before it returns to user space.
pub(super) const REMOVED_MAX: usize = 4;

/// The value of [`CloseWork::file`] if the work visits the knotes of several files.
const SEVERAL_FILES: usize = usize::MAX;

/// True if a work whose [`CloseWork::file`] is `queued` visits the knotes of `file`.
fn visits(queued: usize, file: usize) -> bool {
    queued == file || queued == SEVERAL_FILES
}

/// The guard of the lock of a bucket.
type BucketGuard<'a> = Guard<'a, (), Task>;

/// Knotes that a search has taken out of their tree. They are removed when this is dropped, without
/// the lock of the tree.
struct ClosedBatch(ArrayVec<ClosedKnote, REMOVED_MAX>);

impl ClosedBatch {
    fn new() -> Self {
        ClosedBatch(ArrayVec::new())
    }

    #[inline(always)]
    fn add(&mut self, closed: ClosedKnote) {
        if let Err(closed) = self.0.push(closed) {
            closed.remove_on_return();
        }
    }
}

impl Drop for ClosedBatch {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.drain().for_each(ClosedKnote::remove);
    }
}

/// The outcome of a search of the knotes that are bound to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SearchOutcome {
    /// The search has visited all knotes that it had to visit. The value is true if it has ended
    /// one.
    Complete(bool),
    /// The search has stopped at one of its limits.
    Incomplete,
}

/// The task work that finishes a search which a close has left unfinished. Each kqueue has one.
#[repr(C)]
pub(crate) struct CloseWork {
    // This is the first field, so that a pointer to it is also a pointer to the structure.
    head: UnsafeCell<bindings::callback_head>,
    /// The address of the file whose knotes the search visits, or 0 if the work is not queued. It
    /// is [`SEVERAL_FILES`] if closes of several files have left the rest of their searches. Then
    /// the work visits all files to which knotes of the kqueue are bound, each of them once or
    /// twice, so the cost of many closes in one system call does not grow with the square of their
    /// number.
    ///
    /// A change from 0 acquires the head, and a change to 0 releases it. The accesses need no other
    /// ordering (`selftests/state`, `close_work`). A closing task that finds its file here leaves
    /// its knotes to the queued search. That task has emptied its slot, and then it has taken the
    /// lock of the bucket to find the kqueue. The search stores 0, and then it takes the same lock
    /// to find each knote. If the task had the lock first, the search sees the empty slot. If the
    /// search had it first, the task sees the 0 and queues the work again.
    file: AtomicUsize,
}

// SAFETY: Only the task that has changed `file` from 0 to an address uses the head, until the work
// runs.
unsafe impl Send for CloseWork {}

// SAFETY: Only the task that has changed `file` from 0 to an address uses the head, until the work
// runs.
unsafe impl Sync for CloseWork {}

impl CloseWork {
    /// A work that is not queued.
    pub(crate) fn new() -> Self {
        CloseWork {
            head: UnsafeCell::new(bindings::callback_head {
                next: ptr::null_mut(),
                func: None,
            }),
            file: AtomicUsize::new(0),
        }
    }

    /// Queues the work for the current task, which searches all knotes of `file` before it returns
    /// to user space. If the work is queued for another file, the search is extended to all files
    /// of the kqueue. False if the task does not return to user space, or if the kqueue is being
    /// released.
    fn finish_on_return(kqueue: &Kqueue, file: usize) -> bool {
        let this = &kqueue.close_work;
        // If the kqueue is being released, that ends the knotes of this kqueue only. Other kqueues
        // may have knotes that are bound to the file.
        let Some(own_file) = kqueue.get_own_file() else {
            return false;
        };
        let (acquire, relaxed) = (atomic::Ordering::Acquire, atomic::Ordering::Relaxed);
        let mut before = 0;
        loop {
            let after = if before == 0 { file } else { SEVERAL_FILES };
            match this.file.compare_exchange(before, after, acquire, relaxed) {
                Ok(0) => break,
                // A queued search has not begun yet, so it also visits the knotes of this close.
                Ok(_) => return true,
                Err(other) if visits(other, file) => return true,
                Err(other) => before = other,
            }
        }
        // SAFETY: This task has changed `file` from 0, so nothing else uses the head. The reference
        // to the file of the kqueue keeps the kqueue and the text of the module in memory. The work
        // drops that reference.
        let queued = unsafe { taskwork::add(this.head.get(), Self::run) }.is_ok();
        if queued {
            core::mem::forget(own_file);
        } else {
            this.file.store(0, atomic::Ordering::Release);
        }
        queued
    }

    /// The function of the task work.
    ///
    /// # Safety
    ///
    /// `head` is that of a kqueue's `CloseWork`. The work owns a reference to the own file of that
    /// kqueue.
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: By this function's contract, `head` is that of a kqueue's `CloseWork`. The
        // reference to the own file keeps the kqueue valid.
        let kqueue =
            unsafe { &*kernel::container_of!(head.cast::<CloseWork>(), Kqueue, close_work) };
        let own_file = kqueue.own_file_ptr();
        // The work may be queued again from here on.
        let file = kqueue.close_work.file.swap(0, atomic::Ordering::Release);
        let bound_knotes = &kqueue.shared().bound_knotes;
        if FdTableId::current() != kqueue.fd_table() {
            // The descriptors of that table are not those of this task any more.
        } else if file == SEVERAL_FILES {
            bound_knotes.search_files_of(kqueue);
        } else {
            bound_knotes.search_all(file, kqueue.fd_table());
        }
        // SAFETY: The work owns the reference. `fput` defers the release of the file until this
        // function has returned.
        unsafe { bindings::fput(own_file.as_ptr()) };
    }
}

impl BoundKnotes {
    /// Ends the knotes that were bound to a descriptor of `file` in `fd_table`, because the
    /// descriptor was closed.
    ///
    /// # Safety
    ///
    /// Both are valid, or `fd_table` is not the address of a descriptor table.
    pub(super) unsafe fn handle_close(
        &self,
        file: *mut bindings::file,
        fd_table: *mut bindings::files_struct,
    ) {
        let Some(bucket) = self.bucket(file.addr(), fd_table.addr()) else {
            return;
        };
        let id = FdTableId::of(fd_table);
        let guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        if unsafe { self.first_bound(bucket, &Self::lowest_key(file.addr(), id)) }.is_none() {
            return;
        }
        // Bound knotes exist only for descriptor tables, so `fd_table` is valid. When a table is
        // torn down, its kqueues are closed.
        // SAFETY: A knote is bound to the descriptor table, so by this function's contract it is
        // valid.
        if unsafe { fdtable::is_dying(fd_table) } {
            return;
        }
        // SAFETY: A knote is bound to the descriptor table, so by this function's contract it is
        // valid.
        let maps = |number| unsafe { fdtable::maps(fd_table, number, file) };
        let search = |guard, numbers, mapped| {
            self.end_knotes(bucket, guard, (file.addr(), id), numbers, mapped, &maps)
        };
        let hint = ClosedNumber::hint(id);
        let searched = match hint {
            ClosedNumber::Number(number) => search(guard, (number, number), MAPPED_MAX),
            ClosedNumber::Range(first, last) => search(guard, (first, last), MAPPED_MAX),
            ClosedNumber::Unknown => {
                drop(guard);
                SearchOutcome::Complete(false)
            }
        };
        let unfinished = match searched {
            SearchOutcome::Complete(true) => false,
            SearchOutcome::Incomplete => true,
            // No knote of the named number has ended: it was a duplicate that nobody watches, or
            // another number was closed.
            SearchOutcome::Complete(false) if self.is_search_queued(bucket, file.addr(), id) => {
                false
            }
            SearchOutcome::Complete(false) => {
                let all = (0, u64::MAX);
                if matches!(hint, ClosedNumber::Number(_)) && !uses_io_uring() {
                    search(bucket.lock.lock(), all, MAPPED_MAX_BESIDES_NAMED);
                    false
                } else {
                    search(bucket.lock.lock(), all, MAPPED_MAX) == SearchOutcome::Incomplete
                }
            }
        };
        if unfinished {
            self.finish_later(bucket, file.addr(), id);
        }
    }

    /// The key that is lower than those of all knotes that are bound to this file and descriptor
    /// table.
    fn lowest_key(file: usize, fd_table: FdTableId) -> Key {
        Key {
            file,
            fd_table: fd_table.address(),
            number: 0,
            knote: 0,
        }
    }

    /// The first knote that is bound to the file and descriptor table of the key `from` and is not
    /// below that key.
    ///
    /// # Safety
    ///
    /// The lock of the bucket is held for as long as the result is used.
    unsafe fn first_bound<'a>(&self, bucket: Bucket<'a>, from: &Key) -> Option<&'a Knote> {
        // SAFETY: By this function's contract, the lock is held. A knote that is in the tree is
        // valid.
        let knote = unsafe { &*ptr::from_ref(bucket.tree(self).lower_bound(from)?) };
        let key = knote.key();
        ((key.file, key.fd_table) == (from.file, from.fd_table)).then_some(knote)
    }

    /// Calls `f` with a kqueue that has a knote bound to this file and descriptor table. The task
    /// work of that kqueue finishes a search of these knotes. `f` runs under the lock of the
    /// bucket, so no reference is taken, whose drop could free the kqueue.
    fn with_bound_kqueue<R>(
        &self,
        bucket: Bucket<'_>,
        file: usize,
        fd_table: FdTableId,
        f: impl FnOnce(&Kqueue) -> R,
    ) -> Option<R> {
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        let knote = unsafe { self.first_bound(bucket, &Self::lowest_key(file, fd_table)) }?;
        Some(f(&knote.kqueue()))
    }

    /// True if a search of the knotes of this file and descriptor table is queued as task work and
    /// has not begun.
    fn is_search_queued(&self, bucket: Bucket<'_>, file: usize, fd_table: FdTableId) -> bool {
        let queued = self.with_bound_kqueue(bucket, file, fd_table, |kqueue| {
            visits(kqueue.close_work.file.load(atomic::Ordering::Relaxed), file)
        });
        queued == Some(true)
    }

    /// Leaves a search to the current task, which does it before it returns to user space.
    fn finish_later(&self, bucket: Bucket<'_>, file: usize, fd_table: FdTableId) {
        let queued = self.with_bound_kqueue(bucket, file, fd_table, |kqueue| {
            CloseWork::finish_on_return(kqueue, file)
        });
        // If it was not queued, the kqueue of the first knote is being released, or this is a
        // kernel thread. The search is done here, in the close.
        if queued == Some(false) {
            self.search_all(file, fd_table);
        }
    }

    /// Visits all knotes that are bound to each file of which a knote of `kqueue` is the first
    /// bound knote. (A close leaves its search to the kqueue of the first knote.) It does nothing
    /// if the task is being killed while it waits for the mutex of the kqueue.
    fn search_files_of(&self, kqueue: &Kqueue) {
        let fd_table = kqueue.fd_table();
        // The knotes of this kqueue that end are removed after this, because the mutex is held.
        kqueue.for_each_bound_knote(|knote, file| {
            let Some(bucket) = self.bucket(file, fd_table.address()) else {
                return;
            };
            let is_first = {
                let _guard = bucket.lock.lock();
                // SAFETY: The lock is held.
                let first = unsafe { self.first_bound(bucket, &Self::lowest_key(file, fd_table)) };
                first.is_some_and(|first| ptr::eq(first, knote))
            };
            if is_first {
                self.search_all(file, fd_table);
            }
        });
    }

    /// Visits all knotes that are bound to this file, if `fd_table` is that of the current task.
    fn search_all(&self, file: usize, fd_table: FdTableId) {
        let (Some(bucket), Some(current)) =
            (self.bucket(file, fd_table.address()), fd_table.if_current())
        else {
            return;
        };
        let maps = |number| {
            let rcu = rcu::read_lock();
            CurrentFiles::of(current, &rcu).maps_address(number, file)
        };
        let mut from = 0;
        // The search is done in parts, so that it gets past all numbers that still map to the file.
        while let Some(next) = self.next_number(bucket, file, fd_table, from) {
            while !maps(next)
                && self.end_knotes(
                    bucket,
                    bucket.lock.lock(),
                    (file, fd_table),
                    (next, next),
                    MAPPED_MAX,
                    &maps,
                ) == SearchOutcome::Incomplete
            {}
            let Some(after) = next.checked_add(1) else {
                return;
            };
            from = after;
        }
    }

    /// The first number, not below `from`, that is bound to this file and descriptor table.
    fn next_number(
        &self,
        bucket: Bucket<'_>,
        file: usize,
        fd_table: FdTableId,
        from: u64,
    ) -> Option<u64> {
        let mut key = Self::lowest_key(file, fd_table);
        key.number = from;
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        Some(unsafe { self.first_bound(bucket, &key) }?.key().number)
    }

    /// Ends the knotes from `first` to `last` whose numbers do not map to the file any more. After
    /// it has ended a knote, it stops at the next number that maps, because numbers are closed in
    /// ascending order. It stops after `mapped_max` numbers that map, too.
    ///
    /// `guard` is that of the lock of the bucket.
    fn end_knotes<'a>(
        &self,
        bucket: Bucket<'a>,
        guard: BucketGuard<'a>,
        (file, fd_table): (usize, FdTableId),
        (first, last): (u64, u64),
        mapped_max: u32,
        maps: &impl Fn(u64) -> bool,
    ) -> SearchOutcome {
        let mut from = Self::lowest_key(file, fd_table);
        from.number = first;
        let (mut ended, mut mapped) = (0, 0);
        let mut closed = ClosedBatch::new();
        let mut guard = Some(guard);
        loop {
            // The guard is dropped before `closed`, which may not be removed under this lock.
            let _guard = guard.take().unwrap_or_else(|| bucket.lock.lock());
            for _ in 0..KNOTES_PER_LOCK {
                // SAFETY: The lock is held.
                let Some(knote) = (unsafe { self.first_bound(bucket, &from) }) else {
                    return SearchOutcome::Complete(ended > 0);
                };
                from = knote.key();
                if from.number > last {
                    return SearchOutcome::Complete(ended > 0);
                }
                if !maps(from.number) {
                    if ended == ENDED_MAX {
                        return SearchOutcome::Incomplete;
                    }
                    // A knote that does not end here is not counted, because a caller that repeats
                    // an incomplete search would find it again. SAFETY: The lock is held, and the
                    // knote was just found in the tree.
                    ended += u32::from(unsafe { self.end_knote(bucket, knote, &mut closed) });
                    from.knote = from.knote.wrapping_add(1);
                    continue;
                }
                if ended > 0 {
                    return SearchOutcome::Complete(true);
                }
                if mapped == mapped_max {
                    return SearchOutcome::Incomplete;
                }
                mapped += 1;
                // All knotes that are bound to this number stay.
                from.number = from.number.saturating_add(1);
                from.knote = 0;
            }
        }
    }

    /// Ends a knote whose number was closed. False if the knote or its kqueue is being freed, which
    /// takes the knote out of the tree as well.
    ///
    /// # Safety
    ///
    /// The knote is in the tree of `bucket`, whose lock is held.
    #[inline(always)]
    unsafe fn end_knote(
        &self,
        bucket: Bucket<'_>,
        knote: &Knote,
        closed: &mut ClosedBatch,
    ) -> bool {
        let unlink = || {
            // SAFETY: By this function's contract, the lock of the tree is held.
            unsafe { bucket.tree(self) }.remove(knote);
        };
        let Some((knote, file)) = knote.kqueue().retire_closed(knote, unlink) else {
            return false;
        };
        // SAFETY: `retire_closed` has marked the knote as unlinked, which happens once for a knote,
        // and has returned the own file of the kqueue.
        closed.add(unsafe { ClosedKnote::new(knote, file) });
        true
    }
}
