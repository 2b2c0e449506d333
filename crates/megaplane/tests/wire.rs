//! The transport on our own codec, against `megaplane up` as a process: many calls at once, bodies larger than windows, a
//! reader that does not read, a server that goes and comes.

mod support;

use std::sync::Arc;
use std::time::Duration;

use client::wire::WireTransport;
use client::{Client, ListOptions, WatchEvent, WatchOptions, WatchStream};
use support::{Plane, PlaneOptions};
use value::{Value, json};

/// Together far more than a stream's window of 1 MiB.
const MAPS: usize = 30;
const MAP_BYTES: usize = 100_000;
const LOOKS_MAX: usize = 200;

fn map(name: &str, bytes: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": "wire"}},
           "data": {"text": "x".repeat(bytes)}})
}

/// The name of the next object that is added.
async fn next_name(watch: &mut WatchStream) -> String {
    loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => return meta::object::name(&map).to_owned(),
            WatchEvent::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn calls_watches_and_a_restart_over_one_connection() {
    let mut plane = Plane::start(PlaneOptions {
        nodes: 0,
        persistent: true,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = Client::new(
        Arc::new(WireTransport::new(&plane.config()).unwrap()),
        None,
        "wire",
    );
    let maps = schema::resource("", "v1", "configmaps").unwrap();
    runtime.block_on(async {
        // Bodies that no window takes at once, several side by side.
        let mut creating = tokio::task::JoinSet::new();
        for number in 0..MAPS {
            let client = client.clone();
            creating.spawn(async move {
                let map = map(&format!("m{number:02}"), MAP_BYTES);
                client.create(maps, "default", &map).await.map(drop)
            });
        }
        while let Some(created) = creating.join_next().await {
            created.unwrap().unwrap();
        }
        let options = ListOptions {
            label_selector: "of=wire".into(),
            ..ListOptions::default()
        };
        let listed = client.list(maps, "default", &options).await.unwrap();
        assert_eq!(listed.items.len(), MAPS);
        assert!(
            listed
                .items
                .iter()
                .all(|map| map["data"]["text"].as_str().unwrap().len() == MAP_BYTES)
        );

        // More calls than the server takes streams.
        let mut getting = tokio::task::JoinSet::new();
        for number in 0..2_500 {
            let client = client.clone();
            getting.spawn(async move {
                client
                    .get(maps, "default", &format!("m{:02}", number % MAPS))
                    .await
                    .map(drop)
            });
        }
        while let Some(got) = getting.join_next().await {
            got.unwrap().unwrap();
        }
        let missing = client.get(maps, "default", "none").await.unwrap_err();
        assert!(missing.is_not_found());

        // A watch that nobody reads holds up nobody else, and nothing of it is lost.
        let all = WatchOptions {
            label_selector: "of=wire".into(),
            ..WatchOptions::default()
        };
        let mut watch = client.watch(maps, "default", &all).await.unwrap();
        let unread = client.watch(maps, "default", &all).await.unwrap();
        for _ in 0..20 {
            client.get(maps, "default", "m00").await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for number in 0..MAPS {
            assert_eq!(next_name(&mut watch).await, format!("m{number:02}"));
        }
        client
            .create(maps, "default", &map("new", 10))
            .await
            .unwrap();
        assert_eq!(next_name(&mut watch).await, "new");
        drop(unread);
        // What was not read went back into the window: the connection goes on as before.
        for _ in 0..20 {
            let dropped = client.watch(maps, "default", &all).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(dropped);
        }
        let listed = client.list(maps, "default", &options).await.unwrap();
        assert_eq!(listed.items.len(), MAPS + 1);

        plane.kill();
        // A watch whose server is gone ends, in one way or the other.
        while let Ok(Some(event)) = watch.next().await {
            assert!(matches!(event, WatchEvent::Bookmark(_)), "{event:?}");
        }
        let gone = client.get(maps, "default", "m00").await.unwrap_err();
        assert_eq!(gone.code(), 0, "{gone}");
    });
    plane.start_again();
    runtime.block_on(async {
        let mut last = String::new();
        for _ in 0..LOOKS_MAX {
            match client.get(maps, "default", "m00").await {
                Ok(_) => return,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no second connection: {last}");
    });
}
