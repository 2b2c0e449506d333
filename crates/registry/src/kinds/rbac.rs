//! Roles and role bindings.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) const ROLES: Room = Room {
    check: |role, findings| check_rules(role, true, findings),
    ..PLAIN
};
pub(super) const CLUSTER_ROLES: Room = Room {
    check: |role, findings| check_rules(role, false, findings),
    ..PLAIN
};
pub(super) const BINDINGS: Room = Room {
    defaults: default_binding,
    check: |binding, findings| check_binding(binding, &["ClusterRole", "Role"], true, findings),
    check_update: check_role_kept,
    ..PLAIN
};
pub(super) const CLUSTER_BINDINGS: Room = Room {
    defaults: default_binding,
    check: |binding, findings| check_binding(binding, &["ClusterRole"], false, findings),
    check_update: check_role_kept,
    ..PLAIN
};

fn default_binding(binding: &mut Value) {
    tree::fill(binding, "roleRef.apiGroup", GROUP);
    for subject in tree::items_mut(binding, "subjects") {
        if matches!(tree::text(subject, "kind"), "User" | "Group") {
            tree::fill(subject, "apiGroup", GROUP);
        }
    }
}

fn check_rules(role: &Value, namespaced: bool, findings: &mut Findings) {
    for (index, rule) in tree::items(role, "rules").iter().enumerate() {
        let at = FieldPath::new("rules").index(index);
        if tree::items(rule, "verbs").is_empty() {
            findings.required(&at.child("verbs"), "verbs must contain at least one value");
        }
        let urls = tree::items(rule, "nonResourceURLs");
        let groups = tree::items(rule, "apiGroups");
        let resources = tree::items(rule, "resources");
        if !urls.is_empty() {
            if namespaced {
                findings.invalid(
                    &at.child("nonResourceURLs"),
                    urls.to_vec(),
                    "namespaced rules cannot apply to non-resource URLs",
                );
            }
            if !groups.is_empty()
                || !resources.is_empty()
                || !tree::items(rule, "resourceNames").is_empty()
            {
                findings.invalid(
                    &at.child("nonResourceURLs"),
                    urls.to_vec(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                );
            }
            continue;
        }
        if groups.is_empty() {
            findings.required(
                &at.child("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if resources.is_empty() {
            findings.required(
                &at.child("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
}

fn check_binding(binding: &Value, kinds: &[&str], namespaced: bool, findings: &mut Findings) {
    let role = FieldPath::new("roleRef");
    let group = tree::text(binding, "roleRef.apiGroup");
    if group != GROUP {
        findings.not_supported(&role.child("apiGroup"), group, &[GROUP]);
    }
    let kind = tree::text(binding, "roleRef.kind");
    if !kinds.contains(&kind) {
        // Upstream lists Role first.
        let listed: Vec<&str> = kinds.iter().rev().copied().collect();
        findings.not_supported(&role.child("kind"), kind, &listed);
    }
    let name = tree::text(binding, "roleRef.name");
    if name.is_empty() {
        findings.required(&role.child("name"), "");
    } else {
        findings.each(
            &role.child("name"),
            name,
            meta::names::path_segment_name(name),
        );
    }
    for (index, subject) in tree::items(binding, "subjects").iter().enumerate() {
        let at = FieldPath::new("subjects").index(index);
        let name = tree::text(subject, "name");
        if name.is_empty() {
            findings.required(&at.child("name"), "");
        }
        let group = tree::text(subject, "apiGroup");
        match tree::text(subject, "kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    findings.each(
                        &at.child("name"),
                        name,
                        meta::names::dns1123_subdomain(name),
                    );
                }
                if !group.is_empty() {
                    findings.not_supported(&at.child("apiGroup"), group, &[""]);
                }
                if !namespaced && tree::text(subject, "namespace").is_empty() {
                    findings.required(&at.child("namespace"), "");
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    findings.not_supported(&at.child("apiGroup"), group, &[GROUP]);
                }
            }
            other => findings.not_supported(
                &at.child("kind"),
                other,
                &["ServiceAccount", "User", "Group"],
            ),
        }
    }
}

fn check_role_kept(new: &Value, old: &Value, _: Option<&str>, findings: &mut Findings) {
    if !tree::same_at(new, old, "roleRef") {
        findings.invalid(
            &FieldPath::new("roleRef"),
            tree::get(new, "roleRef").cloned().unwrap_or(Value::Null),
            "cannot change roleRef",
        );
    }
}
