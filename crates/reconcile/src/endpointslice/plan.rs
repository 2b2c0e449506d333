//! One round of a Service: what the slices should hold, packed into those that exist.

use super::{
    ENDPOINTS_PER_SLICE_MAX, HEADLESS_LABEL, MANAGED_BY_LABEL, MANAGER, Observed,
    SERVICE_NAME_LABEL,
};
use crate::action::{Action, ENDPOINT_SLICES};
use crate::owner::controller_reference;
use crate::pod::{Pod, items, text_of};
use meta::labels::LabelSelector;
use meta::{Value, object};
use std::collections::BTreeMap;
use std::sync::Arc;
use value::{Map, json};

/// What to do now for a Service. Services without a selector are somebody else's.
pub fn plan(service: &Value, observed: &Observed<'_>) -> Vec<Action> {
    let selector = object::at(service, &["spec", "selector"]);
    let has_selector = selector.as_object().is_some_and(|pairs| !pairs.is_empty());
    let external = object::str_at(service, &["spec", "type"]) == Some("ExternalName");
    if !has_selector || external || object::is_deleting(service) || observed.creations_in_flight > 0
    {
        return Vec::new();
    }
    let packing = Packing {
        service,
        labels: labels_of(service),
        address_type: address_type(service),
    };
    let mut groups = packing.desired(&LabelSelector::from_map(selector), observed);
    let mut spare: Vec<&Arc<Value>> = Vec::new();
    let mut existing: BTreeMap<String, Vec<&Arc<Value>>> = BTreeMap::new();
    let mut slices: Vec<&Arc<Value>> = observed
        .slices
        .iter()
        .filter(|slice| !object::is_deleting(slice))
        .collect();
    slices.sort_by_key(|slice| object::name(slice).to_owned());
    for slice in slices {
        let key = ports_key(items(slice, &["ports"]));
        if groups.contains_key(&key) && text_of(slice, "addressType") == packing.address_type {
            existing.entry(key).or_default().push(slice);
        } else {
            spare.push(slice);
        }
    }
    let mut actions = Vec::new();
    if groups.is_empty() {
        packing.placeholder(&mut spare, &mut actions);
    }
    for (key, group) in &mut groups {
        let slices = existing.remove(key).unwrap_or_default();
        packing.pack(group, &slices, &mut actions);
    }
    actions.extend(
        spare
            .into_iter()
            .map(|slice| Action::delete(ENDPOINT_SLICES, slice, None)),
    );
    actions
}

/// Endpoints that resolve the Service's ports to the same numbers.
struct Group {
    ports: Vec<Value>,
    /// By pod uid.
    endpoints: BTreeMap<Box<str>, Value>,
}

struct Packing<'a> {
    service: &'a Value,
    labels: Map,
    address_type: &'static str,
}

/// A slice while its endpoints are being chosen.
struct Draft<'a> {
    slice: &'a Arc<Value>,
    endpoints: Vec<Value>,
    changed: bool,
}

