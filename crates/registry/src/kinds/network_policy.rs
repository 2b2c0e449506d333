//! NetworkPolicies.

use super::node::is_cidr;
use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room {
    defaults,
    check,
    ..PLAIN
};

fn defaults(policy: &mut Value) {
    tree::ensure(policy, "spec");
    for direction in ["spec.ingress", "spec.egress"] {
        for rule in tree::items_mut(policy, direction) {
            for port in tree::items_mut(rule, "ports") {
                tree::fill(port, "protocol", "TCP");
            }
        }
    }
    if tree::items(policy, "spec.policyTypes").is_empty() {
        let mut types = vec![Value::from("Ingress")];
        if !tree::items(policy, "spec.egress").is_empty() {
            types.push(Value::from("Egress"));
        }
        tree::put(policy, "spec.policyTypes", types);
    }
}

fn check(policy: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    if let Some(selector) = tree::get(policy, "spec.podSelector") {
        findings.label_selector(&spec.child("podSelector"), selector);
    }
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in tree::items(policy, &format!("spec.{direction}"))
            .iter()
            .enumerate()
        {
            let at = spec.child(direction).index(index);
            for (position, port) in tree::items(rule, "ports").iter().enumerate() {
                check_port(port, &at.child("ports").index(position), findings);
            }
            for (position, peer) in tree::items(rule, peers).iter().enumerate() {
                check_peer(peer, &at.child(peers).index(position), findings);
            }
        }
    }
    for (index, kind) in tree::items(policy, "spec.policyTypes").iter().enumerate() {
        let kind = kind.as_str().unwrap_or("");
        if !matches!(kind, "Ingress" | "Egress") {
            findings.not_supported(
                &spec.child("policyTypes").index(index),
                kind,
                &["Egress", "Ingress"],
            );
        }
    }
}

fn check_port(port: &Value, path: &FieldPath, findings: &mut Findings) {
    findings.one_of(
        &path.child("protocol"),
        tree::text(port, "protocol"),
        &["SCTP", "TCP", "UDP"],
        false,
    );
    match tree::get(port, "port") {
        Some(Value::String(name)) => {
            if tree::get(port, "endPort").is_some() {
                findings.invalid(
                    &path.child("endPort"),
                    tree::int(port, "endPort").unwrap_or(0),
                    "may not be specified when `port` is non-numeric",
                );
            }
            findings.each(&path.child("port"), name, meta::names::port_name(name));
        }
        Some(number) => {
            let first = number.as_i64().unwrap_or(0);
            findings.port(&path.child("port"), first);
            if let Some(last) = tree::int(port, "endPort").filter(|last| *last < first) {
                findings.invalid(
                    &path.child("endPort"),
                    last,
                    "must be greater than or equal to `port`",
                );
            }
        }
        None => {
            if let Some(last) = tree::int(port, "endPort") {
                findings.invalid(
                    &path.child("endPort"),
                    last,
                    "may not be specified when `port` is not specified",
                );
            }
        }
    }
}

fn check_peer(peer: &Value, path: &FieldPath, findings: &mut Findings) {
    let mut kinds = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        if let Some(selected) = tree::get(peer, selector) {
            kinds += 1;
            findings.label_selector(&path.child(selector), selected);
        }
    }
    if let Some(block) = tree::get(peer, "ipBlock") {
        if kinds > 0 {
            findings.forbidden(path, "may not specify both ipBlock and another peer");
        }
        kinds += 1;
        let cidr = tree::text(block, "cidr");
        let at = path.child("ipBlock").child("cidr");
        if cidr.is_empty() {
            findings.required(&at, "");
        } else if !is_cidr(cidr) {
            findings.invalid(
                &at,
                cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    if kinds == 0 {
        findings.required(path, "must specify a peer");
    }
}
