//! What a history can be guilty of, in words.

/// Why no order of operations explains a history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The log is not in order, or empty where it says something happened.
    #[error("the log tells revision {revision} after {before}")]
    LogOrder {
        /// The revision.
        revision: i64,
        /// The one before it.
        before: i64,
    },
    /// An event does not follow from those before it.
    #[error("event of revision {revision} on {key:?}: {what}")]
    Event {
        /// Its revision.
        revision: i64,
        /// Its key.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// An acknowledged write is not in the log at its revision, or another one is.
    #[error("lost: {call} was acknowledged at revision {revision}, where the log has {found}")]
    Lost {
        /// The revision of the answer.
        revision: i64,
        /// The call.
        call: String,
        /// What is there.
        found: String,
    },
    /// Two acknowledged writes have one revision.
    #[error("revision {revision} was given twice, the second time to {call}")]
    Twice {
        /// The revision.
        revision: i64,
        /// The second call.
        call: String,
    },
    /// A revision that nobody has written.
    #[error("nobody has written revision {revision}: {found}")]
    Nobody {
        /// The revision.
        revision: i64,
        /// What the log has there.
        found: String,
    },
    /// An answer that is not the state at its revision.
    #[error("{call} was answered {answer}, but revision {revision} says {expected}")]
    Answer {
        /// The revision the answer rests on.
        revision: i64,
        /// The call.
        call: String,
        /// The answer.
        answer: String,
        /// The right one.
        expected: String,
    },
    /// An answer from before something that was known when it was asked for.
    #[error("{call} began after revision {known} was told, and was answered at {revision}")]
    BackInTime {
        /// The revision of the answer.
        revision: i64,
        /// The call.
        call: String,
        /// What had been told.
        known: i64,
    },
    /// A watch stream that is not the log.
    #[error("watch {name}: {what}")]
    Watch {
        /// Which one.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// No order of the calls on a key explains their answers.
    #[error("the calls on {key:?} have no order: stuck after {placed} of {all}, at {call}")]
    NoOrder {
        /// The key.
        key: String,
        /// So many could be put in an order.
        placed: usize,
        /// So many there are.
        all: usize,
        /// One that could not.
        call: String,
    },
    /// The search gave up, which says nothing about the history.
    #[error("the calls on {key:?} have too many orders to look through")]
    GaveUp {
        /// The key.
        key: String,
    },
}
