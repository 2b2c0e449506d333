//! Numbers from a seed, ways to spoil bytes, and how many cases a test makes.

/// Pseudo-random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

/// Numbers at which readers break.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

impl Chance {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Any bytes, fewer than `end`.
    pub fn bytes(&mut self, end: usize) -> Vec<u8> {
        let len = self.below(end);
        (0..len).map(|_| self.draw() as u8).collect()
    }

    /// A number at which readers break, or any.
    pub fn edge(&mut self) -> u64 {
        match self.below(EDGES.len() + 2) {
            any if any >= EDGES.len() => self.draw(),
            edge => EDGES.get(edge).copied().unwrap_or_default(),
        }
    }

    /// Changes some bytes in one of the ways that bytes go wrong.
    pub fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        let to = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(9) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            2 => {
                let edge = self.edge() as u8;
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = edge);
            }
            3 => {
                let width = [1, 2, 4, 8].get(self.below(4)).copied().unwrap_or(1);
                let edge = self.edge();
                let number = if self.one_in(2) {
                    edge.to_le_bytes()
                } else {
                    (edge << (64 - 8 * width)).to_be_bytes()
                };
                let number = number.get(..width).unwrap_or_default();
                for (place, byte) in bytes.iter_mut().skip(at).zip(number) {
                    *place = *byte;
                }
            }
            4 => drop(bytes.drain(at..to)),
            5 => {
                let again: Vec<u8> = bytes.get(at..to).unwrap_or_default().to_vec();
                let place = self.below(bytes.len() + 1);
                bytes.splice(place..place, again);
            }
            6 => {
                let new = self.bytes(16);
                bytes.splice(at..at, new);
            }
            7 => bytes.truncate(at),
            _ => {
                let other: Vec<u8> = bytes.get(at..to).unwrap_or_default().to_vec();
                let place = self.below(bytes.len());
                for (place, byte) in bytes.iter_mut().skip(place).zip(other) {
                    *place = byte;
                }
            }
        }
    }
}

/// Tells which case it was, should it fail.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "case {0} failed: FUZZ_SEED={0} FUZZ_CASES=1 runs it alone",
                self.0
            );
        }
    }
}

/// Makes `usual` cases, or `FUZZ_CASES`, each from a seed of its own; the first seed is 0, or `FUZZ_SEED`.
pub fn cases(usual: u64, mut case: impl FnMut(&mut Chance)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("FUZZ_SEED").unwrap_or(0);
    for seed in first..first + number("FUZZ_CASES").unwrap_or(usual) {
        let _told = Told(seed);
        case(&mut Chance::new(seed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spoilt_whatever_they_are() {
        let mut changed = 0;
        cases(2_000, |chance| {
            let before = chance.bytes(40);
            let mut bytes = before.clone();
            chance.spoil(&mut bytes);
            assert!(bytes.len() <= before.len() + 64);
            changed += u32::from(bytes != before);
        });
        assert!(changed > 1_000, "{changed}");
    }

    #[test]
    fn a_seed_is_always_the_same_case() {
        let draw = |seed| {
            (0..5)
                .map({
                    let mut chance = Chance::new(seed);
                    move |_| chance.draw()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
