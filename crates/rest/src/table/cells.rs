//! The cells of every built-in kind but pods, one function a kind, in the order of its columns.
//! Knows neither titles nor the table around the cells; what is absent reads as upstream shows it.

use std::collections::BTreeSet;

use meta::labels::LabelSelector;
use meta::object::{
    annotation, array_at, at, bool_at, controller_of, creation_timestamp, i64_at, is_deleting,
    labels, map_at, name, str_at,
};
use meta::{GroupKind, GroupResource, Value, intstr, parse_api_version, time};

/// Addresses, ports or servers named before the rest is only counted.
const LISTED_MAX: usize = 3;
/// Metrics shown before the rest is only counted.
const METRICS_MAX: usize = 2;

/// Time since creation.
pub(super) fn age(object: &Value, now_micros: i64) -> Value {
    time::age(creation_timestamp(object), now_micros).into()
}

/// The text, or `<none>` if it is absent or empty.
pub(super) fn or_none(text: Option<&str>) -> Value {
    or(text, "<none>")
}

/// Whether the status has a true condition of this type.
pub(super) fn condition_is_true(object: &Value, condition: &str) -> bool {
    condition_status(object, condition) == Some("True")
}

fn condition_status<'a>(object: &'a Value, wanted: &str) -> Option<&'a str> {
    let conditions = array_at(object, &["status", "conditions"]);
    let condition = conditions
        .iter()
        .find(|condition| str_at(condition, &["type"]) == Some(wanted))?;
    str_at(condition, &["status"])
}

fn or(text: Option<&str>, otherwise: &str) -> Value {
    text.filter(|text| !text.is_empty())
        .unwrap_or(otherwise)
        .into()
}

fn name_cell(object: &Value) -> Value {
    name(object).into()
}

fn text_of<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    str_at(object, path).unwrap_or_default()
}

fn text(object: &Value, path: &[&str]) -> Value {
    text_of(object, path).into()
}

fn number_of(object: &Value, path: &[&str]) -> i64 {
    i64_at(object, path).unwrap_or(0)
}

fn number(object: &Value, path: &[&str]) -> Value {
    number_of(object, path).into()
}

fn flag(object: &Value, path: &[&str], otherwise: bool) -> Value {
    bool_at(object, path).unwrap_or(otherwise).into()
}

fn count(object: &Value, path: &[&str]) -> Value {
    array_at(object, path).len().into()
}

fn entries(object: &Value, path: &[&str]) -> usize {
    map_at(object, path).map_or(0, value::Map::len)
}

fn joined(values: &[Value], separator: &str) -> String {
    values
        .iter()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(separator)
}

/// `a=1,b=2`, or `<none>`.
fn label_map(map: &Value) -> Value {
    let pairs = map.as_object().into_iter().flatten();
    let texts: Vec<String> = pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(Some(&texts.join(",")))
}

/// A LabelSelector object as text, or `<none>`.
fn selector(selector: &Value) -> Value {
    match LabelSelector::from_object(selector) {
        Ok(selector) => or_none(Some(&selector.to_string())),
        Err(_) => "<error>".into(),
    }
}

/// Names and images of the containers of a pod template.
fn containers(template: &Value) -> [Value; 2] {
    let containers = array_at(template, &["spec", "containers"]);
    ["name", "image"].map(|field| {
        let texts: Vec<&str> = containers
            .iter()
            .map(|container| text_of(container, &[field]))
            .collect();
        texts.join(",").into()
    })
}

/// The first few of a list, and how many more there are.
fn first_few(items: Vec<String>, max: usize, separator: &str, empty: &str) -> Value {
    match items.len() {
        0 => empty.into(),
        total if total > max => {
            format!("{} + {} more...", items[..max].join(separator), total - max).into()
        }
        _ => items.join(separator).into(),
    }
}

/// Time from one time text to another, or to now.
fn span(start: Option<&str>, end: Option<&str>, now_micros: i64) -> String {
    let Some(start) = start.and_then(|start| time::parse(start).ok()) else {
        return String::new();
    };
    let end = end
        .and_then(|end| time::parse(end).ok())
        .unwrap_or(now_micros);
    time::human_duration(end.saturating_sub(start))
}

pub(super) fn name_and_age(object: &Value, now: i64) -> Vec<Value> {
    vec![name_cell(object), age(object, now)]
}

pub(super) fn pod_template(object: &Value, _now: i64) -> Vec<Value> {
    let template = at(object, &["template"]);
    let [names, images] = containers(template);
    vec![
        name_cell(object),
        names,
        images,
        label_map(labels(template)),
    ]
}

pub(super) fn pod_disruption_budget(object: &Value, now: i64) -> Vec<Value> {
    let bound = |field| match at(object, &["spec", field]) {
        Value::Null => Value::from("N/A"),
        bound => intstr::text(bound).into(),
    };
    let allowed = number(object, &["status", "disruptionsAllowed"]);
    vec![
        name_cell(object),
        bound("minAvailable"),
        bound("maxUnavailable"),
        allowed,
        age(object, now),
    ]
}

pub(super) fn replication_controller(object: &Value, now: i64) -> Vec<Value> {
    let mut cells = replicas(object, now);
    cells.push(label_map(at(object, &["spec", "selector"])));
    cells
}

pub(super) fn replica_set(object: &Value, now: i64) -> Vec<Value> {
    let mut cells = replicas(object, now);
    cells.push(selector(at(object, &["spec", "selector"])));
    cells
}

fn replicas(object: &Value, now: i64) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template"]));
    vec![
        name_cell(object),
        number(object, &["spec", "replicas"]),
        number(object, &["status", "replicas"]),
        number(object, &["status", "readyReplicas"]),
        age(object, now),
        names,
        images,
    ]
}

pub(super) fn daemon_set(object: &Value, now: i64) -> Vec<Value> {
    let template = at(object, &["spec", "template"]);
    let [names, images] = containers(template);
    let status = |field| number(object, &["status", field]);
    vec![
        name_cell(object),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        label_map(at(template, &["spec", "nodeSelector"])),
        age(object, now),
        names,
        images,
        selector(at(object, &["spec", "selector"])),
    ]
}

