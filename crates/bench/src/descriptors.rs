//! How many connections this machine's limits allow between two processes of it, and why not more.
//!
//! A connection takes one descriptor in the server and one in the client, which share no limit: each process has its own.
//! Knows nothing of what the connections are for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a process needs beside its connections: log, listeners, runtimes, what it reads under `/proc`.
const RESERVED: u64 = 256;
/// Connections that one of the server's runtimes takes (`docs/limits.md`). The kernel deals new ones out by lot, so that
/// a few more come to one runtime than to another: a fiftieth is left free.
const A_CORE_MAX: u64 = 8_000 - 8_000 / 50;
/// Ports of this machine towards one address (Linux: 32768 to 60999), of which others use some.
const PORTS_MAX: u64 = 28_000;

/// What was asked for, and what there is room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub asked: usize,
    pub connections: usize,
    /// Which limit it was, where it is less than asked.
    pub limited_by: Option<String>,
}

impl Room {
    /// Takes all the descriptors that the system gives this process, and sees how many connections they allow.
    pub fn take(asked: usize) -> Room {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let room = Room::of(asked, raise_limit(), cores as u64);
        if let Some(limit) = &room.limited_by {
            eprintln!(
                "{} connections instead of {asked}: {limit}",
                room.connections
            );
        }
        room
    }

    fn of(asked: usize, descriptors: u64, cores: u64) -> Room {
        let limits = [
            (
                descriptors.saturating_sub(RESERVED),
                format!("a process may open {descriptors} descriptors (ulimit -Hn)"),
            ),
            (
                cores * A_CORE_MAX,
                format!("the server takes 8000 connections a core, and there are {cores}"),
            ),
            (
                PORTS_MAX,
                "a machine has about 28000 ports towards one address".to_owned(),
            ),
        ];
        let mut room = Room {
            asked,
            connections: asked,
            limited_by: None,
        };
        for (limit, why) in limits {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            if limit < room.connections {
                (room.connections, room.limited_by) = (limit.max(1), Some(why));
            }
        }
        room
    }
}

/// The server, a child of this process, does the same for itself.
fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_limit_counts_and_is_named() {
        let free = Room::of(5_000, 20_000, 2);
        assert_eq!((free.connections, free.limited_by), (5_000, None));
        let tight = Room::of(20_000, 20_000, 2);
        assert_eq!(tight.connections, 15_680);
        assert_eq!(
            tight.limited_by.as_deref(),
            Some("the server takes 8000 connections a core, and there are 2")
        );
        let tighter = Room::of(20_000, 1_024, 2);
        assert_eq!(tighter.connections, 768);
        assert_eq!(
            tighter.limited_by.as_deref(),
            Some("a process may open 1024 descriptors (ulimit -Hn)")
        );
        assert_eq!(Room::of(50_000, 1 << 20, 64).connections, 28_000);
        assert_eq!(Room::of(5, 0, 1).connections, 1);
    }
}
