//! Stories of claims: volumes and classes in, a plan as text out; and long runs in which many claims meet many volumes.

use super::*;
use crate::action::{Action, PERSISTENT_VOLUME_CLAIMS, text};
use crate::toy::{Dice, World};
use std::slice::from_ref;
use std::sync::Arc;
use value::json;

pub(super) fn claim(more: Value) -> Value {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "n", "name": "c", "uid": "cu", "resourceVersion": "7"},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "resources": {"requests": {"storage": "2Gi"}}},
        "status": {"phase": "Pending"}});
    lay_over(&mut claim, &more);
    claim
}

pub(super) fn volume(name: &str, size: &str, more: Value) -> Value {
    let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "uid": format!("{name}-uid"), "resourceVersion": "3"},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "capacity": {"storage": size},
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/x"}},
        "status": {"phase": "Available"}});
    lay_over(&mut volume, &more);
    volume
}

fn lay_over(value: &mut Value, more: &Value) {
    match (value, more) {
        (Value::Object(fields), Value::Object(more)) => {
            for (name, more) in more {
                lay_over(fields.entry(name.clone()).or_insert(Value::Null), more);
            }
        }
        (value, more) => *value = more.clone(),
    }
}

fn class(name: &str, mode: &str, provisioner: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

/// A plan, with what is given in the order in which a shell gives it.
fn run_with(claim: &Value, volumes: &[Value], classes: &[Value], pods: &[&str]) -> Vec<Action> {
    let mut all: Vec<&Value> = volumes.iter().collect();
    all.sort_by_key(|volume| Rank::of(volume));
    let key = key_of(claim);
    let named = |volume: &&&Value| claim_named(volume).is_some_and(|(named, _)| named == key);
    let reserved = all.iter().filter(named);
    let reserved: Vec<Arc<Value>> = reserved.map(|v| Arc::new((*v).clone())).collect();
    plan_claim(
        claim,
        &ClaimObserved {
            volume: &|name| volumes.iter().find(|volume| object::name(volume) == name),
            reserved: &reserved,
            free: &|_| Box::new(all.clone().into_iter()),
            class: &|name| classes.iter().find(|class| object::name(class) == name),
            default_class: default_class(classes),
            waiting_pods: pods,
        },
    )
}

fn run(claim: &Value, volumes: &[Value], classes: &[Value]) -> String {
    text(&run_with(claim, volumes, classes, &[]))
}

#[test]
fn a_claim_gets_the_smallest_volume_that_fits_and_both_are_written() {
    let volumes = [
        volume("large", "10Gi", json!({})),
        volume("right", "2Gi", json!({})),
        volume("small", "1Gi", json!({})),
        volume(
            "taken",
            "2Gi",
            json!({"spec": {"claimRef": {"namespace": "n", "name": "x", "uid": "x"}}}),
        ),
        volume(
            "classy",
            "2Gi",
            json!({"spec": {"storageClassName": "fast"}}),
        ),
        volume("block", "2Gi", json!({"spec": {"volumeMode": "Block"}})),
        volume(
            "aside",
            "2Gi",
            json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        ),
        volume(
            "going",
            "2Gi",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ),
        volume("released", "2Gi", json!({"status": {"phase": "Released"}})),
    ];
    assert_eq!(
        run(&claim(json!({})), &volumes, &[]),
        concat!(
            r#"patch persistentvolumes right merge {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"},"#,
            r#""resourceVersion":"3","uid":"right-uid"},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","#,
            r#""name":"c","namespace":"n","resourceVersion":"7","uid":"cu"}}}"#,
            "\n",
            r#"patch persistentvolumes/status right merge {"metadata":{"uid":"right-uid"},"status":{"message":null,"phase":"Bound"}}"#,
            "\nthen\n",
            r#"patch persistentvolumeclaims n/c merge {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","#,
            r#""pv.kubernetes.io/bound-by-controller":"yes"},"resourceVersion":"7","uid":"cu"},"spec":{"volumeName":"right"}}"#,
            "\n",
            r#"patch persistentvolumeclaims/status n/c merge {"metadata":{"uid":"cu"},"status":{"accessModes":["ReadWriteOnce"],"#,
            r#""capacity":{"storage":"2Gi"},"phase":"Bound"}}"#,
            "\n"
        )
    );
    // More access modes than asked for are worse than more space.
    let rich = volume(
        "rich",
        "2Gi",
        json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}),
    );
    let plan = run(&claim(json!({})), &[rich, volumes[0].clone()], &[]);
    assert!(plan.starts_with("patch persistentvolumes large "), "{plan}");
    let selective = claim(json!({"spec": {"selector": {"matchLabels": {"disk": "ssd"}}}}));
    let ssd = volume(
        "ssd",
        "20Gi",
        json!({"metadata": {"labels": {"disk": "ssd"}}}),
    );
    let plan = run(&selective, &[volumes[1].clone(), ssd], &[]);
    assert!(plan.starts_with("patch persistentvolumes ssd "), "{plan}");
}

