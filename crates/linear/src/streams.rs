//! Watch streams against the log: every change of the keys, in order, exactly once, all of a revision together.

use crate::history::{Event, LogEntry, Watched};
use crate::wrong::Wrong;
use std::collections::BTreeSet;

/// Checks every stream; answers how many events they told.
pub(crate) fn check_watches(watches: &[Watched], log: &[LogEntry]) -> Result<usize, Wrong> {
    let mut events = 0;
    for watched in watches {
        events += check_stream(watched, log).map_err(|what| Wrong::Watch {
            name: watched.name.clone(),
            what,
        })?;
    }
    Ok(events)
}

fn check_stream(watched: &Watched, log: &[LogEntry]) -> Result<usize, String> {
    let from = log.partition_point(|entry| entry.revision < watched.start);
    let due = log.iter().skip(from).filter_map(|entry| {
        let own = entry
            .events
            .iter()
            .filter(|event| watched.span.has(&event.key));
        let own: Vec<&Event> = own.collect();
        (!own.is_empty()).then_some((entry.revision, own))
    });
    let mut due = due.peekable();
    let mut reached = watched.start - 1;
    let mut count = 0;
    for told in &watched.told {
        for (revision, events) in by_revision(&told.events) {
            if revision <= reached {
                return Err(format!("revision {revision} is told after {reached}"));
            }
            let Some((expected, own)) = due.next() else {
                return Err(format!("revision {revision} is told and never was"));
            };
            if expected != revision {
                return Err(format!(
                    "revision {revision} is told where {expected} is due"
                ));
            }
            same(revision, &events, &own, watched.has_before)?;
            count += events.len();
            reached = revision;
        }
        if told.revision < reached {
            let header = told.revision;
            return Err(format!("an answer of revision {header} tells {reached}"));
        }
        if told.events.is_empty() {
            if let Some((missed, _)) = due.next_if(|(revision, _)| *revision <= told.revision) {
                let all = told.revision;
                return Err(format!(
                    "all up to {all} is said to be told, but {missed} was not"
                ));
            }
            reached = reached.max(told.revision);
        }
    }
    Ok(count)
}

/// Events that follow each other with one revision.
fn by_revision(events: &[Event]) -> Vec<(i64, Vec<&Event>)> {
    let mut groups: Vec<(i64, Vec<&Event>)> = Vec::new();
    for event in events {
        match groups
            .last_mut()
            .filter(|(revision, _)| *revision == event.revision)
        {
            Some((_, group)) => group.push(event),
            None => groups.push((event.revision, vec![event])),
        }
    }
    groups
}

fn same(revision: i64, told: &[&Event], own: &[&Event], has_before: bool) -> Result<(), String> {
    let keys: BTreeSet<&str> = told.iter().map(|event| &*event.key).collect();
    if keys.len() != told.len() || told.len() != own.len() {
        let (told, own) = (told.len(), own.len());
        return Err(format!(
            "{told} of the {own} events of revision {revision} are told"
        ));
    }
    for event in told {
        let before = |own: &Event| own.before.clone().filter(|_| has_before);
        let is_there = own
            .iter()
            .any(|own| own.key == event.key && own.now == event.now && before(own) == event.before);
        if !is_there {
            return Err(format!("{event:?} is told, which never was"));
        }
    }
    Ok(())
}
