//! Looks for an order of overlapping calls that a sequential model allows: the search of Wing and Gong (1993), with
//! the memory of Lowe (2017), which never goes on twice from the same calls done and the same state.
//!
//! ```text
//!   time ─►   a ├──────┤        c ├──────────…  (never answered: may be left out)
//!               b ├────────┤
//!   a call may come next if it began before the first answer among those not placed yet
//! ```
//!
//! Knows no etcd. The search is exponential in how many calls overlap, and ends at [`STATES_MAX`].

use std::collections::HashSet;
use std::hash::Hash;

/// Pairs of calls done and state that are remembered: of about 200 bytes, 200 MB.
pub const STATES_MAX: usize = 1 << 20;

/// What calls do, one after the other.
pub trait Model {
    /// What there is between calls.
    type State: Clone + Eq + Hash;
    /// A call, with what it was answered.
    type Op;

    /// The states that may follow if the call is made now and answered so: none if it cannot be.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Vec<Self::State>;
}

/// A call and when it was.
#[derive(Clone, Debug)]
pub struct Timed<O> {
    /// Its beginning.
    pub begun: u64,
    /// Its end; for an optional one, when it could not happen any more.
    pub ended: u64,
    /// Whether it may not have happened at all.
    pub is_optional: bool,
    /// Calls with a smaller one are tried first. Only a matter of speed: where answers say in which order calls were made,
    /// the first try is the right one.
    pub rank: i64,
    /// The call.
    pub op: O,
}

/// What the search says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Calls in an order that explains them, by their places in what was given.
    Linear(Vec<usize>),
    /// There is none: the longest beginning of one, and a call that cannot follow it.
    Not {
        /// The calls in order.
        longest: Vec<usize>,
        /// One that is due.
        stuck: usize,
    },
    /// Too many to look through.
    GaveUp,
}

/// Calls that are done, a bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, call: usize) -> bool {
        let word = self.0.get(call / 64).copied().unwrap_or_default();
        word >> (call % 64) & 1 == 1
    }

    fn set(&mut self, call: usize, done: bool) {
        if let Some(word) = self.0.get_mut(call / 64) {
            let bit = 1 << (call % 64);
            *word = if done { *word | bit } else { *word & !bit };
        }
    }
}

/// One place of the search: a call was put here, and what else may be tried instead.
struct Place<S> {
    call: usize,
    /// The state before it.
    before: S,
    /// Where in its order of trying the search stood, and which of the states that follow was taken.
    tried: usize,
    branch: usize,
}

