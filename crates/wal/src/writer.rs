//! Appends frames to the current segment and knows how much of it is on the medium.
//!
//! Room is made ahead, in steps: a sync then has only data to carry, and a full medium says so before anything is
//! written. Knows no store.

use crate::codec::{Item, encode, encode_record};
use crate::error::WalError;
use crate::files::{
    FILE_HEADER_BYTES, Kind, header, remove, rename, reserve_path, segment_path, sync_dir,
    unfinished,
};
use crate::frame::{FRAME_BYTES_TARGET, begin, finish};
use crate::medium::{Medium, MediumFile};
use kv::LogRecord;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Writer {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    path: PathBuf,
    file: Box<dyn MediumFile>,
    /// Number of the current segment.
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    /// Bytes in the current segment.
    pub(crate) len: u64,
    /// How many of them are on the medium.
    synced: u64,
    /// Bytes the current segment has room for.
    room: u64,
    /// How much room is made at a time.
    step: u64,
    buffer: Vec<u8>,
}

/// A segment with its header and room, under a name that is none yet.
struct Fresh {
    path: PathBuf,
    file: Box<dyn MediumFile>,
    room: u64,
}

impl Writer {
    /// Starts the first segment of a run. Without room for it, the reserve becomes it.
    pub(crate) fn create(
        medium: Arc<dyn Medium>,
        dir: &Path,
        segment: u64,
        sequence: u64,
        step: u64,
    ) -> Result<(Self, bool), WalError> {
        let (fresh, used_reserve) = match prepare(&*medium, dir, segment, sequence, step) {
            Err(error) if error.is_no_room() => {
                let reserve = take_reserve(&*medium, dir, segment, sequence)?;
                (reserve.ok_or(error)?, true)
            }
            fresh => (fresh?, false),
        };
        let path = segment_path(dir, segment);
        rename(&*medium, &fresh.path, &path)?;
        sync_dir(&*medium, dir)?;
        let len = FILE_HEADER_BYTES as u64;
        let writer = Writer {
            medium,
            dir: dir.to_owned(),
            path,
            file: fresh.file,
            segment,
            sequence,
            len,
            synced: len,
            room: fresh.room,
            step,
            buffer: Vec::new(),
        };
        Ok((writer, used_reserve))
    }

    /// Writes records and items; they are with the operating system when this returns. Refused for lack of room, it has
    /// done nothing, and may be tried again.
    pub(crate) fn append(&mut self, records: &[LogRecord], items: &[Item]) -> Result<(), WalError> {
        let before = self.sequence;
        let written = self.try_append(records, items);
        if written.is_err() {
            self.sequence = before;
        }
        // One burst must not keep its memory for ever.
        self.buffer.shrink_to(4 * FRAME_BYTES_TARGET);
        written
    }

    fn try_append(&mut self, records: &[LogRecord], items: &[Item]) -> Result<(), WalError> {
        self.buffer.clear();
        let mut start = begin(&mut self.buffer);
        for record in records {
            if self.buffer.len() - start >= FRAME_BYTES_TARGET {
                start = self.next_frame(start);
            }
            encode_record(record, &mut self.buffer);
        }
        for item in items {
            encode(item, &mut self.buffer);
        }
        finish(&mut self.buffer, start, self.sequence, self.synced);
        self.sequence += 1;
        let end = self.len + self.buffer.len() as u64;
        if end > self.room {
            self.make_room(end)?;
        }
        let written = self.file.write_all_at(&self.buffer, self.len);
        written.map_err(WalError::io("write", &self.path))?;
        self.len = end;
        Ok(())
    }

    fn next_frame(&mut self, start: usize) -> usize {
        finish(&mut self.buffer, start, self.sequence, self.synced);
        self.sequence += 1;
        begin(&mut self.buffer)
    }

    fn make_room(&mut self, end: u64) -> Result<(), WalError> {
        let room = end.next_multiple_of(self.step.max(1));
        let made = self.file.allocate(room);
        made.map_err(WalError::io("make room in", &self.path))?;
        self.room = room;
        Ok(())
    }

    /// Sees to it that there is room for a step.
    pub(crate) fn make_step(&mut self) -> Result<(), WalError> {
        if self.room - self.len < self.step {
            self.make_room(self.len + self.step)?;
        }
        Ok(())
    }

    /// Everything written so far is on the medium when this returns. Once it has failed it must not be asked again:
    /// what was lost would not be missed. False when there was nothing to do.
    pub(crate) fn sync(&mut self) -> Result<bool, WalError> {
        if self.synced == self.len {
            return Ok(false);
        }
        let synced = self.file.sync_data();
        synced.map_err(WalError::io("sync", &self.path))?;
        self.synced = self.len;
        Ok(true)
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.len
    }

