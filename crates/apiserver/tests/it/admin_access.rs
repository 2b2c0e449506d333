//! Access to devices of others is for namespaces with the label.

use value::{Value, json};

use crate::speak::Speaker;

const LABEL: &str = "resource.kubernetes.io/admin-access";
const MERGE: &str = "merge";

fn spec(admin: bool) -> Value {
    json!({"devices": {"requests": [
        {"name": "plain", "exactly": {"deviceClassName": "gpu"}},
        {"name": "all", "exactly": {"deviceClassName": "gpu", "adminAccess": admin}}]}})
}

fn claim(name: &str, admin: bool) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec(admin)})
}

fn refusal(kind: &str, name: &str, path: &str) -> String {
    format!(
        "{kind}.resource.k8s.io \"{name}\" is invalid: {path}: Forbidden: admin access to devices requires the \
         `{LABEL}: true` label on the containing namespace"
    )
}

async fn admin_access_needs_the_label(api: Speaker) {
    let group = format!("/apis/resource.k8s.io/v1/namespaces/{}", api.namespace);
    let (claims, templates) = (
        format!("{group}/resourceclaims"),
        format!("{group}/resourceclaimtemplates"),
    );
    let template = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "t"},
        "spec": {"spec": spec(true)}});
    let path = "spec.devices.requests[1].adminAccess";
    let refused = |kind: &str, name: &str| refusal(kind, name, path);
    let message = api.post(&claims, &claim("c", true)).await;
    assert_eq!(
        message.refused(422, "Invalid"),
        refused("ResourceClaim", "c")
    );
    let message = api.post(&templates, &template).await;
    assert_eq!(
        message.refused(422, "Invalid"),
        refused("ResourceClaimTemplate", "t")
    );
    api.post(&claims, &claim("plain", false)).await.expect(201);

    // A status that gives such access is refused, too, whoever writes it.
    let status = json!({"status": {"allocation": {"devices": {"results": [
        {"request": "all", "driver": "d.example.com", "pool": "p", "device": "a", "adminAccess": true}]}}}});
    let namespace = format!("/api/v1/namespaces/{}", api.namespace);
    let labelled = |value: &str| json!({"metadata": {"labels": {LABEL: value}}});
    api.patch(&namespace, MERGE, &labelled("true"))
        .await
        .expect(200);
    api.post(&claims, &claim("c", true)).await.expect(201);
    api.post(&templates, &template).await.expect(201);
    api.patch(&namespace, MERGE, &labelled("false"))
        .await
        .expect(200);
    let message = api
        .patch(&format!("{claims}/c/status"), MERGE, &status)
        .await;
    let path = "status.allocation.devices.results[0].adminAccess";
    assert_eq!(
        message.refused(422, "Invalid"),
        refusal("ResourceClaim", "c", path)
    );
    api.patch(&namespace, MERGE, &labelled("true"))
        .await
        .expect(200);
    api.patch(&format!("{claims}/c/status"), MERGE, &status)
        .await
        .expect(200);
    // What was granted stays, and the claim can be changed.
    api.patch(&namespace, MERGE, &labelled("false"))
        .await
        .expect(200);
    let body = json!({"metadata": {"labels": {"a": "b"}}});
    api.patch(&format!("{claims}/c"), MERGE, &body)
        .await
        .expect(200);
}

crate::both!(admin_access_needs_the_label);
