// SPDX-License-Identifier: GPL-2.0

//! The ready list: the pending knotes of a kqueue.
//!
//! The list is doubly linked through the knotes. It holds no references, because they would cost
//! two atomic operations for each event. A knote is retired before its last reference is dropped,
//! and a retired knote is never in the list. If a knote is dropped without having been retired,
//! `drop` retires it before it is freed. So the owner of the lock may use every knote in the list.
//! (The `List` of the `kernel` crate owns its items, and cannot check that an item to be removed is
//! in this list and not in another one. A knote is only in the list of its own kqueue, whose lock
//! guards the links.)

use super::{
    filter_ops::FastPath,
    knote::{Knote, KnoteInner, UnderMutex},
    knote_table::KnoteTable,
    kqueue::ReadyState,
    locks::HasLockToken,
    state::State, //
};
use crate::sys::file::fdtable::{CurrentFdTable, CurrentFiles};
use core::ptr;
use kernel::fs::File;

/// The links of a knote. Both are null unless the knote is in the ready list or in a list of
/// [`super::recheck`].
pub(in crate::engine) struct Links {
    pub(in crate::engine) next: *const Knote,
    pub(in crate::engine) prev: *const Knote,
}

impl Links {
    pub(in crate::engine) const NONE: Self = Links {
        next: ptr::null(),
        prev: ptr::null(),
    };
}

/// A first-in first-out list of knotes, and its length.
///
/// # Invariants
///
/// All knotes in the list are valid and belong to the kqueue whose [`ReadyState`] contains this
/// list. `len` is their number. `next` of the last knote and `prev` of the first knote are null.
pub(crate) struct ReadyList {
    head: *const Knote,
    tail: *const Knote,
    len: usize,
}

// SAFETY: Any thread that holds the lock may use the knotes.
unsafe impl Send for ReadyList {}

impl ReadyList {
    /// An empty list.
    pub(crate) fn new() -> Self {
        ReadyList {
            head: ptr::null(),
            tail: ptr::null(),
            len: 0,
        }
    }

    /// The number of knotes in the list.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for ReadyList {
    fn drop(&mut self) {
        // A kqueue that is dropped has no knotes, since each knote holds a reference to it.
        debug_assert!(self.head.is_null());
    }
}

/// The links of a knote.
///
/// # Safety
///
/// `knote` is valid, the lock of its kqueue is held, and no other reference to its links exists.
#[inline]
pub(in crate::engine) unsafe fn links<'a>(knote: *const Knote) -> &'a mut Links {
    // SAFETY: By this function's contract.
    unsafe { &mut *(*knote).links.get() }
}

impl ReadyState {
    /// True if the knote is in the ready list. The knote must not be in a list of rechecks.
    #[inline]
    fn holds(&self, knote: &Knote) -> bool {
        // SAFETY: The caller has checked that the knote belongs to this kqueue, whose lock is held.
        let links = unsafe { links(knote) };
        !links.prev.is_null() || ptr::eq(self.queue.head, knote)
    }

    /// Marks a knote of this kqueue active, and appends it to the list if it is due. True if it is
    /// due.
    #[inline(always)]
    pub(crate) fn activate(&mut self, knote: &Knote) -> bool {
        let due = knote.state(self).activate();
        if due {
            // SAFETY: `state` has checked that the knote belongs to this kqueue.
            unsafe { self.push_checked(knote) };
        }
        due
    }

    /// Appends a knote of this kqueue, unless it is in the list.
    #[inline(always)]
    pub(crate) fn push_back(&mut self, knote: &Knote) {
        knote.check(self);
        // SAFETY: `check` has checked that the knote belongs to this kqueue.
        unsafe { self.push_checked(knote) };
    }

    /// # Safety
    ///
    /// The knote belongs to this kqueue.
    #[inline(always)]
    unsafe fn push_checked(&mut self, knote: &Knote) {
        // SAFETY: By this function's contract.
        unsafe { self.cancel_recheck_checked(knote) };
        if self.holds(knote) {
            return;
        }
        let queue = &mut self.queue;
        // INVARIANT: The knote belongs to this kqueue, and it is retired before it is freed.
        // SAFETY: The lock is held. The knote is in no list. The tail, if any, is in the list, so
        // it is valid.
        unsafe {
            *links(knote) = Links {
                next: ptr::null(),
                prev: queue.tail,
            };
            if queue.tail.is_null() {
                queue.head = knote;
            } else {
                links(queue.tail).next = knote;
            }
        }
        queue.tail = knote;
        queue.len = queue.len.wrapping_add(1);
    }

