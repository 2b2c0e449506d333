//! Taint eviction: pods leave a node with a NoExecute taint when they no longer tolerate it.
//!
//! Knows tainted nodes and the pods on them only; a healthy cluster costs nothing here.

use super::Taint;
use crate::action::{Action, Involved, PODS, PatchType};
use crate::pod::{Pod, Toleration};
use meta::time;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use value::json;

/// Toleration that admission gives every pod for not-ready and unreachable nodes.
const DEFAULT_TOLERATION_SECONDS: i64 = 300;

/// Pods waiting for their tolerations to run out.
#[derive(Debug, Default)]
pub struct TaintEviction {
    /// NoExecute taints of tainted nodes.
    nodes: HashMap<Box<str>, Vec<Taint>>,
    /// (due, pod uid) in order.
    due: BTreeMap<(i64, Box<str>), Arc<Pod>>,
    /// Pod uid to (first seen tainted, due).
    waiting: HashMap<Box<str>, (i64, i64)>,
}

impl TaintEviction {
    /// Pods waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no pod waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A node was seen with these taints; `pods` are those on it (looked up only if it has NoExecute
    /// taints, or had).
    pub fn node_observed(
        &mut self,
        node: &str,
        taints: &[Taint],
        pods: impl FnOnce() -> Vec<Arc<Pod>>,
        now_micros: i64,
        actions: &mut Vec<Action>,
    ) {
        let expelling: Vec<Taint> = taints
            .iter()
            .filter(|taint| &*taint.effect == "NoExecute")
            .cloned()
            .collect();
        let same = match self.nodes.get(node) {
            Some(before) => *before == expelling,
            None => expelling.is_empty(),
        };
        if same {
            return;
        }
        if expelling.is_empty() {
            self.nodes.remove(node);
        } else {
            self.nodes.insert(node.into(), expelling);
        }
        for pod in pods() {
            self.pod_observed(&pod, now_micros, actions);
        }
    }

    /// A node is gone; its pods are the pod garbage collector's.
    pub fn node_deleted(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// A pod was added or changed.
    pub fn pod_observed(&mut self, pod: &Arc<Pod>, now_micros: i64, actions: &mut Vec<Action>) {
        if self.nodes.is_empty() && self.waiting.is_empty() {
            return;
        }
        let taints = self
            .nodes
            .get(&pod.node_name)
            .map_or(&[][..], Vec::as_slice);
        let patience = if taints.is_empty() || pod.deletion_micros.is_some() {
            None
        } else {
            patience(pod, taints)
        };
        let Some(patience) = patience else {
            if self.cancel(&pod.uid) && pod.deletion_micros.is_none() {
                let message = format!("Cancelling deletion of Pod {}/{}", pod.namespace, pod.name);
                actions.push(Action::normal(
                    &involved(pod),
                    "TaintManagerEviction",
                    message,
                ));
            }
            return;
        };
        let since = self
            .waiting
            .get(&pod.uid)
            .map_or(now_micros, |(since, _)| *since);
        self.cancel(&pod.uid);
        let due = since.saturating_add(patience.saturating_mul(1_000_000));
        self.waiting.insert(pod.uid.clone(), (since, due));
        self.due.insert((due, pod.uid.clone()), Arc::clone(pod));
    }

    /// A pod is gone.
    pub fn pod_deleted(&mut self, uid: &str) {
        self.cancel(uid);
    }

    fn cancel(&mut self, uid: &str) -> bool {
        // Nobody waits in a healthy cluster.
        if self.waiting.is_empty() {
            return false;
        }
        let Some((uid, (_, due))) = self.waiting.remove_entry(uid) else {
            return false;
        };
        self.due.remove(&(due, uid));
        true
    }

    /// When the next pod is due.
    pub fn next_micros(&self) -> Option<i64> {
        self.due.keys().next().map(|(due, _)| *due)
    }

    /// Evicts up to `budget` pods whose time has come. A pod whose deletion fails comes back with
    /// [`TaintEviction::pod_observed`].
    pub fn tick(&mut self, now_micros: i64, budget: usize, actions: &mut Vec<Action>) {
        for _ in 0..budget {
            let Some(entry) = self
                .due
                .first_entry()
                .filter(|entry| entry.key().0 <= now_micros)
            else {
                return;
            };
            let ((_, uid), pod) = entry.remove_entry();
            self.waiting.remove(&uid);
            evict(&pod, now_micros, actions);
        }
    }
}

/// For how many seconds the pod stays: 0 if it does not tolerate a taint, None if for ever.
fn patience(pod: &Pod, taints: &[Taint]) -> Option<i64> {
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let seconds = match &pod.tolerations {
            None => is_default(taint).then_some(Some(DEFAULT_TOLERATION_SECONDS)),
            Some(tolerations) => {
                let matching = || {
                    tolerations
                        .iter()
                        .filter(|toleration| tolerates(toleration, taint))
                };
                matching()
                    .next()
                    .map(|_| matching().filter_map(|toleration| toleration.seconds).min())
            }
        };
        match seconds {
            None => return Some(0),
            Some(None) => {}
            Some(Some(seconds)) => {
                shortest = Some(
                    shortest
                        .map_or(seconds, |before| before.min(seconds))
                        .max(0),
                )
            }
        }
    }
    shortest
}

