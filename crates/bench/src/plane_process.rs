//! `megaplane up` as a process of its own, and connections to it by our own codec over TLS.
//!
//! The server's processor time and memory are so told from those of the load.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use client::Kubeconfig;
use http2::{Config, Connection, Event, Sent, StreamId};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::process::{self, free_port};

/// How long a server may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 16 << 10;

/// What a plane is started for.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Whose HTTP/2 it speaks.
    pub listener: &'a str,
    /// Whether it keeps its data on disk, so that it may be killed and started again.
    pub is_durable: bool,
    /// Whether it schedules pods.
    pub schedules: bool,
}

/// A plane in a process and a folder of its own, both gone with it.
pub struct PlaneProcess {
    process: Child,
    arguments: Vec<OsString>,
    dir: PathBuf,
    dialer: Dialer,
}

impl PlaneProcess {
    /// One that keeps nothing.
    pub fn start(listener: &str) -> Result<PlaneProcess, String> {
        PlaneProcess::start_as(Setup {
            listener,
            is_durable: false,
            schedules: true,
        })
    }

    pub fn start_as(setup: Setup<'_>) -> Result<PlaneProcess, String> {
        let port = free_port().map_err(text)?;
        let dir = std::env::temp_dir().join(format!("megaplane-bench-{port}"));
        std::fs::create_dir_all(&dir).map_err(text)?;
        let kubeconfig = dir.join("kubeconfig");
        let mut arguments: Vec<OsString> = ["up", "--log", "error", "--listener", setup.listener]
            .map(OsString::from)
            .to_vec();
        arguments.push(format!("--secure-port={port}").into());
        arguments.push(format!("--scheduler={}", setup.schedules).into());
        arguments.extend(["--kubeconfig".into(), kubeconfig.clone().into()]);
        if setup.is_durable {
            arguments.extend(["--data-dir".into(), dir.join("data").into()]);
        } else {
            arguments.push("--ephemeral".into());
        }
        let process = match spawn(&arguments) {
            Ok(process) => process,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&dir);
                return Err(error);
            }
        };
        let mut guard = Started {
            process: Some(process),
            dir,
        };
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if let Ok(config) = Kubeconfig::read(&kubeconfig) {
                let tls = client::https::tls_config(&config).map_err(text)?;
                let process = guard.process.take().ok_or("the process is gone")?;
                return Ok(PlaneProcess {
                    process,
                    arguments,
                    dir: std::mem::take(&mut guard.dir),
                    dialer: Dialer {
                        port,
                        tls: tls.into(),
                    },
                });
            }
            if let Ok(Some(status)) = guard.process.as_mut().map_or(Ok(None), Child::try_wait) {
                return Err(format!("megaplane up ended at once: {status}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("megaplane up does not begin to serve".into())
    }

    /// Ends it as a power cut does: without notice.
    pub fn kill(&mut self) -> Result<(), String> {
        self.process.kill().map_err(text)?;
        self.process.wait().map(drop).map_err(text)
    }

    /// Starts it anew on what it has kept, with the same port and certificates. Does not wait until it serves.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.process = spawn(&self.arguments)?;
        Ok(())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(_)))
    }

    pub fn cpu_nanos(&self) -> u64 {
        process::cpu_nanos(self.process.id())
    }

    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.process.id())
    }

    /// What connects to it, also after it was started again.
    pub fn dialer(&self) -> Dialer {
        self.dialer.clone()
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Peer, String> {
        self.dialer.connect().await
    }
}

impl Drop for PlaneProcess {
    fn drop(&mut self) {
        end(&mut self.process, &self.dir);
    }
}

fn spawn(arguments: &[OsString]) -> Result<Child, String> {
    Command::new(std::env::current_exe().map_err(text)?)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)
}

/// A process that does not serve yet: ended if it is given up.
struct Started {
    process: Option<Child>,
    dir: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            end(process, &self.dir);
        }
    }
}

fn end(process: &mut Child, dir: &std::path::Path) {
    let _ = process.kill();
    let _ = process.wait();
    let _ = std::fs::remove_dir_all(dir);
}

/// Opens connections to one plane.
#[derive(Clone)]
pub struct Dialer {
    port: u16,
    tls: TlsConnector,
}

impl Dialer {
    pub async fn connect(&self) -> Result<Peer, String> {
        let socket = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .map_err(text)?;
        socket.set_nodelay(true).map_err(text)?;
        let name = ServerName::try_from("127.0.0.1").map_err(text)?;
        let stream = self.tls.connect(name, socket).await.map_err(text)?;
        let mut peer = Peer {
            stream,
            http2: Connection::client(Config::default()),
            buffer: BytesMut::new(),
        };
        peer.flush().await?;
        Ok(peer)
    }
}

