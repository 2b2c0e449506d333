//! Reading: selectors, lists in pieces, watches, tables.

use rest::http::Method;
use value::Value;

use crate::support::{Plane, assert_columns, assert_has, eventually};

pub(crate) fn selectors(plane: &Plane) {
    plane.kubectl("create namespace select").ok();
    for (name, labels) in [
        ("a", "tier=front,env=prod"),
        ("b", "tier=back,env=prod"),
        ("c", "tier=back"),
        ("d", "env=test"),
    ] {
        plane
            .kubectl(&format!(
                "run {name} -n select --image=nginx:1.27 --labels={labels}"
            ))
            .ok();
    }
    plane
        .kubectl("wait --for=condition=Ready pods --all -n select --timeout=60s")
        .ok();
    let names = |selection: &str| {
        let line =
            format!("get pods -n select {selection} -o jsonpath={{.items[*].metadata.name}}");
        plane.kubectl(&line).ok()
    };
    assert_eq!(names("-l tier=back"), "b c");
    assert_eq!(names("-l tier!=back"), "a d");
    assert_eq!(names("-l 'tier in (front,back),env'"), "a b");
    assert_eq!(names("-l 'env notin (prod)'"), "c d");
    assert_eq!(names("-l '!env'"), "c");
    assert_eq!(names("-l env=nowhere"), "");
    assert_eq!(names("--field-selector metadata.name=c"), "c");
    assert_eq!(
        names("--field-selector status.phase=Running,metadata.name!=a"),
        "b c d"
    );
    assert_eq!(names("-l env=prod --field-selector metadata.name!=a"), "b");
    let node = plane
        .kubectl("get pod a -n select -o jsonpath={.spec.nodeName}")
        .ok();
    assert!(names(&format!("--field-selector spec.nodeName={node}")).contains('a'));
    let refused = plane
        .kubectl("get pods -n select --field-selector spec.color=red")
        .fails();
    assert_has(&refused, &["field label not supported: spec.color"]);
    let refused = plane.get("/api/v1/namespaces/select/pods?labelSelector=a%3D%3D%3Db");
    refused.is_error(400, "BadRequest", &["unable to parse requirement"]);
    let sorted = plane
        .kubectl("get pods -n select --sort-by='{.metadata.labels.tier}' -o name")
        .ok();
    assert_eq!(
        sorted.lines().last(),
        Some("pod/a"),
        "front after back:\n{sorted}"
    );
    // Deleting by selector.
    plane
        .kubectl("delete pods -n select -l tier=back --timeout=60s")
        .ok();
    assert_eq!(names(""), "a d");
    plane.kubectl("delete namespace select --wait=false").ok();
}

pub(crate) fn lists_in_pieces(plane: &Plane) {
    plane.kubectl("create namespace pieces").ok();
    let manifests: Vec<String> = (0..10)
        .map(|index| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{index}, namespace: pieces, labels: {{of: ten}}}}\n"))
        .collect();
    plane
        .kubectl("create -f -")
        .stdin(manifests.join("---\n"))
        .ok();
    let listed = plane
        .kubectl("get cm -n pieces -l of=ten --chunk-size=3 -o name")
        .ok();
    assert_eq!(
        listed,
        plane.kubectl("get cm -n pieces -l of=ten -o name").ok()
    );
    assert_eq!(listed.lines().count(), 10);

    let list = "/api/v1/namespaces/pieces/configmaps";
    let whole = plane.get(list).succeeded().json();
    let total = whole["items"].as_array().unwrap().len();
    let first = plane.get(&format!("{list}?limit=3")).succeeded().json();
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(first["metadata"]["remainingItemCount"], total as u64 - 3);
    // What happens in between does not show in the pages that follow.
    plane.kubectl("delete cm m9 -n pieces").ok();
    plane.kubectl("create configmap m99 -n pieces").ok();
    let (mut names, mut page) = (names_of(&first), first.clone());
    while let Some(token) = page["metadata"]["continue"]
        .as_str()
        .filter(|token| !token.is_empty())
    {
        page = plane
            .get(&format!("{list}?limit=3&continue={token}"))
            .succeeded()
            .json();
        assert_eq!(
            page["metadata"]["resourceVersion"],
            first["metadata"]["resourceVersion"]
        );
        names.extend(names_of(&page));
    }
    assert_eq!(names, names_of(&whole));
    let bad = plane.get(&format!("{list}?limit=3&continue=nonsense"));
    bad.is_error(400, "BadRequest", &["continue key is not valid"]);
    // The past at an exact version, and a version that is not yet.
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let past = plane
        .get(&format!(
            "{list}?resourceVersion={version}&resourceVersionMatch=Exact"
        ))
        .succeeded()
        .json();
    assert_eq!(names_of(&past), names);
    let future = plane.get(&format!("{list}?resourceVersion=999999999999"));
    future.is_error(504, "Timeout", &["Too large resource version"]);
    // Types of answers for those who want less.
    let partial = plane
        .send(
            Method::Get,
            list,
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "",
            "",
        )
        .succeeded()
        .json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0]["data"].is_null());
    plane.kubectl("delete namespace pieces --wait=false").ok();
}

