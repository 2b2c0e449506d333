//! Validation of volumes.

use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};
use std::collections::BTreeSet;

const MODE_TEXT: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// What is wrong with the volumes of a pod; returns the names that containers may mount.
pub(crate) fn check<'a>(
    volumes: &'a [Value],
    path: &FieldPath,
    findings: &mut Findings,
) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = path.index(index);
        let name = tree::text(volume, "name");
        check_source(volume, &at, findings);
        if name.is_empty() {
            findings.required(&at.child("name"), "");
        } else {
            findings.each(&at.child("name"), name, meta::names::dns1123_label(name));
        }
        if names.contains(name) {
            findings.duplicate(&at.child("name"), name);
        }
        // A faulty volume is still named, so that its mounts are not reported as well.
        if !name.is_empty() {
            names.insert(name);
        }
    }
    names
}

fn check_source(volume: &Value, path: &FieldPath, findings: &mut Findings) {
    let Some(map) = volume.as_object() else {
        return;
    };
    let mut count = 0;
    for (kind, source) in map
        .iter()
        .filter(|(key, value)| key.as_str() != "name" && !value.is_null())
    {
        count += 1;
        let at = path.child(kind.as_str());
        if count > 1 {
            findings.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        match kind.as_str() {
            "secret" => {
                require(source, "secretName", &at, findings);
                check_mode(source, "defaultMode", &at, findings);
                check_items(source, &at, findings);
            }
            "configMap" => {
                require(source, "name", &at, findings);
                check_mode(source, "defaultMode", &at, findings);
                check_items(source, &at, findings);
            }
            "downwardAPI" => check_mode(source, "defaultMode", &at, findings),
            "hostPath" => {
                require(source, "path", &at, findings);
                no_steps_back(tree::text(source, "path"), &at.child("path"), findings);
                findings.one_of(
                    &at.child("type"),
                    tree::text(source, "type"),
                    &[
                        "",
                        "BlockDevice",
                        "CharDevice",
                        "Directory",
                        "DirectoryOrCreate",
                        "File",
                        "FileOrCreate",
                        "Socket",
                    ],
                    false,
                );
            }
            "persistentVolumeClaim" => require(source, "claimName", &at, findings),
            "emptyDir" => {
                if let Some(limit) = tree::get(source, "sizeLimit") {
                    super::resources::check_quantity(
                        "memory",
                        limit,
                        &at.child("sizeLimit"),
                        findings,
                    );
                }
            }
            "nfs" => {
                require(source, "server", &at, findings);
                require(source, "path", &at, findings);
            }
            "csi" => require(source, "driver", &at, findings),
            "ephemeral" if tree::get(source, "volumeClaimTemplate").is_none() => {
                findings.required(&at.child("volumeClaimTemplate"), "");
            }
            "projected" => check_projected(source, &at, findings),
            _ => {}
        }
    }
    if count == 0 {
        findings.required(path, "must specify a volume type");
    }
}

fn require(source: &Value, field: &str, path: &FieldPath, findings: &mut Findings) {
    if tree::text(source, field).is_empty() {
        findings.required(&path.child(field), "");
    }
}

fn check_mode(source: &Value, field: &str, path: &FieldPath, findings: &mut Findings) {
    if let Some(mode) = tree::int(source, field).filter(|mode| !(0..=0o777).contains(mode)) {
        findings.invalid(&path.child(field), mode, MODE_TEXT);
    }
}

fn check_items(source: &Value, path: &FieldPath, findings: &mut Findings) {
    for (index, item) in tree::items(source, "items").iter().enumerate() {
        let at = path.child("items").index(index);
        require(item, "key", &at, findings);
        require(item, "path", &at, findings);
        relative(tree::text(item, "path"), &at.child("path"), findings);
        check_mode(item, "mode", &at, findings);
    }
}

fn check_projected(source: &Value, path: &FieldPath, findings: &mut Findings) {
    check_mode(source, "defaultMode", path, findings);
    for (index, projection) in tree::items(source, "sources").iter().enumerate() {
        let at = path.child("sources").index(index);
        let kinds: Vec<&str> = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ]
        .into_iter()
        .filter(|kind| tree::get(projection, kind).is_some())
        .collect();
        if kinds.is_empty() {
            findings.required(&at, "must specify a source type");
        }
        for kind in kinds.iter().skip(1) {
            findings.forbidden(&at.child(*kind), "may not specify more than 1 volume type");
        }
        for kind in ["secret", "configMap"] {
            if let Some(source) = tree::get(projection, kind) {
                require(source, "name", &at.child(kind), findings);
                check_items(source, &at.child(kind), findings);
            }
        }
        if let Some(token) = tree::get(projection, "serviceAccountToken") {
            let at = at.child("serviceAccountToken");
            let seconds = tree::int(token, "expirationSeconds").unwrap_or(0);
            if seconds < 10 * 60 {
                findings.invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            require(token, "path", &at, findings);
        }
    }
}

/// A path inside a volume.
pub(crate) fn relative(text: &str, path: &FieldPath, findings: &mut Findings) {
    if text.starts_with('/') {
        findings.invalid(path, text, "must be a relative path");
    }
    no_steps_back(text, path, findings);
}

fn no_steps_back(text: &str, path: &FieldPath, findings: &mut Findings) {
    if text.split('/').any(|step| step == "..") {
        findings.invalid(path, text, "must not contain '..'");
    }
}
