//! Changing objects: by label, editor, patch, replacement and apply.

use value::json;

use crate::support::{Plane, assert_has, eventually};

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: nginx
        image: nginx:1.27
      - name: side
        image: busybox:1.36
        command: [sleep, infinity]
";

pub(crate) fn label_annotate_edit_patch(plane: &Plane) {
    plane.kubectl("create namespace change").ok();
    plane.kubectl("apply -n change -f -").stdin(DEPLOYMENT).ok();
    labels_and_annotations(plane);
    an_editor(plane);
    three_kinds_of_patch(plane);
    plane.kubectl("delete namespace change --wait=false").ok();
}

fn labels_and_annotations(plane: &Plane) {
    let get = |path: &str| {
        plane
            .kubectl(&format!("get deploy web -n change -o jsonpath={{{path}}}"))
            .ok()
    };
    assert_eq!(
        plane.kubectl("label deploy web tier=front -n change").ok(),
        "deployment.apps/web labeled\n"
    );
    assert_eq!(get(".metadata.labels.tier"), "front");
    assert_eq!(
        plane.kubectl("label deploy web tier=front -n change").ok(),
        "deployment.apps/web not labeled\n"
    );
    let refused = plane
        .kubectl("label deploy web tier=back -n change")
        .fails();
    assert_has(
        &refused,
        &["already has a value (front)", "--overwrite is false"],
    );
    plane
        .kubectl("label deploy web tier=back -n change --overwrite")
        .ok();
    assert_eq!(get(".metadata.labels.tier"), "back");
    plane.kubectl("label deploy web tier- -n change").ok();
    assert_eq!(get(".metadata.labels.tier"), "");
    plane
        .kubectl("annotate deploy web note='two words' -n change")
        .ok();
    assert_eq!(get(".metadata.annotations.note"), "two words");
    let bad = plane
        .kubectl("label deploy web 'bad key!=x' -n change")
        .fails();
    assert!(!bad.is_empty());
}

fn an_editor(plane: &Plane) {
    // Two spaces in front: the field of the spec (and of the status, which an edit does not change).
    let script = |name: &str, from: &str, to: &str| {
        let line = format!("s/^  replicas: {from}$/  replicas: {to}/\n");
        format!("sed -i -f {}", plane.folder().write(name, line))
    };
    let edited = plane
        .kubectl("edit deploy web -n change")
        .env("KUBE_EDITOR", &script("three.sed", "2", "3"))
        .ok();
    assert_eq!(edited, "deployment.apps/web edited\n");
    assert_eq!(
        plane
            .kubectl("get deploy web -n change -o jsonpath={.spec.replicas}")
            .ok(),
        "3"
    );
    let unchanged = plane
        .kubectl("edit deploy web -n change")
        .env("KUBE_EDITOR", "true")
        .run();
    assert_has(
        &(unchanged.stdout + &unchanged.stderr),
        &["no changes made"],
    );
    // What validation refuses is not stored; kubectl keeps the file and says why.
    let refused = plane
        .kubectl("edit deploy web -n change")
        .env("KUBE_EDITOR", &script("negative.sed", "3", "-3"))
        .run();
    assert_has(
        &refused.fails(),
        &[
            "deployments.apps \"web\" is invalid",
            "A copy of your changes has been stored",
        ],
    );
    assert_eq!(
        plane
            .kubectl("get deploy web -n change -o jsonpath={.spec.replicas}")
            .ok(),
        "3"
    );
}

