//! A data directory from a file of etcd: a saved snapshot, or `member/snap/db` of a member that was stopped.
//!
//! Knows in which order things are written: compaction last, so that the log's reader has seen all of what it thins
//! out, then the clean end.

use crate::error::MoveError;
use crate::limits::{BUMP_REVISIONS_MAX, BYTES_PER_APPEND, RECORDS_PER_APPEND};
use crate::records::{Records, compaction, lease, setting};
use crate::{Progress, limits};
use bbolt::etcd::{AUTH, AUTH_ROLES, AUTH_USERS, EtcdFile};
use bbolt::{BboltError, Database, Integrity, ReadAt, check_trailer};
use etcd_server::backend::{
    AUTH_ENABLED, AUTH_ENABLED_SETTING, AUTH_REVISION, AUTH_REVISION_SETTING, AUTH_ROLE_SETTINGS,
    AUTH_USER_SETTINGS,
};
use kv::{Change, LogRecord, Revision};
use std::fs::File;
use std::path::Path;
use wal::Seed;

/// What is made of the checksum behind a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashCheck {
    /// It must be there and right.
    Required,
    /// Where it is there, it must be right: a raw database has none.
    IfThere,
    /// It is not looked at.
    Skipped,
}

/// The store is to go on further ahead than the file: for clients that have seen later revisions than it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bump {
    /// By so many. All history is compacted, so that every watch and list begins anew.
    pub revisions: i64,
}

/// What was carried over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The store goes on after this revision.
    pub revision: Revision,
    /// Where its history begins; none when nothing was ever given up.
    pub compacted: Option<Revision>,
    /// Versions and deletions.
    pub versions: u64,
    /// Leases.
    pub leases: u64,
    /// Users.
    pub users: u64,
    /// Roles.
    pub roles: u64,
    /// Whether the file says that access rules are on.
    pub auth_enabled: bool,
    /// Bytes of log written.
    pub log_bytes: u64,
}

/// Makes the data directory `dir`, which must be empty or not exist, from the file.
pub fn import_file(
    file: &Path,
    dir: &Path,
    check: HashCheck,
    bump: Option<Bump>,
    now_micros: i64,
    mut progress: impl FnMut(Progress),
) -> Result<Imported, MoveError> {
    if let Some(Bump { revisions }) = bump
        && !(1..=BUMP_REVISIONS_MAX).contains(&revisions)
    {
        return Err(MoveError::Bump {
            asked: revisions,
            max: BUMP_REVISIONS_MAX,
        });
    }
    let wrong = MoveError::file(file);
    let source = File::open(file).map_err(MoveError::io("open", file))?;
    let total_bytes = source.bytes_len().map_err(MoveError::io("read", file))?;
    let skip = check == HashCheck::Skipped;
    let checked = check_trailer(source, skip, |done_bytes| {
        progress(Progress::Checking {
            done_bytes,
            total_bytes,
        });
    });
    let (trailed, integrity) = checked.map_err(&wrong)?;
    if integrity == Integrity::Absent && check == HashCheck::Required {
        return Err(wrong(BboltError::NoSha256));
    }
    // Everything that can be said against the file is said before the directory is touched, but for what only a walk
    // through all of it can find.
    let etcd = Database::open(trailed)
        .and_then(EtcdFile::new)
        .map_err(&wrong)?;
    let leases = etcd.leases().map_err(&wrong)?;
    let mut seed = Seed::create(dir)?;
    let mut imported = copy_keys(&etcd, &mut Records::default(), &mut seed, file, progress)?;
    let leases: Vec<LogRecord> = leases
        .iter()
        .map(|found| lease(found, now_micros))
        .collect();
    imported.leases = leases.len() as u64;
    for page in leases.chunks(RECORDS_PER_APPEND) {
        seed.append(page)?;
    }
    if let Some(Bump { revisions }) = bump {
        imported.revision = Revision(imported.revision.0.saturating_add(revisions));
        imported.compacted = Some(imported.revision);
    }
    finish(seed, &mut imported)?;
    Ok(imported)
}

/// Writes compaction and end.
pub(crate) fn finish(mut seed: Seed, imported: &mut Imported) -> Result<(), MoveError> {
    if let Some(revision) = imported.compacted {
        seed.append(&[compaction(revision)])?;
    }
    imported.log_bytes = seed.bytes();
    Ok(seed.finish(imported.revision)?)
}

/// Copies all versions and the access rules; leases, compaction and end are the caller's.
pub(crate) fn copy_keys<R: ReadAt>(
    etcd: &EtcdFile<R>,
    records: &mut Records,
    seed: &mut Seed,
    file: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<Imported, MoveError> {
    let wrong = MoveError::file(file);
    let mut imported = Imported {
        revision: etcd.revision().map_err(&wrong)?,
        compacted: etcd.counters().compacted,
        ..Imported::default()
    };
    let mut page = Vec::with_capacity(limits::RECORDS_PER_APPEND);
    let mut page_bytes = 0;
    for version in etcd.versions().map_err(&wrong)? {
        let version = version.map_err(&wrong)?;
        let revision = version.at.revision.0;
        let Some(record) = records.version(version) else {
            continue;
        };
        if let Change::Put { value, .. } = &record.change {
            page_bytes += value.len();
        }
        page.push(record);
        imported.versions += 1;
        if page.len() >= RECORDS_PER_APPEND || page_bytes >= BYTES_PER_APPEND {
            seed.append(&page)?;
            page.clear();
            page_bytes = 0;
            progress(Progress::Copying {
                versions: imported.versions,
                revision,
                end: imported.revision.0,
            });
        }
    }
    seed.append(&page)?;
    let settings = access_rules(etcd, &mut imported).map_err(&wrong)?;
    seed.append(&settings)?;
    Ok(imported)
}

/// Users, roles and the rest of it, as settings.
fn access_rules<R: ReadAt>(
    etcd: &EtcdFile<R>,
    imported: &mut Imported,
) -> Result<Vec<LogRecord>, BboltError> {
    let mut settings = Vec::new();
    for (key, value) in etcd.raw(AUTH)? {
        match &key[..] {
            AUTH_ENABLED => {
                imported.auth_enabled = value[..] == [1];
                settings.push(setting(AUTH_ENABLED_SETTING, b"", value));
            }
            AUTH_REVISION => settings.push(setting(AUTH_REVISION_SETTING, b"", value)),
            _ => {}
        }
    }
    for (name, value) in etcd.raw(AUTH_USERS)? {
        imported.users += 1;
        settings.push(setting(AUTH_USER_SETTINGS, &name, value));
    }
    for (name, value) in etcd.raw(AUTH_ROLES)? {
        imported.roles += 1;
        settings.push(setting(AUTH_ROLE_SETTINGS, &name, value));
    }
    Ok(settings)
}
