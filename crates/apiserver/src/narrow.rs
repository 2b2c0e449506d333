//! The short way of narrow patches: conditions and status of nodes and pods, taints of nodes.
//!
//! ```text
//!   resource, subresource, patch type ─► stored bytes ─► registry::narrow ─► compare-and-write ─► reply
//!        │ another                          │ none          │ not narrow         │ lost
//!        └──────────────────────────────────┴───────────────┴────────────────────┴──► the general way, from its beginning
//! ```
//!
//! It never refuses: whatever it does not understand it leaves, untouched, to [`crate::write`], whose answer is then the
//! answer. No admission looks at what is written here; when one does, it is to be asked here too.

use kv::{LeaseId, Revision};
use registry::{Narrow, Part};
use rest::negotiate::PatchType;
use rest::paths::Query;
use store::{Change, Precondition};

use crate::api::Call;
use crate::encode::Item;
use crate::state::{node_tag, visible};
use crate::write::Outcome;

/// What became of a narrow patch; `None`, and nothing has happened, for every other one.
pub async fn patch(
    call: &Call<'_>,
    query: &Query,
    subresource: Option<&str>,
    patch_type: PatchType,
) -> Option<Outcome> {
    let part = part(call, subresource, patch_type).filter(|_| !query.dry_run)?;
    let (at, item) = decide_and_write(call, part)?;
    visible(&call.served.collection, at).await;
    Some(Outcome {
        item,
        created: false,
    })
}

fn part(call: &Call<'_>, subresource: Option<&str>, patch_type: PatchType) -> Option<Part> {
    let resource = call.served.resource;
    if !resource.group.is_empty() {
        return None;
    }
    match (resource.resource, subresource, patch_type) {
        ("nodes", Some("status"), PatchType::Strategic) => Some(Part::NodeConditions),
        ("pods", Some("status"), PatchType::Strategic) => Some(Part::PodStatus),
        ("nodes", None, PatchType::Merge) => Some(Part::NodeTaints),
        _ => None,
    }
}

/// Gives the object as it stands then, and the revision that has to be visible before it is told.
fn decide_and_write(call: &Call<'_>, part: Part) -> Option<(Revision, Item)> {
    let served = call.served;
    let key = served.key(call.namespace, call.name());
    let document = &call.request.body;
    let decide = |read: Revision, stored: &[u8]| {
        let narrow = |part| registry::narrow(served.resource, part, stored, read.0, document);
        let narrow = narrow(part).or_else(|| {
            let of_status = matches!(part, Part::NodeConditions | Part::PodStatus);
            of_status.then(|| narrow(Part::Status))?
        })?;
        let tag = served.is_tagged_by_node().then(|| {
            let node = registry::node_of(stored).unwrap_or_default();
            node_tag(node)
        });
        Some((read, narrow, tag))
    };
    let (read, narrow, tag) = served.collection.inspect(&key, decide)??;
    match narrow {
        Narrow::Unchanged => {
            let record = served.collection.get(&key)?;
            let item = Item {
                message: record.value.clone(),
                revision: record.mod_revision.0,
            };
            (record.mod_revision == read).then_some((read, item))
        }
        Narrow::Store(value) => {
            let message = bytes::Bytes::from(value);
            let change = Change::Put {
                value: message.clone(),
                lease: LeaseId::default(),
                tags: tag.as_slice(),
            };
            let condition = Precondition::ModRevision(read);
            let written = served.collection.write(&key, condition, change).ok()?;
            call.state.count_write();
            let item = Item {
                message,
                revision: written.revision.0,
            };
            Some((written.revision, item))
        }
    }
}
