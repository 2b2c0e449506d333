//! One large Deployment: all of it Running, and all of it away again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Plane, assert_has, eventually_within, number_from_env};

pub(crate) fn many_replicas_come_and_go(plane: &Plane) {
    let replicas = number_from_env("MEGAPLANE_TEST_REPLICAS", plane.nodes().max(500));
    let patience = Duration::from_secs(120 + replicas as u64 / 20);
    let seconds = patience.as_secs();
    plane.kubectl("create namespace crowd").ok();
    plane.apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: crowd, namespace: crowd}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: crowd}}}}
  template:
    metadata: {{labels: {{app: crowd}}}}
    spec:
      containers:
      - name: pause
        image: registry.k8s.io/pause:3.10
        resources: {{requests: {{cpu: 100m, memory: 64Mi}}}}
"
    ));
    let status = format!("rollout status deployment/crowd -n crowd --timeout={seconds}s");
    assert_has(
        &plane.kubectl(&status).timeout(patience).ok(),
        &["successfully rolled out"],
    );
    let running = "get pods -n crowd --field-selector status.phase=Running --no-headers -o custom-columns=N:.spec.nodeName";
    let nodes = plane.kubectl(running).timeout(patience).ok();
    assert_eq!(nodes.lines().count(), replicas);
    // Spread, not heaped: nobody has more than a few more than the average.
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes.lines() {
        *load.entry(node).or_default() += 1;
    }
    let most = load.values().max().copied().unwrap_or_default();
    assert!(
        most <= replicas.div_ceil(plane.nodes()) + 8,
        "{most} on one node: {load:?}"
    );

    plane
        .kubectl("scale deployment/crowd -n crowd --replicas=0")
        .ok();
    eventually_within(patience, "all are gone", || {
        let left = plane
            .kubectl("get pods -n crowd -o name")
            .timeout(patience)
            .ok()
            .lines()
            .count();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} pods"))
        }
    });
    let deployment = plane
        .kubectl("get deployment crowd -n crowd --no-headers")
        .ok();
    assert_has(&deployment, &["0/0"]);
    plane.kubectl("delete namespace crowd --wait=false").ok();
}
