//! Keys and values: put, get with every option, delete, compaction, a namespace.

use etcd_client::{
    Client, CompactionOptions, DeleteOptions, Error, GetOptions, GetResponse, KvClientPrefix,
    PutOptions, SortOrder, SortTarget,
};

use crate::{Place, code, refused};

/// The chapter.
pub async fn tell(place: &Place) {
    let mut client = place.client().await;
    puts(&mut client).await;
    ranges(&mut client).await;
    past(&mut client).await;
    stream(&mut client, place.streams_ranges).await;
    namespace(&mut client).await;
    deletes(&mut client).await;
    compaction(&mut client).await;
}

/// The keys of an answer, in its order, separated by blanks.
fn keys(answer: &GetResponse) -> String {
    let keys: Vec<&str> = answer
        .kvs()
        .iter()
        .map(|kv| kv.key_str().unwrap())
        .collect();
    keys.join(" ")
}

async fn puts(client: &mut Client) {
    let put = client.put("one", "1", None).await.unwrap();
    assert!(put.prev_key().is_none());
    let first = put.header().unwrap().revision();

    let with_prev = Some(PutOptions::new().with_prev_key());
    let put = client.put("one", "2", with_prev.clone()).await.unwrap();
    let prev = put.prev_key().unwrap();
    assert_eq!((prev.value(), prev.version()), (&b"1"[..], 1));
    assert_eq!(put.header().unwrap().revision(), first + 1);

    let lease = client.lease_grant(600, None).await.unwrap().id();
    let leased = Some(PutOptions::new().with_lease(lease));
    client.put("one", "3", leased).await.unwrap();
    let keep_lease = Some(PutOptions::new().with_ignore_lease());
    client.put("one", "4", keep_lease).await.unwrap();
    let got = client.get("one", None).await.unwrap();
    let [kv] = got.kvs() else {
        panic!("one key: {got:?}")
    };
    assert_eq!((kv.value(), kv.lease()), (&b"4"[..], lease));

    let keep_value = Some(PutOptions::new().with_ignore_value());
    client.put("one", "", keep_value.clone()).await.unwrap();
    let got = client.get("one", None).await.unwrap();
    let kv = &got.kvs()[0];
    assert_eq!((kv.value(), kv.lease()), (&b"4"[..], 0));
    assert_eq!(kv.version(), 5);
    assert_eq!(kv.create_revision(), first);
    assert_eq!(kv.mod_revision(), got.header().unwrap().revision());

    let refusal = client.put("nobody", "", keep_value).await;
    assert_eq!(
        refused(refusal, "etcdserver: key not found"),
        code::INVALID_ARGUMENT
    );
    let refusal = client.put("", "v", None).await;
    assert_eq!(
        refused(refusal, "etcdserver: key is not provided"),
        code::INVALID_ARGUMENT
    );
    let unknown = Some(PutOptions::new().with_lease(4711));
    let refusal = client.put("one", "v", unknown).await;
    assert_eq!(
        refused(refusal, "etcdserver: requested lease not found"),
        code::NOT_FOUND
    );
    client.lease_revoke(lease).await.unwrap();
}

async fn ranges(client: &mut Client) {
    for (key, value) in [("r/a", "3"), ("r/b", "1"), ("r/c", "2"), ("r/b", "1")] {
        client.put(key, value, None).await.unwrap();
    }
    let under = || GetOptions::new().with_prefix();
    let all = client.get("r/", Some(under())).await.unwrap();
    assert_eq!(
        (keys(&all).as_str(), all.count(), all.more()),
        ("r/a r/b r/c", 3, false)
    );

    let limited = client.get("r/", Some(under().with_limit(2))).await.unwrap();
    assert_eq!(
        (keys(&limited).as_str(), limited.count(), limited.more()),
        ("r/a r/b", 3, true)
    );

    for (target, order, wanted) in [
        (SortTarget::Key, SortOrder::Descend, "r/c r/b r/a"),
        (SortTarget::Value, SortOrder::Ascend, "r/b r/c r/a"),
        (SortTarget::Mod, SortOrder::Descend, "r/b r/c r/a"),
        (SortTarget::Create, SortOrder::Descend, "r/c r/b r/a"),
        (SortTarget::Version, SortOrder::Descend, "r/b r/a r/c"),
    ] {
        let sorted = client
            .get("r/", Some(under().with_sort(target, order)))
            .await;
        assert_eq!(keys(&sorted.unwrap()), wanted, "{target:?} {order:?}");
    }

    let counted = client
        .get("r/", Some(under().with_count_only()))
        .await
        .unwrap();
    assert_eq!((counted.kvs().len(), counted.count()), (0, 3));
    let bare = client
        .get("r/", Some(under().with_keys_only()))
        .await
        .unwrap();
    assert!(bare.kvs().iter().all(|kv| kv.value().is_empty()));
    assert_eq!(keys(&bare), "r/a r/b r/c");

    let range = client
        .get("r/a", Some(GetOptions::new().with_range("r/c")))
        .await;
    assert_eq!(keys(&range.unwrap()), "r/a r/b");
    let from = client
        .get("r/b", Some(GetOptions::new().with_from_key()))
        .await;
    assert_eq!(keys(&from.unwrap()), "r/b r/c");
    let everything = client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await;
    assert_eq!(keys(&everything.unwrap()), "one r/a r/b r/c");
    let local = client.get("r/", Some(under().with_serializable())).await;
    assert_eq!(local.unwrap().count(), 3);

    // b was changed after c was made.
    let c = all.kvs()[2].mod_revision();
    for (options, wanted) in [
        (under().with_min_mod_revision(c), "r/b r/c"),
        (under().with_max_mod_revision(c), "r/a r/c"),
        (under().with_min_create_revision(c), "r/c"),
        (under().with_max_create_revision(c - 1), "r/a r/b"),
    ] {
        let some = client.get("r/", Some(options.clone())).await.unwrap();
        assert_eq!(keys(&some), wanted, "{options:?}");
    }
}

