// SPDX-License-Identifier: GPL-2.0

//! Memory: object caches, containers, and reads of memory that other subsystems write concurrently.

pub(crate) mod arrayvec;
pub(crate) mod erased_box;
pub(crate) mod field;
pub(crate) mod hash;
pub(crate) mod memcg;
pub(crate) mod random;
pub(crate) mod slab;
pub(crate) mod total_memory;
pub(crate) mod treap;
pub(crate) mod user_scratch;