/// A request to be made.
pub struct Ask<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body: Bytes,
}

/// One end of an answer.
pub struct Answered {
    pub stream: StreamId,
    pub status: u16,
    pub body: Bytes,
}

/// A client's end of a connection.
pub struct Peer {
    stream: TlsStream<TcpStream>,
    http2: Connection,
    buffer: BytesMut,
}

impl Peer {
    /// Puts a request into the output, with the headers that a kubelet sends.
    pub fn ask(&mut self, ask: &Ask<'_>) -> Result<StreamId, String> {
        let content_type: &[u8] = match ask.method {
            "PATCH" => b"application/merge-patch+json",
            _ => b"application/vnd.kubernetes.protobuf",
        };
        let fields: [(&[u8], &[u8]); 7] = [
            (b":method", ask.method.as_bytes()),
            (b":scheme", b"https"),
            (b":authority", b"127.0.0.1"),
            (b":path", ask.target.as_bytes()),
            (
                b"accept",
                b"application/vnd.kubernetes.protobuf,application/json",
            ),
            (b"content-type", content_type),
            (
                b"user-agent",
                b"kubelet/v1.36.0 (linux/amd64) kubernetes/bench",
            ),
        ];
        let is_empty = ask.body.is_empty();
        let stream = self
            .http2
            .open(fields, is_empty)
            .map_err(|why| format!("no stream: {why:?}"))?;
        let mut body = ask.body.clone();
        if !is_empty && self.http2.send_data(stream, &mut body, true) != Sent::All {
            return Err("a request does not fit the window".into());
        }
        Ok(stream)
    }

    pub async fn flush(&mut self) -> Result<(), String> {
        let output = self.http2.output().take();
        self.stream.write_all(&output).await.map_err(text)?;
        self.stream.flush().await.map_err(text)
    }

    /// Writes what there is, reads once, and hands over what came. `on_piece` sees the pieces of bodies.
    pub async fn turn(&mut self, on_event: impl FnMut(&Event)) -> Result<(), String> {
        self.flush().await?;
        self.read(on_event).await
    }

    /// Reads once. May be given up while it waits; what is to be written as an answer goes out with the next
    /// [`Peer::flush`].
    pub async fn read(&mut self, mut on_event: impl FnMut(&Event)) -> Result<(), String> {
        self.buffer.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.buffer).await.map_err(text)?;
        if read == 0 {
            return Err("the server has closed a connection".into());
        }
        self.http2.recv(self.buffer.split().freeze(), 0);
        while let Some(event) = self.http2.next_event() {
            if let Event::Data { stream, data, .. } = &event {
                self.http2.consumed(*stream, data.len());
            }
            on_event(&event);
            match event {
                Event::Headers { fields, .. } => self.http2.recycle(fields),
                Event::Reset { reason, .. } => {
                    return Err(format!("a stream was reset: {reason:?}"));
                }
                Event::Closed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes one request and waits for its answer.
    pub async fn exchange(&mut self, ask: &Ask<'_>) -> Result<Answered, String> {
        let mut answers = self.exchange_all(std::slice::from_ref(ask)).await?;
        answers.pop().ok_or_else(|| "no answer".into())
    }

    /// Makes requests side by side and waits for all answers, which come in the order of the requests.
    pub async fn exchange_all(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Answered>, String> {
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            answers.push(Answered {
                stream: self.ask(ask)?,
                status: 0,
                body: Bytes::new(),
            });
        }
        let mut open = answers.len();
        while open > 0 {
            self.turn(|event| {
                let of = |stream: StreamId, answers: &[Answered]| {
                    answers.binary_search_by_key(&stream, |answer| answer.stream)
                };
                match event {
                    Event::Headers {
                        stream,
                        fields,
                        end,
                    } => {
                        let status = fields
                            .get(b":status")
                            .map(|text| String::from_utf8_lossy(text));
                        let status = status.and_then(|text| text.parse().ok());
                        if let Ok(at) = of(*stream, &answers) {
                            answers[at].status = status.unwrap_or(0);
                        }
                        open -= usize::from(*end);
                    }
                    Event::Data { stream, data, end } => {
                        if let Ok(at) = of(*stream, &answers) {
                            answers[at].body = if answers[at].body.is_empty() {
                                data.clone()
                            } else {
                                [&answers[at].body[..], data].concat().into()
                            };
                        }
                        open -= usize::from(*end);
                    }
                    _ => {}
                }
            })
            .await?;
        }
        Ok(answers)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Runs a future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    crate::plane::runtime()?.block_on(future)
}
