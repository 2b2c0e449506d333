//! The short way of Lease renewals: recognised by their path, decided on bytes, answered at once.
//!
//! ```text
//!   path, query, media types ─► stored bytes ─► registry::renewal ─► compare-and-write ─► reply
//!        │ unusual                  │ none          │ not proven           │ lost
//!        └──────────────────────────┴───────────────┴──────────────────────┴──► the general way, from its beginning
//! ```
//!
//! It never refuses: whatever it does not understand it leaves, untouched, to [`crate::api`], whose answer is then the
//! answer. What it answers itself is byte for byte what the general way would have said; a property test holds the two
//! against each other. Anybody with a certificate may do everything today, and no admission looks at Leases: when
//! either changes, it is to be asked here too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kv::Revision;
use registry::{LeaseAt, Renewal};
use rest::http::{Method, Reply, ReplyFuture, Request};
use rest::negotiate::{self, MediaType, Output, Served as Accepts, Transform, Wish};

use crate::encode::{self, Item};
use crate::state::{SYSTEM_USER, Served, State, visible};

const GROUP_VERSION: &str = "coordination.k8s.io/v1";
const KIND: &str = "Lease";
const BEFORE_NAMESPACE: &str = "/apis/coordination.k8s.io/v1/namespaces/";
const BEFORE_NAME: &str = "/leases/";
/// Longest `namespace/name` that is handled here: 63 and 253 letters and the slash, rounded up.
const KEY_BYTES_MAX: usize = 320;

/// Answers a renewal. `None` for any other request; nothing has happened then.
pub fn answer(state: &Arc<State>, request: &Request) -> Option<ReplyFuture> {
    let (namespace, name) = lease_of(request)?;
    let begun = Instant::now();
    let user = request.user.as_ref()?;
    if !state.ready.load(Ordering::Acquire) && user.name != SYSTEM_USER {
        return None;
    }
    let served = state.leases()?;
    let wish = Wish {
        accept: &request.accept,
        user_agent: &request.user_agent,
        pretty: None,
    };
    let output = negotiate::output(&wish, Accepts::BUILT_IN)
        .ok()
        .filter(|output| output.transform == Transform::None)?;
    let key = Key::new(namespace, name)?;
    let (at, item) = match negotiate::body(&request.content_type, Accepts::BUILT_IN).ok()? {
        MediaType::Protobuf => {
            let sent = message(&request.body)?;
            renew(state, served, &key, namespace, name, sent)?
        }
        MediaType::Json => {
            let sent = from_json(served, &request.body)?;
            renew(state, served, &key, namespace, name, &sent)?
        }
        MediaType::Yaml => return None,
    };
    if served.collection.visible() >= at {
        let reply = reply(state, served, &item, &output, begun);
        return Some(Box::pin(std::future::ready(reply)));
    }
    let (state, served) = (state.clone(), served.clone());
    Some(Box::pin(async move {
        visible(&served.collection, at).await;
        reply(&state, &served, &item, &output, begun)
    }))
}

/// Namespace and name of the Lease that a request updates, if it is an update without options that matter.
fn lease_of(request: &Request) -> Option<(&str, &str)> {
    if request.method != Method::Put {
        return None;
    }
    let rest = request.path.strip_prefix(BEFORE_NAMESPACE)?;
    let (namespace, name) = rest.split_once(BEFORE_NAME)?;
    let plain = |text: &str| {
        let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        !text.is_empty() && text.bytes().all(letters)
    };
    // What client-go adds of itself is the time it is going to wait; the server has no use for it.
    let timeout = request.query.strip_prefix("timeout=");
    let no_options = request.query.is_empty() || timeout.is_some_and(plain);
    (no_options && plain(namespace) && plain(name)).then_some((namespace, name))
}

/// The message in a protobuf body that is, or may be taken for, a Lease.
fn message(body: &[u8]) -> Option<&[u8]> {
    let unknown = schema::envelope::unwrap(body).ok()?;
    let or_left_out = |text: &str, known: &str| text.is_empty() || text == known;
    (or_left_out(unknown.api_version, GROUP_VERSION) && or_left_out(unknown.kind, KIND))
        .then_some(unknown.raw)
}

