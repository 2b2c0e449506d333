//! Five hundred nodes in this process, with API server, controllers and fleet: a script silences a zone, the life-cycle
//! controller marks its nodes, and they are Ready again when they come back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use apiserver::Api;
use client::{Client, ListOptions};
use controllers::{ControllersConfig, ControllersProgress, NodeLifecycleConfig};
use fleet::{FaultScript, FleetConfig, FleetProgress, Layout};
use store::{Store, StoreConfig};
use tokio::sync::watch;

const NODES: usize = 500;
/// Those of zone-b: every third, from the second.
const IN_ZONE: usize = 167;
const LOOKS_MAX: usize = 600;
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How many nodes of zone-b and of the others have a Ready condition of this status.
async fn count(client: &Client, status: &str) -> (usize, usize) {
    let nodes = schema::resource("", "v1", "nodes").unwrap();
    let listed = client
        .list(nodes, "", &ListOptions::default())
        .await
        .unwrap();
    let mut counts = (0, 0);
    for node in listed.items {
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let has = conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == status);
        if node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone-b" {
            counts.0 += usize::from(has);
        } else {
            counts.1 += usize::from(has);
        }
    }
    counts
}

async fn until_counts(client: &Client, status: &str, wanted: (usize, usize)) {
    let mut seen = (0, 0);
    for _ in 0..LOOKS_MAX {
        seen = count(client, status).await;
        if seen == wanted {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    panic!("{status}: {seen:?}, not {wanted:?}");
}

#[test]
fn a_silent_zone_turns_unknown_and_comes_back_ready() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (stop, stopping) = watch::channel(false);
        let store = Arc::new(Store::new(StoreConfig::default()));
        let api = Api::new(store, stopping.clone());
        api.bootstrap(([127, 0, 0, 1], 6443).into()).await.unwrap();
        let client = Client::new(Arc::new(api), Some(Api::system_user()), "test");
        let node_lifecycle = NodeLifecycleConfig {
            grace_micros: 4_000_000,
            ..NodeLifecycleConfig::default()
        };
        tokio::task::spawn_local(controllers::run(
            client.clone(),
            ControllersConfig {
                node_lifecycle,
                ..ControllersConfig::default()
            },
            Arc::new(ControllersProgress::default()),
            stopping.clone(),
        ));
        let script = |text: &str| Arc::new(FaultScript::parse(text, &Layout::default()).unwrap());
        let (scripts, faults) = watch::channel(script(""));
        let config = FleetConfig {
            lease_interval: Duration::from_secs(1),
            faults: Some(faults),
            ..FleetConfig::new(NODES)
        };
        let progress = Arc::new(FleetProgress::default());
        let fleet = fleet::run(client.clone(), config, progress.clone(), stopping);
        tokio::task::spawn_local(fleet);
        until_counts(&client, "True", (IN_ZONE, NODES - IN_ZONE)).await;

        scripts.send_replace(script(
            "steps: [{at: 0s, do: silence, nodes: {zones: [zone-b]}}]",
        ));
        until_counts(&client, "Unknown", (IN_ZONE, 0)).await;
        assert_eq!(progress.silent.load(Relaxed), IN_ZONE);
        assert_eq!(count(&client, "True").await, (0, NODES - IN_ZONE));

        scripts.send_replace(script(
            "steps: [{at: 0s, do: recover, within: 2s, nodes: {zones: [zone-b]}}]",
        ));
        until_counts(&client, "True", (IN_ZONE, NODES - IN_ZONE)).await;
        assert_eq!(progress.silent.load(Relaxed), 0);
        let _ = stop.send(true);
    });
}
