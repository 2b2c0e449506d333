//! What every verb shares: the served resources with their collections, the clock, chance, counters.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kv::Durability;
use kv::Revision;
use meta::{ApiError, GroupResource, Value};
use rest::discovery::Catalog;
use rest::openapi::OpenApi;
use schema::{FieldReader, Resource};
use store::{Collection, CollectionConfig, Store};

use crate::admission::DefaultClass;
use crate::alike::Alike;
use crate::allocate::Allocator;
use crate::event_lease::EventLeases;
use crate::facets;
use crate::frames::FrameCache;
use crate::listing;
use crate::metrics::Metrics;
use crate::stopping::Stopping;

/// Bytes one kind may hold in memory, objects and history together.
const COLLECTION_BYTES_MAX: u64 = 8 << 30;
/// Bytes and seconds of history a kind keeps for watchers that come back (k8s cacher: 75 s).
const HISTORY_BYTES_MAX: u64 = 256 << 20;
/// Kinds that a million nodes change all the time, and what their history may take: 100,000 renewals a second for 75 s
/// are 7.5 million entries of about 140 bytes, because history keeps what changed.
const BUSY_KINDS: [(&str, &str); 3] = [
    ("coordination.k8s.io", "leases"),
    ("", "nodes"),
    ("", "pods"),
];
const BUSY_HISTORY_BYTES_MAX: u64 = 2 << 30;
const HISTORY_SECONDS_MIN: u32 = 75;

/// Who our own components are: in process there is no certificate to read it from.
pub const SYSTEM_USER: &str = "system:megaplane";

/// Kinds whose loss in a crash costs nothing that is not made again within seconds (DESIGN §2).
const MEMORY_KINDS: [(&str, &str); 2] = [("coordination.k8s.io", "leases"), ("", "events")];

/// One resource in one version, as it is served.
pub struct Served {
    /// The resource that the request names.
    pub resource: &'static Resource,
    /// The version in which its objects are stored.
    pub storage: &'static Resource,
    /// `group/version` of `resource`.
    api_version: String,
    /// Place of `resource` in [`schema::resources`], for counters.
    pub index: usize,
    /// Its objects; shared with the other versions of the same resource.
    pub collection: Arc<Collection>,
    /// Frames of recent events, encoded once for all watchers.
    pub frames: FrameCache,
    /// Fields that selectors may name and that are read without decoding.
    pub field_readers: Vec<(&'static str, FieldReader)>,
}

impl Served {
    /// Group and resource, as errors print them.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.resource.group.into(),
            resource: self.resource.resource.into(),
        }
    }

    /// `group/version` of the served version.
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// Whether stored bytes are served as they are, because this version is the stored one or has its shape.
    pub fn is_direct(&self) -> bool {
        self.resource.type_id == self.storage.type_id
    }

    /// The key of an object in its collection: `namespace/name`, or `name`.
    pub fn key(&self, namespace: &str, name: &str) -> Bytes {
        if self.resource.namespaced {
            format!("{namespace}/{name}").into()
        } else {
            name.to_owned().into()
        }
    }

    /// Decodes stored bytes into the served version, with kind, apiVersion and resourceVersion.
    pub fn decode(&self, message: &[u8], revision: Revision) -> Result<Value, ApiError> {
        let damaged = |error: &dyn std::fmt::Display| {
            ApiError::internal(format!(
                "a stored {} cannot be decoded: {error}",
                self.storage.kind
            ))
        };
        let mut value = schema::decode_protobuf(self.storage.type_id, message)
            .map_err(|error| damaged(&error))?;
        if !self.is_direct() {
            value = schema::convert(self.storage, self.resource, value)
                .map_err(|error| damaged(&error))?;
        }
        value["apiVersion"] = self.api_version().into();
        value["kind"] = self.resource.kind.into();
        // What was never stored (a dry run) has no version.
        if revision.0 > 0 {
            value["metadata"]["resourceVersion"] = revision.0.to_string().into();
        }
        Ok(value)
    }

    /// Encodes an object of the served version into the bytes that are stored.
    pub fn encode(&self, object: &Value) -> Result<Bytes, ApiError> {
        let mut message = Vec::with_capacity(1024);
        let encoded = if self.is_direct() {
            schema::encode_stored(self.storage.type_id, object, &mut message)
        } else {
            let converted = schema::convert(self.resource, self.storage, object.clone())
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
            schema::encode_stored(self.storage.type_id, &converted, &mut message)
        };
        encoded.map_err(|error| ApiError::bad_request(error.to_string()))?;
        Ok(message.into())
    }

    /// Whether objects carry the mark of their node, under which watchers find them.
    pub fn is_tagged_by_node(&self) -> bool {
        self.resource.resource == "pods" && self.resource.group.is_empty()
    }

    /// The marks under which watchers of one field's value find an object: a pod's node.
    pub fn tags(&self, object: &Value) -> Vec<u64> {
        if self.is_tagged_by_node() {
            let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
            vec![node_tag(node)]
        } else {
            Vec::new()
        }
    }
}

