//! Defaults of a pod spec, in a pod or in a template.
//!
//! It does not know the defaults only pods get (requests from limits, service links): those are with the Pod kind.

use crate::tree::{self, Map};
use meta::Value;

/// How long a pod gets to end by itself, seconds.
const GRACE_SECONDS: i64 = 30;
/// Mode bits of projected files, 0644.
const FILE_MODE: i64 = 0o644;
/// Lifetime of a projected service account token, seconds.
const TOKEN_SECONDS: i64 = 3_600;

/// Lists of containers in a pod spec.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// Fills the defaults of the template at `path`.
pub(crate) fn template(tree: &mut Value, path: &str) {
    if let Some(template) = tree::get_mut(tree, path) {
        spec(template);
    }
}

/// Fills the defaults of `holder.spec`; the holder is a pod or a template.
pub(crate) fn spec(holder: &mut Value) {
    if tree::ensure(holder, "spec").is_none() {
        return;
    }
    tree::fill(holder, "spec.dnsPolicy", "ClusterFirst");
    tree::fill(holder, "spec.restartPolicy", "Always");
    tree::fill(holder, "spec.securityContext", Value::Object(Map::new()));
    tree::fill(holder, "spec.terminationGracePeriodSeconds", GRACE_SECONDS);
    tree::fill(holder, "spec.schedulerName", "default-scheduler");
    same_account_under_both_names(holder);
    for list in CONTAINER_LISTS {
        for container in tree::items_mut(holder, &format!("spec.{list}")) {
            self::container(container);
        }
    }
    for volume in tree::items_mut(holder, "spec.volumes") {
        self::volume(volume);
    }
    if let Some(overhead) = tree::get_mut(holder, "spec.overhead") {
        round_quantities(overhead);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always written alike.
fn same_account_under_both_names(holder: &mut Value) {
    let new_name = tree::text(holder, "spec.serviceAccountName").to_owned();
    let old_name = tree::text(holder, "spec.serviceAccount").to_owned();
    let name = if new_name.is_empty() {
        old_name
    } else {
        new_name
    };
    if !name.is_empty() {
        tree::put(holder, "spec.serviceAccountName", name.as_str());
        tree::put(holder, "spec.serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    if !container.is_object() {
        return;
    }
    let policy = pull_policy(tree::text(container, "image"));
    tree::fill(container, "imagePullPolicy", policy);
    tree::fill(container, "terminationMessagePath", "/dev/termination-log");
    tree::fill(container, "terminationMessagePolicy", "File");
    tree::fill(container, "resources", Value::Object(Map::new()));
    for port in tree::items_mut(container, "ports") {
        tree::fill(port, "protocol", "TCP");
    }
    for env in tree::items_mut(container, "env") {
        if tree::map(env, "valueFrom.fieldRef").is_some() {
            tree::fill(env, "valueFrom.fieldRef.apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = tree::get_mut(container, probe) {
            self::probe(probe);
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(hook) = tree::get_mut(container, hook) {
            handler(hook);
        }
    }
    for list in ["resources.limits", "resources.requests"] {
        if let Some(list) = tree::get_mut(container, list) {
            round_quantities(list);
        }
    }
}

/// `Always` for an image that may change under its name, else `IfNotPresent`.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or("");
    let (name, digest) = match last.split_once('@') {
        Some((name, _)) => (name, true),
        None => (last, false),
    };
    match name.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest || image.is_empty() => "IfNotPresent",
        None => "Always",
    }
}

fn probe(probe: &mut Value) {
    if !probe.is_object() {
        return;
    }
    tree::fill_zero(probe, "timeoutSeconds", 1);
    tree::fill_zero(probe, "periodSeconds", 10);
    tree::fill_zero(probe, "successThreshold", 1);
    tree::fill_zero(probe, "failureThreshold", 3);
    handler(probe);
}

fn handler(handler: &mut Value) {
    if tree::map(handler, "httpGet").is_some() {
        tree::fill(handler, "httpGet.path", "/");
        tree::fill(handler, "httpGet.scheme", "HTTP");
    }
    if tree::map(handler, "grpc").is_some() && tree::get(handler, "grpc.service").is_none() {
        tree::put(handler, "grpc.service", "");
    }
}

fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else {
        return;
    };
    if !map
        .iter()
        .any(|(key, value)| key != "name" && !value.is_null())
    {
        map.insert("emptyDir", Value::Object(Map::new()));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if tree::map(volume, source).is_some() {
            tree::fill(volume, &format!("{source}.defaultMode"), FILE_MODE);
        }
    }
    if tree::map(volume, "hostPath").is_some() && tree::get(volume, "hostPath.type").is_none() {
        tree::put(volume, "hostPath.type", "");
    }
    if tree::map(volume, "image").is_some() {
        let policy = pull_policy(tree::text(volume, "image.reference"));
        tree::fill(volume, "image.pullPolicy", policy);
    }
    if tree::map(volume, "iscsi").is_some() {
        tree::fill(volume, "iscsi.iscsiInterface", "default");
    }
    if tree::map(volume, "ephemeral.volumeClaimTemplate.spec").is_some() {
        tree::fill(
            volume,
            "ephemeral.volumeClaimTemplate.spec.volumeMode",
            "Filesystem",
        );
    }
    downward_items(volume, "downwardAPI.items");
    for source in tree::items_mut(volume, "projected.sources") {
        if tree::map(source, "serviceAccountToken").is_some() {
            tree::fill(
                source,
                "serviceAccountToken.expirationSeconds",
                TOKEN_SECONDS,
            );
        }
        downward_items(source, "downwardAPI.items");
    }
}

fn downward_items(holder: &mut Value, path: &str) {
    for item in tree::items_mut(holder, path) {
        if tree::map(item, "fieldRef").is_some() {
            tree::fill(item, "fieldRef.apiVersion", "v1");
        }
    }
}

/// Writes quantities in their canonical form; what cannot be read is left for validation to complain about.
pub(crate) fn round_quantities(list: &mut Value) {
    let Some(list) = list.as_object_mut() else {
        return;
    };
    for quantity in list.values_mut() {
        let text = match quantity {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        if let Ok(canonical) = meta::quantity::canonical(&text) {
            *quantity = Value::String(canonical);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
