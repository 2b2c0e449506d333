//! The pick where somebody else has a say, with nodes in shards: what one cluster says.

use placement::shards::{Coordinator, Direct};
use placement::{
    Admission, Among, Asked, Cluster, Config, NodeInfo, PickError, PodInfo, PodKey, Preemption,
    Where,
};
use value::json;

const NODES: usize = 9;
/// Two of it on nodes 3 and 7.
const GPU: &str = "example.com/gpu";

fn node(at: usize) -> NodeInfo {
    let cpu = format!("{}", 1 + at % 3 * 3);
    let mut node = json!({"metadata": {"name": format!("n{at}"), "labels": {"rack": format!("r{}", at % 2)}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}});
    if at % 4 == 3 {
        node["status"]["allocatable"][GPU] = "2".into();
    }
    NodeInfo::from_object(&node).unwrap()
}

fn pod(name: &str, cpu: &str, priority: i64, node: Option<&str>) -> PodInfo {
    let object = json!({"metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"nodeName": node, "priority": priority, "containers": [{"name": "c",
            "resources": {"requests": {"cpu": cpu}}}]}});
    PodInfo::from_object(&object).unwrap()
}

fn both() -> (Cluster, Coordinator<Direct>) {
    let config = Config::default();
    let mut one = Cluster::new(config.clone());
    let direct = Direct::through_bytes(3, &config);
    let mut many = Coordinator::new(config, direct);
    for at in 0..NODES {
        one.upsert_node(&node(at));
        many.upsert_node(&node(at));
    }
    (one, many)
}

type Said = Option<Result<String, PickError>>;

/// Both are asked, with the same say; the first is told.
fn ask(cpu: &str, say: &dyn Fn(Asked<'_>) -> Admission, named: &[&str], wanted: usize) -> Said {
    let pod = pod("w", cpu, 0, None);
    ask_with(&pod, say, (named, &[]), wanted)
}

/// Names, none for all nodes; and resources whose offerers are asked, too.
type Whom<'a> = (&'a [&'a str], &'a [Box<str>]);

fn among<'a>(
    (named, resources): Whom<'a>,
    wanted: usize,
    admit: &'a mut dyn FnMut(Asked<'_>) -> Admission,
) -> Among<'a> {
    let named_ones = || Box::new(named.iter().copied());
    Among {
        candidates: match (named, resources) {
            ([], []) => Where::All(4),
            (_, []) => Where::Named(named_ones()),
            _ => Where::NamedOrOffering(named_ones(), resources, 5),
        },
        wanted,
        weight: 2,
        otherwise: "cannot allocate all claims",
        admit,
    }
}

fn ask_with(
    pod: &PodInfo,
    say: &dyn Fn(Asked<'_>) -> Admission,
    whom: Whom<'_>,
    wanted: usize,
) -> Said {
    let (mut one, mut many) = both();
    let key = PodKey::of("w");
    let (class, same) = (one.class_of(&pod.spec), many.class_of(&pod.spec));
    let mut admit = |asked: Asked<'_>| say(asked);
    let here = one.pick_admitted(key, class, None, among(whom, wanted, &mut admit), &mut || 0);
    let mut admit = |asked: Asked<'_>| say(asked);
    let there = many.pick_admitted(key, same, None, among(whom, wanted, &mut admit), &mut || 0);
    let here = here.map(|picked| picked.map(|node| one.node_name(node).unwrap().to_owned()));
    let there = there.map(|picked| picked.map(|node| many.node_name(node).unwrap().to_owned()));
    assert_eq!(here, there);
    here
}

#[test]
fn shards_answer_as_one_cluster_does() {
    // Only the node with that name and label; it is worth something, too.
    let only = |asked: Asked<'_>| match (asked.name(), asked.label("rack")) {
        ("n5", Some("r1")) => Admission::Yes(3),
        _ => Admission::No("no device"),
    };
    assert_eq!(ask("500m", &only, &[], 100), Some(Ok("n5".into())));
    assert_eq!(
        ask("500m", &only, &["n2", "n5"], 100),
        Some(Ok("n5".into()))
    );
    // The best of those that are admitted, by scores and worth.
    let worth = |asked: Asked<'_>| match asked.name() {
        "n0" | "n3" => Admission::Yes(0),
        "n8" => Admission::Yes(100),
        _ => Admission::No("no device"),
    };
    assert_eq!(ask("500m", &worth, &[], 100), Some(Ok("n8".into())));
    // The first that is enough.
    let all = |_: Asked<'_>| Admission::Yes(0);
    assert_eq!(ask("500m", &all, &["n7", "n8"], 1), Some(Ok("n7".into())));
    assert_eq!(ask("500m", &|_| Admission::Stop, &[], 100), None);
}

