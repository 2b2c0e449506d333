//! Nothing is told before it would survive a crash: answers wait for the log, each for what it rests on.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use store::{Store, StoreConfig};
use value::json;

use crate::plane::{Plane, block_on};
use crate::speak::{Answer, Speaker, config_map};

/// A server whose log is written when the test says so.
struct Held {
    plane: Plane,
}

impl Held {
    async fn new() -> Held {
        let held = Held {
            plane: Plane::over(Arc::new(Store::new(StoreConfig {
                log: true,
                ..StoreConfig::default()
            }))),
        };
        // A log that is open has revisions set aside.
        held.plane.store.reserve(kv::Revision(1_000_000));
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6443));
        let mut bootstrap = Box::pin(held.plane.api.bootstrap(address));
        loop {
            match poll_once(&mut bootstrap).await {
                Some(result) => break result.unwrap(),
                None => held.write_log(),
            }
        }
        drop(bootstrap);
        held
    }

    /// All that was written is on disk now.
    fn write_log(&self) {
        let store = &self.plane.store;
        let upto = store.applied();
        let mut records = Vec::new();
        store.drain_log(&mut records);
        store.set_written(upto);
        store.set_durable(upto);
    }

    /// Asserts that an answer does not come before the log is written, and gives it.
    async fn waits<F: Future<Output = Answer>>(&self, what: &str, answer: F) -> Answer {
        let mut answer = Box::pin(answer);
        assert!(
            poll_once(&mut answer).await.is_none(),
            "{what} did not wait for the log"
        );
        self.write_log();
        answer.await
    }
}

/// Polls a few times: some answers give others their turn before they wait.
async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
    for _ in 0..10 {
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(output);
        }
    }
    None
}

/// Applied and not yet durable: the future of a write, polled once and kept.
async fn begin<'a>(
    api: &'a Speaker,
    path: &'a str,
    name: &'static str,
) -> Pin<Box<dyn Future<Output = Answer> + 'a>> {
    let mut write: Pin<Box<dyn Future<Output = Answer> + 'a>> =
        Box::pin(async move { api.post(path, &config_map(name, "1")).await });
    assert!(
        poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    write
}

#[test]
fn answers_wait_for_what_they_rest_on() {
    block_on(async {
        let held = Held::new().await;
        let api = held.plane.speaker();
        let path = api.own("configmaps");
        let one = |name: &str| format!("{path}/{name}");
        held.waits("create", api.post(&path, &config_map("a", "1")))
            .await
            .expect(201);

        // What others wrote and is not durable yet.
        let write = begin(&api, &path, "b").await;
        held.waits("get", api.get(&one("b"))).await.expect(200);
        write.await.expect(201);
        let write = begin(&api, &path, "c").await;
        held.waits("list", api.get(&path)).await.expect(200);
        write.await.expect(201);
        let write = begin(&api, &path, "d").await;
        held.waits("a lost create", api.post(&path, &config_map("d", "1")))
            .await
            .refused(409, "AlreadyExists");
        write.await.expect(201);
        let write = begin(&api, &path, "e").await;
        held.waits(
            "a dry run",
            api.post(&format!("{path}?dryRun=All"), &config_map("e", "1")),
        )
        .await
        .expect(409);
        write.await.expect(201);
        let write = begin(&api, &path, "f").await;
        held.waits(
            "an update of nothing",
            api.put(&one("f"), &config_map("f", "1")),
        )
        .await
        .expect(200);
        write.await.expect(201);
        let write = begin(&api, &path, "g").await;
        let stale = json!({"metadata": {"resourceVersion": "1"}});
        held.waits("a stale patch", api.patch(&one("g"), "merge", &stale))
            .await
            .refused(409, "Conflict");
        write.await.expect(201);
        let write = begin(&api, &path, "h").await;
        let options = json!({"preconditions": {"uid": "x"}});
        held.waits("a refused delete", api.delete_with(&one("h"), &options))
            .await
            .refused(409, "Conflict");
        write.await.expect(201);
        let write = begin(&api, &path, "i").await;
        held.waits(
            "a dry update",
            api.put(&format!("{}?dryRun=All", one("i")), &config_map("i", "2")),
        )
        .await
        .expect(200);
        write.await.expect(201);

        // Its absence is news, too.
        let mut delete = Box::pin(api.delete("/api/v1/namespaces/default/configmaps/a"));
        assert!(poll_once(&mut delete).await.is_none());
        held.waits("a get of what goes", api.get(&one("a")))
            .await
            .refused(404, "NotFound");
        delete.await.expect(200);
        held.waits("a delete of many", api.delete(&path))
            .await
            .expect(200);
    });
}

#[test]
fn watches_show_what_is_durable() {
    block_on(async {
        let held = Held::new().await;
        let api = held.plane.speaker();
        let path = api.own("configmaps");
        let mut watch = api.watch(&format!("{path}?watch=1")).await;
        assert!(watch.is_quiet().await);
        let write = begin(&api, &path, "a").await;
        assert!(watch.is_quiet().await);
        held.write_log();
        assert_eq!(watch.next_words().await, "ADDED a");
        write.await.expect(201);
    });
}

/// Heartbeats and Events are not worth a disk; what is made of durable things waits for these.
#[test]
fn leases_and_events_do_not_wait() {
    block_on(async {
        let held = Held::new().await;
        let api = held.plane.speaker();
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n"}});
        let path = api.own("coordination.k8s.io/v1/leases");
        let mut create = Box::pin(api.post(&path, &lease));
        poll_once(&mut create)
            .await
            .expect("a Lease waited for the log")
            .expect(201);
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}});
        let mut created = Box::pin(api.post("/api/v1/namespaces", &namespace));
        assert!(poll_once(&mut created).await.is_none());
        let path = "/apis/coordination.k8s.io/v1/namespaces/new/leases";
        held.waits(
            "a Lease in a namespace that may be lost",
            api.post(path, &lease),
        )
        .await
        .expect(201);
        created.await.expect(201);
    });
}