fn ready_of_wanted(object: &Value) -> Value {
    let ready = number_of(object, &["status", "readyReplicas"]);
    format!("{ready}/{}", number_of(object, &["spec", "replicas"])).into()
}

pub(super) fn deployment(object: &Value, now: i64) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template"]));
    let selector = LabelSelector::from_object(at(object, &["spec", "selector"]));
    vec![
        name_cell(object),
        ready_of_wanted(object),
        number(object, &["status", "updatedReplicas"]),
        number(object, &["status", "availableReplicas"]),
        age(object, now),
        names,
        images,
        selector
            .map_or_else(|_| "<invalid>".to_owned(), |selector| selector.to_string())
            .into(),
    ]
}

pub(super) fn stateful_set(object: &Value, now: i64) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template"]));
    vec![
        name_cell(object),
        ready_of_wanted(object),
        age(object, now),
        names,
        images,
    ]
}

pub(super) fn controller_revision(object: &Value, now: i64) -> Vec<Value> {
    let controller = controller_of(object).map(|owner| {
        let group =
            parse_api_version(text_of(owner, &["apiVersion"])).map_or("", |(group, _)| group);
        let kind = GroupKind::new(group, text_of(owner, &["kind"]))
            .to_string()
            .to_lowercase();
        format!("{kind}/{}", text_of(owner, &["name"]))
    });
    vec![
        name_cell(object),
        or_none(controller.as_deref()),
        number(object, &["revision"]),
        age(object, now),
    ]
}

pub(super) fn job(object: &Value, now: i64) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template"]));
    let succeeded = number_of(object, &["status", "succeeded"]);
    let parallelism = number_of(object, &["spec", "parallelism"]);
    let completions = match i64_at(object, &["spec", "completions"]) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let (start, end) = (
        str_at(object, &["status", "startTime"]),
        str_at(object, &["status", "completionTime"]),
    );
    vec![
        name_cell(object),
        job_status(object).into(),
        completions.into(),
        span(start, end, now).into(),
        age(object, now),
        names,
        images,
        selector(at(object, &["spec", "selector"])),
    ]
}

fn job_status(job: &Value) -> &'static str {
    match () {
        () if condition_is_true(job, "Complete") => "Complete",
        () if condition_is_true(job, "Failed") => "Failed",
        () if is_deleting(job) => "Terminating",
        () if condition_is_true(job, "Suspended") => "Suspended",
        () if condition_is_true(job, "FailureTarget") => "FailureTarget",
        () => "Running",
    }
}

pub(super) fn cron_job(object: &Value, now: i64) -> Vec<Value> {
    let job = at(object, &["spec", "jobTemplate", "spec"]);
    let [names, images] = containers(at(job, &["template"]));
    let suspend = match bool_at(object, &["spec", "suspend"]) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last =
        str_at(object, &["status", "lastScheduleTime"]).map(|last| time::age(Some(last), now));
    vec![
        name_cell(object),
        text(object, &["spec", "schedule"]),
        or_none(str_at(object, &["spec", "timeZone"])),
        suspend.into(),
        count(object, &["status", "active"]),
        or_none(last.as_deref()),
        age(object, now),
        names,
        images,
        selector(at(job, &["selector"])),
    ]
}

pub(super) fn service(object: &Value, now: i64) -> Vec<Value> {
    let first_ip = array_at(object, &["spec", "clusterIPs"])
        .first()
        .and_then(Value::as_str);
    let ports: Vec<String> = array_at(object, &["spec", "ports"])
        .iter()
        .map(service_port)
        .collect();
    vec![
        name_cell(object),
        text(object, &["spec", "type"]),
        or_none(first_ip.or_else(|| str_at(object, &["spec", "clusterIP"]))),
        external_ip(object).into(),
        or_none(Some(&ports.join(","))),
        age(object, now),
        label_map(at(object, &["spec", "selector"])),
    ]
}

fn service_port(port: &Value) -> String {
    let (number, protocol) = (number_of(port, &["port"]), text_of(port, &["protocol"]));
    match number_of(port, &["nodePort"]) {
        node_port if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
        _ => format!("{number}/{protocol}"),
    }
}

