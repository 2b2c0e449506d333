//! The rules of object metadata that hold for every kind.
//!
//! It knows nothing of specs and statuses, and nothing of where objects are kept.

use crate::context::Context;
use crate::findings::Findings;
use crate::strategy::Strategy;
use crate::tree::{self, Map};
use meta::{ApiError, FieldPath, GroupResource, Value};
use schema::Resource;

/// Keys and values of all annotations together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// The finalizer that leaves dependents alone.
pub(crate) const ORPHAN_FINALIZER: &str = "orphan";
/// The finalizer that deletes dependents first.
pub(crate) const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// Resource and group as error texts print them.
pub(crate) fn group_resource(res: &Resource) -> GroupResource {
    GroupResource::new(res.group, res.resource)
}

/// The text of a 409 on a stale resourceVersion.
pub(crate) const STALE: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Makes sure `metadata` is an object and agrees with the namespace of the request.
pub(crate) fn settle_namespace(
    res: &Resource,
    obj: &mut Value,
    namespace: Option<&str>,
) -> Result<(), ApiError> {
    if tree::ensure(obj, "metadata").is_none() {
        return Err(ApiError::bad_request(
            "the object provided is unrecognized (must be an object with metadata)",
        ));
    }
    if !res.namespaced {
        tree::remove(obj, "metadata.namespace");
        return Ok(());
    }
    let asked = namespace.unwrap_or("");
    let own = tree::text(obj, "metadata.namespace");
    if own.is_empty() {
        if asked.is_empty() {
            return Err(ApiError::bad_request(
                "namespace is required for namespaced resources",
            ));
        }
        tree::put(obj, "metadata.namespace", asked);
    } else if !asked.is_empty() && own != asked {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Writes what the server owns in the metadata of a new object.
pub(crate) fn stamp_new(obj: &mut Value, ctx: &mut Context) {
    let now = ctx.now_seconds_text();
    let uid = ctx.uid();
    let prefix = tree::text(obj, "metadata.generateName").to_owned();
    if !prefix.is_empty() && tree::text(obj, "metadata.name").is_empty() {
        let name = ctx.generated_name(&prefix);
        tree::put(obj, "metadata.name", name);
    }
    drop_unsettable(obj);
    for field in [
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
    ] {
        tree::remove(obj, field);
    }
    tree::put(obj, "metadata.creationTimestamp", now);
    tree::put(obj, "metadata.uid", uid);
}

/// Removes what no client may set and the store does not keep.
pub(crate) fn drop_unsettable(obj: &mut Value) {
    tree::remove(obj, "metadata.selfLink");
    tree::remove(obj, "metadata.managedFields");
}

/// Fills in the metadata a client may leave out of an update.
pub(crate) fn carry_over(new: &mut Value, old: &Value) {
    drop_unsettable(new);
    if tree::text(new, "metadata.uid").is_empty() {
        tree::carry(new, old, "metadata.uid");
    }
    if tree::text(new, "metadata.creationTimestamp").is_empty() {
        tree::carry(new, old, "metadata.creationTimestamp");
    }
    if tree::get(old, "metadata.deletionTimestamp").is_some() {
        tree::carry(new, old, "metadata.deletionTimestamp");
    }
    if tree::get(new, "metadata.deletionGracePeriodSeconds").is_none() {
        tree::carry(new, old, "metadata.deletionGracePeriodSeconds");
    }
    tree::carry(new, old, "metadata.generation");
}

/// What is wrong with the metadata of an object.
pub(crate) fn check(res: &Resource, strategy: Strategy, obj: &Value, findings: &mut Findings) {
    let path = FieldPath::new("metadata");
    let prefix = tree::text(obj, "metadata.generateName");
    if !prefix.is_empty() {
        findings.each(
            &path.child("generateName"),
            prefix,
            strategy.name.complaints(prefix, true),
        );
    }
    let name = tree::text(obj, "metadata.name");
    if name.is_empty() {
        findings.required(&path.child("name"), "name or generateName is required");
    } else {
        findings.each(
            &path.child("name"),
            name,
            strategy.name.complaints(name, false),
        );
    }
    let namespace = tree::text(obj, "metadata.namespace");
    if res.namespaced {
        if namespace.is_empty() {
            findings.required(&path.child("namespace"), "");
        } else {
            findings.each(
                &path.child("namespace"),
                namespace,
                meta::names::dns1123_label(namespace),
            );
        }
    }
    if let Some(generation) =
        tree::int(obj, "metadata.generation").filter(|generation| *generation < 0)
    {
        findings.invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        );
    }
    check_collections(obj, findings);
}

fn check_collections(obj: &Value, findings: &mut Findings) {
    let path = FieldPath::new("metadata");
    findings.labels(&path.child("labels"), tree::get(obj, "metadata.labels"));
    if let Some(annotations) = tree::map(obj, "metadata.annotations") {
        check_annotations(annotations, &path.child("annotations"), findings);
    }
    check_owners(
        tree::items(obj, "metadata.ownerReferences"),
        &path.child("ownerReferences"),
        findings,
    );
    check_finalizers(
        tree::items(obj, "metadata.finalizers"),
        &path.child("finalizers"),
        findings,
    );
}

/// What is wrong with annotations.
pub(crate) fn check_annotations(annotations: &Map, path: &FieldPath, findings: &mut Findings) {
    let mut bytes = 0;
    for (key, value) in annotations {
        // Keys are compared in lower case: upstream lets annotations be spelled with capitals.
        findings.each(path, key, meta::names::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        findings.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn check_owners(owners: &[Value], path: &FieldPath, findings: &mut Findings) {
    let mut controller = None;
    for (index, owner) in owners.iter().enumerate() {
        let at = path.index(index);
        let api_version = tree::text(owner, "apiVersion");
        let kind = tree::text(owner, "kind");
        if api_version.is_empty()
            || api_version.ends_with('/')
            || api_version.matches('/').count() > 1
        {
            findings.invalid(
                &at.child("apiVersion"),
                api_version,
                "version must not be empty",
            );
        }
        if kind.is_empty() {
            findings.invalid(&at.child("kind"), kind, "must not be empty");
        }
        if tree::text(owner, "name").is_empty() {
            findings.invalid(&at.child("name"), "", "must not be empty");
        }
        if tree::text(owner, "uid").is_empty() {
            findings.invalid(&at.child("uid"), "", "must not be empty");
        }
        if matches!(api_version, "v1" | "events.k8s.io/v1") && kind == "Event" {
            findings.invalid(
                &at,
                owner.clone(),
                format!("{api_version}, Kind=Event is disallowed from being an owner"),
            );
        }
        if tree::flag(owner, "controller") {
            let this = tree::text(owner, "kind");
            match controller {
                None => controller = Some((this, tree::text(owner, "name"))),
                Some((other_kind, other_name)) => findings.invalid(
                    path,
                    Value::Array(owners.to_vec()),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {other_kind}/{other_name} and {this}/{}",
                        tree::text(owner, "name")
                    ),
                ),
            }
        }
    }
}

fn check_finalizers(finalizers: &[Value], path: &FieldPath, findings: &mut Findings) {
    let mut orphan = false;
    let mut foreground = false;
    for (index, finalizer) in finalizers.iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or("");
        orphan |= finalizer == ORPHAN_FINALIZER;
        foreground |= finalizer == FOREGROUND_FINALIZER;
        findings.each(
            &path.index(index),
            finalizer,
            meta::names::qualified_name(finalizer),
        );
    }
    if orphan && foreground {
        findings.invalid(
            path,
            Value::Array(finalizers.to_vec()),
            format!("finalizer {ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} cannot be both set"),
        );
    }
}

/// What an update may not do to metadata.
pub(crate) fn check_update(new: &Value, old: &Value, findings: &mut Findings) {
    let path = FieldPath::new("metadata");
    if tree::get(old, "metadata.deletionTimestamp").is_some() {
        check_no_new_finalizers(new, old, &path.child("finalizers"), findings);
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        findings.immutable(&path.child(field), new, old, &format!("metadata.{field}"));
    }
    check_collections(new, findings);
}

fn check_no_new_finalizers(new: &Value, old: &Value, path: &FieldPath, findings: &mut Findings) {
    let before = tree::items(old, "metadata.finalizers");
    let added: Vec<&str> = tree::items(new, "metadata.finalizers")
        .iter()
        .filter(|finalizer| !before.contains(finalizer))
        .filter_map(Value::as_str)
        .collect();
    if !added.is_empty() {
        let quoted: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
        findings.forbidden(
            path,
            format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                quoted.join(", ")
            ),
        );
    }
}

/// The 409 for a UID that names another incarnation of the object.
pub(crate) fn uid_conflict(res: &Resource, old: &Value, uid: &str) -> ApiError {
    let namespace = tree::text(old, "metadata.namespace");
    let name = tree::text(old, "metadata.name");
    let place = if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    };
    ApiError::conflict(
        &group_resource(res),
        name,
        &format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{}/{place}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            res.resource,
            tree::text(old, "metadata.uid")
        ),
    )
}
