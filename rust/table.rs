// SPDX-License-Identifier: GPL-2.0

//! The knotes of one kqueue by (ident, filter).
//!
//! A hash table that grows by four when it is full, so that a lookup costs the same
//! with ten knotes and with a million. Idents are the program's to choose; the
//! hash multiplies by a secret odd number, so that nobody can choose them to
//! collide.

use crate::{
    filter::Filter,
    hook::{knote::Key, random::random},
    knote::{Bodies, Knote}, //
};
use core::ptr;
use kernel::{prelude::*, sync::aref::ARef};

/// Binary logarithm of what it grows by.
const GROWTH_BITS: u32 = 2;

/// All that a kqueue's mutex guards.
pub(crate) struct Knotes {
    pub(crate) table: Table,
    pub(crate) bodies: Bodies,
}

/// Where the knotes are. It has a reference to each.
pub(crate) struct Table {
    key: Key<Table>,
    /// Chains, linked by [`Knote::next`]. Empty, or a power of two of them.
    buckets: KVVec<Option<ARef<Knote>>>,
    bits: u32,
    len: usize,
    multiplier: u64,
}

/// Puts a value into a slot that has none, so that there is nothing to drop.
#[inline]
fn fill(slot: &mut Option<ARef<Knote>>, value: Option<ARef<Knote>>) {
    let before = core::mem::replace(slot, value);
    debug_assert!(before.is_none());
    core::mem::forget(before);
}

impl Table {
    /// No knotes; allocates nothing.
    pub(crate) fn new(key: Key<Table>) -> Self {
        Table {
            key,
            buckets: KVVec::new(),
            bits: 0,
            len: 0,
            multiplier: random() | 1,
        }
    }

    /// How many knotes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn bucket(&self, ident: u64) -> usize {
        // `bits` is at least 1 when there are buckets, and nobody asks when there are none.
        (ident.wrapping_mul(self.multiplier) >> (u64::BITS - self.bits.max(1))) as usize
    }

    /// The knote of (ident, filter); the newest, if there is another one that outlives what it was about.
    #[inline]
    pub(crate) fn find(&self, ident: u64, filter: Filter) -> Option<&Knote> {
        let mut at = self.buckets.get(self.bucket(ident))?.as_ref();
        while let Some(knote) = at {
            if knote.ident() == ident && knote.filter() == filter {
                return Some(knote);
            }
            at = knote.next(&self.key);
        }
        None
    }

    /// Makes room for one more knote.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, if there is no room at all; a table that could not grow only gets slower.
    pub(crate) fn reserve(&mut self) -> Result {
        if self.len < self.buckets.len() {
            return Ok(());
        }
        let bits = self.bits + GROWTH_BITS;
        let mut buckets = KVVec::new();
        if let Err(error) = buckets.extend_with(1 << bits, None, GFP_KERNEL_ACCOUNT) {
            return if self.buckets.is_empty() {
                Err(error.into())
            } else {
                Ok(())
            };
        }
        let mut old = core::mem::replace(&mut self.buckets, buckets);
        self.bits = bits;
        for slot in old.iter_mut() {
            let mut chain = slot.take();
            // Backwards, so that each chain keeps its order; most have one knote at most.
            let mut backwards = None;
            while let Some(knote) = chain {
                chain = knote.next_mut(&mut self.key).take();
                if chain.is_none() && backwards.is_none() {
                    self.link(knote);
                    break;
                }
                fill(knote.next_mut(&mut self.key), backwards);
                backwards = Some(knote);
            }
            while let Some(knote) = backwards {
                backwards = knote.next_mut(&mut self.key).take();
                self.link(knote);
            }
        }
        Ok(())
    }

    #[inline]
    fn link(&mut self, knote: ARef<Knote>) {
        let bucket = self.bucket(knote.ident());
        if let Some(slot) = self.buckets.get_mut(bucket) {
            fill(knote.next_mut(&mut self.key), slot.take());
            fill(slot, Some(knote));
        }
    }

    /// Adds a knote, for which [`Table::reserve`] has made room.
    pub(crate) fn insert(&mut self, knote: ARef<Knote>) {
        self.link(knote);
        self.len += 1;
    }

    /// Takes a knote out; false if it is not in the table.
    pub(crate) fn remove(&mut self, knote: &Knote) -> bool {
        self.take(knote.ident(), knote).is_some()
    }

    /// Takes the knote at an address out, if it is in the table; `ident` is its.
    #[inline]
    pub(crate) fn take(&mut self, ident: u64, knote: *const Knote) -> Option<ARef<Knote>> {
        let bucket = self.bucket(ident);
        let slot = self.buckets.get_mut(bucket)?;
        let found = match slot.take() {
            Some(first) if ptr::eq(&*first, knote) => {
                fill(slot, first.next_mut(&mut self.key).take());
                first
            }
            first => {
                fill(slot, first);
                self.take_behind(bucket, knote)?
            }
        };
        self.len -= 1;
        Some(found)
    }

    /// The same for one that is not the first of its chain.
    fn take_behind(&mut self, bucket: usize, knote: *const Knote) -> Option<ARef<Knote>> {
        let mut before = self.buckets.get(bucket)?.as_ref()?;
        loop {
            let next = before.next(&self.key)?;
            if ptr::eq(&**next, knote) {
                break;
            }
            before = next;
        }
        let before = before.clone();
        let found = before.next_mut(&mut self.key).take()?;
        let rest = found.next_mut(&mut self.key).take();
        fill(before.next_mut(&mut self.key), rest);
        Some(found)
    }

    /// Takes any knote out, to take all. Frees the table when it was the last.
    pub(crate) fn pop(&mut self, from: &mut usize) -> Option<ARef<Knote>> {
        while let Some(slot) = self.buckets.get_mut(*from) {
            if let Some(knote) = slot.take() {
                *slot = knote.next_mut(&mut self.key).take();
                self.len -= 1;
                return Some(knote);
            }
            *from += 1;
        }
        self.buckets = KVVec::new();
        self.bits = 0;
        None
    }

    /// Calls `each` with every knote.
    pub(crate) fn for_each<'a>(&'a self, mut each: impl FnMut(&'a ARef<Knote>)) {
        for slot in self.buckets.iter() {
            let mut at = slot.as_ref();
            while let Some(knote) = at {
                each(knote);
                at = knote.next(&self.key);
            }
        }
    }
}