fn external_ip(service: &Value) -> String {
    let external = joined(array_at(service, &["spec", "externalIPs"]), ",");
    match text_of(service, &["spec", "type"]) {
        "ExternalName" => text_of(service, &["spec", "externalName"]).to_owned(),
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external,
        "LoadBalancer" => {
            let parts = [load_balancer(service), external];
            let parts: Vec<&str> = parts
                .iter()
                .map(String::as_str)
                .filter(|part| !part.is_empty())
                .collect();
            if parts.is_empty() {
                "<pending>".to_owned()
            } else {
                parts.join(",")
            }
        }
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or names of a load balancer, sorted and once each.
fn load_balancer(object: &Value) -> String {
    let ingress = array_at(object, &["status", "loadBalancer", "ingress"]);
    let points: BTreeSet<&str> = ingress
        .iter()
        .map(|point| {
            Some(text_of(point, &["ip"]))
                .filter(|ip| !ip.is_empty())
                .unwrap_or(text_of(point, &["hostname"]))
        })
        .filter(|point| !point.is_empty())
        .collect();
    points.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn ingress(object: &Value, now: i64) -> Vec<Value> {
    let tls = array_at(object, &["spec", "tls"]);
    vec![
        name_cell(object),
        or_none(str_at(object, &["spec", "ingressClassName"])),
        hosts(array_at(object, &["spec", "rules"])).into(),
        load_balancer(object).into(),
        if tls.is_empty() { "80" } else { "80, 443" }.into(),
        age(object, now),
    ]
}

/// Rules without a host count among the rest once the first few hosts are named, as upstream counts.
fn hosts(rules: &[Value]) -> String {
    let mut named = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| !text_of(rule, &["host"]).is_empty());
    let first: Vec<(usize, &Value)> = named.by_ref().take(LISTED_MAX).collect();
    let texts: Vec<&str> = first
        .iter()
        .map(|(_, rule)| text_of(rule, &["host"]))
        .collect();
    match first.last() {
        None => "*".to_owned(),
        Some((last, _)) if texts.len() == LISTED_MAX && last + 1 < rules.len() => {
            format!("{} + {} more...", texts.join(","), rules.len() - LISTED_MAX)
        }
        Some(_) => texts.join(","),
    }
}

pub(super) fn ingress_class(object: &Value, now: i64) -> Vec<Value> {
    let parameters = at(object, &["spec", "parameters"]);
    let described = parameters.is_object().then(|| {
        let group = str_at(parameters, &["apiGroup"])
            .map(|group| format!(".{group}"))
            .unwrap_or_default();
        format!(
            "{}{group}/{}",
            text_of(parameters, &["kind"]),
            text_of(parameters, &["name"])
        )
    });
    vec![
        name_cell(object),
        text(object, &["spec", "controller"]),
        or_none(described.as_deref()),
        age(object, now),
    ]
}

pub(super) fn network_policy(object: &Value, now: i64) -> Vec<Value> {
    let pods = match at(object, &["spec", "podSelector"]) {
        // Not a pointer: absent selects all pods, as empty does.
        Value::Null => "<none>".into(),
        pods => selector(pods),
    };
    vec![name_cell(object), pods, age(object, now)]
}

pub(super) fn service_cidr(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        joined(array_at(object, &["spec", "cidrs"]), ",").into(),
        age(object, now),
    ]
}

pub(super) fn ip_address(object: &Value, _now: i64) -> Vec<Value> {
    let parent = at(object, &["spec", "parentRef"]);
    let described = parent.is_object().then(|| {
        let resource =
            GroupResource::new(text_of(parent, &["group"]), text_of(parent, &["resource"]));
        let namespace = match text_of(parent, &["namespace"]) {
            "" => String::new(),
            namespace => format!("/{namespace}"),
        };
        format!(
            "{}{namespace}/{}",
            resource.to_string().to_lowercase(),
            text_of(parent, &["name"])
        )
    });
    vec![name_cell(object), or_none(described.as_deref())]
}

pub(super) fn endpoints(object: &Value, now: i64) -> Vec<Value> {
    let subsets = array_at(object, &["subsets"]);
    let mut points = Vec::new();
    for subset in subsets {
        let ips = || {
            array_at(subset, &["addresses"])
                .iter()
                .map(|address| text_of(address, &["ip"]))
        };
        let ports = array_at(subset, &["ports"]);
        if ports.is_empty() {
            points.extend(ips().map(str::to_owned));
        }
        for port in ports {
            points.extend(ips().map(|ip| host_port(ip, number_of(port, &["port"]))));
        }
    }
    let empty = if subsets.is_empty() { "<none>" } else { "" };
    vec![
        name_cell(object),
        first_few(points, LISTED_MAX, ",", empty),
        age(object, now),
    ]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

pub(super) fn endpoint_slice(object: &Value, now: i64) -> Vec<Value> {
    let ports = array_at(object, &["ports"])
        .iter()
        .map(|port| match i64_at(port, &["port"]) {
            Some(number) => number.to_string(),
            None => str_at(port, &["name"]).unwrap_or("*").to_owned(),
        });
    let addresses = array_at(object, &["endpoints"])
        .iter()
        .flat_map(|endpoint| array_at(endpoint, &["addresses"]))
        .filter_map(Value::as_str)
        .map(str::to_owned);
    vec![
        name_cell(object),
        text(object, &["addressType"]),
        first_few(ports.collect(), LISTED_MAX, ",", "<unset>"),
        first_few(addresses.collect(), LISTED_MAX, ",", "<unset>"),
        age(object, now),
    ]
}

pub(super) fn node(object: &Value, now: i64) -> Vec<Value> {
    let mut status = match condition_status(object, "Ready") {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if bool_at(object, &["spec", "unschedulable"]) == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind| {
        let addresses = array_at(object, &["status", "addresses"]);
        let found = addresses
            .iter()
            .find(|address| str_at(address, &["type"]) == Some(kind));
        or_none(found.and_then(|address| str_at(address, &["address"])))
    };
    let info = |field| str_at(object, &["status", "nodeInfo", field]);
    vec![
        name_cell(object),
        status.into(),
        or_none(Some(&node_roles(object))),
        age(object, now),
        info("kubeletVersion").unwrap_or_default().into(),
        address("InternalIP"),
        address("ExternalIP"),
        or(info("osImage"), "<unknown>"),
        or(info("kernelVersion"), "<unknown>"),
        or(info("containerRuntimeVersion"), "<unknown>"),
    ]
}

/// Roles from `node-role.kubernetes.io/ROLE` and `kubernetes.io/role: ROLE`, sorted.
fn node_roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in labels(node).as_object().into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => continue,
        };
        if !role.is_empty() {
            roles.insert(role);
        }
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

/// Events of both groups: the newer one names some fields differently.
pub(super) fn event(object: &Value, now: i64) -> Vec<Value> {
    let either = |old: &[&str], new: &[&str]| {
        let set = |path: &[&str]| str_at(object, path).filter(|text| !text.is_empty());
        set(old).or_else(|| set(new))
    };
    let first = either(&["firstTimestamp"], &["deprecatedFirstTimestamp"])
        .or_else(|| str_at(object, &["eventTime"]));
    let series = at(object, &["series"]);
    let last = if series.is_object() {
        str_at(series, &["lastObservedTime"])
    } else {
        either(&["lastTimestamp"], &["deprecatedLastTimestamp"]).or(first)
    };
    let old_count = i64_at(object, &["count"])
        .or_else(|| i64_at(object, &["deprecatedCount"]))
        .unwrap_or(0);
    let count = match series.is_object() {
        true => number_of(series, &["count"]),
        // Single events of the newer group carry no count.
        false => {
            if old_count == 0 {
                1
            } else {
                old_count
            }
        }
    };
    let about =
        |field| either(&["involvedObject", field], &["regarding", field]).unwrap_or_default();
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() {
        kind
    } else {
        format!("{kind}/{}", about("name"))
    };
    let source = |old, new: &str| {
        either(&["source", old], &["deprecatedSource", old])
            .or_else(|| str_at(object, &[new]))
            .unwrap_or_default()
    };
    let component = match source("component", "reportingComponent") {
        "" => text_of(object, &["reportingController"]),
        component => component,
    };
    let source = match source("host", "reportingInstance") {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    };
    vec![
        time::age(last, now).into(),
        text(object, &["type"]),
        text(object, &["reason"]),
        target.into(),
        about("fieldPath").into(),
        source.into(),
        either(&["message"], &["note"])
            .unwrap_or_default()
            .trim()
            .into(),
        time::age(first, now).into(),
        count.into(),
        name_cell(object),
    ]
}

pub(super) fn namespace(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        text(object, &["status", "phase"]),
        age(object, now),
    ]
}

pub(super) fn secret(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        text(object, &["type"]),
        entries(object, &["data"]).into(),
        age(object, now),
    ]
}

