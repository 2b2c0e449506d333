//! Which events change nothing that their consumer cares for: found on the bytes, so that heartbeats are not decoded.
//!
//! Does not know what is ignored, or why.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use foldhash::quality::RandomState;
use schema::{FieldSet, Resource, print_without};

use crate::heard::Event;

/// Nobody's news: the version changes with every write, and the other tells who wrote what when.
const NOBODYS: [&str; 2] = ["metadata.resourceVersion", "metadata.managedFields"];

/// The prints of all objects that one watch told of.
pub(crate) struct Prints {
    left_out: FieldSet,
    /// Of an object's name and namespace, to its print. Seeded by chance, so that nobody can make two the same.
    seen: HashMap<u64, u64, RandomState>,
    state: RandomState,
}

impl Prints {
    /// Nothing seen yet. `None`: the kind has no such fields.
    pub(crate) fn new(resource: &'static Resource, ignored: &[&str]) -> Option<Prints> {
        let left_out: Vec<&str> = ignored.iter().chain(&NOBODYS).copied().collect();
        Some(Prints {
            left_out: FieldSet::compile(resource.type_id, &left_out)?,
            seen: HashMap::default(),
            state: RandomState::default(),
        })
    }

    /// Whether nothing changed but what is ignored. Every event of the watch has to be shown.
    pub(crate) fn is_same(&mut self, event: &Event<'_>, key: &str) -> bool {
        let whose = self.state.hash_one(key);
        if event.is_gone() {
            self.seen.remove(&whose);
            return false;
        }
        let mut hasher = self.state.build_hasher();
        whose.hash(&mut hasher);
        if !print_without(&self.left_out, event.message, &mut hasher) {
            self.seen.remove(&whose);
            return false;
        }
        let print = hasher.finish();
        let before = self.seen.insert(whose, print);
        event.kind == "MODIFIED" && before == Some(print)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta::Value;
    use value::json;

    fn leases() -> &'static Resource {
        schema::resource("coordination.k8s.io", "v1", "leases").unwrap()
    }

    fn lease(name: &str, version: u64, second: u64, holder: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "kube-node-lease", "uid": "u", "resourceVersion": version.to_string()},
               "spec": {"holderIdentity": holder, "renewTime": format!("2026-01-02T03:04:{second:02}.000006Z")}})
    }

    #[test]
    fn a_renewal_is_the_same_from_the_second_on() {
        let mut prints = Prints::new(leases(), &["spec.renewTime"]).unwrap();
        let mut look = |kind, lease: &Value| {
            let mut message = Vec::new();
            schema::encode_protobuf(leases().type_id, lease, &mut message).unwrap();
            let event = Event {
                kind,
                message: &message,
                version: "".into(),
            };
            prints.is_same(&event, lease["metadata"]["name"].as_str().unwrap())
        };
        assert!(!look("ADDED", &lease("a", 1, 1, "x")));
        assert!(look("MODIFIED", &lease("a", 2, 2, "x")));
        assert!(!look("MODIFIED", &lease("b", 3, 2, "x")));
        assert!(look("MODIFIED", &lease("a", 4, 3, "x")));
        assert!(!look("MODIFIED", &lease("a", 5, 3, "y")));
        assert!(look("MODIFIED", &lease("a", 6, 3, "y")));
        assert!(!look("DELETED", &lease("a", 7, 3, "y")));
        assert!(!look("ADDED", &lease("a", 8, 3, "y")));
        assert!(!look("ADDED", &lease("a", 9, 3, "y")));
        assert!(Prints::new(leases(), &["spec.nothing"]).is_none());
    }
}
