//! A snapshot over the wire: read back, judged by etcdctl, restored into a real etcd and compared with us.
//!
//! The part with etcd needs `MEGAPLANE_ETCD`, the path of an etcd (`scripts/fetch-etcd` prints one).

mod common;

use std::path::PathBuf;
use std::process::Command;

use bbolt::etcd::EtcdFile;
use bbolt::{Database, Integrity, check_trailer};
use bytes::Bytes;
use common::{Client, Dice, Ours, RealEtcd, TempDir};
use etcd_server::Options;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;

/// Some thousand versions of some hundred keys, with deletions, leases and a compaction. Answers the newest revision.
async fn fill(client: &mut Client) -> i64 {
    let mut dice = Dice::new(5);
    let grant = pb::LeaseGrantRequest { ttl: 3_000, id: 77 };
    client.lease.lease_grant(grant).await.unwrap();
    let mut revision = 1;
    for step in 0..2_000 {
        let kind = *dice.pick(&["/registry/pods/", "/registry/ex.io/widgets/", "plain/"]);
        let key = format!("{kind}{}", dice.below(60));
        if dice.one_in(5) {
            revision = client.delete(&key, "").await;
            continue;
        }
        let value = "v".repeat(dice.below(3_000) as usize);
        let put = pb::PutRequest {
            key: key.into(),
            value: value.into(),
            lease: if dice.one_in(10) { 77 } else { 0 },
            ..Default::default()
        };
        let put = client.kv.put(put).await.unwrap().into_inner();
        revision = put.header.unwrap().revision;
        if step == 1_000 {
            let compact = pb::CompactionRequest {
                revision: revision - 100,
                physical: true,
            };
            client.kv.compact(compact).await.unwrap();
        }
    }
    revision
}

async fn save(client: &mut Client) -> Vec<u8> {
    let mut stream = client
        .maintenance
        .snapshot(pb::SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let (mut bytes, mut remaining) = (Vec::new(), None);
    while let Some(piece) = stream.message().await.unwrap() {
        assert_eq!(piece.version, "3.6.0");
        if let Some(remaining) = remaining {
            assert!(piece.remaining_bytes <= remaining);
        }
        remaining = Some(piece.remaining_bytes);
        bytes.extend_from_slice(&piece.blob);
    }
    assert_eq!(remaining, Some(0));
    bytes
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

#[tokio::test]
async fn a_snapshot_holds_every_kept_version_and_leaves_no_file() {
    let dir = TempDir::new();
    let ours = Ours::start(Options {
        data_dir: Some(dir.0.clone()),
        ..Options::default()
    });
    let mut client = Client::connect(&ours.url()).await;
    let revision = fill(&mut client).await;
    let bytes = save(&mut client).await;
    let left: Vec<_> = std::fs::read_dir(&dir.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let (trailed, integrity) = check_trailer(Bytes::from(bytes), false, |_| {}).unwrap();
    assert_eq!(integrity, Integrity::Checked);
    let file = EtcdFile::new(Database::open(trailed).unwrap()).unwrap();
    assert_eq!(file.revision().unwrap().0, revision);
    let versions = file.versions().unwrap().map(Result::unwrap);
    let after_floor =
        versions.filter(|version| Some(version.at.revision) > file.counters().compacted);
    let floor = file.counters().compacted.unwrap().0;
    assert_eq!(after_floor.count() as i64, revision - floor);
    let leases = file.leases().unwrap();
    assert_eq!((leases[0].id, leases[0].ttl_seconds), (77, 3_000));
    assert!((1..=3_000).contains(&leases[0].remaining_seconds));
}

#[tokio::test]
async fn hash_is_the_checksum_of_the_file() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    for number in 0..50 {
        client.put(&format!("k{}", number % 7), "v").await;
    }
    let hash = client.maintenance.hash(pb::HashRequest {}).await.unwrap();
    let (trailed, _) = check_trailer(Bytes::from(save(&mut client).await), false, |_| {}).unwrap();
    let file = EtcdFile::new(Database::open(trailed).unwrap()).unwrap();
    assert_eq!(hash.into_inner().hash, file.checksum().unwrap());
}

#[tokio::test]
async fn a_reader_that_goes_away_frees_its_place() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    for number in 0..40 {
        client
            .put(&format!("k{number}"), &"v".repeat(1 << 20))
            .await;
    }
    // More than may be read at once, and none read to its end.
    for _ in 0..12 {
        let stream = client.maintenance.snapshot(pb::SnapshotRequest {}).await;
        let mut stream = stream.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
    }
    assert!(save(&mut client).await.len() > 40 << 20);
}

#[tokio::test]
async fn a_real_etcd_restored_from_our_snapshot_answers_as_we_do() {
    let Some(etcd) = std::env::var_os("MEGAPLANE_ETCD") else {
        eprintln!(
            "not restored into a real etcd: MEGAPLANE_ETCD names none (./test and scripts/fetch-etcd do)"
        );
        return;
    };
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let revision = fill(&mut client).await;
    let dir = TempDir::new();
    let (file, data) = (dir.0.join("saved.db"), dir.0.join("restored"));
    let etcdctl = |arguments: &[&str]| {
        let output = Command::new(PathBuf::from(&etcd).with_file_name("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{wrong}");
        said
    };
    let path = file.to_str().unwrap();
    etcdctl(&["--endpoints", &ours.url(), "snapshot", "save", path]);
    let status = etcdctl(&["snapshot", "status", path, "--write-out", "json"]);
    assert!(
        status.contains(&format!("\"revision\":{revision},")),
        "{status}"
    );
    let mut restored = RealEtcd::restored(|name, peer| {
        let cluster = format!("{name}={peer}");
        etcdctl(&[
            "snapshot",
            "restore",
            path,
            "--data-dir",
            data.to_str().unwrap(),
            "--name",
            name,
            "--initial-cluster",
            &cluster,
            "--initial-advertise-peer-urls",
            peer,
        ]);
        data.clone()
    })
    .await
    .unwrap();
    let mut real = Client::connect(&restored.url).await;
    for at in [0, revision - 1, revision - 500, revision - 900] {
        assert_eq!(
            all(&mut client, at).await,
            all(&mut real, at).await,
            "at {at}"
        );
    }
    let hash = |revision| pb::HashKvRequest { revision };
    let (left, right) = (
        client
            .maintenance
            .hash_kv(hash(0))
            .await
            .unwrap()
            .into_inner(),
        real.maintenance
            .hash_kv(hash(0))
            .await
            .unwrap()
            .into_inner(),
    );
    assert_eq!(
        (left.hash, left.compact_revision),
        (right.hash, right.compact_revision)
    );
    let lease = pb::LeaseTimeToLiveRequest { id: 77, keys: true };
    let (left, right) = (
        client
            .lease
            .lease_time_to_live(lease)
            .await
            .unwrap()
            .into_inner(),
        real.lease
            .lease_time_to_live(lease)
            .await
            .unwrap()
            .into_inner(),
    );
    assert_eq!(left.granted_ttl, right.granted_ttl);
    let sorted = |mut keys: Vec<Bytes>| {
        keys.sort();
        keys
    };
    assert_eq!(sorted(left.keys), sorted(right.keys));
    // The next write of both has the same revision.
    assert_eq!(client.put("next", "x").await, real.put("next", "x").await);
    restored.end();
}
