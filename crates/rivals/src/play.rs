//! One story: objects are made, the real scheduler decides on a pod at a time, and the judge holds our core against
//! it.
//!
//! Does not know how decisions are compared, nor how the servers were started.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use value::{Value, json};

use crate::api::Api;
use crate::generate::{self, Dice, MADE_LABEL, NAMESPACES, NODES, REPLICA_SET};
use crate::judge::{Judge, Tally, started};
use crate::listen::{Decision, Log};

/// How long a change of what the scheduler hears of without a word in its log may take to reach it.
const SETTLING: Duration = Duration::from_millis(250);
/// Disagreements that are told of before a story is given up.
const WRONG_MAX: usize = 40;

/// What came of a story.
#[derive(Debug)]
pub struct Story {
    /// Its lines.
    pub lines: Vec<Value>,
    /// What the two did not agree on.
    pub wrong: Vec<String>,
    /// What was compared.
    pub tally: Tally,
}

struct Player<'a> {
    api: &'a Api,
    log: &'a Log,
    judge: Judge,
    dice: Dice,
    replica_set: String,
    /// Bound pods: uid to namespace and name.
    bound: BTreeMap<String, (String, String)>,
    /// Addresses of pods that were evicted, by uid.
    evicted: BTreeMap<String, String>,
    nodes_go: bool,
    /// Nodes that are not there.
    away: BTreeSet<u64>,
    services: [bool; 2],
    budgets: [Option<Value>; 2],
    born: u64,
    second: i64,
    lines: Vec<Value>,
    wrong: Vec<String>,
}

/// Makes the nodes and what else is there from the beginning. The scheduler is started after it.
pub async fn prepare(api: &Api, seed: u64) -> Result<(Vec<Value>, String), String> {
    let mut dice = generate::dice(seed);
    let mut lines = vec![json!({"story":
        {"kubernetes": "1.20.2", "seed": seed, "weights": generate::weights(seed)}})];
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}))
        .await?;
    for id in 0..NODES {
        let node = generate::node(id, !generate::nodes_go(seed), &mut dice);
        api.create("/api/v1/nodes", &node).await?;
        lines.push(json!({"node": node}));
    }
    let selector = json!({"matchLabels": {MADE_LABEL: "yes"}});
    let template = json!({"metadata": {"labels": {MADE_LABEL: "yes"}},
        "spec": {"containers": [{"name": "c", "image": "none"}]}});
    let made = api
        .create(
            "/apis/apps/v1/namespaces/default/replicasets",
            &json!({"metadata": {"name": REPLICA_SET},
                "spec": {"replicas": 0, "selector": selector, "template": template}}),
        )
        .await?;
    lines.push(
        json!({"maker": {"kind": "ReplicaSet", "namespace": "default",
        "name": REPLICA_SET, "selector": selector}}),
    );
    let uid = made["metadata"]["uid"].as_str().unwrap_or_default();
    Ok((lines, uid.to_owned()))
}

