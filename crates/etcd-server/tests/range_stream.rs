//! Ranges told in pieces: put together they are the range, at one revision.

mod common;

use common::{Client, Ours, PATIENCE};
use etcd_wire::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use tonic::{Code, Status};

/// All pieces of a range.
async fn pieces(
    client: &mut Client,
    range: pb::RangeRequest,
) -> Result<Vec<pb::RangeResponse>, Status> {
    let mut stream = client.kv.range_stream(range).await?.into_inner();
    let mut found = Vec::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("the stream is silent")?
    {
        found.push(piece.range_response.unwrap());
    }
    Ok(found)
}

/// What a client makes of them: lists grow, what is set replaces.
fn whole(pieces: Vec<pb::RangeResponse>) -> pb::RangeResponse {
    let mut whole = pb::RangeResponse::default();
    for piece in pieces {
        whole.kvs.extend(piece.kvs);
        whole.header = piece.header.or(whole.header);
        whole.more |= piece.more;
        whole.count = whole.count.max(piece.count);
    }
    whole
}

/// 2,000 keys with 2 KiB each: 4 MiB.
async fn filled(ours: &Ours) -> Client {
    let mut client = Client::connect(&ours.url()).await;
    for first in (0..2_000).step_by(100) {
        let puts = (first..first + 100).map(|number| pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                key: format!("k/{number:06}").into(),
                value: vec![b'v'; 2 << 10].into(),
                ..Default::default()
            })),
        });
        let txn = pb::TxnRequest {
            success: puts.collect(),
            ..Default::default()
        };
        client.kv.txn(txn).await.unwrap();
    }
    client
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest {
        key: "k/".into(),
        range_end: "k0".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_pieces_are_the_range() {
    let ours = Ours::in_memory();
    let mut client = filled(&ours).await;
    let requests = [
        all(),
        pb::RangeRequest {
            limit: 1_500,
            ..all()
        },
        pb::RangeRequest {
            limit: 2_000,
            ..all()
        },
        pb::RangeRequest { limit: 5, ..all() },
        pb::RangeRequest {
            keys_only: true,
            ..all()
        },
        pb::RangeRequest {
            count_only: true,
            ..all()
        },
        pb::RangeRequest {
            revision: 3,
            ..all()
        },
        pb::RangeRequest {
            range_end: "l".into(),
            key: "m".into(),
            ..all()
        },
        pb::RangeRequest {
            key: "k/000007".into(),
            range_end: "".into(),
            ..all()
        },
        pb::RangeRequest {
            key: "k/001990".into(),
            range_end: vec![0].into(),
            ..all()
        },
        pb::RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            ..all()
        },
    ];
    for request in requests {
        let expected = client.kv.range(request.clone()).await.unwrap().into_inner();
        let got = pieces(&mut client, request.clone()).await.unwrap();
        // Only the last one says what holds for all.
        let (last, first) = got.split_last().unwrap();
        assert!(last.header.is_some());
        for piece in first {
            assert_eq!((piece.header, piece.count, piece.more), (None, 0, false));
            assert!(!piece.kvs.is_empty());
        }
        assert_eq!(whole(got), expected, "{request:?}");
    }
    // 4 MiB do not come in one piece.
    assert!(pieces(&mut client, all()).await.unwrap().len() > 4);
}

#[tokio::test]
async fn what_is_written_meanwhile_is_not_told() {
    let ours = Ours::in_memory();
    let mut client = filled(&ours).await;
    let expected = client.kv.range(all()).await.unwrap().into_inner();
    let mut stream = client.kv.range_stream(all()).await.unwrap().into_inner();
    let mut found = vec![
        stream
            .message()
            .await
            .unwrap()
            .unwrap()
            .range_response
            .unwrap(),
    ];
    client.delete("k/", "k0").await;
    client.put("k/000000", "new").await;
    client.put("k/zzz", "new").await;
    while let Some(piece) = stream.message().await.unwrap() {
        found.push(piece.range_response.unwrap());
    }
    assert_eq!(whole(found), expected);
}

#[tokio::test]
async fn what_cannot_be_told_in_pieces_is_refused() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let mut refused = async |request: pb::RangeRequest| {
        let error = pieces(&mut client, request).await.unwrap_err();
        (error.code(), error.message().to_owned())
    };
    let sort = (
        Code::Unimplemented,
        "RangeStream does not support custom sort orders".to_owned(),
    );
    let descending = pb::RangeRequest {
        sort_order: SortOrder::Descend.into(),
        ..all()
    };
    assert_eq!(refused(descending).await, sort);
    let by_value = pb::RangeRequest {
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Value.into(),
        ..all()
    };
    assert_eq!(refused(by_value).await, sort);
    let filtered = pb::RangeRequest {
        max_mod_revision: 5,
        ..all()
    };
    assert_eq!(
        refused(filtered).await,
        (
            Code::Unimplemented,
            "RangeStream does not support revision filters".to_owned()
        )
    );
    assert_eq!(
        refused(pb::RangeRequest::default()).await,
        (
            Code::InvalidArgument,
            "etcdserver: key is not provided".to_owned()
        )
    );
    let future = pb::RangeRequest {
        revision: 99,
        ..all()
    };
    assert_eq!(
        refused(future).await,
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision".to_owned()
        )
    );
}
