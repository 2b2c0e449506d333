//! Delete: at once, by a mark, of many.

use value::json;

use crate::speak::{Speaker, config_map, names, version};

async fn the_answer_to_a_delete(api: Speaker) {
    let path = api.own("configmaps");
    let created = api.post(&path, &config_map("a", "1")).await.expect(201);
    let status = api.delete(&format!("{path}/a")).await.expect(200);
    assert_eq!(
        status,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
               "details": {"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}})
    );
    // Some kinds answer with what was deleted.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
    api.post(&api.own("serviceaccounts"), &account)
        .await
        .expect(201);
    assert_eq!(
        api.delete(&api.own("serviceaccounts/a")).await.expect(200)["kind"],
        "ServiceAccount"
    );
}

async fn preconditions(api: Speaker) {
    let path = api.own("configmaps");
    let one = format!("{path}/a");
    let created = api.post(&path, &config_map("a", "1")).await.expect(201);
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let other =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    let message = api.delete_with(&one, &other).await.refused(409, "Conflict");
    assert!(
        message.contains(&format!(
            "the UID in the precondition (other) does not match the UID in record ({uid})"
        )),
        "{message}"
    );
    let message = api
        .delete_with(&one, &json!({"preconditions": {"resourceVersion": "1"}}))
        .await
        .refused(409, "Conflict");
    assert!(
        message.contains("the ResourceVersion in the precondition (1) does not match"),
        "{message}"
    );
    api.delete_with(&one, &json!({"propagationPolicy": "Sideways"}))
        .await
        .refused(422, "Invalid");
    api.delete(&format!(
        "{one}?propagationPolicy=Orphan&orphanDependents=true"
    ))
    .await
    .refused(422, "Invalid");
    let right = json!({"preconditions": {"uid": uid, "resourceVersion": created["metadata"]["resourceVersion"]}});
    api.delete_with(&one, &right).await.expect(200);
}

async fn finalizers_hold_back(api: Speaker) {
    let path = api.own("configmaps");
    let one = format!("{path}/a");
    let mut object = config_map("a", "1");
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    let created = api.post(&path, &object).await.expect(201);
    let mut watch = api
        .watch(&format!(
            "{path}?watch=1&resourceVersion={}",
            version(&created)
        ))
        .await;
    let marked = api.delete(&one).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(watch.next_words().await, "MODIFIED a");
    assert_eq!(
        api.delete(&one).await.expect(200),
        marked,
        "a second delete changes nothing"
    );
    let more = json!({"metadata": {"finalizers": ["example.com/wait", "example.com/more"]}});
    api.patch(&one, "merge", &more)
        .await
        .refused(422, "Invalid");
    api.post(&path, &object).await.refused(409, "AlreadyExists");
    let last = api
        .patch(&one, "merge", &json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    assert!(last["metadata"]["finalizers"].is_null());
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    api.get(&one).await.refused(404, "NotFound");

    // Propagation is done by finalizers of the garbage collector.
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        api.post(&path, &config_map("b", "1")).await.expect(201);
        let marked = api
            .delete(&format!("{path}/b?propagationPolicy={policy}"))
            .await
            .expect(200);
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        api.patch(
            &format!("{path}/b"),
            "merge",
            &json!({"metadata": {"finalizers": []}}),
        )
        .await
        .expect(200);
        api.get(&format!("{path}/b")).await.refused(404, "NotFound");
    }
}

async fn collections(api: Speaker) {
    let path = api.own("configmaps");
    for number in 0..600 {
        let mut object = config_map(&format!("c{number:03}"), "1");
        object["metadata"]["labels"] = json!({"odd": (number % 2).to_string()});
        if number == 7 {
            object["metadata"]["finalizers"] = json!(["example.com/wait"]);
        }
        api.post(&path, &object).await.expect(201);
    }
    let deleted = api
        .delete(&format!("{path}?labelSelector=odd%3D1"))
        .await
        .expect(200);
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(names(&deleted).len(), 300);
    let left = api.get(&path).await.expect(200);
    assert_eq!(
        names(&left).len(),
        301,
        "the even ones, and the one that is held back"
    );
    assert_eq!(left["items"][4]["metadata"]["name"], "c007");
    assert!(left["items"][4]["metadata"]["deletionTimestamp"].is_string());
    api.patch(
        &format!("{path}/c007"),
        "merge",
        &json!({"metadata": {"finalizers": null}}),
    )
    .await
    .expect(200);
    api.delete(&path).await.expect(200);
    assert_eq!(api.get(&path).await.expect(200)["items"], json!([]));
    assert_eq!(api.delete(&path).await.expect(200)["items"], json!([]));
}

crate::both!(
    the_answer_to_a_delete,
    preconditions,
    finalizers_hold_back,
    collections
);
