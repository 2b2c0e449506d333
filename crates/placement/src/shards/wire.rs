//! Messages as bytes, for shards in other processes.
//!
//! Numbers are variable in length (seven bits a byte, the lowest first; signed ones with their sign lowest), texts
//! and lists begin with their length, variants with their number, fields follow in order without names. So both ends
//! must be of one [`WIRE_VERSION`], which the greeting says. What carries the bytes frames them.
//!
//! No byte is believed: what does not decode to the end is a [`WireError`]. Does not know sockets.

use super::volumes::Barred;
use super::words::*;
use crate::cluster::Config;
use crate::devices::Devices;
use crate::key::PodKey;
use crate::objects::*;
use crate::preempt::Budget;
use crate::profile::{Profile, SpreadDefaults, Strategy, Weights};
use crate::semantics::Semantics;
use crate::storage::{Holders, Holding, Limit};
use crate::tally::Role;
use crate::terms::{HostPort, Maker, MakerKind, PodAffinity, PodTerm, SpreadConstraint};
use crate::verdict::{PluginSet, Unschedulable};
use meta::Value;
use meta::labels::{LabelOperator, LabelRequirement, LabelSelector};
use std::borrow::Cow;
use std::sync::Arc;

/// Changes with every change of any message, or of what one means.
pub const WIRE_VERSION: u64 = 3;
/// What a greeting begins with.
const MAGIC: &[u8; 8] = b"mp-shard";

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// It does not begin as a greeting does.
    NotAShard,
    /// The other end is of another version.
    Version(u64),
    /// It ends too early, goes on too long, or a value is out of range.
    Garbled,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::NotAShard => {
                f.write_str("the other end does not speak as a scheduler with shards does")
            }
            WireError::Version(version) => write!(
                f,
                "the other end speaks version {version} of the messages, this one {WIRE_VERSION}: start both from the same release"
            ),
            WireError::Garbled => f.write_str("a message cannot be understood"),
        }
    }
}

impl std::error::Error for WireError {}

/// The first message of a coordinator: limits, seed and profiles, which must be the same on both ends.
#[derive(Clone, Debug)]
pub struct Greeting(pub Config);

impl Greeting {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        WIRE_VERSION.put(&mut out);
        let config = &self.0;
        config.hash_seed.put(&mut out);
        (config.index_entries_max as u64).put(&mut out);
        (config.litter_max as u64).put(&mut out);
        config.profiles.put(&mut out);
        out
    }

    /// From bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Greeting, WireError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(WireError::NotAShard)?;
        let mut from = Bytes(rest);
        let version = u64::get(&mut from).ok_or(WireError::Garbled)?;
        if version != WIRE_VERSION {
            return Err(WireError::Version(version));
        }
        let config = |from: &mut Bytes<'_>| {
            Some(Config {
                hash_seed: u64::get(from)?,
                index_entries_max: usize::get(from)?,
                litter_max: usize::get(from)?,
                profiles: Vec::get(from)?,
                ..Config::default()
            })
        };
        whole(from, config).map(Greeting)
    }
}

impl Request {
    /// Several as bytes.
    pub fn to_bytes(requests: &[Request]) -> Vec<u8> {
        let mut out = Vec::new();
        (requests.len() as u64).put(&mut out);
        for request in requests {
            request.0.put(&mut out);
        }
        out
    }

    /// Several from bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Vec<Request>, WireError> {
        let orders: Vec<Order> = whole(Bytes(bytes), Vec::get)?;
        Ok(orders.into_iter().map(Request).collect())
    }
}

impl Reply {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.0.put(&mut out);
        out
    }

    /// From bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Reply, WireError> {
        whole(Bytes(bytes), Answer::get).map(Reply)
    }
}

fn whole<T>(
    mut from: Bytes<'_>,
    get: impl FnOnce(&mut Bytes<'_>) -> Option<T>,
) -> Result<T, WireError> {
    let value = get(&mut from).ok_or(WireError::Garbled)?;
    if from.0.is_empty() {
        Ok(value)
    } else {
        Err(WireError::Garbled)
    }
}

// ---- values

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A length of things that take a byte each at least, so that nothing is set aside for more than can be there.
    fn len(&mut self) -> Option<usize> {
        let len = usize::get(self)?;
        (len <= self.0.len()).then_some(len)
    }
}

trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(from: &mut Bytes<'_>) -> Option<Self>;
}

impl Wire for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        let mut left = *self;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
    }

    fn get(from: &mut Bytes<'_>) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *from.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl Wire for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        ((*self << 1) ^ (*self >> 63)).cast_unsigned().put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<i64> {
        let folded = u64::get(from)?;
        Some((folded >> 1).cast_signed() ^ -((folded & 1).cast_signed()))
    }
}

macro_rules! as_wider {
    ($($narrow:ty as $wide:ty;)*) => {
        $(impl Wire for $narrow {
            fn put(&self, out: &mut Vec<u8>) {
                (*self as $wide).put(out);
            }

            fn get(from: &mut Bytes<'_>) -> Option<$narrow> {
                <$narrow>::try_from(<$wide>::get(from)?).ok()
            }
        })*
    };
}

as_wider! {
    u16 as u64;
    u32 as u64;
    usize as u64;
    i32 as i64;
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn get(from: &mut Bytes<'_>) -> Option<bool> {
        match from.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn get(from: &mut Bytes<'_>) -> Option<String> {
        let len = from.len()?;
        std::str::from_utf8(from.take(len)?).ok().map(Into::into)
    }
}

impl Wire for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn get(from: &mut Bytes<'_>) -> Option<Box<str>> {
        String::get(from).map(Into::into)
    }
}

impl Wire for PodKey {
    fn put(&self, out: &mut Vec<u8>) {
        for half in self.halves() {
            out.extend_from_slice(&half.to_le_bytes());
        }
    }

    fn get(from: &mut Bytes<'_>) -> Option<PodKey> {
        let mut half = || Some(u64::from_le_bytes(from.take(8)?.try_into().ok()?));
        Some(PodKey::of_halves([half()?, half()?]))
    }
}

impl Wire for Value {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_string().put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<Value> {
        serde_json::from_str(&String::get(from)?).ok()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        for item in self {
            item.put(out);
        }
    }

    fn get(from: &mut Bytes<'_>) -> Option<Vec<T>> {
        let len = from.len()?;
        (0..len).map(|_| T::get(from)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn get(from: &mut Bytes<'_>) -> Option<Option<T>> {
        if bool::get(from)? {
            T::get(from).map(Some)
        } else {
            Some(None)
        }
    }
}

impl<T: Wire> Wire for Arc<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<Arc<T>> {
        T::get(from).map(Arc::new)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<(A, B)> {
        Some((A::get(from)?, B::get(from)?))
    }
}

impl<A: Wire, B: Wire, C: Wire> Wire for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<(A, B, C)> {
        Some((A::get(from)?, B::get(from)?, C::get(from)?))
    }
}

macro_rules! fields {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        $(impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                // Every field is named: one that is added must be added here.
                let $name { $($field),* } = self;
                $($field.put(out);)*
            }

            fn get(from: &mut Bytes<'_>) -> Option<$name> {
                $(let $field = Wire::get(from)?;)*
                Some($name { $($field),* })
            }
        })*
    };
}

macro_rules! variants {
    ($($name:ident { $($number:literal $variant:ident $(( $($field:ident),* ))?),* $(,)? })*) => {
        $(impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant $(( $($field),* ))? => {
                        out.push($number);
                        $($($field.put(out);)*)?
                    })*
                }
            }

            fn get(from: &mut Bytes<'_>) -> Option<$name> {
                match from.take(1)? {
                    $([$number] => {
                        $($(let $field = Wire::get(from)?;)*)?
                        Some($name::$variant $(( $($field),* ))?)
                    })*
                    _ => None,
                }
            }
        })*
    };
}

// ---- messages

