//! A snapshot of etcd's: from the data directory of a store that is stopped, or over the wire.

use crate::Progress;
use crate::error::MoveError;
use crate::limits::PIECE_BYTES;
use crate::source::{Source, SourceOptions};
use bbolt::etcd::EtcdFile;
use bbolt::{BboltError, Database, Integrity, ReadAt, Writer, check_trailer};
use etcd_server::backend::{Backend, BackendError};
use kv::Revision;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{CollectionConfig, Store, StoreConfig};
use wal::{Disk, Options};

/// The term that a store of ours has.
const RAFT_TERM: u64 = 2;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The newest revision in it.
    pub revision: Revision,
    /// Versions and deletions.
    pub versions: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the snapshot `out`, which must not exist, of the store in `dir`, which must be stopped.
pub fn export_directory(
    dir: &Path,
    out: &Path,
    now_micros: i64,
    mut progress: impl FnMut(Progress),
) -> Result<Exported, MoveError> {
    if !dir.join("FORMAT").exists() {
        return Err(MoveError::NoStore(dir.to_owned()));
    }
    let (part, file) = part_of(out)?;
    let (store, disk) = open(dir)?;
    let at = store.applied();
    let backend = Backend {
        store: &store,
        at,
        raft_term: RAFT_TERM,
        now_micros: Some(now_micros),
    };
    let mut versions = 0;
    let written = Writer::new(file)
        .map_err(BackendError::from)
        .and_then(|mut writer| {
            backend.write(&mut writer, |done| {
                versions = done;
                progress(Progress::Copying {
                    versions,
                    revision: at.0,
                    end: at.0,
                });
                true
            })?;
            Ok(writer.finish()?)
        });
    disk.close()?;
    let done = written
        .map_err(MoveError::from)
        .and_then(|(file, len)| seal(file, len, &part, out, &mut progress));
    if done.is_err() {
        // What is half is of no use; that it could not be removed is not what went wrong.
        let _ = std::fs::remove_file(&part);
    }
    Ok(Exported {
        revision: at,
        versions,
        bytes: done?,
    })
}

/// Writes the snapshot `out`, which must not exist, of a running store or etcd.
pub async fn export_source(
    options: &SourceOptions,
    out: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<Exported, MoveError> {
    let source = Source::connect(options).await?;
    let (part, file) = part_of(out)?;
    drop(file);
    let saved = source.save_snapshot(&part, &mut progress).await;
    let done = saved.and_then(|()| judge(&part));
    match &done {
        Ok(_) => name(&part, out)?,
        Err(_) => {
            let _ = std::fs::remove_file(&part);
        }
    }
    done
}

/// What a saved snapshot holds; refuses one that is not whole.
fn judge(file: &Path) -> Result<Exported, MoveError> {
    let wrong = MoveError::file(file);
    let saved = File::open(file).map_err(MoveError::io("open", file))?;
    let bytes = saved.bytes_len().map_err(MoveError::io("read", file))?;
    let (trailed, integrity) = check_trailer(saved, false, |_| {}).map_err(&wrong)?;
    if integrity != Integrity::Checked {
        return Err(wrong(BboltError::NoSha256));
    }
    let etcd = Database::open(trailed)
        .and_then(EtcdFile::new)
        .map_err(&wrong)?;
    Ok(Exported {
        revision: etcd.revision().map_err(&wrong)?,
        versions: etcd.versions().map_err(&wrong)?.count() as u64,
        bytes,
    })
}

/// Opens the store of a directory; its leases and its history stay as they are.
pub(crate) fn open(dir: &Path) -> Result<(Arc<Store>, Disk), MoveError> {
    let store = Arc::new(Store::new(StoreConfig {
        log: true,
        collections: CollectionConfig {
            keep_until_compacted: true,
            ..CollectionConfig::default()
        },
        ..StoreConfig::default()
    }));
    let disk = Disk::open(dir, store.clone(), Options::default())?;
    Ok((store, disk))
}

/// The file beside `out` that is written first.
fn part_of(out: &Path) -> Result<(PathBuf, File), MoveError> {
    if out.exists() {
        return Err(MoveError::Exists(out.to_owned()));
    }
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&part);
    let file = file.map_err(MoveError::io("create", &part))?;
    Ok((part, file))
}

/// Appends the SHA-256, makes the file durable and gives it its name; answers its length.
fn seal(
    mut file: File,
    len: u64,
    part: &Path,
    out: &Path,
    progress: &mut impl FnMut(Progress),
) -> Result<u64, MoveError> {
    let failed = |action| MoveError::io(action, part);
    file.seek(SeekFrom::Start(0)).map_err(failed("read"))?;
    let mut hash = Sha256::new();
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut done_bytes = 0;
    loop {
        piece.clear();
        let read = (&mut file)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece)
            .map_err(failed("read"))?;
        if read == 0 {
            break;
        }
        hash.update(&piece);
        done_bytes += read as u64;
        progress(Progress::Checking {
            done_bytes,
            total_bytes: len,
        });
    }
    let checksum = hash.finalize();
    file.write_all(&checksum).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))?;
    name(part, out)?;
    Ok(done_bytes + checksum.len() as u64)
}

/// Gives a file its name, durably.
fn name(part: &Path, out: &Path) -> Result<(), MoveError> {
    std::fs::rename(part, out).map_err(MoveError::io("rename", part))?;
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(MoveError::io("sync", dir))
}
