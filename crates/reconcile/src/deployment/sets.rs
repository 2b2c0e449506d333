//! A ReplicaSet as a working copy within one plan, and what its Deployment writes on it.
//!
//! Does not know how many replicas are right.

use super::{
    DESIRED_REPLICAS_ANNOTATION, MAX_REPLICAS_ANNOTATION, POD_TEMPLATE_HASH_LABEL,
    REVISION_ANNOTATION, REVISION_HISTORY_ANNOTATION,
};
use crate::action::{Action, REPLICA_SETS};
use crate::owner::controller_reference;
use crate::pod::micros;
use meta::{Value, intstr, object};
use std::sync::Arc;
use value::{Map, json};

/// Longest revision history annotation kept, as upstream.
const REVISION_HISTORY_CHARS_MAX: usize = 2000;
/// Replica counts are int32; sums of thousands of them stay far from overflow.
const COUNT_MAX: i64 = i32::MAX as i64;
/// Letters and digits that form neither words nor look-alikes; names and label values are made of them.
const SAFE_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The desired side, read once.
pub(super) struct Desired<'a> {
    pub(super) object: &'a Value,
    pub(super) name: &'a str,
    pub(super) replicas: i64,
    pub(super) rolling: bool,
    pub(super) max_surge: i64,
    pub(super) max_unavailable: i64,
    pub(super) min_ready_seconds: i64,
    pub(super) paused: bool,
    /// None: no deadline.
    pub(super) progress_deadline_seconds: Option<i64>,
    /// None: keep all.
    pub(super) revision_history_limit: Option<usize>,
    pub(super) collision_count: i64,
    pub(super) deleting: bool,
}

impl<'a> Desired<'a> {
    pub(super) fn read(object: &'a Value) -> Self {
        let number = |path: &[&str]| object::i64_at(object, path);
        let bounded = |path: &[&str]| number(path).filter(|limit| *limit != i64::from(i32::MAX));
        let replicas = number(&["spec", "replicas"])
            .unwrap_or(1)
            .clamp(0, COUNT_MAX);
        let rolling = object::str_at(object, &["spec", "strategy", "type"]) != Some("Recreate");
        let (max_surge, max_unavailable) = if rolling {
            fence_posts(object, replicas)
        } else {
            (0, 0)
        };
        Self {
            object,
            name: object::name(object),
            replicas,
            rolling,
            max_surge,
            max_unavailable,
            min_ready_seconds: number(&["spec", "minReadySeconds"]).unwrap_or(0),
            paused: object::bool_at(object, &["spec", "paused"]).unwrap_or(false),
            progress_deadline_seconds: bounded(&["spec", "progressDeadlineSeconds"]),
            revision_history_limit: bounded(&["spec", "revisionHistoryLimit"])
                .and_then(|limit| usize::try_from(limit).ok()),
            collision_count: number(&["status", "collisionCount"]).unwrap_or(0),
            deleting: object.pointer("/metadata/deletionTimestamp").is_some(),
        }
    }

    pub(super) fn template(&self) -> &Value {
        self.object
            .pointer("/spec/template")
            .unwrap_or(&Value::Null)
    }
}

/// (maxSurge, maxUnavailable) as pod counts: surge rounds up, unavailability down, never both zero.
fn fence_posts(deployment: &Value, replicas: i64) -> (i64, i64) {
    let resolve = |field: &str, round_up: bool| {
        let value = deployment
            .pointer("/spec/strategy/rollingUpdate")
            .and_then(|rolling| rolling.get(field));
        value
            .and_then(|value| intstr::int_or_percent(value, replicas, round_up).ok())
            .unwrap_or(0)
            .clamp(0, COUNT_MAX)
    };
    let (surge, unavailable) = (resolve("maxSurge", true), resolve("maxUnavailable", false));
    let unavailable = if surge == 0 && unavailable == 0 {
        1
    } else {
        unavailable
    };
    (surge, unavailable.min(replicas))
}

/// One ReplicaSet, the numbers of it that a rollout changes and reads.
pub(super) struct Set {
    /// As observed; replaced on write.
    pub(super) object: Arc<Value>,
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) created_micros: i64,
    /// spec.replicas as this plan wants it.
    pub(super) replicas: i64,
    observed_replicas: i64,
    pub(super) actual: i64,
    pub(super) ready: i64,
    pub(super) available: i64,
    pub(super) terminating: Option<i64>,
    /// Annotations as this plan wants them, if they differ from the observed ones.
    annotations: Option<Map>,
    min_ready_seconds: Option<i64>,
}

