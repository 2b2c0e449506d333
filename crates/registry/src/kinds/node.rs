//! Nodes.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::pod::affinity;
use crate::pod::defaults::round_quantities;
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room {
    defaults,
    check,
    check_update,
    ..PLAIN
};

fn defaults(node: &mut Value) {
    for list in ["status.capacity", "status.allocatable"] {
        if let Some(list) = tree::get_mut(node, list) {
            round_quantities(list);
        }
    }
    if tree::get(node, "status.allocatable").is_none()
        && let Some(capacity) = tree::get(node, "status.capacity").cloned()
    {
        tree::put(node, "status.allocatable", capacity);
    }
    // podCIDR is the first of podCIDRs; whoever writes one gets both.
    let first = tree::items(node, "spec.podCIDRs")
        .first()
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    let single = tree::text(node, "spec.podCIDR").to_owned();
    if first.is_empty() && !single.is_empty() {
        tree::put(node, "spec.podCIDRs", vec![Value::String(single)]);
    } else if !first.is_empty() && single.is_empty() {
        tree::put(node, "spec.podCIDR", first);
    }
}

fn check(node: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let mut seen = Vec::new();
    for (index, taint) in tree::items(node, "spec.taints").iter().enumerate() {
        let at = spec.child("taints").index(index);
        let (key, value, effect) = (
            tree::text(taint, "key"),
            tree::text(taint, "value"),
            tree::text(taint, "effect"),
        );
        findings.each(&at.child("key"), key, meta::names::qualified_name(key));
        let faults = meta::names::label_value(value);
        if !faults.is_empty() {
            findings.invalid(&at.child("value"), value, faults.join(";"));
        }
        affinity::check_effect(effect, &at.child("effect"), true, findings);
        if seen.contains(&(key, effect)) {
            findings.duplicate(&at, taint.clone());
        }
        seen.push((key, effect));
    }
    check_cidrs(node, &spec, findings);
}

fn check_cidrs(node: &Value, spec: &FieldPath, findings: &mut Findings) {
    let cidrs = tree::items(node, "spec.podCIDRs");
    for (index, cidr) in cidrs.iter().enumerate() {
        let cidr = cidr.as_str().unwrap_or("");
        if !is_cidr(cidr) {
            findings.invalid(
                &spec.child("podCIDRs").index(index),
                cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    let single = tree::text(node, "spec.podCIDR");
    if let Some(first) = cidrs
        .first()
        .and_then(Value::as_str)
        .filter(|first| *first != single)
    {
        findings.invalid(
            &spec.child("podCIDRs").index(0),
            first,
            "must match `podCIDR`",
        );
    }
    if cidrs.len() > 2 {
        findings.invalid(
            &spec.child("podCIDRs"),
            Value::Array(cidrs.to_vec()),
            "may only contain two entries, one of each family",
        );
    }
}

/// Whether a text is an address range such as 10.0.0.0/24.
pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let Ok(address) = address.parse::<std::net::IpAddr>() else {
        return false;
    };
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    bits.bytes().all(|byte| byte.is_ascii_digit())
        && bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max)
}

fn check_update(new: &Value, old: &Value, _: Option<&str>, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    if !tree::items(old, "spec.podCIDRs").is_empty() && !tree::same_at(new, old, "spec.podCIDRs") {
        findings.forbidden(
            &spec.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    if !tree::text(old, "spec.providerID").is_empty() && !tree::same_at(new, old, "spec.providerID")
    {
        findings.forbidden(
            &spec.child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
}
