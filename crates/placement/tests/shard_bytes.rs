//! Messages of shards as bytes: whole ones come back, spoilt ones are refused or understood, and nothing panics.

use placement::shards::{
    Coordinator, Greeting, Links, Lost, Reply, Request, Shard, WIRE_VERSION, WireError,
};
use placement::{Config, MakerKind, NodeInfo, PodInfo, PodKey};
use proptest::prelude::*;
use value::json;

/// One shard, and the bytes of all that was said.
struct Heard {
    shard: Shard,
    answers: Vec<Reply>,
    requests: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
}

impl Links for Heard {
    fn count(&self) -> usize {
        1
    }

    fn send(&mut self, _: usize, request: Request) -> Result<(), Lost> {
        self.requests
            .push(Request::to_bytes(std::slice::from_ref(&request)));
        if let Some(reply) = self.shard.take(request) {
            self.replies.push(reply.to_bytes());
            self.answers.push(reply);
        }
        Ok(())
    }

    fn receive(&mut self, _: usize) -> Result<Reply, Lost> {
        self.answers.pop().ok_or(Lost)
    }
}

/// A conversation in which most messages occur.
fn conversation() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let config = Config::default();
    let heard = Heard {
        shard: Shard::new(config.clone()),
        answers: Vec::new(),
        requests: Vec::new(),
        replies: Vec::new(),
    };
    let mut many = Coordinator::new(config, heard);
    for n in 0..3 {
        let node = json!({"metadata": {"name": format!("n{n}"), "labels": {
                "kubernetes.io/hostname": format!("h{n}"), "topology.kubernetes.io/zone": "a"}},
            "spec": {"taints": [{"key": "old", "effect": "PreferNoSchedule"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3", "example.com/gpu": "1"},
                "images": [{"names": ["web:1"], "sizeBytes": 5}]}});
        many.upsert_node(&NodeInfo::from_object(&node).unwrap());
    }
    many.upsert_namespace("shop", vec![("team".into(), "red".into())]);
    many.note_maker(MakerKind::Service, "shop", "web", &json!({"app": "web"}));
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}});
    for (number, priority) in [(1u128, 0), (2, 0), (3, 0), (4, 0), (5, 9)] {
        let pod = json!({"metadata": {"name": "p", "uid": "u", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"priority": priority, "containers": [{"image": "web:1", "ports": [{"hostPort": 80}],
                "resources": {"requests": {"cpu": "1"}}}],
                "affinity": {"podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [term]}}}});
        let info = PodInfo::from_object(&pod).unwrap();
        let class = many.class_of(&info.spec);
        let key = PodKey::of_uuid(number);
        if many
            .place_run(class, &[key], &mut || number as u64)
            .is_err()
        {
            let _ = many.preempt(key, class, None, 1, &mut || 7);
            let node = many.node("n1").unwrap();
            many.nominate(key, class, node);
            many.explain(class, node);
            many.audit(class, node);
        }
    }
    many.remove_pod(PodKey::of_uuid(1));
    many.remove_node("n0");
    let heard = many.links();
    (heard.requests.clone(), heard.replies.clone())
}

#[test]
fn what_is_said_comes_back() {
    let (requests, replies) = conversation();
    assert!(
        requests.len() > 20 && replies.len() > 10,
        "{} {}",
        requests.len(),
        replies.len()
    );
    for bytes in &requests {
        let read = Request::from_bytes(bytes).unwrap();
        assert_eq!(&Request::to_bytes(&read), bytes);
        let short = &bytes[..bytes.len() - 1];
        assert_eq!(Request::from_bytes(short), Err(WireError::Garbled));
    }
    for bytes in &replies {
        assert_eq!(&Reply::from_bytes(bytes).unwrap().to_bytes(), bytes);
        let long = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Reply::from_bytes(&long), Err(WireError::Garbled));
    }
}

#[test]
fn a_greeting_says_who_speaks_and_in_which_version() {
    let bytes = Greeting(Config::default()).to_bytes();
    let Greeting(config) = Greeting::from_bytes(&bytes).unwrap();
    assert_eq!(config.profiles, Config::default().profiles);
    assert_eq!(
        Greeting::from_bytes(b"GET / HTTP/1.1").err(),
        Some(WireError::NotAShard)
    );
    let mut other = bytes.clone();
    assert_eq!(u64::from(other[8]), WIRE_VERSION);
    other[8] = 77;
    let error = Greeting::from_bytes(&other).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the other end speaks version 77 of the messages, this one 3: start both from the same release"
    );
}

proptest! {
    #[test]
    fn spoilt_messages_are_refused_or_understood(
        which in any::<prop::sample::Index>(),
        spots in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (requests, replies) = conversation();
        for (list, is_request) in [(&requests, true), (&replies, false)] {
            let mut bytes = which.get(list).clone();
            for (at, value) in &spots {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            // Whatever is understood is of a form that can be said again.
            if is_request {
                if let Ok(read) = Request::from_bytes(&bytes) {
                    prop_assert_eq!(Request::from_bytes(&Request::to_bytes(&read)), Ok(read));
                }
            } else if let Ok(read) = Reply::from_bytes(&bytes) {
                prop_assert_eq!(Reply::from_bytes(&read.to_bytes()), Ok(read));
            }
        }
    }
}