#[test]
fn a_volume_that_names_the_claim_goes_before_others() {
    let own = volume(
        "own",
        "5Gi",
        json!({"spec": {"storageClassName": "x", "claimRef": {"namespace": "n", "name": "c"}}}),
    );
    let plan = run(
        &claim(json!({})),
        &[volume("right", "2Gi", json!({})), own],
        &[],
    );
    // A person chose: nothing says that a controller did.
    assert!(
        plan.starts_with(concat!(
            r#"patch persistentvolumes own merge {"metadata":{"resourceVersion":"3","uid":"own-uid"},"#,
            r#""spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"c","namespace":"n","resourceVersion":"7","uid":"cu"}}}"#
        )),
        "{plan}"
    );
    let too_small = volume(
        "own",
        "1Gi",
        json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}}}),
    );
    let earlier = volume(
        "was",
        "2Gi",
        json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "earlier"}}}),
    );
    let plan = run(&claim(json!({})), &[too_small, earlier], &[]);
    assert_eq!(
        plan,
        "event PersistentVolumeClaim n/c Normal FailedBinding: no persistent volumes available for this claim and no storage class is set\n"
    );
}

#[test]
fn a_claim_may_name_its_volume() {
    let named = claim(json!({"spec": {"volumeName": "v"}}));
    assert_eq!(run(&named, &[], &[]), "");
    let plan = run(&named, &[volume("v", "2Gi", json!({}))], &[]);
    // The volume was chosen by a controller, the claim by a person.
    assert!(
        plan.contains(
            r#"v merge {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}"#
        ),
        "{plan}"
    );
    assert!(
        plan.contains(
            r#"n/c merge {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}"#
        ),
        "{plan}"
    );
    let mismatch = |more: Value| run(&named, &[volume("v", "2Gi", more)], &[]);
    let told = |why: &str| {
        format!(
            "event PersistentVolumeClaim n/c Warning VolumeMismatch: Cannot bind to requested volume \"v\": {why}\n"
        )
    };
    assert_eq!(
        mismatch(json!({"spec": {"capacity": {"storage": "1Gi"}}})),
        told("requested PV is too small")
    );
    assert_eq!(
        mismatch(json!({"spec": {"storageClassName": "x"}})),
        told("storageClassName does not match")
    );
    assert_eq!(
        mismatch(json!({"spec": {"volumeMode": "Block"}})),
        told("incompatible volumeMode")
    );
    assert_eq!(
        mismatch(json!({"spec": {"accessModes": ["ReadOnlyMany"]}})),
        told("incompatible accessMode")
    );
    assert_eq!(
        mismatch(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        told("the volume is marked for deletion \"v\"")
    );
    assert_eq!(
        mismatch(json!({"spec": {"claimRef": {"namespace": "n", "name": "other", "uid": "o"}}})),
        "event PersistentVolumeClaim n/c Warning FailedBinding: volume \"v\" already bound to a different claim.\n"
    );
}

#[test]
fn a_bound_claim_that_lost_its_volume_says_so_once() {
    let bound = |more: Value| {
        let mut bound = claim(json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}},
            "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}}}));
        lay_over(&mut bound, &more);
        bound
    };
    let named = bound(json!({"spec": {"volumeName": "v"}}));
    let status = r#"patch persistentvolumeclaims/status n/c merge {"metadata":{"uid":"cu"},"status":{"accessModes":null,"capacity":null,"phase":"Lost"}}"#;
    assert_eq!(
        run(&named, &[], &[]),
        format!(
            "{status}\nevent PersistentVolumeClaim n/c Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!\n"
        )
    );
    assert_eq!(
        run(&bound(json!({})), &[], &[]),
        format!(
            "{status}\nevent PersistentVolumeClaim n/c Warning ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!\n"
        )
    );
    let others = volume(
        "v",
        "2Gi",
        json!({"spec": {"claimRef": {"namespace": "n", "name": "other", "uid": "o"}}}),
    );
    assert_eq!(
        run(&named, &[others], &[]),
        format!(
            "{status}\nevent PersistentVolumeClaim n/c Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly\n"
        )
    );
    assert_eq!(
        run(
            &bound(json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}})),
            &[],
            &[]
        ),
        ""
    );
    // What is bound stays as it is, also with another capacity than its volume's: it may be growing.
    let ours = json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "cu"}}, "status": {"phase": "Bound"}});
    assert_eq!(run(&named, &[volume("v", "4Gi", ours)], &[]), "");
}

