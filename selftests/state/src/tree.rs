// SPDX-License-Identifier: GPL-2.0

//! The module's search tree (`sys/memory/treap.rs`), compared with that of the standard library.

use crate::treap::{Item, Links, Root, Treap};
use std::{cell::UnsafeCell, cmp::Ordering, collections::BTreeMap};

struct Number {
    number: u32,
    links: UnsafeCell<Links<Number>>,
}

// SAFETY: A number has its own links.
unsafe impl Item for Number {
    type Key = u32;

    unsafe fn links(this: *const Self) -> *mut Links<Self> {
        // SAFETY: `this` is valid.
        unsafe { (*this).links.get() }
    }

    fn compare(&self, key: &u32) -> Ordering {
        self.number.cmp(key)
    }

    fn key(&self) -> u32 {
        self.number
    }
}

/// Adds, removes and finds entries at random, and then removes all entries from the front.
#[test]
fn against_a_b_tree() {
    let root = Root::new();
    // SAFETY: One thread; what is in the tree is in the map, so it is valid.
    let mut tree = unsafe { Treap::<Number>::new(&root, 0x9e37_79b9_7f4a_7c15) };
    let mut map = BTreeMap::new();
    let mut random = 1u64;
    let mut below = |end: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((random >> 33) % end) as u32
    };
    for round in 0..100_000u32 {
        let number = below(700);
        if let Some(item) = map.remove(&number) {
            let item: Box<Number> = item;
            assert!(tree.remove(&item));
            assert!(!tree.remove(&item));
        } else {
            let links = UnsafeCell::new(Links::NONE);
            let item = Box::new(Number { number, links });
            // SAFETY: It is in no tree, and stays in the map for as long as it is in the tree.
            unsafe { tree.insert(&item) };
            map.insert(number, item);
        }
        assert_eq!(root.is_empty(), map.is_empty());
        let from = below(700);
        let expected = map.range(from..).next().map(|(number, _)| *number);
        assert_eq!(tree.lower_bound(&from).map(Item::key), expected, "{round}");
    }
    for (number, item) in map {
        assert_eq!(tree.lower_bound(&0).map(Item::key), Some(number));
        assert!(tree.remove(&item));
    }
    assert!(root.is_empty());
}
