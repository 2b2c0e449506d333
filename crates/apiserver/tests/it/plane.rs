//! An API server to talk to: one for all tests that keep to their own namespace, or one of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use apiserver::listen::Codec;
use apiserver::pki::{Pki, PkiOptions};
use apiserver::{Api, listen};
use client::Kubeconfig;
use client::https::HttpsTransport;
use store::{Store, StoreConfig};
use tokio::sync::watch;
use value::json;

use crate::speak::Speaker;

/// A running API server.
pub struct Plane {
    pub api: Api,
    pub store: Arc<Store>,
    pub stop: watch::Sender<bool>,
}

impl Plane {
    /// An empty one, with nothing kept.
    pub fn new() -> Plane {
        Plane::over(Arc::new(Store::new(StoreConfig::default())))
    }

    /// One over a given store, ready for requests.
    pub fn over(store: Arc<Store>) -> Plane {
        let (stop, stopping) = watch::channel(false);
        let api = Api::new(store.clone(), stopping);
        Plane { api, store, stop }
    }

    pub async fn ready(self) -> Plane {
        self.api
            .bootstrap(SocketAddr::from(([127, 0, 0, 1], 6443)))
            .await
            .unwrap();
        self
    }

    pub fn speaker(&self) -> Speaker {
        Speaker::new(
            Arc::new(self.api.clone()),
            Some(Api::system_user()),
            "default",
        )
    }
}

/// The server that tests share, and where it listens.
pub struct Shared {
    pub plane: Plane,
    /// HTTP/2 by our own codec.
    pub address: SocketAddr,
    /// HTTP/2 by the library.
    pub hyper_address: SocketAddr,
    pub pki: Pki,
}

pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        // On a thread of its own: the first who asks may be in a runtime already.
        let made = std::thread::spawn(|| block_on(Plane::new().ready()));
        let plane = made.join().unwrap();
        let pki = new_pki(&plane);
        Shared {
            address: serve(&plane, &pki, Codec::Own),
            hyper_address: serve(&plane, &pki, Codec::Hyper),
            plane,
            pki,
        }
    })
}

pub fn new_pki(plane: &Plane) -> Pki {
    Pki::open(&PkiOptions {
        directory: None,
        bind_address: [127, 0, 0, 1].into(),
        service_address: plane.api.service_address().into(),
        now_seconds: apiserver::now_micros() / 1_000_000,
    })
    .unwrap()
}

/// Lets a server listen on a free port, on a thread of its own.
pub fn serve(plane: &Plane, pki: &Pki, codec: Codec) -> SocketAddr {
    let socket = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1)
        .unwrap()
        .remove(0);
    let address = socket.local_addr().unwrap();
    let tls = listen::tls_config(pki).unwrap();
    let (api, stop) = (Arc::new(plane.api.clone()), plane.stop.subscribe());
    std::thread::spawn(move || block_on(listen::serve(socket, tls, codec, api, stop)).unwrap());
    address
}

pub fn kubeconfig(address: SocketAddr, pki: &Pki) -> Kubeconfig {
    Kubeconfig {
        server: format!("https://{address}"),
        ca_pem: pki.ca_pem.clone().into(),
        client_certificate_pem: pki.admin.certificate_pem.clone().into(),
        client_key_pem: pki.admin.key_pem.clone().into(),
        ..Kubeconfig::default()
    }
}

/// Runs a body in process, in a namespace of its own.
pub fn in_process<F: Future<Output = ()>>(body: impl FnOnce(Speaker) -> F) {
    let service = Arc::new(shared().plane.api.clone());
    block_on(async {
        let speaker = Speaker::new(service, Some(Api::system_user()), &new_namespace());
        with_namespace(&speaker).await;
        body(speaker).await;
    });
}

/// Runs a body over HTTPS by our own codec, in a namespace of its own.
pub fn over_https<F: Future<Output = ()>>(body: impl FnOnce(Speaker) -> F) {
    over(shared().address, body);
}

/// Runs a body over HTTPS by the library, in a namespace of its own.
pub fn over_hyper<F: Future<Output = ()>>(body: impl FnOnce(Speaker) -> F) {
    over(shared().hyper_address, body);
}

fn over<F: Future<Output = ()>>(address: SocketAddr, body: impl FnOnce(Speaker) -> F) {
    let transport = HttpsTransport::new(&kubeconfig(address, &shared().pki)).unwrap();
    block_on(async {
        let speaker = Speaker::new(Arc::new(transport), None, &new_namespace());
        with_namespace(&speaker).await;
        body(speaker).await;
    });
}

async fn with_namespace(speaker: &Speaker) {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": speaker.namespace}});
    speaker
        .post("/api/v1/namespaces", &namespace)
        .await
        .expect(201);
}

/// Unique in this process, so that tests of one server do not meet.
fn new_namespace() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
