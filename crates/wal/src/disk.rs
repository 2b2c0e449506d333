//! A data directory in use: opening it, and the thread that carries the store's log to it.

use crate::codec::Item;
use crate::error::WalError;
use crate::files::{
    Kind, Listing, check_format, finish_format, list, lock, remove, reserve_path, segment_path,
    shutdown_path, snapshot_path, sync_dir, unfinished,
};
use crate::medium::{Medium, SystemFiles};
use crate::recover::{Recovered, Resume, recover};
use crate::snapshot::{Draft, publish, write_draft};
use crate::timings::Timings;
use crate::writer::{Writer, make_reserve};
use kv::{Durability, LogRecord, Revision};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use store::{SnapshotScope, Store};

/// How a data directory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment is closed when it has grown to this.
    pub segment_bytes: u64,
    /// A snapshot is taken when the log since the last one has grown to this, and to the size of
    /// that snapshot: so the log costs at most as much again as the state.
    pub snapshot_log_bytes: u64,
    /// Revisions put on record ahead: at 1 M writes a second, 10 s of the log being stuck.
    pub reserve_revisions: i64,
    /// Room for the log is made so much at a time.
    pub allocate_bytes: u64,
    /// Room kept for a full disk: deletes, ends of leases and compactions go on in half of it, the other half is for a
    /// snapshot. 0 for none.
    pub reserve_bytes: u64,
    /// How often a full disk is looked at again.
    pub probe_interval: Duration,
    /// Writes of class `Buffered` reach the medium after this at the latest.
    pub sync_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            snapshot_log_bytes: 256 << 20,
            reserve_revisions: 10_000_000,
            allocate_bytes: 4 << 20,
            reserve_bytes: 64 << 20,
            probe_interval: Duration::from_secs(1),
            sync_interval: Duration::from_secs(1),
        }
    }
}

/// Revisions kept back from the stretch on record: writers that pass the check at the same moment
/// may exceed it by one each.
const RESERVE_MARGIN: i64 = 4096;

/// How long the thread sleeps when nobody wakes it.
const IDLE: Duration = Duration::from_millis(50);

/// After a snapshot failed, the next one waits for so many probe intervals.
const SNAPSHOT_PAUSE_PROBES: u32 = 10;

const RUN: u8 = 0;
const CLOSE: u8 = 1;
const ABANDON: u8 = 2;

/// An open data directory.
#[derive(Debug)]
pub struct Disk {
    recovered: Recovered,
    timings: Arc<Timings>,
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<(), WalError>>>,
}

