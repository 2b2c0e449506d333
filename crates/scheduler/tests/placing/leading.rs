//! Leader election: one at a time, handed over, taken over, and lost.

use std::time::Duration;

use meta::Value;
use scheduler::{Elector, LeaderElection};
use value::json;

use crate::plane::{PATIENCE, Plane, run};

fn elector(plane: &Plane, identity: &str) -> Elector {
    let config = LeaderElection {
        namespace: "default".into(),
        lease_duration: Duration::from_secs(1),
        renew_deadline: Duration::from_millis(700),
        retry_period: Duration::from_millis(20),
        ..LeaderElection::default()
    };
    Elector::new(plane.client.clone(), config, identity, 5)
}

async fn lease(plane: &Plane) -> Value {
    let leases = schema::resource("coordination.k8s.io", "v1", "leases").unwrap();
    let name = "kube-scheduler";
    plane.client.get(leases, "default", name).await.unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing came of it")
}

#[test]
fn the_lead_is_given_back_and_taken() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        let (mut first, mut second) = (elector(&plane, "first"), elector(&plane, "second"));
        soon(first.acquire()).await;
        let spec = lease(&plane).await["spec"].clone();
        assert_eq!(spec["holderIdentity"], "first");
        assert_eq!(spec["leaseDurationSeconds"], 1);
        assert_eq!(spec["leaseTransitions"], 0);
        // While the first renews, the second stands by for longer than the Lease lasts.
        tokio::select! {
            () = first.hold() => panic!("the lead was lost"),
            () = second.acquire() => panic!("two lead"),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        let renewed = lease(&plane).await["spec"].clone();
        assert_eq!(renewed["holderIdentity"], "first");
        assert_eq!(renewed["acquireTime"], spec["acquireTime"]);
        assert_ne!(renewed["renewTime"], spec["renewTime"]);
        first.release().await;
        assert_eq!(lease(&plane).await["spec"]["holderIdentity"], "");
        soon(second.acquire()).await;
        let spec = lease(&plane).await["spec"].clone();
        assert_eq!(spec["holderIdentity"], "second");
        assert_eq!(spec["leaseTransitions"], 1);
        // Who is not the leader has nothing to give back.
        first.release().await;
        assert_eq!(lease(&plane).await["spec"]["holderIdentity"], "second");
    });
}

#[test]
fn a_silent_leader_is_succeeded_and_knows_it_has_lost() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        let (mut first, mut second) = (elector(&plane, "first"), elector(&plane, "second"));
        soon(first.acquire()).await;
        soon(second.acquire()).await;
        assert_eq!(lease(&plane).await["spec"]["holderIdentity"], "second");
        soon(first.hold()).await;
        assert_eq!(lease(&plane).await["spec"]["holderIdentity"], "second");
    });
}

/// A Lease of somebody whose clock is years ahead counts by what is seen of it.
#[test]
fn clocks_of_others_are_not_believed() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        let leases = schema::resource("coordination.k8s.io", "v1", "leases").unwrap();
        let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "kube-scheduler", "namespace": "default"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 1, "leaseTransitions": 4,
                "acquireTime": "2999-01-01T00:00:00.000000Z", "renewTime": "2999-01-01T00:00:00.000000Z"}});
        plane
            .client
            .create(leases, "default", &object)
            .await
            .unwrap();
        let mut first = elector(&plane, "first");
        soon(first.acquire()).await;
        assert_eq!(lease(&plane).await["spec"]["leaseTransitions"], 5);
    });
}
