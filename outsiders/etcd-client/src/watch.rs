//! Watches: from the past, with what was before, filtered, several on a stream, progress, cancelled, compacted.

use etcd_client::{Client, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream};

use crate::{Place, TRIES_MAX};

/// The chapter.
pub async fn tell(place: &Place) {
    let mut client = place.client().await;
    past_and_present(&mut client).await;
    filters(&mut client).await;
    several(&mut client).await;
    progress(&mut client).await;
    compacted(&mut client).await;
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    let message = stream.message().await.unwrap();
    message.expect("the stream does not end")
}

/// Opens a stream with one watch, and takes the note that it is there.
async fn open(client: &mut Client, key: &str, options: WatchOptions) -> WatchStream {
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    let note = next(&mut stream).await;
    assert!(
        note.created() && !note.canceled() && note.events().is_empty(),
        "{note:?}"
    );
    stream
}

/// So many events, as `P key value` and `D key`, with what was before in brackets; however they are put into answers.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let answer = next(stream).await;
        assert!(!answer.canceled(), "{answer:?}");
        for event in answer.events() {
            let kv = event.kv().unwrap();
            let (key, value) = (kv.key_str().unwrap(), kv.value_str().unwrap());
            let mut text = match event.event_type() {
                EventType::Put => format!("P {key} {value}"),
                EventType::Delete => format!("D {key}"),
            };
            if let Some(prev) = event.prev_kv() {
                text.push_str(&format!(" [{}]", prev.value_str().unwrap()));
            }
            found.push(text);
        }
    }
    found
}

async fn past_and_present(client: &mut Client) {
    let put = client.put("w/a", "1", None).await.unwrap();
    let begin = put.header().unwrap().revision();
    client.put("w/b", "1", None).await.unwrap();
    client.put("w/a", "2", None).await.unwrap();
    client.delete("w/b", None).await.unwrap();
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(begin)
        .with_prev_key()
        .with_fragment();
    let mut stream = open(client, "w/", options).await;
    assert_eq!(
        events(&mut stream, 4).await,
        ["P w/a 1", "P w/b 1", "P w/a 2 [1]", "D w/b [1]"]
    );
    client.put("w/c", "1", None).await.unwrap();
    client.put("x", "not watched", None).await.unwrap();
    client.delete("w/a", None).await.unwrap();
    assert_eq!(events(&mut stream, 2).await, ["P w/c 1", "D w/a [2]"]);
}

async fn filters(client: &mut Client) {
    let only = |filter| WatchOptions::new().with_filters([filter]);
    let mut deletes = open(client, "w/f", only(WatchFilterType::NoPut)).await;
    let mut puts = open(client, "w/f", only(WatchFilterType::NoDelete)).await;
    for value in ["1", "2"] {
        client.put("w/f", value, None).await.unwrap();
        client.delete("w/f", None).await.unwrap();
    }
    assert_eq!(events(&mut deletes, 2).await, ["D w/f", "D w/f"]);
    assert_eq!(events(&mut puts, 2).await, ["P w/f 1", "P w/f 2"]);
}

async fn several(client: &mut Client) {
    let mut stream = open(client, "w/s", WatchOptions::new().with_watch_id(7)).await;
    let from = WatchOptions::new().with_range("w/u").with_watch_id(8);
    stream.watch("w/t", Some(from)).await.unwrap();
    let note = next(&mut stream).await;
    assert!(note.created());
    assert_eq!(note.watch_id(), 8);

    client.put("w/tt", "1", None).await.unwrap();
    let answer = next(&mut stream).await;
    assert_eq!((answer.watch_id(), answer.events().len()), (8, 1));
    client.put("w/s", "1", None).await.unwrap();
    let answer = next(&mut stream).await;
    assert_eq!((answer.watch_id(), answer.events().len()), (7, 1));

    stream.cancel(8).await.unwrap();
    let note = next(&mut stream).await;
    assert!(note.canceled());
    assert_eq!(note.watch_id(), 8);
    // The other one lives on, and this one is really gone.
    client.put("w/tt", "2", None).await.unwrap();
    client.put("w/s", "2", None).await.unwrap();
    let (mut sender, mut answers) = stream.split();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.watch_id(), 7);
    assert_eq!(answer.events()[0].kv().unwrap().value(), b"2");
    sender.cancel(7).await.unwrap();
    let note = answers.message().await.unwrap().unwrap();
    assert!(note.canceled());
    assert_eq!(note.watch_id(), 7);
}

async fn progress(client: &mut Client) {
    let options = WatchOptions::new().with_progress_notify();
    let mut stream = open(client, "w/p", options).await;
    let put = client.put("elsewhere", "1", None).await.unwrap();
    let now = put.header().unwrap().revision();
    for _ in 0..TRIES_MAX {
        stream.request_progress().await.unwrap();
        let answer = next(&mut stream).await;
        assert!(answer.events().is_empty(), "{answer:?}");
        // An older etcd may tell an older revision first.
        if answer.header().unwrap().revision() == now {
            assert_eq!(answer.watch_id(), -1);
            return;
        }
    }
    panic!("progress never reaches revision {now}");
}

async fn compacted(client: &mut Client) {
    let put = client.put("w/old", "1", None).await.unwrap();
    let old = put.header().unwrap().revision();
    let put = client.put("w/old", "2", None).await.unwrap();
    let now = put.header().unwrap().revision();
    client.compact(now, None).await.unwrap();
    let options = WatchOptions::new().with_start_revision(old);
    let mut stream = client.watch("w/old", Some(options)).await.unwrap();
    let mut note = next(&mut stream).await;
    if !note.canceled() {
        assert!(note.created());
        note = next(&mut stream).await;
    }
    assert!(note.canceled(), "{note:?}");
    assert_eq!(note.compact_revision(), now);
}
