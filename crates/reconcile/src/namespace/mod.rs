//! Namespace deletion: everything inside goes, then the namespace.
//!
//! Knows how much of each resource is left. Does not know what the resources are.

use crate::action::{Action, NAMESPACES, ResourceRef};
use crate::status::{self, Condition, find};
use meta::{Value, object};
use std::collections::BTreeMap;
use value::{Map, json};

/// The finalizer in `spec.finalizers` that this controller removes.
pub const KUBERNETES_FINALIZER: &str = "kubernetes";
/// How soon to look again while content remains, if nothing happens before.
const RECHECK_MICROS: i64 = 5_000_000;

/// What is left of one resource in the namespace.
#[derive(Clone, Copy, Debug)]
pub struct Remaining<'a> {
    /// The resource.
    pub resource: ResourceRef,
    /// Objects left.
    pub objects: usize,
    /// Objects not yet deleting.
    pub undeleted: usize,
    /// Finalizers on deleting objects, with how many objects each holds up.
    pub finalizers: &'a [(&'a str, usize)],
}

/// What the shell has seen in a terminating namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed<'a> {
    /// Every namespaced resource with objects left in the namespace.
    pub remaining: &'a [Remaining<'a>],
    /// Why not every resource could be discovered.
    pub discovery_failure: Option<&'a str>,
    /// Why the last deletions failed.
    pub deletion_failure: Option<&'a str>,
}

/// What to do now for a namespace: nothing unless it is terminating.
pub fn plan(namespace: &Value, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    if !object::is_deleting(namespace)
        || object::array_at(namespace, &["spec", "finalizers"]).is_empty()
    {
        return Vec::new();
    }
    let name = object::name(namespace).to_owned();
    let mut actions: Vec<Action> = observed
        .remaining
        .iter()
        .filter(|left| left.undeleted > 0)
        .map(|left| Action::DeleteCollection {
            resource: left.resource,
            namespace: name.clone(),
        })
        .collect();
    let empty = observed.remaining.iter().all(|left| left.objects == 0);
    if empty && observed.discovery_failure.is_none() && observed.deletion_failure.is_none() {
        actions.push(finalize(namespace, name));
        return actions;
    }
    let mut conditions = status::conditions_of(namespace);
    for condition in conditions_for(observed) {
        let same = find(&conditions, condition.kind).is_some_and(|old| {
            ["status", "reason", "message"].map(|field| crate::pod::text_of(old, field))
                == [condition.status, &condition.reason, &condition.message]
        });
        if !same {
            status::set(&mut conditions, &condition, None, now_micros);
        }
    }
    if conditions != status::conditions_of(namespace) {
        let mut status = namespace
            .get("status")
            .cloned()
            .unwrap_or_else(|| json!({}));
        object::set_at(&mut status, &["conditions"], Value::Array(conditions));
        object::set_at(&mut status, &["phase"], json!("Terminating"));
        actions.push(Action::update_status(
            NAMESPACES,
            status::with_status(namespace, status),
        ));
    }
    actions.push(Action::RequeueAfter(RECHECK_MICROS));
    actions
}

fn finalize(namespace: &Value, name: String) -> Action {
    let mut object = namespace.clone();
    let kept: Vec<Value> = object::array_at(namespace, &["spec", "finalizers"])
        .iter()
        .filter(|finalizer| finalizer.as_str() != Some(KUBERNETES_FINALIZER))
        .cloned()
        .collect();
    let spec = if kept.is_empty() {
        Map::new()
    } else {
        Map::from_iter([("finalizers".to_owned(), Value::Array(kept))])
    };
    object::set_at(&mut object, &["spec"], Value::Object(spec));
    Action::Update {
        resource: NAMESPACES,
        namespace: String::new(),
        name,
        subresource: Some("finalize"),
        object,
    }
}