impl Set {
    pub(super) fn read(object: &Arc<Value>) -> Self {
        let number = |path: &[&str]| object::i64_at(object, path);
        let replicas = number(&["spec", "replicas"])
            .unwrap_or(1)
            .clamp(0, COUNT_MAX);
        Self {
            uid: object::uid(object).to_owned(),
            name: object::name(object).to_owned(),
            created_micros: micros(object.pointer("/metadata/creationTimestamp")).unwrap_or(0),
            replicas,
            observed_replicas: replicas,
            actual: number(&["status", "replicas"]).unwrap_or(0),
            ready: number(&["status", "readyReplicas"]).unwrap_or(0),
            // Replicas beyond the wanted ones are on their way out, whatever an older status says.
            available: number(&["status", "availableReplicas"])
                .unwrap_or(0)
                .min(replicas),
            terminating: number(&["status", "terminatingReplicas"]),
            annotations: None,
            min_ready_seconds: None,
            object: Arc::clone(object),
        }
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        match &self.annotations {
            Some(annotations) => annotations.get(name),
            None => self
                .object
                .pointer("/metadata/annotations")
                .and_then(|annotations| annotations.get(name)),
        }
        .and_then(Value::as_str)
    }

    pub(super) fn number_annotation(&self, name: &str) -> Option<i64> {
        self.annotation(name).and_then(|text| text.parse().ok())
    }

    pub(super) fn revision(&self) -> i64 {
        self.number_annotation(REVISION_ANNOTATION).unwrap_or(0)
    }

    /// The same template apart from the hash label: this set serves the Deployment as it is now.
    pub(super) fn serves(&self, template: &Value) -> bool {
        let mut own = self
            .object
            .pointer("/spec/template")
            .cloned()
            .unwrap_or(Value::Null);
        if let Some(labels) = own
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.remove(POD_TEMPLATE_HASH_LABEL);
        }
        tidy(own) == tidy(template.clone())
    }

    pub(super) fn annotate(&mut self, name: &str, value: String) -> bool {
        if self.annotation(name) == Some(value.as_str()) {
            return false;
        }
        let annotations = self
            .annotations
            .get_or_insert_with(|| annotations_of(&self.object));
        annotations.insert(name.to_owned(), Value::String(value));
        true
    }

    /// Notes how large the Deployment was when this set was last scaled: proportional scaling starts there.
    pub(super) fn annotate_scale(&mut self, desired: &Desired<'_>) {
        self.annotate(DESIRED_REPLICAS_ANNOTATION, desired.replicas.to_string());
        self.annotate(
            MAX_REPLICAS_ANNOTATION,
            (desired.replicas + desired.max_surge).to_string(),
        );
    }

    /// Brings annotations of the newest set up to date: those of the Deployment, and the revision.
    pub(super) fn follow(&mut self, desired: &Desired<'_>, revision: i64) {
        for (name, value) in annotations_of(desired.object) {
            if let (false, Some(text)) = (is_own_annotation(&name), value.as_str()) {
                self.annotate(&name, text.to_owned());
            }
        }
        let before = self.revision();
        if before < revision {
            if before != 0 {
                let history = self
                    .annotation(REVISION_HISTORY_ANNOTATION)
                    .unwrap_or_default();
                let history = if history.is_empty() {
                    before.to_string()
                } else {
                    format!("{history},{before}")
                };
                let cut = history.len().saturating_sub(REVISION_HISTORY_CHARS_MAX);
                let whole = if cut == 0 {
                    Some(0)
                } else {
                    history[cut..].find(',').map(|comma| cut + comma + 1)
                };
                if let Some(start) = whole {
                    let history = history[start..].to_owned();
                    self.annotate(REVISION_HISTORY_ANNOTATION, history);
                }
            }
            self.annotate(REVISION_ANNOTATION, revision.to_string());
        }
        let observed = object::i64_at(&self.object, &["spec", "minReadySeconds"]).unwrap_or(0);
        if observed != desired.min_ready_seconds {
            self.min_ready_seconds = Some(desired.min_ready_seconds);
        }
    }

    /// Whether annotations or minReadySeconds changed, which is written before any scaling goes on.
    pub(super) fn has_new_facts(&self) -> bool {
        self.annotations.is_some() || self.min_ready_seconds.is_some()
    }

    /// The PUT that makes this working copy true, if anything changed.
    pub(super) fn write(&self) -> Option<Action> {
        if self.replicas == self.observed_replicas && !self.has_new_facts() {
            return None;
        }
        let mut object = Value::clone(&self.object);
        object::set_at(&mut object, &["spec", "replicas"], json!(self.replicas));
        if let Some(annotations) = &self.annotations {
            object::set_at(
                &mut object,
                &["metadata", "annotations"],
                Value::Object(annotations.clone()),
            );
        }
        if let Some(seconds) = self.min_ready_seconds {
            object::set_at(&mut object, &["spec", "minReadySeconds"], json!(seconds));
        }
        Some(Action::update(REPLICA_SETS, object))
    }
}

