//! The recorder of core/v1 Events: never in anybody's way.
//!
//! ```text
//!   record ─(25 a minute and object)─► queue ─(full: dropped, counted)─► writer ─(50 a second)─► API
//! ```
//!
//! An event that repeats one of the last ten minutes raises its count. More than ten different messages of one reason
//! about one object become one event. Does not know who records or why.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meta::{EventType, Involved};
use tokio::sync::mpsc;
use value::{Value, json};

use crate::{Client, PatchType};

/// Events that may wait to be written.
const WAITING_MAX: usize = 1024;
/// Events about one object in [`WINDOW`].
const PER_OBJECT_MAX: u32 = 25;
/// The period of [`PER_OBJECT_MAX`].
const WINDOW: Duration = Duration::from_secs(60);
/// Objects whose events are counted at a time; beyond it the counts begin anew.
const OBJECTS_MAX: usize = 4096;
/// Time between two writes: 50 a second, far below what the rest of the plane writes.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);
/// How long an event may be repeated before it is written anew (k8s correlator: 10 min).
const REPEAT_WINDOW: Duration = Duration::from_secs(600);
/// Different messages of one reason about one object before they are combined (k8s correlator).
const SIMILAR_MAX: u32 = 10;
/// Written events that are remembered for repetition.
const REMEMBERED_MAX: usize = 4096;

/// Something to be told about an object.
#[derive(Debug, Clone)]
pub struct Note {
    /// About what.
    pub involved: Arc<Involved>,
    /// How serious.
    pub event_type: EventType,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// Who tells it.
    pub component: Cow<'static, str>,
    /// What was done or tried, in one word; may be empty.
    pub action: &'static str,
    /// Another object it is about.
    pub related: Option<Arc<Involved>>,
}

/// What became of notes.
#[derive(Debug, Default)]
pub struct RecorderCounts {
    /// Events written, repetitions included.
    pub written: AtomicU64,
    /// Events dropped because there were too many, or the write failed.
    pub dropped: AtomicU64,
}

/// The near end. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
    limiter: Arc<Mutex<Limiter>>,
    counts: Arc<RecorderCounts>,
}

impl Recorder {
    /// A recorder whose writer runs on the current runtime until all its clones are gone.
    pub fn start(client: Client, counts: Arc<RecorderCounts>) -> Recorder {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(client, receiver, counts.clone()));
        Recorder {
            sender,
            limiter: Arc::default(),
            counts,
        }
    }

    /// Records a note, or drops it if there are too many.
    pub fn record(&self, note: Note) {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = limiter.allows(&note.involved.uid, Instant::now());
        drop(limiter);
        if !allowed || self.sender.try_send(note).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts events by object.
#[derive(Default)]
struct Limiter {
    since: Option<Instant>,
    counts: HashMap<String, u32>,
}

impl Limiter {
    fn allows(&mut self, uid: &str, now: Instant) -> bool {
        let over = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= WINDOW);
        if over || self.counts.len() >= OBJECTS_MAX {
            self.counts.clear();
            self.since = Some(now);
        }
        if let Some(count) = self.counts.get_mut(uid) {
            *count += 1;
            return *count <= PER_OBJECT_MAX;
        }
        self.counts.insert(uid.to_owned(), 1);
        true
    }
}

/// What is to be written for a note.
#[derive(Debug, PartialEq, Eq)]
enum Writing {
    /// A new event with this message; remembered under the key.
    New { key: String, message: String },
    /// One more of an event that was written before.
    Again {
        namespace: String,
        name: String,
        count: i64,
        message: String,
    },
}

/// An event that was written.
struct Written {
    at: Instant,
    namespace: String,
    name: String,
    count: i64,
}

/// Remembers what was written lately.
#[derive(Default)]
struct Correlator {
    written: HashMap<String, Written>,
    /// Different messages by object and reason.
    similar: HashMap<String, (Instant, u32)>,
}

impl Correlator {
    fn correlate(&mut self, note: &Note, now: Instant) -> Writing {
        if self.written.len() >= REMEMBERED_MAX || self.similar.len() >= REMEMBERED_MAX {
            self.written.clear();
            self.similar.clear();
        }
        let fresh = |at: Instant| now.saturating_duration_since(at) < REPEAT_WINDOW;
        let family = format!(
            "{}/{}/{}",
            note.involved.uid,
            note.event_type.as_str(),
            note.reason
        );
        let mut key = format!("{family}/{}", note.message);
        let mut message = note.message.clone();
        if !self
            .written
            .get(&key)
            .is_some_and(|written| fresh(written.at))
        {
            let (since, count) = self.similar.entry(family.clone()).or_insert((now, 0));
            if !fresh(*since) {
                (*since, *count) = (now, 0);
            }
            *count += 1;
            if *count > SIMILAR_MAX {
                key = family;
                message = format!("(combined from similar events): {message}");
            }
        }
        match self
            .written
            .get_mut(&key)
            .filter(|written| fresh(written.at))
        {
            Some(written) => {
                written.at = now;
                written.count += 1;
                let (namespace, name) = (written.namespace.clone(), written.name.clone());
                Writing::Again {
                    namespace,
                    name,
                    count: written.count,
                    message,
                }
            }
            None => Writing::New { key, message },
        }
    }

