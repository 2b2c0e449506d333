//! What tools and probes ask of a server besides keys: health, reflection, members, downgrades.

mod common;

use common::{Client, Ours, PATIENCE, RealEtcd, TempDir};
use etcd_server::Options;
use etcd_server::reflection_alpha_rpc::server_reflection_client::ServerReflectionClient as AlphaClient;
use etcd_server::reflection_rpc::server_reflection_client::ServerReflectionClient;
use etcd_server::rpc::cluster_client::ClusterClient;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::reflection as words;
use pb::downgrade_request::DowngradeAction;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use words::server_reflection_request::MessageRequest as Question;
use words::server_reflection_response::MessageResponse as Answer;

/// One plain HTTP/1.1 request: status, the headers that matter, body.
async fn http(address: &str, method: &str, path: &str) -> (u16, Vec<String>, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: anything\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let names = ["allow", "content-type", "x-content-type-options"];
    let mut headers: Vec<String> = head
        .to_lowercase()
        .lines()
        .filter(|line| {
            names
                .iter()
                .any(|name| line.starts_with(&format!("{name}:")))
        })
        .map(Into::into)
        .collect();
    headers.sort();
    (code, headers, body.to_owned())
}

async fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap()
}

fn said<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let error = answer.expect_err("an error");
    (error.code(), error.message().to_owned())
}

