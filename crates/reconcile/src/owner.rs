//! Who controls whom: adopting objects that match a selector and releasing those that no longer do.
//!
//! Knows owner references; does not know what is owned.

use crate::action::{Action, PatchType, ResourceRef};
use meta::{Value, object};
use value::json;

/// The owner reference that makes `owner` the controller.
pub fn controller_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": object::str_at(owner, &["apiVersion"]).unwrap_or_default(),
        "kind": object::str_at(owner, &["kind"]).unwrap_or_default(),
        "name": object::name(owner),
        "uid": object::uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Makes `owner` the controller of an object that has none.
pub fn adopt(
    owner: &Value,
    resource: ResourceRef,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Action {
    let body = json!({"metadata": {"ownerReferences": [controller_reference(owner)], "uid": uid}});
    strategic(resource, namespace, name, body)
}

/// Ends the ownership of an object that no longer matches.
pub fn release(
    owner: &Value,
    resource: ResourceRef,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Action {
    let body = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": object::uid(owner)}], "uid": uid}});
    strategic(resource, namespace, name, body)
}

fn strategic(resource: ResourceRef, namespace: &str, name: &str, body: Value) -> Action {
    Action::Patch {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        patch_type: PatchType::Strategic,
        subresource: None,
        body,
    }
}

/// What to do with an object that may be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Owned and matching.
    Own,
    /// Matching and free.
    Adopt,
    /// Owned, but it no longer matches.
    Release,
    /// None of our business.
    Leave,
}

/// Decides from the facts; `deleting` is the object's, `owner_deleting` the would-be owner's.
pub fn claim(
    owner_uid: &str,
    owner_deleting: bool,
    controller: Option<&str>,
    matches: bool,
    deleting: bool,
) -> Claim {
    match controller {
        Some(uid) if uid != owner_uid => Claim::Leave,
        Some(_) if matches => Claim::Own,
        Some(_) if owner_deleting => Claim::Leave,
        Some(_) => Claim::Release,
        None if matches && !owner_deleting && !deleting => Claim::Adopt,
        None => Claim::Leave,
    }
}