/// Looks for an order of `calls` that begins in `first`.
pub fn search<M: Model>(model: &M, first: M::State, calls: &[Timed<M::Op>]) -> Verdict {
    let mut order = Order::by(calls, |call| (call.is_optional, call.rank, call.begun));
    // Optional calls are never due: they come behind all others.
    let mut ends = Order::by(calls, |call| (call.is_optional, 0, call.ended));
    let must = calls.iter().filter(|call| !call.is_optional).count();
    let mut done = Done(vec![0; calls.len().div_ceil(64)]);
    let mut seen: HashSet<(Done, M::State)> = HashSet::new();
    let mut places: Vec<Place<M::State>> = Vec::new();
    let mut longest: Vec<usize> = Vec::new();
    let mut state = first;
    let mut placed_must = 0;
    let (mut tried, mut branch) = (0, 0);
    loop {
        if placed_must == must {
            return Verdict::Linear(places.iter().map(|place| place.call).collect());
        }
        // No call may come next that began after one had ended which is not placed.
        let due = ends.first_open(&done);
        let limit = due
            .and_then(|call| calls.get(call))
            .filter(|call| !call.is_optional)
            .map_or(u64::MAX, |call| call.ended);
        let mut next = None;
        if tried == 0 {
            order.first_open(&done);
            tried = order.from;
        }
        while let Some(&call) = order.calls.get(tried) {
            let fits = calls
                .get(call)
                .filter(|timed| !done.has(call) && timed.begun <= limit);
            // An optional call cannot come once it is too late for it.
            let fits = fits.filter(|timed| !timed.is_optional || is_in_time(timed, &places, calls));
            if let Some(timed) = fits
                && let Some(after) = model.step(&state, &timed.op).into_iter().nth(branch)
            {
                done.set(call, true);
                if seen.insert((done.clone(), after.clone())) {
                    next = Some((call, after));
                    break;
                }
                done.set(call, false);
                branch += 1;
                continue;
            }
            tried += 1;
            branch = 0;
        }
        if seen.len() > STATES_MAX {
            return Verdict::GaveUp;
        }
        if let Some((call, after)) = next {
            let before = std::mem::replace(&mut state, after);
            places.push(Place {
                call,
                before,
                tried,
                branch,
            });
            placed_must += usize::from(calls.get(call).is_some_and(|call| !call.is_optional));
            if places.len() > longest.len() {
                longest = places.iter().map(|place| place.call).collect();
            }
            (tried, branch) = (0, 0);
            continue;
        }
        let Some(place) = places.pop() else {
            let mut done = Done(vec![0; calls.len().div_ceil(64)]);
            longest.iter().for_each(|call| done.set(*call, true));
            ends.from = 0;
            let stuck = ends.first_open(&done).unwrap_or_default();
            return Verdict::Not { longest, stuck };
        };
        done.set(place.call, false);
        order.opened(place.call);
        ends.opened(place.call);
        placed_must -= usize::from(calls.get(place.call).is_some_and(|call| !call.is_optional));
        state = place.before;
        (tried, branch) = (place.tried, place.branch + 1);
    }
}

/// Calls in an order, and where the first is that is not placed.
struct Order {
    calls: Vec<usize>,
    /// Of each call, where it is.
    places: Vec<usize>,
    /// All before are placed.
    from: usize,
}

impl Order {
    fn by<O, K: Ord>(calls: &[Timed<O>], key: impl Fn(&Timed<O>) -> K) -> Order {
        let mut order: Vec<usize> = (0..calls.len()).collect();
        order.sort_by_key(|call| calls.get(*call).map(&key));
        let mut places = vec![0; calls.len()];
        for (place, call) in order.iter().enumerate() {
            if let Some(of) = places.get_mut(*call) {
                *of = place;
            }
        }
        Order {
            calls: order,
            places,
            from: 0,
        }
    }

    /// The first that is not placed.
    fn first_open(&mut self, done: &Done) -> Option<usize> {
        while self
            .calls
            .get(self.from)
            .is_some_and(|call| done.has(*call))
        {
            self.from += 1;
        }
        self.calls.get(self.from).copied()
    }

    /// A call is not placed any more.
    fn opened(&mut self, call: usize) {
        let place = self.places.get(call).copied().unwrap_or_default();
        self.from = self.from.min(place);
    }
}