/// A JSON body as a message. What would be warned about or refused is not for this way.
fn from_json(served: &Served, body: &[u8]) -> Option<Vec<u8>> {
    let (api_version, kind) = schema::peek_type_meta_json(body).ok()?;
    let or_left_out = |text: &str, known: &str| text.is_empty() || text == known;
    if !or_left_out(&api_version, GROUP_VERSION) || !or_left_out(&kind, KIND) {
        return None;
    }
    let decoded = schema::decode_json(served.resource.type_id, body).ok()?;
    if !decoded.complaints.is_empty() {
        return None;
    }
    let mut message = Vec::with_capacity(512);
    schema::encode_protobuf(served.resource.type_id, &decoded.value, &mut message).ok()?;
    Some(message)
}

/// Decides and writes. Gives the Lease as it stands then, and the revision that has to be visible before it is told.
fn renew(
    state: &State,
    served: &Served,
    key: &Key,
    namespace: &str,
    name: &str,
    sent: &[u8],
) -> Option<(Revision, Item)> {
    let decide = |read: Revision, stored: &[u8]| {
        let at = LeaseAt {
            namespace,
            name,
            revision: read.0,
        };
        let decision = registry::renewal(stored, sent, at)?;
        Some((
            read,
            match decision {
                Renewal::Store(next) => (next, true),
                Renewal::Unchanged => (stored.to_vec(), false),
            },
        ))
    };
    let (read, (message, changed)) = served.collection.inspect(key.as_bytes(), decide)??;
    let at = if changed {
        // Lost against another writer: the general way reads again and has the words for it. The same for a full store.
        let written = served.collection.replace(key.as_bytes(), read, &message);
        let at = written.ok()?;
        state.count_write();
        at
    } else {
        read
    };
    let item = Item {
        message: message.into(),
        revision: at.0,
    };
    Some((at, item))
}

fn reply(state: &State, served: &Served, item: &Item, output: &Output, begun: Instant) -> Reply {
    let include = rest::table::IncludeObject::default();
    let reply = encode::object_reply(200, served, item, output, include)
        .unwrap_or_else(|error| Reply::error(&error));
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let resource = Some(served.index);
    state
        .metrics
        .count(resource, "update", reply.status, micros);
    reply
}

/// `namespace/name`, without an allocation.
struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: usize,
}

impl Key {
    fn new(namespace: &str, name: &str) -> Option<Key> {
        let length = namespace.len() + 1 + name.len();
        let mut bytes = [0; KEY_BYTES_MAX];
        let (head, tail) = bytes.get_mut(..length)?.split_at_mut(namespace.len());
        head.copy_from_slice(namespace.as_bytes());
        let (slash, tail) = tail.split_first_mut()?;
        *slash = b'/';
        tail.copy_from_slice(name.as_bytes());
        Some(Key { bytes, length })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
#[path = "renew_tests.rs"]
mod both_ways;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &str, query: &str) -> Request {
        Request {
            method: Method::Put,
            path: path.into(),
            query: query.into(),
            accept: Arc::default(),
            content_type: Arc::default(),
            user_agent: Arc::default(),
            if_none_match: None,
            body: bytes::Bytes::new(),
            user: None,
        }
    }

    #[test]
    fn only_a_put_of_a_lease_without_options_is_recognised() {
        const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1";
        let known = Some(("kube-node-lease", "node-1"));
        assert_eq!(lease_of(&put(PATH, "")), known);
        assert_eq!(lease_of(&put(PATH, "timeout=10s")), known);
        for query in [
            "dryRun=All",
            "timeout=1s&dryRun=All",
            "timeout=%31",
            "pretty=true",
            "timeout=",
        ] {
            assert_eq!(lease_of(&put(PATH, query)), None, "{query}");
        }
        for path in [
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a/status",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a%2e",
            "/apis/coordination.k8s.io/v1/namespaces//leases/a",
            "/apis/coordination.k8s.io/v1/namespaces/a/b/leases/c",
            "/apis/coordination.k8s.io/v1beta1/namespaces/a/leases/c",
            "/api/v1/namespaces/a/leases/c",
        ] {
            assert_eq!(lease_of(&put(path, "")), None, "{path}");
        }
        let get = Request {
            method: Method::Get,
            ..put(PATH, "")
        };
        assert_eq!(lease_of(&get), None);
    }

    #[test]
    fn a_key_is_namespace_and_name_or_too_long() {
        assert_eq!(Key::new("ns", "n").unwrap().as_bytes(), b"ns/n");
        assert!(Key::new(&"a".repeat(63), &"b".repeat(253)).is_some());
        assert!(Key::new(&"a".repeat(63), &"b".repeat(257)).is_none());
    }
}
