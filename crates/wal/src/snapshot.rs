//! Writes snapshots: pages of the store's present, beside the running log.

use crate::codec::{Item, encode, encode_record};
use crate::error::WalError;
use crate::files::{Kind, header, remove, rename, sync_dir, unfinished};
use crate::frame::{FRAME_BYTES_TARGET, begin, finish};
use crate::medium::Medium;
use kv::Revision;
use std::path::Path;
use store::{SnapshotScope, Store};

/// A snapshot file that is whole and on the medium, but does not have its name yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    /// The log must be durable up to here before the snapshot may count.
    pub(crate) end: Revision,
    pub(crate) bytes: u64,
}

/// Writes the draft of the snapshot `path`. One that does not come about leaves nothing behind.
pub(crate) fn write_draft(
    medium: &dyn Medium,
    store: &Store,
    scope: SnapshotScope,
    path: &Path,
    kind: Kind,
    number: u64,
) -> Result<Draft, WalError> {
    let draft = write(medium, store, scope, path, kind, number);
    if draft.is_err() {
        // It may be what fills the disk.
        remove(medium, &unfinished(path))?;
    }
    draft
}

fn write(
    medium: &dyn Medium,
    store: &Store,
    scope: SnapshotScope,
    path: &Path,
    kind: Kind,
    number: u64,
) -> Result<Draft, WalError> {
    let draft = unfinished(path);
    let file = medium.create(&draft);
    let mut file = file.map_err(WalError::io("create", &draft))?;
    let mut buffer = header(kind, number, 0).to_vec();
    let (mut sequence, mut bytes) = (0, 0);
    let mut cursor = store.snapshot(scope);
    let mut page = Vec::new();
    let mut start = begin(&mut buffer);
    while store.snapshot_page(&mut cursor, &mut page) {
        for record in page.drain(..) {
            encode_record(&record, &mut buffer);
            if buffer.len() - start < FRAME_BYTES_TARGET {
                continue;
            }
            finish(&mut buffer, start, sequence, 0);
            sequence += 1;
            file.write_all_at(&buffer, bytes)
                .map_err(WalError::io("write", &draft))?;
            bytes += buffer.len() as u64;
            buffer.clear();
            start = begin(&mut buffer);
        }
    }
    let end = store.applied();
    encode(&Item::SnapshotEnd(end), &mut buffer);
    finish(&mut buffer, start, sequence, 0);
    let written = file
        .write_all_at(&buffer, bytes)
        .and_then(|()| file.sync_all());
    written.map_err(WalError::io("write", &draft))?;
    bytes += buffer.len() as u64;
    Ok(Draft { end, bytes })
}

/// Gives the draft its name.
pub(crate) fn publish(medium: &dyn Medium, dir: &Path, path: &Path) -> Result<(), WalError> {
    rename(medium, &unfinished(path), path)?;
    sync_dir(medium, dir)
}
