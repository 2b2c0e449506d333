//! Resource claims and their templates, device classes, resource slices.
//!
//! Does not know which devices a claim gets: who writes the status does.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::pod::resources;
use crate::tree;
use devices::{ALTERNATIVES_MAX, EXPRESSION_BYTES_MAX, RESERVED_FOR_MAX, RESULTS_MAX, Unusable};
use meta::{FieldPath, Value};

/// Selectors, constraints or configurations of one claim or class at most (k8s: 32 of each).
const LIST_MAX: usize = 32;
/// Devices of a slice (k8s: `ResourceSliceMaxDevices`), and of one with taints or counters.
const DEVICES_MAX: usize = 128;
const ADVANCED_DEVICES_MAX: usize = 64;
/// Attributes and capacities of a device together (k8s).
const ATTRIBUTES_MAX: usize = 32;
/// Sets of counters of a slice (k8s: `ResourceSliceMaxCounterSets`).
const COUNTER_SETS_MAX: usize = 8;
/// Longest text of an attribute, bytes (k8s: `DeviceAttributeMaxValueLength`).
const ATTRIBUTE_BYTES_MAX: usize = 64;

const MODES: [&str; 2] = ["All", "ExactCount"];
const REFERENCE: &str = "must be the name of a request in the claim or the name of a request and a subrequest \
                         separated by '/'";

pub(super) const CLAIMS: Room = Room {
    defaults: |claim| fill(claim, "spec.devices.requests"),
    check: |claim, findings| check_devices(claim, "spec.devices", findings),
    check_update: check_claim_update,
    ..PLAIN
};

pub(super) const TEMPLATES: Room = Room {
    defaults: |template| fill(template, "spec.spec.devices.requests"),
    check: |template, findings| check_devices(template, "spec.spec.devices", findings),
    check_update: |new, old, _, findings| {
        findings.immutable(&FieldPath::new("spec"), new, old, "spec");
    },
    ..PLAIN
};

pub(super) const CLASSES: Room = Room {
    check: |class, findings| {
        let spec = FieldPath::new("spec");
        check_selectors(class, "spec.selectors", &spec.child("selectors"), findings);
        check_config(class, "spec.config", &spec.child("config"), None, findings);
        if let Some(name) = tree::get(class, "spec.extendedResourceName") {
            let name = name.as_str().unwrap_or_default();
            if !resources::is_extended(name) {
                let path = spec.child("extendedResourceName");
                findings.invalid(&path, name, "must be a valid extended resource name");
            }
        }
    },
    ..PLAIN
};

pub(super) const SLICES: Room = Room {
    prepare_create: |slice, ctx| note_taints(slice, ctx.now_micros),
    prepare_update: |slice, _, _, ctx| note_taints(slice, ctx.now_micros),
    check: check_slice,
    check_update: |new, old, _, findings| {
        let spec = FieldPath::new("spec");
        for (path, field) in [
            (spec.child("nodeName"), "spec.nodeName"),
            (spec.child("driver"), "spec.driver"),
            (spec.child("pool").child("name"), "spec.pool.name"),
        ] {
            findings.immutable(&path, new, old, field);
        }
    },
    ..PLAIN
};

// ---- defaults

fn fill(object: &mut Value, requests: &str) {
    for request in tree::items_mut(object, requests) {
        if let Some(exactly) = tree::get_mut(request, "exactly") {
            fill_one(exactly);
        }
        for alternative in tree::items_mut(request, "firstAvailable") {
            fill_one(alternative);
        }
    }
}

fn fill_one(wanted: &mut Value) {
    if tree::text(wanted, "allocationMode").is_empty() {
        tree::put(wanted, "allocationMode", "ExactCount");
    }
    if tree::text(wanted, "allocationMode") == "ExactCount" {
        tree::fill_zero(wanted, "count", 1);
    }
    for toleration in tree::items_mut(wanted, "tolerations") {
        if tree::text(toleration, "operator").is_empty() {
            tree::put(toleration, "operator", "Equal");
        }
    }
}

/// Since when a device is tainted.
fn note_taints(slice: &mut Value, now_micros: i64) {
    for device in tree::items_mut(slice, "spec.devices") {
        for taint in tree::items_mut(device, "taints") {
            tree::fill(taint, "timeAdded", meta::time::format_seconds(now_micros));
        }
    }
}