    /// Inserts a knote of this kqueue at the head, unless it is in the list.
    pub(crate) fn push_front(&mut self, knote: &Knote) {
        self.cancel_recheck(knote);
        if self.holds(knote) {
            return;
        }
        let queue = &mut self.queue;
        // INVARIANT: The knote belongs to this kqueue, and it is retired before it is freed.
        // SAFETY: The lock is held. The knote is in no list. The head, if any, is in the list, so
        // it is valid.
        unsafe {
            *links(knote) = Links {
                next: queue.head,
                prev: ptr::null(),
            };
            if queue.head.is_null() {
                queue.tail = knote;
            } else {
                links(queue.head).prev = knote;
            }
        }
        queue.head = knote;
        queue.len = queue.len.wrapping_add(1);
    }

    /// Takes knotes off the front of the list, at most `most` of them, and passes each to `each`
    /// with the information whether it is still bound: its number refers to its file, or it has no
    /// descriptor. Returns how many it has taken. The knotes are idle now. They stay valid as long
    /// as the table is borrowed.
    ///
    /// The descriptors of the knotes are in `fd_table`. Panics if `table` or `under_mutex` is that
    /// of another kqueue.
    #[inline(always)]
    pub(crate) fn take_front<'t>(
        &mut self,
        table: &'t KnoteTable,
        under_mutex: &mut UnderMutex,
        fd_table: CurrentFdTable,
        most: usize,
        mut each: impl FnMut(&'t Knote, bool),
    ) -> usize {
        assert!(self.token().is_with(under_mutex.token()));
        assert!(self.token().is_with(table.token()));
        if !self.has_only_table_knotes() {
            return 0;
        }
        // SAFETY: The holder of a spin lock is in an RCU read-side critical section.
        let files = unsafe { CurrentFiles::in_rcu(fd_table) };
        let most = most.min(self.queue.len);
        let mut at = self.queue.head;
        // INVARIANT: The knotes that are taken are a part of the list from its head on.
        // SAFETY: By the invariant of the list at least `most` knotes follow, beginning with `at`.
        // All knotes of the list are valid and belong to this kqueue. Both of its locks are held,
        // and `self` and `under_mutex` are borrowed mutably. The table has a reference to each
        // knote (`has_only_table_knotes`), and it keeps the reference as long as it is borrowed,
        // because knotes are taken out of it by a mutable borrow.
        unsafe {
            for _ in 0..most {
                let knote: &'t Knote = &*at;
                let visited = knote.visited(&files);
                visited.state.take();
                let bound = visited.bound_file.is_none() || visited.file().is_some();
                at = core::mem::replace(links(at), Links::NONE).next;
                each(knote, bound);
            }
            self.queue.head = at;
            if at.is_null() {
                self.queue.tail = at;
            } else {
                links(at).prev = ptr::null();
            }
        }
        self.queue.len = self.queue.len.wrapping_sub(most);
        most
    }

    /// Removes a knote of this kqueue from the ready list, or from the list of rechecks. True if it
    /// was in the ready list.
    pub(crate) fn remove_from_lists(&mut self, knote: &Knote) -> bool {
        self.cancel_recheck(knote);
        let held = self.holds(knote);
        if held {
            // SAFETY: The knote is in the list.
            unsafe { self.unlink(knote) };
        }
        held
    }

    /// # Safety
    ///
    /// `item` is in the list.
    #[inline]
    unsafe fn unlink(&mut self, item: *const Knote) {
        let queue = &mut self.queue;
        // SAFETY: The lock is held. The item and its neighbours are in the list, so they are valid.
        unsafe {
            let Links { next, prev } = core::mem::replace(links(item), Links::NONE);
            if prev.is_null() {
                queue.head = next;
            } else {
                links(prev).next = next;
            }
            if next.is_null() {
                queue.tail = prev;
            } else {
                links(next).prev = prev;
            }
        }
        queue.len = queue.len.wrapping_sub(1);
    }

