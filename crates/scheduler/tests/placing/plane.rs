//! The plane the tests run on: an API server with a scheduler, both in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::Api;
use client::{Client, DeleteOptions, ListOptions, PatchType};
use meta::Value;
use rest::http::Service;
use scheduler::{SchedulerConfig, SchedulerProgress, Shards};
use schema::Resource;
use store::{Store, StoreConfig};
use tokio::sync::watch;
use value::json;

/// A test that waits longer than this hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const NAMESPACE: &str = "default";

pub fn core(resource: &str) -> &'static Resource {
    schema::resource("", "v1", resource).unwrap()
}

/// An API server with a scheduler, which ends with the test.
pub struct Plane {
    pub client: Client,
    pub progress: Arc<SchedulerProgress>,
    api: Api,
    stop: watch::Sender<bool>,
}

impl Plane {
    pub async fn start() -> Plane {
        Plane::start_through(|api| Arc::new(api)).await
    }

    /// A plane whose scheduler reaches the API through what `wrap` makes of it.
    pub async fn start_through(wrap: impl FnOnce(Api) -> Arc<dyn Service>) -> Plane {
        let plane = Plane::start_with_nobody().await;
        let service = wrap(plane.api.clone());
        plane.add(service, SchedulerConfig::default());
        plane
    }

    /// A plane without a scheduler.
    pub async fn start_with_nobody() -> Plane {
        Plane::start_serving(&[]).await
    }

    /// The same with group-versions that are not served by default.
    pub async fn start_serving(also: &[(&str, &str)]) -> Plane {
        let (stop, stopping) = watch::channel(false);
        let store = Arc::new(Store::new(StoreConfig::default()));
        let api = Api::serving(store, stopping, also);
        api.bootstrap(SocketAddr::from(([127, 0, 0, 1], 6443)))
            .await
            .unwrap();
        let client = Client::new(Arc::new(api.clone()), Some(Api::system_user()), "test/1");
        Plane {
            client,
            progress: Arc::default(),
            api,
            stop,
        }
    }

    /// Starts a scheduler.
    pub fn add_scheduler(&self, configure: impl FnOnce(&mut SchedulerConfig)) {
        let mut config = SchedulerConfig::default();
        configure(&mut config);
        self.add(Arc::new(self.api.clone()), config);
    }

    /// Starts the controllers.
    pub fn add_controllers(&self) {
        tokio::spawn(controllers::run(
            self.client.clone(),
            controllers::ControllersConfig::default(),
            Arc::default(),
            self.stop.subscribe(),
        ));
    }

    fn add(&self, service: Arc<dyn Service>, mut config: SchedulerConfig) {
        // All of this holds with shards, too: let a run say with how many. Where extenders are asked there are none
        // (`SchedulerConfig::check`).
        if let Some(shards) = wanted_shards()
            && config.shards == Shards::One
            && config.extenders.is_empty()
        {
            config.shards = Shards::threads(shards);
        }
        tokio::spawn(scheduler::run(
            Client::new(service, Some(Api::system_user()), "test/2"),
            config,
            self.progress.clone(),
            self.stop.subscribe(),
        ));
    }

    pub async fn node(&self, name: &str, cpu: &str, pods: u32, more: Value) {
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
            "status": {"capacity": {"cpu": cpu, "memory": "8Gi", "pods": pods.to_string()},
                       "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": pods.to_string()},
                       "conditions": [{"type": "Ready", "status": "True"}]}});
        schema::merge_patch(&mut node, &more);
        self.client.create(core("nodes"), "", &node).await.unwrap();
        // New nodes are tainted until they are said to be ready.
        let taints = node["spec"]["taints"].clone();
        let ready = json!({"spec": {"taints": taints}});
        self.client
            .patch(core("nodes"), "", name, "", PatchType::Merge, &ready)
            .await
            .unwrap();
    }

    pub async fn pod(&self, name: &str, cpu: &str, more: Value) -> Value {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
            {"name": "main", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "16Mi"}}}]}});
        schema::merge_patch(&mut pod, &more);
        self.client
            .create(core("pods"), NAMESPACE, &pod)
            .await
            .unwrap()
    }

    pub async fn get(&self, name: &str) -> Value {
        self.client
            .get(core("pods"), NAMESPACE, name)
            .await
            .unwrap()
    }

    pub async fn pods(&self) -> Vec<Value> {
        self.client
            .list(core("pods"), NAMESPACE, &ListOptions::default())
            .await
            .unwrap()
            .items
    }

    /// Waits until a pod has its node, and gives its name.
    pub async fn placed(&self, name: &str) -> String {
        let pod = self.until(name, |pod| !node_of(pod).is_empty()).await;
        node_of(&pod).to_owned()
    }

    /// Waits until a pod says why it has no node, and gives the words.
    pub async fn refused(&self, name: &str) -> String {
        let pod = self
            .until(name, |pod| {
                condition(pod).is_some_and(|found| found["status"] == "False")
            })
            .await;
        let found = condition(&pod).unwrap();
        assert_eq!(found["reason"], "Unschedulable");
        assert_eq!(node_of(&pod), "");
        found["message"].as_str().unwrap().to_owned()
    }

    pub async fn until(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let pod = self.get(name).await;
                if is_so(&pod) {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(pod) => pod,
            Err(_) => panic!(
                "never came true: {:?} {}",
                self.progress,
                self.get(name).await
            ),
        }
    }

    pub async fn delete(&self, name: &str) {
        let now = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        self.client
            .delete(core("pods"), NAMESPACE, name, &now)
            .await
            .unwrap();
    }
}

/// Shards that a run asks for (`MEGAPLANE_TEST_SHARDS=3`).
fn wanted_shards() -> Option<usize> {
    std::env::var("MEGAPLANE_TEST_SHARDS").ok()?.parse().ok()
}

pub fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

pub fn condition(pod: &Value) -> Option<&Value> {
    pod["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == "PodScheduled")
}

pub fn run<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(body());
}
