//! What a verb needs to know about the moment it runs in: time, user and randomness, all handed in.
//!
//! It reads no clock and draws no random numbers itself, so that every verb can be replayed.

/// The moment and the caller of one verb.
pub struct Context<'a> {
    /// Now, in microseconds since the Unix epoch.
    pub now_micros: i64,
    /// Who asks.
    pub user: &'a str,
    /// The source of object UIDs and name suffixes.
    pub random: &'a mut dyn FnMut() -> u64,
}

/// Letters of generated names: no vowels (no words) and none that look like digits.
const SUFFIX_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters appended to `generateName`.
const SUFFIX_CHARS: usize = 5;
/// The longest prefix kept, so that the whole is at most 63 long.
const PREFIX_BYTES_MAX: usize = 63 - SUFFIX_CHARS;

impl Context<'_> {
    /// Now as metadata writes it, in whole seconds.
    pub(crate) fn now_seconds_text(&self) -> String {
        meta::time::format_seconds(self.now_micros)
    }

    /// A random UUID, version 4.
    pub(crate) fn uid(&mut self) -> String {
        let high = (self.random)() & !0xf000 | 0x4000;
        let low = (self.random)() & !(0xc << 60) | (0x8 << 60);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// A name made from `generateName`.
    pub(crate) fn generated_name(&mut self, prefix: &str) -> String {
        let mut cut = prefix.len().min(PREFIX_BYTES_MAX);
        while !prefix.is_char_boundary(cut) {
            cut -= 1;
        }
        let mut name = prefix[..cut].to_owned();
        for _ in 0..SUFFIX_CHARS {
            let pick = ((self.random)() % SUFFIX_LETTERS.len() as u64) as usize;
            name.push(char::from(SUFFIX_LETTERS[pick]));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_a_version_4_uuid() {
        let mut random = || u64::MAX;
        let mut ctx = Context {
            now_micros: 0,
            user: "",
            random: &mut random,
        };
        assert_eq!(ctx.uid(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let mut random = || 0;
        let mut ctx = Context {
            now_micros: 0,
            user: "",
            random: &mut random,
        };
        assert_eq!(ctx.uid(), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn generated_names_keep_58_characters_of_the_prefix() {
        let mut next = 0;
        let mut random = || {
            next += 1;
            next - 1
        };
        let mut ctx = Context {
            now_micros: 0,
            user: "",
            random: &mut random,
        };
        assert_eq!(ctx.generated_name("web-"), "web-bcdfg");
        assert_eq!(ctx.generated_name(&"a".repeat(80)).len(), 63);
        assert!(ctx.generated_name(&"ä".repeat(80)).len() <= 63);
    }
}
