//! The index of a class: every feasible state of existing nodes, by cell and by how free it is.
//!
//! In a cell there is one bucket per room score (allocation + balance, weighted). Everything else about a node's total is
//! the same for a whole cell, so the best node is in the top bucket of some cell, and a pick looks at cells
//! only. States that emptied are dropped when they surface.
//!
//! Does not know how cells are rated.

use crate::class::{Class, Static, static_total};
use crate::fleet::{ABSENT, Fleet};

#[derive(Debug, Default)]
struct Group {
    buckets: Vec<Vec<u32>>,
    /// No bucket above this one has entries.
    top: usize,
    /// Nodes of listed states; only kept by indices that count.
    nodes: u64,
}

/// For indices that count nodes: what was counted of each state.
#[derive(Debug, Default)]
struct Census {
    cursor: u64,
    /// For each state: the cell that lists it, and the size counted.
    counted: Vec<(u32, u32)>,
}

const UNLISTED: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Index {
    groups: Vec<Group>,
    /// One bit per state: is it listed?
    listed: Vec<u64>,
    cursor: u64,
    entries: usize,
    census: Option<Census>,
}

/// The best total and where it is found.
#[derive(Debug, Default)]
pub(crate) struct Best {
    cells: Vec<u32>,
    pub(crate) weight: u64,
}

impl Class {
    /// Entries of the index, listed states that emptied included.
    pub(crate) fn entries(&self) -> usize {
        self.index.as_ref().map_or(0, |i| i.entries)
    }

    pub(crate) fn drop_index(&mut self, fleet: &mut Fleet) -> usize {
        let Some(index) = self.index.take() else {
            return 0;
        };
        for bucket in index.groups.iter().flat_map(|g| &g.buckets) {
            for &state in bucket {
                fleet.release_state(state);
            }
        }
        if index.census.is_some() {
            fleet.end_counting();
        }
        index.entries
    }

    /// Brings the index up to the present.
    pub(crate) fn catch_up(&mut self, fleet: &mut Fleet) {
        if let Some(index) = &self.index {
            let far_behind = fleet.log_since(index.cursor).is_none()
                || index
                    .census
                    .as_ref()
                    .is_some_and(|c| fleet.touched_since(c.cursor).is_none());
            let littered = index.entries > 2 * fleet.live_states() + fleet.litter_max();
            if far_behind || littered {
                self.drop_index(fleet);
            }
        }
        let end = fleet.log_end();
        match self.index.take() {
            None => {
                let census = self.counts_nodes().then(|| {
                    fleet.begin_counting();
                    Census {
                        cursor: fleet.touched_end(),
                        counted: Vec::new(),
                    }
                });
                let mut index = Index {
                    groups: Vec::new(),
                    listed: vec![0; fleet.state_bound().div_ceil(64)],
                    cursor: end,
                    entries: 0,
                    census,
                };
                for at in 0..fleet.state_bound() as u32 {
                    self.list(fleet, &mut index, at);
                }
                self.index = Some(index);
            }
            Some(mut index) => {
                if index.cursor < end {
                    index.listed.resize(fleet.state_bound().div_ceil(64), 0);
                    let mut at = 0;
                    while let Some(&state) = fleet.log_since(index.cursor).and_then(|l| l.get(at)) {
                        self.list(fleet, &mut index, state);
                        at += 1;
                    }
                    index.cursor = end;
                }
                index.recount(fleet);
                self.index = Some(index);
            }
        }
    }

    fn list(&mut self, fleet: &mut Fleet, index: &mut Index, state: u32) {
        let (word, bit) = (state as usize / 64, 1u64 << (state % 64));
        if fleet.size(state) == 0 || index.listed[word] & bit != 0 {
            return;
        }
        let shape = fleet.shape_of(state);
        if shape == ABSENT {
            return;
        }
        let Static::Stands(standing) = self.judge_shape(fleet, shape) else {
            return;
        };
        let stands = &self.standings[standing as usize];
        if stands.volumes != 0 || stands.lacks_features {
            return;
        }
        let Some(score) = self.judge_state(fleet, state) else {
            return;
        };
        let cell = self.cell(fleet, standing, state);
        while index.groups.len() <= cell as usize {
            index.groups.push(Group {
                buckets: vec![Vec::new(); self.room_max() + 1],
                ..Group::default()
            });
        }
        let group = &mut index.groups[cell as usize];
        let score = (score.room.max(0) as usize).min(group.buckets.len() - 1);
        group.buckets[score].push(state);
        group.top = group.top.max(score);
        index.listed[word] |= bit;
        index.entries += 1;
        index.begin_to_count(fleet, state, cell);
        fleet.hold_state(state);
    }

