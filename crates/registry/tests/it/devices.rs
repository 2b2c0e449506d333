//! Resource claims, templates, device classes and slices.

use crate::help::*;
use value::{Value, json};

fn res(name: &str) -> &'static schema::Resource {
    resource("resource.k8s.io/v1", name)
}

fn claim(devices: Value) -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"devices": devices}})
}

fn request(exactly: Value) -> Value {
    json!({"requests": [{"name": "gpu", "exactly": exactly}]})
}

#[test]
fn what_is_not_said_is_filled_in() {
    let all = json!({"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "tolerations": [{"key": "k"}]}},
        {"name": "b", "exactly": {"deviceClassName": "gpu", "allocationMode": "All"}},
        {"name": "c", "firstAvailable": [{"name": "d", "deviceClassName": "gpu"}]}]});
    let expected = json!([
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1,
            "tolerations": [{"key": "k", "operator": "Equal"}]}},
        {"name": "b", "exactly": {"deviceClassName": "gpu", "allocationMode": "All"}},
        {"name": "c", "firstAvailable": [{"name": "d", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}]}]);
    let stored_claim = stored(res("resourceclaims"), claim(all.clone()));
    assert_eq!(stored_claim["spec"]["devices"]["requests"], expected);
    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": {"devices": all}}});
    let template = stored(res("resourceclaimtemplates"), template);
    assert_eq!(template["spec"]["spec"]["devices"]["requests"], expected);
}

#[test]
fn claims_are_checked() {
    for (devices, expected) in [
        (
            json!({"requests": [{"name": "gpu"}]}),
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        (
            request(json!({})),
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
        ),
        (
            request(json!({"deviceClassName": "gpu", "allocationMode": "All", "count": 2})),
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ),
        (
            request(json!({"deviceClassName": "gpu", "allocationMode": "Some"})),
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
        ),
        (
            request(
                json!({"deviceClassName": "gpu", "selectors": [{"cel": {"expression": "nothing"}}]}),
            ),
            "spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: \"nothing\": compilation failed: \
             undeclared reference to 'nothing' (in container '')",
        ),
        (
            json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}],
                "constraints": [{"requests": ["net"], "matchAttribute": "d.example.com/numa"}]}),
            "spec.devices.constraints[0].requests[0]: Invalid value: \"net\": must be the name of a request in the claim or \
             the name of a request and a subrequest separated by '/'",
        ),
        (
            json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}},
                {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}),
            "spec.devices.requests[1]: Duplicate value: \"gpu\"",
        ),
    ] {
        assert_eq!(faults(res("resourceclaims"), claim(devices)), expected);
    }
    let dear = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, \
                a == b || c == d))))";
    let class = json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": dear}}]}});
    assert_eq!(
        faults(res("deviceclasses"), class),
        "spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"
    );
}

#[test]
fn what_a_claim_asks_for_and_got_does_not_change() {
    let res = res("resourceclaims");
    let old = stored(res, claim(request(json!({"deviceClassName": "gpu"}))));
    let other = with(
        old.clone(),
        "spec.devices.requests.0.exactly.count",
        json!(2),
    );
    assert!(refused(res, &old, other).ends_with("field is immutable"));
    let status = |new: Value, old: &Value| {
        let new = with(old.clone(), "status", new);
        match update_sub(res, Some("status"), old, new) {
            Ok(registry::Update::Store(mut stored)) => {
                stored["metadata"]["resourceVersion"] = json!("8");
                Ok(stored)
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.message),
        }
    };
    let user = |name: &str| json!({"resource": "pods", "name": name, "uid": name});
    let result = json!({"request": "gpu", "driver": "d.example.com", "pool": "p", "device": "d"});
    let allocation = json!({"devices": {"results": [result]}});
    assert_eq!(
        status(json!({"reservedFor": [user("p")]}), &old).unwrap_err(),
        "ResourceClaim.resource.k8s.io \"c\" is invalid: status.reservedFor: Forbidden: may not be specified when \
         `allocated` is not set"
    );
    let allocated = status(
        json!({"allocation": allocation, "reservedFor": [user("p")]}),
        &old,
    )
    .unwrap();
    let mut moved = allocation.clone();
    moved["devices"]["results"][0]["device"] = json!("other");
    let why = status(json!({"allocation": moved}), &allocated).unwrap_err();
    assert!(
        why.contains("status.allocation: Invalid value") && why.ends_with("field is immutable")
    );
    let many: Vec<Value> = (0..257).map(|n| user(&n.to_string())).collect();
    let why = status(
        json!({"allocation": allocation, "reservedFor": many}),
        &allocated,
    );
    assert!(
        why.unwrap_err()
            .contains("status.reservedFor: Too many: 257: must have at most 256 items")
    );
    let free = status(json!({}), &allocated).unwrap();
    assert!(free["status"]["allocation"].is_null());
}

