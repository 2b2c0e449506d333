//! Nodes and pods as placement sees them, and how they are read from API objects.
//!
//! Knows the fields the filters and scores look at, and the arithmetic of a pod's request. Does not
//! know any cluster: everything here is a plain value with its own strings.

use crate::devices::Devices;
use crate::extended::ExtendedAsk;
use crate::hashing::same_text;
use crate::storage::{Attach, Uses, Wanted};
use crate::terms::{
    HostPort, Maker, Pairs, PodAffinity, SpreadConstraint, host_ports, images, maker,
    spread_constraints,
};
use meta::{Quantity, Value};
use std::sync::Arc;

/// CPU a container counts with in scores when it asks for none.
pub const DEFAULT_CPU_MILLI: i64 = 100;
/// Memory a container counts with in scores when it asks for none.
pub const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

const MILLI: i128 = 1000;

/// Amounts of resources in whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceList {
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Local ephemeral storage in bytes.
    pub ephemeral_bytes: i64,
    /// Extended resources, huge pages and the like, sorted by name.
    pub scalars: Vec<(Box<str>, i64)>,
}

/// What a pod takes from a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodRequest {
    /// What the fit filter and the balance score count.
    pub real: ResourceList,
    /// CPU the allocation score counts: silent containers count [`DEFAULT_CPU_MILLI`].
    pub scored_cpu_milli: i64,
    /// Memory the allocation score counts: silent containers count [`DEFAULT_MEMORY_BYTES`].
    pub scored_memory_bytes: i64,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// New pods stay away.
    NoSchedule,
    /// New pods would rather stay away.
    PreferNoSchedule,
    /// New pods stay away and running ones leave.
    NoExecute,
}

impl Effect {
    fn parse(text: &str) -> Option<Effect> {
        match text {
            "NoSchedule" => Some(Effect::NoSchedule),
            "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => None,
        }
    }
}

/// A taint of a node.
#[allow(clippy::derived_hash_with_manual_eq)] // Equal is what would be derived.
#[derive(Clone, Debug, Eq, Hash)]
pub struct Taint {
    /// Key.
    pub key: Box<str>,
    /// Value, often empty.
    pub value: Box<str>,
    /// Effect.
    pub effect: Effect,
}

/// A toleration of a pod.
#[allow(clippy::derived_hash_with_manual_eq)] // Equal is what would be derived.
#[derive(Clone, Debug, Eq, Hash)]
pub struct Toleration {
    /// Key; empty means every key.
    pub key: Box<str>,
    /// How the value is compared.
    pub operator: TolerationOperator,
    /// Value for [`TolerationOperator::Equal`].
    pub value: Box<str>,
    /// Effect; `None` means every effect.
    pub effect: Option<Effect>,
}

// Values are mostly empty.
impl PartialEq for Toleration {
    fn eq(&self, other: &Self) -> bool {
        (self.operator, self.effect) == (other.operator, other.effect)
            && same_text(&self.key, &other.key)
            && same_text(&self.value, &other.value)
    }
}

impl PartialEq for Taint {
    fn eq(&self, other: &Self) -> bool {
        self.effect == other.effect
            && same_text(&self.key, &other.key)
            && same_text(&self.value, &other.value)
    }
}

/// How a toleration compares the taint's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TolerationOperator {
    /// The values are equal (the default).
    Equal,
    /// Any value.
    Exists,
    /// An operator this release does not serve: tolerates nothing.
    Unknown,
}

/// How a node selector requirement compares a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectorOperator {
    /// The value is one of the list.
    In,
    /// The value is none of the list, or the key is absent.
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is a number greater than the one given.
    Gt,
    /// The value is a number less than the one given.
    Lt,
}

/// One requirement on a node's label (or, in `fields`, on its name).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Label key.
    pub key: Box<str>,
    /// Operator.
    pub operator: SelectorOperator,
    /// Values, as the operator wants them.
    pub values: Vec<Box<str>>,
}

