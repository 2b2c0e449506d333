//! What a pod's status says of the claim that stands for its extended resources.
//!
//! Does not know the claim.

use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

const UNKNOWN_CONTAINER: &str =
    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
const UNKNOWN_RESOURCE: &str = "must match the extended resource name of an entry in \
    spec.initContainers.resources.requests or spec.containers.resources.requests";

/// What is wrong with it, where it is given.
pub(crate) fn check(pod: &Value, findings: &mut Findings) {
    let Some(status) = tree::get(pod, "status.extendedResourceClaimStatus") else {
        return;
    };
    let path = FieldPath::new("status").child("extendedResourceClaimStatus");
    let mappings = tree::items(status, "requestMappings");
    let list = path.child("requestMappings");
    if mappings.is_empty() {
        findings.required(&list, "at least one request mapping is required");
    }
    let mut seen = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let at = list.index(index);
        let text = |field: &str| tree::text(mapping, field);
        let (container, resource) = (text("containerName"), text("resourceName"));
        match find(pod, container) {
            None => findings.invalid(&at.child("containerName"), container, UNKNOWN_CONTAINER),
            Some(found) => {
                let requests = tree::map(found, "resources.requests");
                if requests.is_none_or(|requests| !requests.contains_key(resource)) {
                    findings.invalid(&at.child("resourceName"), resource, UNKNOWN_RESOURCE);
                }
            }
        }
        let request = text("requestName");
        let wrong = meta::names::dns1123_label(request);
        findings.each(&path.child("requestName"), request, wrong);
        let fields = ["containerName", "resourceName", "requestName"];
        let values = fields.map(text);
        if seen.contains(&values) {
            for (field, value) in fields.into_iter().zip(values) {
                findings.duplicate(&at.child(field), value);
            }
        }
        seen.push(values);
    }
    let claim = tree::text(status, "resourceClaimName");
    let at = path.child("resourceClaimName");
    if claim.is_empty() {
        findings.required(&at, "");
    } else {
        findings.each(&at, claim, meta::names::dns1123_subdomain(claim));
    }
}

fn find<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let init = tree::items(pod, "spec.initContainers").iter();
    let mut all = init.chain(tree::items(pod, "spec.containers"));
    all.find(|container| tree::text(container, "name") == name)
}
