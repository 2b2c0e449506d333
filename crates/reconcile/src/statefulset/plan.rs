//! One round of a StatefulSet: lowest missing pod first, highest surplus pod first, then updates.

use super::{BURST_REPLICAS_MAX, Observed};
use crate::action::{Action, Announce, Involved, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use crate::daemonset::REVISION_HASH_LABEL;
use crate::deployment::template_hash;
use crate::pod::{Pod, items};
use crate::replicaset::{claim_pods, delete_pod, pod_from_template};
use crate::status;
use meta::labels::LabelSelector;
use meta::{Value, object};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What to do now for a StatefulSet.
pub fn plan(set: &Arc<Value>, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    let Ok(selector) = LabelSelector::from_object(object::at(set, &["spec", "selector"])) else {
        return Vec::new();
    };
    if selector.is_empty() {
        return Vec::new();
    }
    let deleting = object::is_deleting(set);
    let mut actions = Vec::new();
    let pods: BTreeMap<i64, Arc<Pod>> =
        claim_pods(set, &selector, deleting, observed.pods, &mut actions)
            .into_iter()
            .filter_map(|pod| Some((ordinal(object::name(set), &pod.name)?, pod)))
            .collect();
    let number = |path: &[&str]| {
        object::i64_at(set, path).map(|number| number.clamp(0, i64::from(i32::MAX)))
    };
    let round = Round {
        set,
        hash: format!(
            "{}-{}",
            object::name(set),
            template_hash(object::at(set, &["spec", "template"]), 0)
        ),
        first: number(&["spec", "ordinals", "start"]).unwrap_or(0),
        replicas: number(&["spec", "replicas"]).unwrap_or(1),
        min_ready_seconds: number(&["spec", "minReadySeconds"]).unwrap_or(0),
        ordered: object::str_at(set, &["spec", "podManagementPolicy"]) != Some("Parallel"),
        pods,
        announce: Announce {
            involved: Arc::new(Involved::of(set)),
        },
        now_micros,
    };
    if !deleting && observed.creations_in_flight == 0 && observed.deletions_in_flight == 0 {
        round.correct(observed, &mut actions);
    }
    let status = round.status();
    let stored = status::pruned(set.get("status").cloned().unwrap_or_else(|| json!({})));
    if stored != status::pruned(status.clone()) {
        actions.push(Action::update_status(
            STATEFUL_SETS,
            status::with_status(set, status),
        ));
    }
    actions
}

/// The number in `web-7`.
fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    digits
        .parse()
        .ok()
        .filter(|number: &i64| *number >= 0 && number.to_string() == digits)
}

struct Round<'a> {
    set: &'a Arc<Value>,
    hash: String,
    first: i64,
    replicas: i64,
    min_ready_seconds: i64,
    ordered: bool,
    pods: BTreeMap<i64, Arc<Pod>>,
    announce: Announce,
    now_micros: i64,
}