/// One node selector term: all its requirements hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// Requirements on labels.
    pub expressions: Vec<Requirement>,
    /// Requirements on `metadata.name`.
    pub names: Vec<Requirement>,
    /// A requirement on one node name was lifted out into [`PodInfo::pin`]; with nothing left the
    /// term then matches, where an empty term by itself matches nothing.
    pub pinned: bool,
    /// The term holds something no node can satisfy (an unknown operator, a wrong number of values).
    pub broken: bool,
}

/// Why a volume keeps a pod from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VolumeReason {
    /// The volume cannot be reached from there.
    NodeAffinity,
    /// The volume cannot be made there.
    NoMatch,
    /// The claim's volume does not exist.
    NoVolume,
    /// The volume is in another zone.
    Zone,
    /// A disk of the pod is in use there.
    Disk,
    /// A claim that one pod alone may use is used by another.
    OncePod,
    /// The node takes no more volumes of a driver.
    Limit,
    /// There is no room for a volume where the node could reach it.
    NoSpace,
    /// A claim's devices cannot be used from there. Asked after everything else.
    Devices,
}

impl VolumeReason {
    /// All of them, in the order they are told.
    pub(crate) const ALL: [VolumeReason; 9] = [
        VolumeReason::NodeAffinity,
        VolumeReason::NoMatch,
        VolumeReason::NoVolume,
        VolumeReason::Zone,
        VolumeReason::Disk,
        VolumeReason::OncePod,
        VolumeReason::Limit,
        VolumeReason::NoSpace,
        VolumeReason::Devices,
    ];

    pub(crate) fn plugin(self) -> crate::verdict::Plugin {
        match self {
            VolumeReason::Zone => crate::verdict::Plugin::VolumeZone,
            VolumeReason::Disk | VolumeReason::OncePod => {
                crate::verdict::Plugin::VolumeRestrictions
            }
            VolumeReason::Limit => crate::verdict::Plugin::NodeVolumeLimits,
            VolumeReason::Devices => crate::verdict::Plugin::DynamicResources,
            _ => crate::verdict::Plugin::VolumeBinding,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            VolumeReason::NodeAffinity => "node(s) didn't match PersistentVolume's node affinity",
            VolumeReason::NoMatch => "node(s) didn't find available persistent volumes to bind",
            VolumeReason::NoVolume => {
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
            }
            VolumeReason::Zone => "node(s) had no available volume zone",
            VolumeReason::Disk => "node(s) had no available disk",
            VolumeReason::OncePod => {
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
            }
            VolumeReason::Limit => "node(s) exceed max volume count",
            VolumeReason::NoSpace => "node(s) did not have enough free storage",
            VolumeReason::Devices => "resourceclaim not available on the node",
        }
    }
}

/// What one volume asks of nodes: one of the terms matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeRule {
    /// What is said of the others.
    pub reason: VolumeReason,
    /// The terms.
    pub terms: Vec<Term>,
}

/// What a pod's volumes ask, as [`crate::Cluster::volumes_of`] finds out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Volumes {
    /// Why the pod cannot go anywhere yet.
    pub obstacle: Option<Box<str>>,
    /// Where it can go.
    pub rules: Vec<VolumeRule>,
    /// What it says of its volumes itself; `None` when it has none.
    pub uses: Option<Arc<Uses>>,
    /// Claims, by `namespace/name`, that no other pod may use.
    pub exclusive: Vec<Box<str>>,
    /// Volumes that are attached to its node, sorted.
    pub attach: Vec<Attach>,
    /// Claims that get their volumes with its node, the smallest first.
    pub to_bind: Vec<Wanted>,
}