    /// Cells with feasible nodes, and how many those are where nodes are counted. The index is current and
    /// settled afterwards.
    pub(crate) fn candidates(&mut self, fleet: &mut Fleet) -> Vec<(u32, u64)> {
        self.catch_up(fleet);
        let mut cells = Vec::new();
        if let Some(index) = &mut self.index {
            for cell in 0..index.groups.len() {
                if index.settle(cell, fleet) {
                    cells.push((cell as u32, index.groups[cell].nodes));
                }
            }
        }
        cells
    }

    /// Finds the cells whose top bucket holds the best total, and how many nodes that is.
    pub(crate) fn best(&mut self, fleet: &mut Fleet) -> Best {
        self.catch_up(fleet);
        // The index may be what shows that images matter.
        let mut best = if self.is_plain() {
            self.best_by_standing(fleet)
        } else {
            self.best_by_rating(fleet)
        };
        if let Some(index) = &mut self.index {
            for &cell in &best.cells {
                best.weight += index.top_nodes(cell as usize, fleet);
            }
        }
        best
    }

    fn best_by_standing(&mut self, fleet: &mut Fleet) -> Best {
        let mut best = Best::default();
        let Some(index) = &mut self.index else {
            return best;
        };
        let mut maxima: Option<(i64, i64)> = None;
        for at in 0..index.groups.len() {
            if index.settle(at, fleet) {
                let standing = &self.standings[self.cells[at].standing as usize];
                let (s, p) = maxima.unwrap_or((0, 0));
                maxima = Some((s.max(standing.soft), p.max(standing.preferred)));
            }
        }
        let Some(maxima) = maxima else {
            return best;
        };
        let weights = &self.profile.weights;
        let mut total = -1;
        for (at, group) in index.groups.iter().enumerate() {
            if group.buckets[group.top].is_empty() {
                continue;
            }
            let standing = &self.standings[self.cells[at].standing as usize];
            let score = static_total(weights, standing, maxima) + group.top as i64;
            best.offer(at as u32, score, &mut total);
        }
        best
    }

    fn best_by_rating(&mut self, fleet: &mut Fleet) -> Best {
        let candidates = self.candidates(fleet);
        let ratings = self.rate(fleet, &candidates);
        let mut best = Best::default();
        let Some(index) = &self.index else {
            return best;
        };
        let mut total = -1;
        for (&(cell, _), rating) in candidates.iter().zip(&ratings) {
            if let Ok(shares) = rating {
                let top = index.groups[cell as usize].top as i64;
                best.offer(cell, shares.total + top, &mut total);
            }
        }
        best
    }

    /// The `nth` node of the best, counting from 0.
    pub(crate) fn nth_best(&self, fleet: &Fleet, best: &Best, mut nth: u64) -> Option<u32> {
        let index = self.index.as_ref()?;
        for &cell in &best.cells {
            let group = &index.groups[cell as usize];
            for &state in &group.buckets[group.top] {
                let size = u64::from(fleet.size(state));
                if nth < size {
                    return fleet.members(state).get(nth as usize).copied();
                }
                nth -= size;
            }
        }
        None
    }

    /// The best of the cells that `total` gives a total without room for, and that total with room.
    pub(crate) fn best_of(
        &mut self,
        fleet: &mut Fleet,
        total: &dyn Fn(u32) -> Option<i64>,
    ) -> Option<(Best, i64)> {
        let candidates = self.candidates(fleet);
        let index = self.index.as_mut()?;
        let (mut best, mut most) = (Best::default(), i64::MIN);
        for &(cell, _) in &candidates {
            if let Some(total) = total(cell) {
                best.offer(
                    cell,
                    total + index.groups[cell as usize].top as i64,
                    &mut most,
                );
            }
        }
        for &cell in &best.cells {
            best.weight += index.top_nodes(cell as usize, fleet);
        }
        (best.weight > 0).then_some((best, most))
    }

    /// For each cell with feasible nodes: its number, its best level of room, nodes on that, and its nodes where
    /// nodes are counted.
    pub(crate) fn tops(&mut self, fleet: &mut Fleet) -> Vec<(u32, i64, u64, u64)> {
        let candidates = self.candidates(fleet);
        let Some(index) = &mut self.index else {
            return Vec::new();
        };
        let tops = candidates.into_iter().map(|(cell, nodes)| {
            let top = index.groups[cell as usize].top as i64;
            (cell, top, index.top_nodes(cell as usize, fleet), nodes)
        });
        tops.collect()
    }

    /// The `nth` node of a cell's best level.
    pub(crate) fn nth_top(&mut self, fleet: &mut Fleet, cell: u32, nth: u64) -> Option<u32> {
        let index = self.index.as_mut()?;
        let weight = index.top_nodes(cell as usize, fleet);
        let best = Best {
            cells: vec![cell],
            weight,
        };
        self.nth_best(fleet, &best, nth)
    }

