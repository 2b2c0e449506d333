//! A case end to end: through the API server, with the scheduler watching and binding, all in this process.
//!
//! ```text
//!   this thread ─ POST ─► API server ─► scheduler ─ bindings ─► API server ─ watch ─► the thread that counts
//!   another thread: what goes on meanwhile (pods that fit nowhere, nodes that come and go, pods that are deleted)
//! ```
//!
//! Afterwards all nodes and pods are read back and counted again, and, where nothing went meanwhile, the bindings are
//! made once more in their order in a fresh core, where some are looked at by a scan of all states of nodes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Change, Client, DeleteOptions, ListOptions, Reflector};
use meta::Value;
use placement::PodInfo;
use rest::http::Method;
use scheduler::SchedulerProgress;
use value::json;

use super::core::{Stage, key};
use super::outcome::Outcome;
use super::plan::{Fate, Meanwhile, Plan, Pods};
use super::recount::Recount;
use super::shapes;
use crate::audit::Audit;
use crate::measure::{process_cpu_nanos, resident_bytes, thread_cpu_nanos};
use crate::plane::{Plane, body_of, runtime};
use crate::progress::Progress;
use crate::schedule_plane::start_scheduler;
use crate::workload::{Digits, Template, encoded, resource};

/// When nothing was bound for so long, nothing more will be.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How often bindings are counted while they are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Pods created before the other tasks of this thread get a turn.
const CHUNK: usize = 256;
/// Pods of one page when all are read back.
const PAGE: usize = 5_000;

/// Runs a case once. `rate`: pods a second; none means as fast as can be.
pub fn run(plan: &Plan, rate: Option<usize>) -> Result<Outcome, String> {
    let mut plane = Plane::start()?;
    let runtime = runtime()?;
    let client = plane.client();
    runtime.block_on(surroundings(&client, plan))?;
    let (progress, scheduler_cpu) = start_scheduler(&mut plane)?;
    let all: usize = plan.groups().map(|(_, group)| group.count).sum();
    let waited_for = waited_for(plan, all);
    let (seen, bindings, watch_cpu) = start_watch(&mut plane, waited_for)?;
    wait_until("the scheduler takes in the nodes", plan.nodes, || {
        let synced = progress.synced.load(Relaxed);
        if synced {
            progress.nodes.load(Relaxed)
        } else {
            0
        }
    })?;

    let mut bound = 0;
    for (first, group) in plan.groups().take(plan.before.len()) {
        create(&plane, &runtime, first, group, &mut Pace::none())?;
        match group.fate {
            Fate::Bound | Fate::Deleted { .. } => {
                bound += group.count;
                wait_until("binding pods that are there before", bound, || {
                    seen.count.load(Relaxed)
                })?;
            }
            Fate::Gated => wait_until("queueing pods with gates", group.count, || {
                progress.gated.load(Relaxed)
            })?,
            Fate::Doomed { .. } => {}
        }
    }
    let stopping = start_others(&mut plane, plan, &progress)?;

    let cpu_before = [
        process_cpu_nanos(),
        thread_cpu_nanos(),
        scheduler_cpu.load(Relaxed),
        watch_cpu.load(Relaxed),
        progress.decision_nanos.load(Relaxed),
    ];
    let first = plan.first_measured();
    let mut pace = Pace::at(rate, plan.measured.count);
    let begun = Instant::now();
    create(&plane, &runtime, first, &plan.measured, &mut pace)?;
    let create_cpu = thread_cpu_nanos() - cpu_before[1];
    wait_until("binding", bound + plan.measured.count, || {
        seen.count.load(Relaxed)
    })?;
    let last = seen.last();
    let mut outcome = Outcome::default();
    outcome.spent.add_since(begun, cpu_before[0]);
    outcome.spent.wall = last.saturating_duration_since(begun);
    outcome.resident_bytes = resident_bytes();
    stopping.store(true, Relaxed);

    let seconds = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e9;
    outcome.create_cpu_seconds = seconds(create_cpu, 0);
    outcome.scheduler_cpu_seconds = seconds(scheduler_cpu.load(Relaxed), cpu_before[2]);
    outcome.watch_cpu_seconds = seconds(watch_cpu.load(Relaxed), cpu_before[3]);
    outcome.decision_seconds = seconds(progress.decision_nanos.load(Relaxed), cpu_before[4]);
    outcome.unschedulable = count(&progress.unschedulable);
    outcome.errors = count(&progress.errors);
    outcome.evicted = count(&progress.victims);
    outcome.audited = count(&progress.audited);
    for _ in 0..count(&progress.mismatches) {
        outcome
            .wrongs
            .add(|| "the scheduler itself found a pick that was not among the best".to_owned());
    }
    let recount = runtime.block_on(read_back(&client, plan, &mut outcome))?;
    // Gone before the audit takes its own memory.
    drop(plane);
    outcome.count(plan, recount);
    let order: Vec<Seen> = bindings.try_iter().collect();
    outcome.bound_after_micros = pace.until_seen(first, &order);
    if plan.replays() {
        replay(plan, &order, &mut outcome)?;
    }
    Ok(outcome)
}

