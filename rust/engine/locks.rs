// SPDX-License-Identifier: GPL-2.0

//! The two locks of a kqueue, and the tokens that prove that one is held.

use super::{
    knote::UnderMutex,
    knote_table::{KnoteTable, Knotes}, //
    kqueue::ReadyState,
};
use crate::sys::lock::{killable::KillableMutex, raw_spin::IrqLock};
use core::{marker::PhantomData, ptr};
use kernel::{optional_name, prelude::*, static_lock_class};

/// Proves that a value is the one that a lock of one particular kqueue guards.
///
/// # Invariants
///
/// Two tokens of one type never belong to the same kqueue.
pub(crate) struct LockToken<L>(*const Locks, PhantomData<L>);

// SAFETY: The address is only compared.
unsafe impl<L> Send for LockToken<L> {}

impl<L> LockToken<L> {
    /// True if the token belongs to `locks`.
    #[inline]
    pub(super) fn is_of(&self, locks: &Locks) -> bool {
        ptr::eq(self.0, locks)
    }

    /// True if both tokens belong to the locks of one kqueue.
    #[inline]
    pub(super) fn is_with<M>(&self, other: &LockToken<M>) -> bool {
        ptr::eq(self.0, other.0)
    }
}

/// A value that a lock of a kqueue guards.
pub(crate) trait HasLockToken: Sized {
    /// The token that the value was made with.
    fn token(&self) -> &LockToken<Self>;
}

/// The two locks of a kqueue. Their order is in the crate's documentation.
#[pin_data]
pub(crate) struct Locks {
    #[pin]
    pub(crate) knotes: KillableMutex<Knotes>,
    #[pin]
    pub(crate) ready: IrqLock<ReadyState>,
}

impl Locks {
    /// Creates the locks. The guarded values are created with the tokens of the locks.
    pub(crate) fn new(
        knotes: impl FnOnce(LockToken<KnoteTable>, LockToken<UnderMutex>) -> Knotes,
        ready: impl FnOnce(LockToken<ReadyState>) -> ReadyState,
    ) -> impl PinInit<Self> {
        // INVARIANT: The locks are pinned, and only one token of each type is created for them.
        pin_init!(&this in Self {
            knotes <- KillableMutex::new(
                knotes(
                    LockToken(this.as_ptr(), PhantomData),
                    LockToken(this.as_ptr(), PhantomData),
                ),
                optional_name!("kqueue_knotes"),
                static_lock_class!(),
            ),
            ready <- IrqLock::new(
                ready(LockToken(this.as_ptr(), PhantomData)),
                optional_name!("kqueue_ready"),
                static_lock_class!(),
            ),
        })
    }
}
