//! Out of a real etcd and into a store, out of a store and back: the same at every revision that is kept.
//!
//! The parts with etcd need `MEGAPLANE_ETCD`, the path of an etcd (`scripts/fetch-etcd` prints one).

#[path = "../../etcd-server/tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use common::{Client, Dice, Ours, RealEtcd, TempDir};
use etcd_server::Options;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use kv::Revision;
use migrate::{Bump, HashCheck, MoveError, export_directory, import_file};

/// Writes, deletes, transactions of many keys, leases and one compaction. Answers (compacted, newest) revision.
async fn fill(client: &mut Client) -> (i64, i64) {
    let mut dice = Dice::new(11);
    for (id, ttl) in [(77, 3_000), (78, 9_000)] {
        let grant = pb::LeaseGrantRequest { ttl, id };
        client.lease.lease_grant(grant).await.unwrap();
    }
    let (mut revision, mut compacted) = (1, 0);
    for step in 0..1_500 {
        let kind = *dice.pick(&["/registry/pods/", "/registry/ex.io/widgets/", "plain/"]);
        let key = format!("{kind}{}", dice.below(40));
        revision = match dice.below(6) {
            0 => client.delete(&key, "").await,
            1 => {
                let key = |number| Bytes::from(format!("{kind}{number}"));
                let first = dice.below(30);
                let ops = (first..first + 4).map(|number| pb::RequestOp {
                    request: Some(if number == first {
                        pb::request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                            key: key(number),
                            ..Default::default()
                        })
                    } else {
                        pb::request_op::Request::RequestPut(pb::PutRequest {
                            key: key(number),
                            value: format!("txn {step}").into(),
                            ..Default::default()
                        })
                    }),
                });
                let txn = pb::TxnRequest {
                    success: ops.collect(),
                    ..Default::default()
                };
                let done = client.kv.txn(txn).await.unwrap().into_inner();
                done.header.unwrap().revision
            }
            _ => {
                let put = pb::PutRequest {
                    key: key.into(),
                    value: "v".repeat(dice.below(2_000) as usize).into(),
                    lease: *dice.pick(&[0, 0, 0, 77, 78]),
                    ..Default::default()
                };
                let put = client.kv.put(put).await.unwrap().into_inner();
                put.header.unwrap().revision
            }
        };
        if step == 700 {
            compacted = revision - 60;
            let compact = pb::CompactionRequest {
                revision: compacted,
                physical: true,
            };
            client.kv.compact(compact).await.unwrap();
        }
    }
    (compacted, revision)
}

/// Everything a client can see of a store, to be compared whole.
#[derive(Debug, PartialEq)]
struct Seen {
    at_revisions: Vec<Vec<mvccpb::KeyValue>>,
    hash: (u32, i64),
    leases: Vec<(i64, i64, Vec<Bytes>)>,
    next: i64,
}

async fn look(client: &mut Client, (compacted, revision): (i64, i64)) -> Seen {
    let mut at_revisions = Vec::new();
    for at in compacted..=revision {
        let range = pb::RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            revision: at,
            ..Default::default()
        };
        let found = client.kv.range(range).await.unwrap().into_inner();
        at_revisions.push(found.kvs);
    }
    let hash = client
        .maintenance
        .hash_kv(pb::HashKvRequest { revision: 0 })
        .await
        .unwrap()
        .into_inner();
    let mut leases = Vec::new();
    for id in [77, 78] {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let left = client.lease.lease_time_to_live(request).await.unwrap();
        let mut left = left.into_inner();
        assert!(left.ttl > 0, "lease {id} has ended");
        left.keys.sort();
        leases.push((id, left.granted_ttl, left.keys));
    }
    Seen {
        at_revisions,
        hash: (hash.hash, hash.compact_revision),
        leases,
        next: client.put("next", "x").await,
    }
}

async fn save(client: &mut Client, path: &Path) {
    let mut stream = client
        .maintenance
        .snapshot(pb::SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        bytes.extend_from_slice(&piece.blob);
    }
    std::fs::write(path, bytes).unwrap();
}

fn now_micros() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_micros() as i64
}

fn on(dir: &Path) -> Ours {
    Ours::start(Options {
        data_dir: Some(dir.to_owned()),
        ..Options::default()
    })
}

