//! Sums over domains: a shard's part of them, parts added up, and what rules look at made of them.
//!
//! Does not know cells or scores.

use super::words::{Part, Stocked, Summed};
use crate::class::Class;
use crate::company::{Company, Link, Look, Stock, Sums};
use crate::fleet::{Fleet, OTHER};
use crate::hashing::Hashing;
use crate::intern::Word;
use std::collections::BTreeMap;

/// Numbers for texts that are no word here; below [`crate::company::NOWHERE`], downwards.
const STRANGERS: Word = Word::MAX - 2;

impl Company {
    /// All tallies, each once, in the order of the rules.
    pub(crate) fn tallies(&self) -> Vec<u32> {
        let mut all: Vec<u32> = Vec::new();
        for link in self.links() {
            if !all.contains(&link.tally) {
                all.push(link.tally);
            }
        }
        all
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        let hard = self.hard.iter().map(|spread| &spread.link);
        hard.chain(self.summed())
    }

    /// Links that have sums, in the order of [`Part::sums`].
    fn summed(&self) -> impl Iterator<Item = &Link> {
        let soft = self.soft.iter().map(|spread| &spread.link);
        let wants = self.wants.iter().flat_map(|wants| &wants.links);
        let likes = self.likes.iter().map(|(link, _)| link);
        let others = self.shuns.iter().chain(&self.shunned);
        soft.chain(wants).chain(others).chain(likes)
    }
}

impl Class {
    /// What this fleet adds to the sums.
    pub(crate) fn part(&mut self, fleet: &Fleet) -> Part<Word> {
        let shapes: Vec<(u32, u64)> = if self.company.spreads() {
            let populated: Vec<u32> = fleet.populated().collect();
            let counted = populated.into_iter();
            counted.map(|s| (s, self.counted(fleet, s))).collect()
        } else {
            Vec::new()
        };
        let company = &self.company;
        let hard = company.hard.iter().enumerate().map(|(at, spread)| {
            let counting = shapes.iter().filter(|(_, bits)| bits >> at & 1 != 0);
            let counting = counting.map(|(shape, _)| *shape);
            stocked(
                company.keys[spread.link.key],
                spread.link.tally,
                fleet,
                counting,
            )
        });
        let hard = hard.collect();
        let counts = |shape: u32, at: usize| {
            let known = shapes.binary_search_by_key(&shape, |(s, _)| *s);
            known.is_ok_and(|found| shapes[found].1 >> at & 1 != 0)
        };
        let sums = company.summed().enumerate().map(|(at, link)| {
            let soft = at < company.soft.len();
            if soft && link.own.is_some() {
                return Summed {
                    by_domain: Vec::new(),
                    pods: 0,
                };
            }
            let bit = company.hard.len() + at;
            summed(company.keys[link.key], link.tally, fleet, &|shape| {
                !soft || counts(shape, bit)
            })
        });
        Part {
            sums: sums.collect(),
            hard,
        }
    }
}

fn summed(key: Word, tally: u32, fleet: &Fleet, counts: &dyn Fn(u32) -> bool) -> Summed<Word> {
    let mut by_domain: BTreeMap<Word, i64> = BTreeMap::new();
    let mut pods = 0;
    for (shape, spot) in fleet.tallies.spots(tally) {
        match fleet.shape(shape).label(key) {
            Some(domain) if counts(shape) => {
                pods += spot.pods;
                if domain != OTHER {
                    *by_domain.entry(domain).or_default() += spot.pods;
                }
            }
            _ => {}
        }
    }
    Summed {
        by_domain: by_domain.into_iter().collect(),
        pods,
    }
}