async fn past(client: &mut Client) {
    let put = client.put("past", "old", None).await.unwrap();
    let then = put.header().unwrap().revision();
    client.put("past", "new", None).await.unwrap();
    let old = client
        .get("past", Some(GetOptions::new().with_revision(then)))
        .await
        .unwrap();
    assert_eq!(old.kvs()[0].value(), b"old");
    assert_eq!(old.header().unwrap().revision(), then + 1);
    let before = client
        .get("past", Some(GetOptions::new().with_revision(then - 1)))
        .await;
    assert!(before.unwrap().kvs().is_empty());
    let future = client
        .get("past", Some(GetOptions::new().with_revision(then + 1000)))
        .await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(refused(future, text), code::OUT_OF_RANGE);
}

async fn stream(client: &mut Client, is_known: bool) {
    let options = Some(GetOptions::new().with_prefix());
    let mut kv_client = client.kv_client();
    let opened = kv_client.get_stream("r/", options).await;
    if !is_known {
        // Whether the refusal comes with the first answer or before it is chance.
        let refusal = match opened {
            Ok(mut parts) => parts.message().await.map(|_| ()),
            Err(error) => Err(error),
        };
        let Err(Error::GRpcStatus(status)) = refusal else {
            panic!("a stream of an etcd that knows none: {refusal:?}")
        };
        assert_eq!(status.code() as i32, code::UNIMPLEMENTED);
        return;
    }
    let mut parts = opened.unwrap();
    let (mut found, mut count) = (Vec::new(), 0);
    while let Some(part) = parts.message().await.unwrap() {
        found.extend(part.kvs().iter().map(|kv| kv.key().to_vec()));
        count = part.count();
    }
    assert_eq!(found, [b"r/a", b"r/b", b"r/c"]);
    assert_eq!(count, 3);
}

async fn namespace(client: &mut Client) {
    let mut inside = KvClientPrefix::new(client.kv_client(), "space/".into());
    inside.put("key", "v", None).await.unwrap();
    let got = inside.get("key", None).await.unwrap();
    assert_eq!(keys(&got), "key");
    let outside = client.get("space/key", None).await.unwrap();
    assert_eq!(outside.kvs()[0].value(), b"v");
}

async fn deletes(client: &mut Client) {
    let with_prev = Some(DeleteOptions::new().with_prev_key());
    let gone = client.delete("past", with_prev.clone()).await.unwrap();
    assert_eq!(gone.deleted(), 1);
    assert_eq!(gone.prev_kvs()[0].value(), b"new");
    let again = client.delete("past", with_prev).await.unwrap();
    assert_eq!((again.deleted(), again.prev_kvs().len()), (0, 0));
    // What changes nothing takes no revision.
    assert_eq!(
        again.header().unwrap().revision(),
        gone.header().unwrap().revision()
    );
    let range = Some(DeleteOptions::new().with_range("r/b"));
    assert_eq!(client.delete("r/a", range).await.unwrap().deleted(), 1);
    let prefix = Some(DeleteOptions::new().with_prefix().with_prev_key());
    let gone = client.delete("r/", prefix).await.unwrap();
    assert_eq!((gone.deleted(), gone.prev_kvs().len()), (2, 2));
    let from = Some(DeleteOptions::new().with_from_key());
    assert_eq!(client.delete("space/", from).await.unwrap().deleted(), 1);
    let all = Some(DeleteOptions::new().with_all_keys());
    assert_eq!(client.delete("", all).await.unwrap().deleted(), 1);
}

async fn compaction(client: &mut Client) {
    let put = client.put("compacted", "1", None).await.unwrap();
    let revision = put.header().unwrap().revision();
    client.put("compacted", "2", None).await.unwrap();
    let physical = Some(CompactionOptions::new().with_physical());
    client.compact(revision + 1, physical).await.unwrap();
    let text = "etcdserver: mvcc: required revision has been compacted";
    let old = client
        .get("compacted", Some(GetOptions::new().with_revision(revision)))
        .await;
    assert_eq!(refused(old, text), code::OUT_OF_RANGE);
    let again = client.compact(revision + 1, None).await;
    assert_eq!(refused(again, text), code::OUT_OF_RANGE);
    let now = client.get("compacted", None).await.unwrap();
    assert_eq!(now.kvs()[0].value(), b"2");
}