fn count(counter: &AtomicU64) -> usize {
    usize::try_from(counter.load(Relaxed)).unwrap_or(usize::MAX)
}

/// Which pods' bindings are waited for, by number.
fn waited_for(plan: &Plan, all: usize) -> Vec<bool> {
    let mut waited = vec![false; all];
    for (first, group) in plan.groups() {
        let is_waited_for = matches!(group.fate, Fate::Bound | Fate::Deleted { .. });
        waited[first..first + group.count].fill(is_waited_for);
    }
    waited
}

fn wait_until(what: &'static str, wanted: usize, done: impl Fn() -> usize) -> Result<(), String> {
    let mut progress = Progress::new(what, wanted);
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let count = done();
        if count >= wanted {
            return Ok(());
        }
        if count > before {
            (before, since) = (count, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            return Err(format!(
                "{what}: {count} of {wanted}, and then none for {} s",
                STALL_MAX.as_secs()
            ));
        }
        progress.set(count);
        std::thread::sleep(LOOK_INTERVAL);
    }
}

// ---- what stands there before

async fn surroundings(client: &Client, plan: &Plan) -> Result<(), String> {
    let refused =
        |error: client::ClientError| format!("an object of the case was refused: {error}");
    let (name, value) = shapes::HIGH_PRIORITY;
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                       "metadata": {"name": name}, "value": value});
    let classes = resource("scheduling.k8s.io", "priorityclasses")?;
    client.create(classes, "", &class).await.map_err(refused)?;
    for (name, is_labelled) in &plan.spaces {
        let (key, value) = shapes::TEAM;
        let labels = if *is_labelled {
            json!({key: value})
        } else {
            json!({})
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": name, "labels": labels}});
        let namespaces = resource("", "namespaces")?;
        client
            .create(namespaces, "", &namespace)
            .await
            .map_err(refused)?;
    }
    for (group, name, namespace, object) in &plan.beside {
        client
            .create(resource(group, name)?, namespace, object)
            .await
            .map_err(refused)?;
    }
    let mut progress = Progress::new("creating nodes", plan.nodes);
    for index in 0..plan.nodes {
        create_node(client, &(plan.node)(index)).await?;
        progress.add(1);
    }
    for (first, group) in plan.groups() {
        let Some(disk) = group.disk else {
            continue;
        };
        let (volumes, claims) = (
            resource("", "persistentvolumes")?,
            resource("", "persistentvolumeclaims")?,
        );
        let mut progress = Progress::new("creating volumes and claims", group.count);
        for place in 0..group.count {
            let space = group.space(place);
            let (volume, claim) =
                shapes::volume_and_claim(disk, &Digits::name(first + place), space);
            client.create(volumes, "", &volume).await.map_err(refused)?;
            client
                .create(claims, space, &claim)
                .await
                .map_err(refused)?;
            progress.add(1);
        }
    }
    Ok(())
}

/// Creates a node with no taint but its own: new ones wait, tainted, for a controller to find them ready; here is none.
async fn create_node(client: &Client, node: &Value) -> Result<(), String> {
    let nodes = resource("", "nodes")?;
    let created = client.create(nodes, "", node).await;
    let mut created = created.map_err(|error| format!("a node was refused: {error}"))?;
    if created["spec"]["taints"] == node["spec"]["taints"] {
        return Ok(());
    }
    if let Some(spec) = created["spec"].as_object_mut() {
        match &node["spec"]["taints"] {
            Value::Null => spec.remove("taints"),
            own => spec.insert("taints", own.clone()),
        };
    }
    let updated = client
        .update(nodes, "", meta::object::name(node), "", &created)
        .await;
    updated
        .map(drop)
        .map_err(|error| format!("a node's taint could not be taken away: {error}"))
}

