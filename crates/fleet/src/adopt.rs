//! Nodes of an earlier run: found by two lists, alive again by their Leases before anything else is looked at, and their
//! statuses compared afterwards.
//!
//! ```text
//!   list of Leases ─► list of Nodes ─► each Lease: known ─► renewed in its turn       list of statuses ─► what differs
//!                                           └─ lost in a crash ─► created                                   is posted
//! ```
//!
//! A million nodes that came back one by one, each with a look at its Node, would be taken for dead meanwhile. A list
//! costs the server one walk, and a node that is as it should be costs no write. Does not know how new nodes register.

use std::sync::Arc;
use std::time::Duration;

use client::{ClientError, ListOptions, Only};
use meta::Value;
use schema::Resource;
use tokio::sync::Semaphore;
use value::json;

use crate::heartbeat::post_whole_status;
use crate::node::{HEALTHY, node_index, status_at};
use crate::register::{create_lease, is_up, version_of};
use crate::{Fleet, REQUESTS_IN_FLIGHT_MAX, resource};

/// Objects of a page: at 2.6 KB a node, 1.3 MB.
const PAGE_OBJECTS: usize = 500;
/// Pause between two pages that are compared: nobody waits for them as for a Lease, and a million are 2,000 pages.
const COMPARE_PAUSE: Duration = Duration::from_millis(10);
/// Pause after a list that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries of a list before nodes are registered one by one: whoever may not list may still register.
const LIST_TRIES_MAX: usize = 20;

/// What is compared of a Node's status. Images go by their names, conditions by what they say.
const COMPARED: [&str; 5] = [
    "status.capacity",
    "status.allocatable",
    "status.images.names",
    "status.conditions.type",
    "status.conditions.status",
];

/// Whose Node objects are there, and the versions of their Leases.
pub(crate) struct Found {
    /// `None`: no Node. 0: a Node without a Lease.
    leases: Vec<Option<u64>>,
    count: usize,
}

impl Found {
    /// Version of the Lease of a node whose Node object is there, 0 if it has none.
    pub(crate) fn lease(&self, index: usize) -> Option<u64> {
        self.leases.get(index).copied().flatten()
    }

    /// Whether there is any node of an earlier run.
    pub(crate) fn any(&self) -> bool {
        self.count > 0
    }
}

/// Lists Leases and Nodes of an earlier run, and notes the uids. Nobody is taken for there that cannot be listed.
pub(crate) async fn find(fleet: &Fleet) -> Found {
    let mut found = Found {
        leases: vec![None; fleet.config.nodes],
        count: 0,
    };
    let mut versions = vec![0; fleet.config.nodes];
    let leases = resource("coordination.k8s.io", "leases");
    let told = listed(fleet, leases, "kube-node-lease", &[], |index, lease| {
        versions[index] = version_of(lease).unwrap_or(1);
    });
    told.await;
    let nodes = resource("", "nodes");
    let told = listed(fleet, nodes, "", &[], |index, node| {
        fleet.nodes.set_uid(index, meta::object::uid(node));
        found.count += usize::from(found.leases[index].is_none());
        found.leases[index] = Some(versions[index]);
    });
    told.await;
    if found.any() {
        tracing::info!(nodes = found.count, "nodes of an earlier run");
    }
    found
}

/// Brings a node back whose Node object is there: it is up when it has a Lease.
pub(crate) async fn adopt(fleet: &Fleet, index: usize, lease: u64) -> Result<(), ClientError> {
    if lease == 0 {
        return create_lease(fleet, index).await;
    }
    is_up(fleet, index, lease);
    Ok(())
}

/// Compares the statuses of all nodes with what they should be, and posts those that differ.
pub(crate) async fn mend(fleet: &Arc<Fleet>) {
    let nodes = resource("", "nodes");
    let Some(only) = Only::new(nodes, &COMPARED) else {
        return;
    };
    let wanted: Vec<Value> = (fleet.config.layout.shapes().iter())
        .map(|shape| {
            let mut place = fleet.config.layout.place(0);
            place.shape = shape;
            as_stored(&only, &json!({"status": status_at(0, &place, 0, 0)}))
        })
        .collect();
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let mut differ = Vec::new();
    let mut pages = Pages::new(fleet, nodes, "", &COMPARED);
    let mut count = 0usize;
    while let Some(page) = pages.next().await {
        for node in &page {
            let index = node_index(meta::object::name(node));
            let Some(index) = index.filter(|index| *index < fleet.config.nodes) else {
                continue;
            };
            let shape = fleet.config.layout.place(index).shape;
            let mut shapes = fleet.config.layout.shapes().iter().zip(&wanted);
            let wanted = shapes.find(|(of, _)| std::ptr::eq(*of, shape));
            if wanted.is_some_and(|(_, wanted)| !is_whole(&wanted["status"], &node["status"])) {
                differ.push(index);
            }
        }
        count += differ.len();
        tokio::time::sleep(COMPARE_PAUSE).await;
        for index in differ.drain(..) {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let fleet = fleet.clone();
            tokio::spawn(async move {
                let _slot = slot;
                fleet.punctual.give_way().await;
                // Until it succeeds, as a registration.
                while fleet.nodes.is_up(index) && !post_whole_status(&fleet, index).await {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            });
        }
    }
    tracing::info!(posted = count, "statuses compared");
}

/// What is compared of a Node as a server would give it back.
fn as_stored(only: &Only, node: &Value) -> Value {
    let mut message = Vec::new();
    let encoded = schema::encode_protobuf(resource("", "nodes").type_id, node, &mut message);
    let decoded = encoded.ok().and_then(|()| only.decode(&message).ok());
    decoded.unwrap_or_default()
}

/// Whether a status says all that is wanted. More than that is others' affair.
fn is_whole(wanted: &Value, status: &Value) -> bool {
    let holds = |field: &str| {
        let wanted = wanted[field].as_object();
        let mut wanted = wanted.into_iter().flat_map(|map| map.iter());
        wanted.all(|(name, quantity)| status[field][&**name] == *quantity)
    };
    let conditions = status["conditions"].as_array();
    let says = |kind: &str, value: &str| {
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| condition["type"] == kind && condition["status"] == value)
    };
    holds("capacity")
        && holds("allocatable")
        && status["images"] == wanted["images"]
        && HEALTHY.iter().all(|[kind, value, ..]| says(kind, value))
}

