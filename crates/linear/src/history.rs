//! The words of a history: what was asked, what was answered, what watches told, and when.
//!
//! Knows etcd's data model. Judges nothing.

/// The time of what has not happened.
pub const NEVER: u64 = u64::MAX;

/// Everything that was recorded. Times are nanoseconds since any moment, the same for all.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All calls, in any order.
    pub calls: Vec<Call>,
    /// All watch streams: a client that opens one again after a loss makes a new entry.
    pub watches: Vec<Watched>,
    /// What the server says has happened, from its first revision on, asked when all calls were over.
    pub log: Vec<LogEntry>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who called: only for messages.
    pub client: usize,
    /// When it was sent, at the latest.
    pub begun: u64,
    /// When its answer had come; without an answer, when it could not happen any more: [`NEVER`], or when the server
    /// was surely dead.
    pub ended: u64,
    /// What was asked.
    pub ask: Ask,
    /// What came back.
    pub outcome: Outcome,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A transaction; a put or a delete is one of a single step.
    Txn(Txn),
    /// A read.
    Get {
        /// What is read.
        span: Span,
        /// At which revision; 0 for now.
        revision: i64,
        /// Whether the answer may be old.
        is_serializable: bool,
    },
    /// A lease begins.
    Grant {
        /// Its name.
        id: i64,
        /// Its life, as the server grants it.
        ttl_nanos: u64,
    },
    /// A lease ends, and its keys with it.
    Revoke {
        /// Its name.
        id: i64,
    },
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// What is done if they do.
    pub then: Vec<Step>,
    /// What is done otherwise.
    pub otherwise: Vec<Step>,
}

/// That a key has this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// What it is to have.
    pub target: Target,
}

/// What is compared, always for equality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The revision of the last change; 0 of a key that is not there.
    Modified(i64),
    /// The revision of its making; 0 of a key that is not there.
    Created(i64),
    /// The number of changes since; 0 of a key that is not there.
    Version(i64),
    /// The value; never equal of a key that is not there.
    Value(String),
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key gets a value.
    Put {
        /// The key.
        key: String,
        /// A value that no other call writes.
        value: String,
        /// The lease it hangs on, or 0.
        lease: i64,
    },
    /// Keys go.
    Delete(Span),
    /// Keys are read.
    Get(Span),
}

/// Some keys: from the first, and up to but without `end`; only the first if there is no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first key.
    pub first: String,
    /// The first key beyond; empty for everything.
    pub end: Option<String>,
}

impl Span {
    /// One key.
    #[must_use]
    pub fn one(key: &str) -> Span {
        Span {
            first: key.to_owned(),
            end: None,
        }
    }

    /// Keys from one to before another.
    #[must_use]
    pub fn between(first: &str, end: &str) -> Span {
        Span {
            first: first.to_owned(),
            end: Some(end.to_owned()),
        }
    }

    /// All keys.
    #[must_use]
    pub fn all() -> Span {
        Span::between("", "")
    }

    /// Whether a key is among them.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        match &self.end {
            None => key == self.first,
            Some(end) => key >= self.first.as_str() && (end.is_empty() || key < end.as_str()),
        }
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answered(Answer),
    /// With an error that says it was not done.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The revision of its header.
    pub revision: i64,
    /// Whether the compares held; true for what has none.
    pub succeeded: bool,
    /// The answers of the steps; of a read, the one.
    pub steps: Vec<StepAnswer>,
}

/// The answer of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepAnswer {
    /// Put.
    Put,
    /// So many are gone.
    Deleted(usize),
    /// These are there, by key.
    Got(Vec<Kv>),
}

/// A key as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kv {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The revision of its making.
    pub created: i64,
    /// The revision of its last change.
    pub modified: i64,
    /// Changes since its making, that one included.
    pub version: i64,
    /// Its lease, or 0.
    pub lease: i64,
}

/// A change as a watch tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: String,
    /// The revision of the change.
    pub revision: i64,
    /// What is there now; none if it is gone.
    pub now: Option<Kv>,
    /// What was there before, if the watch asked for that and something was.
    pub before: Option<Kv>,
}

/// All changes of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// The revision.
    pub revision: i64,
    /// Its changes.
    pub events: Vec<Event>,
}

/// One watch stream as it was told.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whose: only for messages.
    pub name: String,
    /// The keys.
    pub span: Span,
    /// The first revision it asked for.
    pub start: i64,
    /// Whether it asked for what was there before.
    pub has_before: bool,
    /// What it was told, in order.
    pub told: Vec<Told>,
}

/// One answer of a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it had come.
    pub at: u64,
    /// The revision of its header. Without events: everything up to there has been told.
    pub revision: i64,
    /// The changes.
    pub events: Vec<Event>,
}
