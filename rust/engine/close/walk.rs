// SPDX-License-Identifier: GPL-2.0

//! The walk over the knotes that are bound to a file, during a close, and the rest that is left to
//! the closing task.

use super::{
    bound::Key,
    closed::ClosedKnote, //
    Bucket,
    CloseHook,
};
use crate::{
    engine::{knote_memory::Knote, kqueue::Kqueue},
    sys::{
        file::closing::{closes_by_itself, Closed},
        file::fdtable::{self, Names, TableId},
        lock::irqlock::Task,
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
    sync::{lock::Guard, rcu, Arc},
};

/// The number of knotes after which the lock of their tree is released for a moment.
const ROUND: u32 = 32;
/// How many numbers that still map to the file a close passes at most, in search of one that does
/// not.
const MOST_MAPPED: u32 = 64;
/// The same if the system call has named a number, on which no knote was bound.
const MOST_MAPPED_BESIDES: u32 = 4;
/// How many knotes one walk ends at most.
const MOST_ENDED: u32 = 1024;

/// How many knotes a walk removes itself at most. The closing task removes the others before it
/// returns to userspace.
const MOST_REMOVED: usize = 4;

/// The guard of the lock of a bucket.
type BucketGuard<'a> = Guard<'a, (), Task>;

/// Knotes that a walk has taken out of their tree. They are removed when this is dropped, without
/// the lock of the tree.
struct Closes(ArrayVec<ClosedKnote, MOST_REMOVED>);

impl Closes {
    fn new() -> Self {
        Closes(ArrayVec::new())
    }

    #[inline(always)]
    fn add(&mut self, closed: ClosedKnote) {
        if let Err(closed) = self.0.push(closed) {
            closed.remove_on_return();
        }
    }
}

impl Drop for Closes {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.drain().for_each(ClosedKnote::remove);
    }
}

/// The result of a walk over the knotes that are bound to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// It has passed all knotes that it was to pass. True if it has ended one.
    Complete(bool),
    /// It gave up.
    Incomplete,
}

/// The task work that finishes the walk which a close has left unfinished; one for each kqueue.
#[repr(C)]
pub(crate) struct Rewalk {
    // This is the first field, so that a pointer to it is a pointer to the whole.
    head: UnsafeCell<bindings::callback_head>,
    /// The address of the file whose knotes the walk is to pass; 0 while the work is not queued.
    file: AtomicUsize,
}

// SAFETY: The head is used by who has changed `file` from 0, until the work runs.
unsafe impl Send for Rewalk {}

// SAFETY: As above.
unsafe impl Sync for Rewalk {}

