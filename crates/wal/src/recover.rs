//! From the files of a directory to the state they stand for. Changes nothing on disk.

use crate::codec::{Item, decode};
use crate::error::WalError;
use crate::files::{
    FILE_HEADER_BYTES, Kind, Listing, parse_header, segment_path, shutdown_path, snapshot_path,
};
use crate::frame::{FRAME_HEADER_BYTES, Frame, frame_len, parse, proves_synced};
use crate::medium::Medium;
use kv::{Change, Revision};
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use store::{Restoring, Store};

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The store goes on after this revision.
    pub revision: Revision,
    /// Whether the last run ended with a clean shutdown.
    pub clean: bool,
    /// Items read from the snapshot.
    pub snapshot_items: u64,
    /// Records read from the log.
    pub records: u64,
    /// Bytes of a torn tail that were cut off: a write that was never acknowledged.
    pub torn_bytes: u64,
    /// Items of memory collections that a clean shutdown had kept.
    pub memory_items: u64,
}

/// What the writer needs to go on.
#[derive(Debug, Default)]
pub(crate) struct Resume {
    pub(crate) recovered: Recovered,
    /// The number the next segment gets.
    pub(crate) next_segment: u64,
    /// The sequence the next frame gets.
    pub(crate) next_sequence: u64,
    /// The last segment, and the length to cut it to; or to remove it, when not even its header
    /// was finished.
    pub(crate) cut: Option<(PathBuf, Option<u64>)>,
    /// Where the log begins that the newest snapshot needs.
    pub(crate) first_segment: u64,
}

/// What the markers in the log say.
#[derive(Default)]
struct Markers {
    reserved: i64,
    clean: Option<i64>,
}

pub(crate) fn recover(
    medium: &dyn Medium,
    dir: &Path,
    listing: &Listing,
    store: &Store,
) -> Result<Resume, WalError> {
    let mut restoring = store.restore();
    let mut resume = Resume {
        next_segment: 1,
        first_segment: 1,
        ..Resume::default()
    };
    if let Some(number) = listing.snapshots.last().copied() {
        let path = snapshot_path(dir, number);
        resume.recovered.snapshot_items =
            read_snapshot(medium, &path, Kind::Snapshot, number, &mut restoring, true)?;
        resume.first_segment = number;
    }
    let mut markers = Markers::default();
    read_segments(
        medium,
        dir,
        listing,
        &mut restoring,
        &mut markers,
        &mut resume,
    )?;
    let path = shutdown_path(dir);
    if let Some(end) = markers.clean
        && medium.read(&path).is_ok()
    {
        let number = end.cast_unsigned();
        resume.recovered.memory_items =
            read_snapshot(medium, &path, Kind::Shutdown, number, &mut restoring, false)?;
    }
    let base = markers
        .clean
        .unwrap_or(markers.reserved)
        .max(restoring.newest().0)
        .max(1);
    resume.recovered.clean = markers.clean.is_some();
    resume.recovered.revision = Revision(base);
    restoring.finish(Revision(base), markers.clean.is_some());
    Ok(resume)
}

fn read_segments(
    medium: &dyn Medium,
    dir: &Path,
    listing: &Listing,
    restoring: &mut Restoring<'_>,
    markers: &mut Markers,
    resume: &mut Resume,
) -> Result<(), WalError> {
    let first = resume.first_segment;
    let numbers: Vec<u64> = listing
        .segments
        .iter()
        .copied()
        .filter(|number| *number >= first)
        .collect();
    let has_snapshot = !listing.snapshots.is_empty();
    if numbers.first() != Some(&first) && (has_snapshot || !numbers.is_empty()) {
        return Err(WalError::Missing {
            path: segment_path(dir, first),
        });
    }
    let mut expected_sequence = None;
    for (index, number) in numbers.iter().copied().enumerate() {
        let path = segment_path(dir, number);
        if number != first + index as u64 {
            let path = segment_path(dir, first + index as u64);
            return Err(WalError::Missing { path });
        }
        let is_last = index + 1 == numbers.len();
        resume.next_segment = number + 1;
        let mut frames = Frames::open(medium, &path)?;
        let Some(sequence) = parse_header(Kind::Segment, number, &frames.header) else {
            // A header is synced before its segment is used: nothing can follow an unfinished one.
            if is_last && frames.len <= FILE_HEADER_BYTES as u64 && index > 0 {
                resume.cut = Some((path, None));
                resume.next_segment = number;
                break;
            }
            if is_last && frames.len < FILE_HEADER_BYTES as u64 && !has_snapshot {
                resume.cut = Some((path, None));
                resume.next_segment = number;
                break;
            }
            return Err(WalError::damaged(
                &path,
                0,
                "this is not the header it should have",
            ));
        };
        if expected_sequence.is_some_and(|expected| expected != sequence) {
            return Err(WalError::damaged(
                &path,
                16,
                "frames are missing before this segment",
            ));
        }
        let mut next = sequence;
        while let Some(frame) = frames.next(next)? {
            apply(&path, frames.before, &frame, restoring, markers, resume)?;
            next += 1;
        }
        if frames.at < frames.len {
            let rest = frames.rest(next)?;
            let may_be_cut = is_last && !rest.proves_synced;
            if rest.torn_bytes > 0 && !may_be_cut {
                return Err(WalError::damaged(
                    &path,
                    frames.at,
                    "a frame fails its checksum",
                ));
            }
            if is_last {
                resume.recovered.torn_bytes = rest.torn_bytes;
                resume.cut = Some((path, Some(frames.at)));
            }
            if rest.torn_bytes > 0 {
                markers.clean = None;
            }
        }
        expected_sequence = Some(next);
        resume.next_sequence = next;
    }
    Ok(())
}

