// SPDX-License-Identifier: GPL-2.0

//! The knotes of one kqueue by (ident, filter).
//!
//! The table is a hash table. It grows by a factor of four when it is full, so that a lookup costs
//! the same with ten knotes and with a million. A sparse table shrinks when a knote is added, and
//! an empty table is freed. The memory of the table is charged to the user ([`Charge`]). The
//! program chooses the idents. The hash multiplies them by a secret odd number, so that no program
//! can choose idents that collide.

use super::{
    filter_ops::Filter, //
    knote::{ChainSlot, Knote, UnderMutex},
    knote_limit::{Charge, User},
    locks::{HasLockToken, LockToken},
};
use crate::sys::memory::random::random;
use core::{mem::ManuallyDrop, ptr};
use kernel::{
    prelude::*,
    sync::{aref::ARef, Arc}, //
};

/// The binary logarithm of the factor by which a table grows.
const GROWTH_BITS: u32 = 2;

/// The binary logarithm of the number of buckets for each knote above which a table is sparse. A
/// table that has just grown has a quarter of that number.
const SPARSE_BITS: u32 = 4;

/// A table with at most this number of buckets does not shrink.
const SHRINK_MIN: usize = 256;

/// The data that a kqueue's mutex guards.
pub(crate) struct Knotes {
    pub(crate) table: KnoteTable,
    pub(crate) under_mutex: UnderMutex,
}

/// The table. It holds a reference to each knote.
pub(crate) struct KnoteTable {
    token: LockToken<KnoteTable>,
    /// Chains that are linked by [`Knote::next`]. Their number is zero or a power of two. (They
    /// need not be dropped, because all knotes are taken out before a kqueue is released.)
    buckets: KVVec<ManuallyDrop<Option<ARef<Knote>>>>,
    /// The number by which a hash is shifted right to get the number of its bucket.
    shift: u32,
    len: usize,
    /// The table shrinks if it has fewer knotes.
    low: usize,
    /// The table grows if it has at least this many knotes more than `low`.
    span: usize,
    charge: Option<Charge>,
    multiplier: u64,
}

impl HasLockToken for KnoteTable {
    #[inline]
    fn token(&self) -> &LockToken<Self> {
        &self.token
    }
}

/// A knote that was found in a table.
pub(crate) struct Found<'a> {
    slot: ChainSlot<'a>,
    len: &'a mut usize,
}

impl Found<'_> {
    #[inline]
    pub(crate) fn knote(&self) -> &Knote {
        self.slot.knote()
    }

    /// Takes the knote out of the table.
    #[inline]
    pub(crate) fn remove(self) -> ARef<Knote> {
        *self.len -= 1;
        self.slot.take()
    }
}

/// Stores a value in an empty slot. Nothing has to be dropped.
#[inline]
fn fill(slot: &mut Option<ARef<Knote>>, value: Option<ARef<Knote>>) {
    let before = core::mem::replace(slot, value);
    debug_assert!(before.is_none());
    core::mem::forget(before);
}

impl KnoteTable {
    /// An empty table. Allocates no memory.
    pub(crate) fn new(token: LockToken<KnoteTable>) -> Self {
        KnoteTable {
            token,
            buckets: KVVec::new(),
            shift: u64::BITS,
            len: 0,
            low: 0,
            span: 0,
            charge: None,
            multiplier: random() | 1,
        }
    }

