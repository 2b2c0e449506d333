//! Plans carried out against an API server of a few lines, which writes down what it is asked.

use super::*;
use rest::http::{Method, Reply, ReplyFuture, Request, Service};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

type Answer = dyn Fn(Method, &str, usize) -> Result<Value, meta::ApiError> + Send + Sync;

/// Answers by a function of method and path; notes both.
struct Fake {
    log: Arc<Mutex<Vec<String>>>,
    in_flight: Arc<AtomicUsize>,
    in_flight_max: Arc<AtomicUsize>,
    answer: Box<Answer>,
}

impl Service for Fake {
    fn call(&self, request: Request) -> ReplyFuture {
        let at = {
            let mut log = self.log.lock().unwrap();
            log.push(format!("{} {}", request.method.as_str(), request.path));
            log.len()
        };
        let reply = match (self.answer)(request.method, &request.path, at) {
            Ok(value) => Reply::full(200, "application/json", value.to_string()),
            Err(error) => Reply::error(&error),
        };
        let (now, max) = (self.in_flight.clone(), self.in_flight_max.clone());
        Box::pin(async move {
            max.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            reply
        })
    }
}

struct Ran {
    report: Report,
    log: Vec<String>,
    in_flight_max: usize,
}

async fn run(
    actions: Vec<Action>,
    unless_node: Option<String>,
    answer: impl Fn(Method, &str, usize) -> Result<Value, meta::ApiError> + Send + Sync + 'static,
) -> Ran {
    let fake = Fake {
        log: Arc::default(),
        in_flight: Arc::default(),
        in_flight_max: Arc::default(),
        answer: Box::new(answer),
    };
    let (log, max) = (fake.log.clone(), fake.in_flight_max.clone());
    let client = Client::new(Arc::new(fake), None, "test");
    let progress = Arc::new(ControllersProgress::default());
    let recorder = Recorder::start(client.clone(), progress.events.clone());
    let executor = Executor::new(client, recorder, progress, 64);
    let job = Job {
        controller: Controller::ReplicaSet,
        key: "d/rs".into(),
        unless_node,
        actions,
    };
    let report = executor.run(job).await;
    let log = log.lock().unwrap().clone();
    Ran {
        report,
        log,
        in_flight_max: max.load(Ordering::SeqCst),
    }
}

fn gr() -> meta::GroupResource {
    meta::GroupResource {
        group: String::new(),
        resource: "pods".into(),
    }
}

fn create(count: usize) -> Vec<Action> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "rs-", "namespace": "d"}});
    let create = Action::Create {
        resource: action::PODS,
        namespace: "d".into(),
        object: Arc::new(pod),
        announce: None,
    };
    vec![create; count]
}

fn delete(name: &str) -> Action {
    Action::Delete {
        resource: action::PODS,
        namespace: "d".into(),
        name: name.into(),
        uid: name.into(),
        propagation: None,
        grace_seconds: None,
        announce: None,
    }
}

fn patch(name: &str) -> Action {
    Action::Patch {
        resource: action::PODS,
        namespace: "d".into(),
        name: name.into(),
        patch_type: reconcile::PatchType::Merge,
        subresource: None,
        body: json!({}),
    }
}

fn made(at: usize) -> Result<Value, meta::ApiError> {
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "uid": at.to_string()}}))
}

#[test]
fn plans_are_cut_into_stretches_of_chains() {
    let shapes = |actions: Vec<Action>| -> Vec<Vec<usize>> {
        stretches(actions)
            .iter()
            .map(|stretch| stretch.iter().map(Vec::len).collect())
            .collect()
    };
    assert_eq!(shapes(create(3)), [[1, 1, 1]]);
    let evictions = vec![
        patch("a"),
        delete("a"),
        patch("b"),
        delete("b"),
        delete("c"),
    ];
    assert_eq!(shapes(evictions), [vec![2, 2], vec![1]]);
    let update = Action::update(action::REPLICA_SETS, json!({"metadata": {"name": "a"}}));
    assert_eq!(shapes(vec![update.clone(), update]), [[1], [1]]);
}

#[tokio::test]
async fn creations_begin_slowly_and_stop_at_the_first_failure() {
    let ran = run(create(100), None, |_, _, at| made(at)).await;
    assert_eq!((ran.report.created.len(), ran.log.len()), (100, 100));
    assert!(ran.report.failure.is_none());
    assert!(
        (2..=32).contains(&ran.in_flight_max),
        "{} at a time, half of 64 are allowed",
        ran.in_flight_max
    );

    let refuse = || Err(meta::ApiError::forbidden(&gr(), "x", "exceeded quota"));
    let ran = run(
        create(100),
        None,
        move |_, _, at| if at > 3 { refuse() } else { made(at) },
    )
    .await;
    assert_eq!((ran.report.created.len(), ran.log.len()), (3, 7));
    let ran = run(create(100), None, move |_, _, _| refuse()).await;
    assert_eq!(ran.log.len(), 1);
    assert_eq!(ran.report.failure.unwrap().kind, FailureKind::Other);
}

