//! CustomResourceDefinitions and APIServices: definitions of more API.

use super::{PLAIN, Room};
use crate::context::Context;
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// Where webhooks and aggregated servers listen unless they say otherwise.
const HTTPS_PORT: i64 = 443;

pub(super) const ROOM: Room = Room {
    defaults,
    prepare_create,
    check,
    check_update,
    ..PLAIN
};

pub(super) const SERVICES: Room = Room {
    defaults: |service| {
        if tree::map(service, "spec.service").is_some() {
            tree::fill(service, "spec.service.port", HTTPS_PORT);
        }
    },
    check: |service, findings| {
        let wanted = format!(
            "{}.{}",
            tree::text(service, "spec.version"),
            tree::text(service, "spec.group")
        );
        let name = tree::text(service, "metadata.name");
        if name != wanted {
            findings.invalid(
                &FieldPath::new("metadata").child("name"),
                name,
                format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"),
            );
        }
    },
    ..PLAIN
};

fn defaults(definition: &mut Value) {
    tree::ensure(definition, "spec");
    tree::fill(definition, "spec.conversion.strategy", "None");
    if tree::map(definition, "spec.conversion.webhook.clientConfig.service").is_some() {
        tree::fill(
            definition,
            "spec.conversion.webhook.clientConfig.service.port",
            HTTPS_PORT,
        );
    }
    let kind = tree::text(definition, "spec.names.kind").to_owned();
    if !kind.is_empty() {
        tree::fill(definition, "spec.names.singular", kind.to_lowercase());
        tree::fill(definition, "spec.names.listKind", format!("{kind}List"));
    }
}

fn prepare_create(definition: &mut Value, _: &mut Context) {
    let stored: Vec<Value> = tree::items(definition, "spec.versions")
        .iter()
        .filter(|version| tree::flag(version, "storage"))
        .filter_map(|version| tree::get(version, "name").cloned())
        .collect();
    tree::put(definition, "status.storedVersions", stored);
}

fn check(definition: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let wanted = format!(
        "{}.{}",
        tree::text(definition, "spec.names.plural"),
        tree::text(definition, "spec.group")
    );
    let name = tree::text(definition, "metadata.name");
    if name != wanted {
        findings.invalid(
            &FieldPath::new("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    let group = tree::text(definition, "spec.group");
    if group.is_empty() {
        findings.required(&spec.child("group"), "");
    } else {
        findings.each(
            &spec.child("group"),
            group,
            meta::names::dns1123_subdomain(group),
        );
        if !group.contains('.') {
            findings.invalid(
                &spec.child("group"),
                group,
                "should be a domain with at least one dot",
            );
        }
    }
    findings.one_of(
        &spec.child("scope"),
        tree::text(definition, "spec.scope"),
        &["Cluster", "Namespaced"],
        true,
    );
    for field in ["plural", "kind"] {
        let text = tree::text(definition, &format!("spec.names.{field}"));
        if text.is_empty() {
            findings.required(&spec.child("names").child(field), "");
        }
    }
    check_versions(definition, &spec.child("versions"), findings);
}

fn check_versions(definition: &Value, path: &FieldPath, findings: &mut Findings) {
    let versions = tree::items(definition, "spec.versions");
    let mut names = Vec::new();
    let mut storage = 0;
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        let name = tree::text(version, "name");
        findings.each(&at.child("name"), name, meta::names::dns1035_label(name));
        if names.contains(&name) {
            findings.invalid(
                path,
                Value::Array(versions.to_vec()),
                "must contain unique version names",
            );
        }
        names.push(name);
        storage += usize::from(tree::flag(version, "storage"));
        if tree::get(version, "schema.openAPIV3Schema").is_none() {
            findings.required(
                &at.child("schema").child("openAPIV3Schema"),
                "schemas are required",
            );
        }
    }
    if storage != 1 {
        findings.invalid(
            path,
            Value::Array(versions.to_vec()),
            "must have exactly one version marked as storage version",
        );
    }
}

fn check_update(new: &Value, old: &Value, _: Option<&str>, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    findings.immutable(&spec.child("group"), new, old, "spec.group");
    findings.immutable(&spec.child("scope"), new, old, "spec.scope");
    findings.immutable(
        &spec.child("names").child("kind"),
        new,
        old,
        "spec.names.kind",
    );
    findings.immutable(
        &spec.child("names").child("plural"),
        new,
        old,
        "spec.names.plural",
    );
}
