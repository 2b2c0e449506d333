//! The scheduler with its nodes in shards, against a real API server in this process.

use std::collections::BTreeSet;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use meta::Value;
use scheduler::Shards;
use value::json;

use crate::plane::{Plane, node_of, run};

#[test]
fn shards_on_threads_place_evict_and_say_why() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": "high"}, "value": 1000});
        let classes = schema::resource("scheduling.k8s.io", "v1", "priorityclasses").unwrap();
        plane.client.create(classes, "", &class).await.unwrap();
        plane.add_scheduler(|config| config.shards = Shards::threads(3));
        for number in 0..12 {
            let name = format!("n{number:02}");
            plane.node(&name, "1", 110, json!({})).await;
        }
        // One a node, whichever shard has it.
        for number in 0..12 {
            plane.pod(&format!("p{number:02}"), "600m", json!({})).await;
        }
        let mut taken = BTreeSet::new();
        for number in 0..12 {
            taken.insert(plane.placed(&format!("p{number:02}")).await);
        }
        assert_eq!(taken.len(), 12);
        plane.pod("more", "600m", json!({})).await;
        let message = plane.refused("more").await;
        assert!(
            message.starts_with("0/12 nodes are available: 12 Insufficient cpu."),
            "{message}"
        );
        plane
            .pod(
                "urgent",
                "600m",
                json!({"spec": {"priorityClassName": "high"}}),
            )
            .await;
        let in_view = |pod: &Value| {
            pod["status"]["nominatedNodeName"]
                .as_str()
                .map(str::to_owned)
        };
        let urgent = plane.until("urgent", |pod| in_view(pod).is_some()).await;
        let node = in_view(&urgent).unwrap();
        let pods = plane.pods().await;
        let going = pods
            .iter()
            .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        let going: Vec<&str> = going.map(node_of).collect();
        assert_eq!(going, [&*node], "one goes, from the node in view");
    });
}

#[test]
fn extenders_and_shards_are_refused_together() {
    let mut config = scheduler::SchedulerConfig {
        shards: Shards::threads(2),
        ..Default::default()
    };
    assert_eq!(config.check(), Ok(()));
    config.extenders.push(scheduler::ExtenderConfig::default());
    assert_eq!(
        config.check().unwrap_err(),
        "extenders cannot be asked about nodes in shards: configure no extenders, or no shards"
    );
    config.shards = Shards::threads(1);
    assert_eq!(config.check(), Ok(()));
}

/// Serves shards on threads of this process, and can take them away.
struct Host {
    address: SocketAddr,
    connected: Arc<Mutex<Option<TcpStream>>>,
}

impl Host {
    fn start() -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connected: Arc<Mutex<Option<TcpStream>>> = Arc::default();
        let kept = connected.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                *kept.lock().unwrap() = Some(stream.try_clone().unwrap());
                // How a connection ends is its coordinator's business.
                let _ = scheduler::serve_shard(stream);
            }
        });
        Host { address, connected }
    }

    /// Ends the connection as a process that dies would; the next one finds an empty shard.
    fn cut(&self) {
        let stream = self.connected.lock().unwrap().take().unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
}

#[test]
fn a_shard_that_is_lost_is_taken_over_and_may_come_back() {
    run(|| async {
        let hosts = [Host::start(), Host::start(), Host::start()];
        let addresses = hosts.iter().map(|host| host.address).collect();
        let plane = Plane::start_with_nobody().await;
        for number in 0..12 {
            let name = format!("n{number:02}");
            plane.node(&name, "1", 110, json!({})).await;
        }
        plane.add_scheduler(|config| config.shards = Shards::Processes(addresses));
        let mut taken = BTreeSet::new();
        for round in 0..4 {
            for number in 0..3 {
                let name = format!("p{round}{number}");
                plane.pod(&name, "600m", json!({})).await;
                assert!(
                    taken.insert(plane.placed(&name).await),
                    "a node got two pods"
                );
            }
            // Each is lost once; by the last round some are back, with or without nodes.
            if let Some(host) = hosts.get(round) {
                host.cut();
            }
        }
        assert_eq!(taken.len(), 12, "nodes of lost shards get pods, too");
        plane.pod("more", "600m", json!({})).await;
        let message = plane.refused("more").await;
        assert!(
            message.starts_with("0/12 nodes are available: 12 Insufficient cpu."),
            "{message}"
        );
    });
}