#[test]
fn what_is_said_when_nobody_is_admitted() {
    let none = |_: Asked<'_>| Admission::No("no device");
    let Some(Err(PickError::Unschedulable(why))) = ask("2", &none, &["n1", "n0"], 100) else {
        panic!("nobody was admitted");
    };
    assert_eq!(
        why.message(),
        "0/9 nodes are available: 1 no device, 3 Insufficient cpu, 5 cannot allocate all claims."
    );
}

#[test]
fn nobody_is_evicted_from_nodes_that_are_not_admitted() {
    let (_, mut many) = both();
    for at in 0..NODES {
        let (name, node) = (format!("p{at}"), format!("n{at}"));
        many.observe_pod(&pod(&name, "900m", 0, Some(&node)));
    }
    let urgent = pod("u", "900m", 9, None);
    let class = many.class_of(&urgent.spec);
    // Nodes of one core have room for one of them only.
    let mut admit = |asked: Asked<'_>| match asked.name() {
        "n6" => Admission::Yes(0),
        _ => Admission::No("no device"),
    };
    let found = many.preempt_among(PodKey::of("u"), class, None, 1, &mut || 0, Some(&mut admit));
    let Ok(Preemption::Found { node, victims, .. }) = found else {
        panic!("{found:?}");
    };
    assert_eq!(many.node_name(node), Some("n6"));
    assert_eq!(victims, [PodKey::of("p6")]);
}

/// A resource that some nodes offer and devices stand for on others.
#[test]
fn who_offers_a_resource_is_asked_beside_those_with_devices() {
    let with = |gpus: i64, delegated: bool| {
        let mut pod = pod("w", "500m", 0, None);
        pod.spec.request.real.scalars = vec![(GPU.into(), gpus)];
        if delegated {
            pod.spec.devices.delegated = vec![GPU.into()];
        }
        pod
    };
    let resources: [Box<str>; 1] = [GPU.into()];
    let whom: Whom<'_> = (&["n1", "n2"], &resources);
    // Nodes that offer it need nothing else; of the others one has devices.
    let say = |asked: Asked<'_>| match (asked.offers(GPU), asked.name()) {
        (2, _) | (0, "n1") => Admission::Yes(0),
        _ => Admission::No("no device"),
    };
    let best = |asked: Asked<'_>| match asked.name() {
        "n7" => Admission::Yes(9),
        _ => say(asked),
    };
    let fits = with(2, true);
    assert_eq!(ask_with(&fits, &best, whom, 100), Some(Ok("n7".into())));
    let only = |asked: Asked<'_>| match asked.name() {
        "n1" => Admission::Yes(0),
        _ => Admission::No("no device"),
    };
    assert_eq!(ask_with(&fits, &only, whom, 100), Some(Ok("n1".into())));
    let message = |pod: &PodInfo| match ask_with(pod, &|_| Admission::No("no device"), whom, 100) {
        Some(Err(PickError::Unschedulable(why))) => why.message(),
        other => panic!("{other:?}"),
    };
    // Four nodes are candidates; the other five have no devices.
    assert_eq!(
        message(&fits),
        "0/9 nodes are available: 4 no device, 5 cannot allocate all claims."
    );
    // More than a node offers is lacking there only.
    assert_eq!(
        message(&with(3, true)),
        "0/9 nodes are available: 2 Insufficient example.com/gpu, 2 no device, 5 cannot allocate all claims."
    );
    assert_eq!(
        message(&with(3, false)),
        "0/9 nodes are available: 9 Insufficient example.com/gpu."
    );
}
