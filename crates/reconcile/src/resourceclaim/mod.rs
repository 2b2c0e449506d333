//! Resource claims: made from templates for pods that ask for them, and free again once their users are gone.
//!
//! ```text
//!   pod ─► template ─► claim (owned by the pod) ─► pod.status.resourceClaimStatuses
//!   claim: users that are gone leave reservedFor ─► the last one: devices back, finalizer off
//!          its own pod has ended ─► deleted
//! ```
//!
//! Knows pods and claims. Does not allocate: the scheduler does.

use crate::action::{Action, Involved, PODS, PatchType, RESOURCE_CLAIMS};
use crate::pod::{Pod, PodClaim};
use meta::{Value, object};
use std::sync::Arc;
use value::json;

/// Ties a claim to the entry of the pod's spec that it was made for.
pub const POD_CLAIM_ANNOTATION: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps a claim that is allocated from being deleted.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Longest beginning of a made claim's name: a hyphen and five random characters follow.
const NAME_BASE_MAX: usize = 57;
/// A user that is not known may only not be known yet: how long it is given.
pub const UNKNOWN_USER_MICROS: i64 = 10_000_000;

/// What the shell has seen around a pod.
pub struct PodObserved<'a> {
    /// A claim of the pod's namespace, by name.
    pub claim: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// Claims that the pod controls.
    pub own: &'a [Arc<Value>],
    /// A template of the pod's namespace, by name.
    pub template: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// Claims that were made and not seen yet.
    pub creations_in_flight: usize,
}

/// What is known of a user of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// It may run, or does.
    Lives,
    /// It has ended, is gone, or another pod has its name.
    Gone,
    /// It is not known, and was not known to have been there.
    Unknown,
}

/// What to do now for a pod with claims.
pub fn plan_pod(pod: &Pod, observed: &PodObserved<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    if pod.deletion_micros.is_some() || pod.has_ended() || observed.creations_in_flight > 0 {
        return actions;
    }
    let mut made: Vec<Value> = Vec::new();
    for one in &pod.claims {
        let Some(template) = &one.template else {
            continue;
        };
        // An empty name says that none is needed.
        if one.claim.as_deref() == Some("") {
            continue;
        }
        let recorded = one.claim.as_deref().and_then(|name| (observed.claim)(name));
        if recorded.is_some_and(|claim| is_owned_by(claim, pod)) {
            continue;
        }
        let mut own = observed.own.iter();
        let orphan = own.find(|claim| {
            object::annotation(claim, POD_CLAIM_ANNOTATION) == Some(&*one.name)
                && !object::is_deleting(claim)
        });
        if let Some(claim) = orphan {
            made.push(json!({"name": one.name, "resourceClaimName": object::name(claim)}));
            continue;
        }
        match (observed.template)(template) {
            Some(template) => actions.push(Action::Create {
                resource: RESOURCE_CLAIMS,
                namespace: pod.namespace.to_string(),
                object: Arc::new(from_template(pod, one, template)),
                announce: None,
            }),
            None => actions.push(Action::warning(
                &involved(pod),
                "FailedResourceClaimCreation",
                format!(
                    "PodResourceClaim {}: resource claim template \"{template}\": \
                     resourceclaimtemplate.resource.k8s.io \"{template}\" not found",
                    one.name
                ),
            )),
        }
    }
    if !made.is_empty() {
        let patch = Action::Patch {
            resource: PODS,
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            patch_type: PatchType::Strategic,
            subresource: Some("status"),
            body: json!({"metadata": {"uid": &*pod.uid}, "status": {"resourceClaimStatuses": made}}),
        };
        actions.insert(0, patch);
    }
    actions.extend(reserve(pod, observed));
    actions
}

/// A pod that came to its node past the scheduler uses its claims nevertheless, if they are allocated.
fn reserve(pod: &Pod, observed: &PodObserved<'_>) -> Vec<Action> {
    if pod.node_name.is_empty() {
        return Vec::new();
    }
    // One for extended resources is the scheduler's from beginning to end.
    let named = pod.claims.iter().filter(|one| !one.extended);
    let names = named.filter_map(|one| one.claim.as_deref());
    let unreserved = names.filter_map(|name| {
        let claim = (observed.claim)(name)?;
        let users = object::array_at(claim, &["status", "reservedFor"]);
        let allocated = object::at(claim, &["status", "allocation"]).is_object();
        let reserved = users.iter().any(|user| user["uid"] == *pod.uid);
        (allocated && !reserved && !object::is_deleting(claim)).then_some(claim)
    });
    unreserved
        .map(|claim| {
            let mut claim = claim.clone();
            let mut users = object::array_at(&claim, &["status", "reservedFor"]).to_vec();
            users.push(json!({"resource": "pods", "name": pod.name, "uid": pod.uid}));
            object::set_at(&mut claim, &["status", "reservedFor"], users);
            Action::update_status(RESOURCE_CLAIMS, claim)
        })
        .collect()
}

