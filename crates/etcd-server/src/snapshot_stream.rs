//! `Maintenance.Snapshot`: the database as a file without a name, streamed piece by piece, its SHA-256 last.
//!
//! Knows files, threads and the stream. What is in the database is in `backend`.
//!
//! ```text
//!   a thread ─► FILE.tmp, opened and unlinked ─► all buckets ─► read back ─► 4 pieces wait ─► gRPC
//!   the client goes, or the server stops: the pieces have no taker, the thread ends, the file is gone
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bbolt::Writer;
use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use kv::Revision;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::backend::{Backend, BackendError};
use crate::limits::{SNAPSHOT_PIECE_BYTES, SNAPSHOT_SPARE_BYTES, STORAGE_VERSION};
use crate::node::{Node, now_micros};

/// One piece, or why there are no more.
pub type Piece = Result<pb::SnapshotResponse, Status>;

/// Makes the snapshot and sends it. Ends early, and silently, when nobody listens any more.
pub fn send_snapshot(
    node: &Arc<Node>,
    at: Revision,
    permit: OwnedSemaphorePermit,
    pieces: &Sender<Piece>,
) {
    let sent = write(node, at, pieces).and_then(|(file, len)| send(node, at, file, len, pieces));
    drop(permit);
    if let Err(error) = sent {
        // Without a taker there is nobody to tell.
        let _ = pieces.blocking_send(Err(error));
    }
}

fn write(node: &Node, at: Revision, pieces: &Sender<Piece>) -> Result<(File, u64), Status> {
    let dir = node.options.data_dir.clone();
    let file = nameless_file(&dir.unwrap_or_else(std::env::temp_dir)).map_err(io_error)?;
    let kept = node.totals();
    check_room(&file, kept.live_bytes.saturating_add(kept.history_bytes))?;
    let backend = Backend {
        store: &node.store,
        at,
        raft_term: node.identity.raft_term,
        now_micros: Some(now_micros()),
    };
    let written = Writer::new(file)
        .map_err(BackendError::from)
        .and_then(|mut writer| {
            backend.write(&mut writer, |_| !pieces.is_closed())?;
            Ok(writer.finish()?)
        });
    written.map_err(crate::maintenance::backend_error)
}

/// A file that is gone with its last handle, wherever this process ends.
fn nameless_file(dir: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Should it stay: the next start removes files of this ending.
    let name = format!("snapshot-{}-{number}.tmp", std::process::id());
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Refuses when the disk has no room for so many bytes and for the log beside them. The bytes that a key costs in
/// memory are more than those of an entry in the file.
fn check_room(file: &File, needed_bytes: u64) -> Result<(), Status> {
    let disk = rustix::fs::fstatvfs(file).map_err(|error| io_error(error.into()))?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed_bytes.saturating_add(SNAPSHOT_SPARE_BYTES) <= free_bytes {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!(
        "megaplane: a snapshot needs {} MiB of the disk and leaves {} MiB to the log, but {} MiB are free",
        needed_bytes >> 20,
        SNAPSHOT_SPARE_BYTES >> 20,
        free_bytes >> 20
    )))
}

fn send(
    node: &Node,
    at: Revision,
    mut file: File,
    len: u64,
    pieces: &Sender<Piece>,
) -> Result<(), Status> {
    file.seek(SeekFrom::Start(0)).map_err(io_error)?;
    let mut hash = Sha256::new();
    let mut left = len;
    let answer = |blob: Bytes, remaining_bytes| pb::SnapshotResponse {
        header: node.header(at),
        remaining_bytes,
        blob,
        version: STORAGE_VERSION.into(),
    };
    while left > 0 {
        let piece_len = left.min(SNAPSHOT_PIECE_BYTES as u64);
        let mut piece = Vec::with_capacity(SNAPSHOT_PIECE_BYTES);
        (&mut file)
            .take(piece_len)
            .read_to_end(&mut piece)
            .map_err(io_error)?;
        if piece.len() as u64 != piece_len {
            return Err(io_error(io::ErrorKind::UnexpectedEof.into()));
        }
        hash.update(&piece);
        left -= piece_len;
        if pieces
            .blocking_send(Ok(answer(piece.into(), left)))
            .is_err()
        {
            return Ok(());
        }
    }
    let checksum = Bytes::copy_from_slice(&hash.finalize());
    let _ = pieces.blocking_send(Ok(answer(checksum, 0)));
    Ok(())
}

fn io_error(error: io::Error) -> Status {
    Status::unavailable(format!("megaplane: the snapshot's file: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_told_before_it_is_full() {
        let file = nameless_file(&std::env::temp_dir()).unwrap();
        let refused = check_room(&file, u64::MAX).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("MiB are free"), "{refused}");
        assert_eq!(
            check_room(&file, 0).is_ok(),
            free(&file) >= SNAPSHOT_SPARE_BYTES
        );
    }

    fn free(file: &File) -> u64 {
        let disk = rustix::fs::fstatvfs(file).unwrap();
        disk.f_bavail * disk.f_frsize
    }
}
