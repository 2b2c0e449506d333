//! Validation of containers: names, images, ports, environment, mounts.

use super::probes::{self, ProbeKind};
use super::{resources, volumes};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};
use std::collections::BTreeSet;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

/// What is wrong with the containers of a pod spec.
pub(crate) fn check(
    spec: &Value,
    volumes: &BTreeSet<&str>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let containers = tree::items(spec, "containers");
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    if containers.is_empty() {
        findings.required(&path.child("containers"), "");
    }
    for (index, container) in containers.iter().enumerate() {
        let at = path.child("containers").index(index);
        check_container(spec, container, volumes, &at, findings);
        check_unique(container, &mut names, &at, findings);
        check_all_probes(container, &at, findings);
        check_host_ports(container, &mut host_ports, &at, findings);
    }
    for (index, container) in tree::items(spec, "initContainers").iter().enumerate() {
        let at = path.child("initContainers").index(index);
        check_container(spec, container, volumes, &at, findings);
        check_unique(container, &mut names, &at, findings);
        if tree::text(container, "restartPolicy") == "Always" {
            check_all_probes(container, &at, findings);
        } else {
            for field in [
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
            ] {
                if tree::get(container, field).is_some() {
                    findings.forbidden(
                        &at.child(field),
                        "may not be set for init containers without restartPolicy=Always",
                    );
                }
            }
        }
        // Init containers run one after another: each set of host ports only needs to be free of clashes in itself.
        check_host_ports(container, &mut BTreeSet::new(), &at, findings);
    }
    for (index, container) in tree::items(spec, "ephemeralContainers").iter().enumerate() {
        let at = path.child("ephemeralContainers").index(index);
        check_container(spec, container, volumes, &at, findings);
        check_unique(container, &mut names, &at, findings);
        let target = tree::text(container, "targetContainerName");
        if !target.is_empty()
            && !containers
                .iter()
                .any(|other| tree::text(other, "name") == target)
        {
            findings.not_found(&at.child("targetContainerName"), target);
        }
    }
}

fn check_unique<'a>(
    container: &'a Value,
    names: &mut BTreeSet<&'a str>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let name = tree::text(container, "name");
    if !name.is_empty() && !names.insert(name) {
        findings.duplicate(&path.child("name"), name);
    }
}