/// Lists a kind whose objects are named as nodes are, and tells those of the fleet.
async fn listed(
    fleet: &Fleet,
    resource: &'static Resource,
    namespace: &str,
    fields: &[&str],
    mut tell: impl FnMut(usize, &Value),
) {
    let mut pages = Pages::new(fleet, resource, namespace, fields);
    while let Some(page) = pages.next().await {
        for object in &page {
            let index = node_index(meta::object::name(object));
            if let Some(index) = index.filter(|index| *index < fleet.config.nodes) {
                tell(index, object);
            }
        }
    }
}

/// A list, page by page.
struct Pages<'a> {
    fleet: &'a Fleet,
    resource: &'static Resource,
    namespace: &'a str,
    options: ListOptions,
    is_done: bool,
    tries: usize,
}

impl<'a> Pages<'a> {
    fn new(
        fleet: &'a Fleet,
        resource: &'static Resource,
        namespace: &'a str,
        fields: &[&str],
    ) -> Pages<'a> {
        Pages {
            fleet,
            resource,
            namespace,
            options: ListOptions {
                limit: PAGE_OBJECTS,
                only: Only::new(resource, fields).map(Arc::new),
                ..ListOptions::default()
            },
            is_done: false,
            tries: 0,
        }
    }

    /// The next page; `None` after the last one, or when it cannot be had.
    async fn next(&mut self) -> Option<Vec<Value>> {
        while !self.is_done {
            // A server in this process answers at once: others have their turn between two pages.
            tokio::task::yield_now().await;
            let page = self
                .fleet
                .client
                .list(self.resource, self.namespace, &self.options);
            match page.await {
                Ok(page) => {
                    self.is_done = page.continue_token.is_empty();
                    self.options.continue_token = page.continue_token;
                    self.tries = 0;
                    return Some(page.items);
                }
                Err(error) if self.tries >= LIST_TRIES_MAX || error.code() == 403 => {
                    tracing::warn!(resource = self.resource.resource, %error, "cannot be listed");
                    self.is_done = true;
                }
                Err(error) => {
                    tracing::debug!(resource = self.resource.resource, %error, "a list failed, trying again");
                    if error.is_expired() {
                        // From the beginning: what was told is told again.
                        self.options.continue_token.clear();
                    }
                    self.tries += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, NodeShape};

    #[test]
    fn a_status_is_whole_when_it_says_all_that_is_wanted() {
        let nodes = resource("", "nodes");
        let only = Only::new(nodes, &COMPARED).unwrap();
        // Sizes whose canonical form is another unit.
        let layout = Layout::of_one(NodeShape {
            memory_gib: 1024,
            ..NodeShape::default()
        });
        let stored =
            |status: &Value| as_stored(&only, &json!({"status": status}))["status"].clone();
        let whole = status_at(7, &layout.place(7), 3, 1_767_225_600_000_000);
        let wanted = stored(&status_at(0, &layout.place(0), 0, 0));
        assert!(
            wanted["conditions"]
                .as_array()
                .is_some_and(|all| all.len() == 4)
        );
        assert!(is_whole(&wanted, &stored(&whole)));
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut status = whole.clone();
            change(&mut status);
            is_whole(&wanted, &stored(&status))
        };
        assert!(changed(
            &|status| status["capacity"]["example.com/foo"] = "3".into()
        ));
        assert!(changed(&|status| {
            let more = json!({"type": "NetworkUnavailable", "status": "False"});
            status["conditions"].as_array_mut().unwrap().push(more);
        }));
        assert!(!changed(
            &|status| status["conditions"][3]["status"] = "Unknown".into()
        ));
        assert!(!changed(
            &|status| status["allocatable"]["pods"] = "7".into()
        ));
        assert!(!changed(&|status| status["images"] = json!([])));
        assert!(!changed(&|status| {
            status["conditions"].as_array_mut().unwrap().pop();
        }));
    }
}
