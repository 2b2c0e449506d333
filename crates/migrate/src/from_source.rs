//! A data directory from a running etcd: a snapshot, then every change after it, until told to stop.
//!
//! ```text
//!   snapshot at S ─► all kept versions ─► watch of everything from S + 1 ─► … R ─► leases ─► clean end at R
//!                                                                           └─► checksum at R, theirs and ours
//! ```
//!
//! Nothing is missed: the watch begins where the snapshot ends, and is refused if that is compacted meanwhile.

use crate::error::MoveError;
use crate::from_file::{Imported, copy_keys, finish};
use crate::limits::{QUIET, RECORDS_PER_APPEND};
use crate::records::{Records, lease_until};
use crate::source::{Source, SourceOptions, WatchAll};
use crate::to_file::open;
use crate::{Progress, from_file};
use bbolt::etcd::EtcdFile;
use bbolt::{BboltError, Database, Integrity, check_trailer};
use etcd_server::backend::hash_kv;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use kv::{KeyValue, LeaseId, LogRecord, Revision};
use std::fs::File;
use std::path::Path;
use wal::Seed;

/// When to stop following.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When everything is there that was there when the watch began.
    CaughtUp,
    /// When the caller says so; then everything that is there at that moment.
    Told,
    /// After this revision, or when the caller says so.
    Revision(i64),
}

/// How the copy compares with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Their checksums at the last revision are equal.
    Equal,
    /// The source could not say, and why.
    Unknown(String),
}

/// Makes the data directory `dir`, which must be empty or not exist, from a running etcd. `told` is ready when it is
/// time to stop.
pub async fn import_source(
    options: &SourceOptions,
    dir: &Path,
    until: Until,
    now_micros: impl Fn() -> i64,
    told: impl Future<Output = ()>,
    mut progress: impl FnMut(Progress),
) -> Result<(Imported, Compared), MoveError> {
    let mut source = Source::connect(options).await?;
    let mut seed = Seed::create(dir)?;
    // Gone with the next start, should it stay.
    let file = dir.join("source.tmp");
    source.save_snapshot(&file, &mut progress).await?;
    let mut records = Records::default();
    let mut imported = copy(&file, &mut records, &mut seed, &mut progress)?;
    std::fs::remove_file(&file).map_err(MoveError::io("remove", &file))?;
    if let Until::Revision(asked) = until
        && asked < imported.revision.0
    {
        return Err(MoveError::Passed {
            asked,
            revision: imported.revision.0,
        });
    }
    source.log_in().await?;
    let watch = source.watch(imported.revision.0.saturating_add(1)).await?;
    let mut following = Following {
        seen: imported.revision.0,
        last: imported.revision.0,
        next_sub: 0,
        versions: imported.versions,
        is_open: false,
        max: match until {
            Until::Revision(revision) => revision,
            Until::CaughtUp | Until::Told => i64::MAX,
        },
        records,
        seed: &mut seed,
    };
    let target = match until {
        Until::CaughtUp => Some(source.revision().await?),
        Until::Revision(revision) => Some(revision),
        Until::Told => None,
    };
    following
        .follow(&source, watch, target, told, &mut progress)
        .await?;
    imported.versions = following.versions;
    imported.revision = Revision(following.last);
    source.log_in().await?;
    progress(Progress::Comparing);
    let theirs = source.hash_kv(imported.revision.0).await;
    if let Ok(theirs) = &theirs {
        let theirs = Some(Revision(theirs.compact_revision)).filter(|revision| revision.0 > 0);
        // What the source has given up meanwhile, this gives up too: else the two would not compare.
        imported.compacted = imported
            .compacted
            .max(theirs.filter(|revision| *revision <= imported.revision));
    }
    let leases = source.leases().await?;
    imported.leases = leases.len() as u64;
    let now = now_micros();
    let leases: Vec<LogRecord> = leases
        .into_iter()
        .map(|(id, granted, left)| lease_until(LeaseId(id), granted, left, now))
        .collect();
    for page in leases.chunks(RECORDS_PER_APPEND) {
        seed.append(page)?;
    }
    finish(seed, &mut imported)?;
    let compared = match theirs {
        Ok(theirs) => compare(dir, &imported, &theirs)?,
        Err(error) => Compared::Unknown(error.to_string()),
    };
    Ok((imported, compared))
}

