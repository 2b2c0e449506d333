//! Which events change nothing that their consumer cares for: found on the bytes, so that heartbeats are not decoded.
//!
//! Does not know what is ignored, or why.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use foldhash::quality::RandomState;
use schema::{FieldReader, FieldSet, Resource, envelope, print_without};

/// Nobody's news: the version changes with every write, and the other tells who wrote what when.
const NOBODYS: [&str; 2] = ["metadata.resourceVersion", "metadata.managedFields"];

/// The prints of all objects that one watch told of.
pub(crate) struct Prints {
    api_version: String,
    kind: &'static str,
    left_out: FieldSet,
    name: FieldReader,
    namespace: FieldReader,
    version: FieldReader,
    /// Of an object's name and namespace, to its print. Seeded by chance, so that nobody can make two the same.
    seen: HashMap<u64, u64, RandomState>,
    state: RandomState,
}

impl Prints {
    /// Nothing seen yet. `None`: the kind has no such fields.
    pub(crate) fn new(resource: &'static Resource, ignored: &[&str]) -> Option<Prints> {
        let left_out: Vec<&str> = ignored.iter().chain(&NOBODYS).copied().collect();
        let reader = |path| FieldReader::compile(resource.type_id, path);
        Some(Prints {
            api_version: meta::api_version(resource.group, resource.version),
            kind: resource.kind,
            left_out: FieldSet::compile(resource.type_id, &left_out)?,
            name: reader("metadata.name")?,
            namespace: reader("metadata.namespace")?,
            version: reader("metadata.resourceVersion")?,
            seen: HashMap::default(),
            state: RandomState::default(),
        })
    }

    /// The key of an event's object if nothing changed but what is ignored; `version` is then the event's. Every event
    /// of the watch has to be shown.
    pub(crate) fn unchanged(&mut self, frame: &[u8], version: &mut String) -> Option<String> {
        let (event, object) = envelope::watch_event(frame).ok()?;
        let unknown = envelope::unwrap(object).ok()?;
        if (unknown.api_version, unknown.kind) != (&*self.api_version, self.kind) {
            return None;
        }
        let message = unknown.raw;
        let name = self.name.read_str(message)?;
        let namespace = self.namespace.read_str(message).unwrap_or_default();
        let whose = self.state.hash_one((&namespace, &name));
        if event != "ADDED" && event != "MODIFIED" {
            self.seen.remove(&whose);
            return None;
        }
        let mut hasher = self.state.build_hasher();
        whose.hash(&mut hasher);
        if !print_without(&self.left_out, message, &mut hasher) {
            self.seen.remove(&whose);
            return None;
        }
        let print = hasher.finish();
        let before = self.seen.insert(whose, print);
        if event != "MODIFIED" || before != Some(print) {
            return None;
        }
        version.clear();
        version.push_str(&self.version.read_str(message)?);
        Some(if namespace.is_empty() {
            name.into_owned()
        } else {
            let mut key = String::with_capacity(namespace.len() + 1 + name.len());
            key.push_str(&namespace);
            key.push('/');
            key.push_str(&name);
            key
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta::Value;
    use schema::wire::put_bytes;
    use value::json;

    fn frame(event: &str, lease: &Value) -> Vec<u8> {
        let type_id = schema::kind_type("coordination.k8s.io/v1", "Lease").unwrap();
        let [mut message, mut body, mut raw, mut frame] = [const { Vec::new() }; 4];
        schema::encode_protobuf(type_id, lease, &mut message).unwrap();
        envelope::wrap("coordination.k8s.io/v1", "Lease", &message, &mut body);
        put_bytes(1, event.as_bytes(), &mut frame);
        put_bytes(1, &body, &mut raw);
        put_bytes(2, &raw, &mut frame);
        frame
    }

    fn lease(name: &str, version: u64, second: u64, holder: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "kube-node-lease", "uid": "u", "resourceVersion": version.to_string()},
               "spec": {"holderIdentity": holder, "renewTime": format!("2026-01-02T03:04:{second:02}.000006Z")}})
    }

    fn prints() -> Prints {
        let leases = schema::resources().iter().find(|resource| {
            (resource.group, resource.version, resource.resource)
                == ("coordination.k8s.io", "v1", "leases")
        });
        Prints::new(leases.unwrap(), &["spec.renewTime"]).unwrap()
    }

    #[test]
    fn a_renewal_is_unchanged_from_the_second_on() {
        let (mut prints, mut version) = (prints(), String::new());
        let mut look = |event, lease: &Value| {
            let key = prints.unchanged(&frame(event, lease), &mut version);
            key.map(|key| format!("{key} {version}"))
        };
        let same = |version: u64| Some(format!("kube-node-lease/a {version}"));
        assert_eq!(look("ADDED", &lease("a", 1, 1, "x")), None);
        assert_eq!(look("MODIFIED", &lease("a", 2, 2, "x")), same(2));
        assert_eq!(look("MODIFIED", &lease("b", 3, 2, "x")), None);
        assert_eq!(look("MODIFIED", &lease("a", 4, 3, "x")), same(4));
        assert_eq!(look("MODIFIED", &lease("a", 5, 3, "y")), None);
        assert_eq!(look("MODIFIED", &lease("a", 6, 3, "y")), same(6));
        assert_eq!(look("DELETED", &lease("a", 7, 3, "y")), None);
        assert_eq!(look("ADDED", &lease("a", 8, 3, "y")), None);
        assert_eq!(look("ADDED", &lease("a", 9, 3, "y")), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_unchanged() {
        let (mut prints, mut version) = (prints(), String::new());
        let whole = frame("MODIFIED", &lease("a", 1, 1, "x"));
        assert_eq!(prints.unchanged(&whole, &mut version), None);
        for end in 0..whole.len() {
            assert_eq!(
                prints.unchanged(&whole[..end], &mut version),
                None,
                "cut at {end}"
            );
        }
        let json = br#"{"type":"MODIFIED"}"#;
        assert_eq!(prints.unchanged(json, &mut version), None);
        assert!(prints.unchanged(&whole, &mut version).is_some());
        let leases = prints.kind;
        assert_eq!(leases, "Lease");
        assert!(Prints::new(schema::resources().first().unwrap(), &["spec.nothing"]).is_none());
    }
}