fn conditions_for(observed: &Observed<'_>) -> Vec<Condition> {
    let condition = |kind, trouble: Option<(&str, String)>, fine: (&str, &str)| match trouble {
        Some((reason, message)) => Condition::new(kind, true, reason, message),
        None => Condition::new(kind, false, fine.0, fine.1),
    };
    let left: Vec<String> = observed
        .remaining
        .iter()
        .filter(|left| left.objects > 0)
        .map(|left| {
            format!(
                "{}.{} has {} resource instances",
                left.resource.resource, left.resource.group, left.objects
            )
        })
        .collect();
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, objects) in observed.remaining.iter().flat_map(|left| left.finalizers) {
        *held.entry(finalizer).or_default() += objects;
    }
    let held: Vec<String> = held
        .into_iter()
        .map(|(finalizer, objects)| format!("{finalizer} in {objects} resource instances"))
        .collect();
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            observed.discovery_failure.map(|why| {
                (
                    "DiscoveryFailed",
                    format!("Discovery failed for some groups, {why}"),
                )
            }),
            (
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            (
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            observed.deletion_failure.map(|why| {
                (
                    "ContentDeletionFailed",
                    format!(
                        "Failed to delete all resource types, {} remaining: {why}",
                        left.len()
                    ),
                )
            }),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        condition(
            "NamespaceContentRemaining",
            (!left.is_empty()).then(|| {
                (
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {}", left.join(", ")),
                )
            }),
            ("ContentRemoved", "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            (!held.is_empty()).then(|| {
                (
                    "SomeFinalizersRemain",
                    format!(
                        "Some content in the namespace has finalizers remaining: {}",
                        held.join(", ")
                    ),
                )
            }),
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{PODS, text};

    fn terminating() -> Value {
        json!({"metadata": {"name": "team", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}})
    }

    #[test]
    fn an_active_namespace_is_left_alone() {
        let namespace =
            json!({"metadata": {"name": "team"}, "spec": {"finalizers": ["kubernetes"]}});
        assert!(plan(&namespace, &Observed::default(), 0).is_empty());
    }

    #[test]
    fn content_is_deleted_then_waited_for_then_the_namespace_is_finalized() {
        let undeleted = [Remaining {
            resource: PODS,
            objects: 2,
            undeleted: 2,
            finalizers: &[],
        }];
        let first = plan(
            &terminating(),
            &Observed {
                remaining: &undeleted,
                ..Observed::default()
            },
            0,
        );
        let first_text = text(&first);
        assert!(
            first_text.starts_with("delete all pods of team\nupdate namespaces/status team "),
            "{first_text}"
        );
        assert!(
            first_text.contains("Some resources are remaining: pods. has 2 resource instances")
        );
        let Some(Action::UpdateStatus { object, .. }) = first.get(1) else {
            panic!("{first_text}")
        };
        let deleting = [Remaining {
            resource: PODS,
            objects: 2,
            undeleted: 0,
            finalizers: &[],
        }];
        let second = plan(
            object,
            &Observed {
                remaining: &deleting,
                ..Observed::default()
            },
            1,
        );
        assert_eq!(text(&second), "requeue after 5.000000s\n");
        let last = plan(&terminating(), &Observed::default(), 2);
        let expected = r#"update namespaces/finalize team {"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z","name":"team"},"spec":{},"status":{"phase":"Terminating"}}"#;
        assert_eq!(text(&last), format!("{expected}\n"));
    }

    #[test]
    fn finalizers_and_failures_are_told() {
        let held = [Remaining {
            resource: PODS,
            objects: 1,
            undeleted: 0,
            finalizers: &[("example.com/hold", 1)],
        }];
        let observed = Observed {
            remaining: &held,
            deletion_failure: Some("quorum lost"),
            ..Observed::default()
        };
        let plan_text = text(&plan(&terminating(), &observed, 0));
        assert!(
            plan_text.contains("finalizers remaining: example.com/hold in 1 resource instances"),
            "{plan_text}"
        );
        assert!(
            plan_text.contains("Failed to delete all resource types, 1 remaining: quorum lost")
        );
        assert!(!plan_text.contains("finalize team"));
    }
}
