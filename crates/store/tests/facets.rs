//! Watchers that are found by what is written in values, against a model that looks at every event.
//!
//! A value here is `a,c|text`: one letter a facet, then something else that changes, too, long enough for history to keep
//! differences of it.

use kv::{Durability, LeaseId, Revision};
use proptest::prelude::*;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use store::{
    Change, Collection, CollectionConfig, Interest, Precondition, Reading, Store, StoreConfig,
    WatchItem, Watcher,
};

const LETTERS: u8 = 6;

fn facets(_key: &[u8], value: &[u8], found: &mut dyn FnMut(u64)) -> usize {
    let end = value
        .iter()
        .position(|byte| *byte == b'|')
        .unwrap_or(value.len());
    let letters = value.get(..end).unwrap_or_default();
    letters
        .split(|byte| *byte == b',')
        .flatten()
        .for_each(|letter| found(u64::from(*letter)));
    end + 1
}

fn weigh(value: &[u8], modified: Revision) -> u64 {
    value.len() as u64 + modified.0.unsigned_abs()
}

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, letters: Vec<u8>, text: u8 },
    Touch { key: u8, text: u8 },
    Delete { key: u8 },
    Watch { letters: Vec<u8> },
    Poll { watch: usize },
    Close { watch: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let letters = || prop::collection::vec(b'a'..b'a' + LETTERS, 0..4);
    prop_oneof![
        4 => (0..4u8, letters(), any::<u8>()).prop_map(|(key, letters, text)| Step::Put { key, letters, text }),
        3 => (0..4u8, any::<u8>()).prop_map(|(key, text)| Step::Touch { key, text }),
        1 => (0..4u8).prop_map(|key| Step::Delete { key }),
        2 => letters().prop_map(|letters| Step::Watch { letters }),
        4 => (0..8usize).prop_map(|watch| Step::Poll { watch }),
        1 => (0..8usize).prop_map(|watch| Step::Close { watch }),
    ]
}

fn value(letters: &[u8], text: u8) -> Vec<u8> {
    let letters: Vec<String> = letters
        .iter()
        .map(|letter| char::from(*letter).to_string())
        .collect();
    format!(
        "{}|{}{text}",
        letters.join(","),
        "the same as ever ".repeat(5)
    )
    .into_bytes()
}

/// The letters of a value, read another way.
fn letters_of(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split_once('|')
        .map(|(letters, _)| letters.replace(',', ""))
        .unwrap_or_default()
}

struct Watching {
    watcher: Watcher,
    letters: Vec<u8>,
    /// How many events there were when it began.
    from: usize,
    seen: Vec<(Revision, Option<Vec<u8>>)>,
}

impl Watching {
    fn poll(&mut self) {
        let mut items: Vec<WatchItem> = Vec::new();
        for _ in 0..1000 {
            let mut cx = Context::from_waker(Waker::noop());
            match self.watcher.poll_next(&mut cx, 3, &mut items) {
                Poll::Pending => break,
                Poll::Ready(moved) => assert!(moved.is_ok(), "nothing is trimmed here"),
            }
        }
        let seen = items
            .into_iter()
            .map(|item| (item.revision, item.value.map(|v| v.to_vec())));
        self.seen.extend(seen);
    }
}

/// An event: its revision, and the value before and after it.
type Event = (Revision, Option<Vec<u8>>, Option<Vec<u8>>);

fn wanted(watching: &Watching, events: &[Event]) -> Vec<(Revision, Option<Vec<u8>>)> {
    let has = |value: &Option<Vec<u8>>| {
        let letters = value.as_deref().map(letters_of).unwrap_or_default();
        watching
            .letters
            .iter()
            .any(|letter| letters.contains(char::from(*letter)))
    };
    let all = events[watching.from..].iter();
    // Found by nothing is found by everything.
    all.filter(|(_, before, after)| watching.letters.is_empty() || has(before) || has(after))
        .map(|(revision, _, after)| (*revision, after.clone()))
        .collect()
}

fn change(pods: &Collection, key: u8, value: Option<Vec<u8>>, events: &mut Vec<Event>) {
    let key = format!("ns/{key}");
    let before = pods.get(key.as_bytes()).map(|record| record.value.to_vec());
    let change = match &value {
        Some(value) => Change::Put {
            value: value.clone().into(),
            lease: LeaseId(0),
            tags: &[7],
        },
        None => Change::Delete,
    };
    if let Ok(written) = pods.write(key.as_bytes(), Precondition::Any, change) {
        events.push((written.revision, before, value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn who_is_found_by_facets_sees_what_a_look_at_every_event_finds(steps in prop::collection::vec(step(), 1..80)) {
        let store = Store::new(StoreConfig::default());
        let config = CollectionConfig { durability: Durability::Memory, ..CollectionConfig::default() };
        let pods = store.collection("/registry/pods/", config);
        let mut events: Vec<Event> = Vec::new();
        // What is there before anybody says how to read it counts, too.
        change(&pods, 0, Some(value(b"ab", 0)), &mut events);
        pods.read_with(Reading { weigh, facets });
        let mut watches: Vec<Watching> = Vec::new();
        for step in steps {
            match step {
                Step::Put { key, letters, text } => change(&pods, key, Some(value(&letters, text)), &mut events),
                Step::Touch { key, text } => {
                    let now = pods.get(format!("ns/{key}").as_bytes());
                    let letters = now.map(|now| letters_of(&now.value)).unwrap_or_default();
                    change(&pods, key, Some(value(letters.as_bytes(), text)), &mut events);
                }
                Step::Delete { key } => change(&pods, key, None, &mut events),
                Step::Watch { letters } => {
                    let facets: Vec<u64> = letters.iter().map(|letter| u64::from(*letter)).collect();
                    let interest = match facets.as_slice() {
                        [one] => Interest::Facet(*one),
                        _ => Interest::AnyFacet(Arc::from(facets)),
                    };
                    let watcher = pods.watch(pods.revision(), interest);
                    let watcher = watcher.map_err(|error| TestCaseError::fail(error.to_string()))?;
                    watches.push(Watching { watcher, letters, from: events.len(), seen: Vec::new() });
                }
                Step::Poll { watch } => {
                    if let Some(watching) = watches.get_mut(watch) {
                        watching.poll();
                    }
                }
                Step::Close { watch } => {
                    if watch < watches.len() {
                        watches.swap_remove(watch);
                    }
                }
            }
            prop_assert_eq!(pods.stats().watchers, watches.len());
            store.check().map_err(TestCaseError::fail)?;
        }
        for watching in &mut watches {
            watching.poll();
            prop_assert_eq!(&watching.seen, &wanted(watching, &events));
        }
        let standing = pods.standing();
        let mut weight = 0;
        pods.visit(b"", None, standing.revision, 100, |seen| {
            weight += weigh(seen.value(), seen.mod_revision());
            true
        })
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(standing.weight, weight);
    }
}
