//! What the benchmarks work on: ten shapes of nodes, ten classes of pods, and bodies that are encoded once and differ
//! in a few digits.

use bytes::Bytes;
use client::Client;
use fleet::NodeShape;
use meta::Value;
use schema::Resource;
use value::json;

use crate::progress::Progress;

/// Different sizes of nodes, and different sizes of pods.
pub const SHAPES: usize = 10;
pub const CLASSES: usize = 10;
/// Pods a node of the smallest shape has room for, whatever their classes.
const PODS_A_NODE_MAX: usize = 14;

/// Steps after which progress is told.
const PROGRESS_STEPS: usize = 256;

/// The built-in resource; the table always has these.
pub fn resource(group: &str, name: &str) -> Result<&'static Resource, String> {
    schema::resource(group, "v1", name).ok_or_else(|| format!("this build does not know {name}"))
}

/// Refuses what cannot be placed, before it is waited for.
pub fn check_room(nodes: usize, pods: usize) -> Result<(), String> {
    let room = nodes.saturating_mul(PODS_A_NODE_MAX);
    if pods > room {
        return Err(format!(
            "{pods} pods may not fit on {nodes} nodes: ask for at most {room}, or for more nodes"
        ));
    }
    Ok(())
}

/// The shape of the node at a place.
pub fn shape(index: usize) -> NodeShape {
    let step = u32::try_from(index % SHAPES).unwrap_or(0);
    NodeShape {
        cpu_cores: 8 + 4 * step,
        memory_gib: 32 + 16 * (9 - step),
        ..NodeShape::default()
    }
}

/// The node at a place, Ready.
pub fn node(index: usize) -> Value {
    fleet::node_object(index, &shape(index), apiserver::now_micros())
}

/// Creates nodes that are Ready and take pods at once.
pub async fn create_nodes(client: &Client, nodes: usize) -> Result<(), String> {
    let resource = resource("", "nodes")?;
    let mut progress = Progress::new("creating nodes", nodes);
    for index in 0..nodes {
        let created = client.create(resource, "", &node(index)).await;
        let mut created = created.map_err(|error| format!("a node was refused: {error}"))?;
        // New nodes wait, tainted, for a controller to find them ready; here is none.
        let spec = created["spec"].as_object_mut();
        if spec.and_then(|spec| spec.remove("taints")).is_some() {
            let updated = client
                .update(resource, "", &fleet::node_name(index), "", &created)
                .await;
            updated.map_err(|error| format!("a node's taint could not be taken away: {error}"))?;
        }
        if index % PROGRESS_STEPS == 0 {
            progress.set(index);
        }
    }
    Ok(())
}

/// A pod of a class, under a name of [`Digits`].
pub fn pod(class: usize, name: &str) -> Value {
    let class = i64::try_from(class % CLASSES).unwrap_or(0);
    let requests = json!({"cpu": format!("{}m", 100 + 50 * class), "memory": format!("{}Mi", 500 + 37 * class)});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": format!("bench-{class}")}},
        "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10",
                                 "resources": {"requests": requests}}]},
    })
}

/// A node's Lease as a kubelet makes it.
pub fn lease(index: usize, now_micros: i64) -> Value {
    let name = fleet::node_name(index);
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": "kube-node-lease",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name,
                                 "uid": format!("00000000-0000-4000-8000-{index:012x}")}],
        },
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": meta::time::format_micros(now_micros)},
    })
}

/// An object as a protobuf body.
pub fn encoded(resource: &Resource, object: &Value) -> Result<Bytes, String> {
    let mut message = Vec::with_capacity(1024);
    schema::encode_protobuf(resource.type_id, object, &mut message)
        .map_err(|error| error.to_string())?;
    let mut body = Vec::with_capacity(message.len() + 64);
    let api_version = meta::api_version(resource.group, resource.version);
    schema::envelope::wrap(&api_version, resource.kind, &message, &mut body);
    Ok(body.into())
}

/// Names of pods: a number in seven digits, so that all bodies have one length.
pub struct Digits;

impl Digits {
    /// The name of the pod at a place.
    pub fn name(index: usize) -> String {
        format!("bench-{index:07}")
    }

    /// The place of a pod's name.
    pub fn index(name: &str) -> Option<usize> {
        name.strip_prefix("bench-")?.parse().ok()
    }
}

/// A body that was encoded once, and is copied with another name, wherever it stands.
pub struct Template {
    body: Vec<u8>,
    name_at: Vec<usize>,
}

impl Template {
    /// The template of a class of pods.
    pub fn of_pod(class: usize) -> Result<Template, String> {
        Template::of(&pod(class, &Digits::name(0)))
    }

    /// The template of a pod that is called [`Digits::name`] of 0.
    pub fn of(pod: &Value) -> Result<Template, String> {
        let name = Digits::name(0);
        let body = encoded(resource("", "pods")?, pod)?.to_vec();
        let windows = body.windows(name.len()).enumerate();
        let name_at: Vec<usize> = windows
            .filter(|(_, window)| *window == name.as_bytes())
            .map(|(place, _)| place)
            .collect();
        if name_at.is_empty() {
            return Err("an encoded pod does not hold its name".into());
        }
        Ok(Template { body, name_at })
    }

    /// The body under another name of the same length.
    pub fn named(&self, name: &str) -> Bytes {
        let mut body = self.body.clone();
        for name_at in &self.name_at {
            if let Some(place) = body.get_mut(*name_at..name_at + name.len()) {
                place.copy_from_slice(name.as_bytes());
            }
        }
        body.into()
    }
}

/// All places below `count` once, scattered: neighbours in time are not neighbours in memory. A step of about the
/// golden section that shares no factor with `count` visits all and needs no table.
pub fn scattered(count: usize) -> impl Fn(usize) -> usize {
    let mut step = ((count as f64 * 0.618_034) as usize).max(1);
    while count > 1 && common_factor(step, count) != 1 {
        step += 1;
    }
    move |turn| ((turn % count.max(1)) as u128 * step as u128 % count.max(1) as u128) as usize
}

fn common_factor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_factor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_visited_once_a_round() {
        for count in [1, 2, 3, 10, 97, 1000, 1024] {
            let place = scattered(count);
            let mut seen: Vec<usize> = (0..count).map(&place).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..count), "{count}");
            assert_eq!(place(count), place(0));
        }
    }

    #[test]
    fn a_template_gives_what_encoding_gives() {
        let pods = resource("", "pods").unwrap();
        for (class, index) in [(0, 0), (3, 42), (9, 1_234_567)] {
            let name = Digits::name(index);
            let expected = encoded(pods, &pod(class, &name)).unwrap();
            assert_eq!(Template::of_pod(class).unwrap().named(&name), expected);
            assert_eq!(Digits::index(&name), Some(index));
        }
    }

    #[test]
    fn the_smallest_node_holds_as_many_of_the_largest_pods_as_promised() {
        let requests =
            |class| pod(class, "a")["spec"]["containers"][0]["resources"]["requests"].clone();
        assert_eq!(requests(9), json!({"cpu": "550m", "memory": "833Mi"}));
        let by_cpu = shape(0).cpu_cores as usize * 1_000 / 550;
        let by_memory = shape(9).memory_gib as usize * 1_024 / 833;
        assert_eq!(PODS_A_NODE_MAX, by_cpu.min(by_memory));
        assert!(check_room(10, 140).is_ok());
        assert!(check_room(10, 141).is_err());
    }
}
