//! Elections: a leader proclaims and is observed, resigns, and the next one leads.

use etcd_client::{ObserveStream, ProclaimOptions, ResignOptions};

use crate::{Place, until_there_are, within_patience};

/// The chapter.
pub async fn tell(place: &Place) {
    let mut first = place.client().await;
    let lease = first.lease_grant(600, None).await.unwrap().id();
    let campaign = first.campaign("chair", "a", lease).await.unwrap();
    let leader = campaign.leader().unwrap().clone();
    assert_eq!(leader.name(), b"chair");
    assert_eq!(leader.key(), format!("chair/{lease:x}").as_bytes());
    assert_eq!(leader.lease(), lease);

    let mut observed = place.client().await.observe("chair").await.unwrap();
    assert_eq!(value(&mut observed).await, "a");
    let options = ProclaimOptions::new().with_leader(leader.clone());
    first.proclaim("b", Some(options.clone())).await.unwrap();
    assert_eq!(value(&mut observed).await, "b");

    let mut second = place.client().await;
    let next_lease = second.lease_grant(600, None).await.unwrap().id();
    let waiting = tokio::spawn(async move { second.campaign("chair", "c", next_lease).await });
    until_there_are(&mut first, "chair/", 2).await;
    assert!(!waiting.is_finished());
    let now = first.leader("chair").await.unwrap();
    assert_eq!(now.kv().unwrap().value(), b"b");

    let resignation = ResignOptions::new().with_leader(leader);
    first.resign(Some(resignation)).await.unwrap();
    let won = within_patience(waiting).await.unwrap().unwrap();
    assert_eq!(won.leader().unwrap().lease(), next_lease);
    assert_eq!(value(&mut observed).await, "c");
    let now = first.leader("chair").await.unwrap();
    assert_eq!(now.kv().unwrap().value(), b"c");
    // Who leads no longer has nothing to proclaim.
    let refusal = first.proclaim("d", Some(options)).await.unwrap_err();
    assert!(
        refusal.to_string().contains("election: not leader"),
        "{refusal}"
    );

    first.lease_revoke(next_lease).await.unwrap();
    first.lease_revoke(lease).await.unwrap();
    let nobody = first.leader("chair").await.unwrap_err();
    assert!(
        nobody.to_string().contains("election: no leader"),
        "{nobody}"
    );
}

async fn value(stream: &mut ObserveStream) -> String {
    let answer = stream.message().await.unwrap().unwrap();
    answer.kv().unwrap().value_str().unwrap().to_owned()
}
