//! What shards told of classes, in the coordinator's words, and how classes are made known to them.
//!
//! Does not know how cells are rated.

use super::volumes::for_shards;
use super::words::{Answer, CellFacts, Domain, Level, Order, Part, Told};
use super::{Coordinator, Links, Lost};
use crate::class::{Class, Standing};
use crate::cluster::ClassId;
use crate::company::NOWHERE;
use crate::fleet::OTHER;
use crate::hashing::Hashing;
use crate::intern::{Interner, Word};
use crate::objects::PodSpec;
use std::sync::Arc;

/// Domains known by name: about 64 MB. Above it what was told is forgotten, and asked for again.
const DOMAINS_MAX: usize = 1 << 20;

/// A cell of one shard.
#[derive(Debug)]
pub(crate) struct CellView {
    pub(crate) standing: Standing,
    pub(crate) own: Vec<i64>,
    pub(crate) claimed: bool,
    /// By place of the tally.
    pub(crate) coming: Vec<(u32, i64)>,
    pub(crate) level: Level,
}

/// What one shard told of one class.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) generation: u64,
    /// What the shard had been told by then.
    seen: Option<u64>,
    pub(crate) cells: Vec<Option<CellView>>,
    pub(crate) part: Part<Word>,
}

#[derive(Debug, Default)]
struct OfClass {
    /// Generation of the class that shards know, and its spec.
    known: Option<(u32, Arc<PodSpec>)>,
    shards: Vec<Option<View>>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Views {
    classes: Vec<OfClass>,
    domains: Interner,
    domains_known: usize,
    hashing: Hashing,
}

impl View {
    fn new() -> View {
        View {
            generation: 0,
            seen: None,
            cells: Vec::new(),
            part: Part {
                hard: Vec::new(),
                sums: Vec::new(),
            },
        }
    }

    /// Cells that have nodes with room, by number.
    pub(crate) fn there(&self) -> impl Iterator<Item = (u32, &CellView)> {
        let cells = (0..).zip(&self.cells);
        cells.filter_map(|(at, cell)| Some((at, cell.as_ref()?)))
    }
}

impl Views {
    pub(crate) fn new(hashing: Hashing) -> Views {
        Views {
            classes: Vec::new(),
            domains: Interner::new(hashing.clone()),
            domains_known: 0,
            hashing,
        }
    }

    pub(crate) fn of(&self, class: ClassId, shard: usize) -> Option<&View> {
        let of = self.classes.get(class.slot as usize)?;
        of.shards.get(shard)?.as_ref()
    }

    /// Classes that shards know.
    pub(crate) fn defined(&self) -> Vec<(u32, Arc<PodSpec>)> {
        let classes = (0..).zip(&self.classes);
        let known = classes.filter_map(|(at, of)| Some((at, of.known.as_ref()?.1.clone())));
        known.collect()
    }

    /// Whatever was told is asked for again; what shards know stays.
    pub(crate) fn forget_answers(&mut self) {
        let views = self.classes.iter_mut().flat_map(|of| &mut of.shards);
        for view in views.flatten() {
            view.seen = None;
        }
    }

    pub(crate) fn forget_shard(&mut self, shard: usize) {
        for of in &mut self.classes {
            if let Some(view) = of.shards.get_mut(shard) {
                *view = None;
            }
        }
    }

    fn word(&mut self, text: &str) -> Word {
        if let Some(word) = self.domains.lookup(text) {
            return word;
        }
        self.domains_known += 1;
        self.domains.acquire(text)
    }

    pub(crate) fn standing(&mut self, facts: &CellFacts) -> Standing {
        let domains = facts.domains.iter().map(|domain| match domain {
            Domain::Nowhere => NOWHERE,
            Domain::Own => OTHER,
            Domain::Of(text) => self.word(text),
        });
        Standing {
            domains: domains.collect(),
            soft: facts.soft,
            preferred: facts.preferred,
            images: facts.images.clone().into(),
            counted: facts.counted,
            ..Standing::default()
        }
    }

    pub(crate) fn cell(&mut self, facts: &CellFacts, level: Level) -> CellView {
        CellView {
            standing: self.standing(facts),
            own: facts.own.clone(),
            claimed: facts.claimed,
            coming: facts.coming.clone(),
            level,
        }
    }

    pub(crate) fn words(&mut self, part: &Part<Box<str>>) -> Part<Word> {
        part.map(&mut |text| self.word(text))
    }

    /// Sums as text, for shards.
    pub(crate) fn texts(&self, part: &Part<Word>) -> Part<Box<str>> {
        part.map(&mut |&word| Box::from(self.domains.text(word)))
    }

