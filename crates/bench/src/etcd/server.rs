//! A server in a process and a folder of its own, both gone with it. Knows the flags that our store and etcd share.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{self, free_port};

/// How long a server may take until it listens, with what it has to recover.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// Which server.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Ours, with this listener.
    Ours { listener: &'static str },
    /// The etcd of this path.
    Etcd { path: PathBuf },
}

impl Kind {
    pub fn ours(listener: &'static str) -> Kind {
        Kind::Ours { listener }
    }

    /// The one that `MEGAPLANE_ETCD` names.
    pub fn etcd() -> Option<Kind> {
        let path = std::env::var_os("MEGAPLANE_ETCD")?.into();
        Some(Kind::Etcd { path })
    }

    fn command(&self) -> Result<Command, String> {
        match self {
            Kind::Etcd { path } => Ok(Command::new(path)),
            Kind::Ours { listener } => {
                let binary = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(binary);
                command.args(["store", "--log", "error", "--listener", listener]);
                Ok(command)
            }
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    process: Child,
    dir: PathBuf,
    pub port: u16,
    peer_port: u16,
}

impl Server {
    /// Starts one that keeps what it is given in a new folder. Its quota is far above what a benchmark writes.
    pub fn start(kind: &Kind) -> Result<Server, String> {
        let fail = |error: std::io::Error| error.to_string();
        let (port, peer_port) = (free_port().map_err(fail)?, free_port().map_err(fail)?);
        let dir = std::env::temp_dir().join(format!("megaplane-bench-{port}"));
        let process = spawn(kind, &dir, port, peer_port)?;
        let kind = kind.clone();
        let mut server = Server {
            kind,
            process,
            dir,
            port,
            peer_port,
        };
        server.listening()?;
        Ok(server)
    }

    /// Ends it as a power cut would, for all that a process can tell, and starts it again on the same folder. Returns
    /// when it listens.
    pub fn kill_and_start(&mut self) -> Result<(), String> {
        self.kill();
        self.process = spawn(&self.kind, &self.dir, self.port, self.peer_port)?;
        self.listening()
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn listening(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("{:?} ended at once: {status}", self.kind));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{:?} does not listen on {}", self.kind, self.port))
    }

    /// Processor time of all its threads.
    pub fn cpu_nanos(&self) -> u64 {
        process::cpu_nanos(self.process.id())
    }

    /// Its resident memory.
    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.process.id())
    }

    /// Bytes of all files in its folder.
    pub fn disk_bytes(&self) -> u64 {
        fn of(dir: &std::path::Path) -> u64 {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let size = |entry: std::fs::DirEntry| match entry.metadata() {
                Ok(data) if data.is_dir() => of(&entry.path()),
                Ok(data) => data.len(),
                Err(_) => 0,
            };
            entries.map(size).sum()
        }
        of(&self.dir)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(kind: &Kind, dir: &std::path::Path, port: u16, peer_port: u16) -> Result<Child, String> {
    let mut command = kind.command()?;
    let url = format!("http://127.0.0.1:{port}");
    command
        .args(["--listen-client-urls", &url])
        .args(["--advertise-client-urls", &url])
        .args(["--quota-backend-bytes", "17179869184"])
        .arg("--data-dir")
        .arg(dir);
    if matches!(kind, Kind::Etcd { .. }) {
        let peer = format!("http://127.0.0.1:{peer_port}");
        command
            .args(["--log-level", "error", "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")]);
    }
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))
}
