//! The log of a server, replayed: what every key was at every revision.
//!
//! Believes nothing: each event must follow from those before it.

use crate::history::{Event, Kv, LogEntry, Span};
use crate::wrong::Wrong;
use std::collections::{BTreeMap, BTreeSet};

/// All states.
pub(crate) struct Replay<'a> {
    /// The entries by revision.
    pub(crate) entries: BTreeMap<i64, &'a LogEntry>,
    /// Of each key, what it was from a revision on.
    keys: BTreeMap<&'a str, Vec<(i64, Option<&'a Kv>)>>,
}

impl<'a> Replay<'a> {
    /// Goes through a log that begins with the server's first revision.
    pub(crate) fn of(log: &'a [LogEntry]) -> Result<Replay<'a>, Wrong> {
        let mut replay = Replay {
            entries: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        let mut before = 1;
        for entry in log {
            if entry.revision <= before || entry.events.is_empty() {
                let revision = entry.revision;
                return Err(Wrong::LogOrder { revision, before });
            }
            let mut keys = BTreeSet::new();
            for event in &entry.events {
                if event.revision != entry.revision || !keys.insert(&event.key) {
                    return Err(wrong(
                        event,
                        "is not of its revision, or twice in it".into(),
                    ));
                }
                follows(event, replay.get(&event.key, before))?;
            }
            for event in &entry.events {
                let versions = replay.keys.entry(&event.key).or_default();
                versions.push((entry.revision, event.now.as_ref()));
            }
            replay.entries.insert(entry.revision, entry);
            before = entry.revision;
        }
        Ok(replay)
    }

    /// A key as it was at a revision.
    pub(crate) fn get(&self, key: &str, revision: i64) -> Option<&'a Kv> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(from, _)| *from <= revision);
        versions.get(after.checked_sub(1)?)?.1
    }

    /// Keys as they were at a revision.
    pub(crate) fn range(&self, span: &Span, revision: i64) -> Vec<Kv> {
        let within = self.keys.keys().filter(|key| span.has(key));
        within
            .filter_map(|key| self.get(key, revision).cloned())
            .collect()
    }

    /// The keys that hung on a lease at a revision.
    pub(crate) fn on_lease(&self, lease: i64, revision: i64) -> BTreeSet<&'a str> {
        let all = self.keys.keys().copied();
        all.filter(|key| self.get(key, revision).is_some_and(|kv| kv.lease == lease))
            .collect()
    }
}

/// Whether an event follows from what its key was.
fn follows(event: &Event, before: Option<&Kv>) -> Result<(), Wrong> {
    match (&event.now, before) {
        (None, None) => return Err(wrong(event, "deletes what is not there".into())),
        (None, Some(_)) => {}
        (Some(kv), _) => {
            let expected = Kv {
                created: before.map_or(event.revision, |before| before.created),
                modified: event.revision,
                version: before.map_or(1, |before| before.version + 1),
                key: event.key.clone(),
                ..kv.clone()
            };
            if *kv != expected {
                return Err(wrong(event, format!("puts {kv:?}, not {expected:?}")));
            }
        }
    }
    if event.before.as_ref() != before {
        let told = &event.before;
        return Err(wrong(
            event,
            format!("tells {told:?} as before, not {before:?}"),
        ));
    }
    Ok(())
}

fn wrong(event: &Event, what: String) -> Wrong {
    Wrong::Event {
        revision: event.revision,
        key: event.key.clone(),
        what,
    }
}