variants! {
    Order {
        0 Node(info), 1 RemoveNode(name), 2 Kind(number, spec, deleting), 3 DropKind(number),
        4 Pod(pod), 5 RemovePod(key), 6 Claim(claim), 7 Namespace(name, labels),
        8 Maker(kind, namespace, name, selector), 9 Budget(budget), 10 RemoveBudget(namespace, name),
        11 Term(number, role, term), 12 DropTerm(number), 13 Host(host, spelt), 14 Class(number, spec),
        15 Survey(class), 16 Take(take), 17 Run(run), 18 Count(class, cells), 19 Where(class, node, look, bits),
        20 Reasons(class, look, bars), 21 Scan(class), 22 Potential(class, pin, look, bars), 23 TryOut(order),
        24 Waits(class, node, look, bits), 25 Sift(class, barred), 26 Draw(class, barred, cell, room, nth),
        27 Evicting(pods), 28 Spare(node),
    }
    Answer {
        0 Told(told), 1 Taken(node, told), 2 Ran(nodes, told), 3 Number(number), 4 Stands(stands),
        5 Rejected(why), 6 Tried(best, failures), 7 Confused, 8 Named(node),
    }
    Domain { 0 Nowhere, 1 Own, 2 Of(text) }
    Role { 0 Repels, 1 Requires, 2 Prefers(weight) }
    Effect { 0 NoSchedule, 1 PreferNoSchedule, 2 NoExecute }
    TolerationOperator { 0 Equal, 1 Exists, 2 Unknown }
    SelectorOperator { 0 In, 1 NotIn, 2 Exists, 3 DoesNotExist, 4 Gt, 5 Lt }
    VolumeReason {
        0 NodeAffinity, 1 NoMatch, 2 NoVolume, 3 Zone, 4 Disk, 5 OncePod, 6 Limit, 7 NoSpace, 8 Devices,
    }
    Semantics { 0 V1_20, 1 V1_35, 2 V1_36 }
    MakerKind { 0 Service, 1 ReplicationController, 2 ReplicaSet, 3 StatefulSet }
    Strategy { 0 LeastAllocated, 1 MostAllocated, 2 RequestedToCapacityRatio(line) }
    LabelOperator {
        0 Equals, 1 DoubleEquals, 2 NotEquals, 3 In, 4 NotIn, 5 Exists, 6 DoesNotExist, 7 GreaterThan,
        8 LessThan,
    }
}

fields! {
    OnNode { key, node, kind, assumed, started_micros, name_hash, preempted }
    Claim { pod, node, priority, kind, add }
    Take { class, generation, cell, nth, pod }
    Run { class, generation, totals, floor, together, seed, pods }
    TryOut { class, pin, look, bars, holding, now_micros, wanted, seed }
    Holding { disks, once, limits }
    Holders { always, pods }
    Limit { wanted, others, most }
    Told { anew, generation, cells, gone, part }
    CellTold { cell, facts, level }
    Level { top, top_nodes, nodes }
    CellFacts { soft, preferred, images, domains, counted, own, claimed, coming }
    Sacrificed { node, victims, violations, highest, sum, earliest }
    NodeInfo { name, labels, taints, unschedulable, allocatable, allocatable_pods, images, features }
    Image { name, bytes }
    Taint { key, value, effect }
    ResourceList { cpu_milli, memory_bytes, ephemeral_bytes, scalars }
    PodRequest { real, scored_cpu_milli, scored_memory_bytes }
    Toleration { key, operator, value, effect }
    Requirement { key, operator, values }
    Term { expressions, names, pinned, broken }
    VolumeRule { reason, terms }
    Devices { obstacle, rules, delegated, ask }
    Barred { everywhere, some }
    PodSpec {
        request, tolerations, node_selector, required, preferred, node_name, namespace, labels, priority,
        never_preempts, ports, images, spread, affinity, maker, volumes, features,
        devices, profile,
    }
    HostPort { ip, protocol, port }
    PodTerm { topology_key, selector, namespaces, namespace_selector }
    PodAffinity { required, required_anti, preferred }
    SpreadConstraint {
        topology_key, max_skew, hard, selector, min_domains, honor_affinity, honor_taints,
    }
    Maker { kind, name }
    Budget { namespace, name, selector, allowed, disrupted }
    LabelRequirement { key, op, values }
    Weights { taint, affinity, fit, balanced, image, spread, pods, devices }
    SpreadDefaults { constraints, system }
    Profile {
        semantics, filters, weights, strategy, fit_resources, balanced_resources, ignored_resources, ignored_groups,
        hard_pod_affinity_weight, ignore_preferred_of_others, spread_defaults, added_required,
        added_preferred, candidates_percent, candidates_min,
    }
}

