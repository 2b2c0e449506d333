//! Services. Addresses and node ports are handed out elsewhere; here they are only kept and checked.

use super::Room;
use crate::context::Context;
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};
use value::json;

/// How long ClientIP affinity lasts, seconds.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) const ROOM: Room = Room {
    defaults,
    prepare_create: |service, _| {
        let address = tree::text(service, "spec.clusterIP").to_owned();
        if !address.is_empty() && tree::items(service, "spec.clusterIPs").is_empty() {
            tree::put(service, "spec.clusterIPs", vec![Value::String(address)]);
        }
    },
    prepare_update,
    check,
    check_update,
};

fn kind(service: &Value) -> &str {
    tree::text(service, "spec.type")
}

fn has_address(service: &Value) -> bool {
    matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

fn is_external(service: &Value) -> bool {
    has_node_ports(service)
        || (kind(service) == "ClusterIP" && !tree::items(service, "spec.externalIPs").is_empty())
}

fn defaults(service: &mut Value) {
    tree::ensure(service, "spec");
    tree::fill(service, "spec.sessionAffinity", "None");
    match tree::text(service, "spec.sessionAffinity") {
        "None" => {
            tree::remove(service, "spec.sessionAffinityConfig");
        }
        "ClientIP" => tree::fill(
            service,
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            AFFINITY_SECONDS,
        ),
        _ => {}
    }
    tree::fill(service, "spec.type", "ClusterIP");
    for port in tree::items_mut(service, "spec.ports") {
        tree::fill(port, "protocol", "TCP");
        if let Some(number) = tree::int(port, "port") {
            tree::fill(port, "targetPort", number);
            tree::fill_zero(port, "targetPort", number);
        }
    }
    if is_external(service) {
        tree::fill(service, "spec.externalTrafficPolicy", "Cluster");
    }
    if has_address(service) {
        tree::fill(service, "spec.internalTrafficPolicy", "Cluster");
    }
    if kind(service) == "LoadBalancer" {
        tree::fill(service, "spec.allocateLoadBalancerNodePorts", true);
        for ingress in tree::items_mut(service, "status.loadBalancer.ingress") {
            if !tree::text(ingress, "ip").is_empty() {
                tree::fill(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// What was allocated stays allocated when a client leaves it out.
fn prepare_update(new: &mut Value, old: &Value, subresource: Option<&str>, _: &mut Context) {
    if subresource.is_some() {
        return;
    }
    if has_address(new) && has_address(old) {
        if tree::text(new, "spec.clusterIP").is_empty()
            && tree::items(new, "spec.clusterIPs").is_empty()
        {
            tree::carry(new, old, "spec.clusterIP");
            tree::carry(new, old, "spec.clusterIPs");
        } else if tree::items(new, "spec.clusterIPs").is_empty() {
            if tree::same_at(new, old, "spec.clusterIP") {
                tree::carry(new, old, "spec.clusterIPs");
            } else {
                let address = tree::text(new, "spec.clusterIP").to_owned();
                tree::put(new, "spec.clusterIPs", vec![Value::String(address)]);
            }
        } else if tree::text(new, "spec.clusterIP").is_empty() {
            tree::carry(new, old, "spec.clusterIP");
        }
        for field in ["spec.ipFamilies", "spec.ipFamilyPolicy"] {
            if tree::get(new, field).is_none() {
                tree::carry(new, old, field);
            }
        }
    }
    if has_node_ports(new) && has_node_ports(old) {
        keep_node_ports(new, old);
    }
    let watched = |service: &Value| {
        kind(service) == "LoadBalancer"
            && tree::text(service, "spec.externalTrafficPolicy") == "Local"
    };
    if watched(new) && watched(old) && tree::int(new, "spec.healthCheckNodePort").unwrap_or(0) == 0
    {
        tree::carry(new, old, "spec.healthCheckNodePort");
    }
    if kind(new) == "ExternalName" && kind(old) != "ExternalName" {
        for field in [
            "spec.clusterIP",
            "spec.clusterIPs",
            "spec.ipFamilies",
            "spec.ipFamilyPolicy",
        ] {
            if tree::same_at(new, old, field) {
                tree::remove(new, field);
            }
        }
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let before = tree::items(old, "spec.ports");
    for port in tree::items_mut(new, "spec.ports") {
        if tree::int(port, "nodePort").unwrap_or(0) != 0 {
            continue;
        }
        let same = before.iter().find(|other| {
            tree::text(other, "protocol") == tree::text(port, "protocol")
                && tree::int(other, "port") == tree::int(port, "port")
        });
        if let Some(number) = same
            .and_then(|other| tree::int(other, "nodePort"))
            .filter(|number| *number != 0)
        {
            tree::put(port, "nodePort", number);
        }
    }
}

fn check(service: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let service_kind = kind(service);
    let headless = tree::text(service, "spec.clusterIP") == "None";
    let ports = tree::items(service, "spec.ports");
    if ports.is_empty() && !headless && service_kind != "ExternalName" {
        findings.required(&spec.child("ports"), "");
    }
    check_kind(service, headless, &spec, findings);
    check_ports(service, &spec.child("ports"), findings);
    findings.labels(&spec.child("selector"), tree::get(service, "spec.selector"));
    findings.one_of(
        &spec.child("sessionAffinity"),
        tree::text(service, "spec.sessionAffinity"),
        &["ClientIP", "None"],
        true,
    );
    findings.one_of(
        &spec.child("type"),
        service_kind,
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        true,
    );
    check_affinity_seconds(service, &spec, findings);
    check_addresses(service, &spec, findings);
    check_traffic(service, &spec, findings);
}

fn check_kind(service: &Value, headless: bool, spec: &FieldPath, findings: &mut Findings) {
    match kind(service) {
        "LoadBalancer" | "NodePort" if headless => findings.invalid(
            &spec.child("clusterIPs").index(0),
            "None",
            format!("may not be set to 'None' for {} services", kind(service)),
        ),
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if tree::get(service, &format!("spec.{field}"))
                    .is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()))
                {
                    findings.forbidden(
                        &spec.child(field),
                        "may not be set for ExternalName services",
                    );
                }
            }
            let name = tree::text(service, "spec.externalName").trim_end_matches('.');
            if name.is_empty() {
                findings.required(&spec.child("externalName"), "");
            } else {
                findings.each(
                    &spec.child("externalName"),
                    name,
                    meta::names::dns1123_subdomain(name),
                );
            }
        }
        _ => {}
    }
}

fn check_ports(service: &Value, path: &FieldPath, findings: &mut Findings) {
    let ports = tree::items(service, "spec.ports");
    let mut names = Vec::new();
    let mut numbers = Vec::new();
    let mut node_ports = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = tree::text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                findings.required(&at.child("name"), "");
            }
        } else {
            findings.each(&at.child("name"), name, meta::names::dns1123_label(name));
            if names.contains(&name) {
                findings.duplicate(&at.child("name"), name);
            }
            names.push(name);
        }
        let number = tree::int(port, "port").unwrap_or(0);
        findings.port(&at.child("port"), number);
        let protocol = tree::text(port, "protocol");
        findings.one_of(
            &at.child("protocol"),
            protocol,
            &["SCTP", "TCP", "UDP"],
            true,
        );
        match tree::get(port, "targetPort") {
            Some(Value::String(name)) => {
                findings.each(&at.child("targetPort"), name, meta::names::port_name(name))
            }
            Some(target) => findings.port(&at.child("targetPort"), target.as_i64().unwrap_or(0)),
            None => {}
        }
        let node_port = tree::int(port, "nodePort").unwrap_or(0);
        if node_port != 0 && !has_node_ports(service) {
            findings.forbidden(
                &at.child("nodePort"),
                format!("may not be used when `type` is '{}'", kind(service)),
            );
        }
        if numbers.contains(&(protocol, number)) {
            findings.duplicate(
                &at,
                json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0}),
            );
        }
        numbers.push((protocol, number));
        if node_port != 0 && node_ports.contains(&(protocol, node_port)) {
            findings.duplicate(&at.child("nodePort"), node_port);
        }
        node_ports.push((protocol, node_port));
    }
}

