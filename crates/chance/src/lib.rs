//! Numbers from a seed, for tests and stories that are random and come again.
//!
//! The numbers of a seed never change (splitmix64), so that a seed in a failure's text means the same case for ever. Nothing
//! that must not be guessed may rest on them. Knows nothing of what is drawn.

/// Pseudo-random numbers from a seed. Neighbouring seeds have nothing in common.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`; 0 if there is none.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.draw() % sides.max(1)
    }

    /// A place below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Any bytes, fewer than `end`.
    pub fn bytes(&mut self, end: usize) -> Vec<u8> {
        let len = self.below(end);
        (0..len).map(|_| self.draw() as u8).collect()
    }
}

/// Makes a type that can do all that a [`Chance`] can, for who wants to draw things of their own with it as well:
///
/// ```
/// chance::named!(Dice);
///
/// impl Dice {
///     fn name(&mut self) -> String {
///         format!("pod-{}", self.below(100))
///     }
/// }
///
/// assert_eq!(Dice::new(7).name(), Dice::new(7).name());
/// ```
#[macro_export]
macro_rules! named {
    ($(#[$meta:meta])* $visible:vis $name:ident) => {
        $(#[$meta])*
        $visible struct $name($crate::Chance);

        impl $name {
            /// The numbers of a seed.
            $visible fn new(seed: u64) -> Self {
                Self($crate::Chance::new(seed))
            }
        }

        impl ::std::ops::Deref for $name {
            type Target = $crate::Chance;

            fn deref(&self) -> &$crate::Chance {
                &self.0
            }
        }

        impl ::std::ops::DerefMut for $name {
            fn deref_mut(&mut self) -> &mut $crate::Chance {
                &mut self.0
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of seed 1234567 that the generator's author published.
    #[test]
    fn the_numbers_of_a_seed_are_those_of_splitmix64() {
        let mut chance = Chance::new(1_234_567);
        let drawn = [(); 5].map(|()| chance.draw());
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn choices_stay_within_their_bounds() {
        let mut chance = Chance::new(3);
        let mut seen = [0; 4];
        for _ in 0..4_000 {
            seen[chance.below(4)] += 1;
            assert!(chance.roll(9) < 9);
            assert!([1, 5].contains(&chance.pick(&[1, 5])));
            assert!(chance.bytes(7).len() < 7);
        }
        assert!(seen.iter().all(|count| (900..1_100).contains(count)));
        assert_eq!((chance.below(0), chance.roll(0)), (0, 0));
        assert!(chance.one_in(1) && chance.one_in(0));
    }
}
