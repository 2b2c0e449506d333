//! One seeded hash for all tables, so that a run is the same from the same seed.
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
