//! The log's segments and snapshots: good ones, and what opening a directory of spoilt ones promises.

use crate::Chance;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use kv::{LeaseId, Op, PutOp, Revision, Txn};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreConfig};
use wal::{Disk, FaultyFiles, Medium, Options, WalError};

const DIR: &str = "/data";
const SEGMENT: &str = "/data/log-0000000000000001.seg";
const FILE_HEADER_BYTES: usize = 28;
const FRAME_HEADER_BYTES: usize = 24;

fn options() -> Options {
    Options {
        allocate_bytes: 1 << 10,
        reserve_bytes: 0,
        reserve_revisions: 100_000,
        ..Options::default()
    }
}

fn new_store() -> Arc<Store> {
    Arc::new(Store::new(StoreConfig {
        log: true,
        ..StoreConfig::default()
    }))
}

/// Opens a directory of these files. Whatever they hold, the answer is a store or an error, and a store that was
/// opened can be closed. Answers the error, if it is one.
///
/// # Panics
///
/// When that is not so.
pub fn disk_may_hold(files: &[(PathBuf, Vec<u8>)]) -> Result<(), WalError> {
    let medium = FaultyFiles::new(1);
    for (path, bytes) in files {
        let file = medium.create(path);
        let written = file.and_then(|mut file| {
            file.write_all_at(bytes, 0)?;
            file.sync_all()
        });
        written.expect("the medium takes it");
    }
    let store = new_store();
    let disk = Disk::open_on(Arc::new(medium), Path::new(DIR), store.clone(), options())?;
    // Revisions may have come near their end; then closing may say so.
    drop(disk.close());
    Ok(())
}

/// A segment and nothing else.
pub fn segment_may_hold(bytes: &[u8]) -> Result<(), WalError> {
    disk_may_hold(&[format(), (SEGMENT.into(), bytes.to_vec())])
}

/// A snapshot, and the segment that goes on after it.
pub fn snapshot_may_hold(bytes: &[u8]) -> Result<(), WalError> {
    let number = bytes.get(8..16).and_then(|bytes| bytes.try_into().ok());
    let number = number.map_or(2, u64::from_le_bytes);
    let header = [&b"MPLNSEG1"[..], &number.to_le_bytes(), &[0; 8]].concat();
    let segment = [&header[..], &crc(&header).to_le_bytes()].concat();
    disk_may_hold(&[
        format(),
        (
            format!("{DIR}/state-{number:016x}.snap").into(),
            bytes.to_vec(),
        ),
        (format!("{DIR}/log-{number:016x}.seg").into(), segment),
    ])
}

fn format() -> (PathBuf, Vec<u8>) {
    (Path::new(DIR).join("FORMAT"), b"megaplane-wal 2\n".to_vec())
}

fn crc(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// A good segment and a good snapshot, of a store that has done some of everything.
///
/// # Panics
///
/// When the log does not work at all.
pub fn good(chance: &mut Chance) -> (Vec<u8>, Vec<u8>) {
    let medium = FaultyFiles::new(chance.draw());
    let open = |store: &Arc<Store>| {
        let medium = Arc::new(medium.clone());
        Disk::open_on(medium, Path::new(DIR), store.clone(), options()).expect("opens")
    };
    let store = new_store();
    let disk = open(&store);
    for id in 1..3 {
        store.lease_grant(0, LeaseId(id), 60).expect("granted");
    }
    for number in 0..3 + chance.below(12) {
        let txn = Txn {
            then: (0..1 + chance.below(3)).map(|n| put(chance, n)).collect(),
            ..Txn::default()
        };
        store.txn(&txn).expect("done");
        if number == 5 {
            store.lease_revoke(LeaseId(2)).expect("revoked");
            store.compact(Revision(4)).expect("compacted");
        }
        // A frame each: what is written together would be for the scheduler to say.
        while store.durable() < store.applied() {
            std::thread::yield_now();
        }
    }
    drop(disk);
    let segment = medium.bytes_of(Path::new(SEGMENT)).expect("there");
    let store = new_store();
    let disk = open(&store);
    disk.snapshot_soon();
    while disk.snapshots_done() == 0 {
        assert!(store.failure().is_none(), "{:?}", store.failure());
        std::thread::sleep(Duration::from_micros(100));
    }
    drop(disk);
    let names = medium.names();
    let snapshot = names
        .iter()
        .find(|name| name.extension().is_some_and(|end| end == "snap"));
    let snapshot = snapshot
        .and_then(|name| medium.bytes_of(name))
        .expect("there");
    (segment, snapshot)
}

fn put(chance: &mut Chance, number: usize) -> Op {
    let key = format!(
        "/registry/kind{}/{number}{}",
        chance.below(3),
        chance.below(3)
    );
    Op::Put(PutOp {
        key: key.into(),
        value: Bytes::from(chance.bytes(100)),
        lease: LeaseId(if chance.one_in(4) { 1 } else { 0 }),
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

/// Spoils what a frame holds and mends its checksum, so that what is inside is looked at; or spoils any bytes.
pub fn spoil(chance: &mut Chance, bytes: &mut Vec<u8>) {
    if chance.one_in(3) {
        return chance.spoil(bytes);
    }
    let starts = frames(bytes);
    let Some(&start) = starts.get(chance.below(starts.len())) else {
        return chance.spoil(bytes);
    };
    let mut frame = bytes.split_off(start);
    let len = frame
        .get(..4)
        .and_then(|len| len.try_into().ok())
        .map_or(0, u32::from_le_bytes);
    let rest = frame.split_off((FRAME_HEADER_BYTES + len as usize).min(frame.len()));
    let mut payload = frame.split_off(FRAME_HEADER_BYTES.min(frame.len()));
    for _ in 0..1 + chance.below(3) {
        chance.spoil(&mut payload);
    }
    let len = u32::try_from(payload.len()).unwrap_or_default();
    let checked = [frame.get(8..).unwrap_or_default(), &payload].concat();
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&(crc(&checked) ^ len).to_le_bytes());
    bytes.extend(checked);
    bytes.extend(rest);
}

/// Where frames begin.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while let Some(header) = bytes.get(at..at + FRAME_HEADER_BYTES) {
        let len = header
            .get(..4)
            .and_then(|len| len.try_into().ok())
            .map_or(0, u32::from_le_bytes);
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        starts.push(at);
        at += FRAME_HEADER_BYTES + len as usize;
    }
    starts
}
