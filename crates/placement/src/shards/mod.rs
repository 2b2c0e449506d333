//! The core in shards: each holds some of the nodes, a coordinator decides which of them places a pod.
//!
//! ```text
//!   Coordinator ──orders──► Links (a call, a thread, a connection) ──► Shard: a Cluster of its own nodes
//!        ▲                                                              │
//!        └──────────── answers: what differs from the last one ◄────────┘
//! ```
//!
//! Any pod gets a node with the score that one [`Cluster`] of all nodes would have given it; decision 0011 says
//! how. What carries messages is a [`Links`]; [`Direct`] is the one that only calls.
//!
//! - [`Coordinator`]: the calls of a [`Cluster`], and [`Coordinator::place_run`] for pods alike.
//! - [`Placer`]: that, or one cluster.
//! - [`Shard`]: takes orders, answers.
//! - [`Request`], [`Reply`]: the messages, and their bytes.
//!
//! Does not know threads, sockets, or how long a shard may take.

mod admitting;
mod choose;
mod coordinator;
mod failing;
mod going;
mod placer;
mod preempting;
mod running;
mod shard;
mod sums;
mod telling;
mod views;
mod volumes;
mod wire;

mod words;

pub use coordinator::Coordinator;
pub use placer::Placer;
pub use shard::Shard;

pub use wire::{Greeting, WIRE_VERSION, WireError};
pub use words::{Reply, Request};

use crate::cluster::{Cluster, Config};
use crate::hashing::Hashing;
use crate::intern::Word;
use crate::tally::Role;
use hashbrown::HashMap;

/// Shards a coordinator may have: who owns a node is found by asking for each.
pub const SHARDS_MAX: usize = 64;

/// Questions asked of shards before their answers are waited for: what carries answers must hold so many.
pub const ASKS_AT_ONCE: usize = 64;

/// A shard that does not answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// What carries messages to shards, each numbered from 0. Messages to one shard arrive in their order, as do
/// answers from it.
pub trait Links {
    /// How many shards there can be, lost ones included; at most [`SHARDS_MAX`].
    fn count(&self) -> usize;

    /// Sends a message, at the latest when an answer is asked for from any shard, or with [`Links::flush`].
    fn send(&mut self, shard: usize, request: Request) -> Result<(), Lost>;

    /// The next answer of a shard.
    fn receive(&mut self, shard: usize) -> Result<Reply, Lost>;

    /// Sends what waits to be sent.
    fn flush(&mut self) {}

    /// Tries to get a lost shard back, empty. True when it is there.
    fn revive(&mut self, _shard: usize) -> bool {
        false
    }
}

impl<L: Links + ?Sized> Links for Box<L> {
    fn count(&self) -> usize {
        (**self).count()
    }

    fn send(&mut self, shard: usize, request: Request) -> Result<(), Lost> {
        (**self).send(shard, request)
    }

    fn receive(&mut self, shard: usize) -> Result<Reply, Lost> {
        (**self).receive(shard)
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn revive(&mut self, shard: usize) -> bool {
        (**self).revive(shard)
    }
}

/// Shards in the same thread.
#[derive(Debug)]
pub struct Direct {
    shards: Vec<Option<Shard>>,
    as_bytes: bool,
    answers: Vec<std::collections::VecDeque<Reply>>,
    config: Config,
}

impl Direct {
    /// So many empty shards.
    pub fn new(shards: usize, config: &Config) -> Direct {
        Direct {
            shards: (0..shards)
                .map(|_| Some(Shard::new(config.clone())))
                .collect(),
            answers: (0..shards).map(|_| Default::default()).collect(),
            as_bytes: false,
            config: config.clone(),
        }
    }

    /// The same, where each message goes through its bytes.
    pub fn through_bytes(shards: usize, config: &Config) -> Direct {
        Direct {
            as_bytes: true,
            ..Direct::new(shards, config)
        }
    }

    /// Nodes and pods of each shard that is there.
    pub fn sizes(&self) -> Vec<(usize, usize)> {
        self.shards.iter().flatten().map(Shard::sizes).collect()
    }

    /// Loses a shard and everything it knew.
    pub fn lose(&mut self, shard: usize) {
        self.shards[shard] = None;
        self.answers[shard].clear();
    }
}

impl Links for Direct {
    fn count(&self) -> usize {
        self.shards.len()
    }

    fn send(&mut self, shard: usize, request: Request) -> Result<(), Lost> {
        let there = self.shards[shard].as_mut().ok_or(Lost)?;
        let mut requests = vec![request];
        if self.as_bytes {
            let bytes = Request::to_bytes(&requests);
            requests = Request::from_bytes(&bytes).map_err(|_| Lost)?;
        }
        for reply in requests
            .into_iter()
            .filter_map(|request| there.take(request))
        {
            let reply = if self.as_bytes {
                Reply::from_bytes(&reply.to_bytes()).map_err(|_| Lost)?
            } else {
                reply
            };
            self.answers[shard].push_back(reply);
        }
        Ok(())
    }

    fn receive(&mut self, shard: usize) -> Result<Reply, Lost> {
        self.answers[shard].pop_front().ok_or(Lost)
    }

    fn revive(&mut self, shard: usize) -> bool {
        self.shards[shard] = Some(Shard::new(self.config.clone()));
        true
    }
}

/// What a shard knows of pods elsewhere: the coordinator's numbers of the terms that pods hold, by tally.
#[derive(Debug)]
pub(crate) struct Outside {
    numbers: HashMap<u32, u32, Hashing>,
}

impl Outside {
    /// Puts terms in the coordinator's order, and leaves out those it does not know (any more).
    pub(crate) fn order(&self, concerning: &mut Vec<(u32, Word, Role)>) {
        concerning.retain(|(tally, ..)| self.numbers.contains_key(tally));
        concerning.sort_by_key(|(tally, ..)| self.numbers.get(tally).copied());
    }
}

impl Cluster {
    /// Becomes one shard of several.
    pub(crate) fn expect_others(&mut self) {
        let numbers = HashMap::with_hasher(self.hashing.clone());
        self.outside = Some(Outside { numbers });
    }

    /// Some pod somewhere holds this term.
    pub(crate) fn hold_term(&mut self, number: u32, role: Role, term: crate::terms::PodTerm) {
        let key = self.fleet.words.acquire(&term.topology_key);
        let subject = crate::tally::Subject::Holders(role, Box::new(term));
        let (tally, is_new) = self.fleet.tallies.acquire(&subject, key);
        if is_new {
            let mut due = crate::fleet::Due::default();
            self.fleet.want(key, &[], true, &mut due);
            self.fleet.follow_interests(due);
        } else {
            self.fleet.words.release(key);
        }
        if let Some(outside) = &mut self.outside {
            outside.numbers.insert(tally, number);
        }
        // Classes look again even where the tally itself was there.
        self.fleet.tallies.namespaces_changed();
    }

    /// No pod holds the term with that number any more.
    pub(crate) fn release_term(&mut self, number: u32) {
        let Some(outside) = &mut self.outside else {
            return;
        };
        let mut numbers = outside.numbers.iter();
        let Some(tally) = numbers.find(|(_, n)| **n == number).map(|(t, _)| *t) else {
            return;
        };
        outside.numbers.remove(&tally);
        if let Some(key) = self.fleet.tallies.release(tally) {
            self.fleet.unwant(key, &[], true);
            self.fleet.words.release(key);
        }
        self.fleet.tallies.namespaces_changed();
    }
}
