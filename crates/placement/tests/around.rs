//! Ports, images, spread and affinity by example, worked out by hand.

use placement::{
    Cluster, Config, Explanation, MakerKind, NodeInfo, PickError, PodInfo, PodKey, Scores,
};
use value::{Value, json};

const MATCHED: &str = "node(s) didn't match pod topology spread constraints";

/// Nodes `a0`, `a1` … in zone `a` and so on; 4 cores, 4 Gi, ten pods.
fn cluster(zones: &[(&str, usize)]) -> Cluster {
    let mut cluster = Cluster::new(Config::default());
    for (zone, nodes) in zones {
        for n in 0..*nodes {
            let name = format!("{zone}{n}");
            join(&mut cluster, &node(&name, zone));
        }
    }
    cluster
}

fn node(name: &str, zone: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": zone}},
        "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10"}},
    })
}

fn pod(uid: &str, app: &str) -> Value {
    json!({
        "metadata": {"name": uid, "namespace": "shop", "uid": uid, "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "web"}]},
    })
}

fn join(cluster: &mut Cluster, node: &Value) {
    cluster.upsert_node(&NodeInfo::from_object(node).unwrap());
}

fn bind(cluster: &mut Cluster, pod: &Value, node: &str) {
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    assert!(cluster.observe_pod(&PodInfo::from_object(&pod).unwrap()));
}

fn pick(cluster: &mut Cluster, pod: &Value) -> Result<String, String> {
    let info = PodInfo::from_object(pod).unwrap();
    let class = cluster.class_of(&info.spec);
    match cluster.pick(class, info.pin.as_deref(), &mut || 0) {
        Ok(node) => Ok(cluster.node_name(node).unwrap().to_owned()),
        Err(PickError::Unschedulable(why)) => Err(why.message()),
        Err(PickError::UnknownClass) => panic!("class just asked for"),
    }
}

fn scores(cluster: &mut Cluster, pod: &Value, node: &str) -> Scores {
    let class = cluster.class_of(&PodInfo::from_object(pod).unwrap().spec);
    let node = cluster.node(node).unwrap();
    match cluster.explain(class, node) {
        Some(Explanation::Feasible(scores)) => scores,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_host_port_is_taken_once_and_the_wildcard_takes_it_everywhere() {
    let mut cluster = cluster(&[("a", 1)]);
    let with_port = |uid: &str, ip: &str, protocol: &str| {
        let mut pod = pod(uid, "web");
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080,
            "hostIP": ip, "protocol": protocol}]);
        pod
    };
    bind(&mut cluster, &with_port("first", "10.0.0.1", "TCP"), "a0");
    let taken =
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    for (ip, protocol, expected) in [
        ("10.0.0.1", "TCP", Err(taken.to_owned())),
        ("0.0.0.0", "TCP", Err(taken.to_owned())),
        ("", "", Err(taken.to_owned())),
        ("10.0.0.2", "TCP", Ok("a0".to_owned())),
        ("10.0.0.1", "UDP", Ok("a0".to_owned())),
    ] {
        assert_eq!(pick(&mut cluster, &with_port("p", ip, protocol)), expected);
    }
    assert!(cluster.remove_pod(PodKey::of("first")));
    assert!(pick(&mut cluster, &with_port("p", "", "")).is_ok());
}

#[test]
fn an_image_counts_less_the_fewer_nodes_have_it() {
    let mut cluster = cluster(&[("a", 4)]);
    let mut object = node("a0", "a");
    object["status"]["images"] = json!([{"names": ["web:latest"], "sizeBytes": 800 << 20}]);
    join(&mut cluster, &object);
    // One node of four: 200 MiB of 800; (200 - 23) * 100 / 977 = 18.
    assert_eq!(scores(&mut cluster, &pod("p", "web"), "a0").image, 18);
    assert_eq!(scores(&mut cluster, &pod("p", "web"), "a1").image, 0);
    assert_eq!(pick(&mut cluster, &pod("p", "web")), Ok("a0".into()));
}

fn spread(uid: &str, key: &str, when: &str, min_domains: Option<i64>) -> Value {
    let mut pod = pod(uid, "web");
    pod["spec"]["topologySpreadConstraints"] = json!([{"topologyKey": key, "maxSkew": 1,
        "whenUnsatisfiable": when, "minDomains": min_domains,
        "labelSelector": {"matchLabels": {"app": "web"}}}]);
    pod
}

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