// ---- pods

/// When pods are created, and when they were.
struct Pace {
    every: Option<Duration>,
    begun: Instant,
    created: Vec<Instant>,
    is_kept: bool,
}

impl Pace {
    fn none() -> Pace {
        Pace {
            every: None,
            begun: Instant::now(),
            created: Vec::new(),
            is_kept: false,
        }
    }

    fn at(rate: Option<usize>, pods: usize) -> Pace {
        Pace {
            every: rate
                .map(|rate| Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(1)),
            begun: Instant::now(),
            created: Vec::with_capacity(pods),
            is_kept: true,
        }
    }

    async fn wait(&self, place: usize) {
        let Some(every) = self.every else {
            return;
        };
        let due = self.begun + every * u32::try_from(place).unwrap_or(u32::MAX);
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }

    fn note(&mut self) {
        if self.is_kept {
            self.created.push(Instant::now());
        }
    }

    /// Time from each answer until the binding was seen, sorted.
    fn until_seen(&self, first: usize, order: &[Seen]) -> Vec<u32> {
        let mut micros: Vec<u32> = order
            .iter()
            .filter_map(|seen| {
                let created = self.created.get(seen.pod.checked_sub(first)?)?;
                let took = seen.at.saturating_duration_since(*created).as_micros();
                Some(u32::try_from(took).unwrap_or(u32::MAX))
            })
            .collect();
        micros.sort_unstable();
        micros
    }
}

/// Bodies of the pods of a group.
enum Bodies {
    /// By kind.
    Alike(Vec<Template>),
    Each(Vec<Bytes>),
}

fn bodies(first: usize, group: &Pods) -> Result<Bodies, String> {
    if let Some(kinds) = group.kinds {
        let templates = (0..kinds.max(1)).map(|kind| Template::of(&(group.pod)(kind)));
        return templates.collect::<Result<_, _>>().map(Bodies::Alike);
    }
    let pods = resource("", "pods")?;
    let body = |place: usize| {
        let mut pod = (group.pod)(place);
        shapes::rename(&mut pod, &Digits::name(first + place));
        encoded(pods, &pod)
    };
    (0..group.count)
        .map(body)
        .collect::<Result<_, _>>()
        .map(Bodies::Each)
}