impl Packing<'_> {
    fn desired(
        &self,
        selector: &LabelSelector,
        observed: &Observed<'_>,
    ) -> BTreeMap<String, Group> {
        let unready_too =
            object::bool_at(self.service, &["spec", "publishNotReadyAddresses"]).unwrap_or(false);
        let mut groups = BTreeMap::new();
        for pod in observed.pods {
            let address_type = if pod.ip.contains(':') { "IPv6" } else { "IPv4" };
            let counts =
                !pod.ip.is_empty() && !pod.has_ended() && address_type == self.address_type;
            if !counts || !selector.matches(&pod.labels) {
                continue;
            }
            let ports = self.ports_for(pod);
            let group = groups.entry(ports_key(&ports)).or_insert_with(|| Group {
                ports,
                endpoints: BTreeMap::new(),
            });
            group
                .endpoints
                .insert(pod.uid.clone(), self.endpoint(pod, unready_too, observed));
        }
        groups
    }

    fn ports_for(&self, pod: &Pod) -> Vec<Value> {
        let ports = items(self.service, &["spec", "ports"]).iter();
        ports.filter_map(|port| resolve(port, pod)).collect()
    }

    fn endpoint(&self, pod: &Pod, unready_too: bool, observed: &Observed<'_>) -> Value {
        let (serving, terminating) = (pod.is_ready(), pod.deletion_micros.is_some());
        let mut endpoint = json!({
            "addresses": [&*pod.ip],
            "conditions": {
                "ready": unready_too || (serving && !terminating),
                "serving": serving,
                "terminating": terminating,
            },
            "targetRef": {"kind": "Pod", "namespace": &*pod.namespace, "name": &*pod.name, "uid": &*pod.uid},
        });
        if !pod.node_name.is_empty() {
            endpoint["nodeName"] = json!(&*pod.node_name);
            if let Some(zone) = (observed.zone_of)(&pod.node_name) {
                endpoint["zone"] = json!(zone);
            }
        }
        if let Some((hostname, subdomain)) = pod.dns.as_deref()
            && !hostname.is_empty()
            && subdomain == object::name(self.service)
        {
            endpoint["hostname"] = json!(hostname);
        }
        endpoint
    }

    /// A Service without endpoints has one empty slice, so that readers know it was looked at.
    fn placeholder(&self, spare: &mut Vec<&Arc<Value>>, actions: &mut Vec<Action>) {
        if spare.is_empty() {
            actions.push(self.create(&[], Vec::new()));
            return;
        }
        let slice = spare.remove(0);
        if text_of(slice, "addressType") != self.address_type {
            spare.insert(0, slice);
            actions.push(self.create(&[], Vec::new()));
        } else if !items(slice, &["endpoints"]).is_empty() || !self.has_labels(slice) {
            actions.push(self.update(slice, items(slice, &["ports"]), Vec::new()));
        }
    }

    /// Endpoints stay where they are; new ones go where a rewrite is due anyway, then where they
    /// fit best, then into new slices.
    fn pack(&self, group: &mut Group, slices: &[&Arc<Value>], actions: &mut Vec<Action>) {
        let mut drafts: Vec<Draft<'_>> = slices
            .iter()
            .map(|slice| self.draft(slice, group))
            .collect();
        let mut rest: Vec<Value> = std::mem::take(&mut group.endpoints).into_values().collect();
        let mut rewritten: Vec<&mut Draft<'_>> =
            drafts.iter_mut().filter(|draft| draft.changed).collect();
        rewritten.sort_by_key(|draft| std::cmp::Reverse(draft.endpoints.len()));
        for draft in rewritten {
            let room = ENDPOINTS_PER_SLICE_MAX
                .saturating_sub(draft.endpoints.len())
                .min(rest.len());
            draft.endpoints.extend(rest.drain(..room));
        }
        while rest.len() >= ENDPOINTS_PER_SLICE_MAX {
            let full = rest.drain(..ENDPOINTS_PER_SLICE_MAX).collect();
            actions.push(self.create(&group.ports, full));
        }
        if !rest.is_empty() {
            let fits = |draft: &&mut Draft<'_>| {
                draft.endpoints.len() + rest.len() <= ENDPOINTS_PER_SLICE_MAX
            };
            match drafts
                .iter_mut()
                .filter(fits)
                .max_by_key(|draft| draft.endpoints.len())
            {
                Some(draft) => {
                    draft.endpoints.append(&mut rest);
                    draft.changed = true;
                }
                None => actions.push(self.create(&group.ports, rest)),
            }
        }
        for draft in drafts {
            if draft.endpoints.is_empty() {
                actions.push(Action::delete(ENDPOINT_SLICES, draft.slice, None));
            } else if draft.changed {
                actions.push(self.update(draft.slice, &group.ports, draft.endpoints));
            }
        }
    }

    fn draft<'s>(&self, slice: &'s Arc<Value>, group: &mut Group) -> Draft<'s> {
        let mut draft = Draft {
            slice,
            endpoints: Vec::new(),
            changed: !self.has_labels(slice),
        };
        for stored in items(slice, &["endpoints"]) {
            let uid = object::str_at(stored, &["targetRef", "uid"]).unwrap_or_default();
            match group.endpoints.remove(uid) {
                Some(wanted) => {
                    draft.changed |= wanted != *stored;
                    draft.endpoints.push(wanted);
                }
                None => draft.changed = true,
            }
        }
        draft
    }

    fn has_labels(&self, slice: &Value) -> bool {
        object::labels(slice).as_object() == Some(&self.labels)
    }

    fn create(&self, ports: &[Value], endpoints: Vec<Value>) -> Action {
        let namespace = object::namespace(self.service);
        let body = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": format!("{}-", object::name(self.service)),
                "namespace": namespace,
                "labels": self.labels,
                "ownerReferences": [controller_reference(self.service)],
            },
            "addressType": self.address_type,
            "endpoints": endpoints,
            "ports": ports,
        });
        Action::Create {
            resource: ENDPOINT_SLICES,
            namespace: namespace.to_owned(),
            object: Arc::new(body),
            announce: None,
        }
    }

    fn update(&self, slice: &Arc<Value>, ports: &[Value], endpoints: Vec<Value>) -> Action {
        let mut object = Value::clone(slice);
        object::set_at(
            &mut object,
            &["metadata", "labels"],
            Value::Object(self.labels.clone()),
        );
        object::set_at(&mut object, &["endpoints"], Value::Array(endpoints));
        object::set_at(&mut object, &["ports"], Value::Array(ports.to_vec()));
        Action::update(ENDPOINT_SLICES, object)
    }
}

