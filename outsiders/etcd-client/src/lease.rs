//! Leases: granted, kept alive, asked about, revoked with their keys, ended by time, listed.

use etcd_client::{
    EventType, LeaseClientPrefix, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions,
    WatchOptions,
};

use crate::{Place, code, refused};

/// The chapter.
pub async fn tell(place: &Place) {
    let mut client = place.client().await;
    let granted = client.lease_grant(600, None).await.unwrap();
    assert_eq!((granted.ttl(), granted.error()), (600, ""));
    assert_ne!(granted.id(), 0);
    let chosen = Some(LeaseGrantOptions::new().with_id(4712));
    let second = client.lease_grant(700, chosen.clone()).await.unwrap();
    assert_eq!((second.id(), second.ttl()), (4712, 700));
    assert_eq!(
        refused(
            client.lease_grant(700, chosen).await,
            "etcdserver: lease already exists"
        ),
        code::FAILED_PRECONDITION
    );

    let leases = client.leases().await.unwrap();
    let mut ids: Vec<i64> = leases.leases().iter().map(|lease| lease.id()).collect();
    ids.sort_unstable();
    let mut wanted = [granted.id(), 4712];
    wanted.sort_unstable();
    assert_eq!(ids, wanted);

    for key in ["l/a", "l/b"] {
        let leased = Some(PutOptions::new().with_lease(4712));
        client.put(key, "v", leased).await.unwrap();
    }
    let with_keys = Some(LeaseTimeToLiveOptions::new().with_keys());
    let left = client
        .lease_time_to_live(4712, with_keys.clone())
        .await
        .unwrap();
    assert_eq!((left.id(), left.granted_ttl()), (4712, 700));
    assert!((1..=700).contains(&left.ttl()), "{left:?}");
    let mut keys = left.keys().to_vec();
    keys.sort();
    assert_eq!(keys, [b"l/a", b"l/b"]);
    let bare = client.lease_time_to_live(4712, None).await.unwrap();
    assert!(bare.keys().is_empty());
    let mut inside = LeaseClientPrefix::new(client.lease_client(), "l/".into());
    let left = inside.time_to_live(4712, with_keys).await.unwrap();
    assert!(left.keys().contains(&b"a".to_vec()), "{left:?}");

    let (mut keeper, mut answers) = client.lease_keep_alive(4712).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.id(), answer.ttl()), (4712, 700));
    }
    client.lease_revoke(4712).await.unwrap();
    assert_eq!(client.get("l/a", None).await.unwrap().count(), 0);
    keeper.keep_alive().await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.id(), answer.ttl()), (4712, 0));
    let gone = client.lease_time_to_live(4712, None).await.unwrap();
    assert_eq!(gone.ttl(), -1);
    assert_eq!(
        refused(
            client.lease_revoke(4712).await,
            "etcdserver: requested lease not found"
        ),
        code::NOT_FOUND
    );
    client.lease_revoke(granted.id()).await.unwrap();

    // One that nobody keeps alive takes its key along; how long after its second is not asked.
    let short = client.lease_grant(1, None).await.unwrap().id();
    let mut stream = client
        .watch("l/short", Some(WatchOptions::new()))
        .await
        .unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let leased = Some(PutOptions::new().with_lease(short));
    client.put("l/short", "v", leased).await.unwrap();
    for wanted in [EventType::Put, EventType::Delete] {
        let answer = stream.message().await.unwrap().unwrap();
        assert_eq!(answer.events()[0].event_type(), wanted);
    }
    assert!(client.leases().await.unwrap().leases().is_empty());
}