pub(super) fn config_map(object: &Value, now: i64) -> Vec<Value> {
    let data = entries(object, &["data"]) + entries(object, &["binaryData"]);
    vec![name_cell(object), data.into(), age(object, now)]
}

pub(super) fn service_account(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        count(object, &["secrets"]),
        age(object, now),
    ]
}

pub(super) fn persistent_volume(object: &Value, now: i64) -> Vec<Value> {
    let claim = at(object, &["spec", "claimRef"]);
    let claim = match claim.is_object() {
        true => format!(
            "{}/{}",
            text_of(claim, &["namespace"]),
            text_of(claim, &["name"])
        ),
        false => String::new(),
    };
    vec![
        name_cell(object),
        or(str_at(object, &["spec", "capacity", "storage"]), "0"),
        access_modes(at(object, &["spec", "accessModes"])),
        text(object, &["spec", "persistentVolumeReclaimPolicy"]),
        phase_or_terminating(object),
        claim.into(),
        volume_class(object),
        or(
            str_at(object, &["spec", "volumeAttributesClassName"]),
            "<unset>",
        ),
        text(object, &["status", "reason"]),
        age(object, now),
        or(str_at(object, &["spec", "volumeMode"]), "<unset>"),
    ]
}

pub(super) fn persistent_volume_claim(object: &Value, now: i64) -> Vec<Value> {
    let volume = text_of(object, &["spec", "volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        ("".into(), "".into())
    } else {
        (
            or(str_at(object, &["status", "capacity", "storage"]), "0"),
            access_modes(at(object, &["status", "accessModes"])),
        )
    };
    vec![
        name_cell(object),
        phase_or_terminating(object),
        volume.into(),
        capacity,
        modes,
        volume_class(object),
        or(
            str_at(object, &["spec", "volumeAttributesClassName"]),
            "<unset>",
        ),
        age(object, now),
        or(str_at(object, &["spec", "volumeMode"]), "<unset>"),
    ]
}

fn phase_or_terminating(object: &Value) -> Value {
    if is_deleting(object) {
        "Terminating".into()
    } else {
        text(object, &["status", "phase"])
    }
}

/// The old annotation goes before the field.
fn volume_class(object: &Value) -> Value {
    let old = annotation(object, "volume.beta.kubernetes.io/storage-class");
    old.unwrap_or(text_of(object, &["spec", "storageClassName"]))
        .into()
}

fn access_modes(modes: &Value) -> Value {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let modes = modes.as_array().map(Vec::as_slice).unwrap_or_default();
    let given = SHORT
        .iter()
        .filter(|(mode, _)| modes.iter().any(|given| given == mode));
    given
        .map(|(_, short)| *short)
        .collect::<Vec<_>>()
        .join(",")
        .into()
}

pub(super) fn component_status(object: &Value, _now: i64) -> Vec<Value> {
    let conditions = array_at(object, &["conditions"]);
    let health = conditions
        .iter()
        .find(|condition| str_at(condition, &["type"]) == Some("Healthy"));
    let health = health.unwrap_or(&Value::Null);
    let status = match str_at(health, &["status"]) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    vec![
        name_cell(object),
        status.into(),
        text(health, &["message"]),
        text(health, &["error"]),
    ]
}

pub(super) fn resource_quota(object: &Value, now: i64) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in map_at(object, &["status", "hard"]).into_iter().flatten() {
        let used = str_at(object, &["status", "used", resource]).unwrap_or("0");
        let column = if resource.starts_with("limits.") {
            &mut limits
        } else {
            &mut requests
        };
        column.push(format!(
            "{resource}: {used}/{}",
            hard.as_str().unwrap_or("0")
        ));
    }
    vec![
        name_cell(object),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age(object, now),
    ]
}

pub(super) fn status(object: &Value, _now: i64) -> Vec<Value> {
    vec![
        text(object, &["status"]),
        text(object, &["reason"]),
        text(object, &["message"]),
    ]
}

pub(super) fn horizontal_pod_autoscaler(object: &Value, now: i64) -> Vec<Value> {
    let target = at(object, &["spec", "scaleTargetRef"]);
    let least = i64_at(object, &["spec", "minReplicas"]).map(|least| least.to_string());
    vec![
        name_cell(object),
        format!(
            "{}/{}",
            text_of(target, &["kind"]),
            text_of(target, &["name"])
        )
        .into(),
        metrics(object),
        or(least.as_deref(), "<unset>"),
        number(object, &["spec", "maxReplicas"]),
        number(object, &["status", "currentReplicas"]),
        age(object, now),
    ]
}

fn metrics(autoscaler: &Value) -> Value {
    let statuses = array_at(autoscaler, &["status", "currentMetrics"]);
    let specs = array_at(autoscaler, &["spec", "metrics"]);
    let mut texts: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| metric(spec, statuses.get(index).unwrap_or(&Value::Null)))
        .collect();
    // The first version of the API knows CPU alone.
    if let Some(wanted) = i64_at(autoscaler, &["spec", "targetCPUUtilizationPercentage"]) {
        let current = i64_at(autoscaler, &["status", "currentCPUUtilizationPercentage"]);
        texts.insert(
            0,
            format!("cpu: {}/{wanted}%", percent_or(current, "<unknown>")),
        );
    }
    first_few(texts, METRICS_MAX, ", ", "<none>")
}

