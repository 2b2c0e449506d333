//! Judges what clients of an etcd were told: whether one order of all operations explains every answer.
//!
//! Knows histories and etcd's promises. Knows no server, no socket and no clock: whoever records a history brings the
//! times.
//!
//! ```text
//!   calls (asked, answered, when) ─┬─► search: Wing & Gong's search with Lowe's memory, a key at a time
//!                                  │
//!   log (every event, in order) ───┼─► facts: each revision is one write and each acknowledged write one revision,
//!   watch streams ─────────────────┘          in the order of time; reads are the state at theirs; watches miss nothing
//! ```
//!
//! The search believes answers, and the log only about which calls without an answer have happened. The facts hold
//! answers against the log that the server tells afterwards, which is stronger (whole ranges, transactions over several
//! keys, leases) and takes time linear in the history.
//!
//! A call without an answer may have happened or not, once, at any time after it began and before [`Call::ended`]. Its
//! writes are found in the log by what they wrote: every value of a history is written by one call only.

mod cell;
mod facts;
mod history;
mod log;
mod owners;
mod search;
mod streams;
mod wrong;

pub use cell::check_keys;
pub use facts::{Found, check};
pub use history::{
    Answer, Ask, Call, Compare, Event, History, Kv, LogEntry, NEVER, Outcome, Span, Step,
    StepAnswer, Target, Told, Txn, Watched,
};
pub use search::{Model, STATES_MAX, Timed, Verdict, search};
pub use wrong::Wrong;
