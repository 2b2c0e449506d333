//! Several connections as one service: requests take turns, and so do watches, which are counted by themselves because
//! they stay.
//!
//! Knows nothing of what lies under each connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rest::http::{ReplyFuture, Request, Service};

/// Connections in turn.
pub struct Pool {
    connections: Vec<Arc<dyn Service>>,
    requests: AtomicUsize,
    watches: AtomicUsize,
}

impl Pool {
    /// A pool of these; `None` if there are none.
    #[must_use]
    pub fn new(connections: Vec<Arc<dyn Service>>) -> Option<Pool> {
        (!connections.is_empty()).then(|| Pool {
            connections,
            requests: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
        })
    }
}

impl Service for Pool {
    fn call(&self, request: Request) -> ReplyFuture {
        let is_watch = request.query.split('&').any(|part| part == "watch=true");
        let turns = if is_watch {
            &self.watches
        } else {
            &self.requests
        };
        let turn = turns.fetch_add(1, Relaxed) % self.connections.len();
        self.connections[turn].call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rest::http::{Method, Reply};

    struct Counted(AtomicUsize);

    impl Service for Counted {
        fn call(&self, _: Request) -> ReplyFuture {
            self.0.fetch_add(1, Relaxed);
            Box::pin(async { Reply::text(200, "") })
        }
    }

    #[test]
    fn watches_are_spread_whatever_other_requests_come_between() {
        let connections: Vec<Arc<Counted>> = (0..3)
            .map(|_| Arc::new(Counted(AtomicUsize::new(0))))
            .collect();
        let services = connections
            .iter()
            .map(|one| one.clone() as Arc<dyn Service>)
            .collect();
        let pool = Pool::new(services).unwrap();
        let request = |query: &str| Request {
            method: Method::Get,
            path: "/api/v1/pods".into(),
            query: query.into(),
            accept: Arc::default(),
            content_type: Arc::default(),
            user_agent: Arc::default(),
            if_none_match: None,
            body: bytes::Bytes::new(),
            user: None,
        };
        for _ in 0..3 {
            drop(pool.call(request("watch=true&fieldSelector=x")));
            drop(pool.call(request("")));
            drop(pool.call(request("limit=5")));
        }
        let counts: Vec<usize> = connections.iter().map(|one| one.0.load(Relaxed)).collect();
        assert_eq!(counts, [3, 3, 3]);
        assert!(Pool::new(Vec::new()).is_none());
    }
}