// ---- claims

fn check_devices(object: &Value, at: &str, findings: &mut Findings) {
    let mut path = at.split('.');
    let first = FieldPath::new(path.next().unwrap_or_default());
    let path = path.fold(first, |path, field| path.child(field));
    let devices = tree::get(object, at).unwrap_or(&Value::Null);
    let requests = tree::items(devices, "requests");
    let list = path.child("requests");
    check_length(requests, RESULTS_MAX, &list, findings);
    check_names(requests, &list, findings);
    for (index, request) in requests.iter().enumerate() {
        check_request(request, &list.index(index), findings);
    }
    let constraints = tree::items(devices, "constraints");
    let list = path.child("constraints");
    check_length(constraints, LIST_MAX, &list, findings);
    for (index, constraint) in constraints.iter().enumerate() {
        let path = list.index(index);
        check_references(constraint, requests, &path, findings);
        let given = ["matchAttribute", "distinctAttribute"].map(|field| {
            let name = tree::get(constraint, field);
            if let Some(name) = name.and_then(Value::as_str)
                && !name.contains('/')
            {
                let text = "must include a domain";
                findings.invalid(&path.child(field), name, text);
            }
            name.is_some()
        });
        if given[0] == given[1] {
            let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            findings.required(&path, detail);
        }
    }
    let list = path.child("config");
    check_config(devices, "config", &list, Some(requests), findings);
}

fn check_length(list: &[Value], max: usize, path: &FieldPath, findings: &mut Findings) {
    if list.len() > max {
        findings.too_many(path, list.len(), max);
    }
}

/// Names are labels, each once.
fn check_names(list: &[Value], path: &FieldPath, findings: &mut Findings) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, one) in list.iter().enumerate() {
        let (name, path) = (tree::text(one, "name"), path.index(index));
        if name.is_empty() {
            findings.required(&path.child("name"), "");
        } else {
            let wrong = meta::names::dns1123_label(name);
            findings.each(&path.child("name"), name, wrong);
        }
        if !seen.insert(name) {
            findings.duplicate(&path, name);
        }
    }
}

fn check_request(request: &Value, path: &FieldPath, findings: &mut Findings) {
    let alternatives = tree::items(request, "firstAvailable");
    match (tree::get(request, "exactly"), alternatives) {
        (None, []) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            findings.required(path, detail);
        }
        (Some(exactly), []) => check_wanted(exactly, &path.child("exactly"), findings),
        (None, alternatives) => {
            let list = path.child("firstAvailable");
            check_length(alternatives, ALTERNATIVES_MAX, &list, findings);
            check_names(alternatives, &list, findings);
            for (index, alternative) in alternatives.iter().enumerate() {
                check_wanted(alternative, &list.index(index), findings);
            }
        }
        (Some(_), _) => findings.invalid(
            path,
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
    }
}

fn check_wanted(wanted: &Value, path: &FieldPath, findings: &mut Findings) {
    let class = tree::text(wanted, "deviceClassName");
    let class_path = path.child("deviceClassName");
    if class.is_empty() {
        findings.required(&class_path, "");
    } else {
        let wrong = meta::names::dns1123_subdomain(class);
        findings.each(&class_path, class, wrong);
    }
    check_selectors(wanted, "selectors", &path.child("selectors"), findings);
    let count = tree::int(wanted, "count").unwrap_or(0);
    match tree::text(wanted, "allocationMode") {
        "All" if count != 0 => findings.invalid(
            &path.child("count"),
            count,
            "must not be specified when allocationMode is 'All'",
        ),
        "ExactCount" if count <= 0 => {
            findings.invalid(&path.child("count"), count, "must be greater than zero");
        }
        mode => findings.one_of(&path.child("allocationMode"), mode, &MODES, true),
    }
    for (index, toleration) in tree::items(wanted, "tolerations").iter().enumerate() {
        let path = path.child("tolerations").index(index);
        let operator = tree::text(toleration, "operator");
        findings.one_of(
            &path.child("operator"),
            operator,
            &["Equal", "Exists"],
            true,
        );
        if operator == "Exists" && !tree::text(toleration, "value").is_empty() {
            let detail = "must be empty for operator `Exists`";
            let value = tree::text(toleration, "value");
            findings.invalid(&path.child("value"), value, detail);
        }
    }
}

