// SPDX-License-Identifier: GPL-2.0

//! The walk over the knotes that are bound to a file, during a close, and the rest that is left to
//! the closing task.

use super::{
    binding::Key,
    closed::ClosedKnote, //
    BoundKnotes,
    Bucket,
};
use crate::{
    engine::{knote_memory::Knote, kqueue::Kqueue},
    sys::{
        file::closing::{uses_io_uring, ClosedNumber},
        file::fdtable::{self, CurrentFiles, TableId},
        memory::treap::Item,
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
    sync::{rcu, Arc},
};

/// The number of knotes after which the lock of their tree is released for a moment.
const KNOTES_PER_LOCK: u32 = 32;
/// How many numbers that still map to the file a close passes at most, in search of one that does
/// not.
const MAPPED_MAX: u32 = 64;
/// The same if the system call has named a number, on which no knote was bound.
const MAPPED_MAX_BESIDES_NAMED: u32 = 4;
/// How many knotes one walk ends at most.
const ENDED_MAX: u32 = 1024;

/// The result of a walk over the knotes that are bound to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WalkOutcome {
    /// It has passed all knotes that it was to pass. True if it has ended one.
    Complete(bool),
    /// It gave up.
    Incomplete,
}

/// The task work that finishes the walk which a close has left unfinished; one for each kqueue.
#[repr(C)]
pub(crate) struct WalkWork {
    // This is the first field, so that a pointer to it is a pointer to the whole.
    head: UnsafeCell<bindings::callback_head>,
    /// The address of the file whose knotes the walk is to pass; 0 while the work is not queued.
    file: AtomicUsize,
}

// SAFETY: The head is used by who has changed `file` from 0, until the work runs.
unsafe impl Send for WalkWork {}

// SAFETY: As above.
unsafe impl Sync for WalkWork {}

impl WalkWork {
    /// No walk is unfinished.
    pub(crate) fn new() -> Self {
        WalkWork {
            head: UnsafeCell::new(bindings::callback_head {
                next: ptr::null_mut(),
                func: None,
            }),
            file: AtomicUsize::new(0),
        }
    }

    /// Queues the work for the current task, which walks all knotes of `file` before it returns to
    /// userspace. False if the work is queued for another file already, or if the task does not
    /// return to userspace.
    fn finish_on_return(kqueue: &Kqueue, file: usize) -> bool {
        let this = &kqueue.walk_work;
        let (acquire, relaxed) = (atomic::Ordering::Acquire, atomic::Ordering::Relaxed);
        match this.file.compare_exchange(0, file, acquire, relaxed) {
            Ok(_) => {}
            // That walk has not begun yet, so it passes the knotes of this close too.
            Err(other) => return other == file,
        }
        let Some(own_file) = kqueue.file() else {
            this.file.store(0, atomic::Ordering::Release);
            // The kqueue is being released, with all its knotes.
            return true;
        };
        // SAFETY: The head is ours. The file keeps the kqueue, and the module's text; the work
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
    /// Called with the head of a kqueue's `WalkWork`, and a reference to the file of that kqueue.
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: By this function's contract; the file keeps the kqueue.
        let kqueue = unsafe { &*kernel::container_of!(head.cast::<WalkWork>(), Kqueue, walk_work) };
        let own_file = kqueue.own_file();
        // From here on the work may be queued again.
        let file = kqueue.walk_work.file.swap(0, atomic::Ordering::AcqRel);
        if TableId::current() == kqueue.table() {
            kqueue.shared().bound_knotes.walk_all(file, kqueue.table());
        }
        // SAFETY: The reference is ours. What `fput` defers runs after we have returned.
        unsafe { bindings::fput(own_file.as_ptr()) };
    }
}

impl BoundKnotes {
    /// A descriptor of `file` in `table` was closed: ends the knotes that were bound to the
    /// descriptor.
    ///
    /// # Safety
    ///
    /// Both are valid, or `table` is the owner of no descriptor table and not equal to one.
    pub(super) unsafe fn handle_close(
        &self,
        file: *mut bindings::file,
        table: *mut bindings::files_struct,
    ) {
        let Some(bucket) = self.bucket(file.addr(), table.addr()) else {
            return;
        };
        let id = TableId::of(table);
        if !self.has_bound(bucket, file.addr(), id) {
            return;
        }
        // Only a descriptor table has bound knotes, so it is one. When it is torn down, its kqueues
        // are closed.
        // SAFETY: The table is valid.
        if unsafe { fdtable::is_dying(table) } {
            return;
        }
        // SAFETY: As above.
        let maps = |number| unsafe { fdtable::maps(table, number, file) };
        let walk =
            |numbers, mapped| self.end_knotes(bucket, (file.addr(), id), numbers, mapped, &maps);
        let hint = ClosedNumber::hint(id);
        let walked = match hint {
            ClosedNumber::Number(number) => walk((number, number), MAPPED_MAX),
            ClosedNumber::Range(first, last) => walk((first, last), MAPPED_MAX),
            ClosedNumber::Unknown => WalkOutcome::Complete(false),
        };
        let unfinished = match walked {
            WalkOutcome::Complete(true) => false,
            WalkOutcome::Incomplete => true,
            // The close was not that of the number that the system call names.
            WalkOutcome::Complete(false) if self.is_walk_queued(bucket, file.addr(), id) => false,
            WalkOutcome::Complete(false) => {
                let all = (0, u64::MAX);
                if matches!(hint, ClosedNumber::Number(_)) && !uses_io_uring() {
                    walk(all, MAPPED_MAX_BESIDES_NAMED);
                    false
                } else {
                    walk(all, MAPPED_MAX) == WalkOutcome::Incomplete
                }
            }
        };
        if unfinished {
            self.finish_later(bucket, file.addr(), id);
        }
    }