#[tokio::test]
async fn probes_get_the_texts_they_know() {
    let ours = Ours::in_memory();
    let address = ours.address.to_string();
    let ok = |body: &str| (200, body.to_owned());
    for (path, expected) in [
        ("/health", ok(r#"{"health":"true","reason":""}"#)),
        (
            "/health?exclude=NOSPACE&serializable=true",
            ok(r#"{"health":"true","reason":""}"#),
        ),
        ("/livez", ok("ok\n")),
        ("/livez?verbose", ok("[+]serializable_read ok\nok\n")),
        ("/livez/serializable_read", ok("ok\n")),
        ("/readyz", ok("ok\n")),
        (
            "/readyz?verbose",
            ok(
                "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
            ),
        ),
        (
            "/readyz?verbose=&exclude=non_learner&exclude=linearizable_read&exclude=unknown",
            ok("[+]data_corruption ok\n[+]serializable_read ok\nok\n"),
        ),
        (
            "/readyz/linearizable_read?verbose",
            ok("[+]linearizable_read ok\nok\n"),
        ),
        ("/livez/non_learner", (404, "404 page not found\n".into())),
        ("/readyz/", (404, "404 page not found\n".into())),
    ] {
        let (code, headers, body) = http(&address, "GET", path).await;
        assert_eq!((code, body), expected, "{path}");
        assert!(
            headers.contains(&"content-type: text/plain; charset=utf-8".to_owned()),
            "{path}: {headers:?}"
        );
    }
    let (code, headers, body) = http(&address, "POST", "/readyz").await;
    assert_eq!((code, body.as_str()), (405, "Method Not Allowed\n"));
    assert!(headers.contains(&"allow: get".to_owned()));
}

#[tokio::test]
async fn probes_of_a_real_etcd_see_the_same() {
    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    let ours = Ours::in_memory();
    let (theirs, ours) = (
        etcd.url.trim_start_matches("http://").to_owned(),
        ours.address.to_string(),
    );
    // The release at hand may be older than the other paths.
    for (method, path) in [
        ("GET", "/health"),
        ("GET", "/health?serializable=true"),
        ("GET", "/health?exclude=NOSPACE"),
        ("PUT", "/health"),
        ("HEAD", "/health"),
        ("GET", "/nowhere"),
        ("POST", "/version"),
    ] {
        let expected = http(&theirs, method, path).await;
        assert_eq!(http(&ours, method, path).await, expected, "{method} {path}");
    }
}

async fn asked(channel: Channel, is_alpha: bool, questions: Vec<Question>) -> Vec<Answer> {
    let questions = questions
        .into_iter()
        .map(|question| words::ServerReflectionRequest {
            host: "h".into(),
            message_request: Some(question),
        });
    let questions = tokio_stream::iter(questions.collect::<Vec<_>>());
    let mut answers = match is_alpha {
        true => {
            AlphaClient::new(channel)
                .server_reflection_info(questions)
                .await
        }
        false => {
            ServerReflectionClient::new(channel)
                .server_reflection_info(questions)
                .await
        }
    }
    .unwrap()
    .into_inner();
    let mut found = Vec::new();
    while let Some(answer) = tokio::time::timeout(PATIENCE, answers.message())
        .await
        .expect("no answer")
        .unwrap()
    {
        assert_eq!(answer.valid_host, "h");
        assert!(answer.original_request.is_some());
        found.push(answer.message_response.unwrap());
    }
    found
}

#[tokio::test]
async fn reflection_tells_every_service_that_answers() {
    let ours = Ours::in_memory();
    for is_alpha in [false, true] {
        let questions = vec![
            Question::ListServices(String::new()),
            Question::FileContainingSymbol("etcdserverpb.KV.Range".into()),
            Question::FileByFilename("nowhere.proto".into()),
        ];
        let answers = asked(channel(&ours.url()).await, is_alpha, questions).await;
        let Answer::ListServicesResponse(list) = &answers[0] else {
            panic!("{answers:?}");
        };
        let mut names: Vec<&str> = list
            .service
            .iter()
            .map(|service| &service.name[..])
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "etcdserverpb.Auth",
                "etcdserverpb.Cluster",
                "etcdserverpb.KV",
                "etcdserverpb.Lease",
                "etcdserverpb.Maintenance",
                "etcdserverpb.Watch",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "v3electionpb.Election",
                "v3lockpb.Lock",
            ]
        );
        let Answer::FileDescriptorResponse(files) = &answers[1] else {
            panic!("{answers:?}");
        };
        // The file and the two it needs, the asked one first.
        assert_eq!(files.file_descriptor_proto.len(), 3);
        assert!(files.file_descriptor_proto[0].starts_with(b"\x0a\x09rpc.proto"));
        assert!(matches!(&answers[2], Answer::ErrorResponse(error) if error.error_code == 5));
    }
}

async fn downgrade(
    client: &mut Client,
    action: DowngradeAction,
    version: &str,
) -> Result<String, Status> {
    let request = pb::DowngradeRequest {
        action: action.into(),
        version: version.into(),
    };
    let answer = client.maintenance.downgrade(request).await;
    answer.map(|answer| answer.into_inner().version)
}

async fn told(client: &mut Client) -> (String, pb::DowngradeInfo) {
    let status = client.maintenance.status(pb::StatusRequest {}).await;
    let status = status.unwrap().into_inner();
    (status.storage_version, status.downgrade_info.unwrap())
}

#[tokio::test]
async fn a_downgrade_is_told_until_it_is_cancelled_and_survives_a_restart() {
    use DowngradeAction::{Cancel, Enable, Validate};
    let dir = TempDir::new();
    let options = Options {
        data_dir: Some(dir.0.join("data")),
        ..Options::default()
    };
    let ours = Ours::start(options.clone());
    let mut client = Client::connect(&ours.url()).await;
    assert_eq!(
        said(downgrade(&mut client, Validate, "x").await),
        (
            Code::InvalidArgument,
            "etcdserver: wrong downgrade target version format".into()
        )
    );
    let invalid = (
        Code::InvalidArgument,
        "etcdserver: invalid downgrade target version".to_owned(),
    );
    assert_eq!(said(downgrade(&mut client, Enable, "3.4").await), invalid);
    assert_eq!(
        downgrade(&mut client, Validate, "3.5").await.unwrap(),
        "3.6"
    );
    assert_eq!(downgrade(&mut client, Cancel, "").await.unwrap(), "3.6");
    assert_eq!(
        told(&mut client).await,
        ("3.6.0".into(), pb::DowngradeInfo::default())
    );
    assert_eq!(downgrade(&mut client, Enable, "3.5").await.unwrap(), "3.6");
    ours.stop();

    let ours = Ours::start(options);
    let mut client = Client::connect(&ours.url()).await;
    let info = pb::DowngradeInfo {
        enabled: true,
        target_version: "3.5.0".into(),
    };
    assert_eq!(told(&mut client).await, ("3.5.0".into(), info));
    let (_, _, version) = http(&ours.address.to_string(), "GET", "/version").await;
    assert!(version.contains(r#""etcdcluster":"3.5.0""#), "{version}");
    assert_eq!(
        said(downgrade(&mut client, Enable, "3.4").await),
        (
            Code::FailedPrecondition,
            "etcdserver: cluster has a downgrade job in progress".into()
        )
    );
    assert_eq!(downgrade(&mut client, Cancel, "").await.unwrap(), "3.6");
    assert_eq!(
        told(&mut client).await,
        ("3.6.0".into(), pb::DowngradeInfo::default())
    );
}

/// What a cluster of one member says of members; ids and URLs of the server itself left out.
async fn members(url: &str) -> Vec<(Code, String)> {
    let mut cluster = ClusterClient::new(channel(url).await);
    let mut seen = Vec::new();
    let list = pb::MemberListRequest { linearizable: true };
    let list = cluster.member_list(list).await.unwrap().into_inner();
    assert_eq!(list.header.unwrap().revision, 0);
    let member = list.members.into_iter().next().unwrap();
    let add = |urls: &[&str]| pb::MemberAddRequest {
        peer_ur_ls: urls.iter().map(|&url| url.into()).collect(),
        is_learner: false,
    };
    for urls in [
        vec![],
        vec!["nonsense"],
        vec!["http://127.0.0.1"],
        vec!["http://127.0.0.1:x"],
    ] {
        seen.push(said(cluster.member_add(add(&urls)).await));
    }
    let ours: Vec<&str> = member.peer_ur_ls.iter().map(String::as_str).collect();
    seen.push(said(cluster.member_add(add(&ours)).await));
    for id in [member.id, 5] {
        seen.push(said(
            cluster.member_remove(pb::MemberRemoveRequest { id }).await,
        ));
        seen.push(said(
            cluster
                .member_promote(pb::MemberPromoteRequest { id })
                .await,
        ));
    }
    let update = pb::MemberUpdateRequest {
        id: member.id,
        peer_ur_ls: vec!["http://127.0.0.1:5".into(), "any\nthing".into()],
    };
    let updated = cluster
        .member_update(update)
        .await
        .map(Response::into_inner);
    let updated = updated.unwrap().members.into_iter().next().unwrap();
    assert_eq!(updated.peer_ur_ls, ["http://127.0.0.1:5", "any\nthing"]);
    let other = pb::MemberUpdateRequest {
        id: 5,
        peer_ur_ls: Vec::new(),
    };
    seen.push(said(cluster.member_update(other).await));
    seen
}

#[tokio::test]
async fn the_only_member_can_be_renamed_but_not_removed() {
    let ours = members(&Ours::in_memory().url()).await;
    let text = |code, text: &str| (code, format!("etcdserver: {text}"));
    let bad = text(Code::InvalidArgument, "given member URLs are invalid");
    let gone = text(Code::NotFound, "member not found");
    assert_eq!(
        ours,
        [
            bad.clone(),
            bad.clone(),
            bad.clone(),
            bad,
            text(Code::FailedPrecondition, "Peer URLs already exists"),
            text(
                Code::Unknown,
                "re-configuration failed due to not enough started members"
            ),
            text(
                Code::FailedPrecondition,
                "can only promote a learner member"
            ),
            gone.clone(),
            gone.clone(),
            gone,
        ]
    );
    if let Some(etcd) = RealEtcd::start().await {
        assert_eq!(members(&etcd.url).await, ours);
    }
}
