//! What a shard tells of a class: its cells with room and its part of the sums, as far as they changed.
//!
//! Does not know how cells are rated.

use super::words::{CellFacts, CellTold, Domain, Level, Part, Told};
use crate::class::Class;
use crate::cluster::{ClassId, Cluster};
use crate::company::NOWHERE;
use crate::fleet::{ABSENT, Fleet, OTHER, scalar};
use crate::pick::{WhyNot, why_not};
use crate::volumes::Against;
use hashbrown::HashMap;

/// What was told last of one class.
#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) id: ClassId,
    pub(crate) generation: u64,
    stamp: Stamp,
    companies: u64,
    cells: HashMap<u32, (CellFacts, Level)>,
    part: Part<Box<str>>,
    begun: bool,
}

/// What an answer rests on: versions of the fleet, of what is asked about, of held terms, of makers.
type Stamp = (u64, u32, u64, u64);

fn stamp(cluster: &Cluster) -> Stamp {
    (
        cluster.fleet.version(),
        cluster.fleet.interests_version(),
        cluster.fleet.tallies.held_version(),
        cluster.makers.version(),
    )
}

const NOTHING: Part<Box<str>> = Part {
    hard: Vec::new(),
    sums: Vec::new(),
};

impl Last {
    pub(crate) fn new(id: ClassId) -> Last {
        Last {
            id,
            generation: 0,
            stamp: (0, 0, 0, 0),
            companies: 0,
            cells: HashMap::new(),
            part: NOTHING,
            begun: false,
        }
    }

    /// Does what was told still hold?
    pub(crate) fn holds(&self, cluster: &Cluster, generation: u64) -> bool {
        self.begun && self.generation == generation && self.stamp == stamp(cluster)
    }

    /// Tells what changed. `None` if there is no such class.
    pub(crate) fn tell(&mut self, cluster: &mut Cluster) -> Option<Told> {
        let mut class = cluster.take_class(self.id)?;
        let before = class.entries();
        let tops = class.tops(&mut cluster.fleet);
        cluster.index_entries = cluster.index_entries + class.entries() - before;
        let anew = !self.begun || class.companies != self.companies;
        if anew {
            self.cells.clear();
            self.part = NOTHING;
            self.companies = class.companies;
            self.begun = true;
        }
        let mut told = Told {
            anew,
            ..Told::default()
        };
        let tallies = class.company.tallies();
        let mut there = HashMap::with_capacity(tops.len());
        for (cell, top, top_nodes, nodes) in tops {
            let level = Level {
                top,
                top_nodes,
                nodes,
            };
            let known = self.cells.remove(&cell);
            // Even the facts of a known cell may differ: numbers of words are given again.
            let same = known.as_ref().is_some_and(|(facts, _)| {
                is_as_told(&class, &cluster.fleet, cell, facts, &tallies)
            });
            let facts = match known {
                Some((facts, was)) if same => {
                    if was != level {
                        told.cells.push(CellTold {
                            cell,
                            facts: None,
                            level,
                        });
                    }
                    facts
                }
                _ => {
                    let facts = facts_of(&class, &cluster.fleet, cell, &tallies);
                    told.cells.push(CellTold {
                        cell,
                        facts: Some(facts.clone()),
                        level,
                    });
                    facts
                }
            };
            there.insert(cell, (facts, level));
        }
        told.gone = self.cells.keys().copied().collect();
        told.gone.sort_unstable();
        self.cells = there;
        if !class.company.is_empty() {
            let part = class.part(&cluster.fleet);
            let part = part.map(&mut |&word| Box::from(cluster.fleet.words.text(word)));
            if anew || part != self.part {
                self.part = part.clone();
                told.part = Some(part);
            }
        }
        self.generation += 1;
        told.generation = self.generation;
        cluster.put_back(self.id, class);
        cluster.trim(self.id.slot);
        self.stamp = stamp(cluster);
        Some(told)
    }
}