#[test]
fn a_class_decides_who_makes_a_volume_and_when() {
    let of = |name: &str| claim(json!({"spec": {"storageClassName": name}}));
    let local = class(
        "local",
        "WaitForFirstConsumer",
        "kubernetes.io/no-provisioner",
    );
    let told = |claim: &Value, classes: &[Value], pods: &[&str]| {
        text(&run_with(claim, &[], classes, pods))
    };
    let head = "event PersistentVolumeClaim n/c Normal";
    let fits = volume("v", "2Gi", json!({"spec": {"storageClassName": "local"}}));
    assert_eq!(
        run(&of("local"), from_ref(&fits), from_ref(&local)),
        format!(
            "{head} WaitForFirstConsumer: waiting for first consumer to be created before binding\n"
        ),
        "the scheduler's business"
    );
    assert_eq!(
        told(&of("local"), from_ref(&local), &["a"]),
        format!("{head} WaitForPodScheduled: waiting for pod a to be scheduled\n")
    );
    assert_eq!(
        told(&of("local"), from_ref(&local), &["a", "b"]),
        format!("{head} WaitForPodScheduled: waiting for pods a,b to be scheduled\n")
    );
    // The scheduler gave it one: only the rest is missing.
    let mut given = fits;
    lay_over(
        &mut given,
        &json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "cu"}}}),
    );
    let plan = run(&of("local"), &[given], &[local]);
    assert!(plan.contains(r#""spec":{"volumeName":"v"}"#), "{plan}");

    let immediate = class("static", "Immediate", "kubernetes.io/no-provisioner");
    assert_eq!(
        told(&of("static"), &[immediate], &[]),
        "event PersistentVolumeClaim n/c Warning ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner\n"
    );
    assert_eq!(
        told(&of("none"), &[], &[]),
        "event PersistentVolumeClaim n/c Warning ProvisioningFailed: storageclass.storage.k8s.io \"none\" not found\n"
    );
    let ask = |provisioner: &str| {
        format!(
            "patch persistentvolumeclaims n/c merge {{\"metadata\":{{\"annotations\":{{\"{BETA_STORAGE_PROVISIONER}\":\"{provisioner}\",\
             \"{STORAGE_PROVISIONER}\":\"{provisioner}\"}},\"resourceVersion\":\"7\",\"uid\":\"cu\"}}}}\n\
             {head} ExternalProvisioning: Waiting for a volume to be created either by the external provisioner '{provisioner}' \
             or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running \
             and correctly registered.\n"
        )
    };
    let fast = class("fast", "Immediate", "csi.example.com");
    assert_eq!(told(&of("fast"), &[fast], &[]), ask("csi.example.com"));
    let built_in = class("gp2", "Immediate", "kubernetes.io/aws-ebs");
    assert_eq!(told(&of("gp2"), &[built_in], &[]), ask("ebs.csi.aws.com"));
    // One that waits for its first pod is asked for when the pod has a node.
    let late = class("late", "WaitForFirstConsumer", "csi.example.com");
    let mut chosen = of("late");
    lay_over(
        &mut chosen,
        &json!({"metadata": {"annotations": {SELECTED_NODE: "n1", STORAGE_PROVISIONER: "csi.example.com"}}}),
    );
    let plan = told(&chosen, &[late], &[]);
    assert!(
        plan.starts_with(&format!("{head} ExternalProvisioning: ")),
        "asked already: {plan}"
    );
}

#[test]
fn a_claim_without_a_class_gets_the_default_one_when_nothing_fits() {
    let mut fast = class("fast", "Immediate", "csi.example.com");
    fast["metadata"]["annotations"] =
        json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let plain = claim(json!({}));
    assert_eq!(
        run(&plain, &[], from_ref(&fast)),
        "patch persistentvolumeclaims n/c merge {\"metadata\":{\"resourceVersion\":\"7\",\"uid\":\"cu\"},\"spec\":{\"storageClassName\":\"fast\"}}\n"
    );
    let plan = run(&plain, &[volume("v", "2Gi", json!({}))], from_ref(&fast));
    assert!(plan.starts_with("patch persistentvolumes v "), "{plan}");
    // An empty name is a choice.
    let plan = run(
        &claim(json!({"spec": {"storageClassName": ""}})),
        &[],
        &[fast],
    );
    assert!(plan.contains("FailedBinding"), "{plan}");
}

#[test]
fn the_choice_is_that_of_a_look_at_all_volumes() {
    let mut dice = Dice::new(11);
    let pick = |dice: &mut Dice, list: &[&str]| list[dice.below(list.len())].to_owned();
    let modes = |dice: &mut Dice| -> Vec<&str> {
        let all = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"];
        let chosen = 1 + dice.below(7);
        let picked = all
            .iter()
            .enumerate()
            .filter(|(bit, _)| chosen >> bit & 1 == 1);
        picked.map(|(_, mode)| *mode).collect()
    };
    let sizes = ["1Gi", "1500Mi", "2Gi", "3Gi", "2147483648"];
    let mut bound = 0;
    for _ in 0..2_000 {
        let volumes: Vec<Value> = (0..dice.below(8))
            .map(|number| {
                volume(&format!("v{number}"), &pick(&mut dice, &sizes), json!({
                    "metadata": {"labels": {"disk": pick(&mut dice, &["ssd", "hdd"])}},
                    "spec": {"accessModes": modes(&mut dice), "storageClassName": pick(&mut dice, &["", "a"]),
                        "volumeMode": pick(&mut dice, &["Filesystem", "Filesystem", "Block"])},
                    "status": {"phase": pick(&mut dice, &["Available", "Available", "Bound"])}}))
            })
            .collect();
        let mut asks = claim(
            json!({"spec": {"accessModes": modes(&mut dice), "storageClassName": pick(&mut dice, &["", "a"]),
            "resources": {"requests": {"storage": pick(&mut dice, &sizes)}}}}),
        );
        let ssd = dice.one_in(3);
        if ssd {
            asks["spec"]["selector"] = json!({"matchLabels": {"disk": "ssd"}});
        }
        // The model: everything that is said of a volume, written out.
        let bytes = |text: &Value| match text.as_str().unwrap() {
            "1Gi" => 1024_u64,
            "1500Mi" => 1500,
            "2Gi" | "2147483648" => 2048,
            _ => 3072,
        };
        let all_of = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|mode| mode.as_str().unwrap().to_owned())
                .collect()
        };
        let wanted = &asks["spec"];
        let fits = volumes.iter().filter(|volume| {
            let spec = &volume["spec"];
            let has = all_of(&spec["accessModes"]);
            volume["status"]["phase"] == "Available"
                && all_of(&wanted["accessModes"])
                    .iter()
                    .all(|mode| has.contains(mode))
                && spec["storageClassName"] == wanted["storageClassName"]
                && spec["volumeMode"] == "Filesystem"
                && (!ssd || volume["metadata"]["labels"]["disk"] == "ssd")
                && bytes(&spec["capacity"]["storage"])
                    >= bytes(&wanted["resources"]["requests"]["storage"])
        });
        let best = fits.min_by_key(|volume| {
            let spec = &volume["spec"];
            (
                all_of(&spec["accessModes"]).len(),
                bytes(&spec["capacity"]["storage"]),
                object::name(volume).to_owned(),
            )
        });
        let plan = run_with(&asks, &volumes, &[], &[]);
        let chosen = plan.iter().find_map(|action| match action {
            Action::Patch { resource, name, .. } if *resource == PERSISTENT_VOLUMES => {
                Some(name.as_str())
            }
            _ => None,
        });
        assert_eq!(chosen, best.map(object::name), "{asks} {volumes:?}");
        bound += usize::from(best.is_some());
    }
    assert!(bound > 200, "{bound} of 2000 found a volume");
}

