//! Copies of a server that is written to meanwhile: nothing is missed, and the copy goes on where the source stopped.
//!
//! The part with etcd needs `MEGAPLANE_ETCD`, the path of an etcd (`scripts/fetch-etcd` prints one).

#[path = "../../etcd-server/tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::{Client, Dice, Ours, RealEtcd, TempDir};
use etcd_server::{Options, TlsFiles};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use kv::Revision;
use migrate::{
    Compared, HashCheck, MoveError, Progress, SourceOptions, Until, export_source, import_file,
    import_source,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

fn now_micros() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_micros() as i64
}

fn source(url: &str) -> SourceOptions {
    SourceOptions {
        url: url.to_owned(),
        ..SourceOptions::default()
    }
}

/// Writes at random until told to stop, or for ever: puts, deletions, transactions.
async fn write(url: String, seed: u64, steps: u32, stop: Arc<AtomicBool>) -> i64 {
    let mut client = Client::connect(&url).await;
    let mut dice = Dice::new(seed);
    let mut revision = 0;
    for step in 0..steps {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("/registry/pods/{}", dice.below(30));
        revision = match dice.below(4) {
            0 => client.delete(&key, "/registry/pods/5").await,
            1 => client.delete(&key, "").await,
            _ => client.put(&key, &format!("{seed} {step}")).await,
        };
    }
    revision
}

async fn all(client: &mut Client, revision: i64) -> Vec<mvccpb::KeyValue> {
    let range = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    };
    client.kv.range(range).await.unwrap().into_inner().kvs
}

/// The copy answers as its source did, at every revision.
async fn compare(url: &str, dir: &Path, end: i64) {
    let ours = Ours::start(Options {
        data_dir: Some(dir.to_owned()),
        ..Options::default()
    });
    let mut copy = Client::connect(&ours.url()).await;
    let mut source = Client::connect(url).await;
    for at in (1..=end).rev().take(400) {
        assert!(
            all(&mut copy, at).await == all(&mut source, at).await,
            "at {at}"
        );
    }
    let lease = pb::LeaseTimeToLiveRequest { id: 77, keys: true };
    let left = copy
        .lease
        .lease_time_to_live(lease)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(left.granted_ttl, 3_000);
    assert!(left.ttl > 0);
    assert_eq!(left.keys, ["leased"]);
    assert_eq!(copy.put("next", "x").await, end + 1);
}

async fn lease(url: &str) {
    let mut client = Client::connect(url).await;
    let grant = pb::LeaseGrantRequest { ttl: 3_000, id: 77 };
    client.lease.lease_grant(grant).await.unwrap();
    let put = pb::PutRequest {
        key: "leased".into(),
        value: "v".into(),
        lease: 77,
        ..Default::default()
    };
    client.kv.put(put).await.unwrap();
}

/// Copies while two writers write, then tells it to stop when they have.
async fn copy_under_load(url: &str) {
    let work = TempDir::new();
    lease(url).await;
    let stop = Arc::new(AtomicBool::new(false));
    write(url.to_owned(), 9, 300, stop.clone()).await;
    let writers: Vec<_> = (0..2)
        .map(|seed| tokio::spawn(write(url.to_owned(), seed, 100_000, stop.clone())))
        .collect();
    // Told once the copy follows and has seen changes made meanwhile; the writers stop before.
    let (follows, told) = tokio::sync::watch::channel(0_i64);
    let dir = work.0.join("copy");
    let ended = async {
        let mut told = told;
        told.wait_for(|changes| *changes > 200).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    };
    let mut first = 0;
    let (imported, compared) = import_source(
        &source(url),
        &dir,
        Until::Told,
        now_micros,
        ended,
        |progress| {
            if let Progress::Following { revision, .. } = progress {
                if first == 0 {
                    first = revision;
                }
                let _ = follows.send(revision - first);
            }
        },
    )
    .await
    .unwrap();
    assert_eq!(compared, Compared::Equal);
    assert_eq!(imported.leases, 1);
    let mut client = Client::connect(url).await;
    let newest = all(&mut client, 0)
        .await
        .iter()
        .map(|kv| kv.mod_revision)
        .max();
    assert!(newest.unwrap() <= imported.revision.0);
    compare(url, &dir, imported.revision.0).await;
}

#[tokio::test]
async fn a_store_is_copied_while_it_is_written_to() {
    let ours = Ours::in_memory();
    copy_under_load(&ours.url()).await;
}

#[tokio::test]
async fn a_real_etcd_is_copied_while_it_is_written_to() {
    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    copy_under_load(&etcd.url).await;
}

