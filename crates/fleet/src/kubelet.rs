//! Kubelet-like nodes: each holds the watches that the programs on a real node hold, and hears of its own pods by them.
//!
//! ```text
//!   node is up ─► opens its watches ─► own pods ─► life.rs          a watch ends ─► it is opened again
//!       ▲                              all others: read and dropped
//!       └──(silent: all are closed; storm: all are closed and opened at once)
//! ```
//!
//! One task a node, whatever its watches. Nothing is kept of what they tell. Does not know whether they go over a wire.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use client::{Change, ClientError, WatchEvent, WatchOptions, WatchStream, object_key};
use tokio::sync::{Semaphore, mpsc};

use crate::life::{Kind, Looker, Told};
use crate::node::node_name;
use crate::{Fleet, REQUESTS_IN_FLIGHT_MAX};

/// What the programs of a node watch.
struct Wish {
    group: &'static str,
    resource: &'static str,
    namespace: &'static str,
    /// `{node}` is the node's name.
    field_selector: &'static str,
}

const fn wish(
    group: &'static str,
    resource: &'static str,
    namespace: &'static str,
    field_selector: &'static str,
) -> Wish {
    Wish {
        group,
        resource,
        namespace,
        field_selector,
    }
}

/// The watches of one node. The first is that of its pods.
const WISHES: [Wish; WATCHES_A_NODE] = [
    // The kubelet's own.
    wish("", "pods", "", "spec.nodeName={node}"),
    wish("", "nodes", "", "metadata.name={node}"),
    wish("", "services", "", ""),
    wish("node.k8s.io", "runtimeclasses", "", ""),
    wish("storage.k8s.io", "csidrivers", "", ""),
    wish("resource.k8s.io", "resourceslices", "", ""),
    // It watches what its pods mount: their root certificate, settings, a secret.
    wish(
        "",
        "configmaps",
        "kube-system",
        "metadata.name=kube-root-ca.crt",
    ),
    wish(
        "",
        "configmaps",
        "default",
        "metadata.name=kube-root-ca.crt",
    ),
    wish("", "secrets", "kube-system", "metadata.name=pull-{node}"),
    // kube-proxy.
    wish("", "services", "", ""),
    wish("discovery.k8s.io", "endpointslices", "", ""),
    wish("", "nodes", "", "metadata.name={node}"),
    wish("networking.k8s.io", "servicecidrs", "", ""),
    // A network agent.
    wish("", "pods", "", "spec.nodeName={node}"),
    wish("", "nodes", "", "metadata.name={node}"),
    wish("", "namespaces", "", ""),
    wish("networking.k8s.io", "networkpolicies", "", ""),
    // A storage agent.
    wish("storage.k8s.io", "csinodes", "", "metadata.name={node}"),
];

/// Watches of one kubelet-like node.
pub const WATCHES_A_NODE: usize = 18;
/// Watches of one fleet. The API server serves 4,194,304 of a kind, and three of a node's are of one kind; each takes
/// about 1 KiB there and half of that here: 6 GB.
pub const WATCHES_MAX: usize = 4_000_000;
/// Watches that one HTTP/2 connection carries: servers allow 1,000 streams, and requests need some.
pub const WATCHES_A_CONNECTION_MAX: usize = 900;

/// Whether so many kubelet-like nodes can hold their watches, over so many connections; in this process for `None`.
///
/// # Errors
/// What is too many, and what would do.
pub fn check_watches(nodes: usize, connections: Option<usize>) -> Result<(), String> {
    let watches = nodes.saturating_mul(WATCHES_A_NODE);
    if watches > WATCHES_MAX {
        return Err(format!(
            "{nodes} kubelet-like nodes hold {watches} watches, and at most {WATCHES_MAX} are held: take at most {} nodes",
            WATCHES_MAX / WATCHES_A_NODE
        ));
    }
    let Some(connections) = connections else {
        return Ok(());
    };
    let room = connections.saturating_mul(WATCHES_A_CONNECTION_MAX);
    if watches > room {
        return Err(format!(
            "{nodes} kubelet-like nodes hold {watches} watches, and {connections} connections carry {room}: take \
             --connections {}, or at most {} nodes",
            watches.div_ceil(WATCHES_A_CONNECTION_MAX),
            room / WATCHES_A_NODE
        ));
    }
    Ok(())
}

/// How often a node looks whether it is up.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before a watch that ended is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// Events of one node that are read before other nodes get a turn.
const EVENTS_A_TURN: usize = 64;

/// Holds the watches of all nodes for ever, and tells of their pods.
pub(crate) async fn run(fleet: &Arc<Fleet>, told: mpsc::Sender<Told>) {
    let opening = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let looker = Arc::new(Looker::default());
    let mut kubelets = tokio::task::JoinSet::new();
    for index in 0..fleet.config.nodes {
        let kubelet = Kubelet {
            fleet: fleet.clone(),
            index,
            name: node_name(index),
            opening: opening.clone(),
            looker: looker.clone(),
            told: told.clone(),
        };
        kubelets.spawn(async move { kubelet.live().await });
    }
    while kubelets.join_next().await.is_some() {}
}

struct Kubelet {
    fleet: Arc<Fleet>,
    index: usize,
    name: String,
    opening: Arc<Semaphore>,
    looker: Arc<Looker>,
    told: mpsc::Sender<Told>,
}

