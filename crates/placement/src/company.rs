//! What a class asks of the pods around it: topology spread and affinity between pods.
//!
//! Each rule is a tally and a topology key. The nodes a pod could go to come as *candidates*: nodes alike in
//! everything these rules can see. What is looked up anew for every pick is small: for each rule the sums of
//! its tally over shapes, by domain. A node whose domain is its own (its host name) has its count in its state.
//!
//! Does not know resources, labels of nodes beyond topology keys, or how candidates are found.

use crate::fleet::{Counts, Fleet, OTHER, Shape, scalar};
use crate::hashing::Hashing;
use crate::intern::Word;
use crate::profile::Profile;
use crate::semantics::Semantics;
use crate::tally::{Role, Spot, Subject};
use crate::terms::PodTerm;
use crate::verdict::Plugin;
use hashbrown::HashMap;
use meta::labels::LabelSelector;

/// The domain of a node that lacks the topology key.
pub(crate) const NOWHERE: Word = Word::MAX - 1;

/// A tally seen by domains of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) tally: u32,
    /// Number of the topology key.
    pub(crate) key: usize,
    /// Number among the tallies counted node by node; none if the key is not the host name.
    pub(crate) own: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) link: Link,
    max_skew: i64,
    min_domains: i64,
    /// 1 when the pod counts itself.
    itself: i64,
    honor_affinity: bool,
    honor_taints: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) links: Vec<Link>,
    /// The pod would do for itself.
    itself: bool,
}

/// Why the company on a node, or the lack of it, keeps the pod away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoSpreadLabel,
    Skew,
    Affinity,
    AntiAffinity,
    OthersAntiAffinity,
}

impl Refusal {
    pub(crate) fn plugin(self) -> Plugin {
        match self {
            Refusal::NoSpreadLabel | Refusal::Skew => Plugin::PodTopologySpread,
            _ => Plugin::InterPodAffinity,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Refusal::NoSpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Refusal::Skew => "node(s) didn't match pod topology spread constraints",
            Refusal::Affinity => "node(s) didn't match pod affinity rules",
            Refusal::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Refusal::OthersAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules"
            }
        }
    }

    /// May evicting pods help?
    pub(crate) fn is_resolvable(self) -> bool {
        !matches!(self, Refusal::NoSpreadLabel | Refusal::Affinity)
    }
}

/// Nodes alike in everything the rules of a company can see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// By topology key: the value, [`NOWHERE`], or [`OTHER`] for a domain of its own.
    pub(crate) domains: &'a [Word],
    /// Which constraints count these nodes: a bit each, hard ones first.
    pub(crate) counted: u64,
    /// By tally counted node by node: pods on each of these nodes.
    pub(crate) own: &'a [i64],
    /// Pods by tally that are to come to each of these nodes, or that are thought away (negative).
    pub(crate) coming: &'a [(u32, i64)],
    pub(crate) nodes: u64,
}

/// Raw scores of a candidate. Spread: `None` where the node does not take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawCompany {
    pub(crate) spread: Option<i64>,
    pub(crate) affinity: i64,
}

/// See the module's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Company {
    pub(crate) keys: Vec<Word>,
    own: Vec<u32>,
    pub(crate) hard: Vec<Spread>,
    pub(crate) soft: Vec<Spread>,
    /// Nodes that lack a key of a soft constraint take no part in the score.
    all_keys: bool,
    pub(crate) wants: Option<Wants>,
    pub(crate) shuns: Vec<Link>,
    pub(crate) shunned: Vec<Link>,
    pub(crate) likes: Vec<(Link, i64)>,
    semantics: Semantics,
}

/// A spread constraint ready to be added to a company.
#[derive(Clone, Debug)]
pub(crate) struct SpreadRule {
    pub(crate) tally: u32,
    pub(crate) key: Word,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: i64,
    pub(crate) itself: bool,
    pub(crate) hard: bool,
    pub(crate) honor_affinity: bool,
    pub(crate) honor_taints: bool,
}

impl Company {
    // ---- making one

    fn link(&mut self, tally: u32, key: Word, host_key: Word) -> Link {
        let key_at = place_of(&mut self.keys, key);
        let own = (key == host_key).then(|| place_of(&mut self.own, tally));
        Link {
            tally,
            key: key_at,
            own,
        }
    }

