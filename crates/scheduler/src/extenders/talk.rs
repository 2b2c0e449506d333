//! What is asked of extenders about one pod, in upstream's order: filters one after the other, then all scores at
//! the same time; who may be evicted; and to bind it.
//!
//! ```text
//!   the node in view ─► all filters ─┐ left                       ┌─► scores × weight × 10, summed up
//!   the best nodes   ─► all filters ─┴───────────────► who is left┘
//!   the next best    ─► …               nobody left: reasons
//! ```
//!
//! Each question ends with the extender's own time limit. Does not know the cluster, nor what becomes of an answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use client::Client;
use meta::Value;
use placement::PodKey;
use tokio::task::JoinSet;

use super::{Extender, wire};
use crate::pending::Address;

/// Nodes that an extender is asked about at a time: the best by our own scores. A thousand whole Node objects are
/// some 10 MB.
pub(crate) const NODES_AT_ONCE: usize = 1_000;
/// Victims that are fetched at a time.
const PODS_AT_ONCE: usize = 16;
/// What an extender's score counts: it gives up to 10 where plugins give up to 100 (k8s).
const SCORE_SCALE: i64 = 10;

/// A node that may be chosen.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: Box<str>,
    /// Its JSON, where somebody wants it.
    pub(crate) object: Option<Arc<str>>,
}

/// What is asked about a pod.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) address: Address,
    /// Extenders that it concerns.
    pub(crate) extenders: Vec<Arc<Extender>>,
    /// The node that it has in view.
    pub(crate) nominated: Option<Place>,
    /// Nodes that pass, the best first.
    pub(crate) places: Vec<Place>,
}

/// What comes of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It may go to these, with what is added to their scores.
    Places(Vec<(Box<str>, i64)>),
    /// To none: how many nodes for which reason.
    Nowhere(Vec<(String, usize)>),
    /// An extender that must answer did not, or not well.
    Failed(String),
    /// There is no such pod any more.
    Gone,
}