impl Rewalk {
    /// No walk is unfinished.
    pub(crate) fn new() -> Self {
        Rewalk {
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
        let this = &kqueue.rewalk;
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
        // SAFETY: The head is ours. The file keeps the kqueue, and the module's text; the work drops
        // that reference.
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
    /// Called with the head of a kqueue's `Rewalk`, and a reference to the file of that kqueue.
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: By this function's contract; the file keeps the kqueue.
        let kqueue = unsafe { &*kernel::container_of!(head.cast::<Rewalk>(), Kqueue, rewalk) };
        let own_file = kqueue.own_file();
        // From here on the work may be queued again.
        let file = kqueue.rewalk.file.swap(0, atomic::Ordering::AcqRel);
        if TableId::current() == kqueue.table() {
            kqueue.shared().closes.rewalk(file, kqueue.table());
        }
        // SAFETY: The reference is ours. What `fput` defers runs after we have returned.
        unsafe { bindings::fput(own_file.as_ptr()) };
    }
}

impl CloseHook {
    /// A descriptor of `file` in `table` was closed: ends the knotes that were bound to the
    /// descriptor.
    ///
    /// # Safety
    ///
    /// Both are valid, or `table` is the owner of no descriptor table and not equal to one.
    pub(super) unsafe fn closed(
        &self,
        file: *mut bindings::file,
        table: *mut bindings::files_struct,
    ) {
        let Some(bucket) = self.bucket(file.addr(), table.addr()) else {
            return;
        };
        let id = TableId::of(table);
        let guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        if unsafe { self.first_bound(bucket, &Self::before_all(file.addr(), id)) }.is_none() {
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
        let walk = |guard, numbers, mapped| {
            self.end(bucket, guard, (file.addr(), id), numbers, mapped, &maps)
        };
        let hint = Closed::hint(id);
        let walked = match hint {
            Closed::Number(number) => walk(guard, (number, number), MOST_MAPPED),
            Closed::Range(first, last) => walk(guard, (first, last), MOST_MAPPED),
            Closed::Unknown => {
                drop(guard);
                Walk::Complete(false)
            }
        };
        let unfinished = match walked {
            Walk::Complete(true) => false,
            Walk::Incomplete => true,
            // The close was not that of the number that the system call names.
            Walk::Complete(false) if self.is_rewalk_due(bucket, file.addr(), id) => false,
            Walk::Complete(false) => {
                let all = (0, u64::MAX);
                if matches!(hint, Closed::Number(_)) && !closes_by_itself() {
                    walk(bucket.lock.lock(), all, MOST_MAPPED_BESIDES);
                    false
                } else {
                    walk(bucket.lock.lock(), all, MOST_MAPPED) == Walk::Incomplete
                }
            }
        };
        if unfinished {
            self.finish_later(bucket, file.addr(), id);
        }
    }

    /// The key that comes before all knotes that are bound to that file and table.
    fn before_all(file: usize, table: TableId) -> Key {
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

    /// The kqueue whose task work finishes a walk over the knotes of that file and table.
    fn keeper(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> Option<Arc<Kqueue>> {
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        let knote = unsafe { self.first_bound(bucket, &Self::before_all(file, table)) }?;
        // The knote may be about to be freed.
        Some(knote.get()?.kqueue().into())
    }

    /// True if such a walk is queued as task work and has not begun.
    fn is_rewalk_due(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> bool {
        self.keeper(bucket, file, table)
            .is_some_and(|kqueue| kqueue.rewalk.file.load(atomic::Ordering::Acquire) == file)
    }

    /// Leaves the rest of a walk to the current task, which does it when it returns to userspace.
    fn finish_later(&self, bucket: Bucket<'_>, file: usize, table: TableId) {
        let Some(kqueue) = self.keeper(bucket, file, table) else {
            return;
        };
        if !Rewalk::finish_on_return(&kqueue, file) {
            // The walk is done here, in the close.
            self.rewalk(file, table);
        }
    }

    /// Passes all knotes that are bound to that file, in the table of the current task.
    fn rewalk(&self, file: usize, table: TableId) {
        let (Some(bucket), Some(current)) =
            (self.bucket(file, table.address()), table.if_current())
        else {
            return;
        };
        let maps = |number| {
            let rcu = rcu::read_lock();
            Names::of(current, &rcu).maps_address(number, file)
        };
        let mut from = 0;
        // In parts, so that the walk gets past all numbers that are mapped.
        while let Some(next) = self.next_number(bucket, file, table, from) {
            while !maps(next)
                && self.end(
                    bucket,
                    bucket.lock.lock(),
                    (file, table),
                    (next, next),
                    MOST_MAPPED,
                    &maps,
                ) == Walk::Incomplete
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
        let mut key = Self::before_all(file, table);
        key.number = from;
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        Some(unsafe { self.first_bound(bucket, &key) }?.key().number)
    }

    /// Ends the knotes of those numbers that do not map to their file any more. After it has ended
    /// one, it stops at the next number that maps, since numbers are closed in ascending order. It
    /// gives up after `most_mapped` numbers that map.
    ///
    /// The guard is that of the lock of the bucket.
    fn end<'a>(
        &self,
        bucket: Bucket<'a>,
        guard: BucketGuard<'a>,
        (file, table): (usize, TableId),
        (first, last): (u64, u64),
        most_mapped: u32,
        maps: &impl Fn(u64) -> bool,
    ) -> Walk {
        let mut from = Self::before_all(file, table);
        from.number = first;
        let (mut ended, mut mapped) = (0, 0);
        let mut closed = Closes::new();
        let mut guard = Some(guard);
        loop {
            // The guard is dropped before `closed`, which may not be removed under this lock.
            let _guard = guard.take().unwrap_or_else(|| bucket.lock.lock());
            for _ in 0..ROUND {
                // SAFETY: The lock is held.
                let Some(knote) = (unsafe { self.first_bound(bucket, &from) }) else {
                    return Walk::Complete(ended > 0);
                };
                from = knote.key();
                if from.number > last {
                    return Walk::Complete(ended > 0);
                }
                if !maps(from.number) {
                    if ended == MOST_ENDED {
                        return Walk::Incomplete;
                    }
                    ended += 1;
                    // SAFETY: The lock is held, and the knote is in the tree.
                    unsafe { self.end_one(bucket, knote, &mut closed) };
                    from.knote = from.knote.wrapping_add(1);
                    continue;
                }
                if ended > 0 {
                    return Walk::Complete(true);
                }
                if mapped == most_mapped {
                    return Walk::Incomplete;
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
    #[inline(always)]
    unsafe fn end_one(&self, bucket: Bucket<'_>, knote: &Knote, closed: &mut Closes) {
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
        // SAFETY: `retire_closed` has marked it as unlinked, which is done once, and has given that file.
        closed.add(unsafe { ClosedKnote::new(knote, file) });
    }
}