/// The mark of pods on one node. Equal marks of different nodes only cost a look, selectors decide.
pub fn node_tag(node: &str) -> u64 {
    // FNV-1a: must not change from run to run, because marks are stored.
    node.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Everything one API server holds.
pub struct State {
    /// The store under it.
    pub store: Arc<Store>,
    /// Served resources by group, version and name.
    served: HashMap<(&'static str, &'static str, &'static str), Arc<Served>>,
    /// Leases, found without looking them up.
    leases: Option<Arc<Served>>,
    /// Service addresses and ports.
    pub allocator: Allocator,
    /// Leases that end Events.
    pub event_leases: EventLeases,
    /// The priority class of pods that name none.
    pub default_class: DefaultClass,
    /// Specs of pods that were prepared before.
    pub alike: Alike,
    /// Discovery documents.
    pub catalog: Catalog,
    /// OpenAPI documents.
    pub openapi: OpenApi,
    /// Counters.
    pub metrics: Metrics,
    /// Whether bootstrap is done and requests of others may come.
    pub ready: AtomicBool,
    /// Turns true when the process is asked to end: open watches then end too.
    pub stopping: Stopping,
}

impl State {
    /// Opens the collections of every served resource: of those that are served by default, and of these
    /// group-versions.
    pub fn new(
        store: Arc<Store>,
        stopping: tokio::sync::watch::Receiver<bool>,
        also: &[(&str, &str)],
    ) -> State {
        let is_served = |resource: &schema::Resource| {
            resource.default_served || also.contains(&(resource.group, resource.version))
        };
        let mut served = HashMap::new();
        for (index, resource) in schema::resources().iter().enumerate() {
            if !is_served(resource) || !is_stored(resource) {
                continue;
            }
            let storage = resource.stored_as();
            let collection = store.collection(&prefix(storage), config(storage));
            if resource.type_id == storage.type_id {
                // Once for each kind: by the version that is stored.
                collection.read_with(store::Reading {
                    weigh: listing::weigh,
                    facets: facets::read,
                });
            }
            let field_readers = registry::selectable_fields(resource)
                .iter()
                .filter(|_| resource.type_id == storage.type_id)
                .filter_map(|field| {
                    Some((
                        field.name,
                        FieldReader::compile(resource.type_id, field.path)?,
                    ))
                })
                .collect();
            let entry = Served {
                resource,
                storage,
                api_version: meta::api_version(resource.group, resource.version),
                index,
                collection,
                frames: FrameCache::default(),
                field_readers,
            };
            served.insert(
                (resource.group, resource.version, resource.resource),
                Arc::new(entry),
            );
        }
        let leases = served
            .get(&("coordination.k8s.io", "v1", "leases"))
            .filter(|leases| leases.is_direct())
            .cloned();
        State {
            store,
            leases,
            served,
            allocator: Allocator::default(),
            event_leases: EventLeases::default(),
            default_class: DefaultClass::default(),
            alike: Alike::default(),
            catalog: Catalog::of(schema::resources().iter().filter(|r| is_served(r)), ""),
            openapi: OpenApi::of(
                schema::resources().iter().filter(|r| is_served(r)),
                "v1.36.4",
            ),
            metrics: Metrics::default(),
            ready: AtomicBool::new(false),
            stopping: Stopping::new(stopping),
        }
    }

    /// A served resource.
    pub fn served(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Served>> {
        // The key's lifetime is that of the table; a lookup with shorter names goes through the table's own.
        let known = schema::resource(group, version, resource)?;
        self.served
            .get(&(known.group, known.version, known.resource))
    }

    /// A resource of the core group, which is always served.
    pub fn core(&self, resource: &str) -> Option<&Arc<Served>> {
        self.served("", "v1", resource)
    }

    /// Leases, where they are stored in the version in which they are served.
    pub fn leases(&self) -> Option<&Arc<Served>> {
        self.leases.as_ref()
    }

    /// Every served resource, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.served.values()
    }
}

/// Whether objects of the resource are kept, as against answered on the spot (reviews, bindings).
fn is_stored(resource: &Resource) -> bool {
    resource.verbs.contains(&"get") && resource.verbs.contains(&"create")
}

/// The key prefix of a resource: `/registry/pods/`, `/registry/deployments.apps/`. A layout of our own: kube-apiserver's
/// leaves the group out and names some kinds otherwise (`/registry/deployments/`, `/registry/minions/`).
fn prefix(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("/registry/{}/", resource.resource)
    } else {
        format!("/registry/{}.{}/", resource.resource, resource.group)
    }
}

fn config(resource: &Resource) -> CollectionConfig {
    let name = (resource.group, resource.resource);
    let memory = MEMORY_KINDS.contains(&name);
    CollectionConfig {
        durability: if memory {
            Durability::Memory
        } else {
            Durability::Fsync
        },
        history_bytes_max: if BUSY_KINDS.contains(&name) {
            BUSY_HISTORY_BYTES_MAX
        } else {
            HISTORY_BYTES_MAX
        },
        history_seconds_min: HISTORY_SECONDS_MIN,
        bytes_max: COLLECTION_BYTES_MAX,
        ..CollectionConfig::default()
    }
}

/// Waits until a revision is visible: durable as its class asks.
pub async fn visible(collection: &Collection, revision: Revision) {
    poll_fn(|cx| collection.poll_visible(revision, cx)).await;
}

/// Now, in microseconds since the Unix epoch.
#[must_use]
pub fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

/// A number that cannot be guessed: the system's randomness, keyed per thread, over a counter. Threads that shared one
/// would wait for each other's cores.
pub fn random() -> u64 {
    thread_local! {
        static KEYS: (RandomState, Cell<u64>) = Default::default();
    }
    let next = |(keys, counter): &(RandomState, Cell<u64>)| {
        counter.set(counter.get().wrapping_add(1));
        keys.hash_one(counter.get())
    };
    // At the end of a thread its keys may be gone.
    KEYS.try_with(next)
        .unwrap_or_else(|_| RandomState::new().hash_one(0))
}