fn is_owned_by(claim: &Value, pod: &Pod) -> bool {
    object::controller_of(claim).is_some_and(|owner| owner["uid"] == *pod.uid)
}

fn from_template(pod: &Pod, one: &PodClaim, template: &Value) -> Value {
    let metadata = object::at(template, &["spec", "metadata"]);
    let mut annotations = metadata["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    annotations.insert(POD_CLAIM_ANNOTATION, one.name.to_string().into());
    let mut claim = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {
            "generateName": name_base(&pod.name, &one.name),
            "namespace": pod.namespace,
            "annotations": annotations,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid,
                "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": object::at(template, &["spec", "spec"]),
    });
    if metadata["labels"].is_object() {
        claim["metadata"]["labels"] = metadata["labels"].clone();
    }
    claim
}

/// Both names, shortened by the same share where they are too long together.
fn name_base(pod: &str, claim: &str) -> String {
    let base = format!("{pod}-{claim}-");
    if base.len() <= NAME_BASE_MAX {
        return base;
    }
    let share = |name: &str| {
        let bytes = name.len() * NAME_BASE_MAX / base.len();
        name.get(..bytes).unwrap_or(name).to_owned()
    };
    format!("{}-{}", share(pod), share(claim))
}

fn involved(pod: &Pod) -> Arc<Involved> {
    Arc::new(Involved {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        resource_version: String::new(),
    })
}

/// What to do now for a claim. `user` knows pods of its namespace by name and uid.
pub fn plan_claim(claim: &Value, user: &dyn Fn(&str, &str) -> User) -> Vec<Action> {
    let users = object::array_at(claim, &["status", "reservedFor"]);
    let mut unknown = false;
    let mut left: Vec<Value> = Vec::new();
    for one in users {
        let text = |field: &str| one[field].as_str().unwrap_or_default();
        let is_pod = text("apiGroup").is_empty() && text("resource") == "pods";
        let state = if is_pod {
            user(text("name"), text("uid"))
        } else {
            User::Lives
        };
        unknown |= state == User::Unknown;
        if state != User::Gone {
            left.push(one.clone());
        }
    }
    let mut actions = Vec::new();
    let protected = object::finalizers(claim).any(|one| one == FINALIZER);
    let allocated = object::at(claim, &["status", "allocation"]).is_object();
    let deleting = object::is_deleting(claim);
    let free = left.is_empty();
    let lost = left.len() < users.len();
    // A claim whose last user is gone gives its devices back; one that never had a user keeps them.
    let gives_back = free && protected && (lost || deleting);
    if lost || gives_back && allocated {
        let mut changed = claim.clone();
        object::set_at(&mut changed, &["status", "reservedFor"], left);
        if gives_back {
            object::remove_at(&mut changed, &["status", "allocation"]);
            object::remove_at(&mut changed, &["status", "devices"]);
        }
        actions.push(Action::update_status(RESOURCE_CLAIMS, changed));
    }
    if gives_back {
        actions.push(Action::RemoveFinalizer {
            resource: RESOURCE_CLAIMS,
            namespace: object::namespace(claim).to_owned(),
            name: object::name(claim).to_owned(),
            uid: object::uid(claim).to_owned(),
            finalizer: FINALIZER,
        });
    }
    if free && !deleting && owner(claim).is_some_and(|(name, uid)| user(name, uid) == User::Gone) {
        actions.push(Action::delete(RESOURCE_CLAIMS, claim, None));
    }
    if unknown {
        actions.push(Action::RequeueAfter(UNKNOWN_USER_MICROS));
    }
    actions
}

