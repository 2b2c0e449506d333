//! A running etcd, or store, that is copied from: what is asked of it, and how it is asked.
//!
//! Knows gRPC, TLS and tokens. Knows nothing of what becomes of the answers.

use crate::error::MoveError;
use crate::limits::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, LEASES_ASKED_AT_ONCE, MESSAGE_BYTES_MAX};
use crate::{Progress, limits};
use etcd_server::rpc::auth_client::AuthClient;
use etcd_server::rpc::kv_client::KvClient;
use etcd_server::rpc::lease_client::LeaseClient;
use etcd_server::rpc::maintenance_client::MaintenanceClient;
use etcd_server::rpc::watch_client::WatchClient;
use etcd_wire::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

/// Where the source is, and who asks.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// A client URL, http or https.
    pub url: String,
    /// Whose server certificates are good, PEM.
    pub ca_cert: Option<PathBuf>,
    /// Our certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Name and password, where access rules are on.
    pub user: Option<(String, String)>,
}

type Wire = InterceptedService<Channel, Token>;

/// Puts the token on every request.
#[derive(Clone, Debug)]
struct Token(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Source {
    options: SourceOptions,
    channel: Channel,
    token: Token,
}

/// The open watch of all keys.
#[derive(Debug)]
pub(crate) struct WatchAll {
    requests: mpsc::Sender<pb::WatchRequest>,
    pub(crate) answers: Streaming<pb::WatchResponse>,
}

impl WatchAll {
    /// Asks how far the watch has come. That an answer is under way already is as good.
    pub(crate) fn ask_progress(&self) {
        let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        let _ = self.requests.try_send(pb::WatchRequest {
            request_union: Some(request),
        });
    }
}

impl Source {
    /// Connects, and logs in where a user was named.
    pub(crate) async fn connect(options: &SourceOptions) -> Result<Source, MoveError> {
        let url = options.url.clone();
        let bad = |error: tonic::transport::Error| MoveError::Connect {
            url: url.clone(),
            reason: reason(&error),
        };
        let mut endpoint = Endpoint::from_shared(options.url.clone())
            .map_err(bad)?
            .connect_timeout(CONNECT_TIMEOUT);
        if options.url.starts_with("https://") {
            endpoint = endpoint.tls_config(tls(options)?).map_err(bad)?;
        }
        let channel = endpoint.connect().await.map_err(bad)?;
        let mut source = Source {
            options: options.clone(),
            channel,
            token: Token(None),
        };
        source.log_in().await?;
        Ok(source)
    }

    /// Gets a new token: etcd forgets one that was not used for some minutes.
    pub(crate) async fn log_in(&mut self) -> Result<(), MoveError> {
        let Some((name, password)) = self.options.user.clone() else {
            return Ok(());
        };
        let request = pb::AuthenticateRequest { name, password };
        let mut client = AuthClient::new(self.channel.clone());
        let answer = timely(client.authenticate(request)).await;
        let token = answer.map_err(|status| self.said("log in at", &status))?;
        let token = MetadataValue::try_from(token.into_inner().token);
        let token = token.map_err(|_| MoveError::Connect {
            url: self.options.url.clone(),
            reason: "it gave a token that is none".into(),
        })?;
        self.token = Token(Some(token));
        Ok(())
    }

    fn said(&self, action: &'static str, status: &Status) -> MoveError {
        MoveError::Source {
            action,
            url: self.options.url.clone(),
            text: status.message().to_owned(),
        }
    }

    fn kv(&self) -> KvClient<Wire> {
        KvClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    fn maintenance(&self) -> MaintenanceClient<Wire> {
        MaintenanceClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn lease(&self) -> LeaseClient<Wire> {
        LeaseClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The newest revision that everybody may have seen.
    pub(crate) async fn revision(&self) -> Result<i64, MoveError> {
        let request = pb::RangeRequest {
            key: "\0".into(),
            count_only: true,
            ..Default::default()
        };
        let mut client = self.kv();
        let answer = timely(client.range(request)).await;
        let answer = answer.map_err(|status| self.said("read from", &status))?;
        Ok(answer.into_inner().header.unwrap_or_default().revision)
    }

    /// Saves a snapshot to `file`, checksum and all.
    pub(crate) async fn save_snapshot(
        &self,
        file: &Path,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), MoveError> {
        let failed = |status: &Status| self.said("take a snapshot of", status);
        let create = std::fs::File::create(file);
        let mut out = create.map_err(MoveError::io("create", file))?;
        let mut client = self.maintenance();
        let answer = client.snapshot(pb::SnapshotRequest {}).await;
        let mut pieces = answer.map_err(|status| failed(&status))?.into_inner();
        let mut done_bytes = 0;
        while let Some(piece) = pieces.message().await.map_err(|status| failed(&status))? {
            out.write_all(&piece.blob)
                .map_err(MoveError::io("write", file))?;
            done_bytes += piece.blob.len() as u64;
            progress(Progress::Downloading {
                done_bytes,
                total_bytes: done_bytes.saturating_add(piece.remaining_bytes),
            });
        }
        out.sync_all().map_err(MoveError::io("sync", file))
    }

    /// Watches all keys from a revision on.
    pub(crate) async fn watch(&self, start_revision: i64) -> Result<WatchAll, MoveError> {
        let (requests, taken) = mpsc::channel(limits::WATCH_REQUESTS_WAITING_MAX);
        let create = pb::WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision,
            fragment: true,
            ..Default::default()
        };
        let create = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The channel is new and has room.
        let _ = requests.try_send(create);
        let mut client = WatchClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answers = timely(client.watch(ReceiverStream::new(taken))).await;
        let answers = answers.map_err(|status| self.said("watch", &status))?;
        Ok(WatchAll {
            requests,
            answers: answers.into_inner(),
        })
    }

    /// All leases: name, seconds granted, seconds left.
    pub(crate) async fn leases(&self) -> Result<Vec<(i64, i64, i64)>, MoveError> {
        let failed = |status: &Status| self.said("list the leases of", status);
        let mut client = self.lease();
        let all = timely(client.lease_leases(pb::LeaseLeasesRequest {})).await;
        let all = all.map_err(|status| failed(&status))?.into_inner().leases;
        let mut found = Vec::with_capacity(all.len());
        for ids in all.chunks(LEASES_ASKED_AT_ONCE) {
            let mut asked = JoinSet::new();
            for pb::LeaseStatus { id } in ids.iter().copied() {
                let mut client = self.lease();
                asked.spawn(async move {
                    let request = pb::LeaseTimeToLiveRequest { id, keys: false };
                    timely(client.lease_time_to_live(request)).await
                });
            }
            while let Some(answer) = asked.join_next().await {
                let answer = answer.unwrap_or_else(|_| Err(Status::internal("a task ended")));
                let left = answer.map_err(|status| failed(&status))?.into_inner();
                // One that ended meanwhile has no time left; its keys go with it.
                if left.ttl >= 0 {
                    found.push((left.id, left.granted_ttl, left.ttl));
                }
            }
        }
        Ok(found)
    }

    /// Its own checksum of the keys at a revision, and where its history begins.
    pub(crate) async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, MoveError> {
        let mut client = self.maintenance();
        let answer = client.hash_kv(pb::HashKvRequest { revision }).await;
        let answer = answer.map_err(|status| self.said("ask for the checksum of", &status))?;
        Ok(answer.into_inner())
    }
}

/// An answer that has no reason to take long.
async fn timely<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<tonic::Response<T>, Status> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("it does not answer")),
    }
}

fn tls(options: &SourceOptions) -> Result<ClientTlsConfig, MoveError> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(MoveError::io("read", path));
    let mut tls = ClientTlsConfig::new();
    if let Some(ca) = &options.ca_cert {
        tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
    }
    if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(tls)
}

/// What lies at the bottom of it: the library's own words say little.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
