//! What a client sees of an outage: which nodes are marked and which pods are evicted, by one watch of each.
//!
//! Nodes are known by their place in the fleet. Does not know why a node is silent; it is told which are.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use client::{Change, Client, Delta, Mirror, Reflector};
use meta::Value;

use crate::workload::resource;

const UNKNOWN: u8 = 0;
const READY: u8 = 1;
const MARKED: u8 = 2;

/// Counts, kept up to date by [`follow_nodes`] and [`follow_pods`].
pub struct Census {
    states: Vec<AtomicU8>,
    silent: Vec<AtomicBool>,
    pub ready: AtomicUsize,
    pub marked: AtomicUsize,
    /// Markings of nodes that were not silent.
    pub wrongly_marked: AtomicUsize,
    /// Pods that somebody began to delete: of silent nodes, and of others.
    pub evicted: AtomicUsize,
    pub wrongly_evicted: AtomicUsize,
    last_marking: Mutex<Option<Instant>>,
}

impl Census {
    pub fn new(nodes: usize) -> Census {
        Census {
            states: (0..nodes).map(|_| AtomicU8::new(UNKNOWN)).collect(),
            silent: (0..nodes).map(|_| AtomicBool::new(false)).collect(),
            ready: AtomicUsize::new(0),
            marked: AtomicUsize::new(0),
            wrongly_marked: AtomicUsize::new(0),
            evicted: AtomicUsize::new(0),
            wrongly_evicted: AtomicUsize::new(0),
            last_marking: Mutex::new(None),
        }
    }

    /// These fall silent now. What was marked or evicted before does not count.
    pub fn silence(&self, places: &[u32]) {
        for place in places {
            if let Some(silent) = self.silent.get(*place as usize) {
                silent.store(true, Relaxed);
            }
        }
        for count in [&self.wrongly_marked, &self.evicted, &self.wrongly_evicted] {
            count.store(0, Relaxed);
        }
    }

    fn is_silent(&self, place: usize) -> bool {
        self.silent
            .get(place)
            .is_some_and(|silent| silent.load(Relaxed))
    }

    /// When the last node was marked.
    pub fn last_marking(&self) -> Option<Instant> {
        *self
            .last_marking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, name: &str, is_ready: bool) {
        let place = name
            .strip_prefix("node-")
            .and_then(|digits| digits.parse::<usize>().ok());
        let Some((place, state)) = place.and_then(|place| Some((place, self.states.get(place)?)))
        else {
            return;
        };
        let now = if is_ready { READY } else { MARKED };
        let was = state.swap(now, Relaxed);
        if was == now {
            return;
        }
        match was {
            READY => drop(self.ready.fetch_sub(1, Relaxed)),
            MARKED => drop(self.marked.fetch_sub(1, Relaxed)),
            _ => {}
        }
        if is_ready {
            self.ready.fetch_add(1, Relaxed);
            return;
        }
        self.marked.fetch_add(1, Relaxed);
        if self.is_silent(place) {
            *self
                .last_marking
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        } else {
            self.wrongly_marked.fetch_add(1, Relaxed);
        }
    }

    fn pod_is_going(&self, pod: Pod) {
        let count = match pod.node {
            Some(place) if self.is_silent(place) => &self.evicted,
            _ => &self.wrongly_evicted,
        };
        count.fetch_add(1, Relaxed);
    }
}

/// Watches nodes for ever.
pub async fn follow_nodes(client: Client, census: Arc<Census>) {
    let Ok(nodes) = resource("", "nodes") else {
        return;
    };
    let mut changes = Reflector::new(client, nodes)
        .only(&["status.conditions"])
        .ignoring(&["status.conditions.lastHeartbeatTime"])
        .spawn(|node| is_ready(&node));
    while let Some(change) = changes.recv().await {
        if let Change::Apply(name, is_ready) = change {
            census.node(&name, is_ready);
        }
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Pod {
    node: Option<usize>,
    is_going: bool,
}

impl Pod {
    fn of(pod: &Value) -> Pod {
        let node = pod["spec"]["nodeName"].as_str();
        Pod {
            node: node.and_then(|name| name.strip_prefix("node-")?.parse().ok()),
            is_going: pod["metadata"]["deletionTimestamp"].is_string(),
        }
    }
}

/// Watches pods for ever.
pub async fn follow_pods(client: Client, census: Arc<Census>) {
    let Ok(pods) = resource("", "pods") else {
        return;
    };
    let mut changes = Reflector::new(client, pods)
        .only(&["metadata.deletionTimestamp", "spec.nodeName"])
        .spawn(|pod| Pod::of(&pod));
    let mut mirror = Mirror::default();
    while let Some(change) = changes.recv().await {
        let now = match &change {
            Change::Apply(_, pod) => Some(*pod),
            _ => None,
        };
        match (mirror.take(change), now) {
            (Some(Delta::Changed(_, was)), Some(now)) if now.is_going && !was.is_going => {
                census.pod_is_going(now);
            }
            // Gone at once, as pods with no grace are.
            (Some(Delta::Removed(_, was)), _) if !was.is_going => census.pod_is_going(was),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn counts(census: &Census) -> [usize; 5] {
        [
            &census.ready,
            &census.marked,
            &census.wrongly_marked,
            &census.evicted,
            &census.wrongly_evicted,
        ]
        .map(|count| count.load(Relaxed))
    }

    #[test]
    fn nodes_are_counted_by_what_they_were_and_are() {
        let census = Census::new(3);
        for place in 0..3 {
            census.node(&fleet::node_name(place), true);
        }
        census.node(&fleet::node_name(9), true);
        census.node("elsewhere", true);
        assert_eq!(counts(&census), [3, 0, 0, 0, 0]);
        census.silence(&[1]);
        census.node(&fleet::node_name(1), false);
        census.node(&fleet::node_name(1), false);
        assert_eq!(counts(&census), [2, 1, 0, 0, 0]);
        assert!(census.last_marking().is_some());
        census.node(&fleet::node_name(2), false);
        assert_eq!(counts(&census), [1, 2, 1, 0, 0]);
        census.node(&fleet::node_name(1), true);
        assert_eq!(counts(&census), [2, 1, 1, 0, 0]);
    }

    #[test]
    fn evictions_belong_to_the_node_of_the_pod() {
        let census = Census::new(2);
        census.silence(&[1]);
        let pod = |name: &str| {
            Pod::of(
                &json!({"spec": {"nodeName": name}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            )
        };
        for node in ["node-0000001", "node-0000000", "node-0000001"] {
            census.pod_is_going(pod(node));
        }
        assert_eq!(counts(&census), [0, 0, 0, 2, 1]);
        assert_eq!(
            Pod::of(&json!({"spec": {}})),
            Pod {
                node: None,
                is_going: false
            }
        );
    }
}