#[tokio::test]
async fn without_following_it_ends_when_it_has_caught_up_and_a_revision_ends_it_too() {
    let ours = Ours::in_memory();
    let url = ours.url();
    lease(&url).await;
    let end = write(url.clone(), 4, 200, Arc::default()).await;
    let work = TempDir::new();
    let never = std::future::pending::<()>;
    let copy = |name: &str, until| {
        let dir = work.0.join(name);
        let source = source(&url);
        async move { import_source(&source, &dir, until, now_micros, never(), |_| {}).await }
    };
    let (imported, compared) = copy("caught-up", Until::CaughtUp).await.unwrap();
    assert_eq!((imported.revision.0, compared), (end, Compared::Equal));
    compare(&url, &work.0.join("caught-up"), end).await;
    let refused = copy("passed", Until::Revision(end - 1)).await.unwrap_err();
    assert!(matches!(refused, MoveError::Passed { .. }), "{refused}");
    let writer = tokio::spawn(write(url.clone(), 5, 300, Arc::default()));
    let (imported, compared) = copy("revision", Until::Revision(end + 50)).await.unwrap();
    assert_eq!(imported.revision, Revision(end + 50));
    assert_eq!(compared, Compared::Equal);
    writer.await.unwrap();
    compare(&url, &work.0.join("revision"), end + 50).await;
    // What goes out over the wire comes in as a file.
    let out = work.0.join("out.db");
    let exported = export_source(&source(&url), &out, |_| {}).await.unwrap();
    let dir = work.0.join("from-out");
    let imported = import_file(&out, &dir, HashCheck::Required, None, now_micros(), |_| {});
    let imported = imported.unwrap();
    assert_eq!(imported.versions, exported.versions);
    compare(&url, &dir, exported.revision.0).await;
}

#[tokio::test]
async fn access_rules_of_a_real_etcd_ask_for_a_user() {
    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    let etcdctl = PathBuf::from(std::env::var_os("MEGAPLANE_ETCD").unwrap());
    for line in [
        "put k v",
        "user add root:secret",
        "user grant-role root root",
        "auth enable",
    ] {
        let done = Command::new(etcdctl.with_file_name("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &etcd.url])
            .args(line.split(' '))
            .output()
            .unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
    }
    let work = TempDir::new();
    let never = std::future::pending::<()>;
    let copy = |name: &str, user: Option<(&str, &str)>| {
        let dir = work.0.join(name);
        let mut source = source(&etcd.url);
        source.user = user.map(|(name, password)| (name.into(), password.into()));
        async move { import_source(&source, &dir, Until::CaughtUp, now_micros, never(), |_| {}).await }
    };
    let refused = copy("nobody", None).await.unwrap_err().to_string();
    assert!(refused.contains("user name is empty"), "{refused}");
    let refused = copy("wrong", Some(("root", "x")))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("authentication failed"), "{refused}");
    assert!(!work.0.join("wrong").exists());
    let (imported, compared) = copy("root", Some(("root", "secret"))).await.unwrap();
    assert_eq!(compared, Compared::Equal);
    assert!(imported.auth_enabled);
    // The role of root is built into etcd, and is not kept.
    assert_eq!((imported.users, imported.roles), (1, 0));
}

/// PEM files: an authority, and a certificate of it with its key.
fn certificates(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let file = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    (
        file("ca.pem", ca),
        file("cert.pem", certificate),
        file("key.pem", key.serialize_pem()),
    )
}

#[tokio::test]
async fn certificates_are_shown_and_checked() {
    let work = TempDir::new();
    let (ca, cert, key) = certificates(&work.0);
    let ours = Ours::start(Options {
        tls: Some(TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            trusted_ca: Some(ca.clone()),
            client_cert_auth: true,
            ..TlsFiles::default()
        }),
        ..Options::default()
    });
    let url = format!("https://localhost:{}", ours.address.port());
    let good = SourceOptions {
        url: url.clone(),
        ca_cert: Some(ca),
        cert: Some(cert),
        key: Some(key),
        user: None,
    };
    let copy = |name: &str, source: SourceOptions| {
        let dir = work.0.join(name);
        let never = std::future::pending();
        async move { import_source(&source, &dir, Until::CaughtUp, now_micros, never, |_| {}).await }
    };
    let (imported, compared) = copy("good", good.clone()).await.unwrap();
    assert_eq!((imported.revision.0, compared), (1, Compared::Equal));
    let nobody = SourceOptions {
        cert: None,
        key: None,
        ..good.clone()
    };
    assert!(copy("nobody", nobody).await.is_err());
    let trusting_nobody = SourceOptions {
        ca_cert: None,
        ..good
    };
    let refused = copy("trusting-nobody", trusting_nobody).await.unwrap_err();
    assert!(matches!(refused, MoveError::Connect { .. }), "{refused}");
}

#[tokio::test]
async fn where_nobody_answers_nothing_is_made() {
    let work = TempDir::new();
    let dir = work.0.join("never");
    let never = std::future::pending();
    let until = Until::CaughtUp;
    let nobody = source("http://127.0.0.1:1");
    let refused = import_source(&nobody, &dir, until, now_micros, never, |_| {}).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, MoveError::Connect { .. }), "{refused}");
    assert!(!dir.exists());
}
