//! Ways to spoil bytes, and how many cases a test makes.

chance::named!(
    /// Pseudo-random numbers from a seed, and ways to spoil bytes with them.
    #[derive(Clone, Debug)]
    pub Chance
);

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
