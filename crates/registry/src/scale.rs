//! The scale subresource: replicas and selector of anything that has them, in one shape.

use crate::context::Context;
use crate::tree;
use crate::update::{Update, prepare_update};
use crate::{metadata, strategy};
use meta::{ApiError, FieldError, FieldPath, LabelSelector, Value};
use schema::Resource;
use value::json;

/// The autoscaling/v1 Scale of an object. A resource without a scale subresource has none (404).
pub fn scale_of(res: &Resource, obj: &Value) -> Result<Value, ApiError> {
    if !strategy::has_subresource(res, "scale") {
        return Err(ApiError::generic_not_found());
    }
    let mut scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {},
        "spec": {},
        "status": {"replicas": tree::int(obj, "status.replicas").unwrap_or(0)},
    });
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        tree::carry(&mut scale, obj, &format!("metadata.{field}"));
    }
    if let Some(replicas) = tree::int(obj, "spec.replicas").filter(|replicas| *replicas != 0) {
        tree::put(&mut scale, "spec.replicas", replicas);
    }
    let selector = selector_text(obj);
    if !selector.is_empty() {
        tree::put(&mut scale, "status.selector", selector);
    }
    Ok(scale)
}

fn selector_text(obj: &Value) -> String {
    let Some(selector) = tree::get(obj, "spec.selector") else {
        return String::new();
    };
    let structured = tree::get(selector, "matchLabels").is_some()
        || tree::get(selector, "matchExpressions").is_some();
    // A ReplicationController's selector is a plain map of labels.
    let plain = json!({"matchLabels": selector});
    LabelSelector::from_object(if structured { selector } else { &plain })
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

/// Writes the replicas of a Scale into the stored object (which must carry its resourceVersion).
pub fn with_scale(
    res: &Resource,
    old: &Value,
    scale: &Value,
    ctx: &mut Context,
) -> Result<Update, ApiError> {
    if !strategy::has_subresource(res, "scale") {
        return Err(ApiError::generic_not_found());
    }
    let name = tree::text(old, "metadata.name");
    let sent_name = tree::text(scale, "metadata.name");
    if !sent_name.is_empty() && sent_name != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({sent_name}) does not match the name on the URL ({name})"
        )));
    }
    let uid = tree::text(scale, "metadata.uid");
    if !uid.is_empty() && uid != tree::text(old, "metadata.uid") {
        return Err(metadata::uid_conflict(res, old, uid));
    }
    let replicas = tree::int(scale, "spec.replicas").unwrap_or(0);
    if replicas < 0 {
        let path = FieldPath::new("spec").child("replicas");
        let fault = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(ApiError::invalid("autoscaling", "Scale", name, vec![fault]));
    }
    let mut new = old.clone();
    tree::put(&mut new, "spec.replicas", replicas);
    tree::carry(&mut new, scale, "metadata.resourceVersion");
    prepare_update(res, None, old, new, ctx)
}
