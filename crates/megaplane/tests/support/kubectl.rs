//! The real kubectl, as a user calls it: one line of text in, exit status and output out.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use value::Value;

/// Longest that one call may take unless it says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The kubectl that `./test` fetched.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = std::env::var_os("MEGAPLANE_KUBECTL").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/kubectl"),
            PathBuf::from,
        );
        assert!(
            path.is_file(),
            "there is no kubectl at {}: run ./test in the root of the repository, which fetches one \
             (or set MEGAPLANE_KUBECTL)",
            path.display()
        );
        path
    })
}

/// A call that is being put together.
pub(crate) struct Kubectl {
    line: String,
    command: Command,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
}

impl Kubectl {
    /// `line` is split at spaces; single quotes keep a word together.
    pub(crate) fn new(line: &str, kubeconfig: &Path, home: &Path) -> Kubectl {
        let mut command = Command::new(program());
        command
            .args(words(line))
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", home)
            .env("KUBECACHEDIR", home.join("cache"))
            .env("TMPDIR", home)
            .env_remove("KUBECTL_EXTERNAL_DIFF")
            .env_remove("EDITOR")
            .env("NO_PROXY", "*")
            .current_dir(home);
        Kubectl {
            line: format!("kubectl {line}"),
            command,
            stdin: None,
            timeout: CALL_TIMEOUT,
        }
    }

    /// What comes on standard input, for `-f -`.
    pub(crate) fn stdin(mut self, text: impl AsRef<[u8]>) -> Kubectl {
        self.stdin = Some(text.as_ref().to_vec());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Kubectl {
        self.command.env(name, value);
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Kubectl {
        self.timeout = timeout;
        self
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Run {
        let timeout = self.timeout;
        let mut background = self.spawn();
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_millis(5);
        let status = loop {
            if let Some(status) = background.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "{}: still running after {} s; so far:\n{}",
                background.line,
                timeout.as_secs(),
                background.output()
            );
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        for reader in background.readers.drain(..) {
            reader.join().unwrap();
        }
        Run {
            line: background.line.clone(),
            code: status.code().unwrap_or(-1),
            stdout: text(&background.stdout),
            stderr: text(&background.stderr),
        }
    }

    /// Runs to the end, asserts success, and gives standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.run().ok()
    }

    /// Runs to the end, asserts failure, and gives standard error.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        self.run().fails()
    }

    /// Runs to the end, asserts success, and reads standard output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let run = self.run();
        let line = run.line.clone();
        let text = run.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error} in:\n{text}"))
    }

    /// Starts and returns at once, for watches.
    pub(crate) fn spawn(mut self) -> Background {
        let stdin = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let (Some(text), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            // A kubectl that refuses its arguments does not read its input.
            std::thread::spawn(move || drop(pipe.write_all(&text)));
        }
        let (stdout, stderr) = (Gathered::default(), Gathered::default());
        let readers = vec![
            gather(child.stdout.take().unwrap(), stdout.clone()),
            gather(child.stderr.take().unwrap(), stderr.clone()),
        ];
        Background {
            line: self.line,
            child,
            stdout,
            stderr,
            readers,
        }
    }
}

/// Output so far.
type Gathered = Arc<Mutex<Vec<u8>>>;

fn gather(mut pipe: impl std::io::Read + Send + 'static, into: Gathered) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut block = [0; 16 * 1024];
        while let Ok(length @ 1..) = pipe.read(&mut block) {
            into.lock().unwrap().extend_from_slice(&block[..length]);
        }
    })
}

fn text(gathered: &Gathered) -> String {
    String::from_utf8_lossy(&gathered.lock().unwrap()).into_owned()
}

/// A call that is still running; ended when dropped.
pub(crate) struct Background {
    line: String,
    child: Child,
    stdout: Gathered,
    stderr: Gathered,
    readers: Vec<JoinHandle<()>>,
}

impl Background {
    /// Standard output so far, then standard error so far.
    pub(crate) fn output(&self) -> String {
        text(&self.stdout) + &text(&self.stderr)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call that ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) line: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(
            self.code == 0,
            "{}\nexit status {}\n{}{}",
            self.line,
            self.code,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert!(
            self.code != 0,
            "{}\nsucceeded, but should not:\n{}{}",
            self.line,
            self.stdout,
            self.stderr
        );
        self.stderr
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut begun, mut quoted) = (String::new(), false, false);
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                begun = true;
            }
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            other => {
                word.push(other);
                begun = true;
            }
        }
    }
    assert!(!quoted, "unbalanced quotes: {line}");
    if begun {
        words.push(word);
    }
    words
}