/// The scheduling signature of a pod: pods with equal specs are one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodSpec {
    /// What it takes.
    pub request: PodRequest,
    /// Taints it accepts.
    pub tolerations: Vec<Toleration>,
    /// `spec.nodeSelector`, sorted by key.
    pub node_selector: Vec<(Box<str>, Box<str>)>,
    /// Required node affinity: one of the terms matches. `None` when not given.
    pub required: Option<Vec<Term>>,
    /// Preferred node affinity with weights.
    pub preferred: Vec<(i64, Term)>,
    /// `spec.nodeName` asked for.
    pub node_name: Option<Box<str>>,
    /// Namespace.
    pub namespace: Box<str>,
    /// Labels, sorted by key.
    pub labels: Pairs,
    /// `spec.priority`, 0 when absent.
    pub priority: i32,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    /// Ports of the node it takes, sorted.
    pub ports: Vec<HostPort>,
    /// Images, one entry a container.
    pub images: Vec<Box<str>>,
    /// Topology spread constraints.
    pub spread: Vec<SpreadConstraint>,
    /// Affinity to other pods.
    pub affinity: PodAffinity,
    /// Who made it.
    pub maker: Option<Maker>,
    /// What its volumes ask; empty as read from a pod.
    pub volumes: Volumes,
    /// Features that its node must declare, sorted.
    pub features: Vec<Box<str>>,
    /// What its resource claims ask; empty as read from a pod.
    pub devices: Devices,
    /// Number of the profile whose rules place it.
    pub profile: u16,
}

/// A resource claim as a pod names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodClaim {
    /// It is made for the pod alone, from a template.
    pub made: bool,
    /// The claim's name, in the pod's namespace: `None` as long as it has not been made, empty where none is needed.
    pub claim: Option<Box<str>>,
}

/// An image on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Image {
    /// One of its names.
    pub name: Box<str>,
    /// Size.
    pub bytes: i64,
}

/// A node as placement sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeInfo {
    /// Name.
    pub name: Box<str>,
    /// Labels, sorted by key.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Taints in their order.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What pods may take.
    pub allocatable: ResourceList,
    /// How many pods it may run.
    pub allocatable_pods: i64,
    /// Images it has, each name once, sorted.
    pub images: Vec<Image>,
    /// `status.declaredFeatures`, each once, sorted.
    pub features: Vec<Box<str>>,
}

/// A pod as the scheduler sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodInfo {
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// Node it is bound to, if any.
    pub node: Option<Box<str>>,
    /// `status.nominatedNodeName`.
    pub nominated: Option<Box<str>>,
    /// `status.startTime` in microseconds, 0 when not started.
    pub started_micros: i64,
    /// It goes because a pod of higher priority takes its place.
    pub preempted: bool,
    /// `spec.schedulerName`.
    pub scheduler_name: Box<str>,
    /// Scheduling gates are left.
    pub gated: bool,
    /// Deletion has begun.
    pub deleting: bool,
    /// Succeeded or Failed: it no longer takes anything.
    pub finished: bool,
    /// The signature.
    pub spec: PodSpec,
    /// Fields the pod uses that ask for rules this crate does not have yet: they are not considered.
    pub not_considered: Vec<&'static str>,
    /// `spec.schedulingGroup.podGroupName`: the group it belongs to, in its namespace.
    pub group: Option<Box<str>>,
    /// Names of the claims it uses, in its namespace; true for those made for it alone.
    pub claims: Vec<(Box<str>, bool)>,
    /// What it says of its volumes; `None` when it has none that matter.
    pub uses: Option<Arc<Uses>>,
    /// Resource claims it uses.
    pub resource_claims: Vec<PodClaim>,
    /// What its containers ask of extended resources.
    pub extended: Vec<ExtendedAsk>,
    /// The one node its required affinity names (how DaemonSet pods are placed), lifted out so that
    /// all pods of a DaemonSet are one class.
    pub pin: Option<Box<str>>,
}

impl NodeInfo {
    /// Reads a Node object.
    pub fn from_object(node: &Value) -> Result<NodeInfo, String> {
        let name = text(&node["metadata"]["name"]);
        if name.is_empty() {
            return Err("node without metadata.name".into());
        }
        let mut amounts = Amounts::default();
        amounts.add(&node["status"]["allocatable"])?;
        Ok(NodeInfo {
            name: name.into(),
            labels: pairs(&node["metadata"]["labels"]),
            taints: items(&node["spec"]["taints"]).filter_map(taint).collect(),
            unschedulable: node["spec"]["unschedulable"].as_bool().unwrap_or(false),
            allocatable_pods: amounts.whole("pods"),
            allocatable: amounts.list(),
            images: node_images(&node["status"]["images"]),
            features: crate::features::declared(&node["status"]),
        })
    }
}