fn three_kinds_of_patch(plane: &Plane) {
    let patch = |kind: &str, patch: &value::Value| {
        plane
            .kubectl(&format!(
                "patch deploy web -n change --type={kind} -p '{patch}' -o json"
            ))
            .json()
    };
    // Strategic: containers merge by name.
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox:1.37"}]}}}});
    let containers =
        patch("strategic", &strategic)["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(
        (&containers[0]["image"], &containers[1]["image"]),
        (&json!("nginx:1.27"), &json!("busybox:1.37"))
    );
    assert_eq!(containers[1]["command"], json!(["sleep", "infinity"]));
    // Merge: lists are replaced, null removes.
    let merge = json!({"metadata": {"annotations": {"note": null}},
                       "spec": {"template": {"spec": {"containers": [{"name": "only", "image": "nginx:1.27"}]}}}});
    let patched = patch("merge", &merge);
    assert_eq!(
        patched["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(patched["metadata"]["annotations"]["note"].is_null());
    // JSON patch: a test that holds, and one that does not.
    let good = json!([{"op": "test", "path": "/spec/replicas", "value": 3},
                      {"op": "replace", "path": "/spec/replicas", "value": 1}]);
    assert_eq!(patch("json", &good)["spec"]["replicas"], 1);
    plane
        .kubectl(&format!(
            "patch deploy web -n change --type=json -p '{good}'"
        ))
        .fails();
    assert_eq!(
        plane
            .kubectl("get deploy web -n change -o jsonpath={.spec.replicas}")
            .ok(),
        "1"
    );
    // A directive of the strategic merge, and a patch of a subresource.
    let delete = json!({"spec": {"template": {"spec": {"containers": [{"name": "only", "$patch": "delete"},
                                                                       {"name": "new", "image": "nginx:1.28"}]}}}});
    let patched = patch("strategic", &delete);
    assert_eq!(
        patched["spec"]["template"]["spec"]["containers"][0]["name"],
        "new"
    );
    plane.kubectl("patch deploy web -n change --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":2}}'").ok();
    assert_eq!(
        plane
            .kubectl("get deploy web -n change -o jsonpath={.spec.replicas}")
            .ok(),
        "2"
    );
    // A patch that changes nothing is no change.
    let version = "get cm kept -n change -o jsonpath={.metadata.resourceVersion}";
    plane
        .kubectl("create configmap kept -n change --from-literal=a=1")
        .ok();
    let before = plane.kubectl(version).ok();
    assert_has(
        &plane
            .kubectl("patch cm kept -n change -p '{\"data\":{\"a\":\"1\"}}'")
            .ok(),
        &["patched (no change)"],
    );
    assert_eq!(plane.kubectl(version).ok(), before);
}

pub(crate) fn replace_and_generate_names(plane: &Plane) {
    plane.kubectl("create namespace replace").ok();
    let note = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  generateName: note-\n  namespace: replace\ndata: {a: '1'}\n";
    let mut names: Vec<String> = (0..3)
        .map(|_| plane.kubectl("create -f - -o name").stdin(note).ok())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        let suffix = name.trim().strip_prefix("configmap/note-").unwrap();
        assert_eq!(suffix.len(), 5, "{name}");
    }
    // generateName is for create only.
    assert_has(
        &plane.kubectl("apply -f -").stdin(note).fails(),
        &["generate name"],
    );

    let map = |value: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: map\n  namespace: replace\n{more}data: {{a: '{value}'}}\n"
        )
    };
    assert_has(
        &plane.kubectl("replace -f -").stdin(map("1", "")).fails(),
        &["configmaps \"map\" not found"],
    );
    plane.kubectl("create -f -").stdin(map("1", "")).ok();
    assert_has(
        &plane.kubectl("create -f -").stdin(map("1", "")).fails(),
        &["AlreadyExists", "configmaps \"map\" already exists"],
    );
    let uid = "get cm map -n replace -o jsonpath={.metadata.uid}";
    let first = plane.kubectl(uid).ok();
    assert_eq!(
        plane.kubectl("replace -f -").stdin(map("2", "")).ok(),
        "configmap/map replaced\n"
    );
    assert_eq!(
        plane
            .kubectl("get cm map -n replace -o jsonpath={.data.a}")
            .ok(),
        "2"
    );
    assert_eq!(plane.kubectl(uid).ok(), first);
    let stale = plane
        .kubectl("replace -f -")
        .stdin(map("3", "  resourceVersion: '1'\n"))
        .fails();
    assert_has(
        &stale,
        &[
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        ],
    );
    // By force: another object under the same name.
    assert_has(
        &plane
            .kubectl("replace --force -f -")
            .stdin(map("4", ""))
            .ok(),
        &["configmap/map replaced"],
    );
    assert_ne!(plane.kubectl(uid).ok(), first);
    // Immutable means it.
    plane
        .kubectl("patch cm map -n replace -p '{\"immutable\":true}'")
        .ok();
    let refused = plane
        .kubectl("patch cm map -n replace -p '{\"data\":{\"a\":\"5\"}}'")
        .fails();
    assert_has(&refused, &["field is immutable when `immutable` is set"]);
    plane.kubectl("delete namespace replace --wait=false").ok();
}

