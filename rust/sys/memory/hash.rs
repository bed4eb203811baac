// SPDX-License-Identifier: GPL-2.0

//! Hashes of addresses.

/// The top bits of a hash of an object's address.
#[inline]
pub(crate) fn hash(object: usize, bits: u32) -> usize {
    // Objects come from slabs, so the low bits of their addresses carry little information.
    // The factor is 2^64 divided by the golden ratio.
    (object as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (u64::BITS - bits)
}