impl PodInfo {
    /// Reads a Pod object.
    pub fn from_object(pod: &Value) -> Result<PodInfo, String> {
        let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
        let uid = text(&metadata["uid"]);
        if uid.is_empty() {
            return Err("pod without metadata.uid".into());
        }
        let affinity = &spec["affinity"]["nodeAffinity"];
        let namespace = text(&metadata["namespace"]);
        let labels = pairs(&metadata["labels"]);
        let spread = spread_constraints(spec, &labels);
        let mut required = required_terms(affinity);
        // Constraints count the nodes that the pod's affinity allows: they must see the name.
        let liftable = required.as_deref_mut().filter(|_| spread.is_empty());
        let pin = liftable.and_then(lift_pin);
        let node = Some(text(&spec["nodeName"])).filter(|n| !n.is_empty());
        Ok(PodInfo {
            namespace: namespace.into(),
            name: text(&metadata["name"]).into(),
            uid: uid.into(),
            node: node.map(Into::into),
            nominated: Some(text(&pod["status"]["nominatedNodeName"]))
                .filter(|n| !n.is_empty())
                .map(Into::into),
            started_micros: meta::time::parse(text(&pod["status"]["startTime"])).unwrap_or(0),
            preempted: items(&pod["status"]["conditions"]).any(|c| {
                text(&c["type"]) == "DisruptionTarget"
                    && text(&c["status"]) == "True"
                    && text(&c["reason"]) == "PreemptionByScheduler"
            }),
            scheduler_name: text(&spec["schedulerName"]).into(),
            gated: items(&spec["schedulingGates"]).next().is_some(),
            deleting: !metadata["deletionTimestamp"].is_null(),
            finished: matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed"),
            spec: PodSpec {
                request: pod_request(pod)?,
                tolerations: items(&spec["tolerations"]).filter_map(toleration).collect(),
                node_selector: pairs(&spec["nodeSelector"]),
                required,
                preferred: preferred_terms(affinity),
                // A pod that has a node is not scheduled; its node is no part of its signature.
                node_name: None,
                priority: spec["priority"]
                    .as_i64()
                    .map_or(0, |p| p.clamp(i32::MIN.into(), i32::MAX.into()) as i32),
                never_preempts: text(&spec["preemptionPolicy"]) == "Never",
                ports: host_ports(spec),
                images: images(spec),
                affinity: PodAffinity::from_spec(spec, namespace, &labels),
                maker: maker(metadata),
                namespace: namespace.into(),
                labels,
                spread,
                volumes: Volumes::default(),
                features: crate::features::needed(spec),
                devices: Devices::default(),
                profile: 0,
            },
            not_considered: Vec::new(),
            group: Some(text(&spec["schedulingGroup"]["podGroupName"]))
                .filter(|name| !name.is_empty())
                .map(Into::into),
            claims: claims(metadata, spec),
            uses: Uses::read(metadata, spec).map(Arc::new),
            resource_claims: resource_claims(spec, &pod["status"]),
            extended: crate::extended::asks(spec),
            pin,
        })
    }
}

fn resource_claims(spec: &Value, status: &Value) -> Vec<PodClaim> {
    let of = |claim: &Value| {
        let name = text(&claim["name"]);
        let named = text(&claim["resourceClaimName"]);
        let mut made = items(&status["resourceClaimStatuses"]);
        PodClaim {
            made: named.is_empty(),
            claim: if named.is_empty() {
                let made = made.find(|made| text(&made["name"]) == name);
                made.map(|made| text(&made["resourceClaimName"]).into())
            } else {
                Some(named.into())
            },
        }
    };
    items(&spec["resourceClaims"]).map(of).collect()
}