    pub(crate) fn spread(&mut self, rule: &SpreadRule, host_key: Word) {
        let spread = Spread {
            link: self.link(rule.tally, rule.key, host_key),
            max_skew: rule.max_skew,
            min_domains: rule.min_domains,
            itself: i64::from(rule.itself),
            honor_affinity: rule.honor_affinity,
            honor_taints: rule.honor_taints,
        };
        if rule.hard {
            self.hard.push(spread);
        } else {
            self.soft.push(spread);
        }
    }

    /// Soft constraints that are not the system's own: nodes must have all their keys to take part.
    pub(crate) fn need_all_keys(&mut self) {
        self.all_keys = true;
    }

    pub(crate) fn require(&mut self, tally: u32, keys: &[Word], itself: bool, host_key: Word) {
        let links = keys
            .iter()
            .map(|&key| self.link(tally, key, host_key))
            .collect();
        self.wants = Some(Wants { links, itself });
    }

    pub(crate) fn shun(&mut self, tally: u32, key: Word, host_key: Word) {
        let link = self.link(tally, key, host_key);
        self.shuns.push(link);
    }

    pub(crate) fn like(&mut self, tally: u32, key: Word, weight: i64, host_key: Word) {
        let link = self.link(tally, key, host_key);
        self.likes.push((link, weight));
    }

