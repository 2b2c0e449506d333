//! The promises about decisions at a million nodes, as cases: many classes, spreading, anti-affinity, preemption, and the
//! time of single decisions at a steady rate, with the memory of a node and of a pod.
//!
//! In the core alone: a million nodes with an API server around them take more memory than a test machine has.

use meta::Value;
use value::json;

use super::plan::{Plan, Pods, Size};
use super::shapes;

/// Shapes of nodes.
const SHAPES: usize = 10;
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// Services, or applications whose pods keep apart.
const OWNERS: usize = 10;

/// A promise that is measured by the figures of a case.
pub struct Promise {
    /// Its name.
    pub name: &'static str,
    /// Its size.
    pub size: Size,
    /// What it is about, and what is promised.
    pub about: &'static str,
    /// How it is measured.
    pub how: How,
}

/// How a promise is measured.
pub enum How {
    /// As a case is, in the core.
    Case(fn(Size) -> Plan),
    /// By `preemption.rs`.
    Preemption,
    /// By `steady.rs`.
    Steady,
}

const fn size(nodes: usize, pods: usize) -> Size {
    Size {
        nodes,
        before: 0,
        pods,
    }
}

/// All of them.
pub const PROMISES: [Promise; 6] = [
    Promise {
        name: "P2-100-classes",
        size: size(1_000_000, 1_000_000),
        about: "pods of 100 different requests on ten shapes of nodes: 1 us a pod at most",
        how: How::Case(|size| classes(size, 100)),
    },
    Promise {
        name: "P2-1000-classes",
        size: size(1_000_000, 100_000),
        about: "pods of 1,000 different requests: 20 us a pod at most",
        how: How::Case(|size| classes(size, 1_000)),
    },
    Promise {
        name: "P2-default-spreading",
        size: size(1_000_000, 100_000),
        about: "pods of ten Services, spread by default over zones and nodes: 3 us a pod at most",
        how: How::Case(default_spreading),
    },
    Promise {
        name: "P2-anti-affinity",
        size: size(1_000_000, 100_000),
        about: "pods of ten applications, each one at most on a node: 5 us a pod at most",
        how: How::Case(anti_affinity),
    },
    Promise {
        name: "P4-preemption",
        size: size(1_000_000, 1_000),
        about: "a full cluster; others are evicted for each pod, by the criteria of upstream: 10 s at most for 1,000",
        how: How::Preemption,
    },
    Promise {
        name: "P5-steady",
        size: size(1_000_000, 1_000_000),
        about: "single decisions at --rate while pods leave and nodes change: p99.9 of 5 ms at most; memory 1 GiB at most. \
                Through the API: time until a pod is seen bound",
        how: How::Steady,
    },
];

/// The promise of a name.
pub fn find(name: &str) -> Option<&'static Promise> {
    PROMISES
        .iter()
        .find(|promise| promise.name.eq_ignore_ascii_case(name))
}

/// Millicores and MiB that the pod at a place asks for: of a thousand classes no two ask for the same.
pub fn request(place: usize, classes: usize) -> (usize, usize) {
    // A prime: neighbours in time are not neighbours in size.
    let class = place * 7_919 % classes.max(1);
    (50 + 5 * (class % 40), 100 + 16 * (class / 40))
}

/// A node of ten shapes, in three zones.
pub fn node(index: usize) -> Value {
    let mut node = shapes::node_in_zone(index, &ZONES);
    let step = index % SHAPES;
    let room = json!({
        "cpu": (8 + 4 * step).to_string(),
        "memory": format!("{}Gi", 32 + 16 * (SHAPES - 1 - step)),
        "pods": "110",
    });
    node["status"]["capacity"] = room.clone();
    node["status"]["allocatable"] = room;
    node
}

/// Pods of so many kinds on such nodes.
pub fn classes(size: Size, classes: usize) -> Plan {
    of_kinds(size, classes, move |kind| {
        let (cpu, memory) = request(kind, classes);
        shapes::pod_of(&format!("{cpu}m"), &format!("{memory}Mi"))
    })
}

fn of_kinds(size: Size, kinds: usize, pod: impl Fn(usize) -> Value + 'static) -> Plan {
    Plan {
        node: Box::new(node),
        measured: Pods {
            kinds: Some(kinds),
            pod: Box::new(move |place| pod(place % kinds)),
            ..Pods::new(size.pods, "default", json!({}))
        },
        ..Plan::of(size, json!({}))
    }
}

fn default_spreading(size: Size) -> Plan {
    let app = |owner: usize| format!("app-{owner}");
    let service = |owner: usize| {
        let service = shapes::service(&app(owner), "app", &app(owner));
        ("", "services", "default", service)
    };
    Plan {
        beside: (0..OWNERS).map(service).collect(),
        ..of_kinds(size, OWNERS, move |owner| {
            shapes::labelled(shapes::default_pod(), "app", &app(owner))
        })
    }
}

fn anti_affinity(size: Size) -> Plan {
    of_kinds(size, OWNERS, |owner| {
        let app = format!("app-{owner}");
        let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"});
        let affinity =
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let pod = shapes::with(shapes::default_pod(), "affinity", affinity);
        shapes::labelled(pod, "app", &app)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_classes_ask_for_a_thousand_things() {
        for classes in [100, 1_000] {
            let mut all: Vec<_> = (0..classes).map(|place| request(place, classes)).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), classes);
            assert_eq!(request(classes + 3, classes), request(3, classes));
        }
    }
}
