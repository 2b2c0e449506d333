//! `P4-preemption`: every node is full of pods of low priority, and pods of high priority come.
//!
//! Upstream's criteria are checked by a scan of all nodes that shares nothing with the core but the numbers that both were
//! given: which node costs least, and what it would cost.

use placement::{
    ClassId, Cluster, Config, NodeId, NodeInfo, PickError, PodInfo, PodKey, Preemption, Profile,
};

use super::core::key;
use super::outcome::{Outcome, percentile_ms};
use super::plan::Size;
use super::shapes;
use crate::audit::Audit;
use crate::measure::resident_bytes;
use crate::progress::Progress;
use crate::report::Report;
use crate::schedule_core::random;

/// Pods of low priority on a node, what each takes, and how many different priorities they have.
const LOW_EACH: usize = 4;
const LOW_MILLI: i64 = 900;
const PRIORITIES: usize = 10;
/// What is left of a full node of four cores.
const FREE_MILLI: i64 = 4_000 - 900 * LOW_EACH as i64;
/// What pods of high priority ask for, in turn: one, two or three others must go.
const WANTED_MILLI: [i64; 3] = [1_000, 2_000, 3_000];
const HIGH_PRIORITY: i64 = 100;
/// Nodes of a small cluster.
const SMALL: usize = 1_000;
const NOW_MICROS: i64 = 1_800_000_000_000_000;

/// What upstream compares: highest priority of those that go, sum of priorities, how many.
type Cost = (i64, i64, usize);

/// A node, as the scan sees it: priorities of the low pods that are still there, and free millicores.
struct Shadow {
    low: [Option<i64>; LOW_EACH],
    free_milli: i64,
}

impl Shadow {
    /// Who goes, by place, and the cost; none if that would not do.
    fn sacrifice(&self, wanted: i64) -> Option<(Vec<usize>, Cost)> {
        let mut there: Vec<usize> = (0..LOW_EACH)
            .filter(|place| self.low[*place].is_some())
            .collect();
        let mut free = self.free_milli + LOW_MILLI * there.len() as i64;
        if free < wanted {
            return None;
        }
        // The most important stay, as long as there is room.
        there.sort_by_key(|place| std::cmp::Reverse(self.low[*place]));
        let mut going = Vec::new();
        for place in there {
            if free - LOW_MILLI >= wanted {
                free -= LOW_MILLI;
            } else {
                going.push(place);
            }
        }
        let priorities: Vec<i64> = going.iter().filter_map(|place| self.low[*place]).collect();
        let highest = priorities.iter().max().copied()?;
        let sum = priorities.iter().map(|priority| priority + (1 << 31)).sum();
        Some((going, (highest, sum, priorities.len())))
    }
}

struct Full {
    cluster: Cluster,
    nodes: Vec<NodeId>,
    shadows: Vec<Shadow>,
    high: Vec<ClassId>,
}

fn class(cluster: &mut Cluster, milli: i64, priority: i64) -> Result<ClassId, String> {
    let pod = shapes::pod_of(&format!("{milli}m"), "500Mi");
    let mut pod = shapes::admitted(pod, "default", "any");
    pod["spec"]["priority"] = priority.into();
    let class = cluster.class_of(&PodInfo::from_object(&pod)?.spec);
    cluster.retain_class(class);
    Ok(class)
}

/// Of the nodes that would do, so many are tried, in percent, as upstream's arguments say; in a small cluster all, so that
/// the least of all can be asked for.
fn candidates_percent(nodes: usize) -> usize {
    if nodes <= SMALL {
        100
    } else {
        Profile::default().candidates_percent
    }
}

fn fill(nodes: usize) -> Result<Full, String> {
    let mut cluster = Cluster::new(Config {
        profiles: vec![Profile {
            candidates_percent: candidates_percent(nodes),
            ..Profile::default()
        }],
        ..Config::default()
    });
    let mut handles = Vec::with_capacity(nodes);
    let mut progress = Progress::new("taking in nodes", nodes);
    for index in 0..nodes {
        let node = NodeInfo::from_object(&shapes::node(index))?;
        cluster.upsert_node(&node);
        handles.extend(cluster.node(&node.name));
        progress.add(1);
    }
    let low = (0..PRIORITIES)
        .map(|priority| class(&mut cluster, LOW_MILLI, priority as i64))
        .collect::<Result<Vec<_>, _>>()?;
    let high = WANTED_MILLI
        .iter()
        .map(|milli| class(&mut cluster, *milli, HIGH_PRIORITY))
        .collect::<Result<Vec<_>, _>>()?;
    let mut random = random();
    let mut shadows = Vec::with_capacity(nodes);
    let mut progress = Progress::new("filling nodes", nodes);
    for (index, node) in handles.iter().enumerate() {
        let priorities: [usize; LOW_EACH] =
            std::array::from_fn(|_| (random() >> 33) as usize % PRIORITIES);
        for (place, priority) in priorities.into_iter().enumerate() {
            let pod = key(index * LOW_EACH + place);
            if !cluster.assume(pod, low[priority], *node) {
                return Err("a node is gone".into());
            }
        }
        shadows.push(Shadow {
            low: priorities.map(|priority| Some(priority as i64)),
            free_milli: FREE_MILLI,
        });
        progress.add(1);
    }
    Ok(Full {
        cluster,
        nodes: handles,
        shadows,
        high,
    })
}