#[test]
fn no_zone_gets_more_than_one_pod_ahead() {
    let mut cluster = cluster(&[("a", 1), ("b", 1)]);
    let hard = |uid: &str| spread(uid, ZONE, "DoNotSchedule", None);
    bind(&mut cluster, &pod("1", "web"), "a0");
    assert_eq!(pick(&mut cluster, &hard("p")), Ok("b0".into()));
    bind(&mut cluster, &pod("2", "other"), "b0");
    assert_eq!(pick(&mut cluster, &hard("p")), Ok("b0".into()));
    // Zone b is full, and a would be two ahead.
    let mut full = pod("full", "other");
    full["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "4".into();
    bind(&mut cluster, &full, "b0");
    let mut asking = hard("p");
    asking["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1".into();
    assert_eq!(
        pick(&mut cluster, &asking),
        Err(format!(
            "0/2 nodes are available: 1 Insufficient cpu, 1 {MATCHED}."
        ))
    );
    // Two zones where three are asked for: the emptiest counts as empty, so nobody may have two.
    let three = spread("p", ZONE, "DoNotSchedule", Some(3));
    bind(&mut cluster, &pod("3", "web"), "b0");
    assert_eq!(
        pick(&mut cluster, &three),
        Err(format!("0/2 nodes are available: 2 {MATCHED}."))
    );
    // A node without the label is no domain at all.
    let mut bare = node("bare", "");
    bare["metadata"]["labels"] = json!({});
    join(&mut cluster, &bare);
    assert_eq!(
        pick(&mut cluster, &three),
        Err(format!(
            "0/3 nodes are available: 1 {MATCHED} (missing required label), 2 {MATCHED}."
        ))
    );
}

#[test]
fn hosts_are_domains_without_being_shapes() {
    let mut cluster = cluster(&[("a", 50)]);
    let hard = |uid: &str| spread(uid, HOST, "DoNotSchedule", None);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..50 {
        let uid = format!("p{n}");
        let object = hard(&uid);
        let node = pick(&mut cluster, &object).unwrap();
        bind(&mut cluster, &object, &node);
        assert!(seen.insert(node), "each host once before any twice");
    }
    assert!(pick(&mut cluster, &hard("next")).is_ok());
    // The shape of absent nodes, and the one of all others.
    assert_eq!(cluster.sizes().shapes, 2);
    assert_eq!(cluster.sizes().live_states, 1);
}

#[test]
fn raw_spread_scores_by_hand() {
    // Zones a (two nodes) and b (one); three web pods in a, one in b.
    let mut cluster = cluster(&[("a", 2), ("b", 1)]);
    for (n, on) in ["a0", "a0", "a1", "b0"].into_iter().enumerate() {
        bind(&mut cluster, &pod(&n.to_string(), "web"), on);
    }
    // Two zones: ln 4 = 1.386; a: 3 * 1.386 = 4.16 -> 4, b: 1.386 -> 1; maxSkew - 1 adds nothing.
    let soft = spread("p", ZONE, "ScheduleAnyway", None);
    let of = |s: Scores| (s.spread_raw, s.spread);
    assert_eq!(of(scores(&mut cluster, &soft, "a0")), (4, 25));
    assert_eq!(of(scores(&mut cluster, &soft, "b0")), (1, 100));
    // Three hosts: ln 5 = 1.609; a0: 3.22 -> 3, a1 and b0: 1.6 -> 2.
    let soft = spread("p", HOST, "ScheduleAnyway", None);
    assert_eq!(of(scores(&mut cluster, &soft, "a0")), (3, 66));
    assert_eq!(of(scores(&mut cluster, &soft, "a1")), (2, 100));
}

#[test]
fn pods_of_a_service_are_spread_by_default() {
    let mut cluster = cluster(&[("a", 2), ("b", 1)]);
    bind(&mut cluster, &pod("1", "web"), "a0");
    let asking = pod("p", "web");
    assert_eq!(scores(&mut cluster, &asking, "a0").spread, 0);
    let selector = json!({"app": "web"});
    assert!(cluster.note_maker(MakerKind::Service, "shop", "web", &selector));
    // Hosts: ln 5, +2; zones: ln 4, +4. a0: 1.609 + 1.386 + 6 = 8.996 -> 9; a1: 1.386 + 6 -> 7; b0: 6.
    let of = |s: Scores| (s.spread_raw, s.spread);
    assert_eq!(of(scores(&mut cluster, &asking, "a0")), (9, 66));
    assert_eq!(of(scores(&mut cluster, &asking, "a1")), (7, 88));
    assert_eq!(of(scores(&mut cluster, &asking, "b0")), (6, 100));
    // Pods that go do not count.
    let mut going = pod("1", "web");
    going["spec"]["nodeName"] = "a0".into();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    cluster.observe_pod(&PodInfo::from_object(&going).unwrap());
    assert_eq!(of(scores(&mut cluster, &asking, "a0")), (6, 100));
    assert!(cluster.note_maker(MakerKind::Service, "shop", "web", &Value::Null));
    assert_eq!(of(scores(&mut cluster, &asking, "a0")), (0, 0));
}

fn company(uid: &str, app: &str, side: &str, of: &str, key: &str) -> Value {
    let mut pod = pod(uid, app);
    pod["spec"]["affinity"][side]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!([{"topologyKey": key, "labelSelector": {"matchLabels": {"app": of}}}]);
    pod
}

#[test]
fn the_first_of_a_group_may_go_anywhere_and_the_others_follow() {
    let mut cluster = cluster(&[("a", 1), ("b", 2)]);
    let stray = company("p", "web", "podAffinity", "db", ZONE);
    assert_eq!(
        pick(&mut cluster, &stray),
        Err("0/3 nodes are available: 3 node(s) didn't match pod affinity rules.".into())
    );
    let own = company("p", "web", "podAffinity", "web", ZONE);
    assert!(pick(&mut cluster, &own).is_ok());
    bind(&mut cluster, &pod("1", "web"), "a0");
    assert_eq!(pick(&mut cluster, &own), Ok("a0".into()));
}

#[test]
fn anti_affinity_holds_both_ways() {
    let mut cluster = cluster(&[("a", 1), ("b", 1)]);
    bind(&mut cluster, &pod("1", "db"), "a0");
    let shy = company("2", "web", "podAntiAffinity", "db", ZONE);
    assert_eq!(pick(&mut cluster, &shy), Ok("b0".into()));
    bind(&mut cluster, &shy, "b0");
    // A db pod may join its like, and not the web pod that keeps away from it.
    assert_eq!(pick(&mut cluster, &pod("3", "db")), Ok("a0".into()));
    let both = company("4", "db", "podAntiAffinity", "db", ZONE);
    assert_eq!(
        pick(&mut cluster, &both),
        Err(
            "0/2 nodes are available: 1 node(s) didn't match pod anti-affinity rules, \
             1 node(s) didn't satisfy existing pods anti-affinity rules."
                .into()
        )
    );
    // In another namespace nobody is concerned.
    let mut elsewhere = pod("5", "db");
    elsewhere["metadata"]["namespace"] = "bank".into();
    assert!(pick(&mut cluster, &elsewhere).is_ok());
}

#[test]
fn preferences_count_from_both_sides() {
    let mut cluster = cluster(&[("a", 1), ("b", 1), ("c", 1)]);
    let prefers = |uid: &str, app: &str, side: &str, weight: i64| {
        let mut pod = pod(uid, app);
        pod["spec"]["affinity"][side]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{"weight": weight, "podAffinityTerm": {"topologyKey": ZONE,
                "labelSelector": {"matchLabels": {"app": "db"}}}}]);
        pod
    };
    bind(&mut cluster, &pod("1", "db"), "a0");
    // Existing pods that like db by 30, dislike it by 20, and require it.
    bind(&mut cluster, &prefers("2", "web", "podAffinity", 30), "b0");
    bind(
        &mut cluster,
        &prefers("3", "web", "podAntiAffinity", 20),
        "c0",
    );
    bind(
        &mut cluster,
        &company("4", "web", "podAffinity", "db", ZONE),
        "a0",
    );
    let asking = prefers("p", "db", "podAffinity", 50);
    let of = |s: Scores| (s.pods_raw, s.pods);
    // a: 50 of its own wish, 1 for the pod that requires it. From -20 to 51 is 71.
    assert_eq!(of(scores(&mut cluster, &asking, "a0")), (51, 100));
    assert_eq!(of(scores(&mut cluster, &asking, "b0")), (30, 70));
    assert_eq!(of(scores(&mut cluster, &asking, "c0")), (-20, 0));
}

#[test]
fn namespaces_are_chosen_by_label() {
    let mut cluster = cluster(&[("a", 1), ("b", 1)]);
    cluster.upsert_namespace("bank", vec![("team".into(), "red".into())]);
    let mut other = pod("1", "db");
    other["metadata"]["namespace"] = "bank".into();
    bind(&mut cluster, &other, "a0");
    let mut shy = company("p", "web", "podAntiAffinity", "db", ZONE);
    let term = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0";
    shy.pointer_mut(term).unwrap()["namespaceSelector"] = json!({"matchLabels": {"team": "red"}});
    assert_eq!(pick(&mut cluster, &shy), Ok("b0".into()));
    // The namespace changes hands: its pods are no longer meant.
    cluster.upsert_namespace("bank", vec![("team".into(), "blue".into())]);
    for uid in ["2", "3"] {
        bind(&mut cluster, &pod(uid, "other"), "b0");
    }
    assert_eq!(pick(&mut cluster, &shy), Ok("a0".into()));
    cluster.upsert_namespace("bank", vec![("team".into(), "red".into())]);
    assert_eq!(pick(&mut cluster, &shy), Ok("b0".into()));
}
