//! One seeded hash for all tables, so that a run is the same from the same seed; and equality for what is looked up
//! often.
//!
//! Knows nothing of what is hashed.

use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hash};

/// The hash builder of every table of this crate.
pub(crate) type Hashing = FixedState;

pub(crate) fn hashing(seed: u64) -> Hashing {
    FixedState::with_seed(seed)
}

pub(crate) fn hash_one<T: Hash + ?Sized>(hashing: &Hashing, value: &T) -> u64 {
    hashing.hash_one(value)
}

/// Equal. Two empty slices are so without being compared: a comparison of no bytes reads at an address that is none,
/// under a mask, and that takes some processors 130 ns, longer than all the rest of a lookup.
pub(crate) fn alike<T: PartialEq>(some: &[T], others: &[T]) -> bool {
    some.len() == others.len() && (some.is_empty() || some == others)
}

/// [`alike`] for texts.
pub(crate) fn same_text(some: &str, other: &str) -> bool {
    alike(some.as_bytes(), other.as_bytes())
}
