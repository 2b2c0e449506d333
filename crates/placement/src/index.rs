//! The index of a class: every feasible state of existing nodes, by cell and by how free it is.
//!
//! In a cell there is one level per room score (allocation + balance, weighted). Everything else about a node's total is
//! the same for a whole cell, so the best node is on the top level of some cell, and a pick looks at cells
//! only. States that emptied are dropped when they surface.
//!
//! A level lists its states by parts of their members (see `parts.rs`), so that a node is drawn from it without
//! counting them. Does not know how cells are rated.

use crate::class::{Class, Static, static_total};
use crate::fleet::{ABSENT, Fleet};
use crate::parts;
use crate::pick::below;

/// So often a node is drawn in vain before nodes are counted.
const DRAWS_MAX: usize = 64;
/// Room for so many new states stays with an index.
const NEWS_KEPT: usize = 1_024;

/// For each part the states that have, or had, so many members.
#[derive(Clone, Debug, Default)]
struct Level(Vec<Vec<u32>>);

impl Level {
    fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    fn push(&mut self, part: usize, state: u32) {
        if self.0.len() <= part {
            self.0.resize_with(part + 1, Vec::new);
        }
        self.0[part].push(state);
    }

    /// Each state once; some may have no members any more.
    fn states(&self) -> &[u32] {
        self.0.first().map_or(&[], Vec::as_slice)
    }
}

#[derive(Debug, Default)]
struct Group {
    levels: Vec<Level>,
    /// No level above this one has entries.
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
    listed: Listed,
    cursor: u64,
    entries: usize,
    census: Option<Census>,
    /// Kept for its room.
    news: Vec<u32>,
}

/// For each part the states that are listed under it, a bit each: few bytes, as most of them are read whenever the index
/// is brought up to the present.
#[derive(Debug)]
struct Listed {
    parts: [Vec<u64>; parts::PARTS],
    words: usize,
}

impl Listed {
    fn new() -> Listed {
        Listed {
            parts: Default::default(),
            words: 0,
        }
    }

    /// Numbers of states are below this.
    fn grow(&mut self, bound: usize) {
        self.words = bound.div_ceil(64);
        for part in self.parts.iter_mut().filter(|part| !part.is_empty()) {
            part.resize(self.words, 0);
        }
    }

    /// Of these parts those that the state is not listed under.
    fn missing(&self, state: u32, wanted: u8) -> u8 {
        let mut missing = wanted;
        for part in parts::each(wanted) {
            missing &= !(u8::from(self.has(state, part)) << part);
        }
        missing
    }

    fn has(&self, state: u32, part: usize) -> bool {
        let word = self.parts[part].get(state as usize / 64);
        word.is_some_and(|word| word >> (state % 64) & 1 != 0)
    }

    fn is_listed(&self, state: u32) -> bool {
        (0..parts::PARTS).any(|part| self.has(state, part))
    }

    fn add(&mut self, state: u32, wanted: u8) {
        for part in parts::each(wanted) {
            let part = &mut self.parts[part];
            if part.is_empty() {
                part.resize(self.words, 0);
            }
            part[state as usize / 64] |= 1 << (state % 64);
        }
    }

    fn remove(&mut self, state: u32, part: usize) {
        self.parts[part][state as usize / 64] &= !(1 << (state % 64));
    }

    fn states(&self) -> impl Iterator<Item = u32> + '_ {
        let any = |at: usize| self.parts.iter().filter_map(move |part| part.get(at));
        let words = (0..self.words).map(move |at| (at, any(at).fold(0, |all, word| all | word)));
        words.flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 != 0);
            bits.map(move |bit| (at * 64 + bit) as u32)
        })
    }
}

/// The cells whose top levels hold the best total.
#[derive(Debug, Default)]
pub(crate) struct Best {
    cells: Vec<u32>,
}

impl Class {
    /// States the index lists, those that emptied included.
    pub(crate) fn entries(&self) -> usize {
        self.index.as_ref().map_or(0, |i| i.entries)
    }