/// Whether nothing is placed that began after this call had ended.
fn is_in_time<O, S>(timed: &Timed<O>, places: &[Place<S>], calls: &[Timed<O>]) -> bool {
    timed.ended == u64::MAX
        || places.iter().rev().all(|place| {
            calls
                .get(place.call)
                .is_none_or(|placed| placed.begun <= timed.ended)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One number that is written and read.
    struct Register;

    #[derive(Clone, Copy)]
    enum Op {
        Write(u8),
        Read(u8),
    }

    impl Model for Register {
        type State = u8;
        type Op = Op;

        fn step(&self, state: &u8, op: &Op) -> Vec<u8> {
            match op {
                Op::Write(value) => vec![*value],
                Op::Read(value) if value == state => vec![*state],
                Op::Read(_) => Vec::new(),
            }
        }
    }

    fn call(begun: u64, ended: u64, op: Op) -> Timed<Op> {
        Timed {
            begun,
            ended,
            is_optional: false,
            rank: 0,
            op,
        }
    }

    fn maybe(begun: u64, ended: u64, op: Op) -> Timed<Op> {
        Timed {
            is_optional: true,
            ..call(begun, ended, op)
        }
    }

    use Op::{Read, Write};

    #[test]
    fn overlapping_calls_may_have_any_order_and_others_only_theirs() {
        let overlapping = [
            call(0, 9, Write(1)),
            call(1, 2, Read(0)),
            call(3, 8, Read(1)),
        ];
        assert_eq!(
            search(&Register, 0, &overlapping),
            Verdict::Linear(vec![1, 0, 2])
        );
        let stale = [call(0, 1, Write(1)), call(2, 3, Read(0))];
        let verdict = search(&Register, 0, &stale);
        assert_eq!(
            verdict,
            Verdict::Not {
                longest: vec![0],
                stuck: 1
            }
        );
    }

    #[test]
    fn two_readers_must_agree_on_the_order_of_two_writers() {
        let split = [
            call(0, 20, Write(1)),
            call(0, 20, Write(2)),
            call(1, 2, Read(1)),
            call(3, 4, Read(2)),
            call(5, 6, Read(1)),
        ];
        assert!(matches!(search(&Register, 0, &split), Verdict::Not { .. }));
        assert!(matches!(
            search(&Register, 0, &split[..4]),
            Verdict::Linear(_)
        ));
    }

    #[test]
    fn a_call_without_answer_may_have_happened_once_later_or_never() {
        let seen = [maybe(0, u64::MAX, Write(1)), call(5, 6, Read(1))];
        assert_eq!(search(&Register, 0, &seen), Verdict::Linear(vec![0, 1]));
        let unseen = [maybe(0, u64::MAX, Write(1)), call(5, 6, Read(0))];
        assert_eq!(search(&Register, 0, &unseen), Verdict::Linear(vec![1]));
        let late = [
            maybe(0, u64::MAX, Write(1)),
            call(5, 6, Read(0)),
            call(7, 8, Read(1)),
        ];
        assert_eq!(search(&Register, 0, &late), Verdict::Linear(vec![1, 0, 2]));
        let twice = [
            maybe(0, u64::MAX, Write(1)),
            call(5, 6, Read(1)),
            call(7, 8, Write(2)),
            call(9, 10, Read(1)),
        ];
        assert!(matches!(search(&Register, 0, &twice), Verdict::Not { .. }));
    }

    #[test]
    fn a_call_without_answer_cannot_happen_after_its_server_was_dead() {
        let late = [
            maybe(0, 6, Write(1)),
            call(7, 8, Read(0)),
            call(9, 10, Read(1)),
        ];
        assert!(matches!(search(&Register, 0, &late), Verdict::Not { .. }));
    }

    #[test]
    fn the_order_of_trying_changes_no_verdict() {
        let mut calls = vec![
            call(0, 20, Write(1)),
            call(0, 20, Write(2)),
            call(1, 30, Read(2)),
            call(21, 30, Read(1)),
        ];
        for ranks in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]] {
            for (call, rank) in calls.iter_mut().zip(ranks) {
                call.rank = rank;
            }
            assert!(matches!(search(&Register, 0, &calls), Verdict::Linear(_)));
            let stale = [&calls[..], &[call(31, 32, Read(2))]].concat();
            assert!(matches!(search(&Register, 0, &stale), Verdict::Not { .. }));
        }
    }

    #[test]
    fn calls_that_do_not_overlap_are_looked_through_once() {
        let many: Vec<_> = (0..2_000_u64)
            .map(|n| {
                let value = (n / 2 % 200) as u8;
                let op = if n % 2 == 0 {
                    Write(value)
                } else {
                    Read(value)
                };
                call(2 * n, 2 * n + 1, op)
            })
            .collect();
        let in_order: Vec<usize> = (0..many.len()).collect();
        assert_eq!(search(&Register, 0, &many), Verdict::Linear(in_order));
    }
}