/// Claims and volumes at random, plans made from what was seen some time ago, and plans that are lost half way: no volume
/// ever has two claims, and in the end nothing that fits is left over.
#[test]
fn no_volume_ever_has_two_claims() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut world = World::new();
        for number in 0..6 {
            let mut made = volume(
                &format!("v{number}"),
                ["1Gi", "2Gi", "3Gi"][dice.below(3)],
                json!({}),
            );
            made["metadata"] = json!({"name": format!("v{number}")});
            if dice.one_in(4) {
                let reserved = format!("c{}", dice.below(6));
                made["spec"]["claimRef"] = json!({"namespace": "default", "name": reserved});
            }
            made["status"] = json!({"phase": "Pending"});
            world.create(PERSISTENT_VOLUMES, made);
            let size = ["1Gi", "2Gi"][dice.below(2)];
            let mut asks = claim(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
            asks["metadata"] = json!({"name": format!("c{number}")});
            if dice.one_in(4) {
                asks["spec"]["volumeName"] = format!("v{}", dice.below(6)).into();
            }
            world.create(PERSISTENT_VOLUME_CLAIMS, asks);
        }
        let mut seen = (
            world.all(PERSISTENT_VOLUMES),
            world.all(PERSISTENT_VOLUME_CLAIMS),
        );
        for step in 0..400 {
            let calm = step >= 300;
            if dice.one_in(3) || calm {
                seen = (
                    world.all(PERSISTENT_VOLUMES),
                    world.all(PERSISTENT_VOLUME_CLAIMS),
                );
            }
            let (volumes, claims) = &seen;
            // In the end everybody has his turn, and nothing is lost.
            let turn = if calm { step % 12 } else { dice.below(12) };
            let mut plan = if turn < 6 {
                let volume = &volumes[turn];
                let key = claim_named(volume).map(|(key, _)| key);
                let claim = claims.iter().find(|claim| Some(key_of(claim)) == key);
                plan_volume(volume, claim.map(|claim| &**claim))
            } else {
                let volumes: Vec<Value> =
                    volumes.iter().map(|volume| Value::clone(volume)).collect();
                run_with(&claims[turn - 6], &volumes, &[], &[])
            };
            if !calm && dice.one_in(4) {
                plan.truncate(dice.below(plan.len() + 1));
            }
            world.apply(&plan);
            let now = world.all(PERSISTENT_VOLUME_CLAIMS);
            let mut used: Vec<&str> = now
                .iter()
                .filter(|c| was_bound(c))
                .map(|c| volume_named(c))
                .collect();
            used.sort_unstable();
            assert!(
                used.windows(2).all(|two| two[0] != two[1]),
                "seed {seed} step {step}: {used:?}"
            );
        }
        let (volumes, claims) = (
            world.all(PERSISTENT_VOLUMES),
            world.all(PERSISTENT_VOLUME_CLAIMS),
        );
        for claim in claims.iter().filter(|claim| was_bound(claim)) {
            let volume = volumes
                .iter()
                .find(|volume| object::name(volume) == volume_named(claim));
            let volume = volume.unwrap_or_else(|| panic!("seed {seed}: {claim}"));
            assert!(is_bound_to(volume, claim), "seed {seed}: {volume} {claim}");
            assert_eq!(
                (phase(volume), phase(claim)),
                ("Bound", "Bound"),
                "seed {seed}: {volume} {claim}"
            );
        }
        for claim in claims.iter().filter(|claim| volume_named(claim).is_empty()) {
            let wanted = Wanted::of(claim);
            assert!(
                !volumes.iter().any(|volume| wanted.fits(volume)),
                "seed {seed}: {claim} {volumes:?}"
            );
        }
    }
}
