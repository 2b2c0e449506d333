//! Validation of container resources: names, quantities, requests within limits.

use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// Resources of containers that may be promised more often than they exist.
fn is_overcommitable(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

/// Whether Kubernetes itself, not a vendor, gives the name its meaning.
fn is_native(name: &str) -> bool {
    !name.contains('/')
        || name
            .split('/')
            .next()
            .is_some_and(|domain| domain.ends_with("kubernetes.io"))
}

/// Whether a vendor gives the name its meaning, and it can be counted in a quota.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && meta::names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Resource names without a domain that containers may ask for.
fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// What is wrong with a resource name of a container.
fn check_name(name: &str, path: &FieldPath, findings: &mut Findings) {
    let faults = meta::names::qualified_name(name);
    if !faults.is_empty() {
        findings.each(path, name, faults);
    } else if !name.contains('/') && !is_standard_for_containers(name) {
        findings.invalid(path, name, "must be a standard resource for containers");
    }
}

/// What is wrong with one quantity.
pub(crate) fn check_quantity(
    name: &str,
    quantity: &Value,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let text = quantity.as_str().unwrap_or("");
    match meta::Quantity::parse(text) {
        Err(reason) => findings.invalid(path, text, reason),
        Ok(parsed) => {
            if parsed.sign() < 0 {
                findings.invalid(path, text, "must be greater than or equal to 0");
            } else if !is_native(name) && i128::from(parsed.milli_value()) % 1_000 != 0 {
                findings.invalid(path, text, "must be an integer");
            }
        }
    }
}

/// What is wrong with the requirements of one container.
pub(crate) fn check(resources: &Value, path: &FieldPath, findings: &mut Findings) {
    let limits = tree::map(resources, "limits");
    for (name, quantity) in limits.into_iter().flatten() {
        let at = path.child("limits").key(name.as_str());
        check_name(name, &at, findings);
        check_quantity(name, quantity, &at, findings);
    }
    for (name, quantity) in tree::map(resources, "requests").into_iter().flatten() {
        let requests = path.child("requests");
        let at = requests.key(name.as_str());
        check_name(name, &at, findings);
        check_quantity(name, quantity, &at, findings);
        let Ok(request) = meta::Quantity::parse(quantity.as_str().unwrap_or("")) else {
            continue;
        };
        match limits
            .and_then(|limits| limits.get(name))
            .map(|limit| limit.as_str().unwrap_or(""))
        {
            Some(limit_text) => {
                let Ok(limit) = meta::Quantity::parse(limit_text) else {
                    continue;
                };
                if request != limit && !is_overcommitable(name) {
                    findings.invalid(
                        &requests,
                        request.to_string(),
                        format!("must be equal to {name} limit of {limit}"),
                    );
                } else if request > limit {
                    findings.invalid(
                        &requests,
                        request.to_string(),
                        format!("must be less than or equal to {name} limit of {limit}"),
                    );
                }
            }
            None if !is_overcommitable(name) => {
                findings.required(
                    &path.child("limits"),
                    "Limit must be set for non overcommitable resources",
                );
            }
            None => {}
        }
    }
    check_claims(resources, path, findings);
}

fn check_claims(resources: &Value, path: &FieldPath, findings: &mut Findings) {
    let mut seen = Vec::new();
    for (index, claim) in tree::items(resources, "claims").iter().enumerate() {
        let at = path.child("claims").index(index).child("name");
        let name = tree::text(claim, "name");
        if name.is_empty() {
            findings.required(&at, "");
        } else if seen.contains(&name) {
            findings.duplicate(&at, name);
        }
        seen.push(name);
    }
}
