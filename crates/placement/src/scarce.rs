//! Which shapes of nodes offer a resource that not all have: where each node has one of its own name, a class that
//! asks for one need not ask a million shapes.
//!
//! Does not know how much of it they offer, or who asks.

use crate::hashing::Hashing;
use crate::intern::Word;
use hashbrown::HashMap;

/// A shape and the generation of its number.
type Named = (u32, u32);

#[derive(Debug, Default)]
struct Offer {
    /// Some may be gone: their numbers name others now, or none.
    shapes: Vec<Named>,
    /// How many are not.
    there: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Scarce {
    offers: HashMap<Word, Offer, Hashing>,
}

/// Numbers of shapes.
#[derive(Debug, Default)]
pub(crate) struct ShapeSet(Vec<u64>);

impl ShapeSet {
    /// Is the shape one of them?
    pub(crate) fn has(&self, shape: u32) -> bool {
        let word = self.0.get(shape as usize / 64);
        word.is_some_and(|word| word >> (shape % 64) & 1 != 0)
    }

    fn add(&mut self, shape: u32) {
        let at = shape as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (shape % 64);
    }
}

impl Scarce {
    pub(crate) fn new(hashing: Hashing) -> Scarce {
        Scarce {
            offers: HashMap::with_hasher(hashing),
        }
    }

    /// A shape that offers these has come.
    pub(crate) fn add(&mut self, resources: &[Word], shape: Named) {
        for &resource in resources {
            let offer = self.offers.entry(resource).or_default();
            offer.shapes.push(shape);
            offer.there += 1;
        }
    }

    /// A shape that offered these has gone; who is left, `there` says.
    pub(crate) fn remove(
        &mut self,
        resources: impl Iterator<Item = Word>,
        there: &dyn Fn(Named) -> bool,
    ) {
        for resource in resources {
            let Some(offer) = self.offers.get_mut(&resource) else {
                continue;
            };
            offer.there -= 1;
            if offer.there == 0 {
                self.offers.remove(&resource);
            } else if offer.shapes.len() > 2 * offer.there {
                offer.shapes.retain(|shape| there(*shape));
            }
        }
    }

    /// How many shapes offer it.
    pub(crate) fn shapes_with(&self, resource: Word) -> usize {
        self.offers.get(&resource).map_or(0, |offer| offer.there)
    }

    /// At least all shapes that offer it.
    pub(crate) fn offering(&self, resource: Word) -> ShapeSet {
        let mut shapes = ShapeSet::default();
        let offer = self.offers.get(&resource);
        for &(shape, _) in offer.into_iter().flat_map(|offer| &offer.shapes) {
            shapes.add(shape);
        }
        shapes
    }
}