fn claims(metadata: &Value, spec: &Value) -> Vec<(Box<str>, bool)> {
    let of = |volume: &Value| {
        let named = text(&volume["persistentVolumeClaim"]["claimName"]);
        if !named.is_empty() {
            return Some((named.into(), false));
        }
        let name = format!("{}-{}", text(&metadata["name"]), text(&volume["name"]));
        volume["ephemeral"].is_object().then(|| (name.into(), true))
    };
    items(&spec["volumes"]).filter_map(of).collect()
}

/// Of a name given twice the first counts.
fn node_images(list: &Value) -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    for image in items(list) {
        let bytes = image["sizeBytes"].as_i64().unwrap_or(0);
        images.extend(items(&image["names"]).map(|name| Image {
            name: text(name).into(),
            bytes,
        }));
    }
    images.sort_by(|a, b| a.name.cmp(&b.name));
    images.dedup_by(|later, first| later.name == first.name);
    images
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(crate) fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map(Vec::as_slice).unwrap_or(&[]).iter()
}

/// A map of texts of the API, such as labels.
pub fn pairs(map: &Value) -> Pairs {
    let mut pairs: Pairs = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str().into(), text(v).into()))
        .collect();
    pairs.sort();
    pairs
}

fn taint(value: &Value) -> Option<Taint> {
    Some(Taint {
        key: text(&value["key"]).into(),
        value: text(&value["value"]).into(),
        effect: Effect::parse(text(&value["effect"]))?,
    })
}

/// `None` for a toleration of an effect that does not exist: it could tolerate nothing.
fn toleration(value: &Value) -> Option<Toleration> {
    let effect = text(&value["effect"]);
    Some(Toleration {
        key: text(&value["key"]).into(),
        operator: match text(&value["operator"]) {
            "" | "Equal" => TolerationOperator::Equal,
            "Exists" => TolerationOperator::Exists,
            _ => TolerationOperator::Unknown,
        },
        value: text(&value["value"]).into(),
        effect: match effect {
            "" => None,
            some => Some(Effect::parse(some)?),
        },
    })
}

/// `requiredDuringSchedulingIgnoredDuringExecution` of a node affinity.
pub fn required_terms(affinity: &Value) -> Option<Vec<Term>> {
    let selector = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    selector
        .is_object()
        .then(|| items(&selector["nodeSelectorTerms"]).map(term).collect())
}

/// `preferredDuringSchedulingIgnoredDuringExecution` of a node affinity, those that can match.
pub fn preferred_terms(affinity: &Value) -> Vec<(i64, Term)> {
    items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"])
        .map(|p| {
            let weight = p["weight"].as_i64().unwrap_or(0).clamp(0, 100);
            (weight, term(&p["preference"]))
        })
        .filter(|(weight, term)| *weight != 0 && !term.is_empty())
        .collect()
}

fn term(value: &Value) -> Term {
    let mut term = Term::default();
    for expression in items(&value["matchExpressions"]) {
        match requirement(expression) {
            Some(r) if well_formed(&r) => term.expressions.push(r),
            _ => term.broken = true,
        }
    }
    for field in items(&value["matchFields"]) {
        match requirement(field) {
            Some(r)
                if &*r.key == "metadata.name"
                    && matches!(r.operator, SelectorOperator::In | SelectorOperator::NotIn)
                    && r.values.len() == 1 =>
            {
                term.names.push(r);
            }
            _ => term.broken = true,
        }
    }
    term
}

impl Term {
    pub(crate) fn is_empty(&self) -> bool {
        self.expressions.is_empty() && self.names.is_empty() && !self.pinned && !self.broken
    }
}

