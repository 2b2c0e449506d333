//! Volumes and nodes: what speaks against a node for the volumes of a pod, and the choice among nodes that it leaves.
//!
//! What a claim's bound volume asks of nodes is compiled into the class like node affinity. All else depends on the
//! very node (who is on it, which volumes are free there), so pods with volumes are placed by a look at every
//! state: its nodes but for those that something speaks against. A pod without volumes never comes here.
//!
//! Does not know scores.

use crate::class::{Class, Dynamic, Static};
use crate::cluster::{ClassId, Cluster, NodeId};
use crate::company::Look;
use crate::fleet::Fleet;
use crate::key::PodKey;
use crate::objects::{PodInfo, VolumeReason, Volumes};
use crate::pick::{Counting, Explanation, WhyNot, below, scores, why_not};
use crate::storage::{Bindings, Concerned, Found, Holding, Place, Search, Thing, ThingKind};
use crate::verdict::Unschedulable;
use hashbrown::{HashMap, HashSet};

/// What speaks against nodes, a bit for each reason.
#[derive(Debug, Default)]
pub(crate) struct Against {
    everywhere: VolumeBits,
    some: HashMap<u32, VolumeBits>,
    /// Where others are in the way, who they are: told to shards, which do not know it.
    pub(crate) holding: HashMap<u32, Holding>,
}

impl Against {
    pub(crate) fn of(
        everywhere: VolumeBits,
        some: impl Iterator<Item = (u32, VolumeBits)>,
    ) -> Against {
        Against {
            everywhere,
            some: some.collect(),
            holding: HashMap::new(),
        }
    }

    /// What speaks against a node with some pods thought away, as far as it was told who is in the way.
    fn without(&self, node: u32, away: &[PodKey]) -> VolumeBits {
        let bits = self.node(node);
        let Some(holding) = self.holding.get(&node) else {
            return bits;
        };
        let mut left = bits & !PASSING;
        for (is_so, reason) in [
            (holding.disks.hold(away), VolumeReason::Disk),
            (holding.once.hold(away), VolumeReason::OncePod),
            (
                holding.limits.iter().any(|l| l.is_exceeded(away)),
                VolumeReason::Limit,
            ),
        ] {
            left |= if is_so { bit(reason) } else { 0 };
        }
        left
    }

    /// This speaks against a node, too.
    pub(crate) fn add(&mut self, node: u32, bits: VolumeBits) {
        *self.some.entry(node).or_insert(0) |= bits;
    }

    pub(crate) fn everywhere(&self) -> VolumeBits {
        self.everywhere
    }

    /// Nodes that something speaks against which does not speak against all.
    pub(crate) fn some(&self) -> impl Iterator<Item = (u32, VolumeBits)> + '_ {
        self.some.iter().map(|(node, bits)| (*node, *bits))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.everywhere == 0 && self.some.is_empty()
    }

    pub(crate) fn node(&self, node: u32) -> VolumeBits {
        self.everywhere | self.some.get(&node).copied().unwrap_or(0)
    }
}

/// Nodes of one state about which the same is said.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) state: u32,
    /// The one node, where nodes are named.
    pub(crate) node: Option<u32>,
    pub(crate) nodes: u64,
    pub(crate) why: Option<WhyNot>,
}

/// A group that passes the filters.
#[derive(Debug)]
struct Passing {
    group: usize,
    cell: u32,
    room: Dynamic,
}

/// Reasons of volumes and devices, a bit each.
pub(crate) type VolumeBits = u16;

const fn bit(reason: VolumeReason) -> VolumeBits {
    1 << reason as u8
}

/// Reasons of VolumeBinding.
const BINDING: VolumeBits = bit(VolumeReason::NodeAffinity)
    | bit(VolumeReason::NoMatch)
    | bit(VolumeReason::NoVolume)
    | bit(VolumeReason::NoSpace);