    /// The number of knotes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn bucket(&self, ident: u64) -> usize {
        // If there are no buckets, no bucket has this number.
        ident.wrapping_mul(self.multiplier).wrapping_shr(self.shift) as usize
    }

    /// The knote of (ident, filter). There may be an older one that has [outlived its
    /// ident](super::filter_ops::FilterOps::STAYS_AFTER_PID_REUSE); the newest knote is found.
    #[inline]
    pub(crate) fn find(&self, ident: u64, filter: Filter) -> Option<&Knote> {
        let mut at = self.buckets.get(self.bucket(ident))?.as_ref();
        while let Some(knote) = at {
            if knote.ident() == ident && knote.filter() == filter {
                return Some(knote);
            }
            at = knote.next(&self.token);
        }
        None
    }

    /// Makes room for one more knote.
    ///
    /// # Errors
    ///
    /// `ENOMEM` or `ENOSPC` if a table without buckets cannot be allocated. If an existing table
    /// cannot grow, lookups only become slower.
    #[inline]
    pub(crate) fn reserve(&mut self, user: &Arc<User>) -> Result {
        if self.len.wrapping_sub(self.low) < self.span {
            return Ok(());
        }
        let bits = if self.len < self.low {
            // If shrinking fails, it is not tried again for the next knote.
            self.set_low(0);
            self.len.max(1).ilog2() + GROWTH_BITS
        } else {
            u64::BITS - self.shift + GROWTH_BITS
        };
        match self.resize(bits, user) {
            Err(error) if self.buckets.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    #[inline(never)]
    fn resize(&mut self, bits: u32, user: &Arc<User>) -> Result {
        let size = 1 << bits;
        let charge = Charge::new(user, size * size_of::<Option<ARef<Knote>>>())?;
        let mut buckets = KVVec::new();
        buckets.extend_with(size, ManuallyDrop::new(None), GFP_KERNEL_ACCOUNT)?;
        self.charge = Some(charge);
        let mut old = core::mem::replace(&mut self.buckets, buckets);
        self.set_low(if size > SHRINK_MIN {
            size >> SPARSE_BITS
        } else {
            0
        });
        self.shift = u64::BITS - bits;
        for slot in old.iter_mut() {
            let mut chain = slot.take();
            // The chain is reversed first, so that the knotes keep their order. Most chains have at
            // most one knote.
            let mut backwards = None;
            while let Some(knote) = chain {
                chain = knote.next_mut(&mut self.token).take();
                if chain.is_none() && backwards.is_none() {
                    self.link(knote);
                    break;
                }
                fill(knote.next_mut(&mut self.token), backwards);
                backwards = Some(knote);
            }
            while let Some(knote) = backwards {
                backwards = knote.next_mut(&mut self.token).take();
                self.link(knote);
            }
        }
        Ok(())
    }

    #[inline]
    fn link(&mut self, knote: ARef<Knote>) {
        let bucket = self.bucket(knote.ident());
        if let Some(slot) = self.buckets.get_mut(bucket) {
            fill(knote.next_mut(&mut self.token), slot.take());
            fill(slot, Some(knote));
        }
    }

    /// Frees the memory of an empty table.
    #[inline]
    pub(crate) fn free_if_empty(&mut self) {
        if self.len == 0 && self.buckets.len() > SHRINK_MIN {
            self.free();
        }
    }

    #[inline(never)]
    fn free(&mut self) {
        self.buckets = KVVec::new();
        self.shift = u64::BITS;
        self.set_low(0);
        self.charge = None;
    }

    fn set_low(&mut self, low: usize) {
        self.low = low;
        self.span = self.buckets.len() - low;
    }

    /// Adds a knote, for which [`KnoteTable::reserve`] has made room.
    #[inline]
    pub(crate) fn insert(&mut self, knote: ARef<Knote>) {
        self.link(knote);
        self.len += 1;
    }

    /// [`KnoteTable::find`] for a caller that may take the knote out.
    #[inline(always)]
    pub(crate) fn find_mut(&mut self, ident: u64, filter: Filter) -> Option<Found<'_>> {
        self.search(ident, |knote| {
            knote.ident() == ident && knote.filter() == filter
        })
    }

    #[inline(always)]
    fn search(&mut self, ident: u64, is: impl FnMut(&Knote) -> bool) -> Option<Found<'_>> {
        let bucket = self.bucket(ident);
        let chain = self.buckets.get_mut(bucket)?;
        Some(Found {
            slot: ChainSlot::find(chain, &mut self.token, is)?,
            len: &mut self.len,
        })
    }

    /// Takes a knote out. False if it is not in the table.
    pub(crate) fn remove(&mut self, knote: &Knote) -> bool {
        let removed = self.take(knote);
        self.free_if_empty();
        removed
    }

    /// [`KnoteTable::remove`] for a caller that must not sleep. It does not free an empty table.
    #[inline]
    pub(crate) fn take(&mut self, knote: &Knote) -> bool {
        let found = self.search(knote.ident(), |other| ptr::eq(other, knote));
        found.map(Found::remove).is_some()
    }

    /// Takes out any knote. `from` is the number of the first bucket that may not be empty. Frees
    /// the memory of the table after the last knote.
    pub(crate) fn pop(&mut self, from: &mut usize) -> Option<ARef<Knote>> {
        while let Some(slot) = self.buckets.get_mut(*from) {
            if let Some(knote) = slot.take() {
                fill(slot, knote.next_mut(&mut self.token).take());
                self.len -= 1;
                return Some(knote);
            }
            *from += 1;
        }
        self.free();
        None
    }

    /// Takes out any knote for which `is` is true. `from` is where the search continues.
    #[cold]
    pub(crate) fn pop_if(
        &mut self,
        from: &mut usize,
        mut is: impl FnMut(&Knote) -> bool,
    ) -> Option<ARef<Knote>> {
        while let Some(chain) = self.buckets.get_mut(*from) {
            if let Some(slot) = ChainSlot::find(chain, &mut self.token, &mut is) {
                self.len -= 1;
                return Some(slot.take());
            }
            *from += 1;
        }
        None
    }

    /// Calls `each` with every knote.
    pub(crate) fn for_each<'a>(&'a self, mut each: impl FnMut(&'a ARef<Knote>)) {
        for slot in self.buckets.iter() {
            let mut at = slot.as_ref();
            while let Some(knote) = at {
                each(knote);
                at = knote.next(&self.token);
            }
        }
    }
}