fn check_container(
    spec: &Value,
    container: &Value,
    volumes: &BTreeSet<&str>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let name = tree::text(container, "name");
    if name.is_empty() {
        findings.required(&path.child("name"), "");
    } else {
        findings.each(&path.child("name"), name, meta::names::dns1123_label(name));
    }
    let image = tree::text(container, "image");
    if image.is_empty() {
        findings.required(&path.child("image"), "");
    } else if image.trim() != image {
        findings.invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
    findings.one_of(
        &path.child("terminationMessagePolicy"),
        tree::text(container, "terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
        true,
    );
    check_ports(spec, container, path, findings);
    check_env(tree::items(container, "env"), &path.child("env"), findings);
    check_env_from(
        tree::items(container, "envFrom"),
        &path.child("envFrom"),
        findings,
    );
    check_mounts(container, volumes, path, findings);
    findings.one_of(
        &path.child("imagePullPolicy"),
        tree::text(container, "imagePullPolicy"),
        &PULL_POLICIES,
        true,
    );
    if let Some(requirements) = tree::get(container, "resources") {
        resources::check(requirements, &path.child("resources"), findings);
    }
    if let Some(context) = tree::get(container, "securityContext") {
        check_security(context, &path.child("securityContext"), findings);
    }
}

fn check_all_probes(container: &Value, path: &FieldPath, findings: &mut Findings) {
    if let Some(lifecycle) = tree::get(container, "lifecycle") {
        probes::check_lifecycle(lifecycle, &path.child("lifecycle"), findings);
    }
    for (field, kind) in [
        ("livenessProbe", ProbeKind::Liveness),
        ("readinessProbe", ProbeKind::Readiness),
        ("startupProbe", ProbeKind::Startup),
    ] {
        if let Some(probe) = tree::get(container, field) {
            probes::check_probe(probe, kind, &path.child(field), findings);
        }
    }
}

fn check_ports(spec: &Value, container: &Value, path: &FieldPath, findings: &mut Findings) {
    let mut names = BTreeSet::new();
    for (index, port) in tree::items(container, "ports").iter().enumerate() {
        let at = path.child("ports").index(index);
        let name = tree::text(port, "name");
        if !name.is_empty() {
            let faults = meta::names::port_name(name);
            if !faults.is_empty() {
                findings.each(&at.child("name"), name, faults);
            } else if !names.insert(name) {
                findings.duplicate(&at.child("name"), name);
            }
        }
        let number = tree::int(port, "containerPort").unwrap_or(0);
        if number == 0 {
            findings.required(&at.child("containerPort"), "");
        } else {
            findings.port(&at.child("containerPort"), number);
        }
        let host_port = tree::int(port, "hostPort").unwrap_or(0);
        if host_port != 0 {
            findings.port(&at.child("hostPort"), host_port);
        }
        if tree::flag(spec, "hostNetwork") && host_port != number {
            findings.invalid(
                &at.child("containerPort"),
                number,
                "must match `hostPort` when `hostNetwork` is true",
            );
        }
        findings.one_of(
            &at.child("protocol"),
            tree::text(port, "protocol"),
            &["SCTP", "TCP", "UDP"],
            true,
        );
    }
}

fn check_host_ports(
    container: &Value,
    taken: &mut BTreeSet<String>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    for (index, port) in tree::items(container, "ports").iter().enumerate() {
        let number = tree::int(port, "hostPort").unwrap_or(0);
        if number == 0 {
            continue;
        }
        let place = format!(
            "{}/{}/{number}",
            tree::text(port, "protocol"),
            tree::text(port, "hostIP")
        );
        if !taken.insert(place.clone()) {
            findings.duplicate(&path.child("ports").index(index).child("hostPort"), place);
        }
    }
}

/// What is wrong with environment variables.
fn check_env(vars: &[Value], path: &FieldPath, findings: &mut Findings) {
    const SOURCES: [&str; 5] = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    for (index, var) in vars.iter().enumerate() {
        let at = path.index(index);
        let name = tree::text(var, "name");
        if name.is_empty() {
            findings.required(&at.child("name"), "");
        } else {
            findings.each(
                &at.child("name"),
                name,
                meta::names::relaxed_env_var_name(name),
            );
        }
        let Some(from) = tree::get(var, "valueFrom") else {
            continue;
        };
        let at = at.child("valueFrom");
        let sources = SOURCES
            .iter()
            .filter(|source| tree::get(from, source).is_some())
            .count();
        if sources == 0 {
            findings.invalid(
                &at,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            );
        } else if !tree::text(var, "value").is_empty() {
            findings.invalid(&at, "", "may not be specified when `value` is not empty");
        } else if sources > 1 {
            findings.invalid(
                &at,
                "",
                "may not have more than one field specified at a time",
            );
        }
        check_env_source(from, &at, findings);
    }
}

fn check_env_source(from: &Value, path: &FieldPath, findings: &mut Findings) {
    for source in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = tree::get(from, source) else {
            continue;
        };
        let at = path.child(source);
        if tree::text(reference, "name").is_empty() {
            findings.required(&at.child("name"), "");
        }
        let key = tree::text(reference, "key");
        if key.is_empty() {
            findings.required(&at.child("key"), "");
        } else {
            findings.each(&at.child("key"), key, meta::names::config_map_key(key));
        }
    }
    if let Some(reference) = tree::get(from, "fieldRef")
        && tree::text(reference, "fieldPath").is_empty()
    {
        findings.required(&path.child("fieldRef").child("fieldPath"), "");
    }
    if let Some(reference) = tree::get(from, "resourceFieldRef")
        && tree::text(reference, "resource").is_empty()
    {
        findings.required(&path.child("resourceFieldRef").child("resource"), "");
    }
}

fn check_env_from(sources: &[Value], path: &FieldPath, findings: &mut Findings) {
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let prefix = tree::text(source, "prefix");
        if !prefix.is_empty() {
            findings.each(
                &at.child("prefix"),
                prefix,
                meta::names::relaxed_env_var_name(prefix),
            );
        }
        let references: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|kind| tree::get(source, kind).is_some())
            .collect();
        match references.as_slice() {
            [] => findings.invalid(
                &at,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            [kind] => {
                if tree::text(source, &format!("{kind}.name")).is_empty() {
                    findings.required(&at.child(*kind).child("name"), "");
                }
            }
            _ => findings.invalid(
                &at,
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

fn check_mounts(
    container: &Value,
    volumes: &BTreeSet<&str>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let mut places = BTreeSet::new();
    for (index, mount) in tree::items(container, "volumeMounts").iter().enumerate() {
        let at = path.child("volumeMounts").index(index);
        let name = tree::text(mount, "name");
        if name.is_empty() {
            findings.required(&at.child("name"), "");
        }
        if !volumes.contains(name) {
            findings.not_found(&at.child("name"), name);
        }
        let place = tree::text(mount, "mountPath");
        if place.is_empty() {
            findings.required(&at.child("mountPath"), "");
        }
        if !places.insert(place) {
            findings.invalid(&at.child("mountPath"), place, "must be unique");
        }
        let (sub_path, sub_path_expr) = (
            tree::text(mount, "subPath"),
            tree::text(mount, "subPathExpr"),
        );
        volumes::relative(sub_path, &at.child("subPath"), findings);
        if !sub_path_expr.is_empty() {
            if !sub_path.is_empty() {
                findings.invalid(
                    &at.child("subPathExpr"),
                    sub_path_expr,
                    "subPathExpr and subPath are mutually exclusive",
                );
            }
            volumes::relative(sub_path_expr, &at.child("subPathExpr"), findings);
        }
        findings.one_of(
            &at.child("mountPropagation"),
            tree::text(mount, "mountPropagation"),
            &["Bidirectional", "HostToContainer", "None"],
            false,
        );
    }
    for (index, device) in tree::items(container, "volumeDevices").iter().enumerate() {
        let at = path.child("volumeDevices").index(index);
        let name = tree::text(device, "name");
        if name.is_empty() {
            findings.required(&at.child("name"), "");
        }
        if !volumes.contains(name) {
            findings.not_found(&at.child("name"), name);
        }
        let place = tree::text(device, "devicePath");
        if place.is_empty() {
            findings.required(&at.child("devicePath"), "");
        }
        if !places.insert(place) {
            findings.invalid(&at.child("devicePath"), place, "must be unique");
        }
    }
}

fn check_security(context: &Value, path: &FieldPath, findings: &mut Findings) {
    for field in ["runAsUser", "runAsGroup"] {
        if let Some(id) =
            tree::int(context, field).filter(|id| !(0..=i64::from(i32::MAX)).contains(id))
        {
            findings.invalid(
                &path.child(field),
                id,
                "must be between 0 and 2147483647, inclusive",
            );
        }
    }
    if tree::get(context, "allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false) {
        if tree::flag(context, "privileged") {
            findings.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if tree::items(context, "capabilities.add")
            .iter()
            .any(|name| name.as_str() == Some("CAP_SYS_ADMIN"))
        {
            findings.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
}
