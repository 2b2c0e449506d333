//! Access to devices that others use (`adminAccess`) is for namespaces that are labelled for it (k8s: DRAAdminAccess).
//!
//! A claim's spec cannot change, so claims and templates are looked at when they are made; and a claim's status when it
//! first gets such a device. Does not know who may set the label.

use meta::{ApiError, FieldError, FieldPath, Value};
use registry::Update;

use crate::state::{Served, State, visible};

/// The label of such a namespace; its value is `true`.
const LABEL: &str = "resource.kubernetes.io/admin-access";
const GROUP: &str = "resource.k8s.io";

/// A new claim or template asks for such access: may it?
pub async fn check_created(
    state: &State,
    served: &Served,
    namespace: &str,
    object: &Value,
) -> Result<(), ApiError> {
    let spec = match (served.resource.group, served.resource.resource) {
        (GROUP, "resourceclaims") => &object["spec"],
        (GROUP, "resourceclaimtemplates") => &object["spec"]["spec"],
        _ => return Ok(()),
    };
    let requests = spec["devices"]["requests"].as_array();
    let mut requests = requests.into_iter().flatten();
    // Versions before v1 have it at the request itself.
    let asks = |one: &Value| one["exactly"]["adminAccess"] == true || one["adminAccess"] == true;
    let Some(at) = requests.position(asks) else {
        return Ok(());
    };
    let result = {
        // A path is not for other threads, so it ends before there is anything to wait for.
        let path = FieldPath::new("spec").child("devices").child("requests");
        let path = path.index(at).child("adminAccess");
        is_allowed(state, served, namespace, object, &path)
    };
    if result.is_err() {
        settle(state).await;
    }
    result
}

/// A claim's status gets a device with such access: may it?
pub fn check_updated(
    state: &State,
    served: &Served,
    namespace: &str,
    old: &Value,
    update: &Update,
) -> Result<(), ApiError> {
    let is_claim = (served.resource.group, served.resource.resource) == (GROUP, "resourceclaims");
    let Update::Store(new) = update else {
        return Ok(());
    };
    if !is_claim || granted(old).is_some() {
        return Ok(());
    }
    let Some(at) = granted(new) else {
        return Ok(());
    };
    let path = FieldPath::new("status").child("allocation");
    let path = path.child("devices").child("results");
    let path = path.index(at).child("adminAccess");
    is_allowed(state, served, namespace, new, &path)
}

/// A refusal rests on what the namespace was.
pub async fn settle(state: &State) {
    if let Some(namespaces) = state.core("namespaces") {
        visible(&namespaces.collection, namespaces.collection.revision()).await;
    }
}

/// Which device of a claim has such access, the first one.
fn granted(claim: &Value) -> Option<usize> {
    let results = claim["status"]["allocation"]["devices"]["results"].as_array()?;
    results
        .iter()
        .position(|result| result["adminAccess"] == true)
}

fn is_allowed(
    state: &State,
    served: &Served,
    namespace: &str,
    object: &Value,
    path: &FieldPath,
) -> Result<(), ApiError> {
    let Some(namespaces) = state.core("namespaces") else {
        return Ok(());
    };
    let labelled = match namespaces.collection.get(namespace.as_bytes()) {
        Some(record) => {
            let found = namespaces.decode(&record.value, record.mod_revision)?;
            found["metadata"]["labels"][LABEL] == "true"
        }
        None => false,
    };
    if labelled {
        return Ok(());
    }
    let detail = format!(
        "admin access to devices requires the `{LABEL}: true` label on the containing namespace"
    );
    Err(ApiError::invalid(
        served.resource.group,
        served.resource.kind,
        meta::object::name(object),
        vec![FieldError::forbidden(path, detail)],
    ))
}
