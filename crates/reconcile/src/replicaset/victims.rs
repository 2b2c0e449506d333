//! Which pods go first when there are too many.
//!
//! Knows pods only; the order is upstream's, most expendable first.

use crate::pod::{Phase, Pod};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// Sorts pods, most expendable first. `siblings` count as company on a node: of two equal pods, the
/// one with more company goes.
pub fn rank_victims(pods: &mut [Arc<Pod>], siblings: &[Arc<Pod>], now_micros: i64) {
    let mut company: HashMap<Box<str>, usize> = HashMap::new();
    for pod in pods
        .iter()
        .chain(siblings)
        .filter(|pod| pod.is_active() && !pod.node_name.is_empty())
    {
        *company.entry(pod.node_name.clone()).or_default() += 1;
    }
    let company = |pod: &Pod| company.get(&pod.node_name).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        let unassigned_first = (!a.node_name.is_empty()).cmp(&!b.node_name.is_empty());
        unassigned_first
            .then_with(|| phase_rank(a.phase).cmp(&phase_rank(b.phase)))
            .then_with(|| a.is_ready().cmp(&b.is_ready()))
            .then_with(|| a.deletion_cost.cmp(&b.deletion_cost))
            .then_with(|| company(b).cmp(&company(a)))
            .then_with(|| by_age(a.ready_since_micros, b.ready_since_micros, now_micros))
            .then_with(|| b.restarts.cmp(&a.restarts))
            .then_with(|| by_age(Some(a.created_micros), Some(b.created_micros), now_micros))
            .then_with(|| a.uid.cmp(&b.uid))
    });
}

fn phase_rank(phase: Phase) -> u8 {
    match phase {
        Phase::Pending => 0,
        Phase::Unknown => 1,
        _ => 2,
    }
}

/// Younger first, but ages of the same order of magnitude are equal: the choice among them should
/// not follow the order of creation.
fn by_age(a: Option<i64>, b: Option<i64>, now_micros: i64) -> Ordering {
    let magnitude = |since: Option<i64>| {
        since
            .map(|since| now_micros.saturating_sub(since).max(0) / 1_000_000)
            .map(|seconds| i64::BITS - seconds.leading_zeros())
    };
    magnitude(a).cmp(&magnitude(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    const NOW: i64 = 1_000_000_000;

    fn pod(name: &str, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
        let mut pod = Pod::from_object(
            &json!({"metadata": {"name": name, "uid": name}, "spec": {"nodeName": name}}),
        );
        pod.phase = Phase::Running;
        pod.ready_since_micros = Some(0);
        change(&mut pod);
        Arc::new(pod)
    }

    #[test]
    fn the_most_expendable_go_first() {
        let expected = [
            pod("unassigned", |pod| pod.node_name = "".into()),
            pod("pending", |pod| pod.phase = Phase::Pending),
            pod("unready", |pod| pod.ready_since_micros = None),
            pod("cheap", |pod| pod.deletion_cost = -5),
            pod("crowded", |pod| pod.node_name = "crowd".into()),
            pod("just-ready", |pod| {
                pod.ready_since_micros = Some(NOW - 2_000_000)
            }),
            pod("restarted", |pod| pod.restarts = 9),
            pod("young", |pod| pod.created_micros = NOW - 5_000_000),
            pod("a", |_| {}),
            pod("b", |_| {}),
        ];
        let sibling = pod("sibling", |pod| pod.node_name = "crowd".into());
        let mut pods: Vec<_> = expected.iter().rev().cloned().collect();
        rank_victims(&mut pods, &[sibling], NOW);
        let names = |pods: &[Arc<Pod>]| {
            pods.iter()
                .map(|pod| pod.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&pods), names(&expected));
    }
}
