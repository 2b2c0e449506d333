//! The real Kubernetes beside us: an etcd, a kube-apiserver and a kube-scheduler of our own on loopback, in a
//! folder that goes with them.
//!
//! The API server takes what it is told: no admission changes pods or nodes, so that both schedulers see the same
//! objects. Does not know what is put into it.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use apiserver::pki::{Pki, PkiOptions};
use client::Kubeconfig;
use value::{Value, json};

use crate::api::Api;
use crate::listen::{FLAGS, Log};

/// How often, and how far apart, a server is asked whether it is there.
const TRIES: usize = 300;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Where the binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// etcd, 3.4 or newer.
    pub etcd: PathBuf,
    /// kube-apiserver 1.20.
    pub kube_apiserver: PathBuf,
    /// kube-scheduler 1.20.
    pub kube_scheduler: PathBuf,
}

/// What runs; ends when it is dropped. Its folder stays, for its logs, unless all went well: [`Peers::end`].
#[derive(Debug)]
pub struct Peers {
    children: Vec<Child>,
    folder: PathBuf,
    pki: Pki,
    server: String,
}

impl Drop for Peers {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // It may have ended by itself; either way it is waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}

impl Peers {
    /// Ends the servers and removes their folder.
    pub fn end(self) {
        let folder = self.folder.clone();
        drop(self);
        // What is left of it is in the folder for temporary files.
        let _ = fs::remove_dir_all(folder);
    }

    /// Starts etcd and the API server in `folder`, which must not be there yet.
    pub async fn start(binaries: &Binaries, folder: &Path) -> Result<(Peers, Api), String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(|error| error.to_string())?;
        let pki = Pki::open(&PkiOptions {
            directory: Some(folder.join("pki")),
            bind_address: Ipv4Addr::LOCALHOST.into(),
            service_address: IpAddr::from([10, 0, 0, 1]),
            now_seconds: now.as_secs().try_into().unwrap_or(0),
        })
        .map_err(|error| error.to_string())?;
        let mut peers = Peers {
            children: Vec::new(),
            folder: folder.to_owned(),
            server: String::new(),
            pki,
        };
        let etcd = peers.start_etcd(&binaries.etcd)?;
        let api = peers
            .start_apiserver(&binaries.kube_apiserver, &etcd)
            .await?;
        Ok((peers, api))
    }

    fn spawn(&mut self, name: &str, command: &mut Command) -> Result<(), String> {
        let log = self.folder.join(format!("{name}.log"));
        let log = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        self.children.push(child);
        Ok(())
    }

    fn start_etcd(&mut self, binary: &Path) -> Result<String, String> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(free_port()?), url(free_port()?));
        let mut command = Command::new(binary);
        command
            .arg("--data-dir")
            .arg(self.folder.join("etcd"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .arg("--unsafe-no-fsync");
        self.spawn("etcd", &mut command)?;
        Ok(client)
    }

    async fn start_apiserver(&mut self, binary: &Path, etcd: &str) -> Result<Api, String> {
        let port = free_port()?;
        let pki = self.folder.join("pki");
        let file = |name: &str| pki.join(name);
        let mut command = Command::new(binary);
        command
            .args(["--etcd-servers", etcd])
            .args(["--bind-address", "127.0.0.1"])
            .args(["--secure-port", &port.to_string()])
            // Data only: nobody dials it.
            .args(["--advertise-address", "192.0.2.1"])
            .args(["--endpoint-reconciler-type", "none"])
            .arg("--tls-cert-file")
            .arg(file("apiserver.crt"))
            .arg("--tls-private-key-file")
            .arg(file("apiserver.key"))
            .arg("--client-ca-file")
            .arg(file("ca.crt"))
            .arg("--service-account-key-file")
            .arg(file("apiserver.crt"))
            .arg("--service-account-signing-key-file")
            .arg(file("apiserver.key"))
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .args(["--service-cluster-ip-range", "10.0.0.0/16"])
            .args(["--authorization-mode", "AlwaysAllow"])
            .args([
                "--disable-admission-plugins",
                "ServiceAccount,Priority,TaintNodesByCondition,DefaultTolerationSeconds",
            ]);
        self.spawn("kube-apiserver", &mut command)?;
        self.server = format!("https://127.0.0.1:{port}");
        let api = Api::new(&Kubeconfig {
            server: self.server.clone(),
            ca_pem: self.pki.ca_pem.clone().into(),
            client_certificate_pem: self.pki.admin.certificate_pem.clone().into(),
            client_key_pem: self.pki.admin.key_pem.clone().into(),
            ..Kubeconfig::default()
        })?;
        for _ in 0..TRIES {
            if api.is_ready().await {
                return Ok(api);
            }
            for child in &mut self.children {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(format!(
                        "a server ended with {status}: see {}",
                        self.folder.display()
                    ));
                }
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        Err(format!("no API server: see {}", self.folder.display()))
    }

    /// A kubeconfig of an administrator, in a file.
    pub fn kubeconfig(&self) -> Result<PathBuf, String> {
        let pki = self.folder.join("pki");
        let file = |name: &str| pki.join(name).to_string_lossy().into_owned();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "rivals",
            "clusters": [{"name": "rivals", "cluster":
                {"server": self.server, "certificate-authority": file("ca.crt")}}],
            "users": [{"name": "rivals", "user":
                {"client-certificate": file("admin.crt"), "client-key": file("admin.key")}}],
            "contexts": [{"name": "rivals", "context": {"cluster": "rivals", "user": "rivals"}}],
        });
        self.write("kubeconfig", &config)
    }

    fn write(&self, name: &str, content: &Value) -> Result<PathBuf, String> {
        let path = self.folder.join(name);
        fs::write(&path, content.to_string())
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Starts the scheduler with these weights of its plugins; gives what it says.
    pub fn start_scheduler(&mut self, binary: &Path, weights: &Value) -> Result<Log, String> {
        let scores: Vec<Value> = weights
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, weight)| json!({"name": name, "weight": weight}))
            .collect();
        let health = format!("127.0.0.1:{}", free_port()?);
        let config = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1beta1",
            "kind": "KubeSchedulerConfiguration",
            "percentageOfNodesToScore": 100,
            "leaderElection": {"leaderElect": false},
            "clientConnection": {"kubeconfig": self.kubeconfig()?.to_string_lossy(), "qps": 5000, "burst": 5000},
            "healthzBindAddress": health,
            "metricsBindAddress": health,
            "profiles": [{"schedulerName": "default-scheduler", "plugins":
                {"score": {"disabled": [{"name": "*"}], "enabled": scores}}}],
        });
        let config = self.write("scheduler.json", &config)?;
        let mut child = Command::new(binary)
            .arg("--config")
            .arg(config)
            .args(["--bind-address", "127.0.0.1"])
            .args(["--secure-port", &free_port()?.to_string()])
            .args(FLAGS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("kube-scheduler does not start: {error}"))?;
        let said = child.stderr.take().ok_or("kube-scheduler has no stderr")?;
        self.children.push(child);
        let copy = self.folder.join("kube-scheduler.log");
        let copy = File::create(&copy).map_err(|error| format!("{}: {error}", copy.display()))?;
        Ok(Log::of(said, copy))
    }
}