impl Round<'_> {
    fn end(&self) -> i64 {
        self.first + self.replicas
    }

    fn wanted(&self, ordinal: i64) -> bool {
        (self.first..self.end()).contains(&ordinal)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        pod.is_active() && pod.is_available(self.min_ready_seconds, self.now_micros)
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.label(REVISION_HASH_LABEL) == Some(&self.hash)
    }

    fn correct(&self, observed: &Observed<'_>, actions: &mut Vec<Action>) {
        let budget = if self.ordered { 1 } else { BURST_REPLICAS_MAX };
        let mut changes = 0;
        for number in self.first..self.end() {
            if changes == budget {
                return;
            }
            match self.pods.get(&number) {
                None => {
                    self.create(number, observed, actions);
                    changes += 1;
                }
                Some(pod) if pod.has_ended() && pod.deletion_micros.is_none() => {
                    actions.push(delete_pod(pod, Some(self.announce.clone())));
                    changes += 1;
                }
                Some(pod) if self.ordered && !self.is_healthy(pod) => {
                    // The next waits for this one; but one that is outdated and sick will never get well.
                    let stuck = pod.is_active() && !self.is_updated(pod) && !pod.is_ready();
                    if stuck && self.updates() && number >= self.partition() {
                        actions.push(delete_pod(pod, Some(self.announce.clone())));
                    }
                    return;
                }
                Some(_) => {}
            }
        }
        for (_, pod) in self
            .pods
            .iter()
            .rev()
            .filter(|(number, _)| !self.wanted(**number))
        {
            if changes == budget {
                return;
            }
            if pod.deletion_micros.is_none() {
                actions.push(delete_pod(pod, Some(self.announce.clone())));
            }
            changes += 1;
        }
        if changes == 0 && self.updates() {
            self.update(actions);
        }
    }

    fn updates(&self) -> bool {
        object::str_at(self.set, &["spec", "updateStrategy", "type"]) != Some("OnDelete")
    }

    fn partition(&self) -> i64 {
        object::i64_at(
            self.set,
            &["spec", "updateStrategy", "rollingUpdate", "partition"],
        )
        .unwrap_or(0)
    }

    /// Replaces the highest outdated pod, when all above it are well.
    fn update(&self, actions: &mut Vec<Action>) {
        for (number, pod) in self
            .pods
            .iter()
            .rev()
            .filter(|(number, _)| self.wanted(**number))
        {
            if *number < self.partition() {
                return;
            }
            if !self.is_updated(pod) {
                if pod.deletion_micros.is_none() {
                    actions.push(delete_pod(pod, Some(self.announce.clone())));
                }
                return;
            }
            if !self.is_healthy(pod) {
                return;
            }
        }
    }

    /// A pod with its claims, which are made first and kept when the pod goes.
    fn create(&self, number: i64, observed: &Observed<'_>, actions: &mut Vec<Action>) {
        let name = format!("{}-{number}", object::name(self.set));
        let namespace = object::namespace(self.set);
        let mut pod = pod_from_template(self.set, "");
        object::remove_at(&mut pod, &["metadata", "generateName"]);
        for (path, value) in [
            (&["metadata", "name"][..], json!(name)),
            (
                &["metadata", "labels", REVISION_HASH_LABEL],
                json!(self.hash),
            ),
            (
                &["metadata", "labels", "statefulset.kubernetes.io/pod-name"],
                json!(name),
            ),
            (
                &["metadata", "labels", "apps.kubernetes.io/pod-index"],
                json!(number.to_string()),
            ),
            (&["spec", "hostname"], json!(name)),
            (
                &["spec", "subdomain"],
                object::at(self.set, &["spec", "serviceName"]).clone(),
            ),
        ] {
            if !value.is_null() {
                object::set_at(&mut pod, path, value);
            }
        }
        let mut volumes = items(&pod, &["spec", "volumes"]).to_vec();
        for template in items(self.set, &["spec", "volumeClaimTemplates"]) {
            let volume = object::name(template);
            let claim = format!("{volume}-{name}");
            if !(observed.has_claim)(&claim) {
                let labels = object::at(self.set, &["spec", "selector", "matchLabels"]).clone();
                let body = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim, "namespace": namespace, "labels": labels},
                    "spec": object::at(template, &["spec"])});
                actions.push(Action::Create {
                    resource: PERSISTENT_VOLUME_CLAIMS,
                    namespace: namespace.to_owned(),
                    object: Arc::new(body),
                    announce: None,
                });
            }
            volumes.retain(|existing| crate::pod::text_of(existing, "name") != volume);
            volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
        }
        if !volumes.is_empty() {
            object::set_at(&mut pod, &["spec", "volumes"], Value::Array(volumes));
        }
        actions.push(Action::Create {
            resource: PODS,
            namespace: namespace.to_owned(),
            object: Arc::new(pod),
            announce: Some(self.announce.clone()),
        });
    }

    fn status(&self) -> Value {
        let count =
            |wanted: &dyn Fn(&Pod) -> bool| self.pods.values().filter(|pod| wanted(pod)).count();
        let updated = count(&|pod| pod.is_active() && self.is_updated(pod));
        let total = count(&Pod::is_active);
        let complete = updated == total && i64::try_from(total) == Ok(self.replicas);
        let stored = object::str_at(self.set, &["status", "currentRevision"]).unwrap_or_default();
        let current = if complete || stored.is_empty() {
            self.hash.as_str()
        } else {
            stored
        };
        let mut status = status::pruned(json!({
            "observedGeneration": object::i64_at(self.set, &["metadata", "generation"]),
            "readyReplicas": count(&|pod| pod.is_active() && pod.is_ready()),
            "currentReplicas": count(&|pod| pod.is_active() && pod.label(REVISION_HASH_LABEL) == Some(current)),
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": self.hash,
            "conditions": status::conditions_of(self.set),
        }));
        status["replicas"] = json!(total);
        status["availableReplicas"] = json!(count(&|pod| self.is_healthy(pod)));
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    fn set(replicas: i64, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "db", "namespace": "default", "uid": "ss", "generation": 1},
            "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
    }

    fn pod(number: i64, image: &str, ready: bool) -> Arc<Pod> {
        let name = format!("db-{number}");
        let hash = format!(
            "db-{}",
            template_hash(&set(1, image)["spec"]["template"], 0)
        );
        let mut pod = Pod::from_object(
            &json!({"metadata": {"namespace": "default", "name": name, "uid": name,
            "labels": {"app": "db", "controller-revision-hash": hash}, "ownerReferences": [{"uid": "ss", "controller": true}]}}),
        );
        pod.ready_since_micros = ready.then_some(0);
        Arc::new(pod)
    }

    /// The plan without the status.
    fn run(set: &Value, pods: &[Arc<Pod>]) -> Vec<String> {
        let observed = Observed {
            pods,
            has_claim: &|claim| claim == "data-db-1",
            creations_in_flight: 0,
            deletions_in_flight: 0,
        };
        let lines = text(&plan(&Arc::new(set.clone()), &observed, 1));
        let short = |line: &str| line.split(" {").next().unwrap_or_default().to_owned();
        lines
            .lines()
            .filter(|line| !line.contains("/status"))
            .map(short)
            .collect()
    }

    #[test]
    fn pods_come_one_by_one_and_go_from_the_top() {
        let three = set(3, "v1");
        assert_eq!(
            run(&three, &[]),
            [
                "create persistentvolumeclaims default/data-db-0",
                "create pods default/db-0"
            ]
        );
        assert!(
            run(&three, &[pod(0, "v1", false)]).is_empty(),
            "the next waits"
        );
        assert_eq!(
            run(&three, &[pod(0, "v1", true)]),
            ["create pods default/db-1"],
            "its claim is there already"
        );
        let all: Vec<_> = (0..5).map(|number| pod(number, "v1", true)).collect();
        assert_eq!(run(&three, &all), ["delete pods default/db-4 uid=db-4"]);
        let mut parallel = three;
        parallel["spec"]["podManagementPolicy"] = json!("Parallel");
        assert_eq!(run(&parallel, &[]).len(), 5);
    }

    #[test]
    fn updates_go_from_the_top_down_to_the_partition() {
        let mut updated = set(3, "v2");
        let old: Vec<_> = (0..3).map(|number| pod(number, "v1", true)).collect();
        assert_eq!(run(&updated, &old), ["delete pods default/db-2 uid=db-2"]);
        let next = [pod(0, "v1", true), pod(1, "v1", true), pod(2, "v2", true)];
        assert_eq!(run(&updated, &next), ["delete pods default/db-1 uid=db-1"]);
        updated["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 2}});
        assert!(run(&updated, &next).is_empty());
    }
}
