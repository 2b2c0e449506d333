//! What a program that was written for etcd does with it, told with the public crate `etcd-client`.
//!
//! Each chapter asserts on what it is answered and panics where that is not what etcd answers; the same story is told to
//! a real etcd, so that it is proven right itself. Knows one address and how to get in; not whose server is behind it.

pub mod auth;
pub mod cluster;
pub mod election;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod txn;
pub mod watch;

use std::future::Future;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, GetOptions, TlsOptions};

/// How long a story may take before it is given up, so that a lost answer ends the test instead of hanging it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often something is asked for that another task brings about, and the pause between two times.
const TRIES_MAX: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// Where the server is and how one gets in.
#[derive(Debug, Clone)]
pub struct Place {
    /// With `http://` or `https://`.
    pub endpoint: String,
    /// For `https://`: whom to trust, and our own certificate.
    pub tls: Option<TlsOptions>,
    /// Whom our certificate names, if we have one and the server believes it.
    pub certified_as: Option<String>,
    /// Whether the server knows `RangeStream` (etcd does from 3.7 on).
    pub streams_ranges: bool,
}

impl Place {
    /// A client, as nobody in particular.
    pub async fn client(&self) -> Client {
        self.connect(None).await.expect("a connection")
    }

    /// A client that logs in, or why it was refused.
    pub async fn client_of(&self, user: &str, password: &str) -> Result<Client, Error> {
        self.connect(Some((user, password))).await
    }

    async fn connect(&self, user: Option<(&str, &str)>) -> Result<Client, Error> {
        let mut options = ConnectOptions::new().with_connect_timeout(PATIENCE);
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.clone());
        }
        Client::connect([&self.endpoint], Some(options)).await
    }
}

/// All chapters, one after the other, on an empty server.
pub async fn tell(place: &Place) {
    let story = async {
        kv::tell(place).await;
        txn::tell(place).await;
        watch::tell(place).await;
        lease::tell(place).await;
        lock::tell(place).await;
        election::tell(place).await;
        auth::tell(place).await;
        maintenance::tell(place).await;
        cluster::tell(place).await;
    };
    within_patience(story).await;
}

/// Awaits an answer that has to come.
async fn within_patience<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("an answer before patience ends")
}

/// Waits until a prefix has so many keys.
async fn until_there_are(client: &mut Client, prefix: &str, count: i64) {
    let options = GetOptions::new().with_prefix().with_count_only();
    for _ in 0..TRIES_MAX {
        let answer = client.get(prefix, Some(options.clone())).await;
        if answer.expect("a count").count() == count {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{prefix} never has {count} keys");
}

/// Panics unless a call was refused with exactly this text; answers the number of the gRPC code.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, text: &str) -> i32 {
    match result {
        Err(Error::GRpcStatus(status)) => {
            assert_eq!(status.message(), text);
            status.code() as i32
        }
        other => panic!("not refused with {text:?}: {other:?}"),
    }
}

/// gRPC's codes, as far as they occur here.
mod code {
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const OUT_OF_RANGE: i32 = 11;
    pub const UNIMPLEMENTED: i32 = 12;
}