    /// Pods with a node that hold this term do not want the class.
    pub(crate) fn be_shunned(&mut self, tally: u32, key: Word, host_key: Word) {
        let link = self.link(tally, key, host_key);
        self.shunned.push(link);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Are there topology spread constraints?
    pub(crate) fn spreads(&self) -> bool {
        !self.hard.is_empty() || !self.soft.is_empty()
    }

    /// Are there some that only count in scores?
    pub(crate) fn spreads_softly(&self) -> bool {
        !self.soft.is_empty()
    }

    /// Must nodes be counted? Only for soft constraints between hosts.
    pub(crate) fn counts_nodes(&self) -> bool {
        self.soft.iter().any(|s| s.link.own.is_some())
    }

    // ---- what nodes are to it

    pub(crate) fn domains(&self, shape: &Shape) -> Box<[Word]> {
        let domain = |&key: &Word| shape.label(key).unwrap_or(NOWHERE);
        self.keys.iter().map(domain).collect()
    }

    /// Which constraints count nodes of the shape, by whether the pod's node affinity and its tolerations
    /// allow them.
    pub(crate) fn counted(&self, shape: &Shape, affine: bool, tolerated: bool) -> u64 {
        let has_keys = |list: &[Spread]| {
            let mut keys = list.iter().map(|s| self.keys[s.link.key]);
            keys.all(|key| shape.label(key).is_some())
        };
        let (hard, soft) = (has_keys(&self.hard), !self.all_keys || has_keys(&self.soft));
        let mut bits = 0;
        for (at, spread) in self.hard.iter().chain(&self.soft).enumerate() {
            let keys = if at < self.hard.len() { hard } else { soft };
            let policies =
                (affine || !spread.honor_affinity) && (tolerated || !spread.honor_taints);
            if keys && policies && at < 64 {
                bits |= 1 << at;
            }
        }
        bits
    }

    /// Are all that [`Company::own`] gives 0?
    pub(crate) fn counts_none(&self, tallies: &Counts<u32>) -> bool {
        tallies.is_empty() || self.own.iter().all(|&t| scalar(tallies, t) == 0)
    }

    pub(crate) fn own(&self, tallies: &Counts<u32>) -> Box<[i64]> {
        self.own.iter().map(|&t| scalar(tallies, t)).collect()
    }

    /// Reads the sums of all rules. `counted` says which constraints count nodes of a shape.
    pub(crate) fn look(
        &self,
        fleet: &Fleet,
        hashing: &Hashing,
        counted: &dyn Fn(u32) -> u64,
    ) -> Look {
        let mut look = Look::default();
        if !self.hard.is_empty() {
            let shapes: Vec<(u32, u64)> = fleet.populated().map(|s| (s, counted(s))).collect();
            for (at, spread) in self.hard.iter().enumerate() {
                let counting = shapes
                    .iter()
                    .filter(|(_, bits)| bits >> at & 1 != 0)
                    .map(|(shape, _)| *shape);
                look.hard.push(self.stock(spread, fleet, counting, hashing));
            }
        }
        let sum = |link: &Link, counts: &dyn Fn(u32) -> bool| {
            let mut sums = Sums::new(hashing);
            let key = self.keys[link.key];
            for (shape, spot) in fleet.tallies.spots(link.tally) {
                match fleet.shape(shape).label(key) {
                    Some(domain) if counts(shape) => sums.add(domain, spot),
                    _ => {}
                }
            }
            sums
        };
        for (at, spread) in self.soft.iter().enumerate() {
            look.soft.push(match spread.link.own {
                Some(_) => Sums::new(hashing),
                None => sum(&spread.link, &|shape| {
                    counted(shape) >> (self.hard.len() + at) & 1 != 0
                }),
            });
        }
        let plain = |link: &Link| sum(link, &|_| true);
        look.wants = self
            .wants
            .iter()
            .flat_map(|w| &w.links)
            .map(plain)
            .collect();
        look.shuns = self.shuns.iter().map(plain).collect();
        look.shunned = self.shunned.iter().map(plain).collect();
        look.likes = self.likes.iter().map(|(l, _)| plain(l)).collect();
        look
    }

    /// Counts of all domains of a hard constraint.
    fn stock(
        &self,
        spread: &Spread,
        fleet: &Fleet,
        shapes: impl Iterator<Item = u32>,
        hashing: &Hashing,
    ) -> Stock {
        let key = self.keys[spread.link.key];
        let mut stock = Stock::new(hashing);
        let all_nodes = self.semantics == Semantics::V1_20;
        for shape in shapes {
            let Some(domain) = fleet.shape(shape).label(key) else {
                continue;
            };
            let spot = fleet.tallies.spot(spread.link.tally, shape);
            if domain != OTHER {
                let pods = spot.map_or(0, |s| s.pods);
                *stock.counts.entry(domain).or_insert(0) += if all_nodes { 0 } else { pods };
                continue;
            }
            let nodes = u64::from(fleet.nodes_of_shape(shape));
            let taken = spot.map_or(0, |s| u64::from(s.nodes()));
            stock.meet(0, nodes - taken);
            for (count, nodes) in spot.into_iter().flat_map(Spot::levels) {
                stock.meet(count, u64::from(nodes));
            }
        }
        let everywhere = fleet.tallies.spots(spread.link.tally);
        for (shape, spot) in everywhere.filter(|_| all_nodes) {
            let domain = fleet.shape(shape).label(key);
            if let Some(count) = domain.and_then(|domain| stock.counts.get_mut(&domain)) {
                *count += spot.pods;
            }
        }
        let counts: Vec<i64> = stock.counts.values().copied().collect();
        for count in counts {
            stock.meet(count, 1);
        }
        stock
    }

    // ---- filters

    /// Does the company keep the pod away from these nodes?
    pub(crate) fn refuses(&self, look: &Look, candidate: &Candidate<'_>) -> Option<Refusal> {
        for (at, (spread, stock)) in self.hard.iter().zip(&look.hard).enumerate() {
            let domain = domain_of(candidate, &spread.link);
            if domain == NOWHERE {
                return Some(Refusal::NoSpreadLabel);
            }
            let counted = candidate.counted >> at & 1 != 0;
            let here = match (domain, spread.link.own) {
                (OTHER, Some(own)) if counted => candidate.own.get(own).copied().unwrap_or(0),
                (OTHER, _) => 0,
                _ => stock.counts.get(&domain).copied().unwrap_or(0),
            };
            let coming = if counted {
                coming(candidate, spread.link.tally)
            } else {
                0
            };
            let fewest = if stock.domains < spread.min_domains.unsigned_abs() {
                0
            } else {
                stock.fewest_after(here, coming)
            };
            if here + coming + spread.itself - fewest > spread.max_skew {
                return Some(Refusal::Skew);
            }
        }
        let is_there = |link: &Link, sums: &Sums| count(candidate, link, sums) > 0;
        if let Some(wants) = &self.wants {
            let mut all = true;
            for (link, sums) in wants.links.iter().zip(&look.wants) {
                if domain_of(candidate, link) == NOWHERE {
                    return Some(Refusal::Affinity);
                }
                all &= is_there(link, sums);
            }
            let nobody = || {
                let pairs = wants.links.iter().zip(&look.wants);
                pairs
                    .map(|(link, sums)| sums.pods + coming(candidate, link.tally))
                    .all(|pods| pods <= 0)
            };
            let first_of_its_kind = || wants.itself && nobody();
            if !all && !first_of_its_kind() {
                return Some(Refusal::Affinity);
            }
        }
        let mut shuns = self.shuns.iter().zip(&look.shuns);
        if shuns.any(|(link, sums)| is_there(link, sums)) {
            return Some(Refusal::AntiAffinity);
        }
        let mut shunned = self.shunned.iter().zip(&look.shunned);
        if shunned.any(|(link, sums)| is_there(link, sums)) {
            return Some(Refusal::OthersAntiAffinity);
        }
        None
    }

    // ---- scores

    /// Raw scores of the candidates that pass the filters, in their order.
    pub(crate) fn raw_scores(&self, look: &Look, candidates: &[Candidate<'_>]) -> Vec<RawCompany> {
        let takes_part = |candidate: &Candidate<'_>| {
            let mut links = self.soft.iter().map(|s| &s.link);
            !self.soft.is_empty()
                && (!self.all_keys || links.all(|link| domain_of(candidate, link) != NOWHERE))
        };
        let weights: Vec<f64> = self
            .soft
            .iter()
            .map(|spread| {
                let part = candidates.iter().filter(|c| takes_part(c));
                let size = if spread.link.own.is_some() {
                    part.map(|c| c.nodes).sum()
                } else {
                    let mut domains: Vec<Word> = part.map(|c| domain_of(c, &spread.link)).collect();
                    domains.sort_unstable();
                    domains.dedup();
                    domains.len() as u64
                };
                ((size + 2) as f64).ln()
            })
            .collect();
        let whole = |score: f64| match self.semantics {
            Semantics::V1_20 => score as i64,
            _ => score.round() as i64,
        };
        let raw = |candidate: &Candidate<'_>| {
            let mut score = 0.0;
            for ((spread, sums), weight) in self.soft.iter().zip(&look.soft).zip(&weights) {
                let domain = domain_of(candidate, &spread.link);
                if domain == NOWHERE {
                    continue;
                }
                let count = match spread.link.own {
                    Some(own) => candidate.own.get(own).copied().unwrap_or(0),
                    None => sums.of(domain),
                };
                score += count as f64 * weight + (spread.max_skew - 1) as f64;
            }
            let liked = self.likes.iter().zip(&look.likes);
            RawCompany {
                spread: takes_part(candidate).then_some(whole(score)),
                affinity: liked
                    .map(|((link, weight), sums)| weight * count_now(candidate, link, sums))
                    .sum(),
            }
        };
        candidates.iter().map(raw).collect()
    }
}

