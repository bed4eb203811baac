// SPDX-License-Identifier: GPL-2.0

//! A binary search tree whose nodes have two pointers.
//!
//! The tree is a treap. It is ordered by the keys of its items, and each item is above the items of
//! lower priority. The priority is a hash of the item's address and a secret. Therefore the
//! expected depth is logarithmic for any set of items and any order of insertion, even if an
//! adversary chooses them. A node of the kernel's red-black tree has three pointers, and there may
//! be a million nodes.
//!
//! The tree does not own its items. Operations on a tree of one item are as cheap as those on a
//! list. All operations require the caller's lock (see [`Treap::new`]); they neither sleep nor
//! allocate.

use core::{cell::UnsafeCell, cmp::Ordering, ptr};

/// The links of an item to its two children.
pub(crate) struct Links<T> {
    left: *const T,
    right: *const T,
}

impl<T> Links<T> {
    /// The links of an item that is in no tree.
    pub(crate) const NONE: Self = Links {
        left: ptr::null(),
        right: ptr::null(),
    };

    /// True if the item has no children.
    #[inline]
    fn is_none(&self) -> bool {
        self.left.is_null() && self.right.is_null()
    }
}

/// An item of a tree.
///
/// # Safety
///
/// `links` returns the same valid pointer each time it is called for an item.
pub(crate) unsafe trait Item: Sized {
    /// The key by which the items of a tree are ordered. The keys of a tree's items are distinct.
    type Key;

    /// The links of the item.
    ///
    /// # Safety
    ///
    /// `this` is valid.
    unsafe fn links(this: *const Self) -> *mut Links<Self>;

    /// Compares the key of the item with `key`.
    fn compare(&self, key: &Self::Key) -> Ordering;

    /// The item's key.
    fn key(&self) -> Self::Key;
}

/// The root of a tree, or null. It is written in single stores, so that [`Root::is_empty`] may read
/// it without the tree's lock.
pub(crate) struct Root<T>(UnsafeCell<*const T>);

impl<T> Root<T> {
    /// An empty tree.
    pub(crate) const fn new() -> Self {
        Root(UnsafeCell::new(ptr::null()))
    }

    /// True if the tree is empty. Without the tree's lock the result may be stale, and the load
    /// orders nothing. Such a caller that must not miss an item executes a full barrier before, and
    /// the task that inserts the item executes one after the insertion.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: A single load reads the pointer, which is only compared.
        unsafe { self.0.get().read_volatile() }.is_null()
    }
}

/// A tree whose lock is held.
///
/// # Invariants
///
/// All items of the tree are valid. As long as this value lives, nothing else uses their links or
/// the root.
pub(crate) struct Treap<'a, T: Item> {
    root: &'a Root<T>,
    secret: u64,
}

impl<'a, T: Item> Treap<'a, T> {
    /// # Safety
    ///
    /// The caller holds the tree's lock as long as the result is used. All items of the tree are
    /// valid. `secret` is the same for each use of the tree.
    #[inline]
    pub(crate) unsafe fn new(root: &'a Root<T>, secret: u64) -> Self {
        // INVARIANT: The caller upholds this function's safety contract.
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
        // SAFETY: The type's invariant guarantees that all items and their links are valid.
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
    /// The item is in no tree. It stays valid until it is removed.
    #[inline]
    pub(crate) unsafe fn insert(&mut self, item: &T) {
        let slot = self.root.0.get();
        // SAFETY: The type's invariant and this function's contract guarantee that all items are
        // valid. The slots are the root and the links of items.
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

    /// Adds an item to a tree that is not empty.
    ///
    /// # Safety
    ///
    /// As for [`Treap::insert`].
    #[inline(never)]
    unsafe fn insert_into(&mut self, item: &T) {
        let mut slot = self.root.0.get();
        // SAFETY: The type's invariant and this function's contract guarantee that all items are
        // valid. The slots are the root and the links of items.
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
            // Split the subtree at this slot into the items below the key and those above it.
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

    /// Removes an item. Returns false if it is not in the tree.
    #[inline]
    pub(crate) fn remove(&mut self, item: &T) -> bool {
        let slot = self.root.0.get();
        // SAFETY: The type's invariant guarantees that all items and their links are valid.
        unsafe {
            if ptr::eq(*slot, item) && (*T::links(item)).is_none() {
                slot.write_volatile(ptr::null());
                return true;
            }
        }
        self.remove_from(item)
    }

    /// Removes an item from a tree that has more than one item.
    #[inline(never)]
    fn remove_from(&mut self, item: &T) -> bool {
        let mut slot = self.root.0.get();
        // SAFETY: The type's invariant guarantees that all items and their links are valid.
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
            // Merge the two subtrees of the item, with the higher priority on top.
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

    /// The child slot of `item` under which an item with this key belongs.
    ///
    /// # Safety
    ///
    /// `item` is in the tree.
    #[inline]
    unsafe fn child(item: &T, key: &T::Key) -> *mut *const T {
        // SAFETY: The caller guarantees that the item is in the tree, so it is valid, and so are
        // its links.
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
