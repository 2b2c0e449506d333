//! Access rules go with the keys: out of an etcd they hold here, and out of a store they hold in an etcd.
//!
//! The parts with etcd need `MEGAPLANE_ETCD`, the path of an etcd (`scripts/fetch-etcd` prints one).

#[path = "../../etcd-server/tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::users::{Caller, channel, denied, empty, refusal, token};
use common::{Ours, RealEtcd, TempDir};
use etcd_server::{AuthOptions, Options};
use etcd_wire::authpb::permission::Type;
use etcd_wire::etcdserverpb as pb;
use migrate::{HashCheck, import_file};

/// Root, and a user `ann` who may do anything from a to b; the rules are on.
async fn make_rules(url: &str) {
    let channel = channel(url).await;
    let mut nobody = Caller::nobody(&channel);
    nobody.put("a1").await.unwrap();
    nobody
        .add_user_who_may("ann", Type::Readwrite, "a", "b")
        .await;
    nobody.enable().await;
}

/// The rules hold as they were made.
async fn hold(url: &str) {
    let channel = channel(url).await;
    assert_eq!(Caller::nobody(&channel).get("a1").await, Err(empty()));
    assert!(token(&channel, "ann", "x").await.is_err());
    let mut ann = Caller::log_in(&channel, "ann", "ann").await.unwrap();
    assert_eq!(ann.get("a1").await, Ok(1));
    assert!(ann.put("a2").await.is_ok());
    assert_eq!(ann.put("b").await, Err(denied()));
    assert_eq!(ann.add_role("x").await, Err(denied()));
    let mut root = Caller::log_in(&channel, "root", "secret").await.unwrap();
    assert!(root.put("b").await.is_ok());
    let again = root.add_user("ann", "p").await;
    assert!(again.is_err_and(|(_, text)| text == "etcdserver: user name already exists"));
}

async fn save(url: &str, path: &Path) {
    let channel = channel(url).await;
    let refused = Caller::nobody(&channel)
        .maintenance
        .snapshot(pb::SnapshotRequest {})
        .await;
    // The older etcd loses the code here.
    let (_, text) = refusal(refused.err().unwrap());
    assert!(text.ends_with(": user name is empty"), "{text}");
    let mut root = Caller::log_in(&channel, "root", "secret").await.unwrap();
    let saved = root.maintenance.snapshot(pb::SnapshotRequest {}).await;
    let (mut saved, mut bytes) = (saved.unwrap().into_inner(), Vec::new());
    while let Some(piece) = saved.message().await.unwrap() {
        bytes.extend_from_slice(&piece.blob);
    }
    std::fs::write(path, bytes).unwrap();
}

fn import(file: &Path, dir: &Path) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_micros = now.unwrap().as_micros() as i64;
    let imported = import_file(file, dir, HashCheck::IfThere, None, now_micros, |_| {}).unwrap();
    assert!(imported.auth_enabled);
    assert_eq!((imported.users, imported.roles), (2, 1));
}

fn on(dir: Option<&Path>) -> Ours {
    Ours::start(Options {
        data_dir: dir.map(Path::to_owned),
        auth: AuthOptions {
            bcrypt_cost: 4,
            ..AuthOptions::default()
        },
        ..Options::default()
    })
}

#[tokio::test]
async fn the_rules_of_a_store_go_with_its_snapshot() {
    let work = TempDir::new();
    let saved = work.0.join("saved.db");
    let first = on(None);
    make_rules(&first.url()).await;
    save(&first.url(), &saved).await;
    let dir = work.0.join("copy");
    import(&saved, &dir);
    hold(&on(Some(&dir)).url()).await;
    // And into a real etcd.
    let restore = |name: &str, peer: &str| {
        let etcdctl = PathBuf::from(std::env::var_os("MEGAPLANE_ETCD").unwrap());
        let dir = TempDir::new().keep();
        std::fs::remove_dir_all(&dir).unwrap();
        let done = Command::new(etcdctl.with_file_name("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(&saved)
            .arg("--data-dir")
            .arg(&dir)
            .args(["--name", name, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &format!("{name}={peer}")])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        dir
    };
    if let Some(etcd) = RealEtcd::restored(restore).await {
        hold(&etcd.url).await;
    }
}

#[tokio::test]
async fn the_rules_of_an_etcd_hold_in_its_place() {
    let Some(mut etcd) = RealEtcd::start().await else {
        return;
    };
    make_rules(&etcd.url).await;
    let work = TempDir::new();
    let saved = work.0.join("saved.db");
    save(&etcd.url, &saved).await;
    etcd.stop();
    let raw = etcd.dir.0.join("member/snap/db");
    for (file, name) in [(&saved, "from-snapshot"), (&raw, "from-database")] {
        let dir = work.0.join(name);
        import(file, &dir);
        hold(&on(Some(&dir)).url()).await;
        // And after a restart.
        let again = on(Some(&dir));
        let mut nobody = Caller::nobody(&channel(&again.url()).await);
        assert_eq!(nobody.get("a1").await, Err(empty()), "{name}");
    }
}