    pub(crate) fn drop_index(&mut self, fleet: &mut Fleet) -> usize {
        let Some(index) = self.index.take() else {
            return 0;
        };
        for state in index.listed.states() {
            fleet.release_state(state);
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
                    listed: Listed::new(),
                    cursor: end,
                    entries: 0,
                    census,
                    news: Vec::new(),
                };
                index.listed.grow(fleet.state_bound());
                let all = 0..fleet.state_bound() as u32;
                match self.scarce_shapes(fleet) {
                    None => all.for_each(|state| self.list(fleet, &mut index, state)),
                    Some(shapes) => all
                        .filter(|&state| shapes.has(fleet.shape_of(state)))
                        .collect::<Vec<u32>>()
                        .into_iter()
                        .for_each(|state| self.list(fleet, &mut index, state)),
                }
                self.index = Some(Box::new(index));
            }
            Some(mut index) => {
                if index.cursor < end {
                    index.listed.grow(fleet.state_bound());
                    // Most are listed already. In a loop of its own, so that the memory is asked for all at once.
                    let mut news = std::mem::take(&mut index.news);
                    let logged = fleet.log_since(index.cursor).unwrap_or(&[]).iter();
                    news.extend(logged.copied().filter(|&state| {
                        let wanted = parts::of_size(fleet.size(state));
                        index.listed.missing(state, wanted) != 0
                    }));
                    for state in news.drain(..) {
                        self.list(fleet, &mut index, state);
                    }
                    news.shrink_to(NEWS_KEPT);
                    index.news = news;
                    index.cursor = end;
                }
                index.recount(fleet);
                self.index = Some(index);
            }
        }
    }

    fn list(&mut self, fleet: &mut Fleet, index: &mut Index, state: u32) {
        let wanted = parts::of_size(fleet.size(state));
        let missing = index.listed.missing(state, wanted);
        if missing == 0 {
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
                levels: vec![Level::default(); self.room_max() + 1],
                ..Group::default()
            });
        }
        let group = &mut index.groups[cell as usize];
        let score = (score.room.max(0) as usize).min(group.levels.len() - 1);
        for part in parts::each(missing) {
            group.levels[score].push(part, state);
        }
        group.top = group.top.max(score);
        let is_new = !index.listed.is_listed(state);
        index.listed.add(state, missing);
        if is_new {
            index.entries += 1;
            index.begin_to_count(fleet, state, cell);
            fleet.hold_state(state);
        }
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

    /// Finds the cells whose top level holds the best total.
    pub(crate) fn best(&mut self, fleet: &mut Fleet) -> Best {
        self.catch_up(fleet);
        // The index may be what shows that images matter.
        if self.is_plain() {
            self.best_by_standing(fleet)
        } else {
            self.best_by_rating(fleet)
        }
    }

    /// One of the best nodes, each as likely as any other; none if there is none.
    pub(crate) fn draw(
        &mut self,
        fleet: &mut Fleet,
        best: &Best,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<u32> {
        let index = self.index.as_mut()?;
        for _ in 0..DRAWS_MAX {
            if let Some(node) = index.draw(fleet, &best.cells, random)? {
                return Some(node);
            }
        }
        let cells = best.cells.iter();
        let weight = cells
            .map(|&cell| index.top_nodes(cell as usize, fleet))
            .sum();
        index.nth(fleet, &best.cells, below(weight, random))
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
            if group.levels[group.top].is_empty() {
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

    /// The best of the cells that `total` gives a total without room for, and that total with room.
    pub(crate) fn best_of(
        &mut self,
        fleet: &mut Fleet,
        total: &dyn Fn(u32) -> Option<i64>,
    ) -> Option<(Best, i64)> {
        let candidates = self.candidates(fleet);
        let index = self.index.as_ref()?;
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
        (!best.cells.is_empty()).then_some((best, most))
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
        index.nth(fleet, &[cell], nth)
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
            .flat_map(|group| group.levels.iter().flat_map(Level::states))
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
            .flat_map(|(&(cell, _), _)| &index.groups[cell as usize].levels)
            .flat_map(Level::states)
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
            for (room, level) in (0..).zip(&index.groups[cell as usize].levels) {
                let living = level
                    .states()
                    .iter()
                    .filter(|&&state| fleet.size(state) > 0);
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
    /// Drops what is void until the last entry of some part of the top level has members; false when none is left.
    fn settle(&mut self, cell: usize, fleet: &mut Fleet) -> bool {
        loop {
            let group = &self.groups[cell];
            let top = group.top;
            for part in 0..group.levels[top].0.len() {
                while let Some(&state) = self.groups[cell].levels[top].0[part].last() {
                    if fleet.size(state) > parts::first_member(part) {
                        return true;
                    }
                    self.groups[cell].levels[top].0[part].pop();
                    self.unlist(fleet, part, state);
                }
            }
            if top == 0 {
                return false;
            }
            self.groups[cell].top -= 1;
        }
    }

    /// Draws one member among all that the top levels of these cells have room for: each node as likely as any
    /// other, or nobody. None where nothing is listed.
    fn draw(
        &mut self,
        fleet: &mut Fleet,
        cells: &[u32],
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Option<u32>> {
        let mut all = 0;
        for group in cells.iter().map(|&cell| &self.groups[cell as usize]) {
            for (part, states) in group.levels[group.top].0.iter().enumerate() {
                all += states.len() as u64 * parts::width(part);
            }
        }
        let mut nth = below((all > 0).then_some(all)?, random);
        for &cell in cells {
            let group = &self.groups[cell as usize];
            let top = group.top;
            for (part, states) in group.levels[top].0.iter().enumerate() {
                let width = parts::width(part);
                let weight = states.len() as u64 * width;
                if nth >= weight {
                    nth -= weight;
                    continue;
                }
                let at = (nth / width) as usize;
                let state = states[at];
                let first = parts::first_member(part);
                let members = fleet.members(state);
                if members.len() <= first as usize {
                    self.groups[cell as usize].levels[top].0[part].swap_remove(at);
                    self.unlist(fleet, part, state);
                    return Some(None);
                }
                let member = u64::from(first) + nth % width;
                return Some(members.get(member as usize).copied());
            }
        }
        None
    }

    /// The `nth` node of the top levels of these cells.
    fn nth(&self, fleet: &Fleet, cells: &[u32], mut nth: u64) -> Option<u32> {
        for group in cells.iter().map(|&cell| &self.groups[cell as usize]) {
            for &state in group.levels[group.top].states() {
                let size = u64::from(fleet.size(state));
                if nth < size {
                    return fleet.members(state).get(nth as usize).copied();
                }
                nth -= size;
            }
        }
        None
    }

    /// Nodes on the top level of a cell; emptied states are dropped on the way.
    fn top_nodes(&mut self, cell: usize, fleet: &mut Fleet) -> u64 {
        let top = self.groups[cell].top;
        let (mut at, mut nodes) = (0, 0);
        while let Some(&state) = self.groups[cell].levels[top].states().get(at) {
            let size = fleet.size(state);
            if size > 0 {
                nodes += u64::from(size);
                at += 1;
            } else {
                self.groups[cell].levels[top].0[0].swap_remove(at);
                self.unlist(fleet, 0, state);
            }
        }
        nodes
    }

    /// Forgets that a state has a part; with the last the state. It counts for nothing already: sizes are counted
    /// before states are dropped.
    fn unlist(&mut self, fleet: &mut Fleet, part: usize, state: u32) {
        self.listed.remove(state, part);
        if self.listed.is_listed(state) {
            return;
        }
        self.entries -= 1;
        let census = self.census.as_mut();
        if let Some(entry) = census.and_then(|c| c.counted.get_mut(state as usize)) {
            *entry = (UNLISTED, 0);
        }
        fleet.release_state(state);
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