pub(crate) fn dry_run_and_diff(plane: &Plane) {
    plane.kubectl("create namespace dry").ok();
    let applied = plane
        .kubectl("apply -n dry --dry-run=server -f -")
        .stdin(DEPLOYMENT)
        .ok();
    assert_eq!(applied, "deployment.apps/web created (server dry run)\n");
    assert_has(
        &plane.kubectl("get deploy web -n dry").fails(),
        &["deployments.apps \"web\" not found"],
    );
    // The answer of a dry run is what would be stored: defaults and identity are in it.
    let would_be = plane
        .kubectl("create -n dry --dry-run=server -o json -f -")
        .stdin(DEPLOYMENT)
        .json();
    assert_eq!(would_be["spec"]["revisionHistoryLimit"], 10);
    assert!(would_be["metadata"]["uid"].is_string());
    // What is refused is refused in a dry run too.
    let bad = DEPLOYMENT.replace("labels: {app: web}", "labels: {app: other}");
    let refused = plane
        .kubectl("create -n dry --dry-run=server -f -")
        .stdin(&bad)
        .fails();
    assert_has(&refused, &["`selector` does not match template `labels`"]);

    plane.kubectl("apply -n dry -f -").stdin(DEPLOYMENT).ok();
    let same = plane.kubectl("diff -n dry -f -").stdin(DEPLOYMENT).run();
    assert_eq!(
        (same.code, same.stdout.as_str()),
        (0, ""),
        "{}",
        same.stderr
    );
    let changed = DEPLOYMENT.replace("replicas: 2", "replicas: 5");
    let different = plane.kubectl("diff -n dry -f -").stdin(&changed).run();
    assert_eq!(different.code, 1, "{}", different.stderr);
    assert_has(&different.stdout, &["-  replicas: 2\n", "+  replicas: 5\n"]);
    assert_eq!(
        plane
            .kubectl("get deploy web -n dry -o jsonpath={.spec.replicas}")
            .ok(),
        "2"
    );
    // Deleting, labelling and scaling can be tried as well.
    plane
        .kubectl("delete deploy web -n dry --dry-run=server")
        .ok();
    plane
        .kubectl("label deploy web -n dry x=y --dry-run=server")
        .ok();
    plane
        .kubectl("scale deploy web -n dry --replicas=7 --dry-run=server")
        .ok();
    let after = plane.kubectl("get deploy web -n dry -o json").json();
    assert_eq!(
        (
            &after["spec"]["replicas"],
            &after["metadata"]["labels"]["x"]
        ),
        (&json!(2), &json!(null))
    );
    plane.kubectl("delete namespace dry --wait=false").ok();
}

/// Whoever else wrote a field keeps it; what left the manifest leaves the object.
pub(crate) fn apply_merges_three_ways(plane: &Plane) {
    plane.kubectl("create namespace merge").ok();
    let with_note = DEPLOYMENT.replace(
        "  name: web\nspec",
        "  name: web\n  annotations: {note: mine, keep: 'yes'}\nspec",
    );
    assert_eq!(
        plane.kubectl("apply -n merge -f -").stdin(&with_note).ok(),
        "deployment.apps/web created\n"
    );
    plane
        .kubectl("annotate deploy web -n merge others=theirs")
        .ok();
    plane
        .kubectl("set env deploy/web -n merge -c nginx MODE=fast")
        .ok();
    let second = with_note
        .replace("note: mine, ", "")
        .replace("image: nginx:1.27", "image: nginx:1.28");
    assert_eq!(
        plane.kubectl("apply -n merge -f -").stdin(&second).ok(),
        "deployment.apps/web configured\n"
    );
    let deployment = plane.kubectl("get deploy web -n merge -o json").json();
    let annotations = &deployment["metadata"]["annotations"];
    assert!(annotations["note"].is_null(), "{annotations}");
    assert_eq!(
        (&annotations["keep"], &annotations["others"]),
        (&json!("yes"), &json!("theirs"))
    );
    let nginx = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&nginx["image"], &nginx["env"]),
        (
            &json!("nginx:1.28"),
            &json!([{"name": "MODE", "value": "fast"}])
        )
    );
    // A container that left the manifest goes, the other stays.
    let third = second
        .split("      - name: side")
        .next()
        .unwrap()
        .to_owned();
    plane.kubectl("apply -n merge -f -").stdin(&third).ok();
    let names = "get deploy web -n merge -o jsonpath={.spec.template.spec.containers[*].name}";
    assert_eq!(plane.kubectl(names).ok(), "nginx");
    eventually("the rollout catches up", || {
        let run = plane
            .kubectl("rollout status deploy/web -n merge --timeout=30s")
            .run();
        if run.code == 0 {
            Ok(())
        } else {
            Err(run.stderr)
        }
    });
    plane.kubectl("delete namespace merge --wait=false").ok();
}
