//! A case in the core alone: classes, picks, assumptions; and evictions, where there is no room.
//!
//! What the API, the queue and bindings add is left out; so gates, and pods that are deleted before they are placed, are
//! without effect here. Whatever a pod costs the core is measured: also finding its class, where pods differ.

use std::collections::HashSet;

use placement::{
    ClassId, Cluster, Config, MakerKind, NodeId, NodeInfo, PickError, PodInfo, PodKey, Preemption,
    Thing, ThingKind,
};

use super::outcome::Outcome;
use super::plan::{Fate, Meanwhile, Plan, Pods};
use super::recount::Recount;
use super::shapes;
use crate::audit::Audit;
use crate::measure::{Spent, resident_bytes};
use crate::progress::Progress;
use crate::schedule_core::random;
use crate::workload::Digits;

/// Pods between two events of what goes on meanwhile: upstream has five a second, and places some 600.
const PODS_AN_EVENT: usize = 100;
/// Pods between two looks at the progress.
const CHUNK: usize = 512;
/// What counts as now for pods that have not started.
const NOW_MICROS: i64 = 1_800_000_000_000_000;

/// A cluster with the nodes of a case, and what stands beside them.
pub struct Stage {
    pub cluster: Cluster,
    pub handles: Vec<NodeId>,
    random: Box<dyn FnMut() -> u64>,
}

/// A pod as the core is given it.
pub struct Ready {
    class: ClassId,
    pin: Option<Box<str>>,
}

impl Stage {
    /// Takes in everything but pods.
    pub fn set(plan: &Plan) -> Result<Stage, String> {
        let mut cluster = Cluster::new(Config::default());
        for (name, is_labelled) in &plan.spaces {
            let (key, value) = shapes::TEAM;
            let labels = is_labelled.then(|| (key.into(), value.into()));
            cluster.upsert_namespace(name, labels.into_iter().collect());
        }
        cluster.upsert_namespace("default", Vec::new());
        let mut handles = Vec::with_capacity(plan.nodes);
        let mut progress = Progress::new("taking in nodes", plan.nodes);
        for index in 0..plan.nodes {
            let node = NodeInfo::from_object(&(plan.node)(index))?;
            cluster.upsert_node(&node);
            handles.extend(cluster.node(&node.name));
            progress.add(1);
        }
        for (_, resource, namespace, object) in &plan.beside {
            let name = meta::object::name(object);
            match *resource {
                "services" => {
                    let selector = &object["spec"]["selector"];
                    cluster.note_maker(MakerKind::Service, namespace, name, selector);
                }
                "csinodes" => {
                    cluster.note_thing(name, Thing::read(ThingKind::CsiNodes, object));
                }
                other => return Err(format!("the core is not told of {other}")),
            }
        }
        Ok(Stage {
            cluster,
            handles,
            random: Box::new(random()),
        })
    }

    /// Takes in the volumes of some pods, if they have any.
    pub fn note_volumes(&mut self, first: usize, group: &Pods) {
        let Some(disk) = group.disk else {
            return;
        };
        for place in 0..group.count {
            let (name, space) = (Digits::name(first + place), group.space(place));
            let (volume, claim) = shapes::volume_and_claim(disk, &name, space);
            let volume_name = meta::object::name(&volume).to_owned();
            self.cluster
                .note_thing(&volume_name, Thing::read(ThingKind::Volumes, &volume));
            let key = format!("{space}/{name}");
            self.cluster
                .note_thing(&key, Thing::read(ThingKind::Claims, &claim));
        }
    }

    fn ready(&mut self, mut info: PodInfo) -> Ready {
        info.spec.volumes = self.cluster.volumes_of(&info);
        Ready {
            class: self.cluster.class_of(&info.spec),
            pin: info.pin,
        }
    }

    /// Puts a pod where it should go; others are evicted for it if that helps. None if it fits nowhere.
    fn place(
        &mut self,
        key: PodKey,
        pod: &Ready,
        evicted: &mut Vec<PodKey>,
    ) -> Result<Option<NodeId>, String> {
        let pin = pod.pin.as_deref();
        let unknown = || "a class was forgotten".to_owned();
        let node = match self.cluster.pick_for(key, pod.class, pin, &mut self.random) {
            Ok(node) => node,
            Err(PickError::UnknownClass) => return Err(unknown()),
            Err(PickError::Unschedulable(_)) => {
                let found = self
                    .cluster
                    .preempt(key, pod.class, pin, NOW_MICROS, &mut self.random);
                let Preemption::Found { node, victims, .. } = found.map_err(|_| unknown())? else {
                    return Ok(None);
                };
                self.cluster.nominate(key, pod.class, node);
                for victim in victims {
                    self.cluster.remove_pod(victim);
                    evicted.push(victim);
                }
                let again = self.cluster.pick_for(key, pod.class, pin, &mut self.random);
                again.map_err(|_| "a pod did not fit after others had been evicted for it")?
            }
        };
        let taken = self.cluster.take_volumes(key, pod.class, node).is_some();
        let placed = taken && self.cluster.assume(key, pod.class, node);
        Ok(placed.then_some(node))
    }
}