fn place_of<T: Copy + PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    match list.iter().position(|&known| known == item) {
        Some(at) => at,
        None => {
            list.push(item);
            list.len() - 1
        }
    }
}

fn domain_of(candidate: &Candidate<'_>, link: &Link) -> Word {
    candidate.domains.get(link.key).copied().unwrap_or(NOWHERE)
}

fn coming(candidate: &Candidate<'_>, tally: u32) -> i64 {
    let of_tally = candidate.coming.iter().filter(|(t, _)| *t == tally);
    of_tally.map(|(_, pods)| pods).sum()
}

/// Pods in the candidate's domain, those to come included.
fn count(candidate: &Candidate<'_>, link: &Link, sums: &Sums) -> i64 {
    if domain_of(candidate, link) == NOWHERE {
        return 0;
    }
    count_now(candidate, link, sums) + coming(candidate, link.tally)
}

fn count_now(candidate: &Candidate<'_>, link: &Link, sums: &Sums) -> i64 {
    match (domain_of(candidate, link), link.own) {
        (NOWHERE, _) => 0,
        (OTHER, Some(own)) => candidate.own.get(own).copied().unwrap_or(0),
        (domain, _) => sums.of(domain),
    }
}

/// Pods of one tally by domain.
#[derive(Debug)]
pub(crate) struct Sums {
    pub(crate) by_domain: HashMap<Word, i64, Hashing>,
    /// In all domains, those of single nodes included.
    pub(crate) pods: i64,
}

impl Sums {
    pub(crate) fn new(hashing: &Hashing) -> Sums {
        Sums {
            by_domain: HashMap::with_hasher(hashing.clone()),
            pods: 0,
        }
    }

    pub(crate) fn add(&mut self, domain: Word, spot: &Spot) {
        self.pods += spot.pods;
        if domain != OTHER {
            *self.by_domain.entry(domain).or_insert(0) += spot.pods;
        }
    }

    fn of(&self, domain: Word) -> i64 {
        self.by_domain.get(&domain).copied().unwrap_or(0)
    }
}

/// All domains of a hard constraint.
#[derive(Debug)]
pub(crate) struct Stock {
    pub(crate) counts: HashMap<Word, i64, Hashing>,
    domains: u64,
    fewest: i64,
    /// Domains that have the fewest.
    fewest_domains: u64,
    /// The fewest of the others.
    second: i64,
}