fn check_selectors(object: &Value, at: &str, path: &FieldPath, findings: &mut Findings) {
    let selectors = tree::items(object, at);
    check_length(selectors, LIST_MAX, path, findings);
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index).child("cel");
        let Some(cel) = tree::get(selector, "cel") else {
            findings.required(&path, "");
            continue;
        };
        let (expression, path) = (tree::text(cel, "expression"), path.child("expression"));
        if expression.len() > EXPRESSION_BYTES_MAX {
            findings.too_long(&path, EXPRESSION_BYTES_MAX);
            continue;
        }
        match devices::check_expression(expression) {
            Ok(()) => {}
            Err(Unusable::Invalid(why)) => findings.invalid(&path, expression, &why),
            Err(Unusable::TooDear) => {
                findings.forbidden(&path, "too complex, exceeds cost limit");
            }
        }
    }
}

/// Who is named must be there.
fn check_references(object: &Value, requests: &[Value], path: &FieldPath, findings: &mut Findings) {
    for (index, name) in tree::items(object, "requests").iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let (request, alternative) = match name.split_once('/') {
            Some((request, alternative)) => (request, Some(alternative)),
            None => (name, None),
        };
        let named = |list: &[Value], name: &str| {
            list.iter()
                .find(|one| tree::text(one, "name") == name)
                .cloned()
        };
        let known = named(requests, request).is_some_and(|request| {
            alternative
                .is_none_or(|name| named(tree::items(&request, "firstAvailable"), name).is_some())
        });
        if !known {
            let path = path.child("requests").index(index);
            findings.invalid(&path, name, REFERENCE);
        }
    }
}

fn check_config(
    object: &Value,
    at: &str,
    path: &FieldPath,
    requests: Option<&[Value]>,
    findings: &mut Findings,
) {
    let all = tree::items(object, at);
    check_length(all, LIST_MAX, path, findings);
    for (index, config) in all.iter().enumerate() {
        let path = path.index(index);
        if let Some(requests) = requests {
            check_references(config, requests, &path, findings);
        }
        match tree::get(config, "opaque") {
            None => findings.required(&path.child("opaque"), ""),
            Some(opaque) if tree::text(opaque, "driver").is_empty() => {
                findings.required(&path.child("opaque").child("driver"), "");
            }
            Some(_) => {}
        }
    }
}

fn check_claim_update(
    new: &Value,
    old: &Value,
    subresource: Option<&str>,
    findings: &mut Findings,
) {
    if subresource.is_none() {
        findings.immutable(&FieldPath::new("spec"), new, old, "spec");
        return;
    }
    let status = FieldPath::new("status");
    let (users, before) = (
        tree::items(new, "status.reservedFor"),
        tree::items(old, "status.reservedFor"),
    );
    let path = status.child("reservedFor");
    check_length(users, RESERVED_FOR_MAX, &path, findings);
    let mut seen = std::collections::BTreeSet::new();
    for (index, user) in users.iter().enumerate() {
        let path = path.index(index);
        for field in ["resource", "name", "uid"] {
            if tree::text(user, field).is_empty() {
                findings.required(&path.child(field), "");
            }
        }
        if !seen.insert(tree::text(user, "uid")) {
            findings.duplicate(&path, tree::text(user, "uid"));
        }
    }
    let allocation = tree::get(new, "status.allocation");
    if !users.is_empty() && allocation.is_none() {
        findings.forbidden(&path, "may not be specified when `allocated` is not set");
    }
    let going = tree::get(new, "metadata.deletionTimestamp").is_some();
    if going && users.iter().any(|user| !before.contains(user)) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        findings.forbidden(&path, detail);
    }
    let path = status.child("allocation");
    match (tree::get(old, "status.allocation"), allocation) {
        (Some(_), Some(_)) => findings.immutable(&path, new, old, "status.allocation"),
        (None, Some(allocation)) => {
            let results = tree::items(allocation, "devices.results");
            let path = path.child("devices").child("results");
            check_length(results, RESULTS_MAX, &path, findings);
            for (index, result) in results.iter().enumerate() {
                let path = path.index(index);
                for field in ["request", "driver", "pool", "device"] {
                    if tree::text(result, field).is_empty() {
                        findings.required(&path.child(field), "");
                    }
                }
            }
        }
        _ => {}
    }
}

