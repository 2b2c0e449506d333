//! What the server tells about itself, and the small commands that build on it.

use value::Value;

use crate::support::{Plane, assert_has};

pub(crate) fn discovery(plane: &Plane) {
    let table = plane.kubectl("api-resources").ok();
    for (name, wanted) in [
        ("pods", "pods po v1 true Pod"),
        ("nodes", "nodes no v1 false Node"),
        ("deployments", "deployments deploy apps/v1 true Deployment"),
        ("jobs", "jobs batch/v1 true Job"),
        (
            "horizontalpodautoscalers",
            "horizontalpodautoscalers hpa autoscaling/v2 true HorizontalPodAutoscaler",
        ),
        ("leases", "leases coordination.k8s.io/v1 true Lease"),
        (
            "endpointslices",
            "endpointslices discovery.k8s.io/v1 true EndpointSlice",
        ),
        (
            "storageclasses",
            "storageclasses sc storage.k8s.io/v1 false StorageClass",
        ),
    ] {
        let row = table
            .lines()
            .find(|row| row.split_whitespace().next() == Some(name));
        let row = row.unwrap_or_else(|| panic!("no {name} in:\n{table}"));
        assert_eq!(row.split_whitespace().collect::<Vec<_>>().join(" "), wanted);
    }
    let cluster = plane
        .kubectl("api-resources --namespaced=false -o name")
        .ok();
    let cluster: Vec<&str> = cluster.lines().collect();
    assert!(
        cluster.contains(&"nodes") && cluster.contains(&"namespaces") && !cluster.contains(&"pods")
    );
    let scalable = plane
        .kubectl("api-resources --verbs=list,watch,patch,deletecollection --api-group=apps -o name")
        .ok();
    assert_has(
        &scalable,
        &[
            "deployments.apps",
            "replicasets.apps",
            "statefulsets.apps",
            "daemonsets.apps",
        ],
    );
    let versions = plane.kubectl("api-versions").ok();
    let versions: Vec<&str> = versions.lines().collect();
    for version in [
        "v1",
        "apps/v1",
        "batch/v1",
        "autoscaling/v1",
        "autoscaling/v2",
        "networking.k8s.io/v1",
        "policy/v1",
    ] {
        assert!(versions.contains(&version), "{version} in {versions:?}");
    }
    assert!(
        !versions.iter().any(|version| version.contains("alpha")),
        "{versions:?}"
    );

    // Legacy discovery, for older clients.
    let core = plane.get("/api/v1").succeeded().json();
    assert_eq!(core["kind"], "APIResourceList");
    let find = |name: &str| {
        core["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(find("pods")["shortNames"], value::json!(["po"]));
    assert_eq!(find("pods")["singularName"], "pod");
    assert_eq!(find("pods/binding")["kind"], "Binding");
    assert_eq!(find("pods/eviction")["group"], "policy");
    assert_eq!(
        plane.get("/apis").succeeded().json()["kind"],
        "APIGroupList"
    );
    assert_eq!(
        plane.get("/apis/apps").succeeded().json()["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    assert_has(
        &plane.kubectl("get unicorns").fails(),
        &["the server doesn't have a resource type \"unicorns\""],
    );
    // Any name that discovery gives is good.
    for name in [
        "po",
        "pod",
        "pods",
        "pods.v1.",
        "deploy",
        "deployments.apps",
        "deployments.v1.apps",
        "no",
        "ns",
        "svc",
        "ep",
    ] {
        plane
            .kubectl(&format!("get {name} -n default -o name"))
            .ok();
    }
}

pub(crate) fn explain(plane: &Plane) {
    let pod = plane.kubectl("explain pods.spec").ok();
    assert_has(
        &pod,
        &[
            "KIND:       Pod",
            "VERSION:    v1",
            "FIELD: spec <PodSpec>",
            "containers\t<[]Container> -required-",
            "nodeName\t<string>",
        ],
    );
    let surge = plane
        .kubectl("explain deployments.spec.strategy.rollingUpdate.maxSurge")
        .ok();
    assert_has(
        &surge,
        &["GROUP:      apps", "FIELD: maxSurge <IntOrString>"],
    );
    let all = plane.kubectl("explain job --recursive").ok();
    assert_has(
        &all,
        &[
            "backoffLimit\t<integer>",
            "ttlSecondsAfterFinished\t<integer>",
            "readinessProbe\t<Probe>",
        ],
    );
    let scaler = plane
        .kubectl("explain hpa.spec.metrics --api-version=autoscaling/v2")
        .ok();
    assert_has(&scaler, &["FIELD: metrics <[]MetricSpec>"]);
    assert_has(
        &plane.kubectl("explain pods.spec.color").fails(),
        &["field \"color\" does not exist"],
    );
}

pub(crate) fn health_metrics_version(plane: &Plane) {
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(plane.kubectl(&format!("get --raw {path}")).ok(), "ok");
        let verbose = plane.kubectl(&format!("get --raw {path}?verbose")).ok();
        assert_has(
            &verbose,
            &["[+]ping ok", &format!("{} check passed", &path[1..])],
        );
    }
    let metrics = plane.kubectl("get --raw /metrics").ok();
    assert_has(
        &metrics,
        &[
            "# TYPE apiserver_request_total counter",
            "resource=\"nodes\"",
            "apiserver_resource_objects{",
        ],
    );
    for line in metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let value = line.rsplit(' ').next().unwrap();
        assert!(
            value.parse::<f64>().is_ok(),
            "no number at the end of {line:?}"
        );
    }
    let version: Value = serde_json::from_str(&plane.kubectl("get --raw /version").ok()).unwrap();
    assert_eq!(
        (&version["major"], &version["minor"]),
        (&"1".into(), &"36".into())
    );
    let both = plane.kubectl("version").ok();
    assert_has(&both, &["Server Version: v1.36."]);
    assert_has(
        &plane.kubectl("cluster-info").ok(),
        &["is running at", &plane.port().to_string()],
    );
    assert_has(
        &plane.kubectl("auth whoami").ok(),
        &["kubernetes-admin", "system:masters"],
    );
    assert_eq!(
        plane
            .kubectl("auth can-i create deployments.apps")
            .ok()
            .trim(),
        "yes"
    );
}

pub(crate) fn shortcuts_of_kubectl(plane: &Plane) {
    plane.kubectl("create namespace short").ok();
    for line in [
        "run once -n short --image=nginx:1.27 --port=80 --env=A=b",
        "create deployment web -n short --image=nginx:1.27 --port=80",
        "expose deployment web -n short --port=80 --target-port=8080 --type=NodePort",
        "expose pod once -n short --port=80 --name=once --type=LoadBalancer",
        "create service externalname away -n short --external-name=example.com",
        "autoscale deployment web -n short --min=1 --max=3 --cpu=80%",
        "create secret docker-registry pull -n short --docker-server=r.example.com --docker-username=u --docker-password=p",
        "create serviceaccount robot -n short",
        "create role reader -n short --verb=get,list --resource=pods",
        "create rolebinding reader -n short --role=reader --serviceaccount=short:robot",
        "create quota few -n short --hard=pods=100",
        "create poddisruptionbudget web -n short --selector=app=web --min-available=1",
        "create ingress web -n short --rule=web.example.com/=web:80",
        "create cronjob tick -n short --image=busybox:1.36 '--schedule=0 3 * * 0' -- true",
        "create job manual -n short --from=cronjob/tick",
        "set resources deployment web -n short --requests=cpu=50m",
        "set selector service web app=web -n short --dry-run=client",
        "create configmap files -n short --from-literal=a=b",
    ] {
        plane.kubectl(line).ok();
    }
    let service = plane.kubectl("get service web -n short -o json").json();
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..=32_767).contains(&port), "{port}");
    plane
        .kubectl("wait --for=condition=complete job/manual -n short --timeout=60s")
        .ok();
    let away = plane.kubectl("get service away -n short --no-headers").ok();
    assert_has(&away, &["ExternalName", "<none>", "example.com"]);
    let all = plane.kubectl("get all -n short -o name").ok();
    assert_has(
        &all,
        &[
            "pod/once",
            "service/web",
            "deployment.apps/web",
            "horizontalpodautoscaler.autoscaling/web",
            "cronjob.batch/tick",
        ],
    );
    plane
        .kubectl("wait --for=condition=Ready pod/once -n short --timeout=60s")
        .ok();
    // Events tell who placed the pod.
    let event = "apiVersion: v1\nkind: Event\nmetadata: {name: said.1, namespace: short}\n\
                 involvedObject: {kind: Pod, name: once, namespace: short, apiVersion: v1}\n\
                 reason: Testing\nmessage: all is well\ntype: Normal\ncount: 1\n\
                 firstTimestamp: '2026-01-01T00:00:00Z'\nlastTimestamp: '2026-01-01T00:00:00Z'\nsource: {component: tests}\n";
    plane.kubectl("create -f -").stdin(event).ok();
    assert_has(
        &plane.kubectl("events --for pod/once -n short").ok(),
        &["Testing", "all is well"],
    );
    let events = plane
        .kubectl("get events -n short --field-selector involvedObject.name=once,reason=Testing")
        .ok();
    assert_has(&events, &["LAST SEEN", "pod/once", "all is well"]);
    let same = plane
        .get("/apis/events.k8s.io/v1/namespaces/short/events/said.1")
        .succeeded()
        .json();
    assert_eq!(
        (&same["note"], &same["regarding"]["name"]),
        (&"all is well".into(), &"once".into())
    );
    plane.kubectl("delete namespace short --wait=false").ok();
}
