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
    /// The same for the next [`PAIR_BITS`] bits, of which two words mostly have no more.
    pairs: [Pair; 1 << PAIR_BITS],
}

/// What some bits begin with.
#[derive(Clone, Copy)]
struct Pair {
    first: u8,
    second: u8,
    /// How many of the two there are, and the length of their words; 0 if the first is longer than was looked at.
    symbols: u8,
    bits: u8,
}

/// 16 KiB of table, of which names and paths use a few lines.
const PAIR_BITS: usize = 12;

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        words: [0; 257],
        symbols: [0; 257],
        first: [0; BITS_MAX + 1],
        count: [0; BITS_MAX + 1],
        begin: [0; BITS_MAX + 1],
        quick: [(0, 0); 256],
        pairs: [Pair {
            first: 0,
            second: 0,
            symbols: 0,
            bits: 0,
        }; 1 << PAIR_BITS],
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
    code.pairs = pairs(&code.words);
    code
}

const fn pairs(words: &[u32; 257]) -> [Pair; 1 << PAIR_BITS] {
    let mut pairs = [Pair {
        first: 0,
        second: 0,
        symbols: 0,
        bits: 0,
    }; 1 << PAIR_BITS];
    let mut first = 0;
    while first < 256 {
        let bits = BITS[first] as usize;
        if bits <= PAIR_BITS {
            let left = PAIR_BITS - bits;
            let begin = (words[first] as usize) << left;
            let mut tail = 0;
            while tail < 1 << left {
                let pair = &mut pairs[begin + tail];
                (pair.first, pair.symbols, pair.bits) = (first as u8, 1, bits as u8);
                tail += 1;
            }
            let mut second = 0;
            while second < 256 {
                let more = BITS[second] as usize;
                if more <= left {
                    let begin = begin + ((words[second] as usize) << (left - more));
                    let mut tail = 0;
                    while tail < 1 << (left - more) {
                        let pair = &mut pairs[begin + tail];
                        (pair.second, pair.symbols) = (second as u8, 2);
                        pair.bits = (bits + more) as u8;
                        tail += 1;
                    }
                }
                second += 1;
            }
        }
        first += 1;
    }
    pairs
}

/// Appends what `input` stands for.
pub(crate) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let begin = out.len();
    // No word has less than five bits, and two symbols are written at a time.
    out.resize(begin + input.len() * 8 / 5 + 2, 0);
    let decoded = decode_into(input, out.get_mut(begin..).unwrap_or_default());
    out.truncate(begin + decoded.unwrap_or(0));
    decoded.map(drop)
}

/// Answers how many symbols there were.
fn decode_into(mut input: &[u8], room: &mut [u8]) -> Result<usize, HpackError> {
    // The bits to look at next are the highest of `window`, of which `held` are counted. What follows them is 0, or the
    // beginning of `input`.
    let (mut window, mut held, mut at) = (0u64, 0usize, 0usize);
    loop {
        if let Some(next) = input.first_chunk()
            && held < BITS_MAX
        {
            window |= u64::from_be_bytes(*next) >> held;
            let taken = (64 - held) / 8;
            held += taken * 8;
            input = input.get(taken..).unwrap_or_default();
        }
        while held <= 56
            && let Some((byte, rest)) = input.split_first()
        {
            window |= u64::from(*byte) << (56 - held);
            held += 8;
            input = rest;
        }
        while held >= BITS_MAX {
            let pair = CODE.pairs[(window >> (64 - PAIR_BITS)) as usize];
            if pair.bits == 0 {
                let (symbol, bits) = long(window).ok_or(HpackError::Huffman)?;
                put(room, &mut at, symbol);
                window <<= bits;
                held -= bits;
                continue;
            }
            if let Some([first, second]) = room.get_mut(at..at + 2) {
                (*first, *second) = (pair.first, pair.second);
            }
            at += usize::from(pair.symbols);
            window <<= pair.bits;
            held -= usize::from(pair.bits);
        }
        if input.is_empty() {
            return decode_end(window, held, room, at);
        }
    }
}

/// The last bits, which may end within a word.
fn decode_end(
    mut window: u64,
    mut held: usize,
    room: &mut [u8],
    mut at: usize,
) -> Result<usize, HpackError> {
    while held > 0 {
        let (symbol, bits) = CODE.quick[usize::from((window >> 56) as u8)];
        let bits = usize::from(bits);
        if bits > 0 && bits <= held {
            put(room, &mut at, symbol);
            window <<= bits;
            held -= bits;
            continue;
        }
        // Shorter than any word: padding, which is all ones.
        if held < 8 {
            let ones = !(u64::MAX >> held);
            return if window == ones {
                Ok(at)
            } else {
                Err(HpackError::Huffman)
            };
        }
        let (symbol, bits) = long(window).ok_or(HpackError::Huffman)?;
        if bits > held {
            return Err(HpackError::Huffman);
        }
        put(room, &mut at, symbol);
        window <<= bits;
        held -= bits;
    }
    Ok(at)
}

fn put(room: &mut [u8], at: &mut usize, symbol: u8) {
    if let Some(place) = room.get_mut(*at) {
        *place = symbol;
    }
    *at += 1;
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
    fn words_of_all_lengths_meet_at_every_place_of_a_byte() {
        // Steps through all pairs of symbols, long and short, in strings of all lengths.
        let mut symbol = 0u8;
        for len in 0..600 {
            let text: Vec<u8> = (0..len % 67)
                .map(|place| {
                    symbol = symbol.wrapping_mul(5).wrapping_add(1);
                    if place % 3 == len % 3 {
                        symbol
                    } else {
                        b"aeio/-0123456789stcrnlp"[usize::from(symbol) % 23]
                    }
                })
                .collect();
            let mut code = Vec::new();
            encode(&text, &mut code);
            assert_eq!(decoded(&code).as_deref(), Ok(&text[..]));
            // Cut anywhere it is an error, or the beginning.
            for end in 0..code.len() {
                if let Ok(part) = decoded(&code[..end]) {
                    assert!(text.starts_with(&part));
                }
            }
        }
    }

    #[test]
    fn what_is_there_already_stays() {
        let mut code = Vec::new();
        encode(b"more", &mut code);
        let mut out = b"some".to_vec();
        decode(&code, &mut out).unwrap();
        assert_eq!(out, b"somemore");
        assert_eq!(decode(&[0xff; 4], &mut out), Err(HpackError::Huffman));
        assert_eq!(out, b"somemore");
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
