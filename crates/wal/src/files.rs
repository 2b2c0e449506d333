//! The files of a data directory: names, headers, durable creation and removal.

use crate::error::WalError;
use crate::frame::crc;
use crate::medium::Medium;
use std::fmt::Debug;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// What the file `FORMAT` says.
pub(crate) const FORMAT: &str = "megaplane-wal 2\n";

/// What it says until the first segment is there: a crash in the very first moments is no lost log.
const FORMAT_STARTING: &str = "megaplane-wal 2 starting\n";

/// No `FORMAT` is longer.
const FORMAT_BYTES_MAX: u64 = 1 << 10;

/// What it says while the directory is filled from somewhere else.
pub(crate) const FORMAT_IMPORTING: &str = "megaplane-wal 2 importing\n";

/// Bytes before the first frame of a segment or snapshot.
pub(crate) const FILE_HEADER_BYTES: usize = 28;

/// What a file of frames is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Segment,
    Snapshot,
    Shutdown,
}

impl Kind {
    fn magic(self) -> [u8; 8] {
        *match self {
            Kind::Segment => b"MPLNSEG1",
            Kind::Snapshot => b"MPLNSNP1",
            Kind::Shutdown => b"MPLNMEM1",
        }
    }
}

/// The first bytes of a file: what it is, its number, and the sequence of its first frame.
pub(crate) fn header(kind: Kind, number: u64, sequence: u64) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    let mut place = header.chunks_exact_mut(4);
    let fields = [kind.magic(), number.to_le_bytes(), sequence.to_le_bytes()];
    for (bytes, place) in fields
        .iter()
        .flat_map(|field| field.chunks_exact(4))
        .zip(&mut place)
    {
        place.copy_from_slice(bytes);
    }
    let (fields, checksum) = header.split_at_mut(FILE_HEADER_BYTES - 4);
    checksum.copy_from_slice(&crc(fields).to_le_bytes());
    header
}

/// The sequence of the first frame, if the header is that of file `number` of this kind.
pub(crate) fn parse_header(kind: Kind, number: u64, bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.get(..FILE_HEADER_BYTES)?;
    let sequence = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (header(kind, number, sequence) == bytes).then_some(sequence)
}

pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016x}.seg"))
}

pub(crate) fn snapshot_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("state-{number:016x}.snap"))
}

pub(crate) fn shutdown_path(dir: &Path) -> PathBuf {
    dir.join("memory.snap")
}

/// Room that is kept for when there is no other.
pub(crate) fn reserve_path(dir: &Path) -> PathBuf {
    dir.join("RESERVE")
}

/// The name a file has while it is being written.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// What a directory holds, by number.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) segments: Vec<u64>,
    pub(crate) snapshots: Vec<u64>,
    pub(crate) unfinished: Vec<PathBuf>,
}

pub(crate) fn list(medium: &dyn Medium, dir: &Path) -> Result<Listing, WalError> {
    let mut listing = Listing::default();
    for path in medium.list(dir).map_err(WalError::io("read", dir))? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let number = |start: &str, end: &str| {
            let number = name.strip_prefix(start)?.strip_suffix(end)?;
            u64::from_str_radix(number, 16).ok()
        };
        if let Some(number) = number("log-", ".seg") {
            listing.segments.push(number);
        } else if let Some(number) = number("state-", ".snap") {
            listing.snapshots.push(number);
        } else if name.ends_with(".tmp") {
            listing.unfinished.push(path);
        }
    }
    listing.segments.sort_unstable();
    listing.snapshots.sort_unstable();
    Ok(listing)
}

/// Makes names created, renamed or removed in `dir` durable.
pub(crate) fn sync_dir(medium: &dyn Medium, dir: &Path) -> Result<(), WalError> {
    medium.sync_dir(dir).map_err(WalError::io("sync", dir))
}

pub(crate) fn remove(medium: &dyn Medium, path: &Path) -> Result<(), WalError> {
    match medium.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(WalError::io("remove", path)),
    }
}

pub(crate) fn rename(medium: &dyn Medium, from: &Path, to: &Path) -> Result<(), WalError> {
    medium.rename(from, to).map_err(WalError::io("rename", to))
}

/// Takes the directory for this process, until what it answers is dropped.
pub(crate) fn lock(medium: &dyn Medium, dir: &Path) -> Result<Box<dyn Debug + Send>, WalError> {
    let path = dir.join("LOCK");
    let lock = medium.lock(&path).map_err(WalError::io("lock", &path))?;
    lock.ok_or_else(|| WalError::InUse {
        path: dir.to_owned(),
    })
}

/// Checks the format of a directory, or sets it in a new one. True when it is new.
pub(crate) fn check_format(medium: &dyn Medium, dir: &Path) -> Result<bool, WalError> {
    let path = dir.join("FORMAT");
    let found = medium.read(&path).and_then(|(file, _)| {
        let mut found = Vec::new();
        file.take(FORMAT_BYTES_MAX).read_to_end(&mut found)?;
        Ok(found)
    });
    match found {
        Ok(found) if found == FORMAT.as_bytes() => return Ok(false),
        Ok(found) if found == FORMAT_STARTING.as_bytes() => return Ok(true),
        Ok(found) if found == FORMAT_IMPORTING.as_bytes() => {
            return Err(WalError::HalfImported {
                path: dir.to_owned(),
            });
        }
        Ok(found) => {
            return Err(WalError::Format {
                path: dir.to_owned(),
                found: String::from_utf8_lossy(&found).trim_end().to_owned(),
                expected: FORMAT.trim_end().to_owned(),
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(WalError::io("read", &path)(error)),
    }
    let listing = list(medium, dir)?;
    if !listing.segments.is_empty() || !listing.snapshots.is_empty() {
        return Err(WalError::Missing { path });
    }
    write_format(medium, dir, FORMAT_STARTING)?;
    Ok(true)
}

/// Notes that the directory has its first segment: from here on a directory without any has lost them.
pub(crate) fn finish_format(medium: &dyn Medium, dir: &Path) -> Result<(), WalError> {
    write_format(medium, dir, FORMAT)
}

pub(crate) fn write_format(medium: &dyn Medium, dir: &Path, text: &str) -> Result<(), WalError> {
    let path = dir.join("FORMAT");
    let draft = unfinished(&path);
    let write = medium.create(&draft).and_then(|mut file| {
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_all()?;
        medium.rename(&draft, &path)
    });
    write.map_err(WalError::io("write", &path))?;
    sync_dir(medium, dir)
}
