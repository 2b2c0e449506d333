//! Volumes and claims over a real API server: bound, kept while they are used, made for pods, released.
//!
//! Scheduler, kubelets and provisioners are played by the test, a line each, unless the simulated provisioner is what
//! is tested. Final states are asserted; how long they take is not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apiserver::Api;
use client::{Client, DeleteOptions, ListOptions, PatchType};
use controllers::{ControllersConfig, ControllersProgress, SIMULATED_PROVISIONER};
use schema::Resource;
use store::{Store, StoreConfig};
use tokio::sync::watch;
use value::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "default";

fn core(resource: &str) -> &'static Resource {
    schema::resource("", "v1", resource).unwrap()
}

fn storage_classes() -> &'static Resource {
    schema::resource("storage.k8s.io", "v1", "storageclasses").unwrap()
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// An API server with the controllers.
struct Plane {
    client: Client,
    // Ends them when dropped.
    _stops: [watch::Sender<bool>; 2],
}

async fn start(config: ControllersConfig) -> Plane {
    let (stop_api, stopping) = watch::channel(false);
    let api = Api::new(Arc::new(Store::new(StoreConfig::default())), stopping);
    api.bootstrap("127.0.0.1:6443".parse().unwrap())
        .await
        .unwrap();
    let client = Client::new(Arc::new(api), Some(Api::system_user()), "test");
    let (stop, stopped) = watch::channel(false);
    let progress = Arc::new(ControllersProgress::default());
    tokio::spawn(controllers::run(client.clone(), config, progress, stopped));
    let plane = Plane {
        client,
        _stops: [stop_api, stop],
    };
    until("the default account", async || {
        plane.get("serviceaccounts", "default").await
    })
    .await;
    plane
}

