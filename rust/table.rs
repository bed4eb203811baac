// SPDX-License-Identifier: GPL-2.0

//! The knotes of one kqueue by (ident, filter).
//!
//! A hash table that doubles when it is full, so that a lookup costs the same
//! with ten knotes and with a million. Idents are the program's to choose; the
//! hash multiplies by a secret odd number, so that nobody can choose them to
//! collide.

use crate::{
    filter::Filter,
    hook::{random::random, usercopy::Scratch},
    knote::Knote,
    kqueue::Batch, //
};
use kernel::{prelude::*, sync::Arc};

const FIRST_BITS: u32 = 4;

/// All that a kqueue's mutex guards.
pub(crate) struct Table {
    /// Chains, linked by `Body::next`. Empty, or a power of two of them.
    buckets: KVVec<Option<Arc<Knote>>>,
    bits: u32,
    len: usize,
    multiplier: u64,
    /// For the next scan; a scan has it meanwhile.
    pub(crate) batch: Option<Batch>,
    /// Memory of the task that has the mutex.
    pub(crate) scratch: Scratch,
    /// The number of the last scan.
    pub(crate) scan: u64,
}

impl Table {
    /// No knotes; allocates nothing.
    pub(crate) fn new(batch: Batch) -> Self {
        Table {
            buckets: KVVec::new(),
            bits: 0,
            len: 0,
            multiplier: random() | 1,
            batch: Some(batch),
            scratch: Scratch::new(0),
            scan: 0,
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

    /// The knote of (ident, filter).
    pub(crate) fn find(&self, ident: u64, filter: Filter) -> Option<Arc<Knote>> {
        let mut at = self.buckets.get(self.bucket(ident))?.as_ref();
        while let Some(knote) = at {
            if knote.ident() == ident && knote.filter() == filter {
                return Some(knote.clone());
            }
            at = knote.body.access(self).next.as_ref();
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
            let mut chain = slot.take();
            while let Some(knote) = chain {
                chain = knote.body.access_mut(self).next.take();
                self.link(knote);
            }
        }
        Ok(())
    }

    fn link(&mut self, knote: Arc<Knote>) {
        let bucket = self.bucket(knote.ident());
        let Some(slot) = self.buckets.get_mut(bucket) else {
            return;
        };
        let next = slot.take();
        knote.body.access_mut(self).next = next;
        if let Some(slot) = self.buckets.get_mut(bucket) {
            *slot = Some(knote);
        }
    }

    /// Adds a knote, for which [`Table::reserve`] has made room.
    pub(crate) fn insert(&mut self, knote: Arc<Knote>) {
        self.link(knote);
        self.len += 1;
    }

    /// Takes a knote out; false if it is not in the table.
    pub(crate) fn remove(&mut self, knote: &Knote) -> bool {
        let bucket = self.bucket(knote.ident());
        // The chain before the knote is unlinked and linked again: it is short.
        let mut chain = self.buckets.get_mut(bucket).and_then(Option::take);
        let mut found = false;
        while let Some(other) = chain {
            chain = other.body.access_mut(self).next.take();
            if core::ptr::eq(&*other, knote) {
                self.len -= 1;
                found = true;
            } else {
                self.link(other);
            }
        }
        found
    }

    /// Takes any knote out, to take all. Frees the table when it was the last.
    pub(crate) fn pop(&mut self, from: &mut usize) -> Option<Arc<Knote>> {
        while let Some(slot) = self.buckets.get_mut(*from) {
            if let Some(knote) = slot.take() {
                let next = knote.body.access_mut(self).next.take();
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
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Arc<Knote>)) {
        for slot in self.buckets.iter() {
            let mut at = slot.as_ref();
            while let Some(knote) = at {
                each(knote);
                at = knote.body.access(self).next.as_ref();
            }
        }
    }
}
