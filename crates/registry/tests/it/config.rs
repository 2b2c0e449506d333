//! ConfigMaps and Secrets.

use crate::help::*;
use value::json;

#[test]
fn config_map_keys_and_sizes() {
    let res = resource("v1", "configmaps");
    assert!(faults(res, json!({"metadata": {"name": "a"}, "data": {"a b": "x"}})).starts_with(
        "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    ));
    assert_eq!(
        faults(
            res,
            json!({"metadata": {"name": "a"}, "data": {"k": "x"}, "binaryData": {"k": "eA=="}})
        ),
        "data[k]: Invalid value: \"k\": duplicate of key present in binaryData"
    );
    let big = "x".repeat(1024 * 1024 + 1);
    assert!(
        faults(res, json!({"metadata": {"name": "a"}, "data": {"k": big}}))
            .contains("Too long: may not be more than 1048576 bytes")
    );
}

#[test]
fn immutable_means_it() {
    let res = resource("v1", "configmaps");
    let old = stored(
        res,
        json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": true}),
    );
    assert_eq!(
        refused(
            res,
            &old,
            with(without(old.clone(), "immutable"), "data.k", json!("w"))
        ),
        "ConfigMap \"a\" is invalid: [immutable: Forbidden: field is immutable when `immutable` is set, \
         data: Forbidden: field is immutable when `immutable` is set]"
    );
    updated(
        res,
        &old,
        with(old.clone(), "metadata.labels", json!({"a": "b"})),
    );
}

#[test]
fn secrets_take_plain_text_and_have_a_type() {
    let res = resource("v1", "secrets");
    let secret = stored(
        res,
        json!({"metadata": {"name": "a"}, "data": {"k": "b2xk"}, "stringData": {"k": "new", "l": "x"}}),
    );
    assert_eq!(secret["type"], json!("Opaque"));
    assert_eq!(secret["data"], json!({"k": "bmV3", "l": "eA=="}));
    assert_eq!(secret.get("stringData"), None);
    assert_eq!(
        refused(res, &secret, with(secret.clone(), "type", json!("other"))),
        "Secret \"a\" is invalid: type: Invalid value: \"other\": field is immutable"
    );
}

#[test]
fn typed_secrets_need_their_keys() {
    let res = resource("v1", "secrets");
    for (kind, text) in [
        (
            "kubernetes.io/tls",
            "[data[tls.crt]: Required value, data[tls.key]: Required value]",
        ),
        (
            "kubernetes.io/basic-auth",
            "[data[username]: Required value, data[password]: Required value]",
        ),
        (
            "kubernetes.io/ssh-auth",
            "data[ssh-privatekey]: Required value",
        ),
        (
            "kubernetes.io/dockerconfigjson",
            "data[.dockerconfigjson]: Required value",
        ),
        (
            "kubernetes.io/service-account-token",
            "metadata.annotations[kubernetes.io/service-account.name]: Required value",
        ),
    ] {
        assert_eq!(
            faults(res, json!({"metadata": {"name": "a"}, "type": kind})),
            text
        );
    }
    let broken = json!({"metadata": {"name": "a"}, "type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "{"}});
    assert!(
        faults(res, broken)
            .starts_with("data[.dockercfg]: Invalid value: \"<secret contents redacted>\": ")
    );
}
