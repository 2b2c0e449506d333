//! Maintenance: status, alarms, hashes, a whole snapshot.

use etcd_client::{AlarmAction, AlarmType, Client};

use crate::Place;

/// SHA-256 of what is before it.
const CHECKSUM_BYTES: usize = 32;

/// The chapter.
pub async fn tell(place: &Place) {
    let mut client = place.client().await;
    let put = client.put("m", "1", None).await.unwrap();
    let header = put.header().unwrap();

    let status = client.status().await.unwrap();
    assert!(status.version().starts_with("3."), "{status:?}");
    assert_eq!(status.leader(), header.member_id());
    assert!(status.db_size() >= status.raft_used_db_size() && status.raft_used_db_size() > 0);
    assert!(status.raft_index() > 0 && status.raft_applied_index() <= status.raft_index());
    assert_eq!(status.raft_term(), header.raft_term());
    assert!(status.errors().is_empty() && !status.is_learner());

    alarms(&mut client).await;
    hashes(&mut client, header.revision()).await;
    client.defragment().await.unwrap();
    snapshot(&mut client).await;
}

async fn alarms(client: &mut Client) {
    let none = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await
        .unwrap();
    assert!(none.alarms().is_empty());
    let raised = client
        .alarm(AlarmAction::Activate, AlarmType::Nospace, None)
        .await
        .unwrap();
    assert_eq!(raised.alarms()[0].alarm(), AlarmType::Nospace);
    let refusal = client.put("m", "2", None).await.unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("etcdserver: mvcc: database space exceeded"),
        "{refusal}"
    );
    client
        .alarm(AlarmAction::Deactivate, AlarmType::Nospace, None)
        .await
        .unwrap();
    let none = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await
        .unwrap();
    assert!(none.alarms().is_empty());
}

async fn hashes(client: &mut Client, revision: i64) {
    let then = client.hash_kv(revision).await.unwrap();
    let put = client.put("m", "3", None).await.unwrap();
    let now = put.header().unwrap().revision();
    // What was is hashed as it was, and what is new changes the hash.
    assert_eq!(client.hash_kv(revision).await.unwrap().hash(), then.hash());
    assert_ne!(client.hash_kv(now).await.unwrap().hash(), then.hash());
    assert_eq!(
        client.hash_kv(0).await.unwrap().hash(),
        client.hash_kv(now).await.unwrap().hash()
    );
    assert_ne!(client.hash().await.unwrap().hash(), 0);
}

async fn snapshot(client: &mut Client) {
    let mut stream = client.snapshot().await.unwrap();
    let (mut bytes, mut remaining) = (Vec::new(), None);
    while let Some(part) = stream.message().await.unwrap() {
        bytes.extend_from_slice(part.blob());
        remaining = Some(part.remaining_bytes());
    }
    assert_eq!(remaining, Some(0));
    // Pages, then the checksum; the third word of the first page is the mark of etcd's database.
    assert_eq!(bytes.len() % 512, CHECKSUM_BYTES);
    assert_eq!(bytes[16..20], 0xED0C_DAED_u32.to_le_bytes());
}
