//! Keeps what clients asked and were told. A call is known from its beginning: one that is never answered stays
//! without an answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use linear::{Ask, Call, History, LogEntry, NEVER, Outcome, Span, Step, Told, Watched};

#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    kept: Mutex<Kept>,
    number: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    calls: Vec<Call>,
    watches: Vec<Watched>,
    answered: usize,
    /// The power was lost: whatever is told from now on is told by the dead.
    is_lost: bool,
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder {
            begun: Instant::now(),
            kept: Mutex::default(),
            number: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap()
    }

    /// A number that was not given out before.
    pub fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    pub fn begin(&self, client: usize, ask: Ask) -> usize {
        let mut kept = self.lock();
        let begun = self.now();
        kept.calls.push(Call {
            client,
            begun,
            ended: NEVER,
            ask,
            outcome: Outcome::Unknown,
        });
        kept.calls.len() - 1
    }

    pub fn end(&self, call: usize, outcome: Outcome) {
        let mut kept = self.lock();
        if kept.is_lost || outcome == Outcome::Unknown {
            return;
        }
        kept.answered += usize::from(outcome != Outcome::Refused);
        let call = &mut kept.calls[call];
        call.ended = self.now();
        call.outcome = outcome;
    }

    pub fn watch(&self, name: String, span: Span, start: i64, has_before: bool) -> usize {
        let mut kept = self.lock();
        kept.watches.push(Watched {
            name,
            span,
            start,
            has_before,
            told: Vec::new(),
        });
        kept.watches.len() - 1
    }

    pub fn told(&self, watch: usize, revision: i64, events: Vec<linear::Event>) {
        let mut kept = self.lock();
        if !kept.is_lost {
            let at = self.now();
            kept.watches[watch].told.push(Told {
                at,
                revision,
                events,
            });
        }
    }

    /// Where a watch that was lost begins again.
    pub fn after(&self, name: &str) -> i64 {
        let kept = self.lock();
        let told = kept.watches.iter().filter(|watch| watch.name == name);
        let events = told.flat_map(|watch| watch.told.iter().flat_map(|told| &told.events));
        events.map(|event| event.revision).max().unwrap_or(1) + 1
    }

    /// Calls with an answer that was no refusal.
    pub fn answered(&self) -> usize {
        self.lock().answered
    }

    /// Puts with an answer that was no refusal.
    pub fn writes(&self) -> usize {
        let is_put = |call: &&Call| match (&call.ask, &call.outcome) {
            (Ask::Txn(txn), Outcome::Answered(_)) => {
                matches!(txn.then.first(), Some(Step::Put { .. }))
            }
            _ => false,
        };
        self.lock().calls.iter().filter(is_put).count()
    }

    /// What `lose` makes of the medium is what the next server finds; no answer counts from there on.
    pub fn lose<T>(&self, lose: impl FnOnce() -> T) -> T {
        let mut kept = self.lock();
        kept.is_lost = true;
        lose()
    }

    /// The server is surely dead, and the next one may begin.
    pub fn dead(&self) {
        let mut kept = self.lock();
        kept.is_lost = false;
        let now = self.now();
        for call in &mut kept.calls {
            call.ended = call.ended.min(now);
        }
    }

    pub fn history(&self, log: Vec<LogEntry>) -> History {
        let kept = self.lock();
        History {
            calls: kept.calls.clone(),
            watches: kept.watches.clone(),
            log,
        }
    }
}
