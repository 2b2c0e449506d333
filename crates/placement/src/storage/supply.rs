//! Which volumes a pod would get on a node, or have made there.
//!
//! For claims that wait for their first pod, the smallest first: the volume given to the claim already, or else the
//! smallest free one that fits and can be reached from the node; or else one is made, where the class can and has
//! room. The node is known by its labels and name only.

use super::things::{Fabric, NO_PROVISIONER, Volume, whole};
use super::{Bindings, Storage};
use crate::objects::{Requirement, SelectorOperator, Term, VolumeReason};
use crate::terms::{HOSTNAME_KEY, selects};
use hashbrown::HashMap;
use meta::labels::LabelSelector;

/// A claim that gets its volume with the pod's node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// `namespace/name`.
    pub claim: Box<str>,
    /// The claim's uid.
    pub uid: Box<str>,
    /// What a volume must be.
    pub fabric: Fabric,
    /// How large, in thousandths of bytes.
    pub size: Option<i128>,
    /// Which volumes.
    pub selector: Option<LabelSelector>,
    /// The node its volume is being made for.
    pub selected: Option<Box<str>>,
    /// What makes volumes of its class.
    pub provisioner: Box<str>,
    /// Where; everywhere if empty.
    pub topologies: Vec<Term>,
}

/// Labels and name of a node.
pub(crate) trait Place {
    fn label(&self, key: &str) -> Option<&str>;
    fn name(&self) -> &str;
}

/// What a pod finds on a node.
pub(crate) type Found = Result<Bindings, VolumeReason>;

type Named<'a> = (&'a str, &'a Volume);

/// One claim with what there is for it.
struct Offer<'a> {
    wanted: &'a Wanted,
    selected: Option<&'a str>,
    /// Volumes given to it.
    own: Vec<Named<'a>>,
    /// Free ones, the smallest first: those that name their hosts, by host,
    by_host: HashMap<&'a str, Vec<Named<'a>>>,
    /// and the others.
    anywhere: Vec<Named<'a>>,
    /// Sizes that the driver has room for, and where; `None` when it does not tell.
    room: Option<Vec<&'a LabelSelector>>,
}

/// What there is for a pod's claims.
pub(crate) struct Search<'a> {
    offers: Vec<Offer<'a>>,
    by_label: bool,
}

impl Search<'_> {
    /// Is nothing asked?
    pub(crate) fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// Do nodes with equal labels, host names apart, find the same unless they are named here?
    pub(crate) fn is_by_label(&self) -> bool {
        self.by_label
    }

    /// Hosts that volumes name.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.offers.iter().flat_map(|o| o.by_host.keys().copied())
    }

    /// What there is on a node, or what speaks against it.
    pub(crate) fn on(&self, place: &dyn Place) -> Found {
        let is_elsewhere = |offer: &Offer<'_>| offer.selected.is_some_and(|n| n != place.name());
        if self.offers.iter().any(is_elsewhere) {
            return Err(VolumeReason::NoMatch);
        }
        let mut bindings = Bindings::default();
        let (chosen, others): (Vec<&Offer<'_>>, Vec<&Offer<'_>>) =
            self.offers.iter().partition(|o| o.selected.is_some());
        let mut to_make = chosen;
        for offer in others {
            match offer.match_on(place, &bindings.to_bind) {
                Some(volume) => bindings
                    .to_bind
                    .push((volume.into(), offer.wanted.claim.clone())),
                None => to_make.push(offer),
            }
        }
        for offer in to_make {
            offer.can_be_made_on(place)?;
            bindings.to_make.push(offer.wanted.claim.clone());
        }
        Ok(bindings)
    }
}

impl<'a> Offer<'a> {
    fn match_on(&self, place: &dyn Place, taken: &[(Box<str>, Box<str>)]) -> Option<&'a str> {
        let free = |(name, _): &&Named<'a>| !taken.iter().any(|(other, _)| **other == **name);
        if let Some((name, volume)) = self.own.iter().find(free) {
            return is_reached(volume, place).then_some(*name);
        }
        let host = place.label(HOSTNAME_KEY);
        let named = host.and_then(|host| self.by_host.get(host));
        let first = |list: &[Named<'a>]| {
            let mut fitting = list.iter().filter(free);
            fitting.find(|(_, v)| is_reached(v, place)).copied()
        };
        let (here, anywhere) = (named.and_then(|l| first(l)), first(&self.anywhere));
        let smaller = here.into_iter().chain(anywhere);
        smaller
            .min_by_key(|(name, v)| (v.size, *name))
            .map(|(name, _)| name)
    }

    fn can_be_made_on(&self, place: &dyn Place) -> Result<(), VolumeReason> {
        let wanted = self.wanted;
        let topologies = &wanted.topologies;
        if matches!(&*wanted.provisioner, "" | NO_PROVISIONER)
            || !(topologies.is_empty() || topologies.iter().any(|t| matches(t, place)))
        {
            return Err(VolumeReason::NoMatch);
        }
        match &self.room {
            Some(nodes) if !nodes.iter().any(|n| n.matches_by(|key| place.label(key))) => {
                Err(VolumeReason::NoSpace)
            }
            _ => Ok(()),
        }
    }
}

