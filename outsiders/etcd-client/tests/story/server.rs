//! A server in a process of its own, on loopback ports that were free, with certificates made for it.
//! Ends with its owner, and its folder too. Knows how two programs are started, nothing of what they answer.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Identity, TlsOptions};
use outsider_etcd_client::Place;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Whom the client's certificate names.
const CLIENT: &str = "certified";

/// How often a server that starts is knocked at, and the pause between two times: 60 s together.
const KNOCKS_MAX: u32 = 1200;
const PAUSE: Duration = Duration::from_millis(50);

/// How one gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Anybody, in clear text.
    Plain,
    /// TLS, with a certificate on both sides.
    Tls,
}

/// A process, and its folder.
#[derive(Debug)]
pub struct Server {
    process: Child,
    folder: PathBuf,
    place: Place,
}

impl Server {
    /// `megaplane store`.
    pub fn store(listener: &str, door: Door) -> Server {
        let binary = std::env::var_os("MEGAPLANE_STORE").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/megaplane"),
            PathBuf::from,
        );
        let mut command = Command::new(binary);
        command.args(["store", "--listener", listener]);
        Server::start(command, door, true)
    }

    /// A real etcd, if one is named.
    pub fn etcd(door: Door) -> Option<Server> {
        let Some(binary) = std::env::var_os("MEGAPLANE_ETCD") else {
            eprintln!("not told to an etcd: MEGAPLANE_ETCD names none (./test does)");
            return None;
        };
        let peers = format!("http://127.0.0.1:{}", free_port());
        let mut command = Command::new(&binary);
        command.args(["--listen-peer-urls", &peers]);
        command.args(["--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        Some(Server::start(command, door, streams_ranges(&binary)))
    }

    /// With the flags that both programs have.
    fn start(mut command: Command, door: Door, streams_ranges: bool) -> Server {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("megaplane-outsider-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();

        let port = free_port();
        let scheme = if door == Door::Tls { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{port}");
        let tls = (door == Door::Tls).then(|| certificates(&folder, &mut command));
        command
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &endpoint])
            .args(["--advertise-client-urls", &endpoint])
            .args(["--bcrypt-cost", "4", "--log-level", "error"])
            .arg("--unsafe-no-fsync")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = command
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} does not run: {error}", command.get_program()));
        let mut server = Server {
            process,
            folder,
            place: Place {
                endpoint,
                certified_as: tls.is_some().then(|| CLIENT.to_owned()),
                tls,
                streams_ranges,
            },
        };
        server.knock(port);
        server
    }

    /// Waits until somebody listens.
    fn knock(&mut self, port: u16) {
        for _ in 0..KNOCKS_MAX {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the server ended at its start: {status}");
            }
            std::thread::sleep(PAUSE);
        }
        panic!("the server does not listen");
    }

    /// Where it is and how one gets in.
    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether an etcd is one of 3.7 or newer.
fn streams_ranges(binary: &std::ffi::OsStr) -> bool {
    let output = Command::new(binary).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let minor = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd Version: 3."))
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse::<u32>().ok())
        .unwrap_or_else(|| panic!("an etcd 3 tells its version: {text}"));
    minor >= 7
}

/// An authority, and a certificate of it for each side; the server's become its flags.
fn certificates(folder: &Path, command: &mut Command) -> TlsOptions {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "outsider's authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |common_name: &str| {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (certificate, key) = signed("server");
    for (flag, name, text) in [
        ("--cert-file", "server.pem", certificate),
        ("--key-file", "server-key.pem", key),
        ("--trusted-ca-file", "authority.pem", authority.pem()),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        command.arg(flag).arg(file);
    }
    command.arg("--client-cert-auth");
    let (certificate, key) = signed(CLIENT);
    TlsOptions::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .identity(Identity::from_pem(certificate, key))
}
