//! How many nodes are Ready, counted as any client would: by a watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use client::{Change, Client, Delta, Mirror, Reflector};
use meta::Value;

/// Counts Ready nodes for ever.
pub async fn run(client: Client, ready: Arc<AtomicUsize>) {
    let Some(nodes) = schema::resource("", "v1", "nodes") else {
        return;
    };
    let mut changes = Reflector::new(client, nodes)
        .only(&["status.conditions"])
        .spawn(|node| is_ready(&node));
    let mut mirror = Mirror::default();
    let mut count = 0usize;
    while let Some(change) = changes.recv().await {
        let now = match &change {
            Change::Apply(_, ready) => *ready,
            _ => false,
        };
        let (gone, come) = match mirror.take(change) {
            Some(Delta::Added(_)) => (0, usize::from(now)),
            Some(Delta::Changed(_, was)) => (usize::from(was), usize::from(now)),
            Some(Delta::Removed(_, was)) => (usize::from(was), 0),
            Some(Delta::Synced(lost)) => (lost.iter().filter(|(_, was)| *was).count(), 0),
            None => (0, 0),
        };
        count = (count + come).saturating_sub(gone);
        ready.store(count, Ordering::Relaxed);
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