    /// Makes a view of what was told. `None` if it makes no sense.
    pub(crate) fn apply(&mut self, view: &mut View, told: &Told) -> Option<()> {
        if told.anew {
            *view = View::new();
        }
        for cell in &told.cells {
            let at = cell.cell as usize;
            if view.cells.len() <= at {
                view.cells.resize_with(at + 1, || None);
            }
            match (&cell.facts, &mut view.cells[at]) {
                (Some(facts), slot) => *slot = Some(self.cell(facts, cell.level)),
                (None, Some(known)) => known.level = cell.level,
                (None, None) => return None,
            }
        }
        for &cell in &told.gone {
            *view.cells.get_mut(cell as usize)? = None;
        }
        if let Some(part) = &told.part {
            view.part = self.words(part);
        }
        view.generation = told.generation;
        Some(())
    }

    /// A view of its own, of everything.
    pub(crate) fn fresh(&mut self, told: &Told) -> View {
        let mut view = View::new();
        self.apply(&mut view, told);
        view
    }

    fn slot(&mut self, class: ClassId) -> &mut OfClass {
        let at = class.slot as usize;
        if self.classes.len() <= at {
            self.classes.resize_with(at + 1, OfClass::default);
        }
        &mut self.classes[at]
    }
}

impl<L: Links> Coordinator<L> {
    /// Makes a class known to all shards.
    pub(crate) fn define(&mut self, id: ClassId, class: &Class) {
        let of = self.views.slot(id);
        if of
            .known
            .as_ref()
            .is_some_and(|(known, _)| *known == id.generation)
        {
            return;
        }
        let spec = Arc::new(for_shards(&class.spec));
        *of = OfClass {
            known: Some((id.generation, spec.clone())),
            shards: Vec::new(),
        };
        for shard in self.alive() {
            // What it asks about may set nodes apart that were alike.
            self.change(shard, Order::Class(id.slot, spec.clone()));
        }
    }

    /// Every shard is asked again: numbers of cells may have changed that mean the same.
    pub(crate) fn doubt(&mut self) {
        for member in &mut self.members {
            member.touched += 1;
        }
    }

    /// Asks the shards whose answers may no longer hold.
    pub(crate) fn refresh(&mut self, id: ClassId, class: &Class) -> Result<(), Lost> {
        if self.views.domains_known > DOMAINS_MAX {
            self.views.domains = Interner::new(self.views.hashing.clone());
            self.views.domains_known = 0;
            for of in &mut self.views.classes {
                // Shards keep what they told: only a new definition makes them tell it anew.
                *of = OfClass::default();
            }
        }
        self.define(id, class);
        if self.alive().is_empty() || self.must_list().is_some() {
            return Err(Lost);
        }
        let shards = self.members.len();
        let of = self.views.slot(id);
        of.shards.resize_with(shards, || None);
        let members = self.members.iter().enumerate();
        let stale = members.filter(|(at, member)| {
            let view = of.shards[*at].as_ref();
            member.alive && view.is_none_or(|view| view.seen != Some(member.touched))
        });
        let stale: Vec<usize> = stale.map(|(at, _)| at).collect();
        let orders = stale.iter().map(|&at| (at, Order::Survey(id.slot)));
        let answers = self.ask_all(orders.collect())?;
        for (shard, answer) in stale.into_iter().zip(answers) {
            match answer {
                Answer::Told(told) => self.note(id, shard, &told)?,
                _ => {
                    self.lose(shard);
                    return Err(Lost);
                }
            }
        }
        Ok(())
    }

    /// Notes what a shard told of a class; it holds until the shard is told something.
    pub(crate) fn note(&mut self, id: ClassId, shard: usize, told: &Told) -> Result<(), Lost> {
        let shards = self.members.len();
        let of = self.views.slot(id);
        of.shards.resize_with(shards, || None);
        let mut view = of.shards[shard].take().unwrap_or_else(View::new);
        let understood = self.views.apply(&mut view, told);
        view.seen = Some(self.members[shard].touched);
        self.views.slot(id).shards[shard] = Some(view);
        if understood.is_none() {
            self.lose(shard);
            return Err(Lost);
        }
        Ok(())
    }

    /// The sums of all shards.
    pub(crate) fn sums(&self, id: ClassId) -> Option<Part<Word>> {
        let shards = self.alive().into_iter();
        let views = shards.filter_map(|shard| self.views.of(id, shard));
        Part::sum(views.map(|view| &view.part))
    }
}
