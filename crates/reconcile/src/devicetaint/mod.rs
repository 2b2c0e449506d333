//! Device taints: pods leave a device with a NoExecute taint when their claim does not tolerate it, or no longer.
//!
//! ```text
//!   slices ─► Taints: which devices are tainted, by pool
//!   pod ─► its claims ─► their devices ─► the first taint whose time is up ─► condition, deletion
//! ```
//!
//! Taints of ResourceSlices, and of rules (`rules.rs`) where those are told. Knows pods and claims; does not know why
//! a device is tainted. Nothing is remembered of a pod: a plan made again asks again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use meta::{Value, object, time};
use value::json;

use crate::action::{Action, Involved, PODS, PatchType};
use crate::pod::Pod;

mod rules;

use rules::Rules;
pub use rules::{Counts, STATUS_MICROS, TaintRule, plan_rule};

/// The effect that evicts.
const NO_EXECUTE: &str = "NoExecute";

/// A taint that evicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceTaint {
    key: Box<str>,
    value: Box<str>,
    /// Since when.
    added_micros: i64,
}

/// What is kept of a ResourceSlice: about 170 bytes, and 4 a device, where none is tainted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceTaints {
    driver: Box<str>,
    pool: Box<str>,
    generation: i64,
    /// Tainted devices by name.
    devices: Vec<(Box<str>, Vec<DeviceTaint>)>,
    /// Hashes of the names of all devices, for counting them.
    names: Box<[u32]>,
}

