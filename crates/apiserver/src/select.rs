//! Which objects a request means: label and field selectors over stored bytes.
//!
//! Looks into the bytes without decoding where the schema allows it, and decodes for the fields that only the
//! registry can tell.

use bytes::Bytes;
use kv::Revision;
use meta::{ApiError, FieldSelector, LabelSelector, Value};
use rest::paths::Query;
use store::Interest;

use crate::facets;
use crate::state::{Served, node_tag};

/// The selectors of one request.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    labels: Option<Box<LabelSelector>>,
    fields: Option<Box<FieldSelector>>,
    /// Name of the one object that can match, if the request says so.
    name: Option<Box<str>>,
}

impl Selection {
    /// Reads the selectors; a field that the kind does not offer is a 400.
    pub fn new(served: &Served, query: &Query) -> Result<Selection, ApiError> {
        let labels = query
            .label_selector
            .clone()
            .filter(|selector| !selector.is_empty())
            .map(Box::new);
        let fields = query.field_selector.as_ref();
        let mut name = None;
        for requirement in fields.iter().flat_map(|fields| fields.requirements()) {
            let field = requirement.field.as_str();
            let known = field == "metadata.name"
                || field == "metadata.namespace" && served.resource.namespaced
                || registry::selectable_fields(served.resource)
                    .iter()
                    .any(|known| known.name == field);
            if !known {
                return Err(ApiError::bad_request(format!(
                    "field label not supported: {field}"
                )));
            }
            if field == "metadata.name" && requirement.op == meta::FieldOperator::Eq {
                name = Some(requirement.value.as_str().into());
            }
        }
        // A watch of one object by its name is what a kubelet has most of: the name says it all.
        let is_name_alone =
            name.is_some() && fields.is_some_and(|all| all.requirements().len() == 1);
        let fields = fields
            .filter(|all| !all.requirements().is_empty() && !is_name_alone)
            .cloned()
            .map(Box::new);
        Ok(Selection {
            labels,
            fields,
            name,
        })
    }

    /// The same, for a watch of one named object.
    pub fn named(mut self, name: &str) -> Selection {
        self.name = Some(name.into());
        self
    }

    /// Whether what an object says counts, and not its name alone.
    pub fn looks_at_values(&self) -> bool {
        self.labels.is_some() || self.fields.is_some()
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_none() && self.name.is_none()
    }

    /// The key of the one object that can match, if that is known.
    fn only_key(&self, served: &Served, namespace: &str) -> Option<Bytes> {
        let name = self.name.as_deref()?;
        (!namespace.is_empty() || !served.resource.namespaced).then(|| served.key(namespace, name))
    }

    /// The keys that a list has to look at: first one, and the one it ends before.
    pub fn range(&self, served: &Served, namespace: &str) -> (Bytes, Option<Bytes>) {
        if let Some(key) = self.only_key(served, namespace) {
            let end = [&key, [0].as_slice()].concat();
            return (key, Some(end.into()));
        }
        let prefix = namespace_prefix(namespace);
        let end = prefix_end(prefix.as_bytes()).map(Bytes::from);
        (prefix.into(), end)
    }

    /// The narrowest interest that the store's watcher index knows for this selection.
    pub fn interest(&self, served: &Served, namespace: &str) -> Interest {
        if let Some(key) = self.only_key(served, namespace) {
            return Interest::Key(key);
        }
        let node = self
            .fields
            .iter()
            .flat_map(|fields| fields.requirements())
            .find(|requirement| {
                served.is_tagged_by_node()
                    && requirement.field == "spec.nodeName"
                    && requirement.op == meta::FieldOperator::Eq
                    && !requirement.value.is_empty()
            });
        if let Some(node) = node {
            return Interest::Tag(node_tag(&node.value));
        }
        let labels = self.labels.as_deref();
        if let Some(interest) = labels.and_then(|labels| facets::interest(labels, namespace)) {
            return interest;
        }
        if namespace.is_empty() {
            Interest::All
        } else {
            Interest::Prefix(namespace_prefix(namespace).into())
        }
    }

    /// Whether the object under `key` with these stored bytes is meant.
    pub fn matches(&self, served: &Served, key: &[u8], message: &[u8]) -> Result<bool, ApiError> {
        let key = std::str::from_utf8(key).unwrap_or_default();
        let (namespace, name) = key.rsplit_once('/').unwrap_or(("", key));
        if self.name.as_deref().is_some_and(|wanted| wanted != name) {
            return Ok(false);
        }
        if let Some(selector) = &self.labels {
            let is_meant = selector.matches_by(|wanted| {
                let mut found = None;
                schema::read_labels(message, |label, value| {
                    if label == wanted {
                        found = Some(value);
                    }
                });
                found
            });
            if !is_meant {
                return Ok(false);
            }
        }
        let Some(selector) = &self.fields else {
            return Ok(true);
        };
        // The tree is made at most once, and only for a field that has no reader.
        let mut decoded: Option<Value> = None;
        for requirement in selector.requirements() {
            let field = requirement.field.as_str();
            let value = match field {
                "metadata.name" => name.to_owned(),
                "metadata.namespace" => namespace.to_owned(),
                _ => match served
                    .field_readers
                    .iter()
                    .find(|(known, _)| *known == field)
                {
                    Some((_, reader)) => reader.read_str(message).unwrap_or_default().into_owned(),
                    None => {
                        if decoded.is_none() {
                            decoded = Some(served.decode(message, Revision(0))?);
                        }
                        let object = decoded.as_ref().unwrap_or(&Value::Null);
                        registry::field_value(served.resource, object, field).unwrap_or_default()
                    }
                },
            };
            let equal = value == requirement.value;
            if equal != (requirement.op == meta::FieldOperator::Eq) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What the keys of a namespace begin with; nothing for all namespaces.
pub fn namespace_prefix(namespace: &str) -> String {
    if namespace.is_empty() {
        String::new()
    } else {
        format!("{namespace}/")
    }
}

/// The end of the keys that begin with a prefix; none for the empty prefix.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_does_not_have_it() {
        assert_eq!(prefix_end(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b""), None);
    }
}
