//! Services and what stands behind them.

use crate::help::*;
use meta::Value;
use value::json;

fn service() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
}

#[test]
fn a_minimal_service_gets_exactly_these_defaults() {
    assert_eq!(
        create(resource("v1", "services"), service()).unwrap()["spec"],
        json!({
            "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"
        })
    );
    let balancer = create(
        resource("v1", "services"),
        with(service(), "spec.type", json!("LoadBalancer")),
    )
    .unwrap();
    assert_eq!(balancer["spec"]["externalTrafficPolicy"], json!("Cluster"));
    assert_eq!(
        balancer["spec"]["allocateLoadBalancerNodePorts"],
        json!(true)
    );
}

#[test]
fn each_fault_has_its_text() {
    let res = resource("v1", "services");
    let cases = [
        (
            with(service(), "spec.ports", json!([])),
            "spec.ports: Required value",
        ),
        (
            with(
                service(),
                "spec.ports",
                json!([{"port": 80}, {"name": "b", "port": 81}]),
            ),
            "spec.ports[0].name: Required value",
        ),
        (
            with(
                service(),
                "spec.ports",
                json!([{"name": "a", "port": 80}, {"name": "a", "port": 81}]),
            ),
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (
            with(service(), "spec.ports.0.port", json!(0)),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            with(service(), "spec.ports.0.nodePort", json!(30000)),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            with(service(), "spec.type", json!("Other")),
            "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            with(service(), "spec.clusterIP", json!("1.2.3")),
            "spec.clusterIPs[0]: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            with(service(), "spec.externalTrafficPolicy", json!("Local")),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
    ];
    for (sent, text) in cases {
        assert_eq!(faults(res, sent), text);
    }
    assert!(
        faults(res, with(service(), "metadata.name", json!("1web")))
            .contains("a DNS-1035 label must consist of")
    );
    assert!(
        create(
            res,
            with(
                with(service(), "spec.ports", json!([])),
                "spec.clusterIP",
                json!("None")
            )
        )
        .is_ok()
    );
}

#[test]
fn what_was_allocated_stays() {
    let res = resource("v1", "services");
    let old = stored(
        res,
        with(
            with(service(), "spec.type", json!("NodePort")),
            "spec.clusterIP",
            json!("10.0.0.9"),
        ),
    );
    let old = with(old, "spec.ports.0.nodePort", json!(30_080));
    assert_eq!(old["spec"]["clusterIPs"], json!(["10.0.0.9"]));
    let mut sent = with(service(), "spec.type", json!("NodePort"));
    sent["metadata"]["labels"] = json!({"a": "b"});
    let new = updated(res, &old, sent);
    assert_eq!(new["spec"]["clusterIP"], json!("10.0.0.9"));
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.9"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], json!(30_080));
    let moved = with(
        with(old.clone(), "spec.clusterIP", json!("10.0.0.8")),
        "spec.clusterIPs",
        json!(["10.0.0.8"]),
    );
    assert_eq!(
        refused(res, &old, moved),
        "Service \"web\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.0.0.8\"]: may not change once set"
    );
}

#[test]
fn slices_and_endpoints() {
    let slices = resource("discovery.k8s.io/v1", "endpointslices");
    let slice = create(slices, json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]})).unwrap();
    assert_eq!(
        slice["ports"],
        json!([{"name": "", "port": 80, "protocol": "TCP"}])
    );
    assert_eq!(slice["metadata"]["generation"], json!(1));
    assert_eq!(
        faults(
            slices,
            json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{}]})
        ),
        "endpoints[0].addresses: Required value: must contain at least 1 address"
    );
    assert_eq!(
        faults(
            resource("v1", "endpoints"),
            json!({"metadata": {"name": "a"}, "subsets": [{"ports": [{"port": 80}]}]})
        ),
        "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"
    );
}

#[test]
fn ingresses() {
    let res = resource("networking.k8s.io/v1", "ingresses");
    let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}});
    let ingress =
        json!({"metadata": {"name": "a"}, "spec": {"rules": [{"http": {"paths": [path]}}]}});
    assert!(create(res, ingress.clone()).is_ok());
    assert_eq!(
        faults(
            res,
            without(ingress.clone(), "spec.rules.0.http.paths.0.pathType")
        ),
        "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"
    );
    assert_eq!(
        faults(
            res,
            with(ingress, "spec.rules.0.http.paths.0.path", json!("x"))
        ),
        "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path"
    );
}