    /// Closes the segment and starts the next. Refused for lack of room, it has done nothing.
    pub(crate) fn rotate(&mut self) -> Result<(), WalError> {
        let fresh = prepare(
            &*self.medium,
            &self.dir,
            self.segment + 1,
            self.sequence,
            self.step,
        )?;
        self.go_on_in(fresh)
    }

    /// Closes the segment and goes on in the reserve; false when there is none.
    pub(crate) fn rotate_into_reserve(&mut self) -> Result<bool, WalError> {
        let reserve = take_reserve(&*self.medium, &self.dir, self.segment + 1, self.sequence)?;
        reserve.map_or(Ok(false), |reserve| self.go_on_in(reserve).map(|()| true))
    }

    fn go_on_in(&mut self, fresh: Fresh) -> Result<(), WalError> {
        self.finish()?;
        self.segment += 1;
        self.path = segment_path(&self.dir, self.segment);
        rename(&*self.medium, &fresh.path, &self.path)?;
        sync_dir(&*self.medium, &self.dir)?;
        self.file = fresh.file;
        self.room = fresh.room;
        self.len = FILE_HEADER_BYTES as u64;
        self.synced = self.len;
        Ok(())
    }

    /// The segment is whole: what was written of an attempt that failed, and room that is not needed, go.
    pub(crate) fn finish(&mut self) -> Result<(), WalError> {
        let path = &self.path;
        let cut = self.file.set_len(self.len);
        cut.map_err(WalError::io("cut", path))?;
        self.file.sync_all().map_err(WalError::io("sync", path))?;
        self.synced = self.len;
        self.room = self.len;
        Ok(())
    }

    /// Gives back what room there is beyond `bytes` from here on.
    pub(crate) fn give_back_beyond(&mut self, bytes: u64) -> Result<(), WalError> {
        let room = self.len.saturating_add(bytes);
        if room < self.room {
            let cut = self.file.set_len(room);
            cut.map_err(WalError::io("cut", &self.path))?;
            self.room = room;
        }
        Ok(())
    }
}

/// A segment's header and room, under another name: on the medium before it can be found.
fn prepare(
    medium: &dyn Medium,
    dir: &Path,
    segment: u64,
    sequence: u64,
    step: u64,
) -> Result<Fresh, WalError> {
    let path = unfinished(&segment_path(dir, segment));
    let room = step.max(FILE_HEADER_BYTES as u64);
    let file = medium.create(&path).and_then(|mut file| {
        file.allocate(room)?;
        file.write_all_at(&header(Kind::Segment, segment, sequence), 0)?;
        file.sync_all()?;
        Ok(file)
    });
    match file {
        Ok(file) => Ok(Fresh { path, file, room }),
        Err(error) => {
            remove(medium, &path)?;
            Err(WalError::io("create", &path)(error))
        }
    }
}

/// The reserve, as the segment it is to be.
fn take_reserve(
    medium: &dyn Medium,
    dir: &Path,
    segment: u64,
    sequence: u64,
) -> Result<Option<Fresh>, WalError> {
    let path = reserve_path(dir);
    let Ok((_, room)) = medium.read(&path) else {
        return Ok(None);
    };
    if room < FILE_HEADER_BYTES as u64 {
        return Ok(None);
    }
    let file = medium.open(&path).and_then(|mut file| {
        file.write_all_at(&header(Kind::Segment, segment, sequence), 0)?;
        file.sync_all()?;
        Ok(file)
    });
    let file = file.map_err(WalError::io("use", &path))?;
    Ok(Some(Fresh { path, file, room }))
}

/// Makes the reserve, if it is not there. Refused for lack of room, it leaves nothing behind.
pub(crate) fn make_reserve(medium: &dyn Medium, dir: &Path, bytes: u64) -> Result<(), WalError> {
    let path = reserve_path(dir);
    if medium.read(&path).is_ok_and(|(_, len)| len == bytes) {
        return Ok(());
    }
    remove(medium, &path)?;
    let draft = unfinished(&path);
    let made = medium.create(&draft).and_then(|mut file| {
        file.allocate(bytes)?;
        file.sync_all()
    });
    if let Err(error) = made {
        remove(medium, &draft)?;
        return Err(WalError::io("make room in", &draft)(error));
    }
    rename(medium, &draft, &path)?;
    sync_dir(medium, dir)
}