    /// Walks the list from its head over at most `most` knotes, and does with each what `visitor`
    /// decides. The knotes that are kept become the tail of the list, in their order.
    ///
    /// The descriptors of the knotes are in `fd_table`. Panics if `under_mutex` is that of another
    /// kqueue.
    #[inline(always)]
    pub(crate) fn walk(
        &mut self,
        under_mutex: &mut UnderMutex,
        fd_table: CurrentFdTable,
        most: usize,
        mut visitor: impl Visitor,
    ) -> WalkResult {
        assert!(self.token().is_with(under_mutex.token()));
        // SAFETY: The holder of a spin lock is in an RCU read-side critical section.
        let files = unsafe { CurrentFiles::in_rcu(fd_table) };
        let most = most.min(self.queue.len);
        let mut left = most;
        let mut at = self.queue.head;
        // The first and the last of the knotes that are kept. `first` is valid only if `last` is
        // not null.
        let mut first = at;
        let mut last: *const Knote = ptr::null();
        // SAFETY: `at` is not null while `left` is not zero, because by the invariant of the list
        // at least `left` knotes follow, beginning with `at`. All knotes of the list are valid and
        // belong to this kqueue. Both of its locks are held, and `self` and `under_mutex` are
        // borrowed mutably.
        unsafe {
            while left != 0 {
                let verdict = visitor.visit((*at).visited(&files));
                let links = links(at);
                match verdict {
                    Verdict::Stop => break,
                    Verdict::Keep => {
                        if !ptr::eq(links.prev, last) {
                            // The knotes in between were removed.
                            links.prev = last;
                            if last.is_null() {
                                first = at;
                            } else {
                                self::links(last).next = at;
                            }
                        }
                        last = at;
                        at = links.next;
                    }
                    Verdict::Remove => {
                        self.queue.len = self.queue.len.wrapping_sub(1);
                        at = core::mem::replace(links, Links::NONE).next;
                    }
                    Verdict::Spend => {
                        self.spent = self.spent.wrapping_add(1);
                        self.queue.len = self.queue.len.wrapping_sub(1);
                        at = core::mem::replace(links, Links::NONE).next;
                    }
                    Verdict::Recheck => {
                        self.queue.len = self.queue.len.wrapping_sub(1);
                        at = self.rechecks.push(at);
                    }
                }
                left = left.wrapping_sub(1);
            }
            // INVARIANT: The list consists of the knotes that the walk has not reached, followed by
            // the knotes that were kept.
            let queue = &mut self.queue;
            if at.is_null() {
                queue.head = if last.is_null() { at } else { first };
                queue.tail = last;
            } else {
                queue.head = at;
                links(at).prev = ptr::null();
                if !last.is_null() {
                    links(queue.tail).next = first;
                    links(first).prev = queue.tail;
                    queue.tail = last;
                }
            }
            if !last.is_null() {
                links(last).next = ptr::null();
            }
        }
        WalkResult {
            visited: most.wrapping_sub(left),
            kept: !last.is_null(),
        }
    }
}

/// The fields of a knote that a walk passes to its visitor.
pub(crate) struct VisitedKnote<'a> {
    pub(crate) knote: &'a Knote,
    pub(crate) state: &'a mut State,
    pub(crate) inner: &'a mut KnoteInner,
    pub(crate) fast_path: FastPath,
    pub(in crate::engine) bound_file: Option<&'a File>,
    pub(in crate::engine) files: &'a CurrentFiles<'a>,
}

impl<'a> VisitedKnote<'a> {
    /// The file of the knote's descriptor. `None` if the number now refers to another file or to
    /// none.
    #[inline(always)]
    pub(crate) fn file(&self) -> Option<&'a File> {
        self.bound_file
            .filter(|file| self.files.maps(self.knote.ident(), file))
    }
}

/// The visitor of a walk. (A closure would not be inlined into each of several walks.)
pub(crate) trait Visitor {
    /// Decides what the walk does with a knote.
    fn visit(&mut self, visited: VisitedKnote<'_>) -> Verdict;
}

/// What a walk does with a knote.
pub(crate) enum Verdict {
    /// The walk ends before this knote, which stays in its place.
    Stop,
    Keep,
    Remove,
    /// The knote is taken off the list, and is spent.
    Spend,
    /// The knote moves to the list of rechecks. Its state has been set accordingly.
    Recheck,
}

/// The result of a walk.
pub(crate) struct WalkResult {
    /// The number of knotes that were kept or removed.
    pub(crate) visited: usize,
    /// True if some knotes were kept.
    pub(crate) kept: bool,
}