// ---- slices

fn check_slice(slice: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec");
    let spec = tree::get(slice, "spec").unwrap_or(&Value::Null);
    let driver = tree::text(spec, "driver");
    if driver.is_empty() {
        findings.required(&path.child("driver"), "");
    } else {
        let wrong = meta::names::dns1123_subdomain(&driver.to_lowercase());
        findings.each(&path.child("driver"), driver, wrong);
    }
    let pool = path.child("pool");
    if tree::text(spec, "pool.name").is_empty() {
        findings.required(&pool.child("name"), "");
    }
    let generation = tree::int(spec, "pool.generation").unwrap_or(0);
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        findings.invalid(&pool.child("generation"), generation, detail);
    }
    let count = tree::int(spec, "pool.resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        let detail = "must be greater than zero";
        findings.invalid(&pool.child("resourceSliceCount"), count, detail);
    }
    let counters = tree::items(spec, "sharedCounters");
    let list = path.child("sharedCounters");
    check_length(counters, COUNTER_SETS_MAX, &list, findings);
    check_names(counters, &list, findings);
    check_place(spec, &path, !counters.is_empty(), findings);
    let devices = tree::items(spec, "devices");
    let list = path.child("devices");
    let advanced = devices.iter().any(|device| {
        !tree::items(device, "taints").is_empty()
            || !tree::items(device, "consumesCounters").is_empty()
    });
    let max = if advanced {
        ADVANCED_DEVICES_MAX
    } else {
        DEVICES_MAX
    };
    check_length(devices, max, &list, findings);
    check_names(devices, &list, findings);
    for (index, device) in devices.iter().enumerate() {
        check_device(device, &list.index(index), findings);
    }
}

/// From where it can be reached is said in one way.
fn check_place(spec: &Value, path: &FieldPath, only_counters: bool, findings: &mut Findings) {
    let mut given: Vec<&str> = Vec::new();
    if !tree::text(spec, "nodeName").is_empty() {
        given.push("`nodeName`");
    }
    if tree::get(spec, "nodeSelector").is_some() {
        given.push("`nodeSelector`");
    }
    if tree::flag(spec, "allNodes") {
        given.push("`allNodes`");
    }
    if tree::flag(spec, "perDeviceNodeSelection") {
        given.push("`perDeviceNodeSelection`");
    }
    let rule = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 if only_counters => {}
        0 => findings.required(path, rule),
        1 => {}
        _ => {
            let detail = format!("{rule}, but multiple fields are set");
            findings.invalid(path, format!("{{{}}}", given.join(", ")), &detail);
        }
    }
    let selector = path.child("nodeSelector").child("nodeSelectorTerms");
    let terms = tree::items(spec, "nodeSelector.nodeSelectorTerms");
    if tree::get(spec, "nodeSelector").is_some() && terms.len() != 1 {
        let detail = "must have exactly one node selector term";
        findings.invalid(&selector, terms.len(), detail);
    }
}

fn check_device(device: &Value, path: &FieldPath, findings: &mut Findings) {
    let empty = tree::Map::new();
    let attributes = tree::map(device, "attributes").unwrap_or(&empty);
    let capacity = tree::map(device, "capacity").unwrap_or(&empty);
    let both = attributes.len() + capacity.len();
    if both > ATTRIBUTES_MAX {
        let detail = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}"
        );
        findings.invalid(path, both, &detail);
    }
    for (name, value) in attributes {
        let path = path.child("attributes").key(name.as_str());
        let given = value.as_object().map_or(0, |values| values.len());
        if given != 1 {
            let detail = "exactly one value must be specified";
            findings.invalid(&path, value.clone(), detail);
        }
        for field in ["string", "version"] {
            if tree::text(value, field).len() > ATTRIBUTE_BYTES_MAX {
                findings.too_long(&path.child(field), ATTRIBUTE_BYTES_MAX);
            }
        }
    }
    for (index, taint) in tree::items(device, "taints").iter().enumerate() {
        let path = path.child("taints").index(index);
        if tree::text(taint, "key").is_empty() {
            findings.required(&path.child("key"), "");
        }
        findings.one_of(
            &path.child("effect"),
            tree::text(taint, "effect"),
            &["NoExecute", "NoSchedule", "None"],
            true,
        );
    }
}