    fn remember(&mut self, key: String, namespace: String, name: String, now: Instant) {
        self.written.insert(
            key,
            Written {
                at: now,
                namespace,
                name,
                count: 1,
            },
        );
    }
}

async fn write(client: Client, mut notes: mpsc::Receiver<Note>, counts: Arc<RecorderCounts>) {
    let Some(events) = schema::resource("", "v1", "events") else {
        return;
    };
    let mut correlator = Correlator::default();
    let mut pace = tokio::time::interval(WRITE_INTERVAL);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sequence: u64 = 0;
    while let Some(note) = notes.recv().await {
        pace.tick().await;
        let now = now_micros();
        let result = match correlator.correlate(&note, Instant::now()) {
            Writing::Again {
                namespace,
                name,
                count,
                message,
            } => {
                let time = meta::time::format_seconds(now);
                let patch = json!({"count": count, "lastTimestamp": time, "message": message});
                client
                    .patch(
                        events,
                        &namespace,
                        &name,
                        "",
                        PatchType::StrategicMerge,
                        &patch,
                    )
                    .await
            }
            Writing::New { key, message } => {
                sequence = sequence.wrapping_add(1);
                let event = event_object(&note, &message, now, sequence);
                let (namespace, name) = (
                    meta::object::namespace(&event).to_owned(),
                    meta::object::name(&event).to_owned(),
                );
                let result = client.create(events, &namespace, &event).await;
                if result.is_ok() {
                    correlator.remember(key, namespace, name, Instant::now());
                }
                result
            }
        };
        match result {
            Ok(_) => counts.written.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                // A lost event is no reason to hold up the others (k8s gives up as well).
                tracing::debug!(reason = note.reason, %error, "event not written");
                counts.dropped.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

fn now_micros() -> i64 {
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
}

fn event_object(note: &Note, message: &str, now_micros: i64, sequence: u64) -> Value {
    let (namespace, name) = (&note.involved.namespace, &note.involved.name);
    // Events about cluster-wide objects live in the default namespace.
    let home = if namespace.is_empty() {
        "default"
    } else {
        namespace.as_str()
    };
    let time = meta::time::format_seconds(now_micros);
    let mut event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{name}.{now_micros:x}{:03x}", sequence & 0xfff), "namespace": home},
        "involvedObject": reference(&note.involved),
        "reason": note.reason,
        "message": message,
        "type": note.event_type.as_str(),
        "source": {"component": note.component},
        "reportingComponent": note.component,
        "reportingInstance": "",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    });
    if !note.action.is_empty() {
        event["action"] = note.action.into();
    }
    if let Some(related) = &note.related {
        event["related"] = reference(related);
    }
    event
}

fn reference(to: &Involved) -> Value {
    let mut object =
        json!({"apiVersion": to.api_version, "kind": to.kind, "name": to.name, "uid": to.uid});
    for (field, text) in [
        ("namespace", &to.namespace),
        ("resourceVersion", &to.resource_version),
    ] {
        if !text.is_empty() {
            object[field] = text.as_str().into();
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        let involved = Involved {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: String::new(),
            name: "n1".into(),
            uid: "u1".into(),
            resource_version: String::new(),
        };
        Note {
            involved: Arc::new(involved),
            event_type: EventType::Normal,
            reason: "NodeNotReady",
            message: message.into(),
            component: "node-controller".into(),
            action: "",
            related: None,
        }
    }

    #[test]
    fn an_object_has_25_events_a_minute() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let allowed = (0..100).filter(|_| limiter.allows("a", now)).count();
        assert_eq!(allowed, 25);
        assert!(limiter.allows("b", now));
        assert!(limiter.allows("a", now + WINDOW));
    }

    #[test]
    fn repetitions_are_counted_and_similar_ones_combined() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let Writing::New { key, message } = correlator.correlate(&note("0"), now) else {
            panic!("not new")
        };
        assert_eq!(message, "0");
        correlator.remember(key, "default".into(), "e0".into(), now);
        let again = Writing::Again {
            namespace: "default".into(),
            name: "e0".into(),
            count: 2,
            message: "0".into(),
        };
        assert_eq!(correlator.correlate(&note("0"), now), again);
        for number in 1..10 {
            let Writing::New { message, .. } =
                correlator.correlate(&note(&number.to_string()), now)
            else {
                panic!()
            };
            assert_eq!(message, number.to_string());
        }
        let Writing::New { key, message } = correlator.correlate(&note("10"), now) else {
            panic!("not new")
        };
        assert_eq!(message, "(combined from similar events): 10");
        correlator.remember(key, "default".into(), "e10".into(), now);
        let Writing::Again { name, count, .. } = correlator.correlate(&note("11"), now) else {
            panic!("not again")
        };
        assert_eq!((name.as_str(), count), ("e10", 2));
        assert!(matches!(
            correlator.correlate(&note("0"), now + REPEAT_WINDOW),
            Writing::New { .. }
        ));
    }

    #[test]
    fn an_event_about_a_node_lives_in_default() {
        let event = event_object(&note("silent"), "silent", 1_000_000, 1);
        assert_eq!(event["metadata"]["namespace"], "default");
        assert_eq!(event["metadata"]["name"], "n1.f4240001");
        assert_eq!(
            event["involvedObject"],
            json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1"})
        );
        assert_eq!(event["firstTimestamp"], "1970-01-01T00:00:01Z");
    }
}