fn apply(
    path: &Path,
    offset: u64,
    frame: &Frame,
    restoring: &mut Restoring<'_>,
    markers: &mut Markers,
    resume: &mut Resume,
) -> Result<(), WalError> {
    let items = decode(&frame.payload);
    let items = items.ok_or_else(|| WalError::damaged(path, offset, "a record makes no sense"))?;
    for item in items {
        markers.clean = None;
        match item {
            Item::Record(record) if matches!(record.change, Change::Window { .. }) => {
                return Err(WalError::damaged(
                    path,
                    offset,
                    "a snapshot's window in a segment",
                ));
            }
            Item::Record(record) => {
                resume.recovered.records += 1;
                restoring.record(record);
            }
            Item::Reserve(revision) => markers.reserved = markers.reserved.max(revision.0),
            Item::Clean(revision) => markers.clean = Some(revision.0),
            Item::SnapshotEnd(_) => {
                return Err(WalError::damaged(
                    path,
                    offset,
                    "a snapshot's end in a segment",
                ));
            }
        }
    }
    Ok(())
}

/// Reads a whole snapshot; answers how many items it holds. One that is not whole is damaged: it
/// got its name only once it was.
fn read_snapshot(
    medium: &dyn Medium,
    path: &Path,
    kind: Kind,
    number: u64,
    restoring: &mut Restoring<'_>,
    sets_end: bool,
) -> Result<u64, WalError> {
    let mut frames = Frames::open(medium, path)?;
    let sequence = parse_header(kind, number, &frames.header)
        .ok_or_else(|| WalError::damaged(path, 0, "this is not the header it should have"))?;
    let mut next = sequence;
    let mut count = 0;
    let mut is_whole = false;
    while let Some(frame) = frames.next(next)? {
        next += 1;
        let nonsense = || WalError::damaged(path, frames.before, "a record makes no sense");
        for item in decode(&frame.payload).ok_or_else(nonsense)? {
            match item {
                Item::Record(record) => {
                    restoring.item(record);
                    count += 1;
                }
                Item::SnapshotEnd(revision) => {
                    is_whole = true;
                    if sets_end {
                        restoring.snapshot_end(revision);
                    }
                }
                Item::Reserve(_) | Item::Clean(_) => return Err(nonsense()),
            }
        }
    }
    if frames.at < frames.len || !is_whole {
        return Err(WalError::damaged(
            path,
            frames.at,
            "the snapshot is not whole",
        ));
    }
    Ok(count)
}

/// The frames of a file, one after the other.
struct Frames {
    path: PathBuf,
    reader: BufReader<Box<dyn Read + Send>>,
    header: Vec<u8>,
    len: u64,
    /// Where the last frame began.
    before: u64,
    /// Where the next frame begins.
    at: u64,
    /// Bytes read beyond `at`, when they were not a frame.
    rest: Vec<u8>,
}

impl Frames {
    fn open(medium: &dyn Medium, path: &Path) -> Result<Self, WalError> {
        let (file, len) = match medium.read(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(WalError::Missing {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(WalError::io("open", path)(error)),
        };
        let mut frames = Frames {
            path: path.to_owned(),
            reader: BufReader::with_capacity(1 << 20, file),
            header: Vec::new(),
            len,
            before: 0,
            at: FILE_HEADER_BYTES as u64,
            rest: Vec::new(),
        };
        let mut header = Vec::new();
        frames.read(FILE_HEADER_BYTES, &mut header)?;
        frames.header = header;
        Ok(frames)
    }

    /// Appends up to `count` bytes to `out`: fewer only at the end of the file.
    fn read(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), WalError> {
        let read = (&mut self.reader).take(count as u64).read_to_end(out);
        read.map(drop).map_err(WalError::io("read", &self.path))
    }

    /// The next frame, if it is whole and has the sequence it should have.
    fn next(&mut self, sequence: u64) -> Result<Option<Frame>, WalError> {
        let mut bytes = Vec::new();
        self.read(FRAME_HEADER_BYTES, &mut bytes)?;
        let left = self.len.saturating_sub(self.at);
        let len = frame_len(&bytes).filter(|len| *len as u64 <= left);
        if bytes.len() == FRAME_HEADER_BYTES
            && let Some(len) = len
        {
            self.read(len - FRAME_HEADER_BYTES, &mut bytes)?;
        }
        let frame = parse(&bytes).filter(|frame| frame.sequence == sequence);
        match frame {
            Some(_) => {
                self.before = self.at;
                self.at += bytes.len() as u64;
            }
            None => self.rest = bytes,
        }
        Ok(frame)
    }

    /// After `next` found no frame: what is there instead.
    fn rest(&mut self, sequence: u64) -> Result<Rest, WalError> {
        let mut rest = std::mem::take(&mut self.rest);
        let read = self.reader.read_to_end(&mut rest);
        read.map_err(WalError::io("read", &self.path))?;
        // Room that was made ahead is all zeros, and no frame begins with zeros.
        let used = rest.iter().rposition(|byte| *byte != 0);
        let used = used.map_or(0, |last| last + 1);
        Ok(Rest {
            torn_bytes: used as u64,
            proves_synced: proves_synced(&rest, self.at, sequence),
        })
    }
}

/// What follows the last good frame of a file.
struct Rest {
    /// Up to the last byte that is not zero.
    torn_bytes: u64,
    /// Something in it proves that a frame had been on the medium where none is now.
    proves_synced: bool,
}
