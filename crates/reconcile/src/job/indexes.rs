//! A set of completion indexes in the text form of `status.completedIndexes`: `0,2-5,9`.
//!
//! Does not know what an index stands for.

/// Sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i64, i64)>);

impl Indexes {
    /// Reads the text; parts that make no sense, or are not below `limit`, are skipped.
    pub(super) fn parse(text: &str, limit: i64) -> Self {
        let mut set = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>())
                && 0 <= first
                && first <= last
                && first < limit
            {
                set.0.push((first, last.min(limit - 1)));
            }
        }
        set.normalise();
        set
    }

    fn normalise(&mut self) {
        self.0.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(self.0.len());
        for &(first, last) in &self.0 {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        self.0 = merged;
    }

    /// Adds many at once.
    pub(super) fn extend(&mut self, indexes: impl IntoIterator<Item = i64>) {
        self.0
            .extend(indexes.into_iter().map(|index| (index, index)));
        self.normalise();
    }

    pub(super) fn contains(&self, index: i64) -> bool {
        let after = self.0.partition_point(|range| range.0 <= index);
        after > 0 && index <= self.0[after - 1].1
    }

    pub(super) fn len(&self) -> i64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The first `count` indexes below `limit` that are in neither set.
    pub(super) fn missing(&self, other: &Indexes, limit: i64, count: usize) -> Vec<i64> {
        let mut both = self.clone();
        both.0.extend(&other.0);
        both.normalise();
        let mut next = 0;
        let mut found = Vec::with_capacity(count.min(1024));
        for (first, last) in both.0.into_iter().chain([(limit, limit)]) {
            while next < first && found.len() < count {
                found.push(next);
                next += 1;
            }
            next = last + 1;
        }
        found
    }
}

impl std::fmt::Display for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, (first, last)) in self.0.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_set_agree() {
        let mut set = Indexes::parse("0,2-5,x,9-7,12", 100);
        assert_eq!((set.to_string().as_str(), set.len()), ("0,2-5,12", 6));
        set.extend([1, 11, 13]);
        assert_eq!(set.to_string(), "0-5,11-13");
        assert!(set.contains(5) && !set.contains(6) && set.contains(13) && !set.contains(-1));
        set.extend([20, 21]);
        assert_eq!(set.to_string(), "0-5,11-13,20,21");
    }

    #[test]
    fn missing_skips_both_sets_and_the_limit() {
        let (done, active) = (Indexes::parse("0,3-4", 10), Indexes::parse("1,6", 10));
        assert_eq!(done.missing(&active, 9, 10), [2, 5, 7, 8]);
        assert_eq!(done.missing(&active, 9, 2), [2, 5]);
        assert_eq!(Indexes::parse("0-9223372036854775807", 5).len(), 5);
    }
}