/// An open watch, counted while it is.
struct Held<'a> {
    fleet: &'a Fleet,
    stream: WatchStream,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.fleet.progress.watches_open.fetch_sub(1, Relaxed);
    }
}

/// What a look at all streams gave.
enum Heard {
    /// An event of the node's pods.
    Pod(Box<WatchEvent>),
    /// The watch at this place is over.
    Ended(usize),
}

impl Kubelet {
    async fn live(&self) {
        let mut struck = self.fleet.struck.subscribe();
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            while !self.fleet.nodes.is_up(self.index) {
                looks.tick().await;
            }
            let storms = self.fleet.nodes.storms(self.index);
            let mut held: [Option<Held<'_>>; WATCHES_A_NODE] = std::array::from_fn(|_| None);
            let mut is_complete = false;
            loop {
                let is_steady = self.fleet.nodes.talks(self.index)
                    && self.fleet.nodes.storms(self.index) == storms;
                if !is_steady {
                    break;
                }
                if !is_complete {
                    is_complete = self.open_missing(&mut held).await;
                    if !is_complete {
                        tokio::time::sleep(REOPEN_PAUSE).await;
                        continue;
                    }
                }
                tokio::select! {
                    heard = self.hear(&mut held) => match heard {
                        Heard::Pod(event) => if self.tell(*event).await.is_err() { return },
                        Heard::Ended(place) => {
                            held[place] = None;
                            is_complete = false;
                            tokio::time::sleep(REOPEN_PAUSE).await;
                        }
                    },
                    _ = looks.tick() => {}
                    changed = struck.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    /// Opens the watches that are not open. Whether all are now.
    async fn open_missing<'a>(&'a self, held: &mut [Option<Held<'a>>]) -> bool {
        for (place, wish) in WISHES.iter().enumerate() {
            if held[place].is_some() {
                continue;
            }
            let Ok(_slot) = self.opening.acquire().await else {
                return false;
            };
            match self.open(wish).await {
                Ok(stream) => {
                    self.fleet.progress.watches_open.fetch_add(1, Relaxed);
                    held[place] = Some(Held {
                        fleet: &self.fleet,
                        stream,
                    });
                }
                // A server without the kind has nothing to tell of it.
                Err(error) if error.code() == 404 => {}
                Err(error) => {
                    tracing::debug!(node = self.name, resource = wish.resource, %error, "no watch");
                    return false;
                }
            }
        }
        true
    }

    async fn open(&self, wish: &Wish) -> Result<WatchStream, ClientError> {
        let options = WatchOptions {
            // Without a version: what there is comes first, then what changes.
            field_selector: wish.field_selector.replace("{node}", &self.name),
            ..WatchOptions::default()
        };
        let resource = crate::resource(wish.group, wish.resource);
        self.fleet
            .client
            .watch(resource, wish.namespace, &options)
            .await
    }

    /// The next thing worth telling. Everything else is read and dropped.
    async fn hear(&self, held: &mut [Option<Held<'_>>]) -> Heard {
        poll_fn(|cx| {
            let mut events = 0;
            for (place, one) in held.iter_mut().enumerate() {
                let Some(one) = one else { continue };
                loop {
                    if place == 0 {
                        match one.stream.poll_next(cx) {
                            Poll::Pending => break,
                            Poll::Ready(Ok(Some(event))) => {
                                self.fleet.progress.watch_events.fetch_add(1, Relaxed);
                                return Poll::Ready(Heard::Pod(Box::new(event)));
                            }
                            Poll::Ready(_) => return Poll::Ready(Heard::Ended(place)),
                        }
                    }
                    match one.stream.poll_frame(cx) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(Some(frame))) => {
                            self.fleet.progress.watch_events.fetch_add(1, Relaxed);
                            // An error is the last that a watch says.
                            let event = schema::envelope::watch_event(&frame);
                            if !event.is_ok_and(|(kind, _)| kind != "ERROR") {
                                return Poll::Ready(Heard::Ended(place));
                            }
                        }
                        Poll::Ready(_) => return Poll::Ready(Heard::Ended(place)),
                    }
                    events += 1;
                    if events >= EVENTS_A_TURN {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    async fn tell(&self, event: WatchEvent) -> Result<(), mpsc::error::SendError<Told>> {
        let change = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let seen = self.looker.look(&self.fleet, Kind::Pod, &object);
                Change::Apply(object_key(&object), seen)
            }
            WatchEvent::Deleted(object) => Change::Delete(object_key(&object)),
            WatchEvent::Bookmark(_) => return Ok(()),
        };
        self.told.send(change).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_is_a_resource_that_this_build_knows() {
        for wish in &WISHES {
            assert!(
                schema::resource(wish.group, "v1", wish.resource).is_some(),
                "{}",
                wish.resource
            );
        }
    }

    #[test]
    fn too_many_watches_are_refused_with_what_would_do() {
        assert_eq!(check_watches(222_222, None), Ok(()));
        assert_eq!(
            check_watches(1_000_000, None).unwrap_err(),
            "1000000 kubelet-like nodes hold 18000000 watches, and at most 4000000 are held: take at most 222222 nodes"
        );
        assert_eq!(check_watches(100, Some(2)), Ok(()));
        assert_eq!(
            check_watches(1_000, Some(4)).unwrap_err(),
            "1000 kubelet-like nodes hold 18000 watches, and 4 connections carry 3600: take --connections 20, or at \
             most 200 nodes"
        );
    }
}
