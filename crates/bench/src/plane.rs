//! A control plane in this process, as much of it as a benchmark wants, and raw calls to its API server.
//!
//! Keeps nothing on disk. Knows no listener: requests go straight into the API server's front room.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use apiserver::Api;
use bytes::Bytes;
use client::Client;
use meta::ApiError;
use rest::http::{Body, Method, Reply, Request, Service as _, User};
use store::{Store, StoreConfig};
use tokio::sync::watch;

pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The store's own work, as in a running plane.
const STEP_INTERVAL: Duration = Duration::from_millis(10);
const STEP_ENTRIES_MAX: usize = 4096;
/// How often a thread's processor time is noted.
const METER_INTERVAL: Duration = Duration::from_millis(5);

/// A store in memory with an API server on it.
pub struct Plane {
    api: Arc<Api>,
    user: Arc<User>,
    stopping: watch::Sender<bool>,
    rooms: Vec<JoinHandle<()>>,
}

impl Plane {
    pub fn start() -> Result<Plane, String> {
        let seed = u64::try_from(apiserver::now_micros()).unwrap_or(1);
        let store = Arc::new(Store::new(StoreConfig {
            seed,
            ..StoreConfig::default()
        }));
        let (stopping, stop) = watch::channel(false);
        let api = Arc::new(Api::new(store.clone(), stop.clone()));
        let mut plane = Plane {
            api,
            user: Api::system_user(),
            stopping,
            rooms: Vec::new(),
        };
        let endpoint = std::net::SocketAddr::from(([127, 0, 0, 1], 6443));
        runtime()?
            .block_on(plane.api.bootstrap(endpoint))
            .map_err(|error| error.to_string())?;
        plane.spawn("store-steps", move || async move {
            let mut ticks = tokio::time::interval(STEP_INTERVAL);
            while !*stop.borrow() {
                ticks.tick().await;
                store.step(apiserver::now_micros(), STEP_ENTRIES_MAX);
            }
        })?;
        Ok(plane)
    }

    pub fn client(&self) -> Client {
        Client::new(self.api.clone(), Some(self.user.clone()), "megaplane-bench")
    }

    /// Turns true when the plane ends.
    pub fn stop_signal(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Runs a future on a thread of its own until it ends, at the latest soon after the stop signal. Gives the
    /// thread's processor time so far, in nanoseconds, as it goes on.
    pub fn spawn<F, T>(&mut self, name: &str, make: F) -> Result<Arc<AtomicU64>, String>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = ()>,
    {
        let runtime = runtime()?;
        let cpu_nanos = Arc::new(AtomicU64::new(0));
        let meter = cpu_nanos.clone();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = make() => {}
                    () = note_cpu(&meter) => {}
                }
            });
            meter.store(crate::measure::thread_cpu_nanos(), Ordering::Relaxed);
        };
        let builder = std::thread::Builder::new().name(name.to_owned());
        self.rooms.push(
            builder
                .spawn(work)
                .map_err(|error| format!("cannot start a thread: {error}"))?,
        );
        Ok(cpu_nanos)
    }

    /// A request as our own components make it.
    pub fn request(&self, method: Method, path: String, body: Bytes) -> Request {
        Request {
            method,
            path,
            query: String::new(),
            accept: PROTOBUF.into(),
            content_type: if body.is_empty() {
                "".into()
            } else {
                PROTOBUF.into()
            },
            user_agent: "megaplane-bench".into(),
            if_none_match: None,
            body,
            user: Some(self.user.clone()),
        }
    }

    /// How many objects of a resource of the core group there are.
    pub fn count(&self, resource: &str) -> usize {
        self.api.count(resource)
    }

    /// Reads how many writes took a revision so far.
    pub fn writes(&self) -> impl Fn() -> u64 + Send + 'static {
        let api = self.api.clone();
        move || api.metrics().writes.load(Ordering::Relaxed)
    }

    pub async fn call(&self, request: Request) -> Reply {
        self.api.call(request).await
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.stopping.send(true);
        for room in self.rooms.drain(..) {
            if room.join().is_err() {
                eprintln!("a thread of the benchmark panicked");
            }
        }
    }
}

async fn note_cpu(meter: &AtomicU64) {
    let mut ticks = tokio::time::interval(METER_INTERVAL);
    loop {
        ticks.tick().await;
        meter.store(crate::measure::thread_cpu_nanos(), Ordering::Relaxed);
    }
}

/// A runtime for the thread that measures.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))
}

/// The whole body of a reply that must be a success.
pub async fn body_of(reply: Reply) -> Result<Bytes, String> {
    let succeeded = (200..300).contains(&reply.status);
    let bytes = match reply.body {
        Body::Full(bytes) => bytes,
        Body::Stream(mut source) => {
            let mut all = Vec::new();
            while let Some(piece) = poll_fn(|cx| source.poll_frame(cx)).await {
                all.extend_from_slice(&piece);
            }
            all.into()
        }
    };
    if succeeded {
        return Ok(bytes);
    }
    let status = serde_json::from_slice(&bytes).unwrap_or_default();
    Err(format!(
        "the API server refused ({}): {}",
        reply.status,
        ApiError::from_status(&status).message
    ))
}
