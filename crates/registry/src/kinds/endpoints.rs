//! Endpoints and EndpointSlices.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// Endpoints in one slice.
const SLICE_ENDPOINTS_MAX: usize = 1_000;
/// Ports of one slice.
const SLICE_PORTS_MAX: usize = 20_000;
/// Addresses of one endpoint.
const ADDRESSES_MAX: usize = 100;

pub(super) const ENDPOINTS: Room = Room {
    defaults: |endpoints| {
        for subset in tree::items_mut(endpoints, "subsets") {
            for port in tree::items_mut(subset, "ports") {
                tree::fill(port, "protocol", "TCP");
            }
        }
    },
    check: check_endpoints,
    ..PLAIN
};

pub(super) const SLICES: Room = Room {
    defaults: |slice| {
        for port in tree::items_mut(slice, "ports") {
            if tree::get(port, "name").is_none() {
                tree::put(port, "name", "");
            }
            tree::fill(port, "protocol", "TCP");
        }
    },
    check: check_slice,
    check_update: |new, old, _, findings| {
        findings.immutable(&FieldPath::new("addressType"), new, old, "addressType");
    },
    ..PLAIN
};

fn check_endpoints(endpoints: &Value, findings: &mut Findings) {
    for (index, subset) in tree::items(endpoints, "subsets").iter().enumerate() {
        let at = FieldPath::new("subsets").index(index);
        let addresses = tree::items(subset, "addresses");
        let waiting = tree::items(subset, "notReadyAddresses");
        if addresses.is_empty() && waiting.is_empty() {
            findings.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for (field, list) in [("addresses", addresses), ("notReadyAddresses", waiting)] {
            for (position, address) in list.iter().enumerate() {
                check_ip(
                    tree::text(address, "ip"),
                    &at.child(field).index(position).child("ip"),
                    findings,
                );
            }
        }
        let ports = tree::items(subset, "ports");
        for (position, port) in ports.iter().enumerate() {
            let at = at.child("ports").index(position);
            let name = tree::text(port, "name");
            if name.is_empty() && ports.len() > 1 {
                findings.required(&at.child("name"), "");
            } else if !name.is_empty() {
                findings.each(&at.child("name"), name, meta::names::dns1123_label(name));
            }
            findings.port(&at.child("port"), tree::int(port, "port").unwrap_or(0));
            findings.one_of(
                &at.child("protocol"),
                tree::text(port, "protocol"),
                &["SCTP", "TCP", "UDP"],
                true,
            );
        }
    }
}

fn check_ip(address: &str, path: &FieldPath, findings: &mut Findings) {
    if address.parse::<std::net::IpAddr>().is_err() {
        findings.invalid(
            path,
            address,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
}

fn check_slice(slice: &Value, findings: &mut Findings) {
    let kind = tree::text(slice, "addressType");
    findings.one_of(
        &FieldPath::new("addressType"),
        kind,
        &["FQDN", "IPv4", "IPv6"],
        true,
    );
    let endpoints = tree::items(slice, "endpoints");
    let path = FieldPath::new("endpoints");
    if endpoints.len() > SLICE_ENDPOINTS_MAX {
        findings.too_many(&path, endpoints.len(), SLICE_ENDPOINTS_MAX);
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = path.index(index).child("addresses");
        let addresses = tree::items(endpoint, "addresses");
        if addresses.is_empty() {
            findings.required(&at, "must contain at least 1 address");
        } else if addresses.len() > ADDRESSES_MAX {
            findings.too_many(&at, addresses.len(), ADDRESSES_MAX);
        }
        for (position, address) in addresses.iter().enumerate() {
            let address = address.as_str().unwrap_or("");
            let at = at.index(position);
            match kind {
                "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                    findings.invalid(&at, address, "must be a valid IPv4 address");
                }
                "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                    findings.invalid(&at, address, "must be a valid IPv6 address");
                }
                "FQDN" => findings.each(&at, address, meta::names::dns1123_subdomain(address)),
                _ => {}
            }
        }
    }
    check_slice_ports(slice, findings);
}

fn check_slice_ports(slice: &Value, findings: &mut Findings) {
    let ports = tree::items(slice, "ports");
    let path = FieldPath::new("ports");
    if ports.len() > SLICE_PORTS_MAX {
        findings.too_many(&path, ports.len(), SLICE_PORTS_MAX);
        return;
    }
    let mut names = std::collections::BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = tree::text(port, "name");
        if !name.is_empty() {
            findings.each(&at.child("name"), name, meta::names::dns1123_label(name));
        }
        if !names.insert(name) {
            findings.duplicate(&at.child("name"), name);
        }
        findings.one_of(
            &at.child("protocol"),
            tree::text(port, "protocol"),
            &["SCTP", "TCP", "UDP"],
            true,
        );
    }
}
