//! The lock and election services, with clients of their own, beside a real etcd where one is named.

mod common;

use std::time::Duration;

use common::{Client, Ours, PATIENCE, RealEtcd};
use etcd_server::election_rpc::election_client::ElectionClient;
use etcd_server::lock_rpc::lock_client::LockClient;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::v3electionpb as election;
use etcd_wire::v3lockpb as lock;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// One server's services.
#[derive(Clone)]
struct Both {
    client: Client,
    locks: LockClient<Channel>,
    elections: ElectionClient<Channel>,
}

impl Both {
    async fn connect(url: &str) -> Both {
        let channel = Endpoint::from_shared(url.to_owned())
            .unwrap()
            .connect()
            .await
            .unwrap();
        Both {
            client: Client::connect(url).await,
            locks: LockClient::new(channel.clone()),
            elections: ElectionClient::new(channel),
        }
    }

    async fn lease(&mut self, ttl: i64) -> i64 {
        let grant = pb::LeaseGrantRequest { ttl, id: 0 };
        self.client
            .lease
            .lease_grant(grant)
            .await
            .unwrap()
            .into_inner()
            .id
    }

    async fn revoke(&mut self, id: i64) {
        self.client
            .lease
            .lease_revoke(pb::LeaseRevokeRequest { id })
            .await
            .unwrap();
    }

    async fn lock(&mut self, name: &str, lease: i64) -> Result<lock::LockResponse, Status> {
        let name = name.to_owned().into();
        let answer = self.locks.lock(lock::LockRequest { name, lease }).await;
        answer.map(Response::into_inner)
    }

    /// Waits for a lock in a task of its own, which is in the queue when this returns.
    async fn queue_up(
        &mut self,
        name: &str,
        lease: i64,
    ) -> JoinHandle<Result<lock::LockResponse, Status>> {
        let (mut other, name_of_other) = (self.clone(), name.to_owned());
        let waiting = tokio::spawn(async move { other.lock(&name_of_other, lease).await });
        self.until(&format!("{name}/{lease:x}"), true).await;
        waiting
    }

    async fn campaign(
        &mut self,
        lease: i64,
        value: &str,
    ) -> Result<election::CampaignResponse, Status> {
        let campaign = election::CampaignRequest {
            name: "boss".into(),
            lease,
            value: value.to_owned().into(),
        };
        self.elections
            .campaign(campaign)
            .await
            .map(Response::into_inner)
    }

