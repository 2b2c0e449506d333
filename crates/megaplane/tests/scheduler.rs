//! `megaplane scheduler` as a process of its own, over HTTPS: as the only scheduler, as a second one, as one of two
//! that stand in for one another; and what it refuses.

mod support;

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;

use client::https::HttpsTransport;
use client::{Client, Kubeconfig, ListOptions};
use rest::http::{Body, Method, Request, Service as _};
use support::{
    Folder, Plane, PlaneOptions, SOON, assert_has, eventually, megaplane, run_to_end, terminate,
    wait,
};
use value::{Value, json};

const NODES: usize = 4;

/// A scheduler under test; killed when dropped.
struct Scheduler {
    child: Child,
    log: std::path::PathBuf,
    /// Address of its health port.
    health: String,
}

impl Scheduler {
    fn start(plane: &Plane, name: &str, flags: &[&str]) -> Scheduler {
        let log = plane.folder().join(&format!("scheduler.{name}"));
        let output = File::create(&log).unwrap();
        let child = megaplane(plane.folder().path())
            .arg("scheduler")
            .arg("--kubeconfig")
            .arg(plane.kubeconfig())
            .args(["--health-address", "127.0.0.1:0"])
            .args(if flags.contains(&"--secure-port") {
                &[][..]
            } else {
                &["--secure-port", "0"]
            })
            .args(flags)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut scheduler = Scheduler {
            child,
            log,
            health: String::new(),
        };
        scheduler.health = eventually("the scheduler tells its health port", || {
            let text = scheduler.text();
            let after = text.split("health on http://").nth(1);
            let address = after.and_then(|rest| rest.lines().next());
            address.map(|a| a.trim().to_owned()).ok_or(text)
        });
        scheduler
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Status and body of a GET.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.health).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
        let body = reply.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }

    fn is_ready(&self) {
        eventually("the scheduler is ready", || match self.get("/readyz") {
            (200, body) if body == "ok" => Ok(()),
            other => Err(format!("{other:?}\n{}", self.text())),
        });
    }

    /// The value of one line of the metrics.
    fn metric(&self, line: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let found = text.lines().find_map(|l| l.strip_prefix(line));
        found
            .unwrap_or_else(|| panic!("no {line} in\n{text}"))
            .trim()
            .parse()
            .unwrap()
    }

    /// SIGTERM, and a clean end.
    fn stop(mut self) -> String {
        terminate(self.child.id());
        let status = wait(&mut self.child, SOON);
        assert!(
            status.is_some_and(|s| s.success()),
            "{status:?}\n{}",
            self.text()
        );
        self.text()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let text = self.text();
        if text.contains("panicked at") && !std::thread::panicking() {
            panic!("the scheduler panicked:\n{text}");
        }
    }
}

/// Calls of our own client, from a thread without a runtime.
struct Api {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    fn of(plane: &Plane) -> Api {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Api {
            client: plane.client(),
            runtime,
        }
    }

    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Value {
        let resource = schema::resource(group, "v1", resource).unwrap();
        let call = self.client.get(resource, namespace, name);
        self.runtime.block_on(call).unwrap()
    }

