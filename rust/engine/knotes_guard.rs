// SPDX-License-Identifier: GPL-2.0

//! The guard of a kqueue's mutex.
//!
//! A task that releases the mutex afterwards does the work that other tasks have left to the owner
//! ([`Kqueue::do_leftover_work`]). The guard is one pointer, so that it is passed in a register.
//! The address of the kqueue is computed from that of its mutex.

use super::{knote_table::Knotes, kqueue::Kqueue, locks::Locks};
use crate::sys::lock::killable::{self, Killable};
use core::{
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    ptr, //
};
use kernel::{
    container_of,
    sync::lock::Guard, //
};

/// The guard of a kqueue's mutex.
///
/// # Invariants
///
/// The inner guard is that of the `locks.knotes` of a [`Kqueue`]. Only this type's `drop` drops it.
pub(crate) struct KnotesGuard<'a>(ManuallyDrop<Guard<'a, Knotes, Killable>>);

impl<'a> KnotesGuard<'a> {
    /// Takes over the guard of the mutex of `kqueue`. Panics if it is the guard of another mutex.
    #[inline(always)]
    pub(crate) fn new(kqueue: &'a Kqueue, guard: Guard<'a, Knotes, Killable>) -> Self {
        // The compiler removes this check where the mutex was just taken.
        assert!(ptr::eq(guard.lock_ref(), &raw const kqueue.locks().knotes));
        // INVARIANT: The check above has compared the mutex of the guard with that of the kqueue.
        KnotesGuard(ManuallyDrop::new(guard))
    }

    /// The kqueue.
    #[inline(always)]
    fn kqueue(&self) -> &'a Kqueue {
        let mutex = ptr::from_ref(self.0.lock_ref());
        // SAFETY: By the type's invariant, the mutex is the `locks.knotes` of a kqueue. The kqueue
        // lives for `'a`, because its mutex is borrowed for `'a`.
        unsafe { &*Kqueue::of_locks(container_of!(mutex, Locks, knotes)) }
    }
}

impl Deref for KnotesGuard<'_> {
    type Target = Knotes;

    #[inline(always)]
    fn deref(&self) -> &Knotes {
        &self.0
    }
}

impl DerefMut for KnotesGuard<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Knotes {
        &mut self.0
    }
}

impl Drop for KnotesGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let kqueue = self.kqueue();
        // SAFETY: The inner guard is not used after this, since `self` is being dropped.
        unsafe { ManuallyDrop::drop(&mut self.0) };
        // A task that leaves work sets the flag and then tries the mutex. This task releases the
        // mutex and then reads the flag. So either that task gets the mutex, or this task sees the
        // flag.
        killable::barrier_after_unlock();
        if kqueue.has_leftover_work() {
            kqueue.do_leftover_work();
        }
    }
}
