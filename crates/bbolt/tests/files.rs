//! Whole files: written and read back, judged by a real etcdctl, and damaged in every way.
//!
//! The part with etcdctl needs `MEGAPLANE_ETCD`, the path of an etcd (`scripts/fetch-etcd` prints one).

use bbolt::etcd::{
    self, ALARM, AUTH, Counters, EtcdFile, Hasher, KEY, RevisionKey, StoredLease, encode_deletion,
    encode_put, write_counters, write_leases,
};
use bbolt::{BboltError, Checksum, Database, Integrity, Sink, Writer, check_trailer};
use bytes::Bytes;
use chance::Chance;
use kv::{KeyValue, LeaseId, Revision};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn write(buckets: &Buckets) -> Bytes {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    for (name, entries) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in entries {
            writer.put(key, value).unwrap();
        }
    }
    let (out, len) = writer.finish().unwrap();
    assert_eq!(out.get_ref().len() as u64, len);
    out.into_inner().into()
}

fn read(bytes: &Bytes) -> Result<Buckets, BboltError> {
    let database = Database::open(bytes.clone())?;
    let mut buckets = Buckets::new();
    for name in database.buckets()? {
        let mut entries = BTreeMap::new();
        for entry in database.bucket(&name)?.into_iter().flatten() {
            let entry = entry?;
            entries.insert(entry.key.to_vec(), entry.value.to_vec());
        }
        let last = database.last(&name)?.map(|entry| entry.key.to_vec());
        assert_eq!(last.as_ref(), entries.keys().next_back());
        buckets.insert(name.to_vec(), entries);
    }
    Ok(buckets)
}

#[test]
fn what_is_written_is_read_back_whatever_its_shape() {
    for seed in 1..40 {
        let mut dice = Chance::new(seed * 0x9e37_79b9);
        let mut buckets = Buckets::new();
        for _ in 0..dice.roll(4) {
            let keys = match dice.roll(4) {
                0 => 0,
                1 => dice.roll(10),
                2 => dice.roll(400),
                _ => 3_000,
            };
            let key_bytes = if dice.roll(4) == 0 { 3_000 } else { 40 };
            let mut entries = BTreeMap::new();
            for _ in 0..keys {
                let len = 1 + dice.roll(key_bytes) as usize;
                let key: Vec<u8> = (0..len).map(|_| dice.roll(256) as u8).collect();
                let value_len = match dice.roll(50) {
                    0 => dice.roll(40_000),
                    1..10 => 0,
                    _ => dice.roll(300),
                };
                entries.insert(key, vec![dice.roll(256) as u8; value_len as usize]);
            }
            buckets.insert(vec![b'a' + dice.roll(26) as u8], entries);
        }
        let bytes = write(&buckets);
        assert_eq!(read(&bytes).unwrap(), buckets, "seed {seed}");
    }
}

#[test]
fn a_bucket_that_is_inline_is_read() {
    // As bbolt writes a small bucket: no root page, the page itself in the value.
    let mut inline = vec![0; 16];
    inline.extend_from_slice(&[0; 8]);
    inline.extend_from_slice(&[2, 0, 1, 0, 0, 0, 0, 0]);
    for word in [0_u32, 16, 1, 2] {
        inline.extend_from_slice(&word.to_le_bytes());
    }
    inline.extend_from_slice(b"kvv");
    let mut entries = BTreeMap::new();
    entries.insert(b"b".to_vec(), inline);
    // Written as a plain value first: its flag is then set by hand, in the root's only leaf.
    let mut buckets = Buckets::new();
    buckets.insert(b"x".to_vec(), entries);
    let mut bytes = write(&buckets).to_vec();
    // Page 3 is the leaf of "x", page 4 the root: let the meta pages name page 3.
    bytes[3 * 4096 + 16] = 1;
    for page in [0, 1] {
        let meta = page * 4096 + 16;
        bytes[meta + 16] = 3;
        let hash = bytes[meta..meta + 56]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        bytes[meta + 56..meta + 64].copy_from_slice(&hash.to_le_bytes());
    }
    let database = Database::open(Bytes::from(bytes)).unwrap();
    let found = database.last(b"b").unwrap().unwrap();
    assert_eq!((&found.key[..], &found.value[..]), (&b"k"[..], &b"vv"[..]));
}