/// `current/target` of one metric.
fn metric(spec: &Value, status: &Value) -> String {
    let (field, named, average_note) = match text_of(spec, &["type"]) {
        "Resource" => ("resource", true, ""),
        "ContainerResource" => ("containerResource", true, ""),
        "Pods" => ("pods", false, ""),
        "Object" => ("object", false, " (avg)"),
        "External" => ("external", false, " (avg)"),
        _ => return "<unknown type>".to_owned(),
    };
    let target = at(spec, &[field, "target"]);
    let current = at(status, &[field, "current"]);
    let prefix = if named {
        format!("{}: ", text_of(spec, &[field, "name"]))
    } else {
        String::new()
    };
    if let Some(wanted) = str_at(target, &["averageValue"]) {
        let current = str_at(current, &["averageValue"]).unwrap_or("<unknown>");
        return format!("{prefix}{current}/{wanted}{average_note}");
    }
    if named {
        let current = percent_or(i64_at(current, &["averageUtilization"]), "<unknown>");
        return format!(
            "{prefix}{current}/{}",
            percent_or(i64_at(target, &["averageUtilization"]), "<auto>")
        );
    }
    let current = str_at(current, &["value"]).unwrap_or("<unknown>");
    format!("{current}/{}", str_at(target, &["value"]).unwrap_or("0"))
}

fn percent_or(percent: Option<i64>, otherwise: &str) -> String {
    percent.map_or_else(|| otherwise.to_owned(), |percent| format!("{percent}%"))
}

pub(super) fn scale(object: &Value, now: i64) -> Vec<Value> {
    let (wanted, present) = (
        number(object, &["spec", "replicas"]),
        number(object, &["status", "replicas"]),
    );
    vec![name_cell(object), wanted, present, age(object, now)]
}

pub(super) fn role_binding(object: &Value, now: i64) -> Vec<Value> {
    let role = at(object, &["roleRef"]);
    let subjects = |kind| -> Value {
        let of_kind = array_at(object, &["subjects"])
            .iter()
            .filter(|s| str_at(s, &["kind"]) == Some(kind));
        let names = of_kind.map(|subject| match kind {
            "ServiceAccount" => format!(
                "{}/{}",
                text_of(subject, &["namespace"]),
                text_of(subject, &["name"])
            ),
            _ => text_of(subject, &["name"]).to_owned(),
        });
        names.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        name_cell(object),
        format!("{}/{}", text_of(role, &["kind"]), text_of(role, &["name"])).into(),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(super) fn certificate_signing_request(object: &Value, now: i64) -> Vec<Value> {
    let duration = i64_at(object, &["spec", "expirationSeconds"])
        .map(|seconds| time::human_duration(seconds.saturating_mul(time::MICROS_PER_SECOND)));
    vec![
        name_cell(object),
        age(object, now),
        or_none(str_at(object, &["spec", "signerName"])),
        text(object, &["spec", "username"]),
        or_none(duration.as_deref()),
        signing_condition(object).into(),
    ]
}

fn signing_condition(request: &Value) -> String {
    let conditions = array_at(request, &["status", "conditions"]);
    let has = |kind| {
        conditions
            .iter()
            .any(|condition| str_at(condition, &["type"]) == Some(kind))
    };
    let decision = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text_of(request, &["status", "certificate"]).is_empty() {
        ""
    } else {
        ",Issued"
    };
    format!("{decision}{failed}{issued}")
}

pub(super) fn cluster_trust_bundle(object: &Value, _now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        or_none(str_at(object, &["spec", "signerName"])),
    ]
}

pub(super) fn lease(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        text(object, &["spec", "holderIdentity"]),
        age(object, now),
    ]
}

pub(super) fn lease_candidate(object: &Value, now: i64) -> Vec<Value> {
    let spec = |field| text(object, &["spec", field]);
    vec![
        name_cell(object),
        spec("leaseName"),
        spec("binaryVersion"),
        spec("emulationVersion"),
        age(object, now),
    ]
}

fn name_with_default(object: &Value, annotations: &[&str]) -> Value {
    let default = annotations
        .iter()
        .any(|key| annotation(object, key) == Some("true"));
    format!(
        "{}{}",
        name(object),
        if default { " (default)" } else { "" }
    )
    .into()
}

pub(super) fn storage_class(object: &Value, now: i64) -> Vec<Value> {
    let default_marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    vec![
        name_with_default(object, &default_marks),
        text(object, &["provisioner"]),
        or(str_at(object, &["reclaimPolicy"]), "Delete"),
        or(str_at(object, &["volumeBindingMode"]), "Immediate"),
        flag(object, &["allowVolumeExpansion"], false),
        age(object, now),
    ]
}

pub(super) fn volume_attributes_class(object: &Value, now: i64) -> Vec<Value> {
    let default_mark = ["volumeattributesclass.alpha.kubernetes.io/is-default-class"];
    vec![
        name_with_default(object, &default_mark),
        text(object, &["driverName"]),
        age(object, now),
    ]
}

pub(super) fn volume_attachment(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        text(object, &["spec", "attacher"]),
        text(object, &["spec", "source", "persistentVolumeName"]),
        text(object, &["spec", "nodeName"]),
        flag(object, &["status", "attached"], false),
        age(object, now),
    ]
}

pub(super) fn csi_node(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        count(object, &["spec", "drivers"]),
        age(object, now),
    ]
}