/// Asks.
pub(crate) async fn ask(client: &Client, question: &Question) -> Answer {
    let pod = match pod(client, &question.address).await {
        Ok(Some(pod)) => pod,
        Ok(None) => return Answer::Gone,
        Err(error) => return Answer::Failed(error),
    };
    let mut against = BTreeMap::new();
    let extenders = &question.extenders;
    let nominated = question.nominated.iter().map(std::slice::from_ref);
    for (at, places) in nominated
        .chain(question.places.chunks(NODES_AT_ONCE))
        .enumerate()
    {
        let in_view = at == 0 && question.nominated.is_some();
        match filter(extenders, &pod, places, &mut against).await {
            Ok(left) if left.is_empty() => {}
            Ok(left) => return Answer::Places(prioritize(extenders, &pod, left).await),
            // As if it had no node in view (k8s: evaluateNominatedNode's errors are only logged).
            Err(error) if in_view => tracing::debug!(error, "an extender failed"),
            Err(error) => return Answer::Failed(error),
        }
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (_, reason) in against {
        *reasons.entry(reason).or_default() += 1;
    }
    Answer::Nowhere(reasons.into_iter().collect())
}

async fn pod(client: &Client, address: &Address) -> Result<Option<Value>, String> {
    let pods = crate::work::resource("", "pods");
    match client.get(pods, &address.namespace, &address.name).await {
        Ok(pod) if pod["metadata"]["uid"] == *address.uid => Ok(Some(wire::untyped(pod))),
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn question(pod: &Value, places: &[Place], by_name: bool) -> String {
    let nodes = places.iter().map(|place| wire::Node {
        name: &place.name,
        object: place.object.as_deref().unwrap_or("{}"),
    });
    wire::nodes_question(pod, nodes, by_name)
}

/// Nodes that all filters leave. Notes what is said against the others.
async fn filter(
    extenders: &[Arc<Extender>],
    pod: &Value,
    places: &[Place],
    against: &mut BTreeMap<String, String>,
) -> Result<Vec<Place>, String> {
    let mut left = places.to_vec();
    for extender in extenders {
        let config = &extender.config;
        if left.is_empty() {
            break;
        }
        if config.filter_verb.is_empty() {
            continue;
        }
        let by_name = config.node_cache_capable;
        let asked = question(pod, &left, by_name);
        let answer = extender.send(&config.filter_verb, asked).await;
        let filtered = answer
            .and_then(|answer| wire::read_filtered(&answer, by_name))
            .and_then(|filtered| keep(&left, config, filtered));
        match filtered {
            Ok((kept, failed)) => {
                against.extend(failed);
                left = kept;
            }
            Err(error) if config.ignorable => {
                let url = config.url_prefix.as_str();
                tracing::info!(url, error, "an extender that may fail is passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

type Kept = (Vec<Place>, BTreeMap<String, String>);

/// The places that are named, and what is said against nodes.
fn keep(
    places: &[Place],
    config: &super::ExtenderConfig,
    filtered: wire::Filtered,
) -> Result<Kept, String> {
    let by_name: HashMap<&str, &Place> = places.iter().map(|p| (&*p.name, p)).collect();
    let mut kept = Vec::new();
    for name in filtered.left.unwrap_or_default() {
        let Some(place) = by_name.get(name.as_str()) else {
            return Err(format!(
                "extender {:?} claims a filtered node {name:?} which is not found in the input node list",
                config.url_prefix
            ));
        };
        kept.push((*place).clone());
    }
    let mut failed = filtered.failed;
    failed.extend(filtered.unresolvable);
    Ok((kept, failed))
}

/// What all scores come to. One node alone is not scored; who fails to score says nothing.
async fn prioritize(
    extenders: &[Arc<Extender>],
    pod: &Value,
    places: Vec<Place>,
) -> Vec<(Box<str>, i64)> {
    let mut sums: HashMap<String, i64> = HashMap::new();
    let mut asked = JoinSet::new();
    for extender in extenders {
        if places.len() < 2 || extender.config.prioritize_verb.is_empty() {
            continue;
        }
        let question = question(pod, &places, extender.config.node_cache_capable);
        let extender = extender.clone();
        asked.spawn(async move {
            let config = &extender.config;
            let answer = extender.send(&config.prioritize_verb, question).await;
            match answer.and_then(|answer| wire::read_priorities(&answer)) {
                Ok(scores) => (config.weight, scores),
                Err(error) => {
                    let url = config.url_prefix.as_str();
                    tracing::debug!(url, error, "an extender gives no scores");
                    (0, Vec::new())
                }
            }
        });
    }
    while let Some(answer) = asked.join_next().await {
        let Ok((weight, scores)) = answer else {
            continue;
        };
        for (name, score) in scores {
            let score = score.wrapping_mul(weight).wrapping_mul(SCORE_SCALE);
            let sum = sums.entry(name).or_default();
            *sum = sum.wrapping_add(score);
        }
    }
    let with_sum = |place: Place| {
        let sum = sums.get(&*place.name).copied().unwrap_or(0);
        (place.name, sum)
    };
    places.into_iter().map(with_sum).collect()
}

/// A node where others could be evicted.
#[derive(Debug)]
pub(crate) struct Sacrifice {
    pub(crate) node: Box<str>,
    pub(crate) victims: Vec<PodKey>,
    pub(crate) violations: usize,
    /// `namespace/name` of all pods there.
    pub(crate) pods: HashMap<PodKey, Box<str>>,
}

/// Who could be evicted for a pod.
#[derive(Debug)]
pub(crate) struct Plea {
    pub(crate) address: Address,
    /// Extenders that it concerns and that have a say in it.
    pub(crate) extenders: Vec<Arc<Extender>>,
    pub(crate) sacrifices: Vec<Sacrifice>,
}

/// Nodes that are left, with those who would have to go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pleaded {
    pub(crate) node: String,
    pub(crate) victims: Vec<PodKey>,
    pub(crate) violations: usize,
}

/// Asks who may be evicted.
pub(crate) async fn plead(client: &Client, plea: &Plea) -> Result<Vec<Pleaded>, String> {
    let Some(pod) = pod(client, &plea.address).await? else {
        return Ok(Vec::new());
    };
    let mut known = Known::default();
    let all: Vec<&str> = plea
        .sacrifices
        .iter()
        .flat_map(|sacrifice| {
            sacrifice
                .victims
                .iter()
                .filter_map(|v| sacrifice.pods.get(v).map(|name| &**name))
        })
        .collect();
    known.fetch(client, &all).await;
    let mut victims: BTreeMap<String, wire::Victims> = BTreeMap::new();
    for sacrifice in &plea.sacrifices {
        let uids = sacrifice.victims.iter();
        let uids = uids.filter_map(|victim| known.uids.get(victim).cloned());
        let offered = wire::Victims {
            uids: uids.collect(),
            violations: i64::try_from(sacrifice.violations).unwrap_or(i64::MAX),
        };
        victims.insert(sacrifice.node.to_string(), offered);
    }
    for extender in &plea.extenders {
        let config = &extender.config;
        let whole = |uid: &str| known.objects.get(uid).cloned().unwrap_or_default();
        let whole: Option<&dyn Fn(&str) -> Value> = match config.node_cache_capable {
            true => None,
            false => Some(&whole),
        };
        let question = wire::preempt_question(&pod, &victims, whole);
        let answer = extender.send(&config.preempt_verb, question).await;
        let answer = answer
            .and_then(|answer| wire::read_victims(&answer))
            .and_then(|answer| check(plea, config, answer));
        match answer {
            Ok(answer) => {
                // It may name other pods of the nodes than it was offered.
                let named = answer.iter().flat_map(|(node, victims)| {
                    let there = plea.sacrifices.iter().find(|s| *s.node == **node);
                    let keys = victims.uids.iter().map(|uid| PodKey::of(uid));
                    keys.filter_map(move |key| there?.pods.get(&key).map(|name| &**name))
                });
                let named: Vec<&str> = named.collect();
                if !config.node_cache_capable || plea.extenders.len() > 1 {
                    known.fetch(client, &named).await;
                }
                victims = answer;
            }
            Err(error) if config.ignorable => {
                let url = config.url_prefix.as_str();
                tracing::info!(url, error, "an extender that may fail is passed over");
            }
            Err(error) => return Err(error),
        }
        if victims.is_empty() {
            break;
        }
    }
    let left = victims.into_iter().map(|(node, victims)| Pleaded {
        node,
        victims: victims.uids.iter().map(|uid| PodKey::of(uid)).collect(),
        violations: usize::try_from(victims.violations).unwrap_or(0),
    });
    Ok(left.collect())
}

/// Nodes and pods must be there, and somebody must go.
fn check(
    plea: &Plea,
    config: &super::ExtenderConfig,
    answer: BTreeMap<String, wire::Victims>,
) -> Result<BTreeMap<String, wire::Victims>, String> {
    let mut checked = BTreeMap::new();
    for (node, victims) in answer {
        let there = plea.sacrifices.iter().find(|s| *s.node == *node);
        let there = there.ok_or_else(|| format!("nodeinfo not found for node name {node:?}"))?;
        for uid in &victims.uids {
            if !there.pods.contains_key(&PodKey::of(uid)) {
                return Err(format!(
                    "extender: {} claims to preempt pod (UID: {uid}) on node: {node}, but the pod is not found \
                     on that node",
                    config.url_prefix
                ));
            }
        }
        if !victims.uids.is_empty() {
            checked.insert(node, victims);
        } else if !config.ignorable {
            return Err(format!("expected at least one victim pod on node {node:?}"));
        }
    }
    Ok(checked)
}

/// Pods that were read.
#[derive(Debug, Default)]
struct Known {
    objects: HashMap<String, Value>,
    uids: HashMap<PodKey, String>,
    /// `namespace/name` of those, and of those that could not be read.
    names: HashSet<Box<str>>,
}

impl Known {
    /// Reads pods that are not known yet; those that are gone stay unknown.
    async fn fetch(&mut self, client: &Client, names: &[&str]) {
        let new = names
            .iter()
            .filter(|name| self.names.insert((**name).into()));
        let wanted: Vec<Box<str>> = new.map(|name| (*name).into()).collect();
        for names in wanted.chunks(PODS_AT_ONCE) {
            let mut reading = JoinSet::new();
            for name in names {
                let (client, name) = (client.clone(), name.clone());
                reading.spawn(async move {
                    let (namespace, name) = name.split_once('/').unwrap_or(("", &name));
                    let pods = crate::work::resource("", "pods");
                    client.get(pods, namespace, name).await
                });
            }
            while let Some(read) = reading.join_next().await {
                if let Ok(Ok(pod)) = read
                    && let Some(uid) = pod["metadata"]["uid"].as_str().map(str::to_owned)
                {
                    self.uids.insert(PodKey::of(&uid), uid.clone());
                    self.objects.insert(uid, wire::untyped(pod));
                }
            }
        }
    }
}

/// Has a pod bound by the first extender that can. False when none did, and it is to be bound as usual.
pub(crate) async fn bind(
    binders: &[Arc<Extender>],
    address: &Address,
    node: &str,
) -> Result<bool, String> {
    for extender in binders {
        let config = &extender.config;
        let question = wire::bind_question(&address.namespace, &address.name, &address.uid, node);
        let answer = extender.send(&config.bind_verb, question).await;
        match answer.and_then(|answer| wire::read_bound(&answer)) {
            Ok(()) => return Ok(true),
            Err(error) if config.ignorable => {
                let url = config.url_prefix.as_str();
                tracing::info!(url, error, "an extender that may fail does not bind");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