impl Stock {
    pub(crate) fn new(hashing: &Hashing) -> Stock {
        Stock {
            counts: HashMap::with_hasher(hashing.clone()),
            domains: 0,
            fewest: i64::MAX,
            fewest_domains: 0,
            second: i64::MAX,
        }
    }

    pub(crate) fn meet(&mut self, count: i64, domains: u64) {
        if domains == 0 {
            return;
        }
        self.domains += domains;
        if count < self.fewest {
            self.second = self.fewest;
            (self.fewest, self.fewest_domains) = (count, domains);
        } else if count == self.fewest {
            self.fewest_domains += domains;
        } else {
            self.second = self.second.min(count);
        }
    }

    /// The fewest pods of a domain once a domain that has `here` has `coming` more.
    fn fewest_after(&self, here: i64, coming: i64) -> i64 {
        let others = if here == self.fewest && self.fewest_domains == 1 {
            self.second
        } else {
            self.fewest
        };
        if coming == 0 {
            self.fewest
        } else {
            others.min(here + coming)
        }
    }
}

/// The sums behind one pick.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) hard: Vec<Stock>,
    pub(crate) soft: Vec<Sums>,
    pub(crate) wants: Vec<Sums>,
    pub(crate) shuns: Vec<Sums>,
    pub(crate) shunned: Vec<Sums>,
    pub(crate) likes: Vec<Sums>,
}

/// The rules a class brings itself: tallies and keys it holds for as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) spread: Vec<SpreadRule>,
    /// The spread rules are defaults, not the pod's own.
    pub(crate) defaults: bool,
    /// What those go by.
    pub(crate) default_selector: Option<LabelSelector>,
    pub(crate) required: Option<(u32, Vec<Word>, bool)>,
    pub(crate) anti: Vec<(u32, Word)>,
    pub(crate) preferred: Vec<(u32, Word, i64)>,
}

impl Rules {
    /// All tallies and keys, each as often as it is held.
    pub(crate) fn holds(&self) -> (Vec<u32>, Vec<Word>) {
        let spread = self.spread.iter().map(|s| (s.tally, s.key));
        let rest = self
            .anti
            .iter()
            .copied()
            .chain(self.preferred.iter().map(|&(tally, key, _)| (tally, key)));
        let (mut tallies, mut keys): (Vec<u32>, Vec<Word>) = spread.chain(rest).unzip();
        if let Some((tally, wanted, _)) = &self.required {
            tallies.push(*tally);
            keys.extend(wanted);
        }
        (tallies, keys)
    }

    /// With the terms of others that concern the class.
    pub(crate) fn company(
        &self,
        concerning: &[(u32, Word, Role)],
        host_key: Word,
        profile: &Profile,
    ) -> Company {
        let mut company = Company {
            semantics: profile.semantics,
            ..Company::default()
        };
        let (filters, weights) = (profile.filters, &profile.weights);
        let spread_filters = filters.contains(Plugin::PodTopologySpread);
        for rule in &self.spread {
            if if rule.hard {
                spread_filters
            } else {
                weights.spread > 0
            } {
                company.spread(rule, host_key);
            }
        }
        if !(self.defaults && profile.spread_defaults.system) {
            company.need_all_keys();
        }
        let pods_filter = filters.contains(Plugin::InterPodAffinity);
        if pods_filter {
            if let Some((tally, keys, itself)) = &self.required {
                company.require(*tally, keys, *itself, host_key);
            }
            for &(tally, key) in &self.anti {
                company.shun(tally, key, host_key);
            }
        }
        let scored =
            weights.pods > 0 && !(profile.ignore_preferred_of_others && self.preferred.is_empty());
        if scored {
            for &(tally, key, weight) in &self.preferred {
                company.like(tally, key, weight, host_key);
            }
        }
        for &(tally, key, role) in concerning {
            match role {
                Role::Repels if pods_filter => company.be_shunned(tally, key, host_key),
                Role::Requires if scored && profile.hard_pod_affinity_weight > 0 => {
                    company.like(tally, key, profile.hard_pod_affinity_weight, host_key);
                }
                Role::Prefers(weight) if scored => company.like(tally, key, weight, host_key),
                _ => {}
            }
        }
        company
    }
}

/// What terms of a waiting pod count: the pods that all of them find. The topology keys are no part of it.
pub(crate) fn found(terms: &[PodTerm]) -> Subject {
    let keyless = |term: &PodTerm| PodTerm {
        topology_key: "".into(),
        ..term.clone()
    };
    Subject::Found(terms.iter().map(keyless).collect())
}