/// FNV-1a. Names are only counted by it: that two of one pool are taken for each other is one chance in four thousand
/// million.
fn name_hash(name: &str) -> u32 {
    let bytes = name.bytes();
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

impl SliceTaints {
    /// Reads a ResourceSlice. Absent and odd fields read as empty.
    pub fn from_object(slice: &Value) -> SliceTaints {
        let text = |value: &Value| Box::<str>::from(value.as_str().unwrap_or_default());
        let spec = &slice["spec"];
        let mut devices = Vec::new();
        let mut names = Vec::new();
        for device in object::array_at(slice, &["spec", "devices"]) {
            names.push(name_hash(device["name"].as_str().unwrap_or_default()));
            let taints = object::array_at(device, &["taints"]).iter();
            let evicting: Vec<DeviceTaint> = taints
                .filter(|taint| taint["effect"] == NO_EXECUTE)
                .map(|taint| DeviceTaint {
                    key: text(&taint["key"]),
                    value: text(&taint["value"]),
                    added_micros: taint["timeAdded"]
                        .as_str()
                        .and_then(|text| time::parse(text).ok())
                        .unwrap_or(0),
                })
                .collect();
            if !evicting.is_empty() {
                devices.push((text(&device["name"]), evicting));
            }
        }
        SliceTaints {
            driver: text(&spec["driver"]),
            pool: text(&spec["pool"]["name"]),
            generation: spec["pool"]["generation"].as_i64().unwrap_or(0),
            devices,
            names: names.into(),
        }
    }

    /// Driver and pool.
    pub fn pool(&self) -> (&str, &str) {
        (&self.driver, &self.pool)
    }
}

type Slices = BTreeMap<Box<str>, Arc<SliceTaints>>;

/// The tainted devices of all pools.
#[derive(Debug, Default)]
pub struct Taints {
    /// Slices by driver, pool and name.
    pools: HashMap<(Box<str>, Box<str>), Slices>,
    /// Slices with a tainted device.
    tainted: usize,
    rules: Rules,
}

impl Taints {
    /// Whether no device is tainted: then nobody need be asked about.
    pub fn is_clean(&self) -> bool {
        self.tainted == 0 && !self.rules.evict()
    }

    /// A slice came, changed or went. True when that may concern users of its devices: the pool has, or had, a
    /// tainted one.
    pub fn replace(
        &mut self,
        name: &str,
        old: Option<&SliceTaints>,
        new: Option<&Arc<SliceTaints>>,
    ) -> bool {
        let has_taints = |slices: &Slices| slices.values().any(|slice| !slice.devices.is_empty());
        let mut concerns = false;
        if let Some(old) = old {
            let pool = (old.driver.clone(), old.pool.clone());
            if let Some(slices) = self.pools.get_mut(&pool) {
                concerns |= self.tainted > 0 && has_taints(slices);
                if let Some(gone) = slices.remove(name) {
                    self.tainted -= usize::from(!gone.devices.is_empty());
                }
                if slices.is_empty() {
                    self.pools.remove(&pool);
                }
            }
        }
        if let Some(new) = new {
            let pool = (new.driver.clone(), new.pool.clone());
            let slices = self.pools.entry(pool).or_default();
            self.tainted += usize::from(!new.devices.is_empty());
            slices.insert(name.into(), Arc::clone(new));
            concerns |= self.tainted > 0 && has_taints(slices);
        }
        concerns
    }

    /// The evicting taints of a device. Slices of an older generation of the pool no longer count.
    fn of(&self, driver: &str, pool: &str, device: &str) -> Vec<&DeviceTaint> {
        let mut all: Vec<&DeviceTaint> = self.rules.of(driver, pool, device).collect();
        let pool: (Box<str>, Box<str>) = (driver.into(), pool.into());
        let Some(slices) = self.pools.get(&pool) else {
            return all;
        };
        let newest = slices.values().map(|slice| slice.generation).max();
        let current = slices
            .values()
            .filter(|slice| Some(slice.generation) == newest);
        let devices = current.flat_map(|slice| &slice.devices);
        let named = devices.filter(|(name, _)| **name == *device);
        all.extend(named.flat_map(|(_, taints)| taints));
        all
    }
}

/// Whether a claim has a device of that pool.
pub fn uses_pool(claim: &Value, (driver, pool): (&str, &str)) -> bool {
    let mut results = results(claim).iter();
    results.any(|result| result["driver"] == driver && result["pool"] == pool)
}

/// Names of the pods that a claim is reserved for.
pub fn users(claim: &Value) -> impl Iterator<Item = &str> {
    let users = object::array_at(claim, &["status", "reservedFor"]).iter();
    users
        .filter(|user| is_pod(user))
        .filter_map(|user| user["name"].as_str())
}

fn is_pod(user: &Value) -> bool {
    user["resource"] == "pods" && user["apiGroup"].as_str().unwrap_or_default().is_empty()
}

fn results(claim: &Value) -> &[Value] {
    object::array_at(claim, &["status", "allocation", "devices", "results"])
}

/// What to do now for a pod with claims. `claim` knows those of its namespace by name.
pub fn plan<'a>(
    pod: &Pod,
    claim: &dyn Fn(&str) -> Option<&'a Value>,
    taints: &Taints,
    now_micros: i64,
) -> Vec<Action> {
    if pod.node_name.is_empty() || pod.deletion_micros.is_some() {
        return Vec::new();
    }
    let due = own(pod, claim).filter_map(|claim| due_micros(claim, taints));
    match due.min() {
        None => Vec::new(),
        Some(due) if due > now_micros => vec![Action::RequeueAfter(due - now_micros)],
        Some(_) => evict(pod, now_micros),
    }
}

/// Claims that a pod uses and may.
fn own<'a>(
    pod: &Pod,
    claim: &dyn Fn(&str) -> Option<&'a Value>,
) -> impl Iterator<Item = &'a Value> {
    pod.claims.iter().filter_map(|one| {
        let name = one.claim.as_deref().filter(|name| !name.is_empty())?;
        let found = claim(name)?;
        let is_made = one.template.is_some() || one.extended;
        let controller = object::controller_of(found);
        let is_own = controller.is_some_and(|owner| owner["uid"] == *pod.uid);
        let mut users = object::array_at(found, &["status", "reservedFor"]).iter();
        let is_reserved = users.any(|user| is_pod(user) && user["uid"] == *pod.uid);
        ((!is_made || is_own) && is_reserved).then_some(found)
    })
}