fn check_affinity_seconds(service: &Value, spec: &FieldPath, findings: &mut Findings) {
    if tree::text(service, "spec.sessionAffinity") != "ClientIP" {
        return;
    }
    let seconds = tree::int(
        service,
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
    )
    .unwrap_or(0);
    if !(1..=86_400).contains(&seconds) {
        findings.invalid(
            &spec
                .child("sessionAffinityConfig")
                .child("clientIP")
                .child("timeoutSeconds"),
            seconds,
            "must be greater than 0 and less than 86400",
        );
    }
}

fn check_addresses(service: &Value, spec: &FieldPath, findings: &mut Findings) {
    const IP_TEXT: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    let single = tree::text(service, "spec.clusterIP");
    let addresses = tree::items(service, "spec.clusterIPs");
    if kind(service) != "ExternalName" {
        if let Some(first) = addresses
            .first()
            .and_then(Value::as_str)
            .filter(|first| *first != single)
        {
            findings.invalid(
                &spec.child("clusterIPs"),
                addresses.to_vec(),
                format!("first value must match `clusterIP` ({first})"),
            );
        }
        for (index, address) in addresses.iter().enumerate() {
            let address = address.as_str().unwrap_or("");
            let at = spec.child("clusterIPs").index(index);
            if address == "None" {
                if addresses.len() > 1 {
                    findings.invalid(
                        &spec.child("clusterIPs"),
                        addresses.to_vec(),
                        "'None' must be the first and only value",
                    );
                }
            } else if address.parse::<std::net::IpAddr>().is_err() {
                findings.invalid(&at, address, IP_TEXT);
            }
        }
        if addresses.len() > 2 {
            findings.invalid(
                &spec.child("clusterIPs"),
                addresses.to_vec(),
                "may only hold up to 2 values",
            );
        }
    }
    for (index, address) in tree::items(service, "spec.externalIPs").iter().enumerate() {
        let address = address.as_str().unwrap_or("");
        if address.parse::<std::net::IpAddr>().is_err() {
            findings.invalid(&spec.child("externalIPs").index(index), address, IP_TEXT);
        }
    }
}