/// Plays so many steps.
pub async fn play(
    api: &Api,
    log: &Log,
    (lines, replica_set): (Vec<Value>, String),
    seed: u64,
    steps: u64,
) -> Result<Story, String> {
    let first = lines.first().cloned().unwrap_or_default();
    let mut player = Player {
        api,
        log,
        judge: Judge::new(&first),
        dice: generate::dice(seed ^ 0x5eed),
        replica_set,
        bound: BTreeMap::new(),
        evicted: BTreeMap::new(),
        nodes_go: generate::nodes_go(seed),
        away: BTreeSet::new(),
        services: [false; 2],
        budgets: [None, None],
        born: 0,
        second: 0,
        lines: vec![first],
        wrong: Vec::new(),
    };
    for line in lines.into_iter().skip(1) {
        player.tell(line);
    }
    player.touch_nodes().await?;
    for _ in 0..steps {
        player.step().await?;
        if player.wrong.len() >= WRONG_MAX {
            break;
        }
    }
    Ok(Story {
        lines: player.lines,
        wrong: player.wrong,
        tally: player.judge.tally,
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Player<'_> {
    /// Gives the judge a line, and writes it down.
    fn tell(&mut self, mut line: Value) {
        let at = self.lines.len() + 1;
        for wrong in self.judge.take(&line) {
            eprintln!("line {at}: {wrong}");
            self.wrong.push(format!("line {at}: {wrong}"));
        }
        if let Some(Value::Object(outcome)) = line.get_mut("outcome") {
            outcome.remove("plugins");
        }
        self.lines.push(line);
    }

    /// Changes every node a little. A kube-scheduler of 1.20 keeps with each node how many nodes had its images when
    /// that node last changed; now that is all of them.
    async fn touch_nodes(&mut self) -> Result<(), String> {
        for _ in 0..NODES {
            self.log.wait_for("add event for node ")?;
        }
        for id in 0..NODES {
            let patch = json!({"metadata": {"annotations": {"touched": "yes"}}});
            let path = format!("/api/v1/nodes/node-{id}");
            self.api.patch(&path, &patch).await?;
        }
        tokio::time::sleep(4 * SETTLING).await;
        Ok(())
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.dice.roll(24) {
            0 if self.nodes_go => self.take_node_away().await,
            0 => self.change_node().await,
            1 => {
                for _ in 0..=self.dice.roll(3) {
                    self.delete_pod().await?;
                }
                Ok(())
            }
            2 => self.change_service().await,
            3 => self.change_budget().await,
            _ => self.place_pod().await,
        }
    }

    /// A node goes, or comes back as another; its pods stay on it.
    async fn take_node_away(&mut self) -> Result<(), String> {
        let id = self.dice.roll(NODES);
        let name = format!("node-{id}");
        if self.away.remove(&id) {
            let node = generate::node(id, false, &mut self.dice);
            self.api.create("/api/v1/nodes", &node).await?;
            self.log
                .wait_for(&format!("add event for node \"{name}\""))?;
            tokio::time::sleep(SETTLING).await;
            self.tell(json!({"node": node}));
        } else if self.away.len() < 4 {
            self.api.delete(&format!("/api/v1/nodes/{name}")).await?;
            self.log
                .wait_for(&format!("delete event for node \"{name}\""))?;
            tokio::time::sleep(SETTLING).await;
            self.away.insert(id);
            self.tell(json!({"node_gone": name}));
        }
        Ok(())
    }

    async fn change_node(&mut self) -> Result<(), String> {
        let node = generate::node(self.dice.roll(NODES), true, &mut self.dice);
        let path = format!("/api/v1/nodes/{}", text(&node["metadata"]["name"]));
        let mut object = self.api.get(&path).await?;
        object["metadata"]["labels"] = node["metadata"]["labels"].clone();
        object["spec"] = node["spec"].clone();
        let mut object = self.api.replace(&path, &object).await?;
        object["status"] = node["status"].clone();
        self.api.replace(&format!("{path}/status"), &object).await?;
        tokio::time::sleep(SETTLING).await;
        self.tell(json!({"node": node}));
        Ok(())
    }

    async fn delete_pod(&mut self) -> Result<(), String> {
        let nth = self.dice.roll(self.bound.len().max(1) as u64) as usize;
        let Some(uid) = self.bound.keys().nth(nth).cloned() else {
            return Ok(());
        };
        if let Some((namespace, name)) = self.bound.remove(&uid) {
            self.api.delete(&pod_path(&namespace, &name)).await?;
            self.log.wait_for_end(&namespace, &name)?;
            self.tell(json!({"gone": uid}));
        }
        Ok(())
    }

    async fn change_service(&mut self) -> Result<(), String> {
        let which = self.dice.roll(2) as usize;
        let (namespace, selector) = (
            NAMESPACES[which],
            generate::service_selector(&mut self.dice),
        );
        let all = format!("/api/v1/namespaces/{namespace}/services");
        if self.services[which] {
            self.api.delete(&format!("{all}/service")).await?;
        }
        self.services[which] = !selector.is_null();
        if self.services[which] {
            let service = json!({"metadata": {"name": "service"}, "spec":
                {"clusterIP": "None", "ports": [{"port": 80}], "selector": selector}});
            self.api.create(&all, &service).await?;
        }
        tokio::time::sleep(SETTLING).await;
        self.tell(json!({"maker": {"kind": "Service", "namespace": namespace,
            "name": "service", "selector": selector}}));
        Ok(())
    }

    async fn change_budget(&mut self) -> Result<(), String> {
        let which = self.dice.roll(2) as usize;
        let all = "/apis/policy/v1beta1/namespaces/default/poddisruptionbudgets";
        let name = format!("budget-{which}");
        let mut budget = match self.budgets[which].take() {
            Some(budget) => budget,
            None => {
                let selector = generate::budget_selector(&mut self.dice);
                let budget = json!({"metadata": {"name": name, "namespace": "default"},
                    "spec": {"minAvailable": 1, "selector": selector}});
                self.api.create(all, &budget).await?;
                budget
            }
        };
        budget["status"] = json!({"disruptionsAllowed": self.dice.roll(3), "currentHealthy": 1,
            "desiredHealthy": 1, "expectedPods": 1});
        let patch = json!({"status": budget["status"]});
        let path = format!("{all}/{name}/status");
        self.api.patch(&path, &patch).await?;
        self.budgets[which] = Some(budget.clone());
        tokio::time::sleep(SETTLING).await;
        self.tell(json!({"budget": budget}));
        Ok(())
    }

    async fn place_pod(&mut self) -> Result<(), String> {
        self.born += 1;
        let name = format!("p{}", self.born);
        let mut pod = generate::pod(&name, &self.replica_set, &mut self.dice);
        let namespace = text(&pod["metadata"]["namespace"]);
        let all = format!("/api/v1/namespaces/{namespace}/pods");
        let created = self.api.create(&all, &pod).await?;
        let uid = text(&created["metadata"]["uid"]);
        pod["metadata"]["uid"] = uid.clone().into();
        let mut line = json!({"pod": pod});
        let mut after = Vec::new();
        loop {
            let decision = self.log.decision(&namespace, &name, &after)?;
            let outcome = self.outcome(&decision, (&uid, &namespace, &name)).await?;
            after = outcome["evicts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|uid| self.evicted.get(uid.as_str()?).cloned())
                .collect();
            line["outcome"] = outcome;
            self.tell(line);
            if after.is_empty() {
                return Ok(());
            }
            // It is looked at again once its victims are gone, after a second or two.
            line = json!({"again": uid});
        }
    }

    /// A decision as a story tells it, and what follows from it: a pod with a node begins to run, one without is
    /// deleted unless others were evicted for it.
    async fn outcome(
        &mut self,
        decision: &Decision,
        (uid, namespace, name): (&str, &str, &str),
    ) -> Result<Value, String> {
        let path = pod_path(namespace, name);
        if let Some(node) = &decision.node {
            self.second += 1;
            let running = json!({"status":
                {"phase": "Running", "startTime": started(self.second)}});
            self.api.patch(&format!("{path}/status"), &running).await?;
            let address = (namespace.to_owned(), name.to_owned());
            self.bound.insert(uid.to_owned(), address);
            let mut outcome = json!({"to": node, "at": self.second});
            if !decision.scores.is_empty() {
                outcome["scores"] = decision.scores.clone().into();
                outcome["plugins"] = decision.plugins.clone().into();
            }
            return Ok(outcome);
        }
        let list = self.api.get("/api/v1/pods").await?;
        let there: Vec<&str> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|pod| pod["metadata"]["uid"].as_str())
            .collect();
        let gone = |uid: &&String| !there.contains(&uid.as_str());
        let evicted: Vec<String> = self.bound.keys().filter(gone).cloned().collect();
        if evicted.is_empty() {
            self.api.delete(&path).await?;
            let gone = format!("delete event for unscheduled pod {namespace}/{name}");
            self.log.wait_for(&gone)?;
            return Ok(json!({"nowhere": decision.message}));
        }
        for uid in &evicted {
            if let Some((namespace, name)) = self.bound.remove(uid) {
                self.evicted
                    .insert(uid.clone(), format!("{namespace}/{name}"));
            }
        }
        Ok(json!({"nowhere": decision.message, "evicts": evicted}))
    }
}

fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}
