//! Clients that write, read, compare and watch, each on a connection of its own, and record all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcd_wire::etcdserverpb as pb;
use linear::{Ask, Compare, Event, Kv, Outcome, Span, Step, StepAnswer, Target, Txn};
use pb::alarm_request::AlarmAction;
use tokio::task::JoinSet;

use crate::common::{Client, Dice};
use crate::recorder::Recorder;
use crate::wire;

/// Keys of several collections, and of none.
const KEYS: [&str; 7] = [
    "/registry/events/e0",
    "/registry/events/e1",
    "/registry/pods/a/p0",
    "/registry/pods/a/p1",
    "/registry/pods/b/p2",
    "plain0",
    "plain1",
];

const LEASED: [&str; 3] = ["/registry/held/h0", "/registry/pods/held", "zheld"];

pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Clients and watchers of one life of a server.
pub struct Crowd {
    tasks: JoinSet<()>,
}

impl Crowd {
    /// `clients` that go on until nothing is answered any more, or each has asked `most` times; and watchers.
    pub async fn start(
        url: &str,
        recorder: &Arc<Recorder>,
        clients: usize,
        most: usize,
        seed: u64,
    ) -> Crowd {
        let mut tasks = JoinSet::new();
        for (name, span) in [
            ("all", Span::all()),
            ("pods", Span::between("/registry/pods/", "/registry/pods0")),
            ("one", Span::one(KEYS[0])),
        ] {
            let client = Client::connect(url).await;
            let has_before = name != "pods";
            tasks.spawn(watch(client, recorder.clone(), name, span, has_before));
        }
        for number in 0..clients {
            let mut caller = Caller {
                number,
                client: Client::connect(url).await,
                recorder: recorder.clone(),
                dice: Dice::new(seed * 1000 + number as u64 + 1),
                seen: BTreeMap::new(),
                revisions: Vec::new(),
                leases: Vec::new(),
            };
            tasks.spawn(async move {
                for _ in 0..most {
                    if !caller.call().await {
                        break;
                    }
                }
            });
        }
        Crowd { tasks }
    }

    /// Waits for those that come to an end; watchers do not.
    pub async fn callers(&mut self, clients: usize) {
        for _ in 0..clients {
            self.tasks.join_next().await.unwrap().unwrap();
        }
    }

    /// Whether only watchers are left.
    pub fn is_silent(&mut self) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.unwrap();
        }
        self.tasks.len() <= 3
    }

    /// Sends all of them away.
    pub async fn leave(mut self) {
        self.tasks.shutdown().await;
    }
}

/// A watch stream that begins after what it has been told in an earlier life.
async fn watch(
    mut client: Client,
    recorder: Arc<Recorder>,
    name: &'static str,
    span: Span,
    has_before: bool,
) {
    let start = recorder.after(name);
    let mut watches = client.watches(name);
    watches.create(wire::watch(&span, start, has_before)).await;
    let number = recorder.watch(name.into(), span, start, has_before);
    let mut asked = 0;
    while let Some(told) = watches.try_next().await {
        let revision = told.header.expect("a header").revision;
        assert!(!told.canceled, "{told:?}");
        if told.created {
            continue;
        }
        let events: Vec<Event> = told.events.iter().map(wire::event).collect();
        recorder.told(number, revision, events);
        asked += 1;
        if asked % 16 == 0 {
            watches.ask_progress().await;
        }
    }
}

/// One client.
struct Caller {
    number: usize,
    client: Client,
    recorder: Arc<Recorder>,
    dice: Dice,
    /// What it knows of keys: where they were changed last.
    seen: BTreeMap<String, i64>,
    /// Revisions it has heard of.
    revisions: Vec<i64>,
    leases: Vec<i64>,
}

impl Caller {
    /// One call. False when it was not answered.
    async fn call(&mut self) -> bool {
        let ask = self.ask();
        let call = self.recorder.begin(self.number, ask.clone());
        let result = wire::ask(&mut self.client, &ask).await;
        let outcome = wire::outcome(result);
        self.recorder.end(call, outcome.clone());
        match outcome {
            Outcome::Answered(answer) => {
                self.revisions.push(answer.revision);
                self.learn(&ask, answer.revision, answer.succeeded, &answer.steps);
                true
            }
            Outcome::Refused => {
                // A full disk refuses quickly.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                true
            }
            Outcome::Unknown => false,
        }
    }

    fn learn(&mut self, ask: &Ask, revision: i64, succeeded: bool, answers: &[StepAnswer]) {
        if let Ask::Txn(txn) = ask {
            let steps = if succeeded { &txn.then } else { &txn.otherwise };
            for step in steps {
                if let Step::Put { key, .. } = step {
                    self.seen.insert(key.clone(), revision);
                }
            }
        }
        for answer in answers {
            if let StepAnswer::Got(found) = answer {
                let changes = found
                    .iter()
                    .map(|Kv { key, modified, .. }| (key.clone(), *modified));
                self.seen.extend(changes);
            }
        }
    }

