//! The fixed parts of the format: headers, flags, the meta page. Numbers are little-endian, as bbolt writes them on
//! every machine that etcd is built for.

use crate::limits::{PAGE_BYTES_MAX, PAGE_BYTES_MIN};

/// Bytes before the elements of a page: number u64, flags u16, count u16, overflow u32.
pub(crate) const PAGE_HEADER_BYTES: usize = 16;
/// Bytes of an element. Branch: position u32, key length u32, page u64. Leaf: flags, position, key and value length, u32.
pub(crate) const ELEMENT_BYTES: usize = 16;
/// Bytes of a bucket's value before an inline page: root page u64, sequence u64.
pub(crate) const BUCKET_BYTES: usize = 16;
/// Bytes of a meta page after its header.
pub(crate) const META_BYTES: usize = 64;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// Flag of a leaf element whose value is a bucket.
pub(crate) const IS_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) number: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    /// Pages that follow and belong to it.
    pub(crate) overflow: u32,
}

impl PageHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        Some(PageHeader {
            number: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }
}

/// What a meta page says. The valid one of the two with the newer transaction counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// Pages from this one on are not in use.
    pub(crate) high_water: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// From a meta page, header included; or what is wrong with it.
    pub(crate) fn parse(page: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "its meta page is cut short";
        let header = PageHeader::parse(page).ok_or(SHORT)?;
        let meta = page
            .get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + META_BYTES)
            .ok_or(SHORT)?;
        let word = |at| u32_at(meta, at).ok_or(SHORT);
        let number = |at| u64_at(meta, at).ok_or(SHORT);
        if word(0)? != MAGIC {
            return Err("its meta page has another magic number");
        }
        if word(4)? != VERSION {
            return Err("its format is not version 2");
        }
        if number(56)? != fnv64a(meta.get(..56).ok_or(SHORT)?) {
            return Err("the checksum of its meta page is wrong");
        }
        if header.flags & META == 0 {
            return Err("its meta page says it is none");
        }
        let page_bytes = word(8)?;
        let fits = (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&u64::from(page_bytes));
        if !fits || !page_bytes.is_power_of_two() {
            return Err("its page size is none that bbolt uses");
        }
        Ok(Meta {
            page_bytes,
            root: number(16)?,
            freelist: number(32)?,
            high_water: number(40)?,
            transaction: number(48)?,
        })
    }

    /// The whole page `number`, 0 or 1.
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        let mut page = Vec::with_capacity(self.page_bytes as usize);
        let header = PageHeader {
            number,
            flags: META,
            count: 0,
            overflow: 0,
        };
        header.encode(&mut page);
        for word in [MAGIC, VERSION, self.page_bytes, 0] {
            page.extend_from_slice(&word.to_le_bytes());
        }
        let sequence = 0;
        let numbers = [
            self.root,
            sequence,
            self.freelist,
            self.high_water,
            self.transaction,
        ];
        for number in numbers {
            page.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv64a(page.get(PAGE_HEADER_BYTES..).unwrap_or_default());
        page.extend_from_slice(&checksum.to_le_bytes());
        page.resize(self.page_bytes as usize, 0);
        page
    }
}

fn fnv64a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_page_comes_back_and_a_flipped_bit_is_noticed() {
        let meta = Meta {
            page_bytes: 4096,
            root: 9,
            freelist: 2,
            high_water: 12,
            transaction: 7,
        };
        let page = meta.encode(1);
        assert_eq!(page.len(), 4096);
        assert_eq!(Meta::parse(&page), Ok(meta));
        for bit in 0..META_BYTES * 8 {
            let mut bad = page.clone();
            bad[PAGE_HEADER_BYTES + bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::parse(&bad).is_err(), "bit {bit}");
        }
        assert!(Meta::parse(&page[..70]).is_err());
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(fnv64a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
