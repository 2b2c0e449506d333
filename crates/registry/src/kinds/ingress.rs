//! Ingresses and ingress classes.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room { check, ..PLAIN };

pub(super) const CLASSES: Room = Room {
    defaults: |class| {
        if tree::map(class, "spec.parameters").is_some() {
            tree::fill(class, "spec.parameters.scope", "Cluster");
        }
    },
    check: |class, findings| {
        if tree::text(class, "spec.controller").is_empty() {
            findings.required(&FieldPath::new("spec").child("controller"), "");
        }
    },
    check_update: |new, old, _, findings| {
        findings.immutable(
            &FieldPath::new("spec").child("controller"),
            new,
            old,
            "spec.controller",
        );
    },
    ..PLAIN
};

fn check(ingress: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let rules = tree::items(ingress, "spec.rules");
    let backend = tree::get(ingress, "spec.defaultBackend");
    if rules.is_empty() && backend.is_none() {
        findings.invalid(
            &spec,
            Value::from(Vec::<Value>::new()),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(backend) = backend {
        check_backend(backend, &spec.child("defaultBackend"), findings);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = spec.child("rules").index(index);
        let host = tree::text(rule, "host");
        if host.parse::<std::net::IpAddr>().is_ok() {
            findings.invalid(
                &at.child("host"),
                host,
                "must be a DNS name, not an IP address",
            );
        } else if host.contains('*') {
            findings.each(
                &at.child("host"),
                host,
                meta::names::wildcard_dns1123_subdomain(host),
            );
        } else if !host.is_empty() {
            findings.each(
                &at.child("host"),
                host,
                meta::names::dns1123_subdomain(host),
            );
        }
        let Some(http) = tree::get(rule, "http") else {
            continue;
        };
        let paths_path = at.child("http").child("paths");
        let paths = tree::items(http, "paths");
        if paths.is_empty() {
            findings.required(&paths_path, "");
        }
        for (position, entry) in paths.iter().enumerate() {
            check_path(entry, &paths_path.index(position), findings);
        }
    }
    let class = tree::text(ingress, "spec.ingressClassName");
    if !class.is_empty() {
        findings.each(
            &spec.child("ingressClassName"),
            class,
            meta::names::dns1123_subdomain(class),
        );
    }
}

fn check_path(entry: &Value, at: &FieldPath, findings: &mut Findings) {
    let path = tree::text(entry, "path");
    match tree::text(entry, "pathType") {
        "" => findings.required(&at.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !path.starts_with('/') {
                findings.invalid(&at.child("path"), path, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if path.contains(sequence) {
                    findings.invalid(
                        &at.child("path"),
                        path,
                        format!("must not contain '{sequence}'"),
                    );
                }
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.starts_with('/') {
                findings.invalid(&at.child("path"), path, "must be an absolute path");
            }
        }
        other => findings.not_supported(
            &at.child("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    match tree::get(entry, "backend") {
        None => findings.required(&at.child("backend"), ""),
        Some(backend) => check_backend(backend, &at.child("backend"), findings),
    }
}

fn check_backend(backend: &Value, path: &FieldPath, findings: &mut Findings) {
    let service = tree::get(backend, "service");
    let resource = tree::get(backend, "resource");
    match (service, resource) {
        (Some(_), Some(_)) => {
            findings.invalid(path, "", "cannot set both resource and service backends")
        }
        (None, None) => findings.required(path, "resource or service backend is required"),
        (None, Some(_)) => {}
        (Some(service), None) => {
            let at = path.child("service");
            let name = tree::text(service, "name");
            if name.is_empty() {
                findings.required(&at.child("name"), "");
            } else {
                findings.each(&at.child("name"), name, meta::names::dns1035_label(name));
            }
            let port_name = tree::text(service, "port.name");
            let number = tree::int(service, "port.number").unwrap_or(0);
            if !port_name.is_empty() && number != 0 {
                findings.invalid(path, "", "cannot set both port name & port number");
            } else if !port_name.is_empty() {
                findings.each(
                    &at.child("port").child("name"),
                    port_name,
                    meta::names::port_name(port_name),
                );
            } else if number != 0 {
                findings.port(&at.child("port").child("number"), number);
            } else {
                findings.required(path, "port name or number is required");
            }
        }
    }
}
