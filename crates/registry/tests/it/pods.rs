//! Pods.

use crate::help::*;
use meta::Value;
use registry::Update;
use value::json;

fn pod() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}})
}

#[test]
fn a_minimal_pod_gets_exactly_these_defaults() {
    assert_eq!(
        create(resource("v1", "pods"), pod()).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "default", "uid": UID, "creationTimestamp": NOW, "generation": 1},
            "spec": {
                "containers": [{
                    "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true
            },
            "status": {"phase": "Pending", "qosClass": "BestEffort"}
        })
    );
}

#[test]
fn a_fuller_pod_is_filled_in_depth() {
    let mut sent = pod();
    sent["spec"]["containers"][0] = json!({
        "name": "c", "image": "nginx:1.27",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}},
        "livenessProbe": {"httpGet": {"port": 80}},
        "volumeMounts": [{"name": "s", "mountPath": "/s"}, {"name": "e", "mountPath": "/e"}]
    });
    sent["spec"]["serviceAccount"] = json!("robot");
    sent["spec"]["volumes"] = json!([
        {"name": "s", "secret": {"secretName": "x"}},
        {"name": "e"},
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"name": "h", "hostPath": {"path": "/"}}
    ]);
    let created = create(resource("v1", "pods"), sent).unwrap();
    let container = &created["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], json!("IfNotPresent"));
    assert_eq!(
        container["ports"],
        json!([{"containerPort": 80, "protocol": "TCP"}])
    );
    assert_eq!(
        container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"],
        json!("v1")
    );
    assert_eq!(
        container["resources"]["limits"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    assert_eq!(
        container["resources"]["requests"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    assert_eq!(
        container["livenessProbe"],
        json!({
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3
        })
    );
    assert_eq!(created["spec"]["serviceAccountName"], json!("robot"));
    assert_eq!(
        created["spec"]["volumes"],
        json!([
            {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
            {"name": "e", "emptyDir": {}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}], "defaultMode": 420}},
            {"name": "h", "hostPath": {"path": "/", "type": ""}}
        ])
    );
    assert_eq!(created["status"]["qosClass"], json!("Guaranteed"));
}

#[test]
fn each_fault_has_its_text() {
    let c = "spec.containers.0";
    let two = json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]);
    let cases = [
        (
            with(pod(), "spec.containers", json!([])),
            "spec.containers: Required value",
        ),
        (
            without(pod(), &format!("{c}.name")),
            "spec.containers[0].name: Required value",
        ),
        (
            without(pod(), &format!("{c}.image")),
            "spec.containers[0].image: Required value",
        ),
        (
            with(pod(), &format!("{c}.image"), json!(" nginx")),
            "spec.containers[0].image: Invalid value: \" nginx\": must not have leading or trailing whitespace",
        ),
        (
            with(pod(), "spec.containers", two),
            "spec.containers[1].name: Duplicate value: \"c\"",
        ),
        (
            with(pod(), &format!("{c}.imagePullPolicy"), json!("Never!")),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Never!\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            with(
                pod(),
                &format!("{c}.ports"),
                json!([{"containerPort": 70000}]),
            ),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            with(
                pod(),
                &format!("{c}.ports"),
                json!([{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]),
            ),
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
        ),
        (
            with(
                pod(),
                &format!("{c}.ports"),
                json!([{"containerPort": 1, "hostPort": 8}, {"containerPort": 2, "hostPort": 8}]),
            ),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//8\"",
        ),
        (
            with(pod(), &format!("{c}.env"), json!([{"value": "x"}])),
            "spec.containers[0].env[0].name: Required value",
        ),
        (
            with(
                pod(),
                &format!("{c}.env"),
                json!([{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            with(
                pod(),
                &format!("{c}.volumeMounts"),
                json!([{"name": "v", "mountPath": "/v"}]),
            ),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            with(
                pod(),
                &format!("{c}.resources"),
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            ),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            with(
                pod(),
                &format!("{c}.resources"),
                json!({"requests": {"cpu": "-1"}}),
            ),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            with(
                pod(),
                &format!("{c}.resources"),
                json!({"requests": {"example.com/gpu": "1"}}),
            ),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            with(pod(), &format!("{c}.readinessProbe"), json!({})),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            with(
                pod(),
                &format!("{c}.livenessProbe"),
                json!({"tcpSocket": {"port": 80}, "successThreshold": 2}),
            ),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            with(pod(), "spec.restartPolicy", json!("Sometimes")),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            with(pod(), "spec.dnsPolicy", json!("None")),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            with(
                pod(),
                "spec.volumes",
                json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            ),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            with(pod(), "spec.volumes", json!([{"name": "v"}, {"name": "v"}])),
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ),
        (
            with(pod(), "spec.tolerations", json!([{"operator": "Equal"}])),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        (
            with(
                pod(),
                "spec.topologySpreadConstraints",
                json!([{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
            ),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            with(pod(), "spec.activeDeadlineSeconds", json!(0)),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            with(
                pod(),
                "spec.initContainers",
                json!([{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
            ),
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            with(
                pod(),
                "spec.affinity",
                json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}}),
            ),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
        ),
    ];
    for (sent, text) in cases {
        assert_eq!(faults(resource("v1", "pods"), sent), text);
    }
}

#[test]
fn a_pod_keeps_its_spec_but_for_a_few_fields() {
    let res = resource("v1", "pods");
    let old = stored(res, pod());
    let image = updated(
        res,
        &old,
        with(old.clone(), "spec.containers.0.image", json!("nginx:2")),
    );
    assert_eq!(image["metadata"]["generation"], json!(2));
    updated(
        res,
        &old,
        with(
            old.clone(),
            "spec.tolerations",
            json!([{"operator": "Exists"}]),
        ),
    );
    updated(
        res,
        &old,
        with(old.clone(), "spec.activeDeadlineSeconds", json!(60)),
    );
    let text = refused(res, &old, with(old.clone(), "spec.nodeName", json!("n")));
    assert!(
        text.starts_with(
            "Pod \"web\" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("changed: spec.nodeName"), "{text}");
    let more = json!([{"name": "c", "image": "nginx"}, {"name": "d", "image": "nginx"}]);
    assert_eq!(
        refused(res, &old, with(old.clone(), "spec.containers", more)),
        "Pod \"web\" is invalid: spec.containers: Forbidden: pod updates may not add or remove containers"
    );
    let tolerant = stored(
        res,
        with(
            pod(),
            "spec.tolerations",
            json!([{"key": "a", "operator": "Exists"}]),
        ),
    );
    assert!(
        refused(
            res,
            &tolerant,
            without(tolerant.clone(), "spec.tolerations")
        )
        .contains("existing toleration can not be modified except its tolerationSeconds")
    );
}

#[test]
fn status_updates_touch_no_spec() {
    let res = resource("v1", "pods");
    let old = stored(res, pod());
    let sent = with(
        with(old.clone(), "spec.nodeName", json!("n")),
        "status",
        json!({"phase": "Running", "podIP": "10.0.0.1"}),
    );
    let Ok(Update::Store(new)) = update_sub(res, Some("status"), &old, sent) else {
        panic!("a write")
    };
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(
        new["status"],
        json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "qosClass": "BestEffort"})
    );
    assert_eq!(new["metadata"]["generation"], json!(1));
}

#[test]
fn ephemeral_containers_only_come() {
    let res = resource("v1", "pods");
    let old = stored(res, pod());
    let debug = json!([{"name": "debug", "image": "busybox"}]);
    let sent = with(
        with(old.clone(), "spec.ephemeralContainers", debug),
        "spec.nodeName",
        json!("n"),
    );
    let Ok(Update::Store(mut new)) = update_sub(res, Some("ephemeralcontainers"), &old, sent)
    else {
        panic!("a write")
    };
    assert_eq!(
        new["spec"]["ephemeralContainers"][0]["imagePullPolicy"],
        json!("Always")
    );
    assert_eq!(new["spec"].get("nodeName"), None);
    new["metadata"]["resourceVersion"] = json!("8");
    let gone = without(new.clone(), "spec.ephemeralContainers");
    let error = update_sub(res, Some("ephemeralcontainers"), &new, gone).unwrap_err();
    assert!(
        error
            .message
            .contains("existing ephemeral containers \"debug\" may not be removed"),
        "{}",
        error.message
    );
}

#[test]
fn resize_changes_cpu_and_memory_only() {
    let res = resource("v1", "pods");
    let old = stored(
        res,
        with(
            pod(),
            "spec.containers.0.resources",
            json!({"requests": {"cpu": "1"}}),
        ),
    );
    let sent = with(
        with(
            old.clone(),
            "spec.containers.0.resources",
            json!({"requests": {"cpu": "2"}}),
        ),
        "spec.containers.0.image",
        json!("x"),
    );
    let Ok(Update::Store(new)) = update_sub(res, Some("resize"), &old, sent) else {
        panic!("a write")
    };
    assert_eq!(
        new["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "2"}})
    );
    assert_eq!(new["spec"]["containers"][0]["image"], json!("nginx"));
    let bare = without(old.clone(), "spec.containers.0.resources");
    let error = update_sub(res, Some("resize"), &old, bare).unwrap_err();
    assert!(
        error
            .message
            .contains("Pod QOS Class may not change as a result of resizing"),
        "{}",
        error.message
    );
}

/// `podIP` is the first of `podIPs`, whichever of them is written.
#[test]
fn an_address_stands_under_both_names() {
    let made = create(resource("v1", "pods"), pod()).unwrap();
    let stored = |status: &Value, changes: &Value| {
        let mut old = made.clone();
        old["metadata"]["resourceVersion"] = "1".into();
        let mut new = old.clone();
        for (name, value) in status.as_object().unwrap() {
            old["status"][name.as_str()] = value.clone();
            new["status"][name.as_str()] = value.clone();
        }
        for (name, value) in changes.as_object().unwrap() {
            new["status"][name.as_str()] = value.clone();
        }
        match update_sub(resource("v1", "pods"), Some("status"), &old, new).unwrap() {
            Update::Store(pod) => {
                let status = &pod["status"];
                json!([status["podIP"], status["podIPs"]])
            }
            other => panic!("{other:?}"),
        }
    };
    let [one, two] = ["10.0.0.1", "10.0.0.2"];
    let none = json!({});
    let both = json!({"podIP": one, "podIPs": [{"ip": one}, {"ip": "::1"}]});
    for (before, changes, address, addresses) in [
        (
            &none,
            json!({"podIP": one}),
            json!(one),
            json!([{"ip": one}]),
        ),
        (
            &none,
            json!({"podIPs": [{"ip": one}, {"ip": two}]}),
            json!(one),
            json!([{"ip": one}, {"ip": two}]),
        ),
        (
            &both,
            json!({"podIP": two}),
            json!(two),
            json!([{"ip": two}]),
        ),
        (
            &both,
            json!({"podIP": two, "podIPs": null}),
            json!(two),
            json!([{"ip": two}]),
        ),
        (
            &both,
            json!({"podIP": null, "phase": "Running"}),
            json!(one),
            both["podIPs"].clone(),
        ),
        (
            &both,
            json!({"podIP": null, "podIPs": null}),
            Value::Null,
            Value::Null,
        ),
        (
            &both,
            json!({"phase": "Running"}),
            json!(one),
            both["podIPs"].clone(),
        ),
    ] {
        assert_eq!(
            stored(before, &changes),
            json!([address, addresses]),
            "{before} {changes}"
        );
    }
}
