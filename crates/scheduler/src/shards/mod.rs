//! Where the nodes are kept: in one cluster, or in shards on threads or in other processes.
//!
//! ```text
//!   Scheduler ─► Placer ─┬─ One: a Cluster
//!                        └─ Many: a Coordinator ─► threads.rs, or sockets.rs ─► Shards
//! ```
//!
//! Does not choose nodes. What a scheduler with shards does otherwise is in `runs.rs`.

mod runs;
mod sockets;
mod threads;

pub(crate) use runs::Listing;
pub use sockets::{serve_shard, serve_shards};

use std::net::SocketAddr;
use std::time::Duration;

use placement::Config;
use placement::shards::{Coordinator, Links};

/// One cluster, or a coordinator of shards wherever they are.
pub(crate) type Placer = placement::shards::Placer<Box<dyn Links + Send>>;

/// Wait for a shard's answer; the longest question, a first look at a million nodes, takes about a second.
pub const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Most parts the nodes are divided into.
pub const SHARDS_MAX: usize = placement::shards::SHARDS_MAX;
/// Pause between tries to get a lost shard back.
pub(crate) const REVIVE_INTERVAL: Duration = Duration::from_secs(2);

/// Into how many parts the nodes are divided, and where these are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Shards {
    /// One part, in the scheduler's own thread.
    #[default]
    One,
    /// So many, each on a thread of its own.
    Threads(usize),
    /// In other processes, which serve at these addresses.
    Processes(Vec<SocketAddr>),
}

impl Shards {
    /// So many on threads; one needs none.
    pub fn threads(shards: usize) -> Shards {
        if shards <= 1 {
            Shards::One
        } else {
            Shards::Threads(shards)
        }
    }

    /// What carries messages to them; `None` where there is one part only.
    #[must_use]
    pub fn links(&self, config: &Config) -> Option<Box<dyn Links + Send>> {
        match self {
            Shards::One => None,
            Shards::Threads(shards) => Some(Box::new(threads::Threads::start(*shards, config))),
            Shards::Processes(addresses) => {
                Some(Box::new(sockets::Sockets::connect(addresses, config)))
            }
        }
    }

    pub(crate) fn open(&self, config: Config) -> Placer {
        match self.links(&config) {
            None => Placer::One(Box::new(placement::Cluster::new(config))),
            Some(links) => Placer::Many(Box::new(Coordinator::new(config, links))),
        }
    }
}