    /// Returns when the key is there, or is not.
    async fn until(&mut self, key: &str, is_there: bool) {
        for _ in 0..3_000 {
            if self.client.get(key).await.is_some() == is_there {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{key} should be there: {is_there}");
    }
}

fn said<T>(result: Result<T, Status>) -> (Code, String) {
    let error = result.err().expect("an error");
    (error.code(), error.message().to_owned())
}

fn unknown(text: &str) -> (Code, String) {
    (Code::Unknown, text.to_owned())
}

/// What holds of a lock, at any etcd.
async fn locks_are_locks(url: &str) {
    let mut both = Both::connect(url).await;
    let (first, second, third) = (
        both.lease(600).await,
        both.lease(600).await,
        both.lease(600).await,
    );
    let held = both.lock("l", first).await.unwrap();
    assert_eq!(held.key, format!("l/{first:x}"));
    assert!(held.header.unwrap().revision > 1);
    // Whoever holds it gets it again.
    assert_eq!(both.lock("l", first).await.unwrap().key, held.key);
    // Others wait in the order in which they came, each for the one before.
    let waits = both.queue_up("l", second).await;
    let waits_longer = both.queue_up("l", third).await;
    assert!(!waits.is_finished());
    both.locks
        .unlock(lock::UnlockRequest { key: held.key })
        .await
        .unwrap();
    let second_held = tokio::time::timeout(PATIENCE, waits)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(second_held.key, format!("l/{second:x}"));
    assert!(!waits_longer.is_finished());
    // The end of a lease is the end of its lock.
    both.revoke(second).await;
    let third_held = tokio::time::timeout(PATIENCE, waits_longer)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(third_held.key, format!("l/{third:x}"));
    // Who goes away while it waits leaves nothing behind.
    let fourth = both.lease(600).await;
    let gone = both.queue_up("l", fourth).await;
    gone.abort();
    both.until(&format!("l/{fourth:x}"), false).await;
    assert!(both.client.get(&format!("l/{third:x}")).await.is_some());
    // Who loses its key while it waits is told so once its turn has come.
    let fifth = both.lease(600).await;
    let lost = both.queue_up("l", fifth).await;
    both.revoke(fifth).await;
    both.locks
        .unlock(lock::UnlockRequest {
            key: third_held.key,
        })
        .await
        .unwrap();
    let lost = tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    assert_eq!(said(lost), unknown("mutex: session is expired"));
    // Without a lease there is a new one, and without a name the name is empty.
    let own = both.lock("", 0).await.unwrap();
    let kv = both
        .client
        .get(std::str::from_utf8(&own.key).unwrap())
        .await
        .unwrap();
    assert_eq!(own.key, format!("/{:x}", kv.lease));
    let time = pb::LeaseTimeToLiveRequest {
        id: kv.lease,
        keys: false,
    };
    let time = both
        .client
        .lease
        .lease_time_to_live(time)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(time.granted_ttl, 60);
    // Errors lose their code.
    assert_eq!(
        said(both.lock("l", 77).await),
        unknown("etcdserver: requested lease not found")
    );
    let empty = both.locks.unlock(lock::UnlockRequest::default()).await;
    assert_eq!(said(empty), unknown("etcdserver: key is not provided"));
    let never = both
        .locks
        .unlock(lock::UnlockRequest {
            key: "never".into(),
        })
        .await;
    assert!(never.is_ok());
}

/// What holds of an election, at any etcd.
async fn elections_are_elections(url: &str) {
    let mut both = Both::connect(url).await;
    let name = || election::LeaderRequest {
        name: "boss".into(),
    };
    assert_eq!(
        said(both.elections.leader(name()).await),
        unknown("election: no leader")
    );
    let missing = "\"leader\" field must be provided";
    let resign = both
        .elections
        .resign(election::ResignRequest { leader: None })
        .await;
    assert_eq!(said(resign), unknown(missing));
    let proclaim = both
        .elections
        .proclaim(election::ProclaimRequest::default())
        .await;
    assert_eq!(said(proclaim), unknown(missing));
    assert_eq!(
        said(both.campaign(77, "x").await),
        unknown("etcdserver: requested lease not found")
    );

    // Etcd answers an observer with its first leader only.
    let mut observer = both.clone();
    let observer = tokio::spawn(async move {
        let observed = observer
            .elections
            .observe(election::LeaderRequest {
                name: "boss".into(),
            })
            .await;
        observed.unwrap().into_inner()
    });
    let (first, second) = (both.lease(600).await, both.lease(600).await);
    let won = both.campaign(first, "one").await.unwrap();
    let leader = won.leader.unwrap();
    assert_eq!((&leader.name[..], leader.lease), (&b"boss"[..], first));
    assert_eq!(leader.key, format!("boss/{first:x}"));
    assert_eq!(leader.rev, won.header.unwrap().revision);
    let mut observed = tokio::time::timeout(PATIENCE, observer)
        .await
        .unwrap()
        .unwrap();
    let mut next = async move || {
        let said = tokio::time::timeout(PATIENCE, observed.message())
            .await
            .unwrap();
        let kv = said.unwrap().unwrap().kv.unwrap();
        String::from_utf8(kv.value.to_vec()).unwrap()
    };
    assert_eq!(next().await, "one");
    // A leader that campaigns again goes on leading, and says something else.
    assert_eq!(
        both.campaign(first, "uno").await.unwrap().leader.unwrap(),
        leader
    );
    assert_eq!(next().await, "uno");
    let proclaim = election::ProclaimRequest {
        leader: Some(leader.clone()),
        value: "eins".into(),
    };
    both.elections.proclaim(proclaim).await.unwrap();
    assert_eq!(next().await, "eins");

    let mut other = both.clone();
    let waiting = tokio::spawn(async move { other.campaign(second, "two").await });
    both.until(&format!("boss/{second:x}"), true).await;
    let kv = both
        .elections
        .leader(name())
        .await
        .unwrap()
        .into_inner()
        .kv
        .unwrap();
    assert_eq!(&kv.value[..], b"eins");
    assert!(!waiting.is_finished());
    let resign = election::ResignRequest {
        leader: Some(leader.clone()),
    };
    both.elections.resign(resign.clone()).await.unwrap();
    assert_eq!(next().await, "two");
    let second_leader = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    // It leads no more: to say so again is no error, to speak is.
    both.elections.resign(resign).await.unwrap();
    let proclaim = election::ProclaimRequest {
        leader: Some(leader),
        value: "late".into(),
    };
    assert_eq!(
        said(both.elections.proclaim(proclaim).await),
        unknown("election: not leader")
    );

    // A candidate that goes away leaves nothing behind.
    let third = both.lease(600).await;
    let mut other = both.clone();
    let waiting = tokio::spawn(async move { other.campaign(third, "three").await });
    both.until(&format!("boss/{third:x}"), true).await;
    waiting.abort();
    both.until(&format!("boss/{third:x}"), false).await;
    // The last one's lease ends, and the next one is seen.
    both.revoke(second_leader.leader.unwrap().lease).await;
    let fourth = both.lease(600).await;
    both.campaign(fourth, "four").await.unwrap();
    assert_eq!(next().await, "four");
}

#[tokio::test]
async fn locks_are_held_by_one_at_a_time_in_the_order_of_asking() {
    locks_are_locks(&Ours::in_memory().url()).await;
}

#[tokio::test]
async fn locks_of_a_real_etcd_are_the_same() {
    if let Some(etcd) = RealEtcd::start().await {
        locks_are_locks(&etcd.url).await;
    }
}

#[tokio::test]
async fn elections_have_one_leader_and_tell_each_change() {
    elections_are_elections(&Ours::in_memory().url()).await;
}

#[tokio::test]
async fn elections_of_a_real_etcd_are_the_same() {
    if let Some(etcd) = RealEtcd::start().await {
        elections_are_elections(&etcd.url).await;
    }
}

#[tokio::test]
async fn a_candidate_without_its_key_is_not_told_that_it_leads() {
    let ours = Ours::in_memory();
    let mut both = Both::connect(&ours.url()).await;
    let (first, second) = (both.lease(600).await, both.lease(600).await);
    both.campaign(first, "one").await.unwrap();
    let mut other = both.clone();
    let waiting = tokio::spawn(async move { other.campaign(second, "two").await });
    both.until(&format!("boss/{second:x}"), true).await;
    both.revoke(second).await;
    let lost = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(said(lost), unknown("election: not leader"));
}

#[tokio::test]
async fn a_waiting_lock_survives_compaction() {
    let ours = Ours::in_memory();
    let mut both = Both::connect(&ours.url()).await;
    let (first, second) = (both.lease(600).await, both.lease(600).await);
    let held = both.lock("l", first).await.unwrap();
    let waits = both.queue_up("l", second).await;
    for _ in 0..3 {
        let revision = both.client.put("other", "x").await;
        let compact = pb::CompactionRequest {
            revision,
            physical: true,
        };
        both.client.kv.compact(compact).await.unwrap();
    }
    both.locks
        .unlock(lock::UnlockRequest { key: held.key })
        .await
        .unwrap();
    let held = tokio::time::timeout(PATIENCE, waits)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(held.key, format!("l/{second:x}"));
}
