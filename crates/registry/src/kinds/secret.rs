//! Secrets.

use super::config_map::{DATA_BYTES_MAX, base64_bytes, check_frozen};
use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room {
    defaults,
    prepare_update: |new, old, _, _| {
        if tree::text(new, "type").is_empty() {
            tree::carry(new, old, "type");
        }
    },
    check,
    check_update: |new, old, _, findings| {
        findings.immutable(&FieldPath::new("type"), new, old, "type");
        if tree::flag(old, "immutable") {
            check_frozen(new, old, &["data"], findings);
        }
    },
    ..PLAIN
};

fn defaults(secret: &mut Value) {
    tree::fill(secret, "type", "Opaque");
    // stringData is write-only: it lands in data, over what is there.
    let Some(Value::Object(texts)) = tree::remove(secret, "stringData") else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    if let Some(data) = tree::ensure(secret, "data") {
        for (key, text) in texts {
            if let Value::String(text) = text {
                data.insert(key, Value::String(STANDARD.encode(text)));
            }
        }
    }
}

fn check(secret: &Value, findings: &mut Findings) {
    let path = FieldPath::new("data");
    let mut bytes = 0;
    for (key, value) in tree::map(secret, "data").into_iter().flatten() {
        findings.each(
            &path.key(key.as_str()),
            key,
            meta::names::config_map_key(key),
        );
        bytes += base64_bytes(value.as_str().unwrap_or(""));
    }
    if bytes > DATA_BYTES_MAX {
        findings.too_long(&path, DATA_BYTES_MAX);
    }
    let has = |key: &str| tree::map(secret, "data").is_some_and(|data| data.contains_key(key));
    match tree::text(secret, "type") {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            let named = tree::map(secret, "metadata.annotations")
                .and_then(|annotations| annotations.get(name))
                .and_then(Value::as_str)
                .is_some_and(|account| !account.is_empty());
            if !named {
                findings.required(
                    &FieldPath::new("metadata").child("annotations").key(name),
                    "",
                );
            }
        }
        "kubernetes.io/dockercfg" => check_json(secret, ".dockercfg", findings),
        "kubernetes.io/dockerconfigjson" => check_json(secret, ".dockerconfigjson", findings),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            findings.required(&path.key("username"), "");
            findings.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" => {
            let empty = tree::map(secret, "data")
                .and_then(|data| data.get("ssh-privatekey"))
                .and_then(Value::as_str)
                .is_none_or(str::is_empty);
            if empty {
                findings.required(&path.key("ssh-privatekey"), "");
            }
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !has(key) {
                    findings.required(&path.key(key), "");
                }
            }
        }
        _ => {}
    }
}

fn check_json(secret: &Value, key: &str, findings: &mut Findings) {
    let path = FieldPath::new("data").key(key);
    let Some(value) = tree::map(secret, "data").and_then(|data| data.get(key)) else {
        findings.required(&path, "");
        return;
    };
    let parsed = STANDARD
        .decode(value.as_str().unwrap_or(""))
        .ok()
        .map(|bytes| serde_json::from_slice::<Value>(&bytes));
    if let Some(Err(reason)) = parsed {
        findings.invalid(&path, "<secret contents redacted>", reason.to_string());
    }
}