/// The key of the pod of that number.
pub fn key(number: usize) -> PodKey {
    // The two halves of a real uid both vary.
    PodKey::of_uuid((number as u128) << 64 | number as u128)
}

/// Pods of a group, made ready as they come; those that are alike only once.
struct Coming<'a> {
    first: usize,
    group: &'a Pods,
    known: Vec<Option<Ready>>,
}

impl<'a> Coming<'a> {
    fn new(first: usize, group: &'a Pods) -> Coming<'a> {
        Coming {
            first,
            group,
            known: (0..group.slots()).map(|_| None).collect(),
        }
    }

    fn info(&self, place: usize) -> Result<PodInfo, String> {
        let pod = (self.group.pod)(place);
        let name = Digits::name(self.first + place);
        let pod = shapes::admitted(pod, self.group.space(place), &name);
        PodInfo::from_object(&pod)
    }

    /// Everything that can be read before the clock runs.
    fn read(&self, places: std::ops::Range<usize>) -> Result<Vec<PodInfo>, String> {
        if self.group.kinds.is_some() {
            return Ok(Vec::new());
        }
        places.map(|place| self.info(place)).collect()
    }

    fn ready<'b>(
        &'b mut self,
        place: usize,
        read: Option<&PodInfo>,
        own: &'b mut Option<Ready>,
        stage: &mut Stage,
    ) -> Result<&'b Ready, String> {
        if let Some(info) = read {
            return Ok(own.insert(stage.ready(info.clone())));
        }
        let slot = self.group.slot(place).unwrap_or(0);
        if self.known[slot].is_none() {
            let ready = stage.ready(self.info(place)?);
            stage.cluster.retain_class(ready.class);
            self.known[slot] = Some(ready);
        }
        self.known[slot]
            .as_ref()
            .ok_or_else(|| "a pod has no namespace".to_owned())
    }
}

/// Runs a case once.
pub fn run(plan: &Plan) -> Result<Outcome, String> {
    let mut stage = Stage::set(plan)?;
    let all: usize = plan.groups().map(|(_, group)| group.count).sum();
    // Where each pod is, told by its number.
    let mut places: Vec<Option<NodeId>> = vec![None; all];
    let mut outcome = Outcome::default();
    let mut evicted = Vec::new();
    for (first, group) in plan.groups() {
        stage.note_volumes(first, group);
        let is_measured = first == plan.first_measured() && std::ptr::eq(group, &plan.measured);
        if !is_measured {
            if matches!(group.fate, Fate::Bound | Fate::Deleted { .. }) {
                before(&mut stage, first, group, &mut places, &mut evicted)?;
            }
            continue;
        }
        measured(
            &mut stage,
            plan,
            first,
            &mut places,
            &mut evicted,
            &mut outcome,
        )?;
    }
    outcome.resident_bytes = resident_bytes();
    outcome.evicted = evicted.len();
    // Keys cannot be read back.
    let gone: HashSet<PodKey> = evicted.into_iter().collect();
    for (number, place) in places.iter_mut().enumerate() {
        if !gone.is_empty() && gone.contains(&key(number)) {
            *place = None;
        }
    }
    outcome.bound = places[plan.first_measured()..].iter().flatten().count();
    recount(plan, &stage, &places, &mut outcome);
    Ok(outcome)
}

fn before(
    stage: &mut Stage,
    first: usize,
    group: &Pods,
    places: &mut [Option<NodeId>],
    evicted: &mut Vec<PodKey>,
) -> Result<(), String> {
    let mut coming = Coming::new(first, group);
    let mut progress = Progress::new("placing pods that are there before", group.count);
    for place in 0..group.count {
        let read = coming.read(place..place + 1)?;
        let mut own = None;
        let ready = coming.ready(place, read.first(), &mut own, stage)?;
        places[first + place] = stage.place(key(first + place), ready, evicted)?;
        progress.add(1);
    }
    Ok(())
}

/// Makes the classes of pods that are alike before the clock runs.
fn get_ready(coming: &mut Coming<'_>, stage: &mut Stage) -> Result<(), String> {
    let Some(kinds) = coming.group.kinds else {
        return Ok(());
    };
    for place in 0..(kinds * coming.group.spaces.len()).min(coming.group.count) {
        coming.ready(place, None, &mut None, stage)?;
    }
    Ok(())
}