/// Reasons that go with the pods that are there.
const PASSING: VolumeBits =
    bit(VolumeReason::Disk) | bit(VolumeReason::OncePod) | bit(VolumeReason::Limit);

/// Of all that speaks against a node, what the first plugin says that does.
pub(crate) fn first_said(bits: VolumeBits) -> VolumeBits {
    let steps = [
        bit(VolumeReason::Disk),
        bit(VolumeReason::OncePod),
        bit(VolumeReason::Limit),
        BINDING,
        bit(VolumeReason::Zone),
        bit(VolumeReason::Devices),
    ];
    let first = steps.into_iter().find(|step| bits & step != 0);
    first.map_or(bits, |step| bits & step)
}

/// May evicting pods help against these reasons?
pub(crate) fn may_pass(bits: VolumeBits) -> bool {
    first_said(bits) & !PASSING == 0
}

/// A verdict on a state with what is said of one of its nodes.
pub(crate) fn with_bits(why: Option<WhyNot>, bits: VolumeBits) -> Option<WhyNot> {
    match why {
        Some(WhyNot::Static(_) | WhyNot::NotEnforced | WhyNot::NoRoom) => why,
        Some(WhyNot::Volumes(known)) => Some(WhyNot::Volumes(first_said(known | bits))),
        _ if bits != 0 => Some(WhyNot::Volumes(first_said(bits))),
        _ => why,
    }
}

struct NodeOf<'a>(&'a Fleet, u32);

impl Place for NodeOf<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0.label_of(self.1, key)
    }

    fn name(&self) -> &str {
        self.0.known_name(self.1)
    }
}

fn said(found: &Found) -> VolumeBits {
    found.as_ref().err().map_or(0, |reason| bit(*reason))
}

impl Class {
    /// Must nodes be asked one by one for its volumes?
    pub(crate) fn minds_volumes(&self) -> bool {
        self.spec.volumes.uses.is_some()
    }

    /// The bits of reasons whose plugins are asked.
    fn asked(&self) -> VolumeBits {
        let filters = self.profile.filters;
        let asked = VolumeReason::ALL.into_iter();
        let asked = asked.filter(|reason| filters.contains(reason.plugin()));
        asked.fold(0, |bits, reason| bits | bit(reason))
    }
}

impl Cluster {
    /// Does any profile ask about volumes? Else those of pods are not remembered.
    pub(crate) fn asks_about_volumes(&self) -> bool {
        let mut profiles = self.profiles.iter();
        profiles.any(|profile| {
            let mut reasons = VolumeReason::ALL.into_iter();
            reasons.any(|reason| profile.filters.contains(reason.plugin()))
        })
    }

    // ---- what volumes are made of

    /// A claim, a volume or what makes them came or changed: says whom that concerns. `key` is its name, with the
    /// namespace before it where it has one.
    pub fn note_thing(&mut self, key: &str, thing: Thing) -> Vec<Concerned> {
        self.storage.note(key, thing)
    }

    /// One is gone.
    pub fn forget_thing(&mut self, kind: ThingKind, key: &str) -> Vec<Concerned> {
        self.storage.forget(kind, key)
    }

    /// What a pod's volumes ask of nodes now; nothing for a pod without any.
    pub fn volumes_of(&self, pod: &PodInfo) -> Volumes {
        let uses = pod.uses.as_ref();
        uses.map_or_else(Volumes::default, |uses| {
            self.storage
                .outcome(&pod.namespace, &pod.name, &pod.uid, uses)
        })
    }

    /// What a pod of the class gets on a node that was picked for it: the volumes are its own from now on, until
    /// [`Cluster::give_back_volumes`]. `None` when they are not to be had.
    pub fn take_volumes(&mut self, pod: PodKey, class: ClassId, node: NodeId) -> Option<Bindings> {
        let class = self.class(class)?;
        let wanted = &class.spec.volumes.to_bind;
        if wanted.is_empty() || class.asked() & BINDING == 0 {
            return Some(Bindings::default());
        }
        let place = NodeOf(&self.fleet, node.0);
        let bindings = self.storage.search(wanted).on(&place).ok()?;
        let name = self.fleet.node_name(node.0)?.to_owned();
        self.storage.assume(pod, &name, &bindings);
        Some(bindings)
    }

