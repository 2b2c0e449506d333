//! What every active namespace has: the `default` ServiceAccount and the cluster's CA certificate.
//!
//! Knows names and a certificate. Does not know tokens: those are requested by kubelets.

use crate::action::{Action, CONFIG_MAPS, SERVICE_ACCOUNTS};
use meta::{Value, object};
use std::sync::Arc;
use value::json;

/// The ConfigMap that carries the cluster's CA certificate.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";

/// What the shell has seen in a namespace.
pub struct Observed<'a> {
    /// Whether the ServiceAccount `default` exists.
    pub has_default_account: bool,
    /// The ConfigMap [`ROOT_CA_CONFIG_MAP`], if it exists.
    pub root_ca: Option<&'a Value>,
}

/// What to do now for a namespace. `ca_certificate_pem` None: the cluster has no CA to publish.
pub fn plan(
    namespace: &Value,
    observed: &Observed<'_>,
    ca_certificate_pem: Option<&str>,
) -> Vec<Action> {
    let name = object::name(namespace);
    let active = !object::is_deleting(namespace)
        && object::str_at(namespace, &["status", "phase"]) != Some("Terminating");
    let mut actions = Vec::new();
    if !active {
        return actions;
    }
    let create = |resource, object: Value| Action::Create {
        resource,
        namespace: name.to_owned(),
        object: Arc::new(object),
        announce: None,
    };
    if !observed.has_default_account {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
        actions.push(create(SERVICE_ACCOUNTS, account));
    }
    let Some(pem) = ca_certificate_pem else {
        return actions;
    };
    let data = json!({"ca.crt": pem});
    let Some(root_ca) = observed.root_ca else {
        let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
        let metadata = json!({"name": ROOT_CA_CONFIG_MAP, "namespace": name, "annotations": {"kubernetes.io/description": description}});
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
        actions.push(create(CONFIG_MAPS, map));
        return actions;
    };
    if root_ca.get("data") != Some(&data) {
        let mut corrected = root_ca.clone();
        object::set_at(&mut corrected, &["data"], data);
        actions.push(Action::update(CONFIG_MAPS, corrected));
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    const EMPTY: Observed<'_> = Observed {
        has_default_account: false,
        root_ca: None,
    };

    #[test]
    fn an_active_namespace_gets_account_and_certificate() {
        let namespace = json!({"metadata": {"name": "team"}, "status": {"phase": "Active"}});
        let plan_text = text(&plan(&namespace, &EMPTY, Some("PEM")));
        let account = r#"create serviceaccounts team/default {"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default","namespace":"team"}}"#;
        assert!(plan_text.starts_with(account), "{plan_text}");
        assert!(plan_text.contains(
            r#"create configmaps team/kube-root-ca.crt {"apiVersion":"v1","data":{"ca.crt":"PEM"}"#
        ));
    }

    #[test]
    fn a_changed_certificate_is_corrected_and_a_right_one_left_alone() {
        let namespace = json!({"metadata": {"name": "team"}});
        let map = |pem: &str| json!({"metadata": {"name": "kube-root-ca.crt", "namespace": "team"}, "data": {"ca.crt": pem}});
        let stale = map("OLD");
        let observed = Observed {
            has_default_account: true,
            root_ca: Some(&stale),
        };
        let expected = r#"update configmaps team/kube-root-ca.crt {"data":{"ca.crt":"NEW"},"metadata":{"name":"kube-root-ca.crt","namespace":"team"}}"#;
        assert_eq!(
            text(&plan(&namespace, &observed, Some("NEW"))),
            format!("{expected}\n")
        );
        let right = map("NEW");
        let observed = Observed {
            has_default_account: true,
            root_ca: Some(&right),
        };
        assert!(plan(&namespace, &observed, Some("NEW")).is_empty());
    }

    #[test]
    fn a_terminating_namespace_gets_nothing() {
        let namespace =
            json!({"metadata": {"name": "team", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(plan(&namespace, &EMPTY, Some("PEM")).is_empty());
    }
}
