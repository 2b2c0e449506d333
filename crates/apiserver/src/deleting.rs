//! DELETE of one object or of what a selection means, and its options.

use kv::Revision;
use meta::{ApiError, FieldError, FieldPath, Value};
use registry::DeleteOptions;
use rest::http::Reply;
use rest::paths::Query;
use schema::Resource;
use value::json;

use crate::api::Call;
use crate::select::Selection;
use crate::state::visible;
use crate::write::{Address, Mode};
use crate::{body, encode, listing};

/// Deletes of one request that wait for the disk together.
const DELETES_AT_ONCE: usize = 256;

/// Kinds whose DELETE answers with the object as it was; of others it answers with a `Status` (k8s
/// `ReturnDeletedObject`).
const RETURNED: [(&str, &str); 17] = [
    ("", "nodes"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

fn returns_the_deleted(resource: &Resource) -> bool {
    RETURNED.contains(&(resource.group, resource.resource))
}

impl Call<'_> {
    pub async fn delete(&self, query: &Query) -> Result<Reply, ApiError> {
        let output = self.output(query)?;
        let (options, dry_run) = self.delete_options(query)?;
        let mode = Mode {
            dry_run,
            ..self.mode(query)
        };
        let (item, gone) = self
            .state
            .delete(self.address(None), &options, mode)
            .await?;
        if !gone || returns_the_deleted(self.served.resource) {
            return encode::object_reply(200, self.served, &item, &output, query.include_object()?);
        }
        let object = self
            .served
            .decode(&item.message, kv::Revision(item.revision))?;
        let details = meta::Details {
            name: self.name().into(),
            group: self.served.resource.group.into(),
            kind: self.served.resource.resource.into(),
            uid: meta::object::uid(&object).into(),
            ..meta::Details::default()
        };
        encode::value_reply(200, meta::status::success_status(Some(&details)), &output)
    }

    /// Deletes what a selection means, one object after the other (k8s: list, then delete each).
    pub async fn delete_collection(&self, query: &Query) -> Result<Reply, ApiError> {
        let output = self.output(query)?;
        let (options, dry_run) = self.delete_options(query)?;
        let selection = Selection::new(self.served, query)?;
        let mode = Mode {
            dry_run,
            ..self.mode(query)
        };
        let stretch = self
            .state
            .stretch(self.served, self.namespace, selection, query)
            .await?;
        let limit = query.limit.unwrap_or(usize::MAX);
        let page = self
            .state
            .page(self.served, self.namespace, stretch, limit)
            .await?;
        let collection = &self.served.collection;
        let mut waited_for = 0;
        let mut newest = Revision::default();
        for (index, (key, _)) in page.items.iter().enumerate() {
            let key = String::from_utf8_lossy(key);
            let (namespace, name) = key.rsplit_once('/').unwrap_or(("", &key));
            let at = Address {
                served: self.served,
                subresource: None,
                namespace,
                name,
            };
            let (revision, result) = self.state.delete_at_once(at, &options, mode);
            newest = newest.max(revision);
            let refused = match result {
                Err(error) if error.reason != meta::Reason::NotFound => Some(error),
                _ => None,
            };
            // Many deletes share one wait for the disk, and others get their turn between.
            if refused.is_some() || index - waited_for >= DELETES_AT_ONCE {
                visible(collection, newest).await;
                tokio::task::yield_now().await;
                waited_for = index;
            }
            if let Some(error) = refused {
                return Err(error);
            }
        }
        visible(collection, newest).await;
        listing::list_reply(self.served.clone(), page, &output, query.include_object()?)
    }

    /// Options of the body, or of the query where there is no body.
    fn delete_options(&self, query: &Query) -> Result<(DeleteOptions, bool), ApiError> {
        if self.request.body.is_empty() {
            let mut options = json!({});
            if let Some(seconds) = query.grace_period_seconds {
                options["gracePeriodSeconds"] = seconds.into();
            }
            if let Some(policy) = query.propagation_policy {
                options["propagationPolicy"] = policy.as_str().into();
            }
            if let Some(orphan) = query.orphan_dependents {
                options["orphanDependents"] = orphan.into();
            }
            return Ok((DeleteOptions::from_value(&options)?, query.dry_run));
        }
        let own = self.served.api_version();
        let type_id = schema::kind_type("v1", "DeleteOptions")
            .ok_or_else(|| ApiError::internal("the schema has no DeleteOptions"))?;
        // Clients send DeleteOptions as v1 or in the group of the resource.
        let mut sent = None;
        for api_version in ["v1", "meta.k8s.io/v1", own] {
            let expected = body::Expected {
                api_version,
                kind: "DeleteOptions",
                type_id,
            };
            let decoded = body::decode(
                &self.request.body,
                &self.request.content_type,
                &expected,
                schema::FieldValidation::Ignore,
            );
            let failed = decoded.is_err();
            sent = Some(decoded);
            if !failed {
                break;
            }
        }
        let object = match sent {
            Some(decoded) => decoded?.object,
            None => Value::Null,
        };
        let asked = object["dryRun"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if asked.iter().any(|word| word != "All") {
            let error =
                FieldError::not_supported(&FieldPath::new("dryRun"), Value::from(asked), &["All"]);
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                vec![error],
            ));
        }
        let dry_run = query.dry_run || !asked.is_empty();
        Ok((DeleteOptions::from_value(&object)?, dry_run))
    }
}