fn measured(
    stage: &mut Stage,
    plan: &Plan,
    first: usize,
    places: &mut [Option<NodeId>],
    evicted: &mut Vec<PodKey>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let group = &plan.measured;
    let mut coming = Coming::new(first, group);
    let audit = Audit::new(plan.nodes, group.count);
    let mut others = Others::new(plan, stage)?;
    get_ready(&mut coming, stage)?;
    let mut progress = Progress::new("picking", group.count);
    let mut spent = Spent::default();
    let mut next = 0;
    while next < group.count {
        let mut end = (next + CHUNK).min(group.count);
        // Who others were evicted for goes where that was, and who names a node goes there.
        let auditable = plan.victims_each == 0;
        let audited = (next..end).find(|pick| auditable && audit.wants(*pick));
        // An audited pick ends its stretch, so that the audit itself is not timed.
        end = audited.map_or(end, |pick| pick + 1);
        let infos = coming.read(next..end)?;
        let chosen = spent.on(|| {
            let mut chosen = None;
            for place in next..end {
                if place % PODS_AN_EVENT == 0 {
                    others.happen(stage, plan, place / PODS_AN_EVENT, evicted)?;
                }
                let mut own = None;
                let read = infos.get(place - next);
                let ready = coming.ready(place, read, &mut own, stage)?;
                let picked = stage.place(key(first + place), ready, evicted)?;
                places[first + place] = picked;
                let free = picked.filter(|_| ready.pin.is_none());
                chosen = free.map(|node| (ready.class, node));
            }
            Ok::<_, String>(chosen)
        })?;
        if let (Some(pick), Some((class, node))) = (audited, chosen) {
            // As it was before the pod was there.
            let pod = key(first + pick);
            stage.cluster.forget(pod);
            if let Some(best) = stage.cluster.audit(class, node) {
                outcome.audited += 1;
                if !best {
                    outcome
                        .wrongs
                        .add(|| format!("pick {pick} is not among the best"));
                }
            }
            stage.cluster.assume(pod, class, node);
        }
        progress.add(end - next);
        next = end;
    }
    outcome.spent = spent;
    outcome.decision_seconds = spent.wall.as_secs_f64();
    Ok(())
}

/// What happens between picks.
struct Others {
    pod: Option<Ready>,
    /// Pods of groups that are deleted, by number.
    leaving: std::ops::Range<usize>,
    is_there: bool,
}

impl Others {
    fn new(plan: &Plan, stage: &mut Stage) -> Result<Others, String> {
        let cpu = match plan.meanwhile {
            Some(Meanwhile::Pod { cpu, .. }) => Some(cpu),
            Some(Meanwhile::Mixed { .. }) => Some(super::cases::TOO_MUCH_CPU),
            None => None,
        };
        let mut pod = None;
        if let Some(cpu) = cpu {
            let object = shapes::admitted(shapes::high_priority(cpu), "default", "other");
            let ready = stage.ready(PodInfo::from_object(&object)?);
            stage.cluster.retain_class(ready.class);
            pod = Some(ready);
        }
        let leaving = plan
            .groups()
            .find(|(_, group)| matches!(group.fate, Fate::Deleted { .. }));
        Ok(Others {
            pod,
            leaving: leaving.map_or(0..0, |(first, group)| first..first + group.count),
            is_there: false,
        })
    }

    fn happen(
        &mut self,
        stage: &mut Stage,
        plan: &Plan,
        turn: usize,
        evicted: &mut Vec<PodKey>,
    ) -> Result<(), String> {
        if let Some(gone) = self.leaving.next() {
            stage.cluster.remove_pod(key(gone));
        }
        if let Some(pod) = &self.pod {
            // Numbers that no other pod has.
            stage.place(key(usize::MAX - turn), pod, evicted)?;
        }
        if matches!(plan.meanwhile, Some(Meanwhile::Mixed { .. })) {
            self.is_there = !self.is_there;
            let node = (plan.node)(plan.nodes);
            let selector = &value::json!({"app": "other"});
            if self.is_there {
                stage.cluster.upsert_node(&NodeInfo::from_object(&node)?);
                stage
                    .cluster
                    .note_maker(MakerKind::Service, "default", "other", selector);
            } else {
                stage.cluster.remove_node(meta::object::name(&node));
                let gone = &meta::Value::Null;
                stage
                    .cluster
                    .note_maker(MakerKind::Service, "default", "other", gone);
            }
        }
        Ok(())
    }
}

fn recount(plan: &Plan, stage: &Stage, places: &[Option<NodeId>], outcome: &mut Outcome) {
    let mut recount = Recount::default();
    for index in 0..plan.nodes {
        recount.node(&(plan.node)(index));
    }
    if matches!(plan.meanwhile, Some(Meanwhile::Mixed { .. })) {
        recount.node(&(plan.node)(plan.nodes));
    }
    super::outcome::beside(plan, &mut recount);
    for (first, group) in plan.groups() {
        let mut sorts: Vec<Option<usize>> = vec![None; group.slots()];
        for place in 0..group.count {
            let node = places.get(first + place).copied().flatten();
            let Some(name) = node.and_then(|node| stage.cluster.node_name(node)) else {
                continue;
            };
            let slot = group.slot(place);
            let known = slot.and_then(|slot| sorts[slot]);
            let sort = known.unwrap_or_else(|| {
                let name = Digits::name(first + place);
                let pod = shapes::admitted((group.pod)(place), group.space(place), &name);
                recount.sort(&pod)
            });
            if let Some(slot) = slot {
                sorts[slot] = Some(sort);
            }
            recount.put(sort, name);
        }
    }
    outcome.count(plan, recount);
}
