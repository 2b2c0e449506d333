//! What a caller may ask beside the object: selectors, revisions, preconditions.

use std::sync::Arc;

use meta::Value;
use value::json;

use crate::Only;

/// Options of a list; the default lists everything, consistently, at the newest revision.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Label selector, empty for all.
    pub label_selector: String,
    /// Field selector, empty for all.
    pub field_selector: String,
    /// Objects a page; 0 asks for everything in one reply.
    pub limit: usize,
    /// Where the next page starts, as the previous page said.
    pub continue_token: String,
    /// `resourceVersion`, empty for the newest.
    pub resource_version: String,
    /// What is wanted of the objects; everything if none.
    pub only: Option<Arc<Only>>,
}

/// Options of a watch.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// Label selector, empty for all.
    pub label_selector: String,
    /// Field selector, empty for all.
    pub field_selector: String,
    /// Events after this version.
    pub resource_version: String,
}

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    fn as_str(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// Options of a delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Delete only the object with this uid; empty for any.
    pub uid: String,
    /// What to do with dependents; the kind's default if none.
    pub propagation: Option<Propagation>,
    /// Seconds a pod gets to end; the pod's own if none.
    pub grace_period_seconds: Option<i64>,
}

impl DeleteOptions {
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if !self.uid.is_empty() {
            value["preconditions"] = json!({"uid": self.uid});
        }
        if let Some(propagation) = self.propagation {
            value["propagationPolicy"] = propagation.as_str().into();
        }
        if let Some(seconds) = self.grace_period_seconds {
            value["gracePeriodSeconds"] = seconds.into();
        }
        value
    }
}

/// The patch formats that the API accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PatchType {
    Json,
    Merge,
    StrategicMerge,
}

impl PatchType {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::StrategicMerge => "application/strategic-merge-patch+json",
        }
    }
}

/// Builds a query string, percent-encoding the values.
#[derive(Default)]
pub(crate) struct QueryBuilder(String);

impl QueryBuilder {
    pub(crate) fn add(mut self, name: &str, value: &str) -> QueryBuilder {
        if value.is_empty() {
            return self;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        push_encoded(&mut self.0, value);
        self
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// Appends a part of a URL, percent-encoded; what most names are made of stays as it is.
pub(crate) fn push_encoded(out: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_percent_encoded_and_empty_values_left_out() {
        let query = QueryBuilder::default()
            .add("labelSelector", "a in (b,c)")
            .add("limit", "")
            .add("continue", "x=")
            .finish();
        assert_eq!(query, "labelSelector=a%20in%20%28b%2Cc%29&continue=x%3D");
    }

    #[test]
    fn delete_options_say_only_what_was_asked() {
        assert_eq!(
            DeleteOptions::default().to_value(),
            json!({"kind": "DeleteOptions", "apiVersion": "v1"})
        );
        let options = DeleteOptions {
            uid: "u".into(),
            propagation: Some(Propagation::Foreground),
            grace_period_seconds: Some(0),
        };
        assert_eq!(
            options.to_value(),
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u"},
                   "propagationPolicy": "Foreground", "gracePeriodSeconds": 0})
        );
    }
}