    /// The pod does not go to its node after all, or binding its volumes failed. True if it had been given some.
    pub fn give_back_volumes(&mut self, pod: PodKey) -> bool {
        self.storage.give_back(pod)
    }

    // ---- what speaks against nodes

    /// What speaks against nodes for the volumes of a class, others on the node and in view of it counted.
    pub(crate) fn against(&mut self, class: &Class) -> Against {
        let mut against = Against::default();
        if !class.minds_volumes() {
            return against;
        }
        let (fleet, storage, attached) = (&self.fleet, &mut self.storage, &mut self.attached);
        attached.catch_up(
            storage,
            |name| fleet.node(name),
            |node| fleet.node_name(node),
        );
        let asked = class.asked();
        let volumes = &class.spec.volumes;
        for node in self.contested(class) {
            let bits = self.passing_bits(class, node, &[]);
            if bits != 0 {
                against.some.insert(node, bits);
            }
        }
        let taken = &volumes.exclusive;
        let priority = class.spec.priority;
        if self.attached.claims_taken(taken, None, priority, &[]) {
            against.everywhere |= bit(VolumeReason::OncePod) & asked;
        }
        if asked & BINDING != 0 && !volumes.to_bind.is_empty() {
            self.search_all(&self.storage.search(&volumes.to_bind), &mut against);
        }
        against
    }