/// When the users of a claim have to go; none if they need not.
fn due_micros(claim: &Value, taints: &Taints) -> Option<i64> {
    let mut first: Option<i64> = None;
    for result in results(claim) {
        let text = |field: &str| result[field].as_str().unwrap_or_default();
        for taint in taints.of(text("driver"), text("pool"), text("device")) {
            let due = match patience_seconds(result, taint) {
                Patience::Forever => continue,
                Patience::Seconds(seconds) => {
                    let micros = seconds.saturating_mul(1_000_000);
                    taint.added_micros.saturating_add(micros)
                }
            };
            first = Some(first.map_or(due, |before| before.min(due)));
        }
    }
    first
}

enum Patience {
    Forever,
    Seconds(i64),
}

/// The shortest of the tolerations that match; one without an end is for ever whatever the others say (k8s).
fn patience_seconds(result: &Value, taint: &DeviceTaint) -> Patience {
    let mut shortest: Option<i64> = None;
    for toleration in object::array_at(result, &["tolerations"]) {
        if !tolerates(toleration, taint) {
            continue;
        }
        let Some(seconds) = toleration["tolerationSeconds"].as_i64() else {
            return Patience::Forever;
        };
        let seconds = seconds.max(0);
        shortest = Some(shortest.map_or(seconds, |before| before.min(seconds)));
    }
    Patience::Seconds(shortest.unwrap_or(0))
}

fn tolerates(toleration: &Value, taint: &DeviceTaint) -> bool {
    let text = |field: &str| toleration[field].as_str().unwrap_or_default();
    // Without an effect all of them are meant.
    let effect = matches!(text("effect"), "" | NO_EXECUTE);
    let key = text("key").is_empty() || *text("key") == *taint.key;
    let value = match text("operator") {
        "" | "Equal" => *text("value") == *taint.value,
        "Exists" => true,
        _ => false,
    };
    effect && key && value
}

