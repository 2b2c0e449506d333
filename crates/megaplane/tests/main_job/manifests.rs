//! Manifests as users write them, applied, looked at from all sides, and taken away.

use crate::support::{Plane, assert_has, eventually, manifest};

/// Namespace, ConfigMap, Deployment, Service and Job in one file.
pub(crate) fn the_shop(plane: &Plane) {
    let file = manifest("shop.yaml");
    assert_eq!(
        plane.kubectl(&format!("apply -f {file}")).ok(),
        "namespace/shop created\nconfigmap/web-config created\ndeployment.apps/web created\n\
         service/web created\njob.batch/seed created\n"
    );
    let status = plane
        .kubectl("rollout status deployment/web -n shop --timeout=60s")
        .ok();
    assert_has(&status, &["deployment \"web\" successfully rolled out"]);
    pods_run_where_they_should(plane);
    the_service_finds_them(plane);
    the_job_completes(plane);
    outputs_agree(plane);
    descriptions_tell_the_story(plane);
    // The same file once more: nothing to do, and nothing done. (kubectl sees that `0.5` became `500m` and sends that
    // as a change, which is none.)
    let version =
        "get deploy web -n shop -o jsonpath='{.metadata.generation} {.metadata.resourceVersion}'";
    let before = plane.kubectl(version).ok();
    assert_eq!(
        plane.kubectl(&format!("apply -f {file}")).ok(),
        "namespace/shop unchanged\nconfigmap/web-config unchanged\ndeployment.apps/web configured\n\
         service/web unchanged\njob.batch/seed unchanged\n"
    );
    assert_eq!(plane.kubectl(version).ok(), before);
    // The namespace stands first in the file: what is in it may be gone before its turn comes.
    plane
        .kubectl(&format!(
            "delete -f {file} --ignore-not-found --timeout=90s"
        ))
        .ok();
    assert_has(
        &plane.kubectl("get namespace shop").fails(),
        &["namespaces \"shop\" not found"],
    );
    assert_eq!(
        plane
            .kubectl("get pods -A --field-selector metadata.namespace=shop -o name")
            .ok(),
        ""
    );
}