/// Annotations that describe the Deployment itself and are not copied to ReplicaSets.
fn is_own_annotation(name: &str) -> bool {
    matches!(
        name,
        "kubectl.kubernetes.io/last-applied-configuration"
            | REVISION_ANNOTATION
            | REVISION_HISTORY_ANNOTATION
            | DESIRED_REPLICAS_ANNOTATION
            | MAX_REPLICAS_ANNOTATION
            | "deprecated.deployment.rollback.to"
    )
}

fn annotations_of(object: &Value) -> Map {
    object
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// Drops nulls and empty maps, so that two spellings of the same template are equal.
pub(crate) fn tidy(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let tidied = map.into_iter().map(|(key, value)| (key, tidy(value)));
            // emptyDir: {} means something; only metadata's empty maps are noise.
            Value::Object(
                tidied
                    .filter(|(key, value)| {
                        let noise = matches!(key.as_str(), "metadata" | "labels" | "annotations");
                        !value.is_null()
                            && key != "creationTimestamp"
                            && !(noise && value.as_object().is_some_and(Map::is_empty))
                    })
                    .collect(),
            )
        }
        Value::Array(list) => Value::Array(list.into_iter().map(tidy).collect()),
        other => other,
    }
}

/// A stable hash of a pod template in the safe alphabet. `collision_count` makes another one when
/// two templates share a hash.
pub fn template_hash(template: &Value, collision_count: i64) -> String {
    // FNV-1a over canonical JSON (sorted keys): the same on every machine and in every version.
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let text = tidy(template.clone()).to_string();
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    if collision_count > 0 {
        hash = collision_count.to_le_bytes().into_iter().fold(hash, fold);
    }
    let mut rest = hash ^ (hash >> 32);
    let letters = SAFE_ALPHABET.len() as u64;
    let mut word = String::with_capacity(10);
    for _ in 0..10 {
        let letter = usize::try_from(rest % letters).unwrap_or(0);
        word.push(char::from(SAFE_ALPHABET[letter]));
        rest /= letters;
    }
    word
}

/// The ReplicaSet of a revision, as it is created.
pub(super) fn new_set(desired: &Desired<'_>, hash: &str, revision: i64, replicas: i64) -> Value {
    let mut template = desired.template().clone();
    object::set_at(
        &mut template,
        &["metadata", "labels", POD_TEMPLATE_HASH_LABEL],
        json!(hash),
    );
    let labels = template
        .pointer("/metadata/labels")
        .cloned()
        .unwrap_or(Value::Null);
    let mut selector = desired
        .object
        .pointer("/spec/selector")
        .cloned()
        .unwrap_or(Value::Null);
    object::set_at(
        &mut selector,
        &["matchLabels", POD_TEMPLATE_HASH_LABEL],
        json!(hash),
    );
    let mut annotations = annotations_of(desired.object);
    annotations.retain(|name, _| !is_own_annotation(name));
    annotations.insert(REVISION_ANNOTATION.to_owned(), json!(revision.to_string()));
    annotations.insert(
        DESIRED_REPLICAS_ANNOTATION.to_owned(),
        json!(desired.replicas.to_string()),
    );
    annotations.insert(
        MAX_REPLICAS_ANNOTATION.to_owned(),
        json!((desired.replicas + desired.max_surge).to_string()),
    );
    let mut spec = json!({"replicas": replicas, "selector": selector, "template": template});
    if desired.min_ready_seconds != 0 {
        spec["minReadySeconds"] = json!(desired.min_ready_seconds);
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", desired.name),
            "namespace": object::namespace(desired.object),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [controller_reference(desired.object)],
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surge_rounds_up_and_unavailability_down() {
        let of = |surge: Value, unavailable: Value, replicas: i64| {
            let strategy =
                json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
            fence_posts(&json!({"spec": {"strategy": strategy}}), replicas)
        };
        assert_eq!(of(json!("25%"), json!("25%"), 10), (3, 2));
        assert_eq!(of(json!("25%"), json!("25%"), 1), (1, 0));
        assert_eq!(of(json!(0), json!("10%"), 3), (0, 1));
        assert_eq!(of(json!(1), json!(9), 3), (1, 3));
    }

    #[test]
    fn the_hash_is_stable_ignores_spelling_and_heeds_collisions() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}});
        let spelt = json!({"spec": {"containers": [{"name": "c"}]}, "metadata": {"labels": {"app": "web"}, "creationTimestamp": null}});
        assert_eq!(template_hash(&template, 0), template_hash(&spelt, 0));
        assert_ne!(template_hash(&template, 0), template_hash(&template, 1));
        assert_eq!(template_hash(&template, 0).len(), 10);
    }
}
