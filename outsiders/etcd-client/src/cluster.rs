//! The cluster: one member, that is us.

use crate::Place;

/// The chapter.
pub async fn tell(place: &Place) {
    let mut client = place.client().await;
    let list = client.member_list().await.unwrap();
    let header = list.header().unwrap();
    let [member] = list.members() else {
        panic!("one member: {list:?}")
    };
    assert_eq!(member.id(), header.member_id());
    assert_ne!(header.cluster_id(), 0);
    assert_eq!(member.name(), "default");
    assert_eq!(member.client_urls(), [place.endpoint.as_str()]);
    assert_eq!(member.peer_urls().len(), 1);
    assert!(!member.is_learner());
}
