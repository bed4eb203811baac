// SPDX-License-Identifier: GPL-2.0

//! Knotes whose descriptors were closed and that are not yet removed from their kqueues.

use crate::{
    engine::{knote::Knote, knote_layout::BoundKnote, kqueue::Kqueue},
    sys::process::taskwork,
};
use core::{
    mem::offset_of,
    ptr::{self, NonNull},
    sync::atomic::{self, AtomicPtr},
};
use kernel::{
    bindings,
    fs::File,
    sync::{aref::ARef, Arc},
};

/// A knote whose descriptor was closed and that is not yet removed from its kqueue.
///
/// The bookkeeping is in the knote itself, so that no memory is allocated.
///
/// # Invariants
///
/// This value owns a reference to the knote and a reference to the own file of its kqueue. The
/// latter keeps the module loaded. The knote is unlinked, and nothing else uses its node.
pub(crate) struct ClosedKnote(NonNull<Knote>);

// SAFETY: Any thread may use knotes and files.
unsafe impl Send for ClosedKnote {}

impl ClosedKnote {
    /// The offset of the node in the object of a knote.
    const NODE: usize = offset_of!(BoundKnote, node);

    /// # Safety
    ///
    /// The knote was just unlinked, so nothing else uses its node. The file is the own file of its
    /// kqueue.
    pub(super) unsafe fn new(knote: ARef<Knote>, own_file: ARef<File>) -> Self {
        core::mem::forget(own_file);
        // INVARIANT: This value owns both references. The caller upholds this function's safety
        // contract.
        ClosedKnote(ARef::into_raw(knote))
    }

    /// The knote.
    pub(crate) fn knote(&self) -> &Knote {
        // SAFETY: By the type's invariant, this value owns a reference to the knote.
        unsafe { self.0.as_ref() }
    }

    fn into_head(self) -> *mut bindings::callback_head {
        let knote = core::mem::ManuallyDrop::new(self).0;
        // SAFETY: The knote was in a tree, so it is stored in a `BoundKnote`. The node is a field
        // of that.
        unsafe { knote.as_ptr().byte_add(Self::NODE).cast() }
    }

    /// # Safety
    ///
    /// `head` came from [`ClosedKnote::into_head`]. The caller does not use it any more.
    unsafe fn from_head(head: *mut bindings::callback_head) -> Self {
        // INVARIANT: This value owns the references that `into_head` has given up.
        // SAFETY: The head is the node of a `BoundKnote`, whose first field is the knote.
        ClosedKnote(unsafe { NonNull::new_unchecked(head.byte_sub(Self::NODE).cast()) })
    }

    /// Removes the knote, either now or before the current task returns to user space. The caller
    /// holds no spin lock. Preemption may be disabled. On a real-time kernel nothing can be freed
    /// then, so the knote is removed later.
    pub(super) fn remove(self) {
        if cfg!(CONFIG_PREEMPT_RT) || !self.knote().kqueue().try_remove_closed(&self) {
            self.remove_on_return();
        }
    }

    /// Queues the removal of the knote: the current task removes it before it returns to user
    /// space. If the task does not return to user space, the next task that releases the mutex of
    /// the kqueue removes it.
    pub(super) fn remove_on_return(self) {
        let head = self.into_head();
        // SAFETY: By the type's invariant, nothing else uses the node. The reference to the file of
        // the kqueue keeps the text of the module in memory.
        if unsafe { taskwork::add(head, Self::run) }.is_err() {
            // SAFETY: The head came from `into_head`, and it was not queued.
            let this = unsafe { Self::from_head(head) };
            let kqueue: *const Kqueue = &*this.knote().kqueue();
            // SAFETY: The reference to the own file that `this` owns keeps the kqueue valid, and
            // after `this` was given up, `own_file` does.
            let kqueue = unsafe { &*kqueue };
            let own_file = kqueue.get_own_file();
            // The caller may hold a spin lock, or run with preemption disabled. So the removal is
            // left to the next task that releases the mutex. That task may drop `this` at once.
            kqueue.leave_closed(this);
            // The release of a file is deferred. An `Arc<Kqueue>` could be the last one, and the
            // kqueue would have to be freed here.
            drop(own_file);
        }
    }

    /// The function of the task work.
    ///
    /// # Safety
    ///
    /// `head` was queued by [`ClosedKnote::remove_on_return`].
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: By this function's contract, `head` came from `into_head`, and nothing else uses
        // it.
        let this = unsafe { Self::from_head(head) };
        let kqueue: Arc<Kqueue> = this.knote().kqueue().into();
        kqueue.remove_closed(this);
    }
}

impl Drop for ClosedKnote {
    fn drop(&mut self) {
        let file = self.knote().kqueue().own_file_ptr();
        // SAFETY: By the type's invariant, this value owns both references. `fput` defers the
        // release of the file until the caller has returned, so the text of the module stays in
        // memory until then.
        unsafe {
            drop(ARef::from_raw(self.0));
            bindings::fput(file.as_ptr());
        }
    }
}

/// Closed knotes that a kqueue removes later. Any task may add one, in any context.
///
/// A task adds a knote with release ordering, after it has written the head. The owner of the mutex
/// takes the whole list with acquire ordering, so it sees all heads of the list: the tasks that
/// added them have all changed the same word by atomic read-modify-write operations.
pub(crate) struct ClosedList(AtomicPtr<bindings::callback_head>);

impl ClosedList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        ClosedList(AtomicPtr::new(ptr::null_mut()))
    }

    /// Adds a knote.
    pub(crate) fn push(&self, knote: ClosedKnote) {
        let head = knote.into_head();
        let mut first = self.0.load(atomic::Ordering::Relaxed);
        loop {
            // SAFETY: Nothing else uses the head until it is in the list.
            unsafe {
                head.write(bindings::callback_head {
                    next: first,
                    func: None,
                });
            }
            let (release, relaxed) = (atomic::Ordering::Release, atomic::Ordering::Relaxed);
            match self.0.compare_exchange_weak(first, head, release, relaxed) {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }

    /// Takes all knotes off the list, and calls `each` with each.
    pub(crate) fn drain(&self, mut each: impl FnMut(ClosedKnote)) {
        let mut at = self.0.swap(ptr::null_mut(), atomic::Ordering::Acquire);
        while !at.is_null() {
            // SAFETY: The heads in the list came from `into_head`. The list was taken as a whole,
            // so nothing else uses them.
            let (next, knote) = unsafe { ((*at).next, ClosedKnote::from_head(at)) };
            at = next;
            each(knote);
        }
    }
}

impl Drop for ClosedList {
    fn drop(&mut self) {
        self.drain(drop);
    }
}