    /// The key that comes before all knotes that are bound to that file and table.
    fn lowest_key(file: usize, table: TableId) -> Key {
        Key {
            file,
            table: table.address(),
            number: 0,
            knote: 0,
        }
    }

    /// The first knote from the key `from` on that is bound to the same file and table.
    ///
    /// # Safety
    ///
    /// The lock of the bucket is held for as long as the result is used.
    unsafe fn first_bound<'a>(&self, bucket: Bucket<'a>, from: &Key) -> Option<&'a Knote> {
        // SAFETY: By this function's contract; a knote that is in the tree is valid.
        let knote = unsafe { &*ptr::from_ref(bucket.tree(self).lower_bound(from)?) };
        let key = knote.key();
        ((key.file, key.table) == (from.file, from.table)).then_some(knote)
    }

    /// True if a knote is bound to that file and table.
    fn has_bound(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> bool {
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        unsafe { self.first_bound(bucket, &Self::lowest_key(file, table)) }.is_some()
    }

    /// The kqueue whose task work finishes a walk over the knotes of that file and table.
    fn bound_kqueue(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> Option<Arc<Kqueue>> {
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        let knote = unsafe { self.first_bound(bucket, &Self::lowest_key(file, table)) }?;
        // The knote may be about to be freed.
        Some(knote.get()?.kqueue().into())
    }

    /// True if such a walk is queued as task work and has not begun.
    fn is_walk_queued(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> bool {
        self.bound_kqueue(bucket, file, table)
            .is_some_and(|kqueue| kqueue.walk_work.file.load(atomic::Ordering::Acquire) == file)
    }

    /// Leaves the rest of a walk to the current task, which does it when it returns to userspace.
    fn finish_later(&self, bucket: Bucket<'_>, file: usize, table: TableId) {
        let Some(kqueue) = self.bound_kqueue(bucket, file, table) else {
            return;
        };
        if !WalkWork::finish_on_return(&kqueue, file) {
            // The walk is done here, in the close.
            self.walk_all(file, table);
        }
    }

    /// Passes all knotes that are bound to that file, in the table of the current task.
    fn walk_all(&self, file: usize, table: TableId) {
        let (Some(bucket), Some(current)) =
            (self.bucket(file, table.address()), table.if_current())
        else {
            return;
        };
        let maps = |number| {
            let rcu = rcu::read_lock();
            CurrentFiles::of(current, &rcu).maps_address(number, file)
        };
        let mut from = 0;
        // In parts, so that the walk gets past all numbers that are mapped.
        while let Some(next) = self.next_number(bucket, file, table, from) {
            while !maps(next)
                && self.end_knotes(bucket, (file, table), (next, next), MAPPED_MAX, &maps)
                    == WalkOutcome::Incomplete
            {}
            let Some(after) = next.checked_add(1) else {
                return;
            };
            from = after;
        }
    }

    /// The first number from `from` on that is bound to that file and table.
    fn next_number(
        &self,
        bucket: Bucket<'_>,
        file: usize,
        table: TableId,
        from: u64,
    ) -> Option<u64> {
        let mut key = Self::lowest_key(file, table);
        key.number = from;
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        Some(unsafe { self.first_bound(bucket, &key) }?.key().number)
    }

    /// Ends the knotes of those numbers that do not map to their file any more. After it has ended
    /// one, it stops at the next number that maps, since numbers are closed in ascending order. It
    /// gives up after `mapped_max` numbers that map.
    fn end_knotes(
        &self,
        bucket: Bucket<'_>,
        (file, table): (usize, TableId),
        (first, last): (u64, u64),
        mapped_max: u32,
        maps: &impl Fn(u64) -> bool,
    ) -> WalkOutcome {
        let mut from = Self::lowest_key(file, table);
        from.number = first;
        let (mut ended, mut mapped) = (0, 0);
        loop {
            let _guard = bucket.lock.lock();
            for _ in 0..KNOTES_PER_LOCK {
                // SAFETY: The lock is held.
                let Some(knote) = (unsafe { self.first_bound(bucket, &from) }) else {
                    return WalkOutcome::Complete(ended > 0);
                };
                from = knote.key();
                if from.number > last {
                    return WalkOutcome::Complete(ended > 0);
                }
                if !maps(from.number) {
                    if ended == ENDED_MAX {
                        return WalkOutcome::Incomplete;
                    }
                    ended += 1;
                    // SAFETY: The lock is held, and the knote is in the tree.
                    unsafe { self.end_knote(bucket, knote) };
                    from.knote = from.knote.wrapping_add(1);
                    continue;
                }
                if ended > 0 {
                    return WalkOutcome::Complete(true);
                }
                if mapped == mapped_max {
                    return WalkOutcome::Incomplete;
                }
                mapped += 1;
                // All knotes that are bound to that number stay.
                from.number = from.number.saturating_add(1);
                from.knote = 0;
            }
        }
    }

    /// Ends a knote whose number was closed.
    ///
    /// # Safety
    ///
    /// It is in the tree of that bucket, whose lock is held.
    unsafe fn end_knote(&self, bucket: Bucket<'_>, knote: &Knote) {
        // A knote that is being freed takes itself out of the tree.
        let Some(knote) = knote.get() else {
            return;
        };
        // SAFETY: By this function's contract.
        unsafe { bucket.tree(self) }.remove(&knote);
        // A kqueue that is being released removes all its knotes anyway.
        let Some(file) = knote.kqueue().retire_closed(&knote) else {
            return;
        };
        // SAFETY: `retire_closed` has marked it as unlinked, which is done once, and has given that
        // file.
        unsafe { ClosedKnote::new(knote, file) }.remove_on_return();
    }
}
