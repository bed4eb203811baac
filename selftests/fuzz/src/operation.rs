// SPDX-License-Identifier: GPL-2.0

//! Random lists of operations, for the rounds that can be minimised.

use crate::random::Random;

/// An operation of a round.
pub trait Operation: Sized {
    /// Chooses one operation.
    fn random(random: &mut Random) -> Self;

    /// Returns the list of `steps` operations that follows from the seed.
    fn generate(seed: u64, steps: usize) -> Vec<Self> {
        let mut random = Random::new(seed);
        (0..steps).map(|_| Self::random(&mut random)).collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::Operation;
    use std::{collections::HashSet, fmt::Debug, mem::discriminant};

    /// Checks that a list follows from its seed, that a shorter list is the beginning of a longer
    /// one, and that a long list has operations of all kinds.
    pub fn check<T: Operation + Debug + PartialEq>(kinds: usize) {
        assert_eq!(T::generate(3, 500), T::generate(3, 500));
        assert_eq!(T::generate(3, 500)[..100], T::generate(3, 100)[..]);
        assert_ne!(T::generate(3, 100), T::generate(4, 100));
        let list = T::generate(1, 20_000);
        let found: HashSet<_> = list.iter().map(discriminant).collect();
        assert_eq!(found.len(), kinds);
    }
}