#[test]
fn slices_say_in_one_way_where_they_can_be_reached() {
    let slice = |spec: Value| {
        let mut slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d.example.com",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d"}]}});
        for (field, value) in spec.as_object().unwrap() {
            slice["spec"][field] = value.clone();
        }
        slice
    };
    let res = res("resourceslices");
    for (spec, expected) in [
        (
            json!({}),
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        ),
        (
            json!({"nodeName": "n", "allNodes": true}),
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
             `perDeviceNodeSelection` is required, but multiple fields are set",
        ),
        (
            json!({"nodeName": "n", "devices": [{"name": "d", "attributes": {"a": {}}}]}),
            "spec.devices[0].attributes[a]: Invalid value: {}: exactly one value must be specified",
        ),
        (
            json!({"nodeName": "n", "devices": [{"name": "d"}, {"name": "d"}]}),
            "spec.devices[1]: Duplicate value: \"d\"",
        ),
    ] {
        assert_eq!(faults(res, slice(spec)), expected);
    }
    let tainted = json!({"nodeName": "n", "devices": [{"name": "d", "taints": [{"key": "k", "effect": "NoSchedule"}]}]});
    let old = stored(res, slice(tainted));
    assert!(old["spec"]["devices"][0]["taints"][0]["timeAdded"].is_string());
    let moved = with(old.clone(), "spec.nodeName", json!("other"));
    assert!(refused(res, &old, moved).ends_with("field is immutable"));
}

#[test]
fn classes_name_resources_as_vendors_do() {
    let class =
        |name: &str| json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": name}});
    for name in ["example.com/gpu", "gpu.example.com/a100"] {
        let class = stored(res("deviceclasses"), class(name));
        assert_eq!(class["spec"]["extendedResourceName"], name);
    }
    for name in [
        "gpu",
        "deviceclass.resource.kubernetes.io/gpu",
        "requests.example.com/gpu",
        "example.com/-",
        "",
    ] {
        assert_eq!(
            faults(res("deviceclasses"), class(name)),
            format!(
                "spec.extendedResourceName: Invalid value: {name:?}: must be a valid extended resource name"
            )
        );
    }
}

