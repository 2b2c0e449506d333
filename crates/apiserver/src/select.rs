//! Which objects a request means: label and field selectors over stored bytes.
//!
//! Looks into the bytes without decoding where the schema allows it, and decodes for the fields that only the
//! registry can tell.

use kv::Revision;
use meta::{ApiError, FieldSelector, LabelSelector, Value};
use rest::paths::Query;
use store::Interest;

use crate::state::{Served, node_tag};

/// The selectors of one request.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
    /// Name of the one object that can match, if the request says so.
    name: Option<String>,
}

impl Selection {
    /// Reads the selectors; a field that the kind does not offer is a 400.
    pub fn new(served: &Served, query: &Query) -> Result<Selection, ApiError> {
        let labels = query.label_selector.clone().filter(|selector| !selector.is_empty());
        let fields = query.field_selector.clone().filter(|selector| !selector.requirements().is_empty());
        let mut name = None;
        for requirement in fields.iter().flat_map(|fields| fields.requirements()) {
            let field = requirement.field.as_str();
            let known = field == "metadata.name"
                || field == "metadata.namespace" && served.resource.namespaced
                || registry::selectable_fields(served.resource).iter().any(|known| known.name == field);
            if !known {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
            if field == "metadata.name" && requirement.op == meta::FieldOperator::Eq {
                name = Some(requirement.value.clone());
            }
        }
        Ok(Selection { labels, fields, name })
    }

    /// The same, for a watch of one named object.
    pub fn named(mut self, name: &str) -> Selection {
        self.name = Some(name.to_owned());
        let own = FieldSelector::parse(&format!("metadata.name={name}")).ok();
        self.fields = self.fields.or(own);
        self
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }

    /// The narrowest interest that the store's watcher index knows for this selection.
    pub fn interest(&self, served: &Served, namespace: &str) -> Interest {
        if let Some(name) = &self.name
            && (!namespace.is_empty() || !served.resource.namespaced)
        {
            return Interest::Key(served.key(namespace, name));
        }
        let node = self.fields.iter().flat_map(|fields| fields.requirements()).find(|requirement| {
            requirement.field == "spec.nodeName"
                && requirement.op == meta::FieldOperator::Eq
                && !requirement.value.is_empty()
        });
        if let Some(node) = node {
            return Interest::Tag(node_tag(&node.value));
        }
        if namespace.is_empty() { Interest::All } else { Interest::Prefix(format!("{namespace}/").into()) }
    }

    /// Whether the object under `key` with these stored bytes is meant.
    pub fn matches(&self, served: &Served, key: &[u8], message: &[u8]) -> Result<bool, ApiError> {
        if let Some(selector) = &self.labels {
            let mut labels = serde_json::Map::new();
            schema::read_map(served.storage.type_id, "metadata.labels", message, |key, value| {
                labels.insert(key.to_owned(), value.into());
            });
            if !selector.matches(&Value::Object(labels)) {
                return Ok(false);
            }
        }
        let Some(selector) = &self.fields else { return Ok(true) };
        // The tree is made at most once, and only for a field that has no reader.
        let mut decoded: Option<Value> = None;
        let key = std::str::from_utf8(key).unwrap_or_default();
        let (namespace, name) = key.rsplit_once('/').unwrap_or(("", key));
        for requirement in selector.requirements() {
            let field = requirement.field.as_str();
            let value = match field {
                "metadata.name" => name.to_owned(),
                "metadata.namespace" => namespace.to_owned(),
                _ => match served.field_readers.iter().find(|(known, _)| *known == field) {
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
