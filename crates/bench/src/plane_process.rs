//! `megaplane up` as a process of its own, and connections to it by our own codec over TLS.
//!
//! The server's processor time and memory are so told from those of the load.

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

/// A plane that keeps nothing, in a process and a folder of its own, both gone with it.
pub struct PlaneProcess {
    process: Child,
    dir: PathBuf,
    port: u16,
    tls: TlsConnector,
}

impl PlaneProcess {
    pub fn start(listener: &str) -> Result<PlaneProcess, String> {
        let port = free_port().map_err(text)?;
        let dir = std::env::temp_dir().join(format!("megaplane-bench-{port}"));
        std::fs::create_dir_all(&dir).map_err(text)?;
        let kubeconfig = dir.join("kubeconfig");
        let process = Command::new(std::env::current_exe().map_err(text)?)
            .args([
                "up",
                "--ephemeral",
                "--log",
                "error",
                "--listener",
                listener,
            ])
            .args(["--secure-port", &port.to_string()])
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(text)?;
        let mut guard = Started { process, dir };
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if let Ok(config) = Kubeconfig::read(&kubeconfig) {
                let tls = client::https::tls_config(&config).map_err(text)?;
                let Started { process, dir } = guard;
                return Ok(PlaneProcess {
                    process,
                    dir,
                    port,
                    tls: tls.into(),
                });
            }
            if let Ok(Some(status)) = guard.process.try_wait() {
                return Err(format!("megaplane up ended at once: {status}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        end(&mut guard.process, &guard.dir);
        Err("megaplane up does not begin to serve".into())
    }

    pub fn cpu_nanos(&self) -> u64 {
        process::cpu_nanos(self.process.id())
    }

    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.process.id())
    }

    /// A new connection.
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

struct Started {
    process: Child,
    dir: PathBuf,
}

impl Drop for PlaneProcess {
    fn drop(&mut self) {
        end(&mut self.process, &self.dir);
    }
}

fn end(process: &mut Child, dir: &std::path::Path) {
    let _ = process.kill();
    let _ = process.wait();
    let _ = std::fs::remove_dir_all(dir);
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
        let fields: [(&[u8], &[u8]); 7] = [
            (b":method", ask.method.as_bytes()),
            (b":scheme", b"https"),
            (b":authority", b"127.0.0.1"),
            (b":path", ask.target.as_bytes()),
            (
                b"accept",
                b"application/vnd.kubernetes.protobuf,application/json",
            ),
            (b"content-type", b"application/vnd.kubernetes.protobuf"),
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
    pub async fn turn(&mut self, mut on_event: impl FnMut(&Event)) -> Result<(), String> {
        self.flush().await?;
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
