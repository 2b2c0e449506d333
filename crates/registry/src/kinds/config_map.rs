//! ConfigMaps.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// Data of one ConfigMap or Secret, names and values together.
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;

pub(super) const ROOM: Room = Room {
    check,
    check_update: |new, old, _, findings| {
        if tree::flag(old, "immutable") {
            check_frozen(new, old, &["data", "binaryData"], findings);
        }
    },
    ..PLAIN
};

fn check(map: &Value, findings: &mut Findings) {
    let mut bytes = 0;
    let data = tree::map(map, "data");
    for (key, value) in data.into_iter().flatten() {
        findings.each(
            &FieldPath::new("data").key(key.as_str()),
            key,
            meta::names::config_map_key(key),
        );
        if tree::map(map, "binaryData").is_some_and(|binary| binary.contains_key(key)) {
            findings.invalid(
                &FieldPath::new("data").key(key.as_str()),
                key.as_str(),
                "duplicate of key present in binaryData",
            );
        }
        bytes += value.as_str().map_or(0, str::len);
    }
    for (key, value) in tree::map(map, "binaryData").into_iter().flatten() {
        findings.each(
            &FieldPath::new("binaryData").key(key.as_str()),
            key,
            meta::names::config_map_key(key),
        );
        bytes += base64_bytes(value.as_str().unwrap_or(""));
    }
    if bytes > DATA_BYTES_MAX {
        findings.too_long(&FieldPath::new(""), DATA_BYTES_MAX);
    }
}

/// How many bytes a base64 text stands for.
pub(super) fn base64_bytes(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// Nothing of an object marked immutable changes, the mark least of all.
pub(super) fn check_frozen(new: &Value, old: &Value, fields: &[&str], findings: &mut Findings) {
    if !tree::flag(new, "immutable") {
        findings.forbidden(
            &FieldPath::new("immutable"),
            "field is immutable when `immutable` is set",
        );
    }
    for field in fields {
        if !tree::same_at(new, old, field) {
            findings.forbidden(
                &FieldPath::new(*field),
                "field is immutable when `immutable` is set",
            );
        }
    }
}
