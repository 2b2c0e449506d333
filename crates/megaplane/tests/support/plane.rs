//! A plane under test: the real binary as a child process.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use client::Kubeconfig;
use rest::http::Method;

use super::http::{self, Answer};
use super::{Folder, Kubectl, SOON, eventually};

/// How a plane is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlaneOptions {
    pub(crate) nodes: usize,
    /// Keep data in a folder that survives restarts.
    pub(crate) persistent: bool,
}

/// A running plane. Ended, and looked through for panics, when dropped.
pub(crate) struct Plane {
    options: PlaneOptions,
    port: u16,
    process: Option<Child>,
    starts: u32,
    folder: Folder,
    /// More flags.
    flags: Vec<String>,
}

impl Plane {
    /// Starts a plane and waits until it is ready.
    pub(crate) fn start(options: PlaneOptions) -> Plane {
        Plane::start_with(options, &[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(options: PlaneOptions, flags: &[&str]) -> Plane {
        let folder = Folder::new("plane");
        std::fs::create_dir_all(folder.join("home")).unwrap();
        let mut plane = Plane {
            options,
            port: free_port(),
            process: None,
            starts: 0,
            folder,
            flags: flags.iter().map(ToString::to_string).collect(),
        };
        plane.start_again();
        plane
    }

    /// Starts the process, after it ended, with the same data and port.
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "it is still running");
        self.starts += 1;
        let output = |kind| File::create(self.log_path(kind)).unwrap();
        let child = self
            .command()
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .unwrap();
        self.process = Some(child);
        eventually("the plane is ready", || {
            let process = self.process.as_mut().unwrap();
            if let Some(status) = process.try_wait().unwrap() {
                panic!("megaplane ended at its start: {status}\n{}", self.log());
            }
            if !self.kubeconfig().is_file() {
                return Err(format!("no kubeconfig; its log:\n{}", self.log()));
            }
            let answer = self.get("/readyz");
            if answer.status == 200 {
                Ok(())
            } else {
                Err(answer.text())
            }
        });
    }

    /// The command that starts this plane.
    pub(crate) fn command(&self) -> Command {
        let mut command = megaplane(self.folder.path());
        command.args(["up", "--bind-address", "127.0.0.1"]);
        command.args(["--nodes", &self.options.nodes.to_string()]);
        command.args(["--secure-port", &self.port.to_string()]);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        // The whole of these tests runs on either listener.
        if let Some(listener) = std::env::var_os("MEGAPLANE_TEST_LISTENER") {
            command.arg("--listener").arg(listener);
        }
        if self.options.persistent {
            command.arg("--data-dir").arg(self.data_dir());
        } else {
            command.arg("--ephemeral");
        }
        command.args(&self.flags);
        command
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn nodes(&self) -> usize {
        self.options.nodes
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The kubeconfig, read.
    pub(crate) fn config(&self) -> Kubeconfig {
        Kubeconfig::read(&self.kubeconfig()).unwrap()
    }

    /// A kubectl with the plane's kubeconfig and a home of its own.
    pub(crate) fn kubectl(&self, line: &str) -> Kubectl {
        self.kubectl_as(line, &self.kubeconfig())
    }

    /// A kubectl with another kubeconfig.
    pub(crate) fn kubectl_as(&self, line: &str, kubeconfig: &Path) -> Kubectl {
        Kubectl::new(line, kubeconfig, &self.folder.join("home"))
    }

    /// `kubectl apply -f -` of a text, asserting success.
    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.kubectl("apply -f -").stdin(manifest).ok()
    }

    /// A GET for JSON.
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send(Method::Get, target, "application/json", "", "")
    }

    /// A POST of JSON.
    pub(crate) fn post(&self, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(
            Method::Post,
            target,
            "application/json",
            "application/json",
            body,
        )
    }

    /// Any request.
    pub(crate) fn send(
        &self,
        method: Method,
        target: &str,
        accept: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        http::send(&self.config(), method, target, accept, content_type, body)
    }

    /// Our own client.
    pub(crate) fn client(&self) -> client::Client {
        http::client(&self.config())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Process number, for signals.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        terminate(self.pid());
        let mut process = self.process.take().unwrap();
        match wait(&mut process, SOON) {
            Some(status) => status,
            None => {
                let _ = process.kill();
                let _ = process.wait();
                panic!(
                    "still running {} s after SIGTERM\n{}",
                    SOON.as_secs(),
                    self.log()
                );
            }
        }
    }

    /// What the process wrote since its last start.
    pub(crate) fn log(&self) -> String {
        ["stdout", "stderr"]
            .map(|kind| {
                let bytes = std::fs::read(self.log_path(kind)).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                // The end tells why; a status line repeated for minutes does not.
                let skip = text.lines().count().saturating_sub(60);
                text.lines().skip(skip).collect::<Vec<_>>().join("\n")
            })
            .join("\n")
    }

    fn log_path(&self, kind: &str) -> PathBuf {
        self.folder.join(&format!("{kind}.{}", self.starts))
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.kill();
        for start in 1..=self.starts {
            let path = self.folder.join(&format!("stderr.{start}"));
            let bytes = std::fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            if text.contains("panicked at") && !std::thread::panicking() {
                panic!("the plane panicked:\n{text}");
            }
        }
    }
}

/// The binary with nothing of this user's surroundings.
pub(crate) fn megaplane(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_megaplane"));
    command
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join("xdg"))
        .env_remove("KUBECONFIG")
        .env("RUST_BACKTRACE", "1")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// How a command ended that should not stay.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Exit {
    /// Asserts a refusal: a nonzero exit status, no panic, and a message with these parts.
    #[track_caller]
    pub(crate) fn is_refusal(&self, parts: &[&str]) {
        let code = self.status.code();
        assert!(
            matches!(code, Some(1..=100)),
            "exit status {:?}\n{self:?}",
            self.status
        );
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        super::assert_has(&self.stderr, parts);
    }
}

/// Runs the binary with these arguments; panics if it does not end by itself.
pub(crate) fn run_to_end(home: &Folder, arguments: &[&str]) -> Exit {
    let log = |kind| File::create(home.join(kind)).unwrap();
    let mut child = megaplane(home.path())
        .args(arguments)
        .stdout(log("out"))
        .stderr(log("err"))
        .spawn()
        .unwrap();
    let status = wait(&mut child, Duration::from_secs(20));
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |kind| {
        String::from_utf8_lossy(&std::fs::read(home.join(kind)).unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text("out"), text("err"));
    match status {
        Some(status) => Exit {
            status,
            stdout,
            stderr,
        },
        None => panic!(
            "megaplane {} keeps running:\n{stdout}{stderr}",
            arguments.join(" ")
        ),
    }
}

pub(crate) fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Sends SIGTERM to a child of ours.
pub(crate) fn terminate(pid: u32) {
    // The shell's own `kill`: the program of that name is not everywhere.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -TERM {pid}"))
        .status()
        .unwrap();
    assert!(status.success());
}

/// A port of the loopback address that nobody listens on.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}
