//! Parts of a state's members: the first alone, the next 15, the next 240, and so on sixteenfold.
//!
//! A list of states can be drawn from, each of their members as likely as any other, without counting members: a state
//! stands in the list of each part that it has members in, and an entry of that list for as many members as the part has
//! room for. Who draws a member that is not there draws again; at worst one in sixteen is. A state must only be
//! listed again when it grows into another part. Knows no states.

/// Parts there are: with the last all members that 32 bits can number.
pub(crate) const PARTS: usize = 8;
const BITS: u32 = 4;

/// The part of the member of that number.
fn part_of(member: u32) -> usize {
    match member {
        0 => 0,
        _ => ((member.ilog2() / BITS) as usize + 1).min(PARTS - 1),
    }
}

/// Parts that so many members have, a bit each.
pub(crate) fn of_size(members: u32) -> u8 {
    match members.checked_sub(1) {
        None => 0,
        Some(last) => u8::MAX >> (PARTS - 1 - part_of(last)),
    }
}

/// Numbers of the parts with a bit set.
pub(crate) fn each(mut parts: u8) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let part = parts.trailing_zeros() as usize;
        parts &= parts.wrapping_sub(1);
        (part < PARTS).then_some(part)
    })
}

/// The first member of a part.
pub(crate) fn first_member(part: usize) -> u32 {
    match part {
        0 => 0,
        _ => 1 << (BITS * (part as u32 - 1)),
    }
}

/// How many members a part has room for.
pub(crate) fn width(part: usize) -> u64 {
    let end = match part + 1 {
        next if next < PARTS => u64::from(first_member(next)),
        _ => 1 << u32::BITS,
    };
    end - u64::from(first_member(part))
}

/// Does a part begin with the member of that number?
pub(crate) fn begins(member: u32) -> bool {
    member == first_member(part_of(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another() {
        let mut next = 0;
        for part in 0..PARTS {
            assert_eq!(u64::from(first_member(part)), next);
            next += width(part);
        }
        assert_eq!(next, 1 << 32);
        assert_eq!([0, 1, 2, 5].map(width), [1, 15, 240, 983_040]);
    }

    #[test]
    fn so_many_members_have_so_many_parts() {
        let parts = [0, 1, 2, 16, 17, 256, 257, u32::MAX].map(of_size);
        assert_eq!(parts, [0, 1, 3, 3, 7, 7, 15, 255]);
        for size in 1..70_000u32 {
            let grew = of_size(size) != of_size(size - 1);
            assert_eq!(begins(size - 1), grew, "{size}");
            assert_eq!(
                each(of_size(size)).count(),
                of_size(size).count_ones() as usize
            );
        }
        assert!(begins(1 << 24) && !begins(1 << 28));
    }
}