impl Storage {
    /// What there is for these claims now, with what is assumed.
    pub(crate) fn search<'a>(&'a self, wanted: &'a [Wanted]) -> Search<'a> {
        let offers: Vec<Offer<'a>> = wanted.iter().map(|wanted| self.offer(wanted)).collect();
        let says_host = |selector: &LabelSelector| {
            let mut asked = selector.requirements().iter();
            asked.any(|r| r.key == HOSTNAME_KEY)
        };
        let by_label = offers.iter().all(|offer| {
            offer.selected.is_none()
                && !offer.wanted.topologies.iter().any(asks_host)
                && !offer.room.iter().flatten().any(|s| says_host(s))
                && offer.own.iter().chain(&offer.anywhere).all(|(_, v)| {
                    let mut terms = v.affinity.iter().flatten();
                    !terms.any(asks_host)
                })
        });
        Search { offers, by_label }
    }

    fn offer<'a>(&'a self, wanted: &'a Wanted) -> Offer<'a> {
        let chosen = self.chosen.get(&wanted.claim).map(|(node, _)| &**node);
        let mut offer = Offer {
            wanted,
            selected: wanted.selected.as_deref().or(chosen),
            own: Vec::new(),
            by_host: HashMap::new(),
            anywhere: Vec::new(),
            room: self.room(wanted),
        };
        if offer.selected.is_some() {
            return offer;
        }
        for name in self
            .by_class
            .get(&wanted.fabric.class)
            .into_iter()
            .flatten()
        {
            let Some(volume) = self.volumes.get(name) else {
                continue;
            };
            let given = self.given.get(name).map(|(claim, _)| claim);
            let claim = volume.claim.as_ref().or(given);
            let is_own = claim.is_some_and(|c| c.means(&wanted.claim, &wanted.uid));
            if (claim.is_some() && !is_own) || !fits(volume, wanted) {
                continue;
            }
            if is_own {
                offer.own.push((name, volume));
            } else if is_free(volume, wanted) {
                match &volume.hosts {
                    Some(hosts) => {
                        for host in hosts {
                            let list = offer.by_host.entry(host).or_default();
                            list.push((name, volume));
                        }
                    }
                    None => offer.anywhere.push((name, volume)),
                }
            }
        }
        for list in offer.by_host.values_mut().chain([&mut offer.anywhere]) {
            list.sort_by_key(|(name, volume)| (volume.size, *name));
        }
        offer
    }

    /// Where the driver has room for a claim; `None` when it does not tell, or nothing is asked.
    fn room(&self, wanted: &Wanted) -> Option<Vec<&LabelSelector>> {
        let size = whole(wanted.size?);
        let driver = self.drivers.get(&wanted.provisioner)?;
        if !driver.tells_capacity {
            return None;
        }
        let enough = self.capacities.values().filter(|capacity| {
            capacity.class == wanted.fabric.class && capacity.limit.is_some_and(|l| l >= size)
        });
        Some(enough.filter_map(|c| c.nodes.as_ref()).collect())
    }
}

/// What holds for a volume given to the claim, too.
fn fits(volume: &Volume, wanted: &Wanted) -> bool {
    volume.size >= wanted.size.unwrap_or(0)
        && volume.fabric.block == wanted.fabric.block
        && volume.fabric.attributes == wanted.fabric.attributes
        && !volume.deleting
}

fn is_free(volume: &Volume, wanted: &Wanted) -> bool {
    let mut modes = wanted.fabric.modes.iter();
    volume.available
        && modes.all(|mode| volume.fabric.modes.contains(mode))
        && wanted
            .selector
            .as_ref()
            .is_none_or(|selector| selects(selector, &volume.labels))
}

fn is_reached(volume: &Volume, place: &dyn Place) -> bool {
    let affinity = volume.affinity.as_ref();
    affinity.is_none_or(|terms| terms.iter().any(|term| matches(term, place)))
}

fn asks_host(term: &Term) -> bool {
    !term.names.is_empty() || term.expressions.iter().any(|r| &*r.key == HOSTNAME_KEY)
}

/// Does a term select a node? An empty one selects none.
fn matches(term: &Term, place: &dyn Place) -> bool {
    if term.broken || (term.expressions.is_empty() && term.names.is_empty()) {
        return false;
    }
    let mut expressions = term.expressions.iter();
    let mut names = term.names.iter();
    expressions.all(|r| holds(r, place.label(&r.key)))
        && names.all(|r| holds(r, Some(place.name())))
}

fn holds(requirement: &Requirement, value: Option<&str>) -> bool {
    let listed = || value.is_some_and(|v| requirement.values.iter().any(|known| **known == *v));
    let numbers = || {
        let bound: i64 = requirement.values.first()?.parse().ok()?;
        Some((value?.parse::<i64>().ok()?, bound))
    };
    match requirement.operator {
        SelectorOperator::In => listed(),
        SelectorOperator::NotIn => !listed(),
        SelectorOperator::Exists => value.is_some(),
        SelectorOperator::DoesNotExist => value.is_none(),
        SelectorOperator::Gt => numbers().is_some_and(|(n, bound)| n > bound),
        SelectorOperator::Lt => numbers().is_some_and(|(n, bound)| n < bound),
    }
}