/// Runs it once.
pub fn run(size: Size) -> Result<(Outcome, Vec<u32>), String> {
    let mut full = fill(size.nodes)?;
    let numbers: std::collections::HashMap<NodeId, usize> =
        full.nodes.iter().copied().zip(0..).collect();
    let mut random = random();
    let audit = Audit::new(size.nodes, size.pods);
    let mut outcome = Outcome::default();
    let mut micros = Vec::with_capacity(size.pods);
    let mut progress = Progress::new("preempting", size.pods);
    for turn in 0..size.pods {
        let wanted = WANTED_MILLI[turn % WANTED_MILLI.len()];
        let least = audit.wants(turn).then(|| {
            let costs = full.shadows.iter();
            costs
                .filter_map(|shadow| shadow.sacrifice(wanted))
                .map(|(_, cost)| cost)
                .min()
        });
        let pod = key(size.nodes * LOW_EACH + turn);
        let class = full.high[turn % full.high.len()];
        let begun = std::time::Instant::now();
        let found = outcome
            .spent
            .on(|| preempt(&mut full.cluster, pod, class, &mut random))?;
        micros.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        progress.add(1);
        let Some((node, victims)) = found else {
            outcome.unschedulable += 1;
            if let Some(Some(cost)) = least {
                outcome
                    .wrongs
                    .add(|| format!("pod {turn} found no node, and one costs {cost:?}"));
            }
            continue;
        };
        outcome.bound += 1;
        outcome.evicted += victims.len();
        let number = numbers.get(&node).copied().unwrap_or_default();
        let looked = least.map(|least| (least, candidates_percent(size.nodes) == 100));
        let shadow = &mut full.shadows[number];
        note(shadow, number, &victims, wanted, looked, &mut outcome);
    }
    outcome.decision_seconds = outcome.spent.wall.as_secs_f64();
    outcome.resident_bytes = resident_bytes();
    if outcome.bound != size.pods {
        let (bound, pods) = (outcome.bound, size.pods);
        outcome
            .wrongs
            .add(|| format!("{bound} of {pods} pods have a node"));
    }
    micros.sort_unstable();
    Ok((outcome, micros))
}

fn preempt(
    cluster: &mut Cluster,
    pod: PodKey,
    class: ClassId,
    random: &mut dyn FnMut() -> u64,
) -> Result<Option<(NodeId, Vec<PodKey>)>, String> {
    let unknown = |_| "a class was forgotten".to_owned();
    let (node, gone) = match cluster.pick_for(pod, class, None, random) {
        Ok(node) => (node, Vec::new()),
        Err(PickError::UnknownClass) => return Err("a class was forgotten".into()),
        Err(PickError::Unschedulable(_)) => {
            let found = cluster
                .preempt(pod, class, None, NOW_MICROS, random)
                .map_err(unknown)?;
            let Preemption::Found { node, victims, .. } = found else {
                return Ok(None);
            };
            cluster.nominate(pod, class, node);
            for victim in &victims {
                cluster.remove_pod(*victim);
            }
            let again = cluster.pick_for(pod, class, None, random);
            let again =
                again.map_err(|_| "a pod did not fit after others had been evicted for it")?;
            (again, victims)
        }
    };
    Ok(cluster.assume(pod, class, node).then_some((node, gone)))
}

/// Compares what was done to a node with what the scan says, and does it to its shadow.
fn note(
    shadow: &mut Shadow,
    number: usize,
    victims: &[PodKey],
    wanted: i64,
    looked: Option<(Option<Cost>, bool)>,
    outcome: &mut Outcome,
) {
    let mut gone: Vec<usize> = (0..LOW_EACH)
        .filter(|place| victims.contains(&key(number * LOW_EACH + place)))
        .collect();
    if gone.len() != victims.len() {
        outcome
            .wrongs
            .add(|| format!("not all victims were on node {number}"));
    }
    if let Some((least, tries_all)) = looked.filter(|_| !victims.is_empty()) {
        outcome.audited += 1;
        let priorities = |places: &[usize]| {
            let mut all: Vec<Option<i64>> = places.iter().map(|p| shadow.low[*p]).collect();
            all.sort_unstable();
            all
        };
        match shadow.sacrifice(wanted) {
            Some((should, cost))
                if (!tries_all || Some(cost) == least)
                    && priorities(&should) == priorities(&gone) => {}
            other => outcome.wrongs.add(|| {
                let cost = other.map(|(_, cost)| cost);
                format!("node {number} costs {cost:?}, and the least is {least:?}")
            }),
        }
    }
    shadow.free_milli -= wanted;
    for place in gone.drain(..) {
        shadow.low[place] = None;
        shadow.free_milli += LOW_MILLI;
    }
    if shadow.free_milli < 0 {
        outcome
            .wrongs
            .add(|| format!("node {number} has more than it has room for"));
    }
}

/// Adds how long single preemptions took.
pub fn with_times(report: Report, size: Size, micros: &[u32]) -> Report {
    let report = report.count("candidates_percent", candidates_percent(size.nodes));
    let parts = [("p50", 500), ("p99", 990), ("max", 1000)];
    parts.into_iter().fold(report, |report, (name, part)| {
        report.number(format!("preemption_{name}_ms"), percentile_ms(micros, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_go_and_no_more_than_must() {
        let shadow = Shadow {
            low: [Some(3), Some(9), Some(0), Some(5)],
            free_milli: FREE_MILLI,
        };
        let costs = |wanted| shadow.sacrifice(wanted);
        assert_eq!(costs(1_000), Some((vec![2], (0, 1 << 31, 1))));
        let (going, cost) = costs(3_000).unwrap();
        assert_eq!(going, [3, 0, 2]);
        assert_eq!(cost, (5, 8 + (3 << 31), 3));
        assert_eq!(costs(5_000), None);
    }
}
