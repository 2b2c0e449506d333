//! A watch as a reader of the same process gets it, against the frames of the same watch: the same events in the same
//! order, whatever is selected, with bookmarks and the end.
//!
//! Random by a generator with a fixed seed, so that a failure comes again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use rest::http::{Body, FrameSource, Method, Request, Told};
use value::{Value, json};

use crate::plane::{Plane, block_on};
use crate::speak::Speaker;

const CHANGES: usize = 600;
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";
const PATIENCE: Duration = Duration::from_secs(20);

fn below(state: &mut u64, end: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % end as u64) as usize
}

async fn open(api: &Speaker, query: &str) -> Box<dyn FrameSource> {
    let path = format!("/api/v1/pods?watch=1&timeoutSeconds=1{query}");
    let reply = api
        .reply(Request {
            accept: PROTOBUF.into(),
            ..api.ask(Method::Get, &path)
        })
        .await;
    match reply.body {
        Body::Stream(source) => source,
        Body::Full(body) => panic!("{path}: {body:?}"),
    }
}

/// What came, in words: type, version, and the object without its version.
#[derive(Default)]
struct Heard {
    rest: Vec<u8>,
    events: Vec<String>,
    objects: usize,
}

impl Heard {
    fn piece(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        while let Some(head) = self.rest.first_chunk::<4>() {
            let end = 4 + u32::from_be_bytes(*head) as usize;
            if self.rest.len() < end {
                return;
            }
            let frame: Vec<u8> = self.rest.drain(..end).collect();
            let (kind, object) = schema::envelope::watch_event(&frame[4..]).unwrap();
            let unknown = schema::envelope::unwrap(object).unwrap();
            let type_id = schema::kind_type(unknown.api_version, unknown.kind).unwrap();
            let object = schema::decode_protobuf(type_id, unknown.raw).unwrap();
            let version = object["metadata"]["resourceVersion"].clone();
            self.event(kind, version.as_str().unwrap_or_default(), object);
        }
    }

    fn event(&mut self, kind: &str, version: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = Value::Null;
        self.events.push(format!("{kind} {version} {object}"));
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Piece(piece) => self.piece(&piece),
            Told::Object {
                event,
                message,
                revision,
            } => {
                assert!(self.rest.is_empty(), "an object in the middle of a frame");
                let pods = schema::kind_type("v1", "Pod").unwrap();
                let object = schema::decode_protobuf(pods, &message).unwrap();
                assert!(object["metadata"]["resourceVersion"].is_null());
                self.event(event.as_str(), &revision.to_string(), object);
                self.objects += 1;
            }
        }
    }
}

async fn framed(mut source: Box<dyn FrameSource>) -> Heard {
    let mut heard = Heard::default();
    while let Some(piece) = poll_fn(|cx| source.poll_frame(cx)).await {
        heard.piece(&piece);
    }
    heard
}

async fn untold(mut source: Box<dyn FrameSource>) -> Heard {
    let mut heard = Heard::default();
    let mut told = VecDeque::new();
    loop {
        let more = poll_fn(|cx| source.poll_told(cx, &mut told)).await;
        told.drain(..).for_each(|told| heard.told(told));
        if !more {
            return heard;
        }
    }
}

/// One change of one of few pods; some do not come about.
async fn change(api: &Speaker, dice: &mut u64) {
    let name = format!("p{}", below(dice, 12));
    let label = json!({"metadata": {"labels": {"app": ["a", "b"][below(dice, 2)]}}});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"kind": "Node", "name": ["n1", "n2"][below(dice, 2)]}});
    let phase = json!({"status": {"phase": ["Running", "Failed"][below(dice, 2)]}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let one = api.own(&format!("pods/{name}"));
    let answer = match below(dice, 6) {
        0 | 1 => api.post(&api.own("pods"), &pod).await,
        2 => api.patch(&one, "merge", &label).await,
        3 => api.post(&format!("{one}/binding"), &binding).await,
        4 => {
            let status = format!("{one}/status");
            api.patch(&status, "strategic-merge", &phase).await
        }
        _ => api.delete(&format!("{one}?gracePeriodSeconds=0")).await,
    };
    assert!(answer.status < 500, "{answer:?}");
}

#[test]
fn a_reader_of_the_same_process_is_told_what_frames_tell() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        let mut dice = 0x70_1d;
        for _ in 0..CHANGES / 6 {
            change(&api, &mut dice).await;
        }
        let now = api.get("/api/v1/pods").await.expect(200);
        let now = now["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned();
        for _ in 0..CHANGES {
            change(&api, &mut dice).await;
        }
        let selections = [
            "",
            "&labelSelector=app%3Da",
            "&labelSelector=app%21%3Da",
            "&fieldSelector=spec.nodeName%3Dn1",
            "&fieldSelector=spec.nodeName%3D",
            "&fieldSelector=status.phase%21%3DRunning",
            "&fieldSelector=metadata.name%3Dp3",
            "&labelSelector=app%3Da&fieldSelector=spec.nodeName%3Dn2",
        ];
        let mut pairs = Vec::new();
        for selection in selections {
            for rest in [
                format!("&resourceVersion={now}"),
                format!("&resourceVersion={now}&allowWatchBookmarks=true"),
                "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".into(),
            ] {
                let query = format!("{selection}{rest}");
                let (one, other) = (open(&api, &query).await, open(&api, &query).await);
                pairs.push((query, tokio::spawn(framed(one)), tokio::spawn(untold(other))));
            }
        }
        for _ in 0..CHANGES {
            change(&api, &mut dice).await;
            tokio::task::yield_now().await;
        }
        for (query, framed, told) in pairs {
            let framed = tokio::time::timeout(PATIENCE, framed)
                .await
                .unwrap()
                .unwrap();
            let told = tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
            assert_eq!(told.events, framed.events, "{query}");
            assert!(
                told.objects > 10 && framed.objects == 0,
                "{query}: {}",
                told.objects
            );
            assert!(told.rest.is_empty() && framed.rest.is_empty());
        }
    });
}
