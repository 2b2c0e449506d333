//! Revisions: the templates an owner has had, kept as ControllerRevisions for `kubectl rollout history` and `undo`.
//!
//! Knows owners by `spec.template` and their revisions. Does not know which pods are made from which.

use crate::action::{Action, CONTROLLER_REVISIONS};
use crate::deployment::{template_hash, tidy};
use crate::owner::{self, Claim, claim, controller_reference};
use crate::pod::controller_uid;
use meta::labels::LabelSelector;
use meta::{Value, object};
use std::sync::Arc;
use value::{Map, json};

/// Old revisions kept when the owner does not say how many, as the API's default.
const HISTORY_LIMIT: i64 = 10;

/// An owner's revisions, the present template's among them, even if it is only being created.
pub(crate) struct Revisions {
    /// All but the present one, oldest first.
    pub(crate) old: Vec<Arc<Value>>,
    /// The revision of the present template.
    pub(crate) present: Arc<Value>,
    /// `status.collisionCount` as it has to be.
    pub(crate) collision_count: i64,
    /// What makes it so; before any pod is made.
    pub(crate) actions: Vec<Action>,
}

impl Revisions {
    /// The revision of this name, if it is there.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Value>> {
        let all = self.old.iter().chain([&self.present]);
        all.into_iter()
            .find(|revision| object::name(revision) == name)
    }

    /// Deletions of the oldest revisions beyond the history limit that nothing is made from any more.
    pub(crate) fn expired(&self, owner: &Value, is_live: impl Fn(&Value) -> bool) -> Vec<Action> {
        let limit = object::i64_at(owner, &["spec", "revisionHistoryLimit"]);
        let limit = usize::try_from(limit.unwrap_or(HISTORY_LIMIT)).unwrap_or(0);
        if self.old.len() <= limit {
            return Vec::new();
        }
        let dead: Vec<_> = self
            .old
            .iter()
            .filter(|revision| !is_live(revision) && !object::is_deleting(revision))
            .collect();
        let excess = dead.len().saturating_sub(limit);
        dead.into_iter()
            .take(excess)
            .map(|revision| Action::delete(CONTROLLER_REVISIONS, revision, None))
            .collect()
    }
}

/// Finds, adopts, renumbers or makes the revision of the owner's template. `seen` are the revisions which the owner
/// controls, and those whose names begin with its name and a dash.
pub(crate) fn revise(
    owner: &Value,
    hash_label: &str,
    selector: &LabelSelector,
    seen: &[Arc<Value>],
) -> Revisions {
    let deleting = object::is_deleting(owner);
    let mut actions = Vec::new();
    let mut own: Vec<Arc<Value>> = Vec::new();
    for revision in seen {
        let matches = selector.matches(object::labels(revision));
        let controller = controller_uid(revision);
        match claim(
            object::uid(owner),
            deleting,
            controller,
            matches,
            object::is_deleting(revision),
        ) {
            // The selector never changes: one that does not match was relabelled by hand and is still history.
            Claim::Own | Claim::Release => own.push(Arc::clone(revision)),
            Claim::Adopt => {
                let (namespace, name) = (object::namespace(revision), object::name(revision));
                let uid = object::uid(revision);
                actions.push(owner::adopt(
                    owner,
                    CONTROLLER_REVISIONS,
                    namespace,
                    name,
                    uid,
                ));
                own.push(Arc::clone(revision));
            }
            Claim::Leave => {}
        }
    }
    own.sort_by(|a, b| (number(a), object::name(a)).cmp(&(number(b), object::name(b))));
    let newest = own.last().map_or(0, |revision| number(revision));
    let template = tidy(object::at(owner, &["spec", "template"]).clone());
    let known = own
        .iter()
        .rposition(|revision| tidy(template_of(revision)) == template);
    let mut collision_count =
        object::i64_at(owner, &["status", "collisionCount"]).unwrap_or_default();
    let present = match known.map(|place| own.remove(place)) {
        Some(revision) if number(&revision) == newest || deleting => revision,
        Some(revision) => {
            // An undo: what was old is the newest again.
            let mut renumbered = Value::clone(&revision);
            object::set_at(&mut renumbered, &["revision"], json!(newest + 1));
            actions.push(Action::update(CONTROLLER_REVISIONS, renumbered.clone()));
            Arc::new(renumbered)
        }
        None => {
            let name = |count: i64| {
                let hash = template_hash(object::at(owner, &["spec", "template"]), count);
                (format!("{}-{hash}", object::name(owner)), hash)
            };
            while seen
                .iter()
                .any(|other| object::name(other) == name(collision_count).0)
            {
                collision_count += 1;
            }
            let (name, hash) = name(collision_count);
            let revision = Arc::new(make(owner, &name, hash_label, &hash, newest + 1));
            if !deleting {
                actions.push(Action::Create {
                    resource: CONTROLLER_REVISIONS,
                    namespace: object::namespace(owner).to_owned(),
                    object: Arc::clone(&revision),
                    announce: None,
                });
            }
            revision
        }
    };
    Revisions {
        old: own,
        present,
        collision_count,
        actions,
    }
}

