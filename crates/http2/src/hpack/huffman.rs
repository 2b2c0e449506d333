//! The Huffman code of RFC 7541, appendix B. The code is canonical, so that the lengths of its words say everything.

use super::HpackError;

/// Bits of each symbol's code word; the last is the end of string, which may not be sent.
#[rustfmt::skip]
const BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const BITS_MAX: usize = 30;
const END_OF_STRING: u16 = 256;

/// Everything that follows from [`BITS`].
struct Code {
    /// Each symbol's word.
    words: [u32; 257],
    /// The symbols in the order of their words.
    symbols: [u16; 257],
    /// For each length: its first word, how many there are, and where their symbols begin.
    first: [u32; BITS_MAX + 1],
    count: [u32; BITS_MAX + 1],
    begin: [u16; BITS_MAX + 1],
    /// What the next eight bits begin with: a symbol and the length of its word, 0 if that is longer than eight.
    quick: [(u8, u8); 256],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        words: [0; 257],
        symbols: [0; 257],
        first: [0; BITS_MAX + 1],
        count: [0; BITS_MAX + 1],
        begin: [0; BITS_MAX + 1],
        quick: [(0, 0); 256],
    };
    let (mut word, mut place, mut bits) = (0u32, 0usize, 1usize);
    while bits <= BITS_MAX {
        word <<= 1;
        code.first[bits] = word;
        code.begin[bits] = place as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if BITS[symbol] as usize == bits {
                code.words[symbol] = word;
                code.symbols[place] = symbol as u16;
                if bits <= 8 {
                    let mut tail = 0;
                    while tail < 1usize << (8 - bits) {
                        code.quick[((word as usize) << (8 - bits)) + tail] =
                            (symbol as u8, bits as u8);
                        tail += 1;
                    }
                }
                code.count[bits] += 1;
                word += 1;
                place += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    code
}

/// Appends what `input` stands for.
pub(crate) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    // The bits to look at next are the highest of `window`, of which `held` are real.
    let (mut window, mut held) = (0u64, 0usize);
    let mut input = input.iter();
    loop {
        while held <= 56 {
            let Some(byte) = input.next() else { break };
            window |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        let (symbol, bits) = CODE.quick[usize::from((window >> 56) as u8)];
        let bits = usize::from(bits);
        if bits > 0 && bits <= held {
            out.push(symbol);
            window <<= bits;
            held -= bits;
            continue;
        }
        // Shorter than any word: padding, which is all ones.
        if held < 8 {
            let ones = !(u64::MAX >> held);
            return if window == ones {
                Ok(())
            } else {
                Err(HpackError::Huffman)
            };
        }
        let (symbol, bits) = long(window).ok_or(HpackError::Huffman)?;
        if bits > held {
            return Err(HpackError::Huffman);
        }
        out.push(symbol);
        window <<= bits;
        held -= bits;
    }
}

/// The word of more than eight bits that `window` begins with.
fn long(window: u64) -> Option<(u8, usize)> {
    for bits in 9..=BITS_MAX {
        let word = (window >> (64 - bits)) as u32;
        let (first, count) = (*CODE.first.get(bits)?, *CODE.count.get(bits)?);
        let Some(distance) = word.checked_sub(first) else {
            continue;
        };
        if distance < count {
            let place = usize::from(*CODE.begin.get(bits)?) + distance as usize;
            let symbol = *CODE.symbols.get(place)?;
            return (symbol != END_OF_STRING).then_some((symbol as u8, bits));
        }
    }
    None
}

/// How many bytes the code of `input` takes.
pub(crate) fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input
        .iter()
        .map(|byte| usize::from(BITS[usize::from(*byte)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends the code of `input`.
pub(crate) fn encode(input: &[u8], out: &mut Vec<u8>) {
    let (mut window, mut held) = (0u64, 0u32);
    for byte in input {
        let symbol = usize::from(*byte);
        let bits = u32::from(BITS[symbol]);
        window = (window << bits) | u64::from(CODE.words[symbol]);
        held += bits;
        while held >= 8 {
            held -= 8;
            out.push((window >> held) as u8);
        }
    }
    if held > 0 {
        let padding = 8 - held;
        out.push(((window << padding) as u8) | ((1u8 << padding) - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn every_byte_survives_alone_and_among_all_others() {
        let all: Vec<u8> = (0..=255).collect();
        for text in all.iter().map(std::slice::from_ref).chain([&all[..]]) {
            let mut code = Vec::new();
            encode(text, &mut code);
            assert_eq!(code.len(), encoded_len(text));
            assert_eq!(decoded(&code).as_deref(), Ok(text));
        }
    }

    #[test]
    fn padding_is_ones_and_shorter_than_a_byte() {
        // "0" is 00000, so that three bits of padding follow.
        assert_eq!(decoded(&[0b0000_0111]).as_deref(), Ok(&b"0"[..]));
        assert_eq!(decoded(&[0b0000_0110]), Err(HpackError::Huffman));
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(HpackError::Huffman));
    }

    #[test]
    fn the_end_of_string_may_not_be_sent() {
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(HpackError::Huffman));
    }
}