fn is_default(taint: &Taint) -> bool {
    matches!(
        &*taint.key,
        super::TAINT_NOT_READY | super::TAINT_UNREACHABLE
    )
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    (toleration.key.is_empty() && toleration.value.is_none())
        || (toleration.key == taint.key
            && toleration
                .value
                .as_ref()
                .is_none_or(|value| *value == taint.value))
}

fn involved(pod: &Pod) -> Arc<Involved> {
    Arc::new(Involved {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        resource_version: String::new(),
    })
}

fn evict(pod: &Pod, now_micros: i64, actions: &mut Vec<Action>) {
    let message = format!("Marking for deletion Pod {}/{}", pod.namespace, pod.name);
    actions.push(Action::normal(
        &involved(pod),
        "TaintManagerEviction",
        message,
    ));
    actions.push(Action::Patch {
        resource: PODS,
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        patch_type: PatchType::Strategic,
        subresource: Some("status"),
        body: json!({
            "metadata": {"uid": &*pod.uid},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": time::format_seconds(now_micros),
            }]},
        }),
    });
    actions.push(crate::replicaset::delete_pod(pod, None));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    fn pod(name: &str, tolerations: Option<Vec<Toleration>>) -> Arc<Pod> {
        let object = json!({"metadata": {"namespace": "default", "name": name, "uid": name}, "spec": {"nodeName": "n1"}});
        let mut pod = Pod::from_object(&object);
        pod.tolerations = tolerations.map(Into::into);
        Arc::new(pod)
    }

    #[test]
    fn pods_go_when_their_toleration_runs_out_and_stay_if_the_taint_goes_first() {
        let forever = Toleration {
            key: "".into(),
            value: None,
            seconds: None,
        };
        let pods = vec![
            pod("default", None),
            pod("impatient", Some(vec![])),
            pod("daemon", Some(vec![forever])),
        ];
        let taints = [Taint::new(super::super::TAINT_UNREACHABLE, "NoExecute")];
        let (mut eviction, mut actions) = (TaintEviction::default(), Vec::new());
        eviction.node_observed("n1", &taints, || pods.clone(), 0, &mut actions);
        assert_eq!((eviction.len(), eviction.next_micros()), (2, Some(0)));
        eviction.tick(1, 10, &mut actions);
        let gone = text(&actions);
        assert!(
            gone.contains("Marking for deletion Pod default/impatient"),
            "{gone}"
        );
        assert!(
            gone.ends_with("delete pods default/impatient uid=impatient\n"),
            "{gone}"
        );
        assert_eq!(eviction.next_micros(), Some(300_000_000));
        actions.clear();
        eviction.node_observed("n1", &[], || pods.clone(), 9, &mut actions);
        assert_eq!(
            text(&actions),
            "event Pod default/default Normal TaintManagerEviction: Cancelling deletion of Pod default/default\n"
        );
        eviction.tick(i64::MAX, 10, &mut actions);
        assert_eq!(actions.len(), 1);
    }
}