fn address_type(service: &Value) -> &'static str {
    let family = items(service, &["spec", "ipFamilies"])
        .first()
        .and_then(Value::as_str);
    if family == Some("IPv6") {
        "IPv6"
    } else {
        "IPv4"
    }
}

fn labels_of(service: &Value) -> Map {
    let mut labels = object::labels(service)
        .as_object()
        .cloned()
        .unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), json!(object::name(service)));
    labels.insert(MANAGED_BY_LABEL.to_owned(), json!(MANAGER));
    if object::str_at(service, &["spec", "clusterIP"]) == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), json!(""));
    } else {
        labels.remove(HEADLESS_LABEL);
    }
    labels
}

/// A Service port as the pod serves it; None if the pod has no port of the target's name.
fn resolve(port: &Value, pod: &Pod) -> Option<Value> {
    let protocol = match text_of(port, "protocol") {
        "" => "TCP",
        protocol => protocol,
    };
    let number = match port.get("targetPort") {
        Some(Value::String(name)) => {
            let named = |candidate: &&crate::pod::NamedPort| {
                *candidate.name == **name && &*candidate.protocol == protocol
            };
            i64::from(pod.ports.iter().find(named)?.port)
        }
        target => match target.and_then(Value::as_i64).unwrap_or(0) {
            0 => port.get("port").and_then(Value::as_i64)?,
            number => number,
        },
    };
    let mut resolved = json!({"name": text_of(port, "name"), "port": number, "protocol": protocol});
    if let Some(app_protocol) = port
        .get("appProtocol")
        .filter(|protocol| protocol.is_string())
    {
        resolved["appProtocol"] = app_protocol.clone();
    }
    Some(resolved)
}

