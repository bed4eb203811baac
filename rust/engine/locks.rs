// SPDX-License-Identifier: GPL-2.0

//! The two locks of a kqueue, and the keys that prove that one is held.

use super::{
    knote::KnoteAccess,
    kqueue::Ready,
    table::{Knotes, Table}, //
};
use crate::sys::lock::{irqlock::IrqLock, killable::KillableMutex};
use core::{marker::PhantomData, ptr};
use kernel::{optional_name, prelude::*, static_lock_class};

/// Proves that a value is what the lock of that type guards in one particular kqueue.
///
/// # Invariants
///
/// No two keys of one type are alike.
pub(crate) struct Key<L>(*const Locks, PhantomData<L>);

// SAFETY: The address is only compared.
unsafe impl<L> Send for Key<L> {}

impl<L> Key<L> {
    /// True if the key belongs to `locks`.
    #[inline]
    pub(super) fn is_of(&self, locks: &Locks) -> bool {
        ptr::eq(self.0, locks)
    }

    /// True if both keys belong to the locks of one kqueue.
    #[inline]
    pub(super) fn is_with<M>(&self, other: &Key<M>) -> bool {
        ptr::eq(self.0, other.0)
    }
}

/// What a lock of a kqueue guards.
pub(crate) trait Keyed: Sized {
    /// The key that the value was made with.
    fn key(&self) -> &Key<Self>;
}

/// The two locks of a kqueue. Their order is in the crate's documentation.
#[pin_data]
pub(crate) struct Locks {
    #[pin]
    pub(crate) knotes: KillableMutex<Knotes>,
    #[pin]
    pub(crate) ready: IrqLock<Ready>,
}

impl Locks {
    /// Locks around values that are made with a key of each.
    pub(crate) fn new(
        knotes: impl FnOnce(Key<Table>, Key<KnoteAccess>) -> Knotes,
        ready: impl FnOnce(Key<Ready>) -> Ready,
    ) -> impl PinInit<Self> {
        // INVARIANT: Locks are pinned, and have one key of each type.
        pin_init!(&this in Self {
            knotes <- KillableMutex::new(
                knotes(
                    Key(this.as_ptr(), PhantomData),
                    Key(this.as_ptr(), PhantomData),
                ),
                optional_name!("kqueue_knotes"),
                static_lock_class!(),
            ),
            ready <- IrqLock::new(
                ready(Key(this.as_ptr(), PhantomData)),
                optional_name!("kqueue_ready"),
                static_lock_class!(),
            ),
        })
    }
}