pub(super) fn csi_driver(object: &Value, now: i64) -> Vec<Value> {
    let requests = at(object, &["spec", "tokenRequests"]).as_array();
    let audiences = requests.map_or_else(
        || "<unset>".to_owned(),
        |requests| {
            requests
                .iter()
                .map(|r| text_of(r, &["audience"]))
                .collect::<Vec<_>>()
                .join(",")
        },
    );
    vec![
        name_cell(object),
        flag(object, &["spec", "attachRequired"], true),
        flag(object, &["spec", "podInfoOnMount"], false),
        flag(object, &["spec", "storageCapacity"], false),
        audiences.into(),
        flag(object, &["spec", "requiresRepublish"], false),
        or_none(Some(&joined(
            array_at(object, &["spec", "volumeLifecycleModes"]),
            ",",
        ))),
        age(object, now),
    ]
}

pub(super) fn csi_storage_capacity(object: &Value, _now: i64) -> Vec<Value> {
    let capacity = or(str_at(object, &["capacity"]), "<unset>");
    vec![
        name_cell(object),
        text(object, &["storageClassName"]),
        capacity,
    ]
}

pub(super) fn priority_class(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        number(object, &["value"]),
        flag(object, &["globalDefault"], false),
        age(object, now),
        text(object, &["preemptionPolicy"]),
    ]
}

pub(super) fn runtime_class(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        text(object, &["handler"]),
        age(object, now),
    ]
}

pub(super) fn webhooks(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        count(object, &["webhooks"]),
        age(object, now),
    ]
}

pub(super) fn validating_policy(object: &Value, now: i64) -> Vec<Value> {
    policy(object, "validations", now)
}

pub(super) fn mutating_policy(object: &Value, now: i64) -> Vec<Value> {
    policy(object, "mutations", now)
}

fn policy(object: &Value, rules: &str, now: i64) -> Vec<Value> {
    let parameter = at(object, &["spec", "paramKind"]);
    let parameter = parameter.is_object().then(|| {
        format!(
            "{}/{}",
            text_of(parameter, &["apiVersion"]),
            text_of(parameter, &["kind"])
        )
    });
    vec![
        name_cell(object),
        count(object, &["spec", rules]),
        or(parameter.as_deref(), "<unset>"),
        age(object, now),
    ]
}

pub(super) fn policy_binding(object: &Value, now: i64) -> Vec<Value> {
    let parameter = at(object, &["spec", "paramRef"]);
    let chosen = at(parameter, &["selector"]);
    let described = match (
        text_of(parameter, &["namespace"]),
        text_of(parameter, &["name"]),
    ) {
        ("", "") if chosen.is_object() => selector(chosen),
        (_, "") => "<unset>".into(),
        // Whether the parameter has a namespace cannot be told from here.
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    };
    vec![
        name_cell(object),
        text(object, &["spec", "policyName"]),
        described,
        age(object, now),
    ]
}

pub(super) fn flow_schema(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        text(object, &["spec", "priorityLevelConfiguration", "name"]),
        number(object, &["spec", "matchingPrecedence"]),
        or_none(str_at(object, &["spec", "distinguisherMethod", "type"])),
        age(object, now),
        or(condition_status(object, "Dangling"), "?"),
    ]
}

pub(super) fn priority_level(object: &Value, now: i64) -> Vec<Value> {
    let limited = |path: &[&str]| match at(at(object, &["spec", "limited"]), path) {
        Value::Null => Value::from("<none>"),
        number => number.clone(),
    };
    let queuing = |field| limited(&["limitResponse", "queuing", field]);
    vec![
        name_cell(object),
        text(object, &["spec", "type"]),
        limited(&["nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(object, now),
    ]
}

pub(super) fn storage_version(object: &Value, now: i64) -> Vec<Value> {
    let servers = array_at(object, &["status", "storageVersions"]).iter();
    let texts = servers.map(|server| {
        format!(
            "{}={}",
            text_of(server, &["apiServerID"]),
            text_of(server, &["encodingVersion"])
        )
    });
    vec![
        name_cell(object),
        or(
            str_at(object, &["status", "commonEncodingVersion"]),
            "<unset>",
        ),
        first_few(texts.collect(), LISTED_MAX, ",", "<unset>"),
        age(object, now),
    ]
}

pub(super) fn storage_version_migration(object: &Value, _now: i64) -> Vec<Value> {
    let resource = at(object, &["spec", "resource"]);
    let resource = GroupResource::new(
        text_of(resource, &["group"]),
        text_of(resource, &["resource"]),
    );
    vec![name_cell(object), resource.to_string().into()]
}

pub(super) fn resource_claim(object: &Value, now: i64) -> Vec<Value> {
    let allocated = !at(object, &["status", "allocation"]).is_null();
    let reserved = allocated && !array_at(object, &["status", "reservedFor"]).is_empty();
    let deleted = is_deleting(object);
    let words = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    let state: Vec<&str> = words
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, word)| word)
        .collect();
    vec![name_cell(object), state.join(",").into(), age(object, now)]
}

pub(super) fn resource_slice(object: &Value, now: i64) -> Vec<Value> {
    vec![
        name_cell(object),
        text(object, &["spec", "nodeName"]),
        text(object, &["spec", "driver"]),
        text(object, &["spec", "pool", "name"]),
        age(object, now),
    ]
}