/// Equal for equal ports, however they are spelt or ordered.
fn ports_key(ports: &[Value]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| {
            let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            let protocol = match text_of(port, "protocol") {
                "" => "TCP",
                protocol => protocol,
            };
            format!(
                "{}/{number}/{protocol}/{}",
                text_of(port, "name"),
                text_of(port, "appProtocol")
            )
        })
        .collect();
    keys.sort();
    keys.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    fn service() -> Value {
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default", "uid": "svc"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})
    }

    fn pod(number: usize) -> Arc<Pod> {
        Arc::new(Pod::from_object(&json!({
            "metadata": {"name": format!("web-{number}"), "namespace": "default", "uid": format!("u{number:05}"), "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", number / 200, number % 200),
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})))
    }

    fn run(service: &Value, pods: &[Arc<Pod>], slices: &[Arc<Value>]) -> Vec<Action> {
        let zone_of = |_: &str| Some("z1".to_owned());
        plan(
            service,
            &Observed {
                pods,
                slices,
                creations_in_flight: 0,
                zone_of: &zone_of,
            },
        )
    }

    /// Applies slice actions; names are given in order.
    fn apply(slices: &mut Vec<Arc<Value>>, actions: &[Action], names: &mut usize) {
        for action in actions {
            match action {
                Action::Create { object, .. } => {
                    let mut object = Value::clone(object);
                    *names += 1;
                    object::set_at(
                        &mut object,
                        &["metadata", "name"],
                        json!(format!("web-{names:04}")),
                    );
                    slices.push(Arc::new(object));
                }
                Action::Update { name, object, .. } => {
                    let slot = slices
                        .iter_mut()
                        .find(|slice| object::name(slice) == name)
                        .expect("an existing slice");
                    *slot = Arc::new(object.clone());
                }
                Action::Delete { name, .. } => slices.retain(|slice| object::name(slice) != name),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn the_first_endpoint_makes_a_slice() {
        let expected = concat!(
            r#"create endpointslices.discovery.k8s.io default/web-* {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","#,
            r#""endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"n1","#,
            r#""targetRef":{"kind":"Pod","name":"web-1","namespace":"default","uid":"u00001"},"zone":"z1"}],"kind":"EndpointSlice","#,
            r#""metadata":{"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web"},"#,
            r#""namespace":"default","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"svc"}]},"#,
            r#""ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#,
            "\n"
        );
        assert_eq!(text(&run(&service(), &[pod(1)], &[])), expected);
    }

    #[test]
    fn without_endpoints_one_empty_slice_remains() {
        let (mut slices, mut names) = (Vec::new(), 0);
        let first = run(&service(), &[], &slices);
        apply(&mut slices, &first, &mut names);
        assert_eq!(slices.len(), 1);
        assert!(run(&service(), &[], &slices).is_empty());
        apply(&mut slices, &run(&service(), &[pod(1)], &[]), &mut names);
        let emptied = run(&service(), &[], &slices);
        apply(&mut slices, &emptied, &mut names);
        assert_eq!(slices.len(), 1);
        assert!(items(&slices[0], &["endpoints"]).is_empty());
        assert!(run(&service(), &[], &slices).is_empty());
    }

    #[test]
    fn terminating_and_unready_pods_say_so() {
        let mut leaving = Pod::clone(&pod(1));
        leaving.deletion_micros = Some(1);
        let mut unready = Pod::clone(&pod(2));
        unready.ready_since_micros = None;
        let pods = [Arc::new(leaving), Arc::new(unready)];
        let plan_text = text(&run(&service(), &pods, &[]));
        assert!(
            plan_text.contains(r#"{"ready":false,"serving":true,"terminating":true}"#),
            "{plan_text}"
        );
        assert!(plan_text.contains(r#"{"ready":false,"serving":false,"terminating":false}"#));
        let mut open = service();
        open["spec"]["publishNotReadyAddresses"] = json!(true);
        assert!(
            text(&run(&open, &pods, &[]))
                .contains(r#"{"ready":true,"serving":false,"terminating":false}"#)
        );
    }

    #[test]
    fn a_headless_service_is_labelled_and_a_service_without_selector_left_alone() {
        let mut headless = service();
        headless["spec"]["clusterIP"] = json!("None");
        assert!(
            text(&run(&headless, &[pod(1)], &[]))
                .contains(r#""service.kubernetes.io/headless":"""#)
        );
        let mut free = service();
        free["spec"]["selector"] = json!({});
        assert!(run(&free, &[pod(1)], &[]).is_empty());
    }

    #[test]
    fn churn_keeps_every_endpoint_once_and_touches_few_slices() {
        let (mut slices, mut names) = (Vec::new(), 0);
        let mut pods: Vec<_> = (0..950).map(pod).collect();
        let first = run(&service(), &pods, &slices);
        apply(&mut slices, &first, &mut names);
        assert_eq!(slices.len(), 10);
        let mut seed = 7u64;
        for round in 0..60 {
            for _ in 0..3 {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let victim = usize::try_from(seed >> 33).unwrap_or(0) % pods.len();
                pods.swap_remove(victim);
            }
            pods.extend((0..3).map(|extra| pod(1000 + round * 3 + extra)));
            let actions = run(&service(), &pods, &slices);
            assert!(actions.len() <= 6, "{} actions", actions.len());
            apply(&mut slices, &actions, &mut names);
            let uid = |endpoint: &Value| {
                object::str_at(endpoint, &["targetRef", "uid"])
                    .unwrap_or_default()
                    .to_owned()
            };
            let mut held: Vec<String> = slices
                .iter()
                .flat_map(|slice| items(slice, &["endpoints"]))
                .map(uid)
                .collect();
            held.sort();
            let mut wanted: Vec<String> = pods.iter().map(|pod| pod.uid.to_string()).collect();
            wanted.sort();
            assert_eq!(held, wanted);
            assert!(
                slices
                    .iter()
                    .all(|slice| items(slice, &["endpoints"]).len() <= ENDPOINTS_PER_SLICE_MAX)
            );
            assert!(
                run(&service(), &pods, &slices).is_empty(),
                "a second look changes nothing"
            );
        }
    }
}
