//! Locks: held, waited for, handed over.

use etcd_client::LockOptions;

use crate::{Place, until_there_are, within_patience};

/// The chapter.
pub async fn tell(place: &Place) {
    let mut first = place.client().await;
    let lease = first.lease_grant(600, None).await.unwrap().id();
    let leased = Some(LockOptions::new().with_lease(lease));
    let held = first.lock("gate", leased).await.unwrap();
    assert_eq!(held.key(), format!("gate/{lease:x}").as_bytes());
    let kv = first.get(held.key(), None).await.unwrap();
    assert_eq!(kv.kvs()[0].lease(), lease);

    // Without a lease, the server grants one.
    let mut second = place.client().await;
    let waiting = tokio::spawn(async move { second.lock("gate", None).await });
    until_there_are(&mut first, "gate/", 2).await;
    assert!(!waiting.is_finished());
    first.unlock(held.key()).await.unwrap();
    let taken = within_patience(waiting).await.unwrap().unwrap();
    assert_ne!(taken.key(), held.key());
    until_there_are(&mut first, "gate/", 1).await;
    first.unlock(taken.key()).await.unwrap();
    until_there_are(&mut first, "gate/", 0).await;
    first.lease_revoke(lease).await.unwrap();
}