fn evict(pod: &Pod, now_micros: i64) -> Vec<Action> {
    let involved = Arc::new(Involved {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        resource_version: String::new(),
    });
    let event = Action::normal(
        &involved,
        "DeviceTaintManagerEviction",
        "Marking for deletion",
    );
    let mark = Action::Patch {
        resource: PODS,
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        patch_type: PatchType::Strategic,
        subresource: Some("status"),
        body: json!({
            "metadata": {"uid": &*pod.uid},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByDeviceTaintManager",
                "message": "Device Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": time::format_seconds(now_micros),
            }]},
        }),
    };
    vec![event, mark, crate::replicaset::delete_pod(pod, None)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    const SECOND: i64 = 1_000_000;

    fn slice(generation: i64, taints: Value) -> Arc<SliceTaints> {
        Arc::new(SliceTaints::from_object(&json!({"spec": {
            "driver": "d.example.com", "pool": {"name": "p", "generation": generation},
            "devices": [{"name": "gpu-0", "taints": taints}, {"name": "gpu-1"}]}})))
    }

    fn taint(effect: &str, at_seconds: i64) -> Value {
        json!({"key": "hot", "value": "yes", "effect": effect, "timeAdded": time::format_seconds(at_seconds * SECOND)})
    }

    fn claim(device: &str, tolerations: Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": "c"}, "status": {
            "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
            "allocation": {"devices": {"results": [{"driver": "d.example.com", "pool": "p", "device": device,
                "tolerations": tolerations}]}}}})
    }

    fn pod(node: &str) -> Pod {
        Pod::from_object(
            &json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"nodeName": node, "resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}}),
        )
    }

    fn planned(pod: &Pod, claim: &Value, taints: &Taints, now_seconds: i64) -> String {
        let find = |name: &str| (name == "c").then_some(claim);
        text(&plan(pod, &find, taints, now_seconds * SECOND))
    }

    fn tainted(taints: Value) -> Taints {
        let mut all = Taints::default();
        all.replace("s", None, Some(&slice(1, taints)));
        all
    }

    #[test]
    fn a_pod_leaves_a_tainted_device_at_once_and_others_stay() {
        let taints = tainted(json!([taint("NoSchedule", 5), taint("NoExecute", 10)]));
        let gone = concat!(
            "event Pod n/p Normal DeviceTaintManagerEviction: Marking for deletion\n",
            r#"patch pods/status n/p strategic {"metadata":{"uid":"u"},"status":{"conditions":[{"#,
            r#""lastTransitionTime":"1970-01-01T00:00:11Z","message":"Device Taint manager: deleting due to NoExecute taint","#,
            r#""reason":"DeletionByDeviceTaintManager","status":"True","type":"DisruptionTarget"}]}}"#,
            "\ndelete pods n/p uid=u\n"
        );
        let none = json!([]);
        let hit = claim("gpu-0", none.clone());
        assert_eq!(planned(&pod("n1"), &hit, &taints, 11), gone);
        assert_eq!(
            planned(&pod("n1"), &claim("gpu-1", none.clone()), &taints, 11),
            ""
        );
        // Who has no node yet, or no right to the claim, is not concerned.
        assert_eq!(planned(&pod(""), &hit, &taints, 11), "");
        let mut others = hit.clone();
        others["status"]["reservedFor"][0]["uid"] = "other".into();
        assert_eq!(planned(&pod("n1"), &others, &taints, 11), "");
        let soft = tainted(json!([taint("NoSchedule", 5)]));
        assert!(soft.is_clean());
        assert_eq!(planned(&pod("n1"), &hit, &soft, 11), "");
    }

    #[test]
    fn a_claim_for_extended_resources_counts_if_it_is_the_pods_own() {
        let taints = tainted(json!([taint("NoExecute", 10)]));
        let pod = Pod::from_object(
            &json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"}, "spec": {"nodeName": "n1"},
            "status": {"extendedResourceClaimStatus": {"resourceClaimName": "c"}}}),
        );
        let mut hit = claim("gpu-0", json!([]));
        assert_eq!(planned(&pod, &hit, &taints, 11), "");
        hit["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]);
        assert!(planned(&pod, &hit, &taints, 11).ends_with("delete pods n/p uid=u\n"));
    }

    #[test]
    fn tolerations_give_time_from_when_the_taint_came() {
        let taints = tainted(json!([taint("NoExecute", 100)]));
        let with = |tolerations: Value, now| {
            planned(&pod("n1"), &claim("gpu-0", tolerations), &taints, now)
        };
        let some = json!({"key": "hot", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60});
        let less = json!({"operator": "Exists", "tolerationSeconds": 20});
        let forever = json!({"key": "hot", "operator": "Equal", "value": "yes"});
        let other =
            json!({"key": "hot", "operator": "Equal", "value": "no", "effect": "NoExecute"});
        let soft = json!({"key": "hot", "operator": "Exists", "effect": "NoSchedule"});
        assert_eq!(with(json!([some]), 110), "requeue after 50.000000s\n");
        assert_eq!(with(json!([some, less]), 110), "requeue after 10.000000s\n");
        assert!(with(json!([some, less]), 120).ends_with("delete pods n/p uid=u\n"));
        assert_eq!(with(json!([less, forever]), 500), "");
        assert!(with(json!([other, soft]), 100).ends_with("delete pods n/p uid=u\n"));
    }

    #[test]
    fn only_the_newest_generation_of_a_pool_counts() {
        let mut taints = Taints::default();
        let (old, new) = (
            slice(1, json!([taint("NoExecute", 0)])),
            slice(2, json!([])),
        );
        assert!(taints.replace("old", None, Some(&old)));
        assert_eq!(taints.of("d.example.com", "p", "gpu-0").len(), 1);
        // The new one is clean; while the old one is there, its users are looked at again.
        assert!(taints.replace("new", None, Some(&new)));
        assert!(taints.of("d.example.com", "p", "gpu-0").is_empty());
        assert!(!taints.is_clean());
        assert!(taints.replace("old", Some(&old), None));
        assert!(taints.is_clean());
        assert!(!taints.replace("new", Some(&new), None));
        assert!(taints.pools.is_empty());
    }

    #[test]
    fn users_are_found_by_claim_and_pool() {
        let claim = claim("gpu-0", json!([]));
        assert!(uses_pool(&claim, ("d.example.com", "p")));
        assert!(!uses_pool(&claim, ("d.example.com", "q")));
        assert_eq!(users(&claim).collect::<Vec<_>>(), ["p"]);
    }
}