fn check_traffic(service: &Value, spec: &FieldPath, findings: &mut Findings) {
    let external = tree::text(service, "spec.externalTrafficPolicy");
    let path = spec.child("externalTrafficPolicy");
    if is_external(service) {
        findings.one_of(&path, external, &["Cluster", "Local"], true);
    } else if !external.is_empty() {
        findings.invalid(
            &path,
            external,
            "may only be set for externally-accessible services",
        );
    }
    findings.one_of(
        &spec.child("internalTrafficPolicy"),
        tree::text(service, "spec.internalTrafficPolicy"),
        &["Cluster", "Local"],
        false,
    );
}

fn check_update(new: &Value, old: &Value, subresource: Option<&str>, findings: &mut Findings) {
    if subresource.is_some() || !has_address(new) || !has_address(old) {
        return;
    }
    let first = |service: &Value| {
        tree::items(service, "spec.clusterIPs")
            .first()
            .and_then(Value::as_str)
            .unwrap_or(tree::text(service, "spec.clusterIP"))
            .to_owned()
    };
    let before = first(old);
    if !before.is_empty() && first(new) != before {
        findings.invalid(
            &FieldPath::new("spec").child("clusterIPs").index(0),
            tree::items(new, "spec.clusterIPs").to_vec(),
            "may not change once set",
        );
    }
}