/// Name and uid of the pod that a claim was made for.
fn owner(claim: &Value) -> Option<(&str, &str)> {
    let owner = object::controller_of(claim)?;
    let text = |field: &str| owner[field].as_str().unwrap_or_default();
    let is_pod = text("apiVersion") == "v1" && text("kind") == "Pod";
    is_pod.then(|| (text("name"), text("uid")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    fn pod(statuses: Value) -> Pod {
        Pod::from_object(
            &json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}, {"name": "net", "resourceClaimName": "shared"}]},
            "status": {"resourceClaimStatuses": statuses}}),
        )
    }

    fn plan(pod: &Pod, claims: &[Value], templates: &[Value], in_flight: usize) -> String {
        let find = |list: &'static [Value], name: &str| -> Option<&'static Value> {
            list.iter().find(|one| object::name(one) == name)
        };
        // Tests are short: what they look at may stay.
        let claims: &'static [Value] = Box::leak(claims.to_vec().into_boxed_slice());
        let templates: &'static [Value] = Box::leak(templates.to_vec().into_boxed_slice());
        let own = claims.iter().filter(|claim| is_owned_by(claim, pod));
        let own: Vec<Arc<Value>> = own.map(|claim| Arc::new(claim.clone())).collect();
        text(&plan_pod(
            pod,
            &PodObserved {
                claim: &|name| find(claims, name),
                own: &own,
                template: &|name| find(templates, name),
                creations_in_flight: in_flight,
            },
        ))
    }

    fn made(name: &str) -> Value {
        json!({"metadata": {"namespace": "n", "name": name, "uid": name, "annotations": {POD_CLAIM_ANNOTATION: "gpu"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]}})
    }

    #[test]
    fn a_claim_is_made_once_and_recorded() {
        let template = json!({"metadata": {"name": "t"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {}}}});
        let create = concat!(
            r#"create resourceclaims.resource.k8s.io n/p-gpu-* {"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","#,
            r#""metadata":{"annotations":{"resource.kubernetes.io/pod-claim-name":"gpu"},"generateName":"p-gpu-","labels":{"a":"b"},"#,
            r#""namespace":"n","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Pod","name":"p","uid":"u"}]},"#,
            r#""spec":{"devices":{}}}"#,
            "\n"
        );
        let templates = [template];
        assert_eq!(plan(&pod(json!([])), &[], &templates, 0), create);
        assert_eq!(plan(&pod(json!([])), &[], &templates, 1), "");
        let record = concat!(
            r#"patch pods/status n/p strategic {"metadata":{"uid":"u"},"status":{"resourceClaimStatuses":[{"name":"gpu","resourceClaimName":"p-gpu-x"}]}}"#,
            "\n"
        );
        let claims = [made("p-gpu-x")];
        assert_eq!(plan(&pod(json!([])), &claims, &templates, 0), record);
        let recorded = pod(json!([{"name": "gpu", "resourceClaimName": "p-gpu-x"}]));
        assert_eq!(plan(&recorded, &claims, &templates, 0), "");
        // It was deleted by somebody: another one is made.
        assert_eq!(plan(&recorded, &[], &templates, 0), create);
        assert_eq!(plan(&pod(json!([{"name": "gpu"}])), &[], &templates, 0), "");
        let missing = plan(&pod(json!([])), &[], &[], 0);
        assert!(
            missing.ends_with(
                "FailedResourceClaimCreation: PodResourceClaim gpu: resource claim template \"t\": \
             resourceclaimtemplate.resource.k8s.io \"t\" not found\n"
            ),
            "{missing}"
        );
    }

    #[test]
    fn long_names_are_shortened_by_the_same_share() {
        assert_eq!(name_base("web-1", "gpu"), "web-1-gpu-");
        let long = name_base(&"p".repeat(60), &"c".repeat(30));
        assert_eq!(long, format!("{}-{}", "p".repeat(37), "c".repeat(18)));
    }

    fn claim(users: &[&str], more: Value) -> Value {
        let users: Vec<Value> = users
            .iter()
            .map(|name| json!({"resource": "pods", "name": name, "uid": name}))
            .collect();
        let mut claim = made("c");
        claim["metadata"]["finalizers"] = json!([FINALIZER]);
        claim["status"] = json!({"reservedFor": users, "allocation": {"devices": {}}});
        if let Some(metadata) = more.as_object() {
            for (field, value) in metadata {
                claim["metadata"][field] = value.clone();
            }
        }
        claim
    }

    fn plan_with(claim: &Value) -> Vec<String> {
        let user = |_: &str, uid: &str| match uid {
            "gone" => User::Gone,
            "unknown" => User::Unknown,
            _ => User::Lives,
        };
        let plan = text(&plan_claim(claim, &user));
        // Bodies are told apart by their status.
        plan.lines()
            .map(|line| line.split(" {\"").next().unwrap_or(line).to_owned())
            .collect()
    }

    #[test]
    fn the_last_user_gives_the_devices_back() {
        let (nothing, going) = (json!({}), json!({"deletionTimestamp": "t"}));
        let status = "update resourceclaims.resource.k8s.io/status n/c";
        let free = format!("remove finalizer {FINALIZER} of resourceclaims.resource.k8s.io n/c");
        assert_eq!(plan_with(&claim(&["a"], nothing.clone())), [""; 0]);
        assert_eq!(plan_with(&claim(&["a", "gone"], nothing.clone())), [status]);
        assert_eq!(
            plan_with(&claim(&["gone"], nothing.clone())),
            [status, &free]
        );
        // One that never had a user stays allocated, unless it is deleted.
        assert_eq!(plan_with(&claim(&[], nothing.clone())), [""; 0]);
        assert_eq!(plan_with(&claim(&[], going)), [status, &free]);
        assert_eq!(
            plan_with(&claim(&["unknown"], nothing)),
            ["requeue after 10.000000s"]
        );
        let owner = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "gone", "controller": true}]});
        assert_eq!(
            plan_with(&claim(&["gone"], owner)),
            [
                status,
                &free,
                "delete resourceclaims.resource.k8s.io n/c uid=c"
            ]
        );
        let actions = plan_claim(&claim(&["gone"], json!({})), &|_, _| User::Gone);
        let Action::UpdateStatus { object, .. } = &actions[0] else {
            panic!("{actions:?}");
        };
        assert_eq!(object["status"], json!({"reservedFor": []}));
    }
}
