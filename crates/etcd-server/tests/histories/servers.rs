//! Servers to be ended in every way: in a process that is killed, or in this one, on a disk that fails.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use etcd_server::{Door, Options, Server};
use tokio::sync::watch;
use wal::{FaultyFiles, Medium, SystemFiles};

const CHILD: &str = "ETCD_HISTORY_CHILD_DIR";

fn options(dir: &Path) -> Options {
    Options {
        data_dir: Some(dir.to_owned()),
        doors: vec![Door::plain(SocketAddr::from(([127, 0, 0, 1], 0)))],
        runtimes: 2,
        ..Options::default()
    }
}

/// A server on threads of this process.
pub struct InProcess {
    pub url: String,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl InProcess {
    pub fn on_files(dir: &Path) -> InProcess {
        InProcess::start(Arc::new(SystemFiles), wal::Options::default(), dir)
    }

    /// With a log that is small enough to be closed, replaced by snapshots, and full, in one life.
    pub fn on_medium(medium: &FaultyFiles) -> InProcess {
        let log = wal::Options {
            segment_bytes: 16 << 10,
            snapshot_log_bytes: 1 << 30,
            allocate_bytes: 2 << 10,
            reserve_bytes: 32 << 10,
            probe_interval: Duration::from_millis(2),
            reserve_revisions: 100_000,
            ..wal::Options::default()
        };
        InProcess::start(Arc::new(medium.clone()), log, Path::new("/data"))
    }

    fn start(medium: Arc<dyn Medium>, log: wal::Options, dir: &Path) -> InProcess {
        let server = Server::open_on(medium, log, options(dir)).expect("opens");
        server.store().check().expect("sound");
        let url = format!("http://{}", server.address());
        let (stop, stopped) = watch::channel(false);
        // A log that has failed says so at the end, too.
        let thread = std::thread::spawn(move || drop(server.run(stopped)));
        InProcess { url, stop, thread }
    }

    /// Beside the runtime, which must let the clients' connections end meanwhile.
    pub async fn end(self) {
        self.stop.send(true).expect("it runs");
        let ended = tokio::task::spawn_blocking(|| self.thread.join());
        ended.await.expect("waits").expect("it does not panic");
    }
}

/// A server in a process of its own, to be killed.
pub struct Killed {
    pub url: String,
    process: Child,
}

impl Killed {
    pub fn start(dir: &Path) -> Killed {
        let me = std::env::current_exe().expect("a test has a program");
        let mut process = Command::new(me)
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
        let address = address.expect("the child says where it listens");
        let url = format!("http://{address}");
        Killed { url, process }
    }

    /// Once this returns, it has done all it will do.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the process of its own does, if this is one.
pub fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let server = Server::open(options(Path::new(&dir))).expect("opens after a kill");
    server.store().check().expect("sound after a kill");
    println!("\nlistening {}", server.address());
    let (_stop, stopped) = watch::channel(false);
    server.run(stopped).expect("killed before it ends");
}
