//! The life of a namespace.

use value::json;

use crate::speak::{Speaker, config_map};

async fn nothing_is_made_outside_of_namespaces(api: Speaker) {
    let message = api
        .post(
            "/api/v1/namespaces/nowhere/configmaps",
            &config_map("a", "1"),
        )
        .await
        .refused(404, "NotFound");
    assert_eq!(message, "namespaces \"nowhere\" not found");
}

async fn a_namespace_ends_in_steps(api: Speaker) {
    let one = format!("/api/v1/namespaces/{}", api.namespace);
    api.post(&api.own("configmaps"), &config_map("a", "1"))
        .await
        .expect(201);
    let before = api.get(&one).await.expect(200);
    assert_eq!(before["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(before["status"]["phase"], "Active");
    assert_eq!(
        before["metadata"]["labels"]["kubernetes.io/metadata.name"],
        api.namespace.as_str()
    );
    let ending = api.delete(&one).await.expect(200);
    assert_eq!(ending["status"]["phase"], "Terminating");
    let answer = api
        .post(&api.own("configmaps"), &config_map("b", "1"))
        .await;
    let message = answer.refused(403, "Forbidden");
    assert_eq!(
        message,
        format!(
            "configmaps is forbidden: unable to create new content in namespace {} because it is being terminated",
            api.namespace
        )
    );
    assert_eq!(
        answer.json()["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    // What is there can still be changed and deleted.
    api.put(&api.own("configmaps/a"), &config_map("a", "2"))
        .await
        .expect(200);
    api.delete(&api.own("configmaps/a")).await.expect(200);
    let mut finalized = api.get(&one).await.expect(200);
    finalized["spec"]["finalizers"] = json!([]);
    let last = api
        .put(&format!("{one}/finalize"), &finalized)
        .await
        .expect(200);
    assert_eq!(last["status"]["phase"], "Terminating");
    api.delete(&one).await;
    api.get(&one).await.refused(404, "NotFound");
    api.post(&api.own("configmaps"), &config_map("b", "1"))
        .await
        .refused(404, "NotFound");
}

async fn some_namespaces_stay(api: Speaker) {
    for name in ["default", "kube-system", "kube-public"] {
        let message = api
            .delete(&format!("/api/v1/namespaces/{name}"))
            .await
            .refused(403, "Forbidden");
        assert_eq!(
            message,
            format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted")
        );
    }
}

crate::both!(
    nothing_is_made_outside_of_namespaces,
    a_namespace_ends_in_steps,
    some_namespaces_stay
);