fn pods_run_where_they_should(plane: &Plane) {
    let pods = plane.kubectl("get pods -n shop -l app=web -o json").json();
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 3);
    let mut addresses = Vec::new();
    for pod in pods {
        let spec = &pod["spec"];
        assert!(
            spec["nodeName"]
                .as_str()
                .is_some_and(|name| name.starts_with("node-")),
            "{spec}"
        );
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(pod["status"]["qosClass"], "Burstable");
        // What upstream fills in.
        assert_eq!(spec["dnsPolicy"], "ClusterFirst");
        assert_eq!(spec["schedulerName"], "default-scheduler");
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
        assert_eq!(spec["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(spec["containers"][0]["livenessProbe"]["periodSeconds"], 10);
        assert_eq!(
            spec["containers"][0]["readinessProbe"]["httpGet"]["scheme"],
            "HTTP"
        );
        // Exporter asked for requests only: limits stay away.
        assert!(spec["containers"][1]["resources"]["limits"].is_null());
        let tolerations: Vec<_> = spec["tolerations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["key"].as_str().unwrap())
            .collect();
        // The pod's own, and the one of the two defaults that it does not have.
        assert_has(
            &tolerations.join(" "),
            &[
                "dedicated",
                "node.kubernetes.io/unreachable",
                "node.kubernetes.io/not-ready",
            ],
        );
        assert_eq!(tolerations.len(), 3);
        let owner = &pod["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["controller"]),
            (&"ReplicaSet".into(), &true.into())
        );
        assert!(pod["metadata"]["labels"]["pod-template-hash"].is_string());
        addresses.push(pod["status"]["podIP"].as_str().unwrap().to_owned());
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "each pod has an address of its own");
    let wide = plane
        .kubectl("get pods -n shop -l app=web -o wide --no-headers")
        .ok();
    for row in wide.lines() {
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            (cells[1], cells[2], cells[3]),
            ("2/2", "Running", "0"),
            "{row}"
        );
        assert!(addresses.iter().any(|address| address == cells[5]), "{row}");
        assert!(cells[6].starts_with("node-"), "{row}");
    }
}

fn the_service_finds_them(plane: &Plane) {
    let service = plane.kubectl("get service web -n shop -o json").json();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["spec"]["ports"][0]["protocol"], "TCP");
    assert_eq!(service["spec"]["clusterIPs"][0], address);
    let slices = "get endpointslices -n shop -l kubernetes.io/service-name=web -o json";
    eventually("three ready endpoints", || {
        let list = plane.kubectl(slices).json();
        let slice = &list["items"][0];
        let ready = slice["endpoints"].as_array().map_or(0, |endpoints| {
            endpoints
                .iter()
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .count()
        });
        let port = &slice["ports"][0];
        if ready == 3 && port["port"] == 8080 && port["name"] == "http" {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
}

fn the_job_completes(plane: &Plane) {
    plane
        .kubectl("wait --for=condition=complete job/seed -n shop --timeout=60s")
        .ok();
    let job = plane.kubectl("get job seed -n shop -o json").json();
    assert_eq!(job["status"]["succeeded"], 3);
    assert!(job["status"]["active"].is_null(), "{}", job["status"]);
    assert!(job["status"]["completionTime"].is_string());
    let row = plane.kubectl("get job seed -n shop --no-headers").ok();
    assert_has(&row, &["seed", "Complete", "3/3"]);
    let pods = plane
        .kubectl("get pods -n shop -l job-name=seed --no-headers")
        .ok();
    assert_eq!(pods.lines().count(), 3, "{pods}");
    assert!(
        pods.lines()
            .all(|row| row.contains("0/1") && row.contains("Completed")),
        "{pods}"
    );
}

fn outputs_agree(plane: &Plane) {
    let names = plane.kubectl("get deploy,svc,job -n shop -o name").ok();
    assert_eq!(names, "deployment.apps/web\nservice/web\njob.batch/seed\n");
    let columns = plane
        .kubectl("get deploy -n shop -o custom-columns=NAME:.metadata.name,WANT:.spec.replicas,HAVE:.status.readyReplicas")
        .ok();
    let rows: Vec<Vec<&str>> = columns
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows, [["NAME", "WANT", "HAVE"], ["web", "3", "3"]]);
    let path = "get deploy web -n shop -o jsonpath='{.spec.template.spec.containers[*].name} {.status.replicas}'";
    assert_eq!(plane.kubectl(path).ok(), "nginx exporter 3");
    let go =
        "get pods -n shop -l app=web -o go-template='{{range .items}}{{.status.phase}} {{end}}'";
    assert_eq!(plane.kubectl(go).ok(), "Running Running Running ");
    let yaml = plane.kubectl("get cm web-config -n shop -o yaml").ok();
    assert_has(
        &yaml,
        &[
            "apiVersion: v1\n",
            "kind: ConfigMap\n",
            "  LOG_LEVEL: info\n",
            "  default.conf: |\n",
        ],
    );
    let all = plane.kubectl("get all -n shop").ok();
    assert_has(
        &all,
        &[
            "deployment.apps/web",
            "replicaset.apps/web-",
            "service/web",
            "job.batch/seed",
            "pod/web-",
        ],
    );
    let deployment = plane.kubectl("get deploy web -n shop -o json").json();
    assert_eq!(
        deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"],
        "25%"
    );
    assert_eq!(
        deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"],
        1
    );
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"],
        "500m"
    );
    assert_eq!(
        deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "1"
    );
    let status = &deployment["status"];
    assert_eq!(
        status["observedGeneration"],
        deployment["metadata"]["generation"]
    );
    assert_eq!(
        (&status["updatedReplicas"], &status["availableReplicas"]),
        (&3.into(), &3.into())
    );
}

fn descriptions_tell_the_story(plane: &Plane) {
    let deployment = plane.kubectl("describe deployment web -n shop").ok();
    assert_has(
        &deployment,
        &[
            "3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
            "StrategyType:           RollingUpdate",
            "25% max unavailable, 1 max surge",
            "Readiness:",
            "NewReplicaSet:",
            "MinimumReplicasAvailable",
        ],
    );
    let pod = plane.kubectl("get pods -n shop -l app=web -o name").ok();
    let pod = plane
        .kubectl(&format!("describe {} -n shop", pod.lines().next().unwrap()))
        .ok();
    assert_has(
        &pod,
        &[
            "Namespace:",
            "shop",
            "Status:",
            "Running",
            "Controlled By:",
            "ReplicaSet/web-",
            "nginx:1.27",
            "QoS Class:",
        ],
    );
    assert_has(
        &plane.kubectl("describe service web -n shop").ok(),
        &["Type:", "ClusterIP", "TargetPort:", "http/TCP"],
    );
    assert_has(
        &plane.kubectl("describe job seed -n shop").ok(),
        &["Completions:", "Pods Statuses:", "3 Succeeded"],
    );
    assert_has(
        &plane.kubectl("describe cm web-config -n shop").ok(),
        &["LOG_LEVEL:", "info", "root /usr/share/nginx/html;"],
    );
    assert_has(
        &plane.kubectl("describe namespace shop").ok(),
        &["team=storefront", "Active"],
    );
}

/// Generation and, where no controller writes a status beside us, version of every object of a file.
fn written_versions(plane: &Plane, file: &str) -> Vec<String> {
    let list = plane
        .kubectl(&format!("get -n platform -f {file} -o json"))
        .json();
    let controlled = ["StatefulSet", "DaemonSet", "CronJob"];
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .map(|item| {
            let (kind, metadata) = (&item["kind"], &item["metadata"]);
            let version = match kind.as_str() {
                Some(kind) if controlled.contains(&kind) => "",
                _ => metadata["resourceVersion"].as_str().unwrap_or_default(),
            };
            format!("{kind} {} {version}", metadata["generation"])
        })
        .collect()
}

/// One each of the kinds that come along: stored, defaulted, shown, unchanged when applied again.
pub(crate) fn the_platform(plane: &Plane) {
    plane.kubectl("create namespace platform").ok();
    let file = manifest("platform.yaml");
    let created = plane.kubectl(&format!("apply -n platform -f {file}")).ok();
    assert_eq!(created.lines().count(), 14, "{created}");
    assert!(
        created.lines().all(|line| line.ends_with(" created")),
        "{created}"
    );
    let before = written_versions(plane, &file);
    let again = plane.kubectl(&format!("apply -n platform -f {file}")).ok();
    for line in again.lines() {
        // Three that kubectl cannot compare: text that is only written, a list and a selector that are one piece. It
        // sends what it would have sent anyway, and calls that a change.
        let incomparable = [
            "secret/",
            "statefulset.apps/",
            "poddisruptionbudget.policy/",
        ];
        let wanted = if incomparable.iter().any(|kind| line.starts_with(kind)) {
            " configured"
        } else {
            " unchanged"
        };
        assert!(line.ends_with(wanted), "{again}");
    }
    assert_eq!(
        written_versions(plane, &file),
        before,
        "nothing was written"
    );

    let secret = plane
        .kubectl("get secret database -n platform -o json")
        .json();
    assert_eq!(
        secret["data"],
        value::json!({"username": "c2hvcA==", "password": "czNjcjN0"})
    );
    assert!(secret["stringData"].is_null());
    let ingress = plane
        .kubectl("get ingress shop -n platform --no-headers")
        .ok();
    assert_has(&ingress, &["shop", "nginx", "shop.example.com", "80, 443"]);
    let cron = plane
        .kubectl("get cronjob report -n platform --no-headers")
        .ok();
    assert_has(&cron, &["0 3 * * 0", "Europe/Berlin", "False"]);
    let claim = plane.kubectl("get pvc data -n platform -o json").json();
    assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
    assert_eq!(claim["status"]["phase"], "Pending");
    let set = plane
        .kubectl("get statefulset database -n platform -o json")
        .json();
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(set["spec"]["updateStrategy"]["type"], "RollingUpdate");
    let agent = plane
        .kubectl("get daemonset agent -n platform -o json")
        .json();
    assert_eq!(
        agent["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"],
        1
    );
    // Host network: the containers' ports would be the host's.
    assert_eq!(agent["spec"]["template"]["spec"]["hostNetwork"], true);
    let scaler = plane.kubectl("get hpa web -n platform --no-headers").ok();
    assert_has(&scaler, &["Deployment/web", "2", "10"]);
    let scaler_v1 = plane
        .get("/apis/autoscaling/v1/namespaces/platform/horizontalpodautoscalers/web")
        .succeeded()
        .json();
    assert_eq!(scaler_v1["spec"]["targetCPUUtilizationPercentage"], 80);
    for kind in [
        "sa",
        "role",
        "rolebinding",
        "netpol",
        "pdb",
        "quota",
        "limits",
    ] {
        assert!(
            !plane
                .kubectl(&format!("get {kind} -n platform"))
                .ok()
                .is_empty()
        );
    }
    let deleted = plane
        .kubectl(&format!("delete -n platform -f {file} --timeout=60s"))
        .ok();
    assert_eq!(deleted.lines().count(), 14, "{deleted}");
    plane.kubectl("delete namespace platform --wait=false").ok();
}