fn requirement(value: &Value) -> Option<Requirement> {
    Some(Requirement {
        key: text(&value["key"]).into(),
        operator: match text(&value["operator"]) {
            "In" => SelectorOperator::In,
            "NotIn" => SelectorOperator::NotIn,
            "Exists" => SelectorOperator::Exists,
            "DoesNotExist" => SelectorOperator::DoesNotExist,
            "Gt" => SelectorOperator::Gt,
            "Lt" => SelectorOperator::Lt,
            _ => return None,
        },
        values: items(&value["values"]).map(|v| text(v).into()).collect(),
    })
}

fn well_formed(requirement: &Requirement) -> bool {
    let values = &requirement.values;
    match requirement.operator {
        SelectorOperator::In | SelectorOperator::NotIn => !values.is_empty(),
        SelectorOperator::Exists | SelectorOperator::DoesNotExist => values.is_empty(),
        SelectorOperator::Gt | SelectorOperator::Lt => {
            values.len() == 1 && values[0].parse::<i64>().is_ok()
        }
    }
}

/// When every term asks for the same single node name, takes those requirements out of the terms and
/// returns the name.
fn lift_pin(terms: &mut [Term]) -> Option<Box<str>> {
    let asks_for = |t: &Term| match t.names.as_slice() {
        [only] if only.operator == SelectorOperator::In => only.values.first().cloned(),
        _ => None,
    };
    let pin = asks_for(terms.first()?)?;
    if !terms.iter().all(|t| asks_for(t).as_ref() == Some(&pin)) {
        return None;
    }
    for term in terms {
        term.names.clear();
        term.pinned = true;
    }
    Some(pin)
}

/// Sums of quantities in thousandths, exact: rounding up happens once, at the end, as with decimal sums.
#[derive(Clone, Debug, Default)]
struct Amounts(Vec<(Box<str>, i128)>);

impl Amounts {
    fn slot(&mut self, name: &str) -> &mut i128 {
        let at = match self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (name.into(), 0));
                at
            }
        };
        &mut self.0[at].1
    }

    fn get(&self, name: &str) -> Option<i128> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(self.0[at].1)
    }

    /// Adds a resource list of the API.
    fn add(&mut self, list: &Value) -> Result<(), String> {
        for (name, quantity) in list.as_object().into_iter().flatten() {
            let amount = milli(name, quantity)?;
            let slot = self.slot(name);
            *slot = slot.saturating_add(amount);
        }
        Ok(())
    }

    fn add_all(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let slot = self.slot(name);
            *slot = slot.saturating_add(*amount);
        }
    }

    fn raise_to(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let slot = self.slot(name);
            *slot = (*slot).max(*amount);
        }
    }

    fn set(&mut self, name: &str, amount: i128) {
        *self.slot(name) = amount;
    }

    /// Amount in whole units, rounded up, cut to 64 bits.
    fn whole(&self, name: &str) -> i64 {
        clamp(ceil_div(self.get(name).unwrap_or(0)))
    }

    fn list(&self) -> ResourceList {
        ResourceList {
            cpu_milli: clamp(self.get("cpu").unwrap_or(0)),
            memory_bytes: self.whole("memory"),
            ephemeral_bytes: self.whole("ephemeral-storage"),
            scalars: self
                .0
                .iter()
                .filter(|(name, _)| is_scalar(name))
                .map(|(name, amount)| (name.clone(), clamp(ceil_div(*amount))))
                .collect(),
        }
    }
}

fn ceil_div(milli: i128) -> i128 {
    milli.div_euclid(MILLI) + i128::from(milli.rem_euclid(MILLI) != 0)
}