    /// Nodes where others may be in the way of volumes of a class, but for claims that allow one pod alone.
    fn contested(&self, class: &Class) -> Vec<u32> {
        let volumes = &class.spec.volumes;
        let mut nodes: Vec<u32> = Vec::new();
        if let Some(uses) = &volumes.uses {
            nodes.extend(self.attached.nodes_with(&uses.disks));
        }
        nodes.extend(self.attached.short_of(&volumes.attach));
        nodes.extend(self.attached.expecting());
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Who is in the way of volumes of a class on nodes that exist, of so many nodes at most. Up to date after
    /// [`Cluster::against`].
    pub(crate) fn holding(&self, class: &Class, max: usize) -> Vec<(u32, Holding)> {
        let volumes = &class.spec.volumes;
        let Some(uses) = &volumes.uses else {
            return Vec::new();
        };
        let users = volumes
            .exclusive
            .iter()
            .flat_map(|c| self.attached.users_of(c));
        let mut nodes: Vec<u32> = users.map(|(_, node)| node).collect();
        nodes.extend(self.contested(class));
        nodes.sort_unstable();
        nodes.dedup();
        let there = nodes.into_iter().filter_map(|node| {
            let name = self.fleet.node_name(node)?;
            let asked = (&*uses.disks, &*volumes.exclusive, &*volumes.attach);
            let priority = class.spec.priority;
            let holding = self
                .attached
                .holding(&self.storage, asked, (node, name), priority);
            Some((node, holding))
        });
        there.take(max).collect()
    }

    fn search_all(&self, search: &Search<'_>, against: &mut Against) {
        if search.is_empty() {
            return;
        }
        let fleet = &self.fleet;
        let mut by_body: HashMap<u32, VolumeBits> = HashMap::new();
        let named: HashSet<&str> = search.hosts().collect();
        for node in fleet.existing() {
            let place = NodeOf(fleet, node);
            let alike = search.is_by_label()
                && place
                    .label(crate::terms::HOSTNAME_KEY)
                    .is_none_or(|host| !named.contains(host));
            let bits = if alike {
                let body = by_body.entry(fleet.body_of(node));
                *body.or_insert_with(|| said(&search.on(&place)))
            } else {
                said(&search.on(&place))
            };
            if bits != 0 {
                *against.some.entry(node).or_insert(0) |= bits;
            }
        }
    }

    /// What speaks against a node that goes with the pods there, with some thought away.
    fn passing_bits(&self, class: &Class, node: u32, away: &[PodKey]) -> VolumeBits {
        let (volumes, priority) = (&class.spec.volumes, class.spec.priority);
        let attached = &self.attached;
        let mut bits = 0;
        if let Some(uses) = &volumes.uses
            && attached.disks_clash(&uses.disks, node, priority, away)
        {
            bits |= bit(VolumeReason::Disk);
        }
        if attached.claims_taken(&volumes.exclusive, Some(node), priority, away) {
            bits |= bit(VolumeReason::OncePod);
        }
        let named = (node, self.fleet.known_name(node));
        if attached.exceeds(&self.storage, &volumes.attach, named, priority, away) {
            bits |= bit(VolumeReason::Limit);
        }
        bits & class.asked()
    }

    /// The same of all that speaks against a node.
    pub(crate) fn against_without(
        &self,
        class: &Class,
        against: &Against,
        node: u32,
        away: &[PodKey],
    ) -> VolumeBits {
        if self.outside.is_some() {
            // Who uses what is known to the coordinator alone, which told it.
            return against.without(node, away) & class.asked();
        }
        if !class.minds_volumes() {
            return 0;
        }
        (against.node(node) & BINDING) | self.passing_bits(class, node, away)
    }

    // ---- choosing

    /// Nodes in groups: those named, or all.
    pub(crate) fn groups(
        &self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        named: Option<&[u32]>,
    ) -> Vec<Group> {
        let fleet = &self.fleet;
        let mut groups = Vec::new();
        if let Some(nodes) = named {
            for &node in nodes {
                let state = fleet.state_of(node);
                let why = why_not(fleet, class, look, state);
                groups.push(Group {
                    state,
                    node: Some(node),
                    nodes: 1,
                    why: with_bits(why, against.node(node)),
                });
            }
            return groups;
        }
        let mut apart: HashMap<u32, Vec<(VolumeBits, u64)>> = HashMap::new();
        for (&node, &bits) in &against.some {
            if fleet.node_name(node).is_none() {
                continue;
            }
            let known = apart.entry(fleet.state_of(node)).or_default();
            match known.iter_mut().find(|(other, _)| *other == bits) {
                Some((_, nodes)) => *nodes += 1,
                None => known.push((bits, 1)),
            }
        }
        for state in fleet.live() {
            let why = why_not(fleet, class, look, state);
            let mut rest = u64::from(fleet.size(state));
            let mut group = |nodes, bits| {
                groups.push(Group {
                    state,
                    node: None,
                    nodes,
                    why: with_bits(why, bits),
                });
            };
            for &(bits, nodes) in apart.get(&state).into_iter().flatten() {
                rest -= nodes;
                group(nodes, bits | against.everywhere);
            }
            if rest > 0 {
                group(rest, against.everywhere);
            }
        }
        groups
    }

    fn passing(&self, class: &mut Class, groups: &[Group]) -> (Vec<Passing>, Vec<(u32, u64)>) {
        let fleet = &self.fleet;
        let mut passing = Vec::new();
        let mut cells: Vec<(u32, u64)> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        for (at, group) in groups.iter().enumerate() {
            if group.why.is_some() {
                continue;
            }
            let standing = class.judge_shape(fleet, fleet.shape_of(group.state));
            if let (Static::Stands(standing), Some(room)) =
                (standing, class.judge_state(fleet, group.state))
            {
                let cell = class.cell(fleet, standing, group.state);
                let place = *places.entry(cell).or_insert_with(|| {
                    cells.push((cell, 0));
                    cells.len() - 1
                });
                cells[place].1 += group.nodes;
                passing.push(Passing {
                    group: at,
                    cell,
                    room,
                });
            }
        }
        (passing, cells)
    }

    /// [`Cluster::pick`] for a class that minds volumes; `Err` has what is to be added for nodes not named.
    pub(crate) fn pick_with_volumes(
        &mut self,
        class: &mut Class,
        named: Option<&[u32]>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<u32, Counting> {
        let against = self.against(class);
        let look = class.look(&self.fleet);
        let groups = self.groups(class, &look, &against, named);
        let (passing, cells) = self.passing(class, &groups);
        let ratings = class.rate(&self.fleet, &cells);
        let totals: HashMap<u32, i64> = cells
            .iter()
            .zip(&ratings)
            .filter_map(|((cell, _), rating)| Some((*cell, rating.as_ref().ok()?.total)))
            .collect();
        let total = |one: &Passing| Some(totals.get(&one.cell)? + one.room.room);
        if let Some(best) = passing.iter().filter_map(total).max() {
            let best: Vec<&Group> = passing
                .iter()
                .filter(|one| total(one) == Some(best))
                .map(|one| &groups[one.group])
                .collect();
            let all = best.iter().map(|group| group.nodes).sum();
            if let Some(node) = self.nth_node(&best, &against, below(all, random)) {
                return Ok(node);
            }
        }
        let mut counting = Counting::default();
        for group in &groups {
            let nodes = usize::try_from(group.nodes).unwrap_or(usize::MAX);
            counting.count_group(&self.fleet, class, group.why, group.state, nodes);
        }
        Err(counting)
    }

    fn nth_node(&self, groups: &[&Group], against: &Against, mut nth: u64) -> Option<u32> {
        for group in groups {
            if nth >= group.nodes {
                nth -= group.nodes;
                continue;
            }
            if group.node.is_some() {
                return group.node;
            }
            let members = self.fleet.members(group.state).iter();
            let mut free = members.filter(|node| against.node(**node) == 0);
            return free.nth(usize::try_from(nth).ok()?).copied();
        }
        None
    }

    /// Nodes that pass for a class that minds volumes.
    pub(crate) fn feasible_with_volumes(&mut self, class: &mut Class) -> usize {
        let against = self.against(class);
        let look = class.look(&self.fleet);
        let groups = self.groups(class, &look, &against, None);
        let passing = groups.iter().filter(|group| group.why.is_none());
        let nodes: u64 = passing.map(|group| group.nodes).sum();
        usize::try_from(nodes).unwrap_or(usize::MAX)
    }

    /// [`Cluster::explain`] for a class that minds volumes.
    pub(crate) fn explain_with_volumes(&mut self, class: &mut Class, node: u32) -> Explanation {
        let against = self.against(class);
        let look = class.look(&self.fleet);
        let groups = self.groups(class, &look, &against, None);
        let (passing, cells) = self.passing(class, &groups);
        let ratings = class.rate(&self.fleet, &cells);
        let state = self.fleet.state_of(node);
        let why = with_bits(
            why_not(&self.fleet, class, &look, state),
            against.node(node),
        );
        let own = passing.iter().find(|one| groups[one.group].state == state);
        let rating = own.and_then(|own| {
            let mut rated = cells.iter().zip(&ratings);
            let rating = rated.find(|((cell, _), _)| *cell == own.cell)?.1;
            Some((rating.as_ref().ok()?, &own.room))
        });
        if let (None, Some((shares, room))) = (why, rating) {
            return Explanation::Feasible(scores(shares, room));
        }
        let mut counting = Counting::default();
        counting.count_group(&self.fleet, class, why, state, 1);
        let reasons: Unschedulable = counting.finish(&self.fleet);
        Explanation::Rejected(reasons.reasons.into_iter().map(|(text, _)| text).collect())
    }

    /// What speaks against one node for the volumes of a class.
    pub(crate) fn bits_of(&mut self, class: &Class, node: u32) -> VolumeBits {
        if class.minds_volumes() {
            self.against(class).node(node)
        } else {
            0
        }
    }
}