#[tokio::test]
async fn what_is_gone_already_counts_as_deleted() {
    let actions = vec![delete("a"), delete("b"), delete("c")];
    let ran = run(actions, None, |_, path, _| {
        if path.ends_with("/a") {
            Err(meta::ApiError::not_found(&gr(), "a"))
        } else if path.ends_with("/b") {
            Err(meta::ApiError::conflict(&gr(), "b", "uid"))
        } else {
            Ok(json!({"kind": "Status"}))
        }
    })
    .await;
    let mut deleted = ran.report.deleted;
    deleted.sort();
    assert_eq!(deleted, [Box::from("a"), "b".into(), "c".into()]);
    assert!(ran.report.failure.is_none());
}

#[tokio::test]
async fn a_conflict_ends_the_plan_and_own_writes_are_told() {
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "rs", "namespace": "d"}});
    let update = || Action::update_status(action::REPLICA_SETS, set.clone());
    let mut reply = set.clone();
    reply["metadata"]["resourceVersion"] = "42".into();
    let ran = run(
        vec![update(), Action::RequeueAfter(7)],
        None,
        move |_, _, _| Ok(reply.clone()),
    )
    .await;
    assert_eq!(
        (ran.report.own_version, ran.report.requeue_micros),
        (42, Some(7))
    );
    assert_eq!(
        ran.log,
        ["PUT /apis/apps/v1/namespaces/d/replicasets/rs/status"]
    );

    let conflict = |_, _: &str, _| Err(meta::ApiError::conflict(&gr(), "rs", "changed"));
    let mut actions = vec![update()];
    actions.extend(create(5));
    let ran = run(actions, None, conflict).await;
    assert_eq!(ran.report.failure.unwrap().kind, FailureKind::Conflict);
    assert_eq!(ran.log.len(), 1);
}

#[tokio::test]
async fn a_finalizer_is_removed_from_the_object_that_was_meant() {
    let object = |uid: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "uid": uid,
               "resourceVersion": "5", "finalizers": ["foregroundDeletion"]}})
    };
    let remove = || {
        vec![Action::RemoveFinalizer {
            resource: action::PODS,
            namespace: "d".into(),
            name: "p".into(),
            uid: "u".into(),
            finalizer: "foregroundDeletion",
        }]
    };
    let ran = run(remove(), None, move |_, _, _| Ok(object("u"))).await;
    assert_eq!(
        ran.log,
        [
            "GET /api/v1/namespaces/d/pods/p",
            "PATCH /api/v1/namespaces/d/pods/p"
        ]
    );
    let ran = run(remove(), None, move |_, _, _| Ok(object("another"))).await;
    assert_eq!(ran.log.len(), 1);
    assert!(ran.report.failure.is_none());
}

#[tokio::test]
async fn owners_are_asked_for_live_and_unknown_kinds_are_never_absent() {
    let check = |kind: &str| Action::CheckOwner {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: "d".into(),
        name: "o".into(),
        uid: "u".into(),
    };
    let ran = run(vec![check("Pod")], None, |_, _, _| {
        Err(meta::ApiError::not_found(&gr(), "o"))
    })
    .await;
    assert_eq!(ran.report.owners, [("u".to_owned(), OwnerFound::Absent)]);
    let ran = run(vec![check("Pod")], None, |_, _, _| {
        Ok(json!({"metadata": {"uid": "u"}}))
    })
    .await;
    assert_eq!(ran.report.owners, [("u".to_owned(), OwnerFound::Present)]);
    let ran = run(vec![check("Widget")], None, |_, _, at| made(at)).await;
    assert!(ran.report.owners.is_empty() && ran.report.failure.is_some() && ran.log.is_empty());
}

#[tokio::test]
async fn pods_of_a_node_that_exists_are_left_alone() {
    let node = Some("n1".to_owned());
    let ran = run(vec![delete("a")], node.clone(), |_, _, at| made(at)).await;
    assert_eq!(ran.log, ["GET /api/v1/nodes/n1"]);
    assert_eq!(ran.report.failure.unwrap().kind, FailureKind::Conflict);
    let ran = run(vec![delete("a")], node, |method, _, _| match method {
        Method::Get => Err(meta::ApiError::not_found(&gr(), "n1")),
        _ => Ok(json!({"kind": "Status"})),
    })
    .await;
    assert_eq!(ran.report.deleted, [Box::from("a")]);
}