fn clamp(amount: i128) -> i64 {
    amount.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// An amount in thousandths.
pub(crate) fn thousandths(name: &str, quantity: &Value) -> Result<i128, String> {
    milli(name, quantity)
}

fn milli(name: &str, quantity: &Value) -> Result<i128, String> {
    let written;
    let text = match quantity {
        Value::String(s) => s.as_str(),
        Value::Number(n) => {
            written = n.to_string();
            written.as_str()
        }
        _ => return Err(format!("amount of {name} is not a quantity")),
    };
    let parsed = Quantity::parse(text).map_err(|e| format!("amount of {name}: {e}"))?;
    let fine = parsed.milli_value();
    // Thousandths of very large amounts do not fit 64 bits; whole units then are exact enough.
    Ok(if fine.unsigned_abs() < i64::MAX as u64 {
        fine.into()
    } else {
        i128::from(parsed.value()) * MILLI
    })
}

/// Resource names the scheduler counts besides CPU, memory, ephemeral storage and pods.
fn is_scalar(name: &str) -> bool {
    let native_prefix = name.contains("kubernetes.io/");
    let extended = name.contains('/') && !native_prefix && !name.starts_with("requests.");
    extended
        || native_prefix
        || name.starts_with("hugepages-")
        || name.starts_with("attachable-volumes-")
}

/// Pod-level requests replace the containers' sum only for these.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn pod_request(pod: &Value) -> Result<PodRequest, String> {
    let real = pod_amounts(pod, false)?;
    let scored = pod_amounts(pod, true)?;
    Ok(PodRequest {
        real: real.list(),
        scored_cpu_milli: scored.list().cpu_milli,
        scored_memory_bytes: scored.whole("memory"),
    })
}

/// max(containers and sidecars together, the running peak of init containers), pod-level requests in
/// place of that where given, plus overhead.
fn pod_amounts(pod: &Value, with_defaults: bool) -> Result<Amounts, String> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let stuck = resize_is_infeasible(status);
    let mut total = Amounts::default();
    for container in items(&spec["containers"]) {
        let now = container_status(&status["containerStatuses"], container);
        total.add_all(&container_amounts(container, now, stuck, with_defaults)?);
    }
    let mut sidecars = Amounts::default();
    let mut init_peak = Amounts::default();
    for container in items(&spec["initContainers"]) {
        let is_sidecar = text(&container["restartPolicy"]) == "Always";
        let now = is_sidecar
            .then(|| container_status(&status["initContainerStatuses"], container))
            .flatten();
        let mut running = container_amounts(container, now, stuck, with_defaults)?;
        if is_sidecar {
            total.add_all(&running);
            sidecars.add_all(&running);
            running = sidecars.clone();
        } else {
            running.add_all(&sidecars);
        }
        init_peak.raise_to(&running);
    }
    total.raise_to(&init_peak);
    for (name, quantity) in spec["resources"]["requests"]
        .as_object()
        .into_iter()
        .flatten()
    {
        if is_pod_level(name) {
            total.set(name, milli(name, quantity)?);
        }
    }
    total.add(&spec["overhead"])?;
    Ok(total)
}

/// A running container that is being resized counts with the larger of what is asked and what it has;
/// when the resize cannot happen, with what it has.
fn container_amounts(
    container: &Value,
    status: Option<&Value>,
    stuck: bool,
    with_defaults: bool,
) -> Result<Amounts, String> {
    let mut amounts = Amounts::default();
    if !(stuck && status.is_some()) {
        amounts.add(&container["resources"]["requests"])?;
    }
    if let Some(status) = status {
        for list in [
            &status["resources"]["requests"],
            &status["allocatedResources"],
        ] {
            let mut actual = Amounts::default();
            actual.add(list)?;
            amounts.raise_to(&actual);
        }
    }
    if with_defaults {
        if amounts.get("cpu").is_none() {
            amounts.set("cpu", DEFAULT_CPU_MILLI.into());
        }
        if amounts.get("memory").is_none() {
            amounts.set("memory", i128::from(DEFAULT_MEMORY_BYTES) * MILLI);
        }
    }
    Ok(amounts)
}

fn container_status<'a>(statuses: &'a Value, container: &Value) -> Option<&'a Value> {
    items(statuses).find(|s| s["name"] == container["name"] && s["resources"].is_object())
}

fn resize_is_infeasible(status: &Value) -> bool {
    items(&status["conditions"]).any(|c| {
        text(&c["type"]) == "PodResizePending"
            && text(&c["status"]) == "True"
            && text(&c["reason"]) == "Infeasible"
    })
}