fn stocked(
    key: Word,
    tally: u32,
    fleet: &Fleet,
    shapes: impl Iterator<Item = u32>,
) -> Stocked<Word> {
    let mut counts: BTreeMap<Word, i64> = BTreeMap::new();
    let mut single: BTreeMap<i64, u64> = BTreeMap::new();
    for shape in shapes {
        let Some(domain) = fleet.shape(shape).label(key) else {
            continue;
        };
        let spot = fleet.tallies.spot(tally, shape);
        if domain != OTHER {
            *counts.entry(domain).or_default() += spot.map_or(0, |s| s.pods);
            continue;
        }
        let nodes = u64::from(fleet.nodes_of_shape(shape));
        let taken = spot.map_or(0, |s| u64::from(s.nodes()));
        *single.entry(0).or_default() += nodes - taken;
        for (count, nodes) in spot.into_iter().flat_map(|s| s.levels()) {
            *single.entry(count).or_default() += u64::from(nodes);
        }
    }
    single.retain(|_, nodes| *nodes > 0);
    Stocked {
        counts: counts.into_iter().collect(),
        single: single.into_iter().collect(),
    }
}

impl<D: Ord + Clone> Part<D> {
    pub(crate) fn map<E: Ord>(&self, to: &mut dyn FnMut(&D) -> E) -> Part<E> {
        let mut pairs = |list: &[(D, i64)]| {
            let mut list: Vec<(E, i64)> = list.iter().map(|(d, n)| (to(d), *n)).collect();
            list.sort_unstable();
            list
        };
        Part {
            hard: self
                .hard
                .iter()
                .map(|stock| Stocked {
                    counts: pairs(&stock.counts),
                    single: stock.single.clone(),
                })
                .collect(),
            sums: self
                .sums
                .iter()
                .map(|sums| Summed {
                    by_domain: pairs(&sums.by_domain),
                    pods: sums.pods,
                })
                .collect(),
        }
    }

    /// All parts together; they are of one class, and so of one form.
    pub(crate) fn sum<'a>(parts: impl Iterator<Item = &'a Part<D>>) -> Option<Part<D>>
    where
        D: 'a,
    {
        let mut all: Option<Part<D>> = None;
        for part in parts {
            let Some(all) = &mut all else {
                all = Some(part.clone());
                continue;
            };
            for (sum, more) in all.hard.iter_mut().zip(&part.hard) {
                add(&mut sum.counts, &more.counts);
                add(&mut sum.single, &more.single);
            }
            for (sum, more) in all.sums.iter_mut().zip(&part.sums) {
                add(&mut sum.by_domain, &more.by_domain);
                sum.pods += more.pods;
            }
        }
        all
    }
}

fn add<K: Ord + Clone, N: Copy + std::ops::AddAssign>(sum: &mut Vec<(K, N)>, more: &[(K, N)]) {
    for (key, n) in more {
        match sum.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(at) => sum[at].1 += *n,
            Err(at) => sum.insert(at, (key.clone(), *n)),
        }
    }
}

impl Part<Word> {
    /// What the rules look at.
    pub(crate) fn look(&self, company: &Company, hashing: &Hashing) -> Look {
        let hard = self.hard.iter().map(|part| {
            let mut stock = Stock::new(hashing);
            for &(domain, count) in &part.counts {
                stock.counts.insert(domain, count);
                stock.meet(count, 1);
            }
            for &(count, domains) in &part.single {
                stock.meet(count, domains);
            }
            stock
        });
        let mut sums = self.sums.iter().map(|part| {
            let mut sums = Sums::new(hashing);
            sums.by_domain.extend(part.by_domain.iter().copied());
            sums.pods = part.pods;
            sums
        });
        let mut next = |n: usize| -> Vec<Sums> { sums.by_ref().take(n).collect() };
        let wants = company.wants.as_ref().map_or(0, |w| w.links.len());
        Look {
            hard: hard.collect(),
            soft: next(company.soft.len()),
            wants: next(wants),
            shuns: next(company.shuns.len()),
            shunned: next(company.shunned.len()),
            likes: next(company.likes.len()),
        }
    }
}

/// All sums, in this shard's words. Domains it does not know get numbers of their own.
pub(crate) fn in_words(part: &Part<Box<str>>, fleet: &Fleet) -> Part<Word> {
    let mut strangers = STRANGERS;
    part.map(&mut |text| {
        fleet.words.lookup(text).unwrap_or_else(|| {
            strangers -= 1;
            strangers
        })
    })
}
