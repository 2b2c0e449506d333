//! The short way of pods that are created alike: thousands come with the same spec, byte for byte, and what admission,
//! defaults and validation make of it is worked out once.
//!
//! ```text
//!   body ─► metadata, spec ─► namespace and spec known, classes and account as they were? ─► metadata alone is prepared
//!              │ new                                    │ no                                      ─► joined ─► written
//!              └────────────────────────────────────────┴──► the general way, whose result is remembered
//! ```
//!
//! A pod's stored spec and status depend on nothing but the spec that was sent, the priority classes, and whether its
//! service account is there; when something else begins to look at them, it has to become part of the question here. Of
//! the status that was sent nothing is stored, but it has to be one: it is part of what is known. It never refuses:
//! whatever goes wrong is left, untouched, to [`crate::write`], whose answer is then the answer.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use foldhash::quality::RandomState;
use kv::LeaseId;
use meta::Value;
use rest::negotiate::{self, MediaType};
use rest::paths::Query;
use schema::wire::{Reader, Wire, each_field, put_bytes, text};
use store::{Change, Precondition, WriteError};

use crate::admission;
use crate::api::Call;
use crate::encode::Item;
use crate::state::{node_tag, visible};
use crate::write::{NAME_TRIES_MAX, Outcome, with_context};

/// Specs that are remembered; with [`SPEC_BYTES_MAX`], at most 48 MiB and mostly 2. Beyond it the memory begins anew.
const SPECS_MAX: usize = 1_024;
/// Longer specs are not remembered, nor such that come with a longer status.
const SPEC_BYTES_MAX: usize = 16 * 1024;
/// Specs that were seen once. Most come once only, and are not worth more than eight bytes.
const SEEN_MAX: usize = 16 * 1024;
/// Marks pods that stand for a kubelet's static ones: other rules are theirs.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What was worked out.
#[derive(Default)]
pub struct Alike {
    known: Mutex<HashMap<Box<[u8]>, Arc<Known>, RandomState>>,
    seen: Mutex<HashSet<u64>>,
    hashing: RandomState,
}

/// What became of a spec.
struct Known {
    /// As they are stored.
    spec: Box<[u8]>,
    status: Box<[u8]>,
    /// How often priority classes had changed.
    class_changes: u64,
    account: Box<str>,
    /// The mark under which watchers of the pod's node find it.
    tag: u64,
}

/// A pod as it was sent, in its parts.
pub struct SentPod<'a> {
    metadata: &'a [u8],
    /// Namespace, spec and status: what it is remembered by.
    key: Box<[u8]>,
    /// How often priority classes have changed.
    class_changes: u64,
}