    /// How many nodes these cells have that have room.
    pub(crate) fn nodes_in(&mut self, fleet: &mut Fleet, cells: &[u32]) -> u64 {
        self.catch_up(fleet);
        let Some(index) = &self.index else {
            return 0;
        };
        let groups = cells
            .iter()
            .filter_map(|&cell| index.groups.get(cell as usize));
        groups
            .flat_map(|group| group.buckets.iter().flatten())
            .map(|&state| u64::from(fleet.size(state)))
            .sum()
    }

    /// How many nodes pass the filters, by the index.
    pub(crate) fn feasible(&mut self, fleet: &mut Fleet) -> usize {
        let candidates = self.candidates(fleet);
        let ratings = self.rate(fleet, &candidates);
        let Some(index) = &self.index else {
            return 0;
        };
        let passing = candidates
            .iter()
            .zip(&ratings)
            .filter(|(_, rating)| rating.is_ok());
        passing
            .flat_map(|(&(cell, _), _)| index.groups[cell as usize].buckets.iter().flatten())
            .map(|&state| fleet.size(state) as usize)
            .sum()
    }

    /// Every state that passes the filters, with its total, in no order.
    pub(crate) fn totals(&mut self, fleet: &mut Fleet) -> Vec<(i64, u32)> {
        let candidates = self.candidates(fleet);
        let ratings = self.rate(fleet, &candidates);
        let mut totals = Vec::new();
        let Some(index) = &self.index else {
            return totals;
        };
        for (&(cell, _), rating) in candidates.iter().zip(&ratings) {
            let Ok(shares) = rating else {
                continue;
            };
            for (room, states) in (0..).zip(&index.groups[cell as usize].buckets) {
                let living = states.iter().filter(|&&state| fleet.size(state) > 0);
                totals.extend(living.map(|&state| (shares.total + room, state)));
            }
        }
        totals
    }
}

impl Best {
    fn offer(&mut self, cell: u32, score: i64, total: &mut i64) {
        if score > *total {
            *total = score;
            self.cells.clear();
        }
        if score == *total {
            self.cells.push(cell);
        }
    }
}

impl Index {
    /// Drops emptied states until the last entry of the top bucket has members; false when none is left.
    fn settle(&mut self, cell: usize, fleet: &mut Fleet) -> bool {
        let Index {
            groups,
            listed,
            entries,
            census,
            ..
        } = self;
        let group = &mut groups[cell];
        loop {
            let bucket = &mut group.buckets[group.top];
            while let Some(&state) = bucket.last() {
                if fleet.size(state) > 0 {
                    return true;
                }
                bucket.pop();
                unlist(listed, entries, census, state);
                fleet.release_state(state);
            }
            if group.top == 0 {
                return false;
            }
            group.top -= 1;
        }
    }

    /// Nodes in the top bucket of a cell; emptied states are dropped on the way.
    fn top_nodes(&mut self, cell: usize, fleet: &mut Fleet) -> u64 {
        let Index {
            groups,
            listed,
            entries,
            census,
            ..
        } = self;
        let Group { buckets, top, .. } = &mut groups[cell];
        let bucket = &mut buckets[*top];
        let (mut at, mut nodes) = (0, 0);
        while let Some(&state) = bucket.get(at) {
            let size = fleet.size(state);
            if size > 0 {
                nodes += u64::from(size);
                at += 1;
            } else {
                bucket.swap_remove(at);
                unlist(listed, entries, census, state);
                fleet.release_state(state);
            }
        }
        nodes
    }

    fn begin_to_count(&mut self, fleet: &Fleet, state: u32, cell: u32) {
        let Some(census) = &mut self.census else {
            return;
        };
        if census.counted.len() <= state as usize {
            census
                .counted
                .resize(fleet.state_bound().max(state as usize + 1), (UNLISTED, 0));
        }
        let size = fleet.size(state);
        census.counted[state as usize] = (cell, size);
        self.groups[cell as usize].nodes += u64::from(size);
    }

    /// Counts again the states whose size changed.
    fn recount(&mut self, fleet: &Fleet) {
        let Some(census) = &mut self.census else {
            return;
        };
        for &state in fleet.touched_since(census.cursor).unwrap_or(&[]) {
            if let Some((cell, size)) = census.counted.get_mut(state as usize)
                && *cell != UNLISTED
            {
                let now = fleet.size(state);
                let nodes = &mut self.groups[*cell as usize].nodes;
                *nodes = *nodes + u64::from(now) - u64::from(*size);
                *size = now;
            }
        }
        census.cursor = fleet.touched_end();
    }
}

/// Forgets an emptied state. It counts for nothing already: sizes are counted before states are dropped.
fn unlist(listed: &mut [u64], entries: &mut usize, census: &mut Option<Census>, state: u32) {
    listed[state as usize / 64] &= !(1 << (state % 64));
    *entries -= 1;
    if let Some(entry) = census
        .as_mut()
        .and_then(|c| c.counted.get_mut(state as usize))
    {
        *entry = (UNLISTED, 0);
    }
}