impl Wire for Volumes {
    fn put(&self, out: &mut Vec<u8>) {
        // The rest is the coordinator's: see `volumes.rs`.
        let Volumes {
            obstacle,
            rules,
            uses: _,
            exclusive: _,
            attach: _,
            to_bind: _,
        } = self;
        obstacle.put(out);
        rules.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<Volumes> {
        let (obstacle, rules) = Wire::get(from)?;
        Some(Volumes {
            obstacle,
            rules,
            ..Volumes::default()
        })
    }
}

impl<D: Wire> Wire for Part<D> {
    fn put(&self, out: &mut Vec<u8>) {
        self.hard.put(out);
        self.sums.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<Part<D>> {
        let (hard, sums) = Wire::get(from)?;
        Some(Part { hard, sums })
    }
}

impl<D: Wire> Wire for Stocked<D> {
    fn put(&self, out: &mut Vec<u8>) {
        self.counts.put(out);
        self.single.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<Stocked<D>> {
        let (counts, single) = Wire::get(from)?;
        Some(Stocked { counts, single })
    }
}

impl<D: Wire> Wire for Summed<D> {
    fn put(&self, out: &mut Vec<u8>) {
        self.by_domain.put(out);
        self.pods.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<Summed<D>> {
        let (by_domain, pods) = Wire::get(from)?;
        Some(Summed { by_domain, pods })
    }
}

impl Wire for Stands {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Stands::Unknown => out.push(0),
            Stands::Rejected(why) => {
                out.push(1);
                why.put(out);
            }
            Stands::Feasible {
                cell,
                facts,
                fit,
                balanced,
                room,
            } => {
                out.push(2);
                cell.put(out);
                facts.put(out);
                (*fit, *balanced, *room).put(out);
            }
        }
    }

    fn get(from: &mut Bytes<'_>) -> Option<Stands> {
        match from.take(1)? {
            [0] => Some(Stands::Unknown),
            [1] => Some(Stands::Rejected(Wire::get(from)?)),
            [2] => {
                let (cell, facts) = Wire::get(from)?;
                let (fit, balanced, room) = Wire::get(from)?;
                Some(Stands::Feasible {
                    cell,
                    facts,
                    fit,
                    balanced,
                    room,
                })
            }
            _ => None,
        }
    }
}

impl Wire for Unschedulable {
    fn put(&self, out: &mut Vec<u8>) {
        self.nodes.put(out);
        self.contradiction.as_deref().map(Box::<str>::from).put(out);
        self.reasons.put(out);
        self.rejected_by.put(out);
        self.preemptible.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<Unschedulable> {
        Some(Unschedulable {
            nodes: Wire::get(from)?,
            contradiction: Option::<String>::get(from)?.map(Cow::Owned),
            reasons: Wire::get(from)?,
            rejected_by: Wire::get(from)?,
            preemptible: Wire::get(from)?,
        })
    }
}

impl Wire for PluginSet {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<PluginSet> {
        Wire::get(from).map(PluginSet)
    }
}

impl Wire for LabelSelector {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_nothing().put(out);
        self.requirements().to_vec().put(out);
    }

    fn get(from: &mut Bytes<'_>) -> Option<LabelSelector> {
        let (nothing, requirements): (bool, Vec<LabelRequirement>) = Wire::get(from)?;
        if nothing {
            return requirements.is_empty().then(LabelSelector::nothing);
        }
        Some(LabelSelector::of(requirements))
    }
}