/// Everything, by a look at every state; nodes that something speaks against are left out.
pub(crate) fn scan(cluster: &mut Cluster, id: ClassId, against: &Against) -> Option<Told> {
    let mut class = cluster.take_class(id)?;
    let look = class.look(&cluster.fleet);
    let mut levels: HashMap<u32, Level> = HashMap::new();
    let states: Vec<u32> = cluster.fleet.live().collect();
    for state in states {
        // Only what no sum decides is asked here.
        let why = why_not(&cluster.fleet, &mut class, &look, state);
        if cluster.fleet.shape_of(state) == ABSENT
            || why.is_some_and(|why| !matches!(why, WhyNot::Company(_)))
        {
            continue;
        }
        let Some((cell, room)) = cell_of(&mut class, &cluster.fleet, state) else {
            continue;
        };
        // Company is asked before these.
        if class.volumes_of_cell(cell) != 0 || class.cell_lacks_features(cell) {
            continue;
        }
        let members = cluster.fleet.members(state).iter();
        let nodes = if against.is_empty() {
            u64::from(cluster.fleet.size(state))
        } else {
            members.filter(|node| against.node(**node) == 0).count() as u64
        };
        if nodes == 0 {
            continue;
        }
        let level = levels.entry(cell).or_default();
        if level.nodes == 0 || room.room > level.top {
            (level.top, level.top_nodes) = (room.room, 0);
        }
        if room.room == level.top {
            level.top_nodes += nodes;
        }
        level.nodes += nodes;
    }
    let tallies = class.company.tallies();
    let fleet = &cluster.fleet;
    let mut cells: Vec<CellTold> = levels
        .into_iter()
        .map(|(cell, level)| CellTold {
            cell,
            facts: Some(facts_of(&class, fleet, cell, &tallies)),
            level,
        })
        .collect();
    cells.sort_unstable_by_key(|told| told.cell);
    let part = (!class.company.is_empty()).then(|| {
        let part = class.part(fleet);
        part.map(&mut |&word| Box::from(fleet.words.text(word)))
    });
    cluster.put_back(id, class);
    Some(Told {
        anew: true,
        generation: 0,
        cells,
        gone: Vec::new(),
        part,
    })
}

/// The cell of a state that stands, and its scores of room.
pub(crate) fn cell_of(
    class: &mut Class,
    fleet: &Fleet,
    state: u32,
) -> Option<(u32, crate::class::Dynamic)> {
    let crate::class::Static::Stands(standing) = class.judge_shape(fleet, fleet.shape_of(state))
    else {
        return None;
    };
    let room = class.judge_state(fleet, state)?;
    Some((class.cell(fleet, standing, state), room))
}

pub(crate) fn facts_of(class: &Class, fleet: &Fleet, cell: u32, tallies: &[u32]) -> CellFacts {
    let cell = &class.cells[cell as usize];
    let standing = &class.standings[cell.standing as usize];
    CellFacts {
        soft: standing.soft,
        preferred: standing.preferred,
        images: standing.images.to_vec(),
        domains: standing
            .domains
            .iter()
            .map(|&domain| match domain {
                NOWHERE => Domain::Nowhere,
                OTHER => Domain::Own,
                word => Domain::Of(fleet.words.text(word).into()),
            })
            .collect(),
        counted: standing.counted,
        own: cell.own.to_vec(),
        claimed: !cell.claims.is_empty(),
        coming: coming(fleet, &cell.claims, tallies),
    }
}

fn coming(fleet: &Fleet, claims: &[((i32, u32), i64)], tallies: &[u32]) -> Vec<(u32, i64)> {
    if claims.is_empty() {
        return Vec::new();
    }
    let places = (0..).zip(tallies);
    places
        .map(|(at, &tally)| {
            let pods = claims
                .iter()
                .map(|&((_, delta), pods)| scalar(&fleet.deltas.get(delta).tallies, tally) * pods);
            (at, pods.sum())
        })
        .filter(|(_, pods)| *pods != 0)
        .collect()
}

fn is_as_told(class: &Class, fleet: &Fleet, cell: u32, facts: &CellFacts, tallies: &[u32]) -> bool {
    let cell = &class.cells[cell as usize];
    let standing = &class.standings[cell.standing as usize];
    let same_domains =
        standing
            .domains
            .iter()
            .zip(&facts.domains)
            .all(|(&word, told)| match told {
                Domain::Nowhere => word == NOWHERE,
                Domain::Own => word == OTHER,
                Domain::Of(text) => {
                    word != NOWHERE && word != OTHER && *fleet.words.text(word) == **text
                }
            });
    same_domains && (cell.claims.is_empty() || coming(fleet, &cell.claims, tallies) == facts.coming)
}