/// The template a revision stands for.
pub(crate) fn template_of(revision: &Value) -> Value {
    let mut template = object::at(revision, &["data", "spec", "template"]).clone();
    object::remove_at(&mut template, &["$patch"]);
    template
}

fn number(revision: &Value) -> i64 {
    object::i64_at(revision, &["revision"]).unwrap_or_default()
}

fn make(owner: &Value, name: &str, hash_label: &str, hash: &str, number: i64) -> Value {
    let mut template = object::at(owner, &["spec", "template"]).clone();
    let mut labels = object::map_at(&template, &["metadata", "labels"])
        .cloned()
        .unwrap_or_default();
    labels.insert(hash_label.to_owned(), json!(hash));
    // The data is a patch of the owner: `kubectl rollout undo` sends it as it is.
    object::set_at(&mut template, &["$patch"], json!("replace"));
    let mut metadata = Map::new();
    metadata.insert("name", json!(name));
    metadata.insert("namespace", json!(object::namespace(owner)));
    metadata.insert("labels", Value::Object(labels));
    if let Some(annotations) = object::map_at(owner, &["metadata", "annotations"]) {
        metadata.insert("annotations", json!(annotations));
    }
    metadata.insert(
        "ownerReferences".to_owned(),
        json!([controller_reference(owner)]),
    );
    json!({
        "apiVersion": CONTROLLER_REVISIONS.api_version(),
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": {"spec": {"template": template}},
        "revision": number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "agent", "namespace": "default", "uid": "ds"},
            "spec": {"revisionHistoryLimit": 1, "template": {"metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}}})
    }

    fn run(owner: &Value, seen: &[Arc<Value>]) -> (Revisions, Vec<String>) {
        let selector = LabelSelector::parse("app=agent").unwrap();
        let revisions = revise(owner, "hash", &selector, seen);
        let words = |action: &Action| {
            let text = action.to_string();
            text.split(" {").next().unwrap_or_default().to_owned()
        };
        let lines = revisions.actions.iter().map(words).collect();
        (revisions, lines)
    }

    #[test]
    fn a_template_has_one_revision_and_an_undo_makes_it_the_newest() {
        let (first, lines) = run(&owner("v1"), &[]);
        let name = object::name(&first.present).to_owned();
        assert_eq!(
            lines,
            [format!("create controllerrevisions.apps default/{name} ").trim()]
        );
        assert_eq!(
            name,
            format!(
                "agent-{}",
                first.present["metadata"]["labels"]["hash"]
                    .as_str()
                    .unwrap()
            )
        );
        assert_eq!(first.present["revision"], 1);
        assert_eq!(
            first.present["data"]["spec"]["template"]["$patch"],
            "replace"
        );
        assert_eq!(template_of(&first.present), owner("v1")["spec"]["template"]);

        let one = [Arc::clone(&first.present)];
        assert!(run(&owner("v1"), &one).1.is_empty());
        let (second, lines) = run(&owner("v2"), &one);
        assert_eq!((lines.len(), &second.present["revision"]), (1, &json!(2)));
        assert_eq!(second.old, one);

        let both = [second.present, Arc::clone(&first.present)];
        let (undone, lines) = run(&owner("v1"), &both);
        assert_eq!(
            lines,
            [format!("update controllerrevisions.apps default/{name}")]
        );
        assert_eq!(undone.present["revision"], 3);
        assert_eq!(object::name(&undone.present), name);
    }

    #[test]
    fn a_foreign_revision_of_the_same_name_makes_another_hash() {
        let (first, _) = run(&owner("v1"), &[]);
        let mut foreign = Value::clone(&first.present);
        foreign["metadata"]["ownerReferences"][0]["uid"] = json!("other");
        let (second, _) = run(&owner("v1"), &[Arc::new(foreign)]);
        assert_eq!(second.collision_count, 1);
        assert_ne!(object::name(&second.present), object::name(&first.present));
        assert_eq!(second.present["revision"], 1);
    }

    #[test]
    fn a_free_revision_is_adopted_and_the_oldest_unused_one_goes() {
        let (first, _) = run(&owner("v1"), &[]);
        let mut free = Value::clone(&first.present);
        free["metadata"]["ownerReferences"] = json!([]);
        let (_, lines) = run(&owner("v1"), &[Arc::new(free)]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("patch controllerrevisions.apps default/agent-"));

        let (second, _) = run(&owner("v2"), std::slice::from_ref(&first.present));
        let (third, _) = run(
            &owner("v3"),
            &[first.present.clone(), second.present.clone()],
        );
        let gone = third.expired(&owner("v3"), |_| false);
        let oldest = format!("default/{} ", object::name(&first.present));
        assert_eq!(gone.len(), 1);
        assert!(gone[0].to_string().contains(&oldest));
        let live = object::name(&first.present);
        assert!(
            third
                .expired(&owner("v3"), |revision| object::name(revision) == live)
                .is_empty()
        );
    }
}