fn create(
    plane: &Plane,
    runtime: &tokio::runtime::Runtime,
    first: usize,
    group: &Pods,
    pace: &mut Pace,
) -> Result<(), String> {
    let bodies = bodies(first, group)?;
    let paths: Vec<String> = group
        .spaces
        .iter()
        .map(|space| format!("/api/v1/namespaces/{space}/pods"))
        .collect();
    let mut progress = Progress::new("creating pods", group.count);
    pace.begun = Instant::now();
    runtime.block_on(async {
        for place in 0..group.count {
            pace.wait(place).await;
            let body = match &bodies {
                Bodies::Alike(templates) => {
                    templates[place % templates.len()].named(&Digits::name(first + place))
                }
                Bodies::Each(bodies) => bodies.get(place).cloned().unwrap_or_default(),
            };
            let path = paths[place % paths.len()].clone();
            body_of(plane.call(plane.request(Method::Post, path, body)).await).await?;
            pace.note();
            if place % CHUNK == 0 {
                progress.set(place);
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    })
}

// ---- the watch

/// A binding.
#[derive(Clone, Copy)]
struct Seen {
    pod: usize,
    node: usize,
    at: Instant,
}

/// How many of those that are waited for were seen bound.
struct Bound {
    count: AtomicUsize,
    last: Mutex<Instant>,
}

impl Bound {
    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Watching = (Arc<Bound>, std::sync::mpsc::Receiver<Seen>, Arc<AtomicU64>);

fn start_watch(plane: &mut Plane, waited_for: Vec<bool>) -> Result<Watching, String> {
    let bound = Arc::new(Bound {
        count: AtomicUsize::new(0),
        last: Mutex::new(Instant::now()),
    });
    // As many as there are pods.
    let (sender, receiver) = std::sync::mpsc::sync_channel(waited_for.len().max(1));
    let (client, shared, mut stop) = (plane.client(), bound.clone(), plane.stop_signal());
    let pods = resource("", "pods")?;
    let cpu = plane.spawn("watch", move || async move {
        let reflector = Reflector::new(client, pods).with_field_selector("spec.nodeName!=");
        let mut changes = reflector.spawn(|pod| binding_of(&pod));
        let mut seen = vec![false; waited_for.len()];
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Some(change) = change else { return };
            let Change::Apply(_, Some((pod, node))) = change else {
                continue;
            };
            match seen.get_mut(pod) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            let at = Instant::now();
            let _ = sender.try_send(Seen { pod, node, at });
            if waited_for.get(pod) == Some(&true) {
                *shared.last.lock().unwrap_or_else(PoisonError::into_inner) = at;
                shared.count.fetch_add(1, Relaxed);
            }
        }
    })?;
    Ok((bound, receiver, cpu))
}

fn binding_of(pod: &Value) -> Option<(usize, usize)> {
    let index = Digits::index(meta::object::name(pod))?;
    let node = pod["spec"]["nodeName"].as_str()?;
    Some((index, node.strip_prefix("node-")?.parse().ok()?))
}

// ---- what goes on meanwhile

fn start_others(
    plane: &mut Plane,
    plan: &Plan,
    progress: &Arc<SchedulerProgress>,
) -> Result<Arc<AtomicBool>, String> {
    let stopping = Arc::new(AtomicBool::new(false));
    for (first, group) in plan.groups() {
        let (Fate::Deleted { per_second } | Fate::Doomed { per_second }) = group.fate else {
            continue;
        };
        let names: Vec<(String, String)> = (0..group.count)
            .map(|place| (group.space(place).to_owned(), Digits::name(first + place)))
            .collect();
        let (client, stopping) = (plane.client(), stopping.clone());
        let every = Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(1);
        plane.spawn("deletions", move || async move {
            let Ok(pods) = resource("", "pods") else {
                return;
            };
            let mut ticks = tokio::time::interval(every);
            for (space, name) in names {
                ticks.tick().await;
                if stopping.load(Relaxed) {
                    return;
                }
                let options = DeleteOptions::default();
                if let Err(error) = client.delete(pods, &space, &name, &options).await {
                    eprintln!("a pod of the case was not deleted: {error}");
                }
            }
        })?;
    }
    let Some(meanwhile) = plan.meanwhile else {
        return Ok(stopping);
    };
    let (client, stop) = (plane.client(), stopping.clone());
    let node = (plan.node)(plan.nodes);
    let happened = Arc::new(AtomicUsize::new(0));
    let told = happened.clone();
    plane.spawn("meanwhile", move || async move {
        let mut ticks = tokio::time::interval(meanwhile.every());
        for turn in 0usize.. {
            ticks.tick().await;
            if stop.load(Relaxed) {
                return;
            }
            if let Err(error) = happen(&client, meanwhile, turn, &node).await {
                eprintln!("what goes on meanwhile went wrong: {error}");
            }
            told.fetch_add(1, Relaxed);
        }
    })?;
    // A short run has seen it, too.
    wait_until("the first thing that happens meanwhile", 1, || {
        happened.load(Relaxed)
    })?;
    wait_until("the scheduler hears of it", 1, || {
        count(&progress.unschedulable)
    })?;
    Ok(stopping)
}

async fn happen(
    client: &Client,
    meanwhile: Meanwhile,
    turn: usize,
    node: &Value,
) -> Result<(), String> {
    let told = |error: client::ClientError| error.to_string();
    let pods = resource("", "pods")?;
    let pod = |cpu: &str, name: &str| {
        let mut pod = shapes::high_priority(cpu);
        pod["metadata"]["name"] = name.into();
        pod
    };
    match meanwhile {
        Meanwhile::Pod { cpu, .. } => {
            let pod = pod(cpu, &format!("meanwhile-{turn}"));
            client
                .create(pods, "default", &pod)
                .await
                .map(drop)
                .map_err(told)
        }
        Meanwhile::Mixed { .. } if turn.is_multiple_of(2) => {
            create_node(client, node).await?;
            let pod = pod(super::cases::TOO_MUCH_CPU, "meanwhile");
            client.create(pods, "default", &pod).await.map_err(told)?;
            let service = shapes::service("meanwhile", "app", "other");
            let services = resource("", "services")?;
            client
                .create(services, "default", &service)
                .await
                .map(drop)
                .map_err(told)
        }
        Meanwhile::Mixed { .. } => {
            let options = DeleteOptions::default();
            let name = meta::object::name(node);
            let nodes = resource("", "nodes")?;
            client
                .delete(nodes, "", name, &options)
                .await
                .map_err(told)?;
            client
                .delete(pods, "default", "meanwhile", &options)
                .await
                .map_err(told)?;
            let services = resource("", "services")?;
            client
                .delete(services, "default", "meanwhile", &options)
                .await
                .map_err(told)
        }
    }
}

// ---- afterwards

/// Everything that is on nodes, as the API shows it.
async fn read_back(client: &Client, plan: &Plan, outcome: &mut Outcome) -> Result<Recount, String> {
    let mut recount = Recount::default();
    for node in all(client, "nodes").await? {
        recount.node(&node);
    }
    super::outcome::beside(plan, &mut recount);
    let mut ours = 0..0;
    ours.start = plan.first_measured();
    ours.end = ours.start + plan.measured.count;
    // Nobody takes pods away from a node that is gone, as a controller would.
    let passing = fleet::node_name(plan.nodes);
    for pod in all(client, "pods").await? {
        let Some(node) = pod["spec"]["nodeName"]
            .as_str()
            .filter(|node| !node.is_empty())
        else {
            continue;
        };
        let number = Digits::index(meta::object::name(&pod));
        outcome.bound += usize::from(number.is_some_and(|number| ours.contains(&number)));
        if node != passing {
            let sort = recount.sort(&pod);
            recount.put(sort, node);
        }
    }
    Ok(recount)
}

async fn all(client: &Client, name: &str) -> Result<Vec<Value>, String> {
    let mut items = Vec::new();
    let mut options = ListOptions {
        limit: PAGE,
        ..ListOptions::default()
    };
    loop {
        let page = client.list(resource("", name)?, "", &options).await;
        let page = page.map_err(|error| format!("{name} could not be listed: {error}"))?;
        items.extend(page.items);
        if page.continue_token.is_empty() {
            return Ok(items);
        }
        options.continue_token = page.continue_token;
    }
}

/// Makes the bindings again, one after the other, and looks at some by a scan of all states.
fn replay(plan: &Plan, order: &[Seen], outcome: &mut Outcome) -> Result<(), String> {
    let mut stage = Stage::set(plan)?;
    for (first, group) in plan.groups() {
        stage.note_volumes(first, group);
    }
    let audit = Audit::new(plan.nodes, order.len());
    let mut classes = std::collections::HashMap::new();
    let mut progress = Progress::new("auditing", order.len());
    for (pick, seen) in order.iter().enumerate() {
        let Some((first, group)) = plan
            .groups()
            .find(|(first, group)| (*first..first + group.count).contains(&seen.pod))
        else {
            continue;
        };
        let place = seen.pod - first;
        let slot = group.slot(place).map(|slot| (first, slot));
        let known = slot.and_then(|slot| classes.get(&slot).copied());
        let (class, is_free) = match known {
            Some(known) => known,
            None => {
                let name = Digits::name(seen.pod);
                let pod = shapes::admitted((group.pod)(place), group.space(place), &name);
                let mut info = PodInfo::from_object(&pod)?;
                info.spec.volumes = stage.cluster.volumes_of(&info);
                let class = stage.cluster.class_of(&info.spec);
                if let Some(slot) = slot {
                    stage.cluster.retain_class(class);
                    classes.insert(slot, (class, info.pin.is_none()));
                }
                (class, info.pin.is_none())
            }
        };
        let Some(node) = stage.handles.get(seen.node).copied() else {
            return Err(format!(
                "a pod is on node {}, which there is not",
                seen.node
            ));
        };
        if is_free
            && audit.wants(pick)
            && let Some(best) = stage.cluster.audit(class, node)
        {
            outcome.audited += 1;
            progress.set(pick);
            if !best {
                outcome
                    .wrongs
                    .add(|| format!("binding {pick} is not to one of the best nodes"));
            }
        }
        stage.cluster.assume(key(seen.pod), class, node);
    }
    Ok(())
}
