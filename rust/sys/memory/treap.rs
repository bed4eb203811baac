// SPDX-License-Identifier: GPL-2.0

//! A search tree whose nodes have two pointers.
//!
//! The tree is a treap: it is ordered by the items' keys, and each item is above those whose
//! priority is lower. The priority is a hash of the item's address with a secret, so whatever is
//! put into the tree and in whatever order, its depth is logarithmic in all probability. The
//! kernel's red-black tree has three pointers for each node, of which there may be a million.
//!
//! The tree owns nothing. A tree of one item costs as little as a list.

use core::{cell::UnsafeCell, cmp::Ordering, ptr};

/// The pointers of an item.
pub(crate) struct Links<T> {
    left: *const T,
    right: *const T,
}

impl<T> Links<T> {
    /// Those of an item that is in no tree.
    pub(crate) const NONE: Self = Links {
        left: ptr::null(),
        right: ptr::null(),
    };

    /// True if there is nothing below.
    #[inline]
    fn is_none(&self) -> bool {
        self.left.is_null() && self.right.is_null()
    }
}

/// An item of a tree.
///
/// # Safety
///
/// `links` gives the same valid pointer whenever it is asked for an item.
pub(crate) unsafe trait Item: Sized {
    /// What the items of a tree are ordered by. No two of them are equal.
    type Key;

    /// The item's pointers.
    ///
    /// # Safety
    ///
    /// `this` is valid.
    unsafe fn links(this: *const Self) -> *mut Links<Self>;

    /// How the item's key compares with `key`.
    fn compare(&self, key: &Self::Key) -> Ordering;

    /// The item's key.
    fn key(&self) -> Self::Key;
}

/// The root of a tree, or null. It is written at once, so that it may be compared with null without
/// the lock of the tree.
pub(crate) struct Root<T>(UnsafeCell<*const T>);

impl<T> Root<T> {
    /// An empty tree.
    pub(crate) const fn new() -> Self {
        Root(UnsafeCell::new(ptr::null()))
    }

    /// True if the tree is empty, as far as the caller can know who does not hold its lock.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: The pointer is read at once, and only compared.
        unsafe { self.0.get().read_volatile() }.is_null()
    }
}

/// A tree whose lock is held.
///
/// # Invariants
///
/// All items of the tree are valid, and nobody else uses their links or the root for as long as
/// this lives.
pub(crate) struct Treap<'a, T: Item> {
    root: &'a Root<T>,
    secret: u64,
}

impl<'a, T: Item> Treap<'a, T> {
    /// # Safety
    ///
    /// The lock of the tree is held for as long as the result is used, and all items of the tree
    /// are valid. `secret` is the same for each use of the tree.
    #[inline]
    pub(crate) unsafe fn new(root: &'a Root<T>, secret: u64) -> Self {
        // INVARIANT: By this function's contract.
        Treap { root, secret }
    }

    #[inline]
    fn priority(&self, item: *const T) -> u64 {
        // The upper half of the product depends on all bits of the address.
        (item.addr() as u64)
            .wrapping_mul(self.secret)
            .rotate_right(u64::BITS / 2)
    }

    /// The first item whose key is not less than `key`.
    pub(crate) fn lower_bound(&self, key: &T::Key) -> Option<&T> {
        let mut best = ptr::null::<T>();
        // SAFETY: By the type's invariant all items are valid, and so are their links.
        unsafe {
            let mut at = *self.root.0.get();
            while let Some(item) = at.as_ref() {
                let links = T::links(at);
                if item.compare(key) == Ordering::Less {
                    at = (*links).right;
                } else {
                    best = at;
                    at = (*links).left;
                }
            }
            best.as_ref()
        }
    }

    /// Adds an item.
    ///
    /// # Safety
    ///
    /// The item is in no tree. It stays valid until it was removed.
    #[inline]
    pub(crate) unsafe fn insert(&mut self, item: &T) {
        let slot = self.root.0.get();
        // SAFETY: By the type's invariant and this function's contract all that is followed is
        // valid; the slots are the root and links of items.
        unsafe {
            let links = T::links(item);
            *links = Links::NONE;
            if (*slot).is_null() {
                slot.write_volatile(item);
            } else {
                self.insert_into(item);
            }
        }
    }

    /// The same for a tree that is not empty.
    ///
    /// # Safety
    ///
    /// As [`Treap::insert`].
    #[inline(never)]
    unsafe fn insert_into(&mut self, item: &T) {
        let mut slot = self.root.0.get();
        // SAFETY: As above.
        unsafe {
            let links = T::links(item);
            let key = item.key();
            let priority = self.priority(item);
            while let Some(other) = (*slot).as_ref() {
                if self.priority(other) < priority {
                    break;
                }
                slot = Self::child(other, &key);
            }
            let mut rest = *slot;
            slot.write_volatile(item);
            // What was there is divided into what is less and what is more.
            let (mut less, mut more) = (&raw mut (*links).left, &raw mut (*links).right);
            while let Some(other) = rest.as_ref() {
                if other.compare(&key) == Ordering::Less {
                    *less = rest;
                    less = &raw mut (*T::links(rest)).right;
                    rest = *less;
                } else {
                    *more = rest;
                    more = &raw mut (*T::links(rest)).left;
                    rest = *more;
                }
            }
            *less = ptr::null();
            *more = ptr::null();
        }
    }

    /// Takes an item out. False if it is not in the tree.
    #[inline]
    pub(crate) fn remove(&mut self, item: &T) -> bool {
        let slot = self.root.0.get();
        // SAFETY: By the type's invariant all items are valid, and so are their links.
        unsafe {
            if ptr::eq(*slot, item) && (*T::links(item)).is_none() {
                slot.write_volatile(ptr::null());
                return true;
            }
        }
        self.remove_from(item)
    }

    /// The same for a tree that has others.
    #[inline(never)]
    fn remove_from(&mut self, item: &T) -> bool {
        let mut slot = self.root.0.get();
        // SAFETY: As above.
        unsafe {
            let key = item.key();
            while !ptr::eq(*slot, item) {
                let Some(other) = (*slot).as_ref() else {
                    return false;
                };
                slot = Self::child(other, &key);
            }
            let Links {
                mut left,
                mut right,
            } = ptr::replace(T::links(item), Links::NONE);
            // What was below it is joined, the higher priority first.
            loop {
                if left.is_null() || right.is_null() {
                    slot.write_volatile(if left.is_null() { right } else { left });
                    return true;
                }
                if self.priority(left) > self.priority(right) {
                    slot.write_volatile(left);
                    slot = &raw mut (*T::links(left)).right;
                    left = *slot;
                } else {
                    slot.write_volatile(right);
                    slot = &raw mut (*T::links(right)).left;
                    right = *slot;
                }
            }
        }
    }

    /// The slot below an item of the tree in which an item with that key is.
    ///
    /// # Safety
    ///
    /// `item` is in the tree.
    #[inline]
    unsafe fn child(item: &T, key: &T::Key) -> *mut *const T {
        // SAFETY: The item is valid, and so are its links.
        unsafe {
            let links = T::links(item);
            if item.compare(key) == Ordering::Less {
                &raw mut (*links).right
            } else {
                &raw mut (*links).left
            }
        }
    }
}
