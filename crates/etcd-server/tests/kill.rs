//! Killed at any moment and started again: what a client was told over gRPC is there, no revision comes twice, and
//! leases keep their deadlines.
//!
//! The parent starts this same test program as a server, talks to it as a client, kills it with SIGKILL, and starts the
//! next on what is left. `KILL_ROUNDS` sets how often.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Client, TempDir};
use etcd_server::{Door, Options, Server};
use etcd_wire::etcdserverpb as pb;

const CHILD: &str = "ETCD_KILL_CHILD_DIR";

const WRITERS: usize = 4;

/// Does nothing by itself: the parent runs it in a process of its own.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let server = Server::open(Options {
        data_dir: Some(dir.into()),
        doors: vec![Door::plain(SocketAddr::from(([127, 0, 0, 1], 0)))],
        ..Options::default()
    });
    let server = server.expect("opens after a kill");
    server.store().check().expect("sound after a kill");
    println!("\nlistening {}", server.address());
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    server.run(stopped).expect("killed before it ends");
}

fn start(dir: &Path) -> (Child, String) {
    let me = std::env::current_exe().expect("a test has a program");
    let mut child = Command::new(me)
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
    let address = address.expect("the child says where it listens");
    (child, format!("http://{address}"))
}

#[derive(Default)]
struct Told {
    /// What may be found of a key: the value that was acknowledged last, or one begun after it.
    keys: BTreeMap<String, Vec<Option<String>>>,
    revisions: BTreeSet<i64>,
    /// Granted: name, time to live, and a moment after that.
    leases: Vec<(i64, i64, Instant)>,
}

impl Told {
    fn begun(&mut self, key: &str, value: Option<String>) {
        let known = self.keys.entry(key.to_owned());
        known.or_insert_with(|| vec![None]).push(value);
    }

    fn acknowledged(&mut self, key: &str, revision: i64) {
        if let Some(known) = self.keys.get_mut(key) {
            known.drain(..known.len() - 1);
        }
        assert!(
            self.revisions.insert(revision),
            "revision {revision} comes twice"
        );
    }

    async fn check(&mut self, client: &mut Client, before: i64) {
        let all = pb::RangeRequest {
            key: "w".into(),
            range_end: "x".into(),
            ..Default::default()
        };
        let found = client.kv.range(all).await.expect("answers").into_inner();
        let revision = found.header.expect("a header").revision;
        assert!(revision >= before, "{revision} after {before}");
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for kv in found.kvs {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            values.insert(text(&kv.key), text(&kv.value));
        }
        for (key, may_be) in &mut self.keys {
            let found = values.remove(key);
            assert!(
                may_be.contains(&found),
                "{key} is {found:?}, not {may_be:?}"
            );
            *may_be = vec![found];
        }
        assert!(values.is_empty(), "nobody has written {values:?}");
        for (id, ttl, after_grant) in &self.leases {
            let request = pb::LeaseTimeToLiveRequest {
                id: *id,
                keys: false,
            };
            let gone_by = i64::try_from(after_grant.elapsed().as_secs()).expect("few");
            let left = client.lease.lease_time_to_live(request).await;
            let left = left.expect("answers").into_inner();
            assert_eq!(left.granted_ttl, *ttl, "lease {id}");
            assert!(
                left.ttl <= ttl - gone_by,
                "lease {id} has {} again",
                left.ttl
            );
        }
    }
}

/// What one writer did: key, value, and the revision if it was told.
type Done = (String, Option<String>, Option<i64>);

async fn write(
    mut client: Client,
    writer: usize,
    round: usize,
    told: Arc<AtomicUsize>,
) -> Vec<Done> {
    let mut done: Vec<Done> = Vec::new();
    for number in 0_usize.. {
        let key = format!("w{writer}/{}", number % 5);
        let is_delete = number % 7 == 3 && number > 5;
        let value = (!is_delete).then(|| format!("{round} {number} {}", "x".repeat(number % 700)));
        let header = if let Some(value) = &value {
            let put = pb::PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..Default::default()
            };
            let answer = client.kv.put(put).await;
            answer.map(|answer| answer.into_inner().header)
        } else {
            let delete = pb::DeleteRangeRequest {
                key: key.clone().into(),
                ..Default::default()
            };
            let answer = client.kv.delete_range(delete).await;
            answer.map(|answer| answer.into_inner().header)
        };
        let Ok(header) = header else {
            done.push((key, value, None));
            break;
        };
        done.push((key, value, header.map(|header| header.revision)));
        told.fetch_add(1, Ordering::Relaxed);
    }
    done
}

#[tokio::test]
async fn what_was_told_survives_kills() {
    let rounds = std::env::var("KILL_ROUNDS").ok();
    let rounds: usize = rounds.and_then(|text| text.parse().ok()).unwrap_or(12);
    let dir = TempDir::new();
    let mut model = Told::default();
    let mut newest = 0;
    for round in 0..rounds {
        let (mut child, url) = start(&dir.0);
        let mut client = Client::connect(&url).await;
        model.check(&mut client, newest).await;
        if round % 5 == 0 {
            let ttl = 1_000 + i64::try_from(round).expect("few");
            let id = 1 + i64::try_from(round).expect("few");
            let granted = client
                .lease
                .lease_grant(pb::LeaseGrantRequest { ttl, id })
                .await;
            granted.expect("granted");
            model.leases.push((id, ttl, Instant::now()));
        }
        let told = Arc::new(AtomicUsize::new(0));
        let writers = (0..WRITERS)
            .map(|writer| tokio::spawn(write(client.clone(), writer, round, told.clone())))
            .collect::<Vec<_>>();
        // Different moments: after so many answers and so many microseconds.
        let enough = 5 + round * 7919 % 160;
        while told.load(Ordering::Relaxed) < enough {
            assert!(
                !writers.iter().all(|writer| writer.is_finished()),
                "the server ended by itself"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros((round * 1237 % 3000) as u64)).await;
        child.kill().expect("killed");
        child.wait().expect("reaped");
        for writer in writers {
            for (key, value, revision) in writer.await.expect("a writer ends") {
                model.begun(&key, value);
                if let Some(revision) = revision {
                    assert!(
                        revision > newest,
                        "{revision} was given out before {newest}"
                    );
                    model.acknowledged(&key, revision);
                }
            }
        }
        newest = newest.max(model.revisions.last().copied().unwrap_or_default());
    }
    assert!(model.revisions.len() > rounds * 5);
    let (mut child, url) = start(&dir.0);
    let mut client = Client::connect(&url).await;
    model.check(&mut client, newest).await;
    child.kill().expect("killed");
    child.wait().expect("reaped");
}
