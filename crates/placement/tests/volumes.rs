//! Volumes by example: what claims come to, who gets which volume, what nodes take, and what wakes who waits.

use placement::queue::{Event, Pending, Queue, QueueConfig};
use placement::{
    Bindings, Cluster, Concerned, Config, NodeId, NodeInfo, PickError, Plugin, PluginSet, PodInfo,
    PodKey, Preemption, Thing, ThingKind, Unschedulable,
};
use std::sync::Arc;
use value::{Value, json};

const HOST: &str = "kubernetes.io/hostname";

struct Rig(Cluster);

fn gibi(n: u64) -> String {
    format!("{n}Gi")
}

impl Rig {
    /// Three nodes of one CPU, in zones a, a and b.
    fn new() -> Rig {
        let mut rig = Rig(Cluster::new(Config::default()));
        for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
            let node = json!({"metadata": {"name": name, "labels": {HOST: name, "zone": zone}}, "spec": {},
                "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}}});
            rig.0.upsert_node(&NodeInfo::from_object(&node).unwrap());
        }
        rig.note(
            ThingKind::Classes,
            "local",
            json!({"provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer"}),
        );
        rig.note(
            ThingKind::Classes,
            "made",
            json!({"provisioner": "drv", "volumeBindingMode": "WaitForFirstConsumer"}),
        );
        rig
    }

    fn note(&mut self, kind: ThingKind, key: &str, object: Value) -> Vec<Concerned> {
        self.0.note_thing(key, Thing::read(kind, &object))
    }

    fn claim(&mut self, name: &str, class: &str, size: u64) -> Vec<Concerned> {
        let claim = json!({"metadata": {"namespace": "n", "name": name, "uid": name}, "spec": {"storageClassName": class,
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": gibi(size)}}}});
        self.note(ThingKind::Claims, &format!("n/{name}"), claim)
    }

    /// A claim that is bound to a volume of the driver.
    fn bound(&mut self, name: &str, mode: &str) {
        let claim = json!({"metadata": {"namespace": "n", "name": name, "uid": name,
                "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"storageClassName": "made", "accessModes": [mode], "volumeName": format!("v-{name}")}});
        self.note(ThingKind::Claims, &format!("n/{name}"), claim);
        let volume = json!({"metadata": {"name": format!("v-{name}")}, "status": {"phase": "Bound"},
            "spec": {"csi": {"driver": "drv", "volumeHandle": name}, "claimRef": {"namespace": "n", "name": name}}});
        self.note(ThingKind::Volumes, &format!("v-{name}"), volume);
    }

    fn local(&mut self, name: &str, node: &str, size: u64) -> Vec<Concerned> {
        self.note(ThingKind::Volumes, name, local(name, node, size))
    }

    fn takes(&mut self, node: &str, count: i64) -> Vec<Concerned> {
        let limits =
            json!({"spec": {"drivers": [{"name": "drv", "allocatable": {"count": count}}]}});
        self.note(ThingKind::CsiNodes, node, limits)
    }

    fn pick(&mut self, pod: &PodInfo) -> Result<(placement::ClassId, NodeId), Arc<Unschedulable>> {
        let mut pod = pod.clone();
        pod.spec.volumes = self.0.volumes_of(&pod);
        let class = self.0.class_of(&pod.spec);
        match self.0.pick(class, None, &mut || 0) {
            Ok(node) => Ok((class, node)),
            Err(PickError::Unschedulable(why)) => Err(why),
            Err(PickError::UnknownClass) => panic!("class just asked for"),
        }
    }

    fn refusal(&mut self, pod: &PodInfo) -> String {
        self.pick(pod).unwrap_err().message()
    }

    fn place(&mut self, pod: &PodInfo) -> (String, Bindings) {
        let (class, node) = self
            .pick(pod)
            .unwrap_or_else(|why| panic!("{}", why.message()));
        let key = PodKey::of(&pod.uid);
        let bindings = self.0.take_volumes(key, class, node).unwrap();
        assert!(self.0.assume(key, class, node));
        (self.0.node_name(node).unwrap().to_owned(), bindings)
    }
}

fn local(name: &str, node: &str, size: u64) -> Value {
    json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {"storageClassName": "local",
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": gibi(size)}, "local": {"path": "/"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
            [{"key": HOST, "operator": "In", "values": [node]}]}]}}}})
}

fn pod(uid: &str, claims: &[&str]) -> PodInfo {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
        .collect();
    with(uid, json!({"volumes": volumes}))
}

fn with(uid: &str, spec: Value) -> PodInfo {
    let metadata = json!({"namespace": "n", "name": uid, "uid": uid});
    PodInfo::from_object(&json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn bind(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    let pairs = pairs.iter();
    pairs
        .map(|(v, c)| ((*v).into(), format!("n/{c}").into()))
        .collect()
}

#[test]
fn the_smallest_volume_that_fits_is_given_to_the_smallest_claim() {
    let mut rig = Rig::new();
    for (name, node, size) in [
        ("five", "n1", 5),
        ("two", "n1", 2),
        ("three", "n1", 3),
        ("one", "n2", 1),
    ] {
        rig.local(name, node, size);
    }
    rig.claim("large", "local", 2);
    rig.claim("small", "local", 1);
    let both = pod("p", &["large", "small"]);
    let (node, bindings) = rig.place(&both);
    assert_eq!(node, "n1");
    assert_eq!(
        bindings.to_bind,
        bind(&[("two", "small"), ("three", "large")])
    );
    // They are taken until the API says otherwise, or they are given back.
    rig.claim("third", "local", 2);
    assert_eq!(
        rig.place(&pod("q", &["third"])).1.to_bind,
        bind(&[("five", "third")])
    );
    rig.claim("fourth", "local", 2);
    let fourth = pod("r", &["fourth"]);
    assert_eq!(
        rig.refusal(&fourth),
        "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind."
    );
    assert!(rig.0.give_back_volumes(PodKey::of("p")));
    assert!(!rig.0.give_back_volumes(PodKey::of("p")));
    assert_eq!(rig.place(&fourth).1.to_bind, bind(&[("two", "fourth")]));
}

#[test]
fn a_volume_given_to_a_claim_is_its_only_choice() {
    let mut rig = Rig::new();
    rig.local("one", "n1", 1);
    rig.claim("data", "local", 1);
    let mut given = local("mine", "n3", 5);
    given["spec"]["claimRef"] = json!({"namespace": "n", "name": "data"});
    given["status"]["phase"] = "Pending".into();
    rig.note(ThingKind::Volumes, "mine", given.clone());
    let (node, bindings) = rig.place(&pod("p", &["data"]));
    assert_eq!(
        (node.as_str(), bindings.to_bind),
        ("n3", bind(&[("mine", "data")]))
    );
    // Another claim of that name is another claim.
    rig.0.give_back_volumes(PodKey::of("p"));
    given["spec"]["claimRef"]["uid"] = "another".into();
    rig.note(ThingKind::Volumes, "mine", given);
    assert_eq!(rig.place(&pod("q", &["data"])).0, "n1");
}

#[test]
fn one_claim_gets_a_volume_and_another_has_one_made() {
    let mut rig = Rig::new();
    let class = json!({"provisioner": "drv", "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies":
        [{"matchLabelExpressions": [{"key": "zone", "values": ["b"]}]}]});
    rig.note(ThingKind::Classes, "made", class);
    rig.local("here", "n1", 1);
    rig.local("there", "n3", 1);
    rig.claim("given", "local", 1);
    rig.claim("made", "made", 2);
    let both = pod("p", &["given", "made"]);
    let (node, bindings) = rig.place(&both);
    assert_eq!(node, "n3");
    assert_eq!(bindings.to_bind, bind(&[("there", "given")]));
    assert_eq!(bindings.to_make, ["n/made".into()]);
    // The node is chosen for that claim now.
    assert_eq!(rig.place(&pod("q", &["made"])).0, "n3");
    rig.note(
        ThingKind::Drivers,
        "drv",
        json!({"spec": {"storageCapacity": true}}),
    );
    rig.claim("more", "made", 2);
    let more = pod("r", &["more"]);
    assert_eq!(
        rig.refusal(&more),
        "0/3 nodes are available: 1 node(s) did not have enough free storage, \
         2 node(s) didn't find available persistent volumes to bind."
    );
    let room =
        |size: &str| json!({"storageClassName": "made", "nodeTopology": {}, "capacity": size});
    rig.note(ThingKind::Capacities, "n/room", room("1Gi"));
    assert!(rig.pick(&more).is_err());
    let heard = rig.note(ThingKind::Capacities, "n/room", room("2Gi"));
    assert_eq!(heard, [Concerned::Waiting(Event::StorageCapacityUpdate)]);
    assert_eq!(rig.place(&more).0, "n3");
}

#[test]
fn claims_and_disks_that_are_not_shared_can_be_had_by_evicting() {
    let mut rig = Rig::new();
    rig.bound("alone", "ReadWriteOncePod");
    rig.place(&pod("first", &["alone"]));
    let mut second = pod("second", &["alone"]);
    let why = rig.pick(&second).unwrap_err();
    assert_eq!(
        why.message(),
        "0/3 nodes are available: 3 node has pod using PersistentVolumeClaim with the same name and \
         ReadWriteOncePod access mode."
    );
    assert_eq!(
        why.rejected_by,
        PluginSet::of(&[Plugin::VolumeRestrictions])
    );
    assert_eq!(why.preemptible, 3);
    second.spec.priority = 1;
    let disk =
        json!({"volumes": [{"gcePersistentDisk": {"pdName": "d"}}], "nodeSelector": {"zone": "b"}});
    rig.place(&with("writes", disk.clone()));
    let mut reads = with("reads", disk);
    assert_eq!(
        rig.refusal(&reads),
        "0/3 nodes are available: 1 node(s) had no available disk, 2 node(s) didn't match Pod's node affinity/selector."
    );
    reads.spec.priority = 1;
    for (pod, victim) in [(second, "first"), (reads, "writes")] {
        let mut info = pod.clone();
        info.spec.volumes = rig.0.volumes_of(&info);
        let class = rig.0.class_of(&info.spec);
        let found = rig
            .0
            .preempt(PodKey::of(&pod.uid), class, None, 0, &mut || 0);
        let Ok(Preemption::Found { victims, .. }) = found else {
            panic!("{found:?}")
        };
        assert_eq!(victims, [PodKey::of(victim)]);
    }
}

#[test]
fn nodes_take_so_many_volumes() {
    let mut rig = Rig::new();
    for node in ["n1", "n2"] {
        rig.takes(node, 0);
    }
    rig.takes("n3", 2);
    for name in ["a", "b", "c"] {
        rig.bound(name, "ReadWriteMany");
    }
    assert_eq!(rig.place(&pod("p1", &["a"])).0, "n3");
    assert_eq!(rig.place(&pod("p2", &["a", "b"])).0, "n3");
    // Shared ones count once; one more does not fit.
    assert_eq!(rig.place(&pod("p3", &["b"])).0, "n3");
    let why = rig.pick(&pod("p4", &["c"])).unwrap_err();
    assert_eq!(
        why.message(),
        "0/3 nodes are available: 3 node(s) exceed max volume count."
    );
    assert_eq!(why.rejected_by, PluginSet::of(&[Plugin::NodeVolumeLimits]));
    // What is attached counts though its pod has gone.
    let attachment = json!({"spec": {"attacher": "drv", "nodeName": "n3", "source": {"persistentVolumeName": "v-a"}}});
    rig.note(ThingKind::Attachments, "va", attachment);
    for gone in ["p1", "p2"] {
        assert!(rig.0.remove_pod(PodKey::of(gone)));
    }
    assert!(rig.pick(&pod("p4", &["c"])).is_err());
    let heard = rig.0.forget_thing(ThingKind::Attachments, "va");
    assert_eq!(heard, [Concerned::Waiting(Event::VolumeAttachmentDelete)]);
    assert_eq!(rig.place(&pod("p4", &["c"])).0, "n3");
    // One that is still to be made counts, too.
    rig.claim("new", "made", 1);
    assert!(rig.pick(&pod("p5", &["new"])).is_err());
    let heard = rig.takes("n1", 1);
    assert_eq!(heard, [Concerned::Waiting(Event::CsiNodeUpdate)]);
    assert_eq!(rig.place(&pod("p5", &["new"])).0, "n1");
    // Built-in disks are their drivers' volumes; a node without limits takes any.
    let limits =
        json!({"spec": {"drivers": [{"name": "ebs.csi.aws.com", "allocatable": {"count": 0}}]}});
    for node in ["n1", "n2"] {
        rig.note(ThingKind::CsiNodes, node, limits.clone());
    }
    let disk = with(
        "p6",
        json!({"volumes": [{"awsElasticBlockStore": {"volumeID": "vol-1"}}]}),
    );
    assert_eq!(rig.place(&disk).0, "n3");
}

#[test]
fn whoever_waits_hears_of_what_may_help() {
    let mut rig = Rig::new();
    let heard = rig.local("one", "n1", 1);
    assert_eq!(heard, [Concerned::Waiting(Event::VolumeAdd)]);
    assert_eq!(rig.local("one", "n1", 1), [], "nothing changed");
    let heard = rig.claim("c", "local", 1);
    assert_eq!(heard, [Concerned::Claim("n/c".into())]);
    let mut given = local("one", "n1", 1);
    given["spec"]["claimRef"] = json!({"namespace": "n", "name": "c"});
    let heard = rig.note(ThingKind::Volumes, "one", given);
    assert_eq!(heard[0], Concerned::Claim("n/c".into()));
    let heard = rig.note(ThingKind::Classes, "other", json!({"provisioner": "x"}));
    assert_eq!(heard, [Concerned::Everybody]);

    let wakes = |event: Event, rejected_by: Plugin| {
        let mut cluster = Cluster::new(Config::default());
        let class = cluster.class_of(&pod("p", &[]).spec);
        let mut queue = Queue::new(QueueConfig::default());
        let entry = Pending {
            pod: PodKey::of("p"),
            class,
            priority: 0,
            gated: false,
        };
        queue.add(entry, 0).unwrap();
        let turn = queue.pop(0).unwrap();
        queue.unschedulable(turn.pod, PluginSet::of(&[rejected_by]), 0);
        queue.event(event, 0, |_, _| true);
        queue.counts().parked == 0
    };
    for (event, plugin) in [
        (Event::AssignedPodDelete, Plugin::VolumeRestrictions),
        (Event::AssignedPodDelete, Plugin::NodeVolumeLimits),
        (Event::CsiNodeAdd, Plugin::NodeVolumeLimits),
        (Event::VolumeAttachmentDelete, Plugin::NodeVolumeLimits),
        (Event::VolumeAdd, Plugin::VolumeBinding),
        (Event::VolumeUpdate, Plugin::VolumeZone),
        (Event::StorageCapacityAdd, Plugin::VolumeBinding),
        (Event::CsiDriverUpdate, Plugin::VolumeBinding),
    ] {
        assert!(wakes(event, plugin), "{event:?}");
        assert!(!wakes(event, Plugin::NodePorts) || event == Event::AssignedPodDelete);
    }
}

#[test]
fn claims_that_are_not_ready_are_told_apart() {
    let mut rig = Rig::new();
    rig.note(ThingKind::Classes, "fast", json!({"provisioner": "x"}));
    for (name, claim) in [
        ("plain", json!({"spec": {"storageClassName": "fast"}})),
        (
            "unknown",
            json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}),
        ),
        ("going", json!({"metadata": {"deletionTimestamp": "t"}})),
        (
            "lost",
            json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}}),
        ),
        (
            "named",
            json!({"spec": {"storageClassName": "made", "volumeName": "v"}}),
        ),
        (
            "p-own",
            json!({"metadata": {"ownerReferences": [{"uid": "other", "controller": true}]}}),
        ),
    ] {
        rig.note(ThingKind::Claims, &format!("n/{name}"), claim);
    }
    let unbound = "pod has unbound immediate PersistentVolumeClaims";
    for (claim, expected) in [
        ("none", "persistentvolumeclaim \"none\" not found"),
        ("going", "persistentvolumeclaim \"going\" is being deleted"),
        (
            "lost",
            "persistentvolumeclaim \"lost\" bound to non-existent persistentvolume \"v\"",
        ),
        ("plain", unbound),
        ("unknown", unbound),
        ("named", unbound),
    ] {
        let refusal = rig.refusal(&pod("p", &[claim]));
        assert_eq!(refusal, format!("0/3 nodes are available: {expected}."));
    }
    for (volume, expected) in [
        (
            "own",
            "PVC n/p-own was not created for pod n/p (pod is not owner)",
        ),
        (
            "none",
            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-none\"",
        ),
    ] {
        let own = with("p", json!({"volumes": [{"name": volume, "ephemeral": {}}]}));
        assert_eq!(
            rig.refusal(&own),
            format!("0/3 nodes are available: {expected}.")
        );
    }
}