pub(super) fn api_service(object: &Value, now: i64) -> Vec<Value> {
    let service = at(object, &["spec", "service"]);
    let service = match service.is_object() {
        true => format!(
            "{}/{}",
            text_of(service, &["namespace"]),
            text_of(service, &["name"])
        ),
        false => "Local".to_owned(),
    };
    let conditions = array_at(object, &["status", "conditions"]);
    let available = conditions
        .iter()
        .find(|condition| str_at(condition, &["type"]) == Some("Available"));
    let available = match available.map(|condition| {
        (
            text_of(condition, &["status"]),
            text_of(condition, &["reason"]),
        )
    }) {
        None => "Unknown".to_owned(),
        Some(("True", _)) => "True".to_owned(),
        Some((status, reason)) => format!("{status} ({reason})"),
    };
    vec![
        name_cell(object),
        service.into(),
        available.into(),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use value::json;

    use super::*;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000_000;

    fn template() -> Value {
        json!({"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]}})
    }

    #[test]
    fn nodes() {
        let object = json!({
            "metadata": {"name": "n1", "creationTimestamp": "2025-12-31T00:04:05Z",
                "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Linux"}}});
        assert_eq!(
            node(&object, NOW),
            [
                "n1",
                "Ready,SchedulingDisabled",
                "control-plane,edge",
                "2d3h",
                "v1.36.0",
                "10.0.0.1",
                "<none>",
                "Linux",
                "<unknown>",
                "<unknown>"
            ]
        );
        let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        assert_eq!(node(&silent, NOW)[1..3], ["NotReady", "<none>"]);
        assert_eq!(node(&json!({}), NOW)[1], "Unknown");
    }

    #[test]
    fn workloads() {
        let selector = json!({"matchLabels": {"app": "web"}});
        let object = json!({"metadata": {"name": "w"}, "spec": {"replicas": 3, "template": template(), "selector": selector},
            "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}});
        assert_eq!(
            deployment(&object, NOW),
            [
                json!("w"),
                json!("2/3"),
                json!(3),
                json!(1),
                json!("<unknown>"),
                json!("a,b"),
                json!("x:1,y:2"),
                json!("app=web")
            ]
        );
        assert_eq!(replica_set(&object, NOW)[1..4], [3, 3, 2]);
        assert_eq!(stateful_set(&object, NOW)[1], "2/3");
        let daemon = json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}},
            "status": {"desiredNumberScheduled": 5, "numberReady": 4}});
        assert_eq!(
            daemon_set(&daemon, NOW)[1..7],
            [
                json!(5),
                json!(0),
                json!(4),
                json!(0),
                json!(0),
                json!("a=b")
            ]
        );
    }

    #[test]
    fn jobs() {
        let mut object = json!({"metadata": {"name": "j"}, "spec": {"completions": 4},
            "status": {"succeeded": 1, "startTime": "2026-01-02T03:00:05Z"}});
        assert_eq!(job(&object, NOW)[1..4], ["Running", "1/4", "4m"]);
        object["status"]["completionTime"] = json!("2026-01-02T03:00:35Z");
        object["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
        assert_eq!(job(&object, NOW)[1..4], ["Complete", "1/4", "30s"]);
        assert_eq!(
            job(&json!({"spec": {"parallelism": 3}}), NOW)[1..4],
            ["Running", "0/1 of 3", ""]
        );

        let cron = json!({"spec": {"schedule": "* * * * *", "suspend": false},
            "status": {"active": [{}], "lastScheduleTime": "2026-01-02T03:03:35Z"}});
        assert_eq!(
            cron_job(&cron, NOW)[1..6],
            [
                json!("* * * * *"),
                json!("<none>"),
                json!("False"),
                json!(1),
                json!("30s")
            ]
        );
    }

    #[test]
    fn services() {
        let object = json!({"spec": {"type": "NodePort", "clusterIP": "10.1.1.1", "clusterIPs": ["10.1.1.1"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            "selector": {"a": "b", "c": "d"}}});
        assert_eq!(
            service(&object, NOW)[1..5],
            ["NodePort", "10.1.1.1", "<none>", "80:30080/TCP,53/UDP"]
        );
        assert_eq!(service(&object, NOW)[6], "a=b,c=d");
        let external = |spec: Value, ingress: Value| {
            external_ip(&json!({"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}))
        };
        assert_eq!(
            external(json!({"type": "LoadBalancer"}), json!([])),
            "<pending>"
        );
        let balanced = json!([{"hostname": "b.example"}, {"ip": "1.2.3.4"}]);
        let spec = json!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]});
        assert_eq!(external(spec, balanced), "1.2.3.4,b.example,9.9.9.9");
        assert_eq!(
            external(
                json!({"type": "ExternalName", "externalName": "x.example"}),
                json!([])
            ),
            "x.example"
        );
        let headless =
            json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}});
        assert_eq!(service(&headless, NOW)[2..5], ["None", "<none>", "<none>"]);
    }

    #[test]
    fn routes() {
        let rules: Vec<Value> = ["a", "b", "c", "d", "e"]
            .iter()
            .map(|host| json!({"host": host}))
            .collect();
        let object = json!({"spec": {"ingressClassName": "nginx", "rules": rules, "tls": [{}]}});
        assert_eq!(
            ingress(&object, NOW)[1..5],
            ["nginx", "a,b,c + 2 more...", "", "80, 443"]
        );
        assert_eq!(ingress(&json!({}), NOW)[1..5], ["<none>", "*", "", "80"]);
        let class = json!({"spec": {"controller": "c", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}});
        assert_eq!(ingress_class(&class, NOW)[2], "K.g/n");
        let subsets = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "::1"}],
            "ports": [{"port": 80}, {"port": 443}]}]});
        assert_eq!(
            endpoints(&subsets, NOW)[1],
            "10.0.0.1:80,[::1]:80,10.0.0.1:443 + 1 more..."
        );
        assert_eq!(endpoints(&json!({}), NOW)[1], "<none>");
        let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}, {}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]});
        assert_eq!(
            endpoint_slice(&slice, NOW)[1..4],
            ["IPv4", "80,x,*", "10.0.0.1,10.0.0.2"]
        );
        assert_eq!(
            endpoint_slice(&json!({}), NOW)[2..4],
            ["<unset>", "<unset>"]
        );
        let address =
            json!({"spec": {"parentRef": {"resource": "services", "namespace": "d", "name": "s"}}});
        assert_eq!(ip_address(&address, NOW)[1], "services/d/s");
    }

    #[test]
    fn events_of_both_groups() {
        let old = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " done\n",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "count": 3,
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2026-01-02T03:03:05Z", "lastTimestamp": "2026-01-02T03:04:00Z"});
        let cells = [
            json!("5s"),
            json!("Normal"),
            json!("Pulled"),
            json!("pod/p"),
            json!("spec"),
            json!("kubelet, n1"),
            json!("done"),
            json!("60s"),
            json!(3),
            json!("e"),
        ];
        assert_eq!(event(&old, NOW), cells);
        let new = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "note": "done",
            "regarding": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "eventTime": "2026-01-02T03:03:05.000000Z",
            "series": {"count": 3, "lastObservedTime": "2026-01-02T03:04:00.000000Z"},
            "reportingController": "kubelet", "reportingInstance": "n1"});
        assert_eq!(event(&new, NOW), cells);
        assert_eq!(event(&json!({}), NOW)[8], 1);
    }

    #[test]
    fn volumes() {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": "d", "name": "c"}, "storageClassName": "fast", "volumeMode": "Block"},
            "status": {"phase": "Bound"}});
        assert_eq!(
            persistent_volume(&volume, NOW),
            [
                "v",
                "5Gi",
                "RWO,RWX",
                "Retain",
                "Bound",
                "d/c",
                "fast",
                "<unset>",
                "",
                "<unknown>",
                "Block"
            ]
        );
        let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "fast"},
            "status": {"phase": "Pending"}});
        assert_eq!(
            persistent_volume_claim(&claim, NOW),
            [
                "c",
                "Pending",
                "",
                "",
                "",
                "fast",
                "<unset>",
                "<unknown>",
                "<unset>"
            ]
        );
        let class = json!({"metadata": {"name": "fast",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"});
        assert_eq!(
            storage_class(&class, NOW)[..5],
            [
                json!("fast (default)"),
                json!("p"),
                json!("Delete"),
                json!("Immediate"),
                json!(false)
            ]
        );
        let driver = csi_driver(
            &json!({"spec": {"volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
            NOW,
        );
        assert_eq!(
            driver[1..7],
            [
                json!(true),
                json!(false),
                json!(false),
                json!("<unset>"),
                json!(false),
                json!("Persistent,Ephemeral")
            ]
        );
    }

    #[test]
    fn autoscalers() {
        let object = json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "w"}, "maxReplicas": 9, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
                {"type": "Pods", "pods": {"target": {"averageValue": "100"}}},
                {"type": "External", "external": {"target": {"averageValue": "5"}}}]},
            "status": {"currentReplicas": 2, "currentMetrics": [
                {"type": "Resource", "resource": {"current": {"averageUtilization": 41}}}]}});
        assert_eq!(
            horizontal_pod_autoscaler(&object, NOW)[1..6],
            [
                json!("Deployment/w"),
                json!("cpu: 41%/80%, <unknown>/100 + 1 more..."),
                json!("<unset>"),
                json!(9),
                json!(2)
            ]
        );
        let external = json!({"type": "External", "external": {"target": {"averageValue": "5"}}});
        assert_eq!(metric(&external, &Value::Null), "<unknown>/5 (avg)");
        let first_version = json!({"spec": {"targetCPUUtilizationPercentage": 50}});
        assert_eq!(metrics(&first_version), "cpu: <unknown>/50%");
    }

    #[test]
    fn permissions_and_certificates() {
        let binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "User", "name": "v"}, {"kind": "Group", "name": "g"},
            {"kind": "ServiceAccount", "namespace": "d", "name": "s"}]});
        assert_eq!(
            role_binding(&binding, NOW)[1..],
            ["Role/r", "<unknown>", "u, v", "g", "d/s"]
        );
        let request = json!({"spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
            "status": {"conditions": [{"type": "Approved"}], "certificate": "eA=="}});
        assert_eq!(
            certificate_signing_request(&request, NOW)[2..],
            ["s", "u", "60m", "Approved,Issued"]
        );
        assert_eq!(signing_condition(&json!({})), "Pending");
    }

    #[test]
    fn budgets_quotas_and_policies() {
        let budget =
            json!({"spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 1}});
        assert_eq!(
            pod_disruption_budget(&budget, NOW)[1..4],
            [json!("N/A"), json!("25%"), json!(1)]
        );
        let quota = json!({"status": {"hard": {"pods": "10", "limits.cpu": "4", "requests.cpu": "2"},
            "used": {"pods": "3", "limits.cpu": "500m"}}});
        assert_eq!(
            resource_quota(&quota, NOW)[1..3],
            ["pods: 3/10, requests.cpu: 0/2", "limits.cpu: 500m/4"]
        );
        assert_eq!(
            network_policy(&json!({"spec": {"podSelector": {}}}), NOW)[1],
            "<none>"
        );
        let binding = |reference: Value| {
            policy_binding(&json!({"spec": {"paramRef": reference}}), NOW)[2].clone()
        };
        assert_eq!(binding(json!({"name": "n"})), "*/n");
        assert_eq!(binding(json!({"name": "n", "namespace": "d"})), "d/n");
        assert_eq!(binding(Value::Null), "<unset>");
        let flow = json!({"spec": {"matchingPrecedence": 7}, "status": {"conditions": [{"type": "Dangling", "status": "False"}]}});
        assert_eq!(flow_schema(&flow, NOW)[2..4], [json!(7), json!("<none>")]);
        assert_eq!(flow_schema(&flow, NOW)[5], "False");
        assert_eq!(
            priority_level(&json!({"spec": {"type": "Exempt"}}), NOW)[1..3],
            ["Exempt", "<none>"]
        );
    }

    #[test]
    fn owners_claims_and_services_behind_the_api() {
        let revision = json!({"revision": 4, "metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "controller": true}]}});
        assert_eq!(
            controller_revision(&revision, NOW)[1..3],
            [json!("statefulset.apps/s"), json!(4)]
        );
        assert_eq!(resource_claim(&json!({}), NOW)[1], "pending");
        let taken = json!({"status": {"allocation": {}, "reservedFor": [{}]}});
        assert_eq!(resource_claim(&taken, NOW)[1], "allocated,reserved");
        assert_eq!(
            lease(&json!({"spec": {"holderIdentity": "n1"}}), NOW)[1],
            "n1"
        );
        let broken = json!({"spec": {"service": {"namespace": "d", "name": "s"}},
            "status": {"conditions": [{"type": "Available", "status": "False", "reason": "Down"}]}});
        assert_eq!(api_service(&broken, NOW)[1..3], ["d/s", "False (Down)"]);
    }
}