impl<'a> SentPod<'a> {
    /// The pod of a request to create one, if this way may be for it.
    pub fn of(call: &'a Call<'_>, query: &Query) -> Option<SentPod<'a>> {
        let resource = call.served.resource;
        if !call.served.is_tagged_by_node() || !call.served.is_direct() || query.dry_run {
            return None;
        }
        let content_type = &call.request.content_type;
        let media = negotiate::body(content_type, negotiate::Served::BUILT_IN);
        if media.ok()? != MediaType::Protobuf {
            return None;
        }
        let unknown = schema::envelope::unwrap(&call.request.body).ok()?;
        if (unknown.api_version, unknown.kind) != (call.served.api_version(), resource.kind) {
            return None;
        }
        let [metadata, spec, status] = parts(unknown.raw)?;
        if spec.len().max(status.len()) > SPEC_BYTES_MAX {
            return None;
        }
        let spec_length = spec.len().to_le_bytes();
        let namespace = call.namespace.as_bytes();
        let key = [namespace, &[0], &spec_length, spec, status].concat();
        Some(SentPod {
            metadata,
            key: key.into(),
            class_changes: admission::priority_class_changes(call.state),
        })
    }

    /// Creates it with what an earlier one came to. `None`, and nothing has happened, if there is none or something is
    /// not as it was then.
    pub async fn create_as_before(&self, call: &Call<'_>) -> Option<Outcome> {
        let (state, served) = (call.state, call.served);
        let known = {
            let known = state.alike.known.lock();
            let known = known.unwrap_or_else(PoisonError::into_inner);
            known.get(&self.key).cloned()?
        };
        if known.class_changes != self.class_changes
            || !admission::service_account_is_there(state, call.namespace, &known.account)
        {
            return None;
        }
        let accepts = admission::namespace_accepts(state, served, call.namespace).await;
        accepts.ok()?;
        let metadata_type = schema::field(served.resource.type_id, "metadata")?.type_id?;
        let metadata = schema::decode_protobuf(metadata_type, self.metadata).ok()?;
        if !metadata["annotations"][MIRROR].is_null() {
            return None;
        }
        for _ in 0..NAME_TRIES_MAX {
            let (key, message) = known.joined(call, metadata_type, &metadata)?;
            let change = Change::Put {
                value: message.clone(),
                lease: LeaseId::default(),
                tags: &[known.tag],
            };
            match served.collection.write(&key, Precondition::Absent, change) {
                Ok(written) => {
                    visible(&served.collection, written.revision).await;
                    state.count_write();
                    state.metrics.created_alike.fetch_add(1, Relaxed);
                    let item = Item {
                        message,
                        revision: written.revision.0,
                    };
                    return Some(Outcome {
                        item,
                        created: true,
                    });
                }
                Err(WriteError::Lost { .. }) if metadata["name"].is_null() => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Remembers what the general way made of it.
    pub fn remember(&self, call: &Call<'_>, stored: &[u8]) {
        let alike = &call.state.alike;
        if !alike.is_seen_again(&self.key) {
            return;
        }
        // Nothing came and went while it was prepared.
        if admission::priority_class_changes(call.state) != self.class_changes {
            return;
        }
        let Some(known) = self.known(stored) else {
            return;
        };
        let mut all = alike.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SPECS_MAX {
            all.clear();
        }
        all.insert(self.key.clone(), Arc::new(known));
    }

    fn known(&self, stored: &[u8]) -> Option<Known> {
        const SERVICE_ACCOUNT_NAME: u32 = 8;
        let [metadata, spec, status] = parts(stored)?;
        if has_mirror(metadata) || spec.len() > SPEC_BYTES_MAX {
            return None;
        }
        Some(Known {
            spec: spec.into(),
            status: status.into(),
            class_changes: self.class_changes,
            account: text_of(spec, SERVICE_ACCOUNT_NAME)?.into(),
            tag: node_tag(registry::node_of(stored)?),
        })
    }
}

impl Alike {
    /// Whether this was asked before.
    fn is_seen_again(&self, key: &[u8]) -> bool {
        let hash = self.hashing.hash_one(key);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        !seen.insert(hash)
    }
}

impl Known {
    /// The key and the message of a pod with this metadata.
    fn joined(
        &self,
        call: &Call<'_>,
        metadata_type: schema::TypeId,
        metadata: &Value,
    ) -> Option<(Bytes, Bytes)> {
        let resource = call.served.resource;
        let ready = with_context(&call.user.name, |context| {
            let namespace = Some(call.namespace);
            registry::prepare_metadata(resource, metadata.clone(), namespace, context)
        });
        let ready = ready.ok()?;
        let mut encoded = Vec::with_capacity(512);
        schema::encode_stored(metadata_type, &ready["metadata"], &mut encoded).ok()?;
        let length = encoded.len() + self.spec.len() + self.status.len();
        let mut message = Vec::with_capacity(length + 3 * (1 + 5));
        put_bytes(1, &encoded, &mut message);
        put_bytes(2, &self.spec, &mut message);
        put_bytes(3, &self.status, &mut message);
        let key = call.served.key(call.namespace, meta::object::name(&ready));
        Some((key, message.into()))
    }
}

/// Metadata, spec and status of a pod, each at most once and in their order.
fn parts(message: &[u8]) -> Option<[&[u8]; 3]> {
    let mut parts: [&[u8]; 3] = [b""; 3];
    let mut last = 0;
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.field().ok()? {
        let (1..=3, Wire::Bytes(bytes)) = (number, wire) else {
            return None;
        };
        if number <= last {
            return None;
        }
        last = number;
        parts[number as usize - 1] = bytes;
    }
    Some(parts)
}

/// The text of a field, empty if it is not there. Of several the last counts, as in what is decoded.
fn text_of(message: &[u8], wanted: u32) -> Option<&str> {
    let mut found = "";
    each_field(message, |number, wire, _| {
        match (number == wanted, wire) {
            (true, Wire::Bytes(bytes)) => found = text(bytes)?,
            (true, _) => return None,
            _ => {}
        }
        Some(())
    })?;
    Some(found)
}

fn has_mirror(metadata: &[u8]) -> bool {
    metadata
        .windows(MIRROR.len())
        .any(|window| window == MIRROR.as_bytes())
}

#[cfg(test)]
#[path = "alike_tests.rs"]
mod tests;