impl Plane {
    fn namespace(resource: &Resource) -> &'static str {
        if resource.namespaced { NAMESPACE } else { "" }
    }

    async fn create(&self, resource: &str, object: Value) -> Value {
        let resource = core(resource);
        let made = self
            .client
            .create(resource, Self::namespace(resource), &object);
        made.await.unwrap()
    }

    async fn get(&self, resource: &str, name: &str) -> Option<Value> {
        let resource = core(resource);
        let found = self.client.get(resource, Self::namespace(resource), name);
        found.await.ok()
    }

    async fn all(&self, resource: &str) -> Vec<Value> {
        let resource = core(resource);
        let options = ListOptions::default();
        let list = self
            .client
            .list(resource, Self::namespace(resource), &options);
        list.await.unwrap().items
    }

    async fn delete(&self, resource: &str, name: &str) {
        let resource = core(resource);
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        let deleted = self
            .client
            .delete(resource, Self::namespace(resource), name, &options);
        deleted.await.unwrap();
    }

    async fn patch(&self, resource: &'static Resource, name: &str, body: Value) {
        let namespace = Self::namespace(resource);
        let patched = self
            .client
            .patch(resource, namespace, name, "", PatchType::Merge, &body);
        patched.await.unwrap();
    }

    async fn class(&self, name: &str, provisioner: &str, is_default: bool) {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": provisioner,
            "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": is_default.to_string()}}});
        let made = self.client.create(storage_classes(), "", &class);
        made.await.unwrap();
    }

    async fn claim(&self, name: &str, size: &str, more: Value) -> Value {
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
        schema::merge_patch(&mut claim, &more);
        self.create("persistentvolumeclaims", claim).await
    }

    async fn volume(&self, name: &str, size: &str, more: Value) -> Value {
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "nfs": {"server": "s", "path": "/"}}});
        schema::merge_patch(&mut volume, &more);
        self.create("persistentvolumes", volume).await
    }

    async fn is_of_phase(&self, resource: &str, name: &str, phase: &str) -> Value {
        until(&format!("{resource} {name} is {phase}"), async || {
            let found = self.get(resource, name).await?;
            (found["status"]["phase"] == phase).then_some(found)
        })
        .await
    }

    async fn is_gone(&self, resource: &str, name: &str) {
        until(&format!("{resource} {name} is gone"), async || {
            self.get(resource, name).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits until this was told of an object.
    async fn was_told(&self, name: &str, reason: &str, message: &str) {
        until(&format!("{name}: {reason}"), async || {
            let events = self.all("events").await;
            let told = events.iter().any(|event| {
                event["involvedObject"]["name"] == name
                    && event["reason"] == reason
                    && event["message"] == message
                    && event["source"]["component"] == "persistentvolume-controller"
            });
            told.then_some(())
        })
        .await;
    }
}

fn pod(name: &str, node: &str, volume: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "i"}], "volumes": [volume]}});
    if !node.is_empty() {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

fn uses(claim: &str) -> Value {
    json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
}

#[tokio::test]
async fn claims_get_the_smallest_volumes_and_give_them_back() {
    let plane = start(ControllersConfig::default()).await;
    plane.claim("first", "2Gi", json!({})).await;
    let no_volume = "no persistent volumes available for this claim and no storage class is set";
    plane.was_told("first", "FailedBinding", no_volume).await;
    for (name, size) in [("small", "1Gi"), ("large", "9Gi"), ("right", "3Gi")] {
        plane.volume(name, size, json!({})).await;
        let volume = until("a decision", async || {
            let volume = plane.get("persistentvolumes", name).await?;
            (volume["status"]["phase"] != "Pending").then_some(volume)
        })
        .await;
        assert_eq!(
            volume["metadata"]["finalizers"],
            json!(["kubernetes.io/pv-protection"])
        );
    }
    // The first that came and was large enough.
    let claim = plane
        .is_of_phase("persistentvolumeclaims", "first", "Bound")
        .await;
    assert_eq!(claim["spec"]["volumeName"], "large");
    assert_eq!(claim["status"]["capacity"], json!({"storage": "9Gi"}));
    assert_eq!(claim["status"]["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(
        claim["metadata"]["annotations"],
        json!({"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"})
    );
    let volume = plane
        .is_of_phase("persistentvolumes", "large", "Bound")
        .await;
    assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
    assert_eq!(
        volume["metadata"]["annotations"],
        json!({"pv.kubernetes.io/bound-by-controller": "yes"})
    );
    plane
        .is_of_phase("persistentvolumes", "right", "Available")
        .await;
    plane.claim("second", "1Gi", json!({})).await;
    let claim = plane
        .is_of_phase("persistentvolumeclaims", "second", "Bound")
        .await;
    assert_eq!(claim["spec"]["volumeName"], "small");
    // One that names its volume.
    plane
        .claim("third", "1Gi", json!({"spec": {"volumeName": "right"}}))
        .await;
    plane
        .is_of_phase("persistentvolumeclaims", "third", "Bound")
        .await;

    // A bound volume that is deleted stays until its claim is gone; then it is released, and may go.
    plane.delete("persistentvolumes", "small").await;
    plane
        .is_of_phase("persistentvolumes", "small", "Bound")
        .await;
    plane.delete("persistentvolumeclaims", "second").await;
    plane.is_gone("persistentvolumeclaims", "second").await;
    plane.is_gone("persistentvolumes", "small").await;
    plane.delete("persistentvolumeclaims", "third").await;
    let released = plane
        .is_of_phase("persistentvolumes", "right", "Released")
        .await;
    assert!(
        released["status"]["lastPhaseTransitionTime"].is_string(),
        "{released}"
    );
    // A person takes the old claim off: it is anybody's again.
    plane
        .patch(
            core("persistentvolumes"),
            "right",
            json!({"spec": {"claimRef": null}}),
        )
        .await;
    plane
        .is_of_phase("persistentvolumes", "right", "Available")
        .await;
    // A claim whose volume is taken away by force is lost.
    plane.delete("persistentvolumes", "large").await;
    let unprotected = json!({"metadata": {"finalizers": null}});
    plane
        .patch(core("persistentvolumes"), "large", unprotected)
        .await;
    plane
        .is_of_phase("persistentvolumeclaims", "first", "Lost")
        .await;
}

#[tokio::test]
async fn a_claim_stays_while_a_pod_on_a_node_uses_it() {
    let plane = start(ControllersConfig::default()).await;
    plane.volume("v", "2Gi", json!({})).await;
    plane.claim("data", "1Gi", json!({})).await;
    plane
        .is_of_phase("persistentvolumeclaims", "data", "Bound")
        .await;
    plane
        .create(
            "nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
        )
        .await;
    plane.create("pods", pod("user", "n1", uses("data"))).await;
    plane.delete("persistentvolumeclaims", "data").await;
    // Something else that takes as long as the finalizer would: another claim comes and goes.
    plane.claim("other", "1Gi", json!({})).await;
    plane.delete("persistentvolumeclaims", "other").await;
    plane.is_gone("persistentvolumeclaims", "other").await;
    let claim = plane.get("persistentvolumeclaims", "data").await.unwrap();
    assert_eq!(
        claim["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    assert!(claim["metadata"]["deletionTimestamp"].is_string());
    plane.delete("pods", "user").await;
    plane.is_gone("persistentvolumeclaims", "data").await;
    plane
        .is_of_phase("persistentvolumes", "v", "Released")
        .await;
}

#[tokio::test]
async fn the_default_class_is_given_to_old_and_new_claims() {
    let plane = start(ControllersConfig::default()).await;
    plane.claim("old", "1Gi", json!({})).await;
    plane
        .claim("none", "1Gi", json!({"spec": {"storageClassName": ""}}))
        .await;
    plane.class("slow", "csi.example.com", false).await;
    plane.class("fast", "csi.example.com", true).await;
    let new = plane.claim("new", "1Gi", json!({})).await;
    assert_eq!(new["spec"]["storageClassName"], "fast");
    assert_eq!(
        new["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    for name in ["old", "new"] {
        let asked = until("asked for", async || {
            let claim = plane.get("persistentvolumeclaims", name).await?;
            let asked =
                &claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"];
            asked.is_string().then_some(claim)
        })
        .await;
        assert_eq!(asked["spec"]["storageClassName"], "fast");
        assert_eq!(asked["status"]["phase"], "Pending");
        assert_eq!(
            asked["metadata"]["annotations"],
            json!({"volume.beta.kubernetes.io/storage-provisioner": "csi.example.com",
                "volume.kubernetes.io/storage-provisioner": "csi.example.com"})
        );
    }
    plane
        .was_told(
            "new",
            "ExternalProvisioning",
            "Waiting for a volume to be created either by the external provisioner 'csi.example.com' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered.",
        )
        .await;
    let none = plane.get("persistentvolumeclaims", "none").await.unwrap();
    assert_eq!(none["spec"]["storageClassName"], "");
    // Its maker made it for this claim: it is the claim's, and stays for its maker to delete.
    let of_claim = json!({"namespace": NAMESPACE, "name": "new", "uid": new["metadata"]["uid"]});
    let made = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "csi.example.com"}},
        "spec": {"storageClassName": "fast", "persistentVolumeReclaimPolicy": "Delete", "claimRef": of_claim}});
    plane.volume("made", "1Gi", made).await;
    plane
        .is_of_phase("persistentvolumeclaims", "new", "Bound")
        .await;
    plane.delete("persistentvolumeclaims", "new").await;
    let released = plane
        .is_of_phase("persistentvolumes", "made", "Released")
        .await;
    assert!(released["metadata"]["deletionTimestamp"].is_null());
    // One that nobody made cannot be deleted by anybody.
    plane
        .volume(
            "hand",
            "1Gi",
            json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
        )
        .await;
    plane
        .is_of_phase("persistentvolumeclaims", "none", "Bound")
        .await;
    plane.delete("persistentvolumeclaims", "none").await;
    let failed = plane
        .is_of_phase("persistentvolumes", "hand", "Failed")
        .await;
    let message = "error getting deleter volume plugin for volume \"hand\": no deletable volume plugin matched";
    assert_eq!(failed["status"]["message"], message);
    plane.was_told("hand", "VolumeFailedDelete", message).await;
}

#[tokio::test]
async fn a_claim_that_waits_for_a_pod_says_for_which() {
    let plane = start(ControllersConfig::default()).await;
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"});
    plane
        .client
        .create(storage_classes(), "", &class)
        .await
        .unwrap();
    plane
        .volume("v", "1Gi", json!({"spec": {"storageClassName": "local"}}))
        .await;
    plane
        .is_of_phase("persistentvolumes", "v", "Available")
        .await;
    let claim = plane
        .claim(
            "data",
            "1Gi",
            json!({"spec": {"storageClassName": "local"}}),
        )
        .await;
    plane
        .was_told(
            "data",
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        )
        .await;
    plane.create("pods", pod("first", "", uses("data"))).await;
    plane
        .was_told(
            "data",
            "WaitForPodScheduled",
            "waiting for pod first to be scheduled",
        )
        .await;
    // What the scheduler writes.
    let reference =
        json!({"namespace": NAMESPACE, "name": "data", "uid": claim["metadata"]["uid"]});
    plane
        .patch(
            core("persistentvolumes"),
            "v",
            json!({"spec": {"claimRef": reference}}),
        )
        .await;
    let bound = plane
        .is_of_phase("persistentvolumeclaims", "data", "Bound")
        .await;
    assert_eq!(bound["spec"]["volumeName"], "v");
}

#[tokio::test]
async fn an_ephemeral_volume_lives_as_long_as_its_pod() {
    let plane = start(ControllersConfig::default()).await;
    plane.volume("v", "2Gi", json!({})).await;
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let volume = json!({"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}});
    let made = plane.create("pods", pod("web", "", volume)).await;
    let claim = plane
        .is_of_phase("persistentvolumeclaims", "web-scratch", "Bound")
        .await;
    assert_eq!(claim["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(
        claim["metadata"]["ownerReferences"][0]["uid"],
        made["metadata"]["uid"]
    );
    plane.delete("pods", "web").await;
    plane.is_gone("persistentvolumeclaims", "web-scratch").await;
    plane
        .is_of_phase("persistentvolumes", "v", "Released")
        .await;
}

#[tokio::test]
async fn the_simulated_provisioner_makes_and_deletes() {
    let plane = start(ControllersConfig {
        simulated_provisioner: true,
        ..ControllersConfig::default()
    })
    .await;
    plane.class("simulated", SIMULATED_PROVISIONER, true).await;
    for number in 0..20 {
        plane.claim(&format!("c{number}"), "1Gi", json!({})).await;
    }
    for number in 0..20 {
        let name = format!("c{number}");
        let claim = plane
            .is_of_phase("persistentvolumeclaims", &name, "Bound")
            .await;
        let volume = claim["spec"]["volumeName"].as_str().unwrap();
        assert_eq!(
            volume,
            format!("pvc-{}", claim["metadata"]["uid"].as_str().unwrap())
        );
        plane
            .is_of_phase("persistentvolumes", volume, "Bound")
            .await;
        plane.delete("persistentvolumeclaims", &name).await;
    }
    until("no volumes", async || {
        plane
            .all("persistentvolumes")
            .await
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn many_claims_and_volumes_find_each_other_one_to_one() {
    let plane = start(ControllersConfig::default()).await;
    for number in 0..150 {
        plane.claim(&format!("c{number}"), "1Gi", json!({})).await;
        plane
            .volume(
                &format!("v{number}"),
                &format!("{}Gi", 1 + number % 3),
                json!({}),
            )
            .await;
    }
    let claims = until("all are bound", async || {
        let claims = plane.all("persistentvolumeclaims").await;
        claims
            .iter()
            .all(|claim| claim["status"]["phase"] == "Bound")
            .then_some(claims)
    })
    .await;
    let used: BTreeSet<&str> = claims
        .iter()
        .filter_map(|c| c["spec"]["volumeName"].as_str())
        .collect();
    assert_eq!(used.len(), 150);
    for volume in plane.all("persistentvolumes").await {
        let name = volume["metadata"]["name"].as_str().unwrap();
        let claim = volume["spec"]["claimRef"]["name"].as_str().unwrap();
        let claim = claims
            .iter()
            .find(|one| one["metadata"]["name"] == claim)
            .unwrap();
        assert_eq!(claim["spec"]["volumeName"], name);
    }
}

#[tokio::test]
async fn claims_of_a_stateful_set_go_as_its_policy_says() {
    let plane = start(ControllersConfig::default()).await;
    let sets = schema::resource("apps", "v1", "statefulsets").unwrap();
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"replicas": 3, "podManagementPolicy": "Parallel", "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "volumeClaimTemplates": [claim],
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let made = plane.client.create(sets, NAMESPACE, &set).await.unwrap();
    let owned = async |count: usize| {
        until(&format!("{count} claims of the set"), async || {
            let claims = plane.all("persistentvolumeclaims").await;
            let owned = claims.iter().all(|claim| {
                claim["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
            });
            (claims.len() == count && owned).then_some(())
        })
        .await;
    };
    owned(3).await;
    plane
        .patch(sets, "db", json!({"spec": {"replicas": 1}}))
        .await;
    plane.is_gone("persistentvolumeclaims", "data-db-2").await;
    owned(1).await;
    plane
        .patch(sets, "db", json!({"spec": {"replicas": 2}}))
        .await;
    owned(2).await;
    let options = DeleteOptions::default();
    let gone = plane.client.delete(sets, NAMESPACE, "db", &options);
    gone.await.unwrap();
    until("no claims", async || {
        plane
            .all("persistentvolumeclaims")
            .await
            .is_empty()
            .then_some(())
    })
    .await;
}