#[derive(Debug)]
struct Control {
    order: AtomicU8,
    snapshots_asked: AtomicU64,
    snapshots_done: AtomicU64,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Disk {
    /// Opens `dir`, making it if need be, recovers what it holds into `store`, which must be new and
    /// have a log, and starts writing.
    pub fn open(dir: &Path, store: Arc<Store>, options: Options) -> Result<Disk, WalError> {
        Disk::open_on(Arc::new(SystemFiles), dir, store, options)
    }

    /// The same on another medium.
    pub fn open_on(
        medium: Arc<dyn Medium>,
        dir: &Path,
        store: Arc<Store>,
        options: Options,
    ) -> Result<Disk, WalError> {
        let created = medium.create_dir(dir);
        created.map_err(WalError::io("create", dir))?;
        let lock = lock(&*medium, dir)?;
        let new = check_format(&*medium, dir)?;
        let listing = list(&*medium, dir)?;
        if !new && listing.segments.is_empty() && listing.snapshots.is_empty() {
            // A directory with a format and nothing else has lost its log: to begin anew would hide that.
            return Err(WalError::Missing {
                path: dir.join("log-*.seg"),
            });
        }
        let resume = recover(&*medium, dir, &listing, &store)?;
        // Everything was understood: from here on the directory may be changed.
        tidy(&*medium, dir, &listing, &resume)?;
        let recovered = resume.recovered.clone();
        let base = recovered.revision;
        let (mut writer, used_reserve) = Writer::create(
            medium.clone(),
            dir,
            resume.next_segment,
            resume.next_sequence,
            options.allocate_bytes,
        )?;
        let reserved = Revision(base.0.saturating_add(options.reserve_revisions));
        writer.append(&[], &[Item::Reserve(reserved)])?;
        writer.sync()?;
        if new {
            finish_format(&*medium, dir)?;
        }
        // Only now: before, a crash would have found the clean end again, without its collections.
        remove(&*medium, &shutdown_path(dir))?;
        sync_dir(&*medium, dir)?;
        store.reserve(Revision(reserved.0 - RESERVE_MARGIN));
        let control = Arc::new(Control {
            order: AtomicU8::new(RUN),
            // What memory collections had kept may belong to logged ones now.
            snapshots_asked: AtomicU64::new(u64::from(recovered.memory_items > 0)),
            snapshots_done: AtomicU64::new(0),
        });
        if used_reserve {
            writer.give_back_beyond(options.reserve_bytes / 2)?;
        }
        let mut full = used_reserve;
        if !full && options.reserve_bytes > 0 {
            match make_reserve(&*medium, dir, options.reserve_bytes) {
                Err(error) if error.is_no_room() => full = true,
                made => made?,
            }
        }
        store.set_full(full);
        let (drafts_in, drafts) = mpsc::sync_channel(1);
        let timings = Arc::<Timings>::default();
        let mut logger = Logger {
            medium,
            dir: dir.to_owned(),
            _lock: lock,
            store: store.clone(),
            options,
            control: control.clone(),
            timings: timings.clone(),
            writer,
            reserved,
            records: Vec::new(),
            newest: Revision(0),
            dirty_since: None,
            log_bytes: 0,
            last_snapshot_bytes: 0,
            snapshotting: None,
            left_history: false,
            snapshot_not_before: None,
            is_full: full,
            is_stuck: false,
            probe_at: Instant::now(),
            drafts_in,
            drafts,
        };
        let builder = std::thread::Builder::new().name("wal".to_owned());
        let spawned = builder.spawn(move || logger.run());
        let thread = spawned.map_err(WalError::io("start a thread for", dir))?;
        store.set_log_waker(Waker::from(Arc::new(Unpark(thread.thread().clone()))));
        thread.thread().unpark();
        Ok(Disk {
            recovered,
            timings,
            control,
            thread: Some(thread),
        })
    }

    /// What was found when it was opened.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// How long the medium takes.
    #[must_use]
    pub fn timings(&self) -> &Arc<Timings> {
        &self.timings
    }

    /// Asks for a snapshot now.
    pub fn snapshot_soon(&self) {
        self.control.snapshots_asked.fetch_add(1, Ordering::AcqRel);
        self.unpark();
    }

    /// How many snapshots were completed since the directory was opened.
    #[must_use]
    pub fn snapshots_done(&self) -> u64 {
        self.control.snapshots_done.load(Ordering::Acquire)
    }

    /// Ends cleanly: refuses further writes, writes what there is, keeps the memory collections.
    pub fn close(mut self) -> Result<(), WalError> {
        self.end(CLOSE)
    }

    fn end(&mut self, order: u8) -> Result<(), WalError> {
        self.control.order.store(order, Ordering::Release);
        self.unpark();
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(WalError::Stopped("its thread panicked".to_owned())),
        }
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Disk {
    /// Without [`Disk::close`]: what was logged is written, memory collections are lost.
    fn drop(&mut self) {
        if self.thread.is_some() {
            // The reason, if any, is with the store.
            let _ = self.end(ABANDON);
        }
    }
}

/// Cuts a torn tail off, and removes what the newest snapshot has made superfluous.
fn tidy(
    medium: &dyn Medium,
    dir: &Path,
    listing: &Listing,
    resume: &Resume,
) -> Result<(), WalError> {
    match &resume.cut {
        Some((path, Some(len))) => {
            let cut = medium.open(path).and_then(|mut file| {
                file.set_len(*len)?;
                file.sync_all()
            });
            cut.map_err(WalError::io("cut", path))?;
        }
        Some((path, None)) => remove(medium, path)?,
        None => {}
    }
    for path in &listing.unfinished {
        remove(medium, path)?;
    }
    remove_before(medium, dir, listing, resume.first_segment)?;
    sync_dir(medium, dir)
}

fn remove_before(
    medium: &dyn Medium,
    dir: &Path,
    listing: &Listing,
    first: u64,
) -> Result<(), WalError> {
    for number in listing.snapshots.iter().filter(|number| **number < first) {
        remove(medium, &snapshot_path(dir, *number))?;
    }
    for number in listing.segments.iter().filter(|number| **number < first) {
        remove(medium, &segment_path(dir, *number))?;
    }
    Ok(())
}

/// The thread's own.
struct Logger {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    /// Held until the thread ends.
    _lock: Box<dyn Debug + Send>,
    store: Arc<Store>,
    options: Options,
    control: Arc<Control>,
    timings: Arc<Timings>,
    writer: Writer,
    reserved: Revision,
    records: Vec<LogRecord>,
    /// The newest revision written.
    newest: Revision,
    /// Since when something written waits for the medium.
    dirty_since: Option<Instant>,
    /// Log written since the last snapshot began.
    log_bytes: u64,
    last_snapshot_bytes: u64,
    /// The first segment the snapshot being written needs.
    snapshotting: Option<u64>,
    /// The last snapshot had no room for the history: another one will be asked for.
    left_history: bool,
    /// The last snapshot failed: the next one waits.
    snapshot_not_before: Option<Instant>,
    /// There is no room: the store refuses growth.
    is_full: bool,
    /// Not even the reserve has room: `records` wait, unanswered.
    is_stuck: bool,
    probe_at: Instant,
    drafts_in: mpsc::SyncSender<Result<Draft, WalError>>,
    drafts: mpsc::Receiver<Result<Draft, WalError>>,
}

impl Logger {
    fn run(&mut self) -> Result<(), WalError> {
        let result = self.work();
        if let Err(error) = &result {
            // Whoever waits for a watermark waits for ever: better than an answer that is a lie.
            self.store.fail_log(error.to_string());
        }
        result
    }

    fn work(&mut self) -> Result<(), WalError> {
        loop {
            let order = self.control.order.load(Ordering::Acquire);
            let draft = self.drafts.try_recv().ok();
            let wrote = self.write(draft.is_some())?;
            if let Some(draft) = draft {
                self.conclude(draft)?;
            }
            if order != RUN && self.snapshotting.is_none() {
                self.write(true)?;
                return if order == CLOSE {
                    self.close()
                } else {
                    self.abandon()
                };
            }
            if self.writer.len >= self.options.segment_bytes && !self.is_full {
                self.rotate()?;
            }
            self.maybe_snapshot()?;
            if self.is_full && !self.is_stuck && Instant::now() >= self.probe_at {
                self.probe()?;
            }
            if !wrote {
                std::thread::park_timeout(IDLE);
            }
        }
    }

    /// One group: everything that has arrived, one write, one sync if a class asks for it.
    fn write(&mut self, must_sync: bool) -> Result<bool, WalError> {
        let begun = Instant::now();
        if self.is_stuck {
            // The whole group is made again with every try.
            if Instant::now() < self.probe_at {
                return Ok(false);
            }
            self.probe_at = Instant::now() + self.options.probe_interval;
        } else {
            self.records.clear();
            self.store.drain_log(&mut self.records);
        }
        let mut items = Vec::new();
        let applied = self.store.applied();
        let mut reserved = self.reserved;
        if reserved.0 - applied.0 < self.options.reserve_revisions / 2 + RESERVE_MARGIN {
            reserved = Revision(applied.0.saturating_add(self.options.reserve_revisions));
            items.push(Item::Reserve(reserved));
        }
        let wrote = !self.records.is_empty() || !items.is_empty();
        if wrote {
            let before = self.writer.len;
            let segment = self.writer.segment;
            self.is_stuck = !self.append(&items)?;
            if self.is_stuck {
                return Ok(false);
            }
            let before = if segment == self.writer.segment {
                before
            } else {
                0
            };
            let written = self.writer.len - before;
            self.log_bytes += written;
            self.timings
                .written_bytes
                .fetch_add(written, Ordering::Relaxed);
            self.dirty_since.get_or_insert_with(Instant::now);
            let newest = self.records.iter().map(|record| record.revision).max();
            self.newest = self.newest.max(newest.unwrap_or_default());
            if self
                .records
                .iter()
                .any(|record| record.durability == Durability::Buffered)
            {
                self.store.set_written(self.newest);
            }
        }
        let asks = |record: &LogRecord| record.durability == Durability::Fsync;
        let is_late = self
            .dirty_since
            .is_some_and(|since| since.elapsed() >= self.options.sync_interval);
        if must_sync || is_late || !items.is_empty() || self.records.iter().any(asks) {
            let written = Instant::now();
            if self.writer.sync()? {
                self.timings.syncs.add(written.elapsed());
                self.timings.groups.add(begun.elapsed());
            }
            self.dirty_since = None;
            self.store.set_durable(self.newest);
        }
        if reserved > self.reserved {
            self.reserved = reserved;
            self.store.reserve(Revision(reserved.0 - RESERVE_MARGIN));
        }
        // One burst must not keep its memory for ever.
        self.records.shrink_to(1 << 16);
        Ok(wrote)
    }

    /// Writes what was drained. False when there is no room for it.
    fn append(&mut self, items: &[Item]) -> Result<bool, WalError> {
        match self.writer.append(&self.records, items) {
            Err(error) if error.is_no_room() => {}
            appended => return appended.map(|()| true),
        }
        self.note_full();
        // Nothing was acknowledged of it: it may be written elsewhere.
        if !self.writer.rotate_into_reserve()? {
            return Ok(false);
        }
        // Every segment knows the stretch: the one that said so first may be gone one day.
        let with_stretch = [items, &[Item::Reserve(self.reserved)]].concat();
        match self.writer.append(&self.records, &with_stretch) {
            Err(error) if error.is_no_room() => return Ok(false),
            appended => appended?,
        }
        // What is left of the reserve: one half for what is still to come, one for a snapshot.
        self.writer
            .give_back_beyond(self.options.reserve_bytes / 2)?;
        Ok(true)
    }

    fn note_full(&mut self) {
        if !self.is_full {
            self.probe_at = Instant::now() + self.options.probe_interval;
        }
        self.is_full = true;
        self.store.set_full(true);
    }

    /// Looks whether there is room again: for the log, and for a reserve.
    fn probe(&mut self) -> Result<(), WalError> {
        self.probe_at = Instant::now() + self.options.probe_interval;
        let mut made = self.writer.make_step();
        if made.is_ok() && self.options.reserve_bytes > 0 {
            made = make_reserve(&*self.medium, &self.dir, self.options.reserve_bytes);
        }
        match made {
            Err(error) if error.is_no_room() => return Ok(()),
            made => made?,
        }
        self.is_full = false;
        self.store.set_full(false);
        if self.left_history {
            self.control.snapshots_asked.fetch_max(1, Ordering::AcqRel);
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), WalError> {
        match self.writer.rotate() {
            Err(error) if error.is_no_room() => {
                self.note_full();
                return Ok(());
            }
            rotated => rotated?,
        }
        self.dirty_since = None;
        self.store.set_durable(self.newest);
        // So that it is known without the segments before.
        self.writer.append(&[], &[Item::Reserve(self.reserved)])
    }

    /// Starts a snapshot on a thread of its own: the log goes on meanwhile.
    fn maybe_snapshot(&mut self) -> Result<(), WalError> {
        let asked = self.control.snapshots_asked.load(Ordering::Acquire) > 0;
        let due = self.log_bytes
            >= self
                .options
                .snapshot_log_bytes
                .max(self.last_snapshot_bytes);
        // On a full disk a snapshot is what gives room, once enough was deleted.
        let wanted = asked || due || self.is_full;
        let waits = self
            .snapshot_not_before
            .is_some_and(|time| Instant::now() < time);
        if self.snapshotting.is_some() || self.is_stuck || waits || !wanted {
            return Ok(());
        }
        if !self.is_full {
            // What was drained before is in older segments, and applied: the pages will show it.
            self.rotate()?;
        }
        // Without room for another segment this one stays; replayed over the pages, it changes nothing.
        self.control.snapshots_asked.store(0, Ordering::Release);
        self.log_bytes = 0;
        let number = self.writer.segment;
        let path = snapshot_path(&self.dir, number);
        let (store, drafts) = (self.store.clone(), self.drafts_in.clone());
        let medium = self.medium.clone();
        let me = std::thread::current();
        let scope = if self.is_full {
            SnapshotScope::LoggedPresent
        } else {
            SnapshotScope::Logged
        };
        self.left_history = self.is_full;
        let builder = std::thread::Builder::new().name("wal-snapshot".to_owned());
        let timings = self.timings.clone();
        let spawned = builder.spawn(move || {
            let begun = Instant::now();
            let draft = write_draft(&*medium, &store, scope, &path, Kind::Snapshot, number);
            if draft.is_ok() {
                timings.snapshots.add(begun.elapsed());
            }
            // The logger is gone only when nobody needs the draft any more.
            let _ = drafts.send(draft);
            me.unpark();
        });
        if spawned.is_ok() {
            self.snapshotting = Some(number);
        }
        Ok(())
    }

    /// A draft is finished, and the log beside it is on the medium: it may count, and what is older
    /// may go. A failed one changes nothing: the log is still whole.
    fn conclude(&mut self, draft: Result<Draft, WalError>) -> Result<(), WalError> {
        let Some(number) = self.snapshotting.take() else {
            return Ok(());
        };
        let draft = match draft {
            Ok(draft) if !self.is_stuck => draft,
            _ => {
                let pause = self.options.probe_interval * SNAPSHOT_PAUSE_PROBES;
                self.snapshot_not_before = Some(Instant::now() + pause);
                self.control.snapshots_asked.fetch_max(1, Ordering::AcqRel);
                return remove(
                    &*self.medium,
                    &unfinished(&snapshot_path(&self.dir, number)),
                );
            }
        };
        self.snapshot_not_before = None;
        if self.is_full {
            // One after the other would be of no use.
            let pause = self.options.probe_interval * SNAPSHOT_PAUSE_PROBES;
            self.snapshot_not_before = Some(Instant::now() + pause);
        }
        debug_assert!(self.writer.is_synced());
        debug_assert!(draft.end <= self.store.applied());
        publish(&*self.medium, &self.dir, &snapshot_path(&self.dir, number))?;
        self.last_snapshot_bytes = draft.bytes;
        let listing = list(&*self.medium, &self.dir)?;
        remove_before(&*self.medium, &self.dir, &listing, number)?;
        self.control.snapshots_done.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn close(&mut self) -> Result<(), WalError> {
        self.store.fail_log("the store was shut down");
        // Every collection is locked once while this is written: nobody is inside a write after it.
        let number = self.store.applied();
        self.keep_memory(number)?;
        self.write(true)?;
        if self.is_stuck {
            let text = "the disk is full, and what was written last was never acknowledged";
            return Err(WalError::Stopped(text.to_owned()));
        }
        let end = self.store.applied();
        if end != number {
            // A writer was still inside when we began: once more, now that nobody can be.
            self.keep_memory(end)?;
        }
        publish(&*self.medium, &self.dir, &shutdown_path(&self.dir))?;
        self.writer.append(&[], &[Item::Clean(end)])?;
        self.writer.finish()
    }

    /// Writes what is kept of memory collections. On a full disk the reserve makes room: the next start makes it again.
    fn keep_memory(&self, number: Revision) -> Result<(), WalError> {
        let (path, number) = (shutdown_path(&self.dir), number.0.cast_unsigned());
        let (scope, kind) = (SnapshotScope::Memory, Kind::Shutdown);
        let write = || write_draft(&*self.medium, &self.store, scope, &path, kind, number);
        match write() {
            Err(error) if error.is_no_room() => {
                remove(&*self.medium, &reserve_path(&self.dir))?;
                write().map(drop)
            }
            written => written.map(drop),
        }
    }

    fn abandon(&mut self) -> Result<(), WalError> {
        self.writer.finish()
    }
}