#[test]
fn what_a_pod_says_of_its_extended_resources_is_checked() {
    let pods = resource("v1", "pods");
    let pod = stored(
        pods,
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "i",
            "resources": {"limits": {"example.com/gpu": "1"}}}]}}),
    );
    let write = |mappings: Value, claim: &str| {
        let status = json!({"resourceClaimName": claim, "requestMappings": mappings});
        let new = with(pod.clone(), "status.extendedResourceClaimStatus", status);
        match update_sub(pods, Some("status"), &pod, new) {
            Ok(_) => String::new(),
            Err(error) => error.message,
        }
    };
    let mapping = |container: &str, resource: &str, request: &str| json!({"containerName": container, "resourceName": resource, "requestName": request});
    let good = || mapping("main", "example.com/gpu", "container-0-request-0");
    assert_eq!(write(json!([good()]), "p-extended-resources-x"), "");
    let at = "status.extendedResourceClaimStatus";
    for (mappings, claim, expected) in [
        (
            json!([]),
            "c",
            format!(
                "{at}.requestMappings: Required value: at least one request mapping is required"
            ),
        ),
        (
            json!([mapping("other", "example.com/gpu", "r")]),
            "c",
            format!(
                "{at}.requestMappings[0].containerName: Invalid value: \"other\": must match the name of an entry in \
                 spec.initContainers.name or spec.containers.name"
            ),
        ),
        (
            json!([mapping("main", "example.com/nic", "r")]),
            "c",
            format!(
                "{at}.requestMappings[0].resourceName: Invalid value: \"example.com/nic\": must match the extended \
                 resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests"
            ),
        ),
        (
            json!([good(), good()]),
            "c",
            format!("{at}.requestMappings[1].containerName: Duplicate value: \"main\""),
        ),
        (
            json!([good()]),
            "",
            format!("{at}.resourceClaimName: Required value"),
        ),
    ] {
        let told = write(mappings, claim);
        assert!(told.contains(&expected), "{told}");
    }
}

#[test]
fn taint_rules_note_since_when_they_hold() {
    let rules = resource("resource.k8s.io/v1beta2", "devicetaintrules");
    let rule = |selector: Value, taint: Value| json!({"metadata": {"name": "r"}, "spec": {"deviceSelector": selector, "taint": taint}});
    let first = stored(
        rules,
        rule(
            json!({"driver": "d.example.com"}),
            json!({"key": "a.b/hot", "effect": "None"}),
        ),
    );
    let time = |rule: &Value| rule["spec"]["taint"]["timeAdded"].clone();
    assert!(time(&first).is_string());
    assert_eq!(first["metadata"]["generation"], 1);
    let old = with(
        first.clone(),
        "spec.taint.timeAdded",
        json!("2020-01-01T00:00:00Z"),
    );
    // The same effect keeps its time; another one begins now, unless it says otherwise.
    let other = updated(
        rules,
        &old,
        with(old.clone(), "spec.taint.value", json!("x")),
    );
    assert_eq!(time(&other), "2020-01-01T00:00:00Z");
    assert_eq!(other["metadata"]["generation"], 2);
    let other = updated(
        rules,
        &old,
        with(old.clone(), "spec.taint.effect", json!("NoExecute")),
    );
    assert_eq!(time(&other), time(&first));
    let said = with(old.clone(), "spec.taint.effect", json!("NoExecute"));
    let said = with(said, "spec.taint.timeAdded", json!("2021-01-01T00:00:00Z"));
    assert_eq!(time(&updated(rules, &old, said)), "2021-01-01T00:00:00Z");
    for (selector, taint, expected) in [
        (
            json!({"driver": ""}),
            json!({"key": "a", "effect": "None"}),
            "spec.deviceSelector.driver: Required value",
        ),
        (
            json!({"device": "A"}),
            json!({"key": "a", "effect": "None"}),
            "spec.deviceSelector.device: Invalid value: \"A\"",
        ),
        (
            json!({"pool": "a//b"}),
            json!({"key": "a", "effect": "None"}),
            "spec.deviceSelector.pool: Invalid value: \"\"",
        ),
        (
            json!({}),
            json!({"key": "-", "effect": "None"}),
            "spec.taint.key: Invalid value: \"-\"",
        ),
        (
            json!({}),
            json!({"key": "a", "effect": "PreferNoSchedule"}),
            "spec.taint.effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ),
        (
            json!({}),
            json!({"key": "a"}),
            "spec.taint.effect: Required value",
        ),
    ] {
        let told = faults(rules, rule(selector, taint));
        assert!(told.contains(expected), "{told}");
    }
}