#[tokio::test]
async fn a_real_etcds_snapshot_and_its_database_become_the_same_store() {
    let Some(mut etcd) = RealEtcd::start().await else {
        return;
    };
    let mut client = Client::connect(&etcd.url).await;
    let span = fill(&mut client).await;
    let etcdctl = PathBuf::from(std::env::var_os("MEGAPLANE_ETCD").unwrap());
    for line in [
        "role add reader",
        "user add root:secret",
        "user grant-role root reader",
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
    let saved = work.0.join("saved.db");
    save(&mut client, &saved).await;
    let expected = look(&mut client, span).await;
    etcd.stop();
    let raw = etcd.dir.0.join("member/snap/db");
    for (file, check, name, more) in [
        (&saved, HashCheck::Required, "from-snapshot", 0),
        (&raw, HashCheck::IfThere, "from-database", 1),
    ] {
        let dir = work.0.join(name);
        let imported = import_file(file, &dir, check, None, now_micros(), |_| {}).unwrap();
        assert_eq!(imported.revision, Revision(span.1 + more), "{name}");
        assert_eq!(imported.compacted, Some(Revision(span.0)));
        assert_eq!((imported.leases, imported.users, imported.roles), (2, 1, 1));
        assert!(!imported.auth_enabled);
        let ours = on(&dir);
        let mut seen = look(&mut Client::connect(&ours.url()).await, span).await;
        if more > 0 {
            // The database was closed after the look at it, which wrote a key.
            seen.hash = expected.hash;
            seen.next -= 1;
        }
        assert!(seen == expected, "{name}");
        ours.stop();
        // The access rules are there again in what goes back.
        let out = work.0.join(format!("{name}.db"));
        export_directory(&dir, &out, now_micros(), |_| {}).unwrap();
        let again = work.0.join(format!("{name}-again"));
        let imported = import_file(
            &out,
            &again,
            HashCheck::Required,
            None,
            now_micros(),
            |_| {},
        )
        .unwrap();
        assert_eq!((imported.users, imported.roles), (1, 1));
    }
    // A raw database has no checksum, and restoring asks for one.
    let refused = import_file(
        &raw,
        &work.0.join("never"),
        HashCheck::Required,
        None,
        now_micros(),
        |_| {},
    );
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no SHA-256 at the end"), "{refused}");
    assert!(!work.0.join("never").exists());
}

#[tokio::test]
async fn a_store_that_went_out_and_came_back_is_the_same() {
    let work = TempDir::new();
    let (first, second) = (work.0.join("first"), work.0.join("second"));
    let ours = on(&first);
    let mut client = Client::connect(&ours.url()).await;
    let span = fill(&mut client).await;
    ours.stop();
    let file = work.0.join("out.db");
    let exported = export_directory(&first, &file, now_micros(), |_| {}).unwrap();
    assert_eq!(exported.revision, Revision(span.1));
    assert_eq!(exported.bytes, std::fs::metadata(&file).unwrap().len());
    let mut told = 0;
    let imported = import_file(
        &file,
        &second,
        HashCheck::Required,
        None,
        now_micros(),
        |_| told += 1,
    )
    .unwrap();
    assert!(told > 0);
    assert_eq!(imported.versions, exported.versions);
    let (left, right) = (on(&first), on(&second));
    let expected = look(&mut Client::connect(&left.url()).await, span).await;
    let seen = look(&mut Client::connect(&right.url()).await, span).await;
    assert!(seen == expected);
    // Neither is written over.
    let refused = export_directory(&first, &file, now_micros(), |_| {}).unwrap_err();
    assert!(matches!(refused, MoveError::Exists(_)), "{refused}");
    let refused = import_file(
        &file,
        &second,
        HashCheck::Required,
        None,
        now_micros(),
        |_| {},
    );
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
    let refused = export_directory(&work.0, &work.0.join("x.db"), now_micros(), |_| {});
    assert!(matches!(refused, Err(MoveError::NoStore(_))));
}

#[tokio::test]
async fn a_store_moved_ahead_goes_on_there_without_history() {
    let work = TempDir::new();
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    for value in ["a", "b"] {
        client.put("k", value).await;
    }
    let (file, dir) = (work.0.join("saved.db"), work.0.join("ahead"));
    save(&mut client, &file).await;
    let import = |revisions, dir: &Path| {
        let bump = Some(Bump { revisions });
        import_file(&file, dir, HashCheck::Required, bump, now_micros(), |_| {})
    };
    assert!(matches!(import(0, &dir), Err(MoveError::Bump { .. })));
    let imported = import(1_000, &dir).unwrap();
    assert_eq!(imported.revision, Revision(1_003));
    let moved = on(&dir);
    let mut client = Client::connect(&moved.url()).await;
    assert_eq!(client.get("k").await.unwrap().mod_revision, 3);
    let old = pb::RangeRequest {
        key: "k".into(),
        revision: 3,
        ..Default::default()
    };
    let refused = client.kv.range(old).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "etcdserver: mvcc: required revision has been compacted"
    );
    assert_eq!(client.put("k", "c").await, 1_004);
}

#[tokio::test]
async fn a_file_that_is_cut_or_damaged_leaves_no_store_behind() {
    let work = TempDir::new();
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    fill(&mut client).await;
    let file = work.0.join("saved.db");
    save(&mut client, &file).await;
    let whole = std::fs::read(&file).unwrap();
    let mut dice = Dice::new(3);
    for number in 0..60 {
        let dir = work.0.join(format!("bad-{number}"));
        let mut bytes = whole.clone();
        let check = if number % 2 == 0 {
            bytes.truncate(dice.below(whole.len() as u64 - 4096) as usize);
            HashCheck::Skipped
        } else {
            bytes[dice.below(whole.len() as u64) as usize] ^= 1;
            HashCheck::Required
        };
        let bad = work.0.join("bad.db");
        std::fs::write(&bad, &bytes).unwrap();
        let refused = import_file(&bad, &dir, check, None, now_micros(), |_| {});
        assert!(refused.is_err(), "{number}");
        if dir.exists() {
            let store = std::sync::Arc::new(store::Store::new(store::StoreConfig::default()));
            let opened = wal::Disk::open(&dir, store, wal::Options::default());
            let refused = opened.unwrap_err().to_string();
            assert!(refused.contains("was not finished"), "{refused}");
        }
    }
}