    fn pod(&self, name: &str, more: Value) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
            {"name": "main", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}});
        schema::merge_patch(&mut pod, &more);
        let pods = schema::resource("", "v1", "pods").unwrap();
        let call = self.client.create(pods, "default", &pod);
        self.runtime.block_on(call).unwrap();
    }

    /// Status and body of a request to somebody else.
    fn ask(&self, door: &Kubeconfig, method: Method, path: &str) -> (u16, String) {
        let request = Request {
            method,
            path: path.into(),
            query: String::new(),
            accept: "".into(),
            content_type: "".into(),
            user_agent: "test".into(),
            if_none_match: None,
            body: Vec::new().into(),
            user: None,
        };
        self.runtime.block_on(async {
            let transport = HttpsTransport::new(door).unwrap();
            let reply = transport.call(request).await;
            let mut body = Vec::new();
            match reply.body {
                Body::Full(bytes) => body.extend(bytes),
                Body::Stream(mut source) => {
                    while let Some(piece) = poll_fn(|cx| source.poll_frame(cx)).await {
                        body.extend(piece);
                    }
                }
            }
            (reply.status, String::from_utf8(body).unwrap())
        })
    }

    fn node_of(&self, name: &str) -> String {
        let pod = self.get("", "pods", "default", name);
        pod["spec"]["nodeName"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn is_placed(&self, name: &str, schedulers: &[&Scheduler]) {
        eventually(&format!("{name} has a node"), || {
            if self.node_of(name).is_empty() {
                let texts: Vec<String> = schedulers.iter().map(|s| s.text()).collect();
                return Err(texts.join("\n"));
            }
            Ok(())
        });
    }

    fn holder(&self, lease: &str) -> String {
        let lease = self.get("coordination.k8s.io", "leases", "kube-system", lease);
        lease["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn events(&self, about: &str) -> Vec<Value> {
        let events = schema::resource("", "v1", "events").unwrap();
        let options = ListOptions {
            field_selector: format!("involvedObject.name={about}"),
            ..ListOptions::default()
        };
        let call = self.client.list(events, "default", &options);
        self.runtime.block_on(call).unwrap().items
    }
}

fn nodes(count: usize) -> PlaneOptions {
    PlaneOptions {
        nodes: count,
        persistent: false,
    }
}

#[test]
fn a_plane_without_a_scheduler_gets_one_and_another_stands_by() {
    let plane = Plane::start_with(nodes(NODES), &["--scheduler=false"]);
    let api = Api::of(&plane);
    api.pod("early", json!({}));
    let first = Scheduler::start(&plane, "first", &[]);
    api.is_placed("early", &[&first]);
    first.is_ready();
    assert_eq!(first.get("/healthz"), (200, "ok".into()));
    assert_eq!(first.get("/livez"), (200, "ok".into()));
    assert_eq!(first.get("/nothing").0, 404);
    let scheduled =
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"}";
    eventually("the binding is counted", || match first.metric(scheduled) {
        1.0 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(
        first.metric("scheduler_cache_size{type=\"nodes\"}"),
        NODES as f64
    );
    let holder = api.holder("kube-scheduler");
    assert!(!holder.is_empty());
    // A second one stands by, says so, and takes over when the first goes.
    let second = Scheduler::start(&plane, "second", &["--leader-elect"]);
    second.is_ready();
    let leads = "leader_election_master_status{name=\"kube-scheduler\"}";
    assert_eq!(first.metric(leads), 1.0);
    assert_eq!(second.metric(leads), 0.0);
    assert_eq!(api.holder("kube-scheduler"), holder);
    assert_has(&first.stop(), &["stopped"]);
    for number in 0..20 {
        api.pod(&format!("later-{number}"), json!({}));
    }
    for number in 0..20 {
        api.is_placed(&format!("later-{number}"), &[&second]);
    }
    assert_eq!(second.metric(leads), 1.0);
    assert_ne!(api.holder("kube-scheduler"), holder);
    second.stop();
    assert_eq!(api.holder("kube-scheduler"), "");
}

#[test]
fn a_second_scheduler_places_its_own_pods_by_its_own_rules() {
    let plane = Plane::start(nodes(NODES));
    let api = Api::of(&plane);
    let config = plane.folder().write(
        "config.yaml",
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
         leaderElection: {resourceName: second}\nprofiles:\n- schedulerName: second\n  plugins:\n    multiPoint:\n      \
         enabled: [{name: NodeResourcesFit, weight: 50}]\n  pluginConfig:\n  - name: NodeResourcesFit\n    \
         args: {scoringStrategy: {type: MostAllocated}}\n",
    );
    let second = Scheduler::start(&plane, "second", &["--config", &config]);
    let named = json!({"spec": {"schedulerName": "second"}});
    api.pod("own-0", named.clone());
    api.is_placed("own-0", &[&second]);
    let node = api.node_of("own-0");
    for number in 1..10 {
        let name = format!("own-{number}");
        api.pod(&name, named.clone());
        api.is_placed(&name, &[&second]);
        assert_eq!(api.node_of(&name), node);
    }
    api.pod("others", json!({}));
    api.is_placed("others", &[]);
    let reporter = |about: &str| {
        eventually("an event tells of the binding", || {
            let events = api.events(about);
            let told = events.iter().find(|e| e["reason"] == "Scheduled");
            let told = told.ok_or_else(|| format!("{events:?}"))?;
            Ok(told["reportingComponent"]
                .as_str()
                .unwrap_or_default()
                .to_owned())
        })
    };
    assert_eq!(reporter("own-0"), "second");
    assert_eq!(reporter("others"), "default-scheduler");
    // Who fits nowhere is told so by the one who tried.
    let large = json!({"spec": {"schedulerName": "second", "containers": [
        {"name": "main", "image": "i", "resources": {"requests": {"cpu": "4000"}}}]}});
    api.pod("large", large);
    let message = eventually("the pod is told why it waits", || {
        let pod = api.get("", "pods", "default", "large");
        let message = pod["status"]["conditions"][0]["message"].as_str();
        message.map(str::to_owned).ok_or_else(|| pod.to_string())
    });
    assert_eq!(
        message,
        "0/4 nodes are available: 4 Insufficient cpu. no new claims to deallocate, preemption: 0/4 nodes are \
         available: 4 Preemption is not helpful for scheduling."
    );
    assert!(!api.holder("second").is_empty());
    second.stop();
}

/// A port that nobody has, a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn over_tls_it_tells_who_may_know() {
    let plane = Plane::start_with(nodes(1), &["--scheduler=false"]);
    let (api, config) = (Api::of(&plane), plane.config());
    let identity = apiserver::pki::self_signed("here", [127, 0, 0, 1].into(), now()).unwrap();
    let folder = plane.folder();
    let cert = folder.write("secure.crt", &identity.certificate_pem);
    let key = folder.write("secure.key", &identity.key_pem);
    let authority = String::from_utf8(config.ca_pem.clone()).unwrap();
    let authority = folder.write("clients.crt", &authority);
    let port = free_port().to_string();
    let flags = [
        "--bind-address",
        "127.0.0.1",
        "--tls-cert-file",
        &cert,
        "--tls-private-key-file",
        &key,
        "--client-ca-file",
        &authority,
        "--secure-port",
        &port,
    ];
    let scheduler = Scheduler::start(&plane, "secure", &flags);
    scheduler.is_ready();
    let door = Kubeconfig {
        server: format!("https://127.0.0.1:{port}"),
        ca_pem: identity.certificate_pem.clone().into_bytes(),
        ..config
    };
    let stranger = Kubeconfig {
        client_certificate_pem: Vec::new(),
        client_key_pem: Vec::new(),
        token: "made-up".into(),
        ..door.clone()
    };
    // The administrator's certificate says who asks.
    for (path, part) in [
        ("/healthz", "ok"),
        ("/livez", "ok"),
        ("/readyz", "ok"),
        ("/metrics", "scheduler_cache_size{type=\"nodes\"} 1"),
        ("/configz", "\"resourceName\":\"kube-scheduler\""),
    ] {
        let (status, body) = api.ask(&door, Method::Get, path);
        assert_eq!(status, 200, "{path} {body}");
        assert_has(&body, &[part]);
    }
    assert_eq!(api.ask(&door, Method::Get, "/nothing").0, 404);
    assert_eq!(api.ask(&door, Method::Post, "/metrics").0, 405);
    // A token that nobody issued is no one's; health is for everybody.
    assert_eq!(
        api.ask(&stranger, Method::Get, "/healthz"),
        (200, "ok".into())
    );
    for path in ["/metrics", "/configz", "/nothing"] {
        let (status, body) = api.ask(&stranger, Method::Get, path);
        assert_eq!(status, 401, "{path} {body}");
        assert_has(&body, &["\"message\":\"Unauthorized\""]);
    }
    scheduler.stop();
}

fn now() -> i64 {
    apiserver::now_micros() / 1_000_000
}

#[test]
fn a_plane_takes_a_scheduler_configuration() {
    let folder = Folder::new("profiles");
    let config = folder.write(
        "config.yaml",
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
         - schedulerName: one\n- schedulerName: two\n",
    );
    let plane = Plane::start_with(nodes(1), &["--scheduler-config", &config]);
    let api = Api::of(&plane);
    for name in ["two", "one"] {
        api.pod(name, json!({"spec": {"schedulerName": name}}));
        api.is_placed(name, &[]);
    }
}

#[test]
fn what_it_cannot_do_is_refused() {
    let folder = Folder::new("scheduler");
    let write = |name: &str, text: &str| folder.write(name, text);
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    let refused = |arguments: &[&str], parts: &[&str]| {
        run_to_end(&folder, arguments).is_refusal(parts);
    };
    refused(&["scheduler"], &["no API server: give --kubeconfig"]);
    refused(&["scheduler", "--kubeconfig", "nowhere"], &["nowhere"]);
    let plugin = write(
        "plugin.yaml",
        &format!("{head}profiles: [{{plugins: {{score: {{enabled: [{{name: Best}}]}}}}}}]\n"),
    );
    let expected = [
        "plugin.yaml",
        "profiles[0].plugins.score.enabled[0].name",
        "does not exist",
    ];
    refused(
        &["scheduler", "--kubeconfig", "k", "--config", &plugin],
        &expected,
    );
    refused(
        &[
            "up",
            "--ephemeral",
            "--kubeconfig",
            "k",
            "--scheduler-config",
            &plugin,
        ],
        &expected,
    );
    assert!(!folder.join("k").exists());
    let config = write(
        "exec.kubeconfig",
        "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
        clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {exec: {command: x}}}]\n",
    );
    refused(
        &["scheduler", "--kubeconfig", &config],
        &["exec is not served"],
    );
    refused(
        &[
            "scheduler",
            "--kubeconfig",
            "k",
            "--health-address",
            "0.0.0.0:0",
        ],
        &["only a loopback address"],
    );
    refused(
        &["scheduler", "--kubeconfig", "k", "--tls-cert-file", "c"],
        &["--tls-private-key-file"],
    );
}