/// Copies what a snapshot holds, but not its leases: those of the end count.
fn copy(
    file: &Path,
    records: &mut Records,
    seed: &mut Seed,
    progress: &mut impl FnMut(Progress),
) -> Result<from_file::Imported, MoveError> {
    let wrong = MoveError::file(file);
    let saved = File::open(file).map_err(MoveError::io("open", file))?;
    let (trailed, integrity) = check_trailer(saved, false, |_| {}).map_err(&wrong)?;
    if integrity != Integrity::Checked {
        return Err(wrong(BboltError::NoSha256));
    }
    let etcd = Database::open(trailed)
        .and_then(EtcdFile::new)
        .map_err(&wrong)?;
    copy_keys(&etcd, records, seed, file, progress)
}

/// Opens what was made, and compares its checksum with the source's.
fn compare(
    dir: &Path,
    imported: &Imported,
    theirs: &pb::HashKvResponse,
) -> Result<Compared, MoveError> {
    let (store, disk) = open(dir)?;
    let ours = hash_kv(&store, imported.revision, |_| true);
    disk.close()?;
    let ours = ours?;
    if ours.hash == theirs.hash {
        Ok(Compared::Equal)
    } else {
        Err(MoveError::Different {
            revision: imported.revision.0,
            ours: ours.hash,
            theirs: theirs.hash,
        })
    }
}

/// Carries a watch's events to the log.
struct Following<'a> {
    /// Everything up to here has been told.
    seen: i64,
    /// The newest revision that is in the log.
    last: i64,
    /// The place of the next change in that revision.
    next_sub: u32,
    versions: u64,
    /// An answer came in pieces, and the last one is not there yet.
    is_open: bool,
    /// Later ones are left out.
    max: i64,
    records: Records,
    seed: &'a mut Seed,
}

impl Following<'_> {
    async fn follow(
        &mut self,
        source: &Source,
        mut watch: WatchAll,
        mut target: Option<i64>,
        told: impl Future<Output = ()>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), MoveError> {
        tokio::pin!(told);
        let mut was_told = false;
        loop {
            if !self.is_open && target.is_some_and(|target| self.seen >= target) {
                // Revisions that a crash of the source skipped have no changes.
                self.last = self.last.max(target.unwrap_or_default());
                return Ok(());
            }
            tokio::select! {
                answer = watch.answers.message() => {
                    let answer = answer.map_err(|status| MoveError::WatchEnded(status.message().to_owned()))?;
                    let answer = answer.ok_or_else(|| MoveError::WatchEnded("the source closed it".to_owned()))?;
                    self.take(answer)?;
                    progress(Progress::Following { versions: self.versions, revision: self.seen, target });
                }
                () = &mut told, if !was_told => {
                    was_told = true;
                    let now = source.revision().await?;
                    target = Some(target.map_or(now, |target| target.min(now)));
                }
                // Nothing came for a while: revisions without changes are told only to who asks.
                () = tokio::time::sleep(QUIET) => watch.ask_progress(),
            }
        }
    }

    fn take(&mut self, answer: pb::WatchResponse) -> Result<(), MoveError> {
        if answer.compact_revision > 0 {
            return Err(MoveError::Overtaken {
                revision: self.seen,
                compacted: answer.compact_revision,
            });
        }
        if answer.canceled {
            return Err(MoveError::WatchEnded(answer.cancel_reason));
        }
        let mut page = Vec::with_capacity(answer.events.len());
        let has_events = !answer.events.is_empty();
        for event in answer.events {
            page.extend(self.record(event));
        }
        self.seed.append(&page)?;
        self.versions += page.len() as u64;
        self.is_open = answer.fragment;
        if !has_events && !answer.created {
            let revision = answer.header.unwrap_or_default().revision;
            self.seen = self.seen.max(revision);
        }
        Ok(())
    }

    fn record(&mut self, event: mvccpb::Event) -> Option<LogRecord> {
        let kv = event.kv?;
        let revision = kv.mod_revision;
        self.seen = self.seen.max(revision);
        if revision > self.max {
            return None;
        }
        if revision != self.last {
            self.last = revision;
            self.next_sub = 0;
        }
        let sub = self.next_sub;
        self.next_sub += 1;
        Some(if event.r#type == mvccpb::event::EventType::Delete as i32 {
            self.records.deletion(&kv.key, Revision(revision), sub)
        } else {
            let kv = KeyValue {
                key: kv.key,
                value: kv.value,
                create_revision: Revision(kv.create_revision),
                mod_revision: Revision(revision),
                version: kv.version,
                lease: LeaseId(kv.lease),
            };
            self.records.put(kv, sub)
        })
    }
}
