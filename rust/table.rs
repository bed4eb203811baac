// SPDX-License-Identifier: GPL-2.0

//! The knotes of one kqueue by (ident, filter).
//!
//! A hash table that doubles when it is full, so that a lookup costs the same
//! with ten knotes and with a million. Idents are the program's to choose; the
//! hash multiplies by a secret odd number, so that nobody can choose them to
//! collide.

use crate::{
    filter::Filter,
    hook::{
        knote::{Key, Keyed},
        random::random,
        usercopy::Scratch, //
    },
    knote::Knote, //
};
use kernel::{prelude::*, sync::aref::ARef};

const FIRST_BITS: u32 = 4;

/// All that a kqueue's mutex guards.
pub(crate) struct Table {
    key: Key<Table>,
    /// Chains, linked by `Body::next`. Empty, or a power of two of them.
    buckets: KVVec<Option<ARef<Knote>>>,
    bits: u32,
    len: usize,
    multiplier: u64,
    /// Memory of the task that has the mutex.
    pub(crate) scratch: Scratch,
}

/// Puts a value into a slot that has none, so that there is nothing to drop.
#[inline]
fn fill(slot: &mut Option<ARef<Knote>>, value: Option<ARef<Knote>>) {
    let before = core::mem::replace(slot, value);
    debug_assert!(before.is_none());
    core::mem::forget(before);
}

impl Keyed for Table {
    #[inline]
    fn key(&self) -> &Key<Self> {
        &self.key
    }
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
            scratch: Scratch::new(0),
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

    /// Takes the knote of (ident, filter) out, for a while: it is to be put back by
    /// [`Table::give_back`], or ended.
    #[inline]
    pub(crate) fn lend(&mut self, ident: u64, filter: Filter) -> Option<ARef<Knote>> {
        let bucket = self.bucket(ident);
        let first = self.buckets.get(bucket)?.as_deref()?;
        if first.ident() == ident && first.filter() == filter {
            let knote = self.buckets.get_mut(bucket)?.take()?;
            let next = knote.body_mut(self).next.take();
            fill(self.buckets.get_mut(bucket)?, next);
            return Some(knote);
        }
        self.extract(bucket, |knote| {
            knote.ident() == ident && knote.filter() == filter
        })
    }

    /// Puts a knote back that was lent.
    #[inline]
    pub(crate) fn give_back(&mut self, knote: ARef<Knote>) {
        self.link(knote);
    }

    /// A knote that was lent has ended.
    pub(crate) fn keep_out(&mut self) {
        self.len -= 1;
    }

    /// Takes the first out of the chain that `is` it. Those before it are unlinked and linked again, in
    /// their order: chains are short.
    fn extract(&mut self, bucket: usize, is: impl Fn(&Knote) -> bool) -> Option<ARef<Knote>> {
        let mut chain = self.buckets.get_mut(bucket)?.take();
        let mut before = None;
        let mut found = None;
        while let Some(knote) = chain {
            chain = knote.body_mut(self).next.take();
            if is(&knote) {
                found = Some(knote);
                break;
            }
            knote.body_mut(self).next = before;
            before = Some(knote);
        }
        *self.buckets.get_mut(bucket)? = chain;
        while let Some(knote) = before {
            before = knote.body_mut(self).next.take();
            self.link(knote);
        }
        found
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
        let bits = (self.bits + 1).max(FIRST_BITS);
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
            // Backwards, so that each chain keeps its order.
            let mut chain = slot.take();
            let mut backwards = None;
            while let Some(knote) = chain {
                chain = core::mem::replace(&mut knote.body_mut(self).next, backwards);
                backwards = Some(knote);
            }
            while let Some(knote) = backwards {
                backwards = knote.body_mut(self).next.take();
                self.link(knote);
            }
        }
        Ok(())
    }

    #[inline]
    fn link(&mut self, knote: ARef<Knote>) {
        let bucket = self.bucket(knote.ident());
        let Some(slot) = self.buckets.get_mut(bucket) else {
            return;
        };
        let next = slot.take();
        fill(&mut knote.body_mut(self).next, next);
        if let Some(slot) = self.buckets.get_mut(bucket) {
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
        let bucket = self.bucket(knote.ident());
        let found = self.extract(bucket, |other| core::ptr::eq(other, knote));
        if found.is_some() {
            self.len -= 1;
        }
        found.is_some()
    }

    /// Takes any knote out, to take all. Frees the table when it was the last.
    pub(crate) fn pop(&mut self, from: &mut usize) -> Option<ARef<Knote>> {
        while let Some(slot) = self.buckets.get_mut(*from) {
            if let Some(knote) = slot.take() {
                let next = knote.body_mut(self).next.take();
                if let Some(slot) = self.buckets.get_mut(*from) {
                    *slot = next;
                }
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
    pub(crate) fn for_each(&self, mut each: impl FnMut(&ARef<Knote>)) {
        for slot in self.buckets.iter() {
            let mut at = slot.as_ref();
            while let Some(knote) = at {
                each(knote);
                at = knote.body(self).next.as_ref();
            }
        }
    }
}