fn kv(key: &str, value: &str, revision: i64, version: i64, lease: i64) -> KeyValue {
    KeyValue {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        create_revision: Revision(revision + 1 - version),
        mod_revision: Revision(revision),
        version,
        lease: LeaseId(lease),
    }
}

const COUNTERS: Counters = Counters {
    consistent_index: 77,
    term: 2,
    compacted: Some(Revision(5)),
    storage_version: None,
};

const LEASES: [StoredLease; 2] = [
    StoredLease {
        id: 9,
        ttl_seconds: 600,
        remaining_seconds: 300,
    },
    StoredLease {
        id: 3,
        ttl_seconds: 60,
        remaining_seconds: 0,
    },
];

fn fill(sink: &mut impl Sink, keys: i64) {
    sink.bucket(ALARM).unwrap();
    sink.bucket(AUTH).unwrap();
    sink.put(b"authEnabled", &[0]).unwrap();
    for bucket in [etcd::AUTH_ROLES, etcd::AUTH_USERS, etcd::CLUSTER, KEY] {
        sink.bucket(bucket).unwrap();
    }
    for revision in 6..6 + keys {
        let at = RevisionKey {
            revision: Revision(revision),
            sub: 0,
            is_deletion: revision % 10 == 9,
        };
        let key = format!("key-{}", revision % 10);
        if at.is_deletion {
            sink.put(&at.to_bytes(), &encode_deletion(&key.into()))
                .unwrap();
        } else {
            let value = "v".repeat((revision % 700) as usize);
            sink.put(
                &at.to_bytes(),
                &encode_put(&kv(&key, &value, revision, 1, 0)),
            )
            .unwrap();
        }
    }
    write_leases(&LEASES, sink).unwrap();
    sink.bucket(etcd::MEMBERS).unwrap();
    sink.bucket(etcd::MEMBERS_REMOVED).unwrap();
    write_counters(&COUNTERS, sink).unwrap();
}

fn snapshot(keys: i64) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    fill(&mut writer, keys);
    let mut bytes = writer.finish().unwrap().0.into_inner();
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

/// Reads all that there is; answers what the last key was.
fn read_all(bytes: &Bytes, skip: bool) -> Result<Option<i64>, BboltError> {
    let (trailed, _) = check_trailer(bytes.clone(), skip, |_| {})?;
    let file = EtcdFile::new(Database::open(trailed)?)?;
    let mut last = None;
    for version in file.versions()? {
        last = Some(version?.at.revision.0);
    }
    file.leases()?;
    file.checksum()?;
    for bucket in etcd::SETTINGS {
        file.raw(bucket)?;
    }
    file.revision()?;
    Ok(last)
}