    fn put(&self, key: &str, lease: i64) -> Step {
        let number = self.recorder.number();
        let fill = "x".repeat((number * 37 % 300) as usize);
        Step::Put {
            key: key.into(),
            value: format!("{number} {fill}"),
            lease,
        }
    }

    /// Something to ask.
    fn ask(&mut self) -> Ask {
        let key = *self.dice.pick(&KEYS);
        let steps = |then| {
            Ask::Txn(Txn {
                then,
                ..Txn::default()
            })
        };
        let get = |span, revision, is_serializable| Ask::Get {
            span,
            revision,
            is_serializable,
        };
        match self.dice.below(100) {
            0..30 => steps(vec![self.put(key, 0)]),
            30..38 => steps(vec![Step::Delete(Span::one(key))]),
            38..40 => steps(vec![Step::Delete(Span::between(
                "/registry/pods/",
                "/registry/pods0",
            ))]),
            40..52 => get(Span::one(key), 0, false),
            52..57 => get(Span::all(), 0, false),
            57..62 => get(Span::between("/registry/", "/registry0"), 0, true),
            62..66 => {
                let last = self.revisions.last().copied().unwrap_or_default();
                let old = self.dice.below(self.revisions.len().max(1) as u64) as usize;
                let revision = self.revisions.get(old).copied().unwrap_or(last);
                get(Span::all(), revision, false)
            }
            66..84 => self.swap(key),
            84..90 => {
                let other = *self.dice.pick(&KEYS);
                let mut then = vec![self.put(key, 0)];
                if other != key {
                    then.push(self.put(other, 0));
                }
                then.push(Step::Get(Span::all()));
                steps(then)
            }
            _ => self.lease(),
        }
    }

    /// Writes if nobody has written since this client has looked.
    fn swap(&mut self, key: &str) -> Ask {
        let seen = self.seen.get(key).copied().unwrap_or_default();
        let then = match self.dice.below(4) {
            0 => Step::Delete(Span::one(key)),
            _ => self.put(key, 0),
        };
        Ask::Txn(Txn {
            compares: vec![Compare {
                key: key.into(),
                target: Target::Modified(seen),
            }],
            then: vec![then],
            otherwise: vec![Step::Get(Span::one(key))],
        })
    }

    fn lease(&mut self) -> Ask {
        if self.leases.is_empty() || self.dice.one_in(5) {
            let id = 1_000 + self.recorder.number().cast_signed();
            self.leases.push(id);
            let ttl_nanos = *self.dice.pick(&[2, 2, 60]) * NANOS_PER_SECOND;
            return Ask::Grant { id, ttl_nanos };
        }
        let lease = *self.dice.pick(&self.leases);
        if self.dice.one_in(6) {
            self.leases.retain(|id| *id != lease);
            return Ask::Revoke { id: lease };
        }
        let key = *self.dice.pick(&LEASED);
        Ask::Txn(Txn {
            then: vec![self.put(key, lease)],
            ..Txn::default()
        })
    }
}

/// Everything that has happened, as the server tells it now, and one last look at all keys.
pub async fn tell_all(url: &str, recorder: &Recorder) -> Vec<linear::LogEntry> {
    let mut client = Client::connect(url).await;
    let ask = Ask::Get {
        span: Span::all(),
        revision: 0,
        is_serializable: false,
    };
    let call = recorder.begin(usize::MAX, ask.clone());
    let answer = wire::ask(&mut client, &ask).await.expect("answers");
    let revision = answer.revision;
    recorder.end(call, Outcome::Answered(answer));
    let mut watches = client.watches("the log");
    let all = pb::WatchCreateRequest {
        prev_kv: true,
        ..wire::watch(&Span::all(), 1, true)
    };
    watches.create(all).await;
    let created = watches.next().await;
    assert!(created.created && !created.canceled, "{created:?}");
    loop {
        watches.ask_progress().await;
        let told = watches.next().await;
        assert!(!told.canceled, "{told:?}");
        if told.events.is_empty() && told.header.expect("a header").revision >= revision {
            let events = watches.events.get(&created.watch_id);
            return wire::log(events.map_or(&[], Vec::as_slice));
        }
    }
}

async fn alarms(client: &mut Client, action: AlarmAction, member_id: u64) -> Vec<u64> {
    let request = pb::AlarmRequest {
        action: action.into(),
        member_id,
        alarm: pb::AlarmType::Nospace.into(),
    };
    let up = client.maintenance.alarm(request).await;
    let up = up.expect("alarms answer").into_inner().alarms;
    up.iter().map(|alarm| alarm.member_id).collect()
}

/// Whether the alarm of a full disk comes up in time.
pub async fn wait_for_alarm(url: &str) -> bool {
    let mut client = Client::connect(url).await;
    for _ in 0..4_000 {
        if !alarms(&mut client, AlarmAction::Get, 0).await.is_empty() {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    false
}

/// Ends it, as an operator does.
pub async fn end_alarm(url: &str) {
    let mut client = Client::connect(url).await;
    for member in alarms(&mut client, AlarmAction::Get, 0).await {
        alarms(&mut client, AlarmAction::Deactivate, member).await;
    }
}
