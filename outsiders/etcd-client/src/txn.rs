//! Transactions: every comparison, both branches, transactions inside, what is refused.

use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use crate::{Place, code, refused};

/// The chapter.
pub async fn tell(place: &Place) {
    let mut client = place.client().await;
    comparisons(&mut client).await;
    branches(&mut client).await;
    nested(&mut client).await;

    let twice = Txn::new().and_then([TxnOp::put("t/x", "1", None), TxnOp::put("t/x", "2", None)]);
    assert_eq!(
        refused(
            client.txn(twice).await,
            "etcdserver: duplicate key given in txn request"
        ),
        code::INVALID_ARGUMENT
    );
}

async fn holds(client: &mut Client, compare: Compare) -> bool {
    client
        .txn(Txn::new().when([compare]))
        .await
        .unwrap()
        .succeeded()
}

async fn comparisons(client: &mut Client) {
    let lease = client.lease_grant(600, None).await.unwrap().id();
    let made = client.put("t/a", "m", None).await.unwrap();
    let made = made.header().unwrap().revision();
    let leased = Some(PutOptions::new().with_lease(lease));
    client.put("t/a", "m", leased).await.unwrap();

    // What holds of a value that is `less` than, `same` as, or `more` than the one that is there.
    let operators = [
        (CompareOp::Equal, [false, true, false]),
        (CompareOp::NotEqual, [true, false, true]),
        (CompareOp::Greater, [true, false, false]),
        (CompareOp::Less, [false, false, true]),
    ];
    for (operator, wanted) in operators {
        for (by, wanted) in [-1, 0, 1].into_iter().zip(wanted) {
            let value = match by {
                -1 => "l",
                0 => "m",
                _ => "n",
            };
            for compare in [
                Compare::version("t/a", operator, 2 + by),
                Compare::create_revision("t/a", operator, made + by),
                Compare::mod_revision("t/a", operator, made + 1 + by),
                Compare::lease("t/a", operator, lease + by),
                Compare::value("t/a", operator, value),
            ] {
                let text = format!("{compare:?}");
                assert_eq!(holds(client, compare).await, wanted, "{text}");
            }
        }
    }
    client.put("t/b", "m", None).await.unwrap();
    let all = Compare::value("t/", CompareOp::Equal, "m").with_prefix();
    assert!(holds(client, all).await);
    let all = Compare::version("t/a", CompareOp::Equal, 2).with_range("t/c");
    assert!(!holds(client, all).await);
    assert!(holds(client, Compare::version("t/none", CompareOp::Equal, 0)).await);
    client.lease_revoke(lease).await.unwrap();
}

async fn branches(client: &mut Client) {
    client.put("t/a", "1", None).await.unwrap();
    let txn = |value: &str| {
        Txn::new()
            .when([Compare::value("t/a", CompareOp::Equal, value)])
            .and_then([
                TxnOp::put("t/a", "2", Some(PutOptions::new().with_prev_key())),
                TxnOp::get("t/a", None),
                TxnOp::delete("t/b", None),
            ])
            .or_else([TxnOp::get("t/a", None)])
    };
    let done = client.txn(txn("1")).await.unwrap();
    assert!(done.succeeded());
    let answers = done.op_responses();
    let [
        TxnOpResponse::Put(put),
        TxnOpResponse::Get(get),
        TxnOpResponse::Delete(delete),
    ] = &answers[..]
    else {
        panic!("put, get, delete: {answers:?}")
    };
    assert_eq!(put.prev_key().unwrap().value(), b"1");
    assert_eq!(get.kvs()[0].value(), b"2");
    assert_eq!(
        get.kvs()[0].mod_revision(),
        done.header().unwrap().revision()
    );
    assert_eq!(delete.deleted(), 1);

    let other = client.txn(txn("1")).await.unwrap();
    assert!(!other.succeeded());
    let answers = other.op_responses();
    let [TxnOpResponse::Get(get)] = &answers[..] else {
        panic!("a get: {answers:?}")
    };
    assert_eq!(get.kvs()[0].value(), b"2");
    // It only read.
    assert_eq!(
        other.header().unwrap().revision(),
        done.header().unwrap().revision()
    );
}

async fn nested(client: &mut Client) {
    let inner = Txn::new()
        .when([Compare::version("t/inner", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("t/inner", "made", None)])
        .or_else([TxnOp::delete("t/inner", None)]);
    let outer = Txn::new()
        .when([Compare::version("t/a", CompareOp::Greater, 0)])
        .and_then([TxnOp::put("t/outer", "v", None), TxnOp::txn(inner)]);
    for is_made in [true, false] {
        let done = client.txn(outer.clone()).await.unwrap();
        assert!(done.succeeded());
        let answers = done.op_responses();
        let [TxnOpResponse::Put(_), TxnOpResponse::Txn(inner)] = &answers[..] else {
            panic!("a put and a transaction: {answers:?}")
        };
        assert_eq!(inner.succeeded(), is_made);
        let answers = inner.op_responses();
        match &answers[..] {
            [TxnOpResponse::Put(_)] => assert!(is_made),
            [TxnOpResponse::Delete(gone)] => assert_eq!((is_made, gone.deleted()), (false, 1)),
            other => panic!("one operation: {other:?}"),
        }
    }
}