#[test]
fn what_etcd_keeps_comes_back() {
    let bytes = Bytes::from(snapshot(100));
    let (trailed, integrity) = check_trailer(bytes, false, |_| {}).unwrap();
    assert_eq!(integrity, Integrity::Checked);
    let file = EtcdFile::new(Database::open(trailed).unwrap()).unwrap();
    assert_eq!(file.counters(), &COUNTERS);
    assert_eq!(file.revision().unwrap(), Revision(105));
    assert_eq!(file.leases().unwrap(), [LEASES[1], LEASES[0]]);
    let versions: Vec<_> = file.versions().unwrap().map(Result::unwrap).collect();
    assert_eq!(versions.len(), 100);
    assert_eq!(versions[0].kv, kv("key-6", "vvvvvv", 6, 1, 0));
    assert!(versions[3].at.is_deletion);
    assert_eq!(versions[3].kv.key, "key-9");
    let mut hasher = Hasher::default();
    fill(&mut hasher, 100);
    assert_eq!(file.checksum().unwrap(), hasher.value());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = snapshot(400);
    assert_eq!(read_all(&whole.clone().into(), false).unwrap(), Some(405));
    let mut dice = Chance::new(7);
    for _ in 0..300 {
        let cut = dice.roll(whole.len() as u64) as usize;
        let bytes = Bytes::copy_from_slice(&whole[..cut]);
        // What is cut within the checksum is a whole database all the same.
        let is_whole = cut >= whole.len() - 32;
        assert_eq!(read_all(&bytes, true).is_ok(), is_whole, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_is_noticed_by_the_checksum_and_never_a_panic_without_it() {
    let whole = snapshot(400);
    let mut dice = Chance::new(11);
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + dice.roll(3) {
            // Heads of pages and their elements are where it hurts.
            let page = dice.roll(bytes.len() as u64 / 4096) * 4096;
            let within = if dice.roll(2) == 0 {
                dice.roll(64)
            } else {
                dice.roll(4096)
            };
            let at = (page + within) as usize;
            bytes[at] ^= 1 << dice.roll(8);
        }
        let bytes = Bytes::from(bytes);
        if bytes == whole {
            continue;
        }
        assert!(matches!(
            read_all(&bytes, false),
            Err(BboltError::Sha256 { .. })
        ));
        refused += u32::from(read_all(&bytes, true).is_err());
    }
    assert!(
        refused > 500,
        "only {refused} of the damaged files were noticed without the checksum"
    );
}

#[test]
fn trees_that_go_in_circles_or_nowhere_end_with_an_error_that_says_where() {
    let whole = snapshot(3_000);
    let read = |bytes: Vec<u8>| read_all(&bytes.into(), true).unwrap_err().to_string();
    // The branch page of the bucket "key" is the one with flag 1.
    let branch = (2..whole.len() / 4096)
        .find(|page| whole[page * 4096 + 8] == 1)
        .unwrap();
    let child = branch * 4096 + 16 + 8;
    let with = |at: usize, value: u64| {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    assert!(read(with(child, branch as u64)).contains("too deep"));
    let lost = read(with(child, 1 << 40));
    assert!(
        lost.contains("a tree leads to page 1099511627776"),
        "{lost}"
    );
    assert!(read(with(child, 0)).contains("a tree leads to page 0"));
    // The second child in the first one's place: keys come twice.
    let second = u64::from_le_bytes(whole[child + 16..child + 24].try_into().unwrap());
    let twice = read(with(child, second));
    assert!(twice.contains("keys are not in order"), "{twice}");
    assert!(twice.starts_with("damaged at byte "), "{twice}");
    assert!(read(b"something else entirely".to_vec()).contains("not a bbolt database"));
    assert!(read(Vec::new()).contains("not a bbolt database"));
}

#[test]
fn one_torn_meta_page_does_not_matter() {
    for page in [0, 1] {
        let mut bytes = snapshot(50);
        bytes[page * 4096 + 20] ^= 1;
        assert_eq!(read_all(&bytes.into(), true).unwrap(), Some(55));
    }
}

#[test]
fn keys_out_of_order_are_not_written() {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    assert!(writer.put(b"a", b"").is_err());
    writer.bucket(b"x").unwrap();
    writer.put(b"b", b"").unwrap();
    assert!(writer.put(b"b", b"").is_err());
    assert!(writer.put(b"", b"").is_err());
    assert!(writer.put(&[b'z'; 40_000], b"").is_err());
    writer.bucket(b"a").unwrap();
    assert!(writer.finish().is_err());
}

#[test]
fn etcdctl_finds_nothing_wrong_and_the_same_checksum() {
    let Some(etcd) = std::env::var_os("MEGAPLANE_ETCD") else {
        eprintln!(
            "not judged by etcdctl: MEGAPLANE_ETCD names no etcd (./test and scripts/fetch-etcd do)"
        );
        return;
    };
    let etcdctl = PathBuf::from(etcd).with_file_name("etcdctl");
    for keys in [1, 100, 20_000] {
        let bytes = snapshot(keys);
        let name = format!("megaplane-bbolt-{}-{keys}.db", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let output = std::process::Command::new(&etcdctl)
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "status", "--write-out", "json"])
            .arg(&path)
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        let total = keys + 1 + LEASES.len() as i64 + 5;
        let expected = format!(
            "{{\"hash\":{},\"revision\":{},\"totalKey\":{total},\"totalSize\":{}}}\n",
            whole_hash(&bytes),
            5 + keys,
            bytes.len() - 32
        );
        assert_eq!(said, expected, "{wrong}");
    }
}

/// As `etcdctl snapshot status` sums: everything.
fn whole_hash(bytes: &[u8]) -> u32 {
    let database = Database::open(Bytes::copy_from_slice(&bytes[..bytes.len() - 32])).unwrap();
    let mut checksum = Checksum::default();
    for name in database.buckets().unwrap() {
        checksum.update(&name);
        for entry in database.bucket(&name).unwrap().unwrap() {
            let entry = entry.unwrap();
            checksum.update(&entry.key);
            checksum.update(&entry.value);
        }
    }
    checksum.value()
}