fn names_of(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn watch_tells_every_change(plane: &Plane) {
    plane.kubectl("create namespace watch").ok();
    plane.kubectl("create configmap before -n watch").ok();
    let watch = plane.kubectl("get cm -n watch --watch --output-watch-events --field-selector metadata.name!=kube-root-ca.crt").spawn();
    let seen = |wanted: &[&str]| {
        eventually("the watch tells", || {
            let output = watch.output();
            let rows: Vec<String> = output
                .lines()
                .skip(1)
                .map(|row| row.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
                .collect();
            if rows == wanted { Ok(()) } else { Err(output) }
        });
    };
    seen(&["ADDED before 0"]);
    plane
        .kubectl("create configmap during -n watch --from-literal=a=1")
        .ok();
    plane
        .kubectl("patch cm during -n watch -p '{\"data\":{\"b\":\"2\"}}'")
        .ok();
    plane.kubectl("delete cm before -n watch").ok();
    seen(&[
        "ADDED before 0",
        "ADDED during 1",
        "MODIFIED during 2",
        "DELETED before 0",
    ]);

    // An object that leaves the selection is deleted for those who watch the selection.
    let chosen = plane
        .kubectl("get cm -n watch -l pick=me --watch-only --output-watch-events")
        .spawn();
    // Nothing tells that a watch without a list has begun: change until it shows.
    eventually("entering shows", || {
        plane
            .kubectl("label cm during -n watch pick=me --overwrite")
            .ok();
        if chosen.output().contains("ADDED") {
            return Ok(());
        }
        plane.kubectl("label cm during -n watch pick-").ok();
        Err(chosen.output())
    });
    plane.kubectl("label cm during -n watch pick-").ok();
    eventually("leaving shows", || {
        let output = chosen.output();
        if output
            .trim_end()
            .lines()
            .last()
            .is_some_and(|row| row.contains("DELETED"))
        {
            Ok(())
        } else {
            Err(output)
        }
    });
    plane.kubectl("delete namespace watch --wait=false").ok();
}

/// Watches end when they are told to, so they can be read whole.
pub(crate) fn a_watch_can_begin_with_a_list(plane: &Plane) {
    plane.kubectl("create namespace stream").ok();
    for name in ["one", "two"] {
        plane
            .kubectl(&format!("create configmap {name} -n stream -o name"))
            .ok();
    }
    let list = "/api/v1/namespaces/stream/configmaps";
    let now = plane.get(list).succeeded().json();
    let version = now["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let select = "fieldSelector=metadata.name!%3Dkube-root-ca.crt";
    let watch = |options: &str| -> Vec<Value> {
        let answer = plane
            .get(&format!(
                "{list}?watch=1&timeoutSeconds=1&{select}&{options}"
            ))
            .succeeded();
        answer
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let initial =
        watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let kinds: Vec<&str> = initial
        .iter()
        .take(3)
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "BOOKMARK"]);
    let bookmark = &initial[2]["object"]["metadata"];
    assert_eq!(bookmark["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(
        bookmark["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= version.parse().unwrap()
    );
    // From a version: only what came later.
    plane.kubectl("create configmap three -n stream").ok();
    let later = watch(&format!("resourceVersion={version}"));
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!(
        (&later[0]["type"], &later[0]["object"]["metadata"]["name"]),
        (&"ADDED".into(), &"three".into())
    );
    // Contradictions are refused.
    let refused = plane.get(&format!("{list}?watch=1&sendInitialEvents=true"));
    refused.is_error(422, "Invalid", &["sendInitialEvents"]);
    plane.kubectl("delete namespace stream --wait=false").ok();
}

pub(crate) fn tables_have_upstreams_columns(plane: &Plane) {
    plane.kubectl("create namespace tables").ok();
    plane
        .kubectl("create deployment web -n tables --image=nginx:1.27")
        .ok();
    plane
        .kubectl("expose deployment web -n tables --port=80")
        .ok();
    plane
        .kubectl("create job work -n tables --image=busybox:1.36 -- true")
        .ok();
    plane
        .kubectl("create secret generic secret -n tables --from-literal=a=b")
        .ok();
    plane.kubectl("create configmap map -n tables").ok();
    plane
        .kubectl("rollout status deployment/web -n tables --timeout=60s")
        .ok();
    for (kinds, columns) in [
        ("nodes", "NAME STATUS ROLES AGE VERSION"),
        (
            "nodes -o wide",
            "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
        ),
        ("pods", "NAME READY STATUS RESTARTS AGE"),
        (
            "pods -o wide",
            "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES",
        ),
        ("deployments", "NAME READY UP-TO-DATE AVAILABLE AGE"),
        (
            "deployments -o wide",
            "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
        ),
        ("replicasets", "NAME DESIRED CURRENT READY AGE"),
        ("services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
        (
            "services -o wide",
            "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR",
        ),
        ("jobs", "NAME STATUS COMPLETIONS DURATION AGE"),
        ("configmaps", "NAME DATA AGE"),
        ("secrets", "NAME TYPE DATA AGE"),
        ("serviceaccounts", "NAME SECRETS AGE"),
        ("endpointslices", "NAME ADDRESSTYPE PORTS ENDPOINTS AGE"),
        ("namespaces", "NAME STATUS AGE"),
        ("leases -n kube-node-lease", "NAME HOLDER AGE"),
        (
            "priorityclasses",
            "NAME VALUE GLOBAL-DEFAULT AGE PREEMPTIONPOLICY",
        ),
    ] {
        let namespace = if kinds.contains(" -n ") {
            ""
        } else {
            " -n tables"
        };
        assert_columns(
            &plane.kubectl(&format!("get {kinds}{namespace}")).ok(),
            columns,
        );
    }
    let all = plane.kubectl("get pods -A").ok();
    assert_columns(&all, "NAMESPACE NAME READY STATUS RESTARTS AGE");
    assert_has(
        &plane.kubectl("get pods -n nowhere").run().stderr,
        &["No resources found in nowhere namespace."],
    );
    plane.kubectl("delete namespace tables --wait=false").ok();
}
