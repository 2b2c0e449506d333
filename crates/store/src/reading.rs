//! How the owner of a collection reads its values, so that the store can keep a sum over them and find watchers by what
//! is written in them.
//!
//! The store itself knows no format: it calls these functions, under the collection's lock, and believes them.

use kv::Revision;

/// Functions of one version of a key. Equal arguments must give equal answers, for ever; both take some tens of
/// nanoseconds, because writers wait meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What this version adds to [`crate::Standing::weight`]: the bytes that its owner needs to tell it.
    pub weigh: fn(value: &[u8], modified: Revision) -> u64,
    /// Calls `found` with each facet of a key with this value: a number that [`crate::Interest::Facet`] finds it by. Two
    /// meanings under one number cost a look, nothing else. Answers how many bytes in front decide: values of the
    /// same key that agree in so many have the same facets.
    pub facets: Facets,
}

/// Key, value, and who is told each facet.
pub type Facets = fn(key: &[u8], value: &[u8], found: &mut dyn FnMut(u64)) -> usize;

/// Where a collection stands: all of it belongs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The revision the store is at, with every write of the collection up to it applied.
    pub revision: Revision,
    /// Keys that exist.
    pub keys: usize,
    /// The sum of [`Reading::weigh`] over them; 0 if nobody said how to read them.
    pub weight: u64,
}
