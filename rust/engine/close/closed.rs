// SPDX-License-Identifier: GPL-2.0

//! Knotes whose descriptors were closed, until they are removed from their kqueues.

use super::binding::Binding;
use crate::{
    engine::{knote_memory::Knote, kqueue::Kqueue},
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

/// A knote whose descriptor was closed, until it is removed from its kqueue.
///
/// It is kept in the knote itself, so that it needs no memory.
///
/// # Invariants
///
/// Owns a reference to the knote, which is unlinked and whose node nobody else uses, and one to the
/// own file of its kqueue. The latter keeps the module loaded.
pub(crate) struct ClosedKnote(NonNull<Knote>);

// SAFETY: Knotes and files may be used from any thread.
unsafe impl Send for ClosedKnote {}

impl ClosedKnote {
    /// The offset of the node in a knote.
    const NODE: usize = offset_of!(Knote, binding) + offset_of!(Binding, node);

    /// # Safety
    ///
    /// The knote was just unlinked, so nobody else uses its node. The file is its kqueue's own.
    pub(super) unsafe fn new(knote: ARef<Knote>, own_file: ARef<File>) -> Self {
        core::mem::forget(own_file);
        // INVARIANT: Both references are owned; the rest is by this function's contract.
        ClosedKnote(ARef::into_raw(knote))
    }

    /// The knote.
    pub(crate) fn knote(&self) -> &Knote {
        // SAFETY: By the type's invariant.
        unsafe { self.0.as_ref() }
    }

    fn into_head(self) -> *mut bindings::callback_head {
        let knote = core::mem::ManuallyDrop::new(self).0;
        // SAFETY: The node is within the knote.
        unsafe { knote.as_ptr().byte_add(Self::NODE).cast() }
    }

    /// # Safety
    ///
    /// `head` came from [`ClosedKnote::into_head`], and is given up.
    unsafe fn from_head(head: *mut bindings::callback_head) -> Self {
        // INVARIANT: What was given up before is owned again.
        // SAFETY: The head is within a knote.
        ClosedKnote(unsafe { NonNull::new_unchecked(head.byte_sub(Self::NODE).cast()) })
    }

    /// Queues the removal of the knote: the current task removes it before it returns to userspace.
    /// If the task does not return to userspace, the next owner of the mutex of the kqueue removes
    /// it.
    pub(super) fn remove_on_return(self) {
        let head = self.into_head();
        // SAFETY: The node is ours by the type's invariant; the file of the kqueue, to which a
        // reference is kept, keeps the module's text.
        if unsafe { taskwork::add(head, Self::run) }.is_err() {
            // SAFETY: It was not queued.
            let this = unsafe { Self::from_head(head) };
            let kqueue: Arc<Kqueue> = this.knote().kqueue().into();
            // A spin lock is held here, so the next task that releases the mutex removes it.
            kqueue.leave_closed(this);
        }
    }

    /// The function of the task work.
    ///
    /// # Safety
    ///
    /// Called with the head that [`ClosedKnote::remove_on_return`] has queued.
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: By this function's contract.
        let this = unsafe { Self::from_head(head) };
        let kqueue: Arc<Kqueue> = this.knote().kqueue().into();
        kqueue.remove_closed(this);
    }
}

impl Drop for ClosedKnote {
    fn drop(&mut self) {
        let file = self.knote().kqueue().own_file();
        // SAFETY: The references are ours by the type's invariant. What `fput` defers runs after
        // our caller has returned, so that no text of the module can be gone too early.
        unsafe {
            drop(ARef::from_raw(self.0));
            bindings::fput(file.as_ptr());
        }
    }
}

/// Closed knotes that a kqueue removes later. Any task may add one, in any context.
pub(crate) struct ClosedList(AtomicPtr<bindings::callback_head>);

impl ClosedList {
    /// None.
    pub(crate) const fn new() -> Self {
        ClosedList(AtomicPtr::new(ptr::null_mut()))
    }

    /// Adds one.
    pub(crate) fn push(&self, knote: ClosedKnote) {
        let head = knote.into_head();
        let mut first = self.0.load(atomic::Ordering::Relaxed);
        loop {
            // SAFETY: The head is ours until it is in the list.
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

    /// Takes all knotes that were added, and calls `each` with each.
    pub(crate) fn drain(&self, mut each: impl FnMut(ClosedKnote)) {
        let mut at = self.0.swap(ptr::null_mut(), atomic::Ordering::Acquire);
        while !at.is_null() {
            // SAFETY: It was in the list, which was taken as a whole.
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
