//! The formulas of the plugins: which taints are tolerated, what fits, how free and how balanced a node is.
//!
//! Pure functions on numbers and names. Does not know classes, states or who else is on a node.

use crate::hashing::same_text;
use crate::objects::{Effect, Taint, Toleration, TolerationOperator};
use crate::profile::{SCORED_RESOURCES_MAX, Strategy};
use crate::semantics::Semantics;

/// Every plugin's score after normalising lies in 0..=100.
pub const MAX_SCORE: i64 = 100;

/// Less than this together counts nothing; more than this a container does not count.
const IMAGES_MIN_BYTES: i64 = 23 << 20;
const IMAGES_MAX_BYTES: i64 = 1000 << 20;

/// The taint that stands for `spec.unschedulable`.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: Effect) -> bool {
    toleration.effect.is_none_or(|e| e == effect)
        && (toleration.key.is_empty() || same_text(&toleration.key, key))
        && match toleration.operator {
            TolerationOperator::Equal => same_text(&toleration.value, value),
            TolerationOperator::Exists => true,
            TolerationOperator::Unknown => false,
        }
}

/// May a pod with these tolerations go to a cordoned node?
pub(crate) fn tolerates_unschedulable(tolerations: &[Toleration]) -> bool {
    tolerations
        .iter()
        .any(|t| tolerates(t, UNSCHEDULABLE_TAINT, "", Effect::NoSchedule))
}

/// Is every taint that keeps pods away tolerated?
pub(crate) fn tolerates_hard_taints(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    taints
        .iter()
        .filter(|taint| taint.effect != Effect::PreferNoSchedule)
        .all(|taint| {
            tolerations
                .iter()
                .any(|t| tolerates(t, &taint.key, &taint.value, taint.effect))
        })
}

/// How many taints would rather have the pod elsewhere.
pub(crate) fn untolerated_soft_taints(taints: &[Taint], tolerations: &[Toleration]) -> i64 {
    taints
        .iter()
        .filter(|taint| taint.effect == Effect::PreferNoSchedule)
        .filter(|taint| {
            !tolerations
                .iter()
                .any(|t| tolerates(t, &taint.key, &taint.value, taint.effect))
        })
        .count() as i64
}

/// `raw` against the largest raw score among feasible nodes, as 0..=100.
pub(crate) fn normalise(raw: i64, max: i64) -> i64 {
    if max == 0 {
        return raw;
    }
    scaled(raw, max)
}

/// As [`normalise`], but less is better.
pub(crate) fn normalise_reversed(raw: i64, max: i64) -> i64 {
    if max == 0 {
        return MAX_SCORE;
    }
    MAX_SCORE - scaled(raw, max)
}

/// A raw spread score as 0..=100: the fewer pods the better.
pub(crate) fn normalise_spread(raw: i64, min: i64, max: i64) -> i64 {
    if max == 0 {
        return MAX_SCORE;
    }
    MAX_SCORE * (max + min - raw) / max
}

/// `raw` between the least and the largest, as 0..=100. In floating point and in this order, as upstream.
pub(crate) fn normalise_between(raw: i64, min: i64, max: i64) -> i64 {
    if max <= min {
        return 0;
    }
    (MAX_SCORE as f64 * ((raw - min) as f64 / (max - min) as f64)) as i64
}

/// What an image counts where it is: less the fewer nodes have it, or all pods would gather there.
pub(crate) fn scaled_image(bytes: i64, nodes: usize, all_nodes: usize) -> i64 {
    (bytes as f64 * (nodes as f64 / all_nodes.max(1) as f64)) as i64
}

/// ImageLocality of a node that has images worth `sum` for a pod of so many containers.
pub(crate) fn image_score(sum: i64, containers: usize) -> i64 {
    let max = IMAGES_MAX_BYTES * containers as i64;
    if max <= IMAGES_MIN_BYTES {
        return 0;
    }
    MAX_SCORE * (sum.clamp(IMAGES_MIN_BYTES, max) - IMAGES_MIN_BYTES) / (max - IMAGES_MIN_BYTES)
}

/// `part * 100 / whole`, truncated; exact for every 64-bit amount.
fn scaled(part: i64, whole: i64) -> i64 {
    match part.checked_mul(MAX_SCORE) {
        Some(product) => product / whole,
        None => (i128::from(part) * i128::from(MAX_SCORE) / i128::from(whole)) as i64,
    }
}

/// A node's score over `(asked for in all, capacity, weight)` of resources: the weighted mean of what each
/// scores, those the node does not have left out.
pub(crate) fn allocation_score(
    strategy: &Strategy,
    semantics: Semantics,
    resources: impl Iterator<Item = (i64, i64, i64)>,
) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for (asked, capacity, weight) in resources {
        if capacity == 0 {
            // In 1.20 what a node does not have pulls it down.
            weights += if semantics == Semantics::V1_20 {
                weight
            } else {
                0
            };
            continue;
        }
        // Below zero only where sums of absurd requests wrapped.
        let asked = asked.max(0);
        let score = match strategy {
            Strategy::LeastAllocated if asked > capacity => 0,
            Strategy::LeastAllocated => scaled(capacity - asked, capacity),
            Strategy::MostAllocated => scaled(asked.min(capacity), capacity),
            Strategy::RequestedToCapacityRatio(shape) => {
                let used = if asked > capacity {
                    MAX_SCORE
                } else {
                    scaled(asked, capacity)
                };
                on_line(shape, used)
            }
        };
        // On a broken line a resource that scores nothing does not pull the others down.
        if score > 0 || !matches!(strategy, Strategy::RequestedToCapacityRatio(_)) {
            sum += score * weight;
            weights += weight;
        }
    }
    match strategy {
        _ if weights == 0 => 0,
        Strategy::RequestedToCapacityRatio(_) => (sum as f64 / weights as f64).round() as i64,
        _ => sum / weights,
    }
}

/// The broken line at `used`; its scores of 0..=10 stand for 0..=100.
fn on_line(shape: &[(i64, i64)], used: i64) -> i64 {
    let tenfold = |score: i64| score * (MAX_SCORE / 10);
    let mut before: Option<(i64, i64)> = None;
    for &(at, score) in shape {
        if used <= at {
            return match before {
                None => tenfold(score),
                Some((from, low)) => {
                    let low = tenfold(low);
                    low + (tenfold(score) - low) * (used - from) / (at - from)
                }
            };
        }
        before = Some((at, score));
    }
    before.map_or(0, |(_, score)| tenfold(score))
}

/// How evenly resources are used, by `(asked for, capacity)`: 100 is perfectly even. The order of the
/// floating-point operations is upstream's.
pub(crate) fn evenness(resources: impl Iterator<Item = (i64, i64)>) -> i64 {
    let mut fractions = [0.0; SCORED_RESOURCES_MAX];
    let (mut known, mut total) = (0, 0.0);
    for (asked, capacity) in resources.filter(|&(_, capacity)| capacity != 0) {
        let fraction = (asked as f64 / capacity as f64).clamp(0.0, 1.0);
        if let Some(slot) = fractions.get_mut(known) {
            *slot = fraction;
            total += fraction;
            known += 1;
        }
    }
    let deviation = match &fractions[..known] {
        [a, b] => ((a - b) / 2.0).abs(),
        [] | [_] => 0.0,
        many => {
            let mean = total / known as f64;
            let mut sum = 0.0;
            for fraction in many {
                sum += (fraction - mean) * (fraction - mean);
            }
            (sum / known as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

/// NodeResourcesBalancedAllocation of 1.36, over `(asked for with the pod, without it, capacity)`: does the pod
/// make the node more even (100), less (50) or neither (75)?
pub(crate) fn balanced(resources: impl Iterator<Item = (i64, i64, i64)> + Clone) -> i64 {
    let half = MAX_SCORE / 2;
    let with = evenness(
        resources
            .clone()
            .map(|(with, _, capacity)| (with, capacity)),
    );
    let without = evenness(resources.map(|(_, without, capacity)| (without, capacity)));
    half + (half + with - without) / 2
}

/// Below this, a hundredfold is exact in floating point: 64 TiB.
const EXACT_MAX: i64 = 1 << 46;

/// [`allocation_score`] where the most free is best: what nearly every pod on nearly every node is scored by.
pub(crate) fn least_allocated(resources: [(i64, i64, i64); 2]) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for (asked, capacity, weight) in resources {
        if capacity != 0 {
            let free = capacity - asked.max(0);
            sum += weight
                * match free {
                    ..0 => 0,
                    // A whole quotient is exact, and any other further from the next one than it is rounded by.
                    _ if capacity < EXACT_MAX => {
                        ((free * MAX_SCORE) as f64 / capacity as f64) as i64
                    }
                    _ => scaled(free, capacity),
                };
            weights += weight;
        }
    }
    if weights == 0 { 0 } else { sum / weights }
}

/// [`balanced`] for two resources: without the pod, with it, and the capacities.
pub(crate) fn balanced_two(without: [i64; 2], with: [i64; 2], capacity: [i64; 2]) -> i64 {
    let half = MAX_SCORE / 2;
    if capacity.contains(&0) {
        return half + half / 2;
    }
    let even = |asked: [i64; 2]| {
        let part = |at: usize| (asked[at] as f64 / capacity[at] as f64).clamp(0.0, 1.0);
        let deviation = ((part(0) - part(1)) / 2.0).abs();
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    };
    half + (half + even(with) - even(without)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(strategy: &Strategy, resources: &[(i64, i64, i64)]) -> i64 {
        allocation_score(strategy, Semantics::V1_36, resources.iter().copied())
    }

    #[test]
    fn least_allocated_by_hand() {
        let least = |resources: &[_]| score(&Strategy::LeastAllocated, resources);
        // 4000 m with 1100 m asked: 72.5 -> 72; 32 GiB with 2 GiB asked: 93.75 -> 93; mean 82.5 -> 82.
        let gib = 1 << 30;
        assert_eq!(least(&[(1100, 4000, 1), (2 * gib, 32 * gib, 1)]), 82);
        // The CPU counts three times: (3 * 72 + 93) / 4 = 77.25.
        assert_eq!(least(&[(1100, 4000, 3), (2 * gib, 32 * gib, 1)]), 77);
        // More asked than there is: that resource counts 0.
        assert_eq!(least(&[(4001, 4000, 1), (0, gib, 1)]), 50);
        // A resource the node does not have is left out.
        assert_eq!(least(&[(100, 0, 1), (gib, 4 * gib, 1)]), 75);
        assert_eq!(least(&[(100, 0, 1), (100, 0, 1)]), 0);
        // In 1.20 it counts 0.
        let resources = [(100, 0, 1), (gib, 4 * gib, 1)].into_iter();
        let strategy = Strategy::LeastAllocated;
        assert_eq!(allocation_score(&strategy, Semantics::V1_20, resources), 37);
        // Amounts whose hundredfold does not fit 64 bits.
        assert_eq!(least(&[(0, 1, 1), (i64::MAX / 2, i64::MAX, 1)]), 75);
    }

    #[test]
    fn two_resources_are_scored_as_any_number() {
        let amounts = [
            -5,
            0,
            1,
            2,
            3,
            99,
            100,
            101,
            4_000,
            123_457,
            1 << 35,
            i64::MAX / 50,
            i64::MAX,
        ];
        let mut dice = 1u64;
        let mut any = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            amounts[(dice >> 33) as usize % amounts.len()]
        };
        for _ in 0..20_000 {
            let (without, with) = ([any(), any()], [any(), any()]);
            let capacity = [any().max(0), any().max(0)];
            let weights = [1 + any().rem_euclid(3), 1];
            let all = |at: usize| (with[at], without[at], capacity[at]);
            assert_eq!(
                balanced_two(without, with, capacity),
                balanced([all(0), all(1)].into_iter())
            );
            let resources = [0, 1].map(|at| (with[at], capacity[at], weights[at]));
            assert_eq!(
                least_allocated(resources),
                score(&Strategy::LeastAllocated, &resources)
            );
        }
    }

    #[test]
    fn other_strategies_by_hand() {
        let most = |resources: &[_]| score(&Strategy::MostAllocated, resources);
        assert_eq!(most(&[(1100, 4000, 1), (2, 32, 1)]), (27 + 6) / 2);
        assert_eq!(most(&[(5000, 4000, 1), (0, 0, 1)]), 100);
        let line = Strategy::RequestedToCapacityRatio(vec![(0, 0), (40, 10), (100, 2)]);
        // 20 % -> 50; 70 % -> 100 - 80 * 30 / 60 = 60; mean 55.
        assert_eq!(score(&line, &[(2, 10, 1), (7, 10, 1)]), 55);
        // What scores 0 is left out; more than there is counts as full: 20.
        assert_eq!(score(&line, &[(0, 10, 5), (11, 10, 1)]), 20);
        // (2 * 50 + 75) / 3 = 58.33; (50 + 2 * 75) / 3 = 66.67 is rounded, not cut.
        assert_eq!(score(&line, &[(2, 10, 2), (3, 10, 1)]), 58);
        assert_eq!(score(&line, &[(2, 10, 1), (3, 10, 2)]), 67);
        let late = Strategy::RequestedToCapacityRatio(vec![(50, 3), (60, 7)]);
        assert_eq!(score(&late, &[(1, 10, 1)]), 30);
        assert_eq!(score(&late, &[(9, 10, 1)]), 70);
        assert_eq!(score(&late, &[(55, 100, 1)]), 50);
    }

    #[test]
    fn balanced_by_hand() {
        let balanced = |resources: &[(i64, i64, i64)]| balanced(resources.iter().copied());
        // Empty node, pod asks half the CPU and no memory: with 75, without 100 -> 50 + 25/2 = 62.
        assert_eq!(balanced(&[(500, 0, 1000), (0, 0, 1000)]), 62);
        // The pod evens a lopsided node out: with 100, without 75 -> 50 + 75/2 = 87.
        assert_eq!(balanced(&[(500, 500, 1000), (500, 0, 1000)]), 87);
        // No change.
        assert_eq!(balanced(&[(2, 1, 10), (2, 1, 10)]), 75);
        // Worst: with 50, without 100 -> 50. Best: with 100, without 50 -> 100.
        assert_eq!(balanced(&[(10, 0, 10), (0, 0, 10)]), 50);
        assert_eq!(balanced(&[(10, 10, 10), (99, 0, 10)]), 100);
        // One resource alone is always even.
        assert_eq!(balanced(&[(7, 1, 10), (5, 0, 0)]), 75);
        // Three: 1, 0, 0 deviate by sqrt(2/9) = 0.471: 52; without 100 -> 50 + 2/2 = 51.
        assert_eq!(balanced(&[(10, 0, 10), (0, 0, 10), (0, 0, 10)]), 51);
    }

    #[test]
    fn normalising_by_hand() {
        assert_eq!(normalise(3, 7), 42);
        assert_eq!(normalise(0, 0), 0);
        assert_eq!(normalise_reversed(1, 3), 67);
        assert_eq!(normalise_reversed(3, 3), 0);
        assert_eq!(normalise_reversed(0, 0), 100);
    }

    #[test]
    fn spread_and_affinity_are_normalised_by_hand() {
        assert_eq!(normalise_spread(0, 0, 0), 100);
        assert_eq!(normalise_spread(4, 1, 4), 25);
        assert_eq!(normalise_spread(1, 1, 4), 100);
        assert_eq!(normalise_spread(3, 1, 4), 50);
        assert_eq!(normalise_between(-3, -3, 7), 0);
        assert_eq!(normalise_between(7, -3, 7), 100);
        assert_eq!(normalise_between(5, 5, 5), 0);
        // 29 of 100 is not quite 0.29.
        assert_eq!(normalise_between(29, 0, 100), 28);
    }

    #[test]
    fn images_by_hand() {
        let mib = 1 << 20;
        // Half of the nodes have 500 MiB: 250; (250 - 23) * 100 / 977 = 23.
        assert_eq!(scaled_image(500 * mib, 1, 2), 250 * mib);
        assert_eq!(image_score(250 * mib, 1), 23);
        assert_eq!(image_score(22 * mib, 1), 0);
        assert_eq!(image_score(5000 * mib, 2), 100);
        assert_eq!(image_score(5000 * mib, 0), 0);
    }

    fn toleration(key: &str, operator: TolerationOperator, value: &str) -> Toleration {
        Toleration {
            key: key.into(),
            operator,
            value: value.into(),
            effect: None,
        }
    }

    #[test]
    fn tolerations_by_hand() {
        let taint = |effect| Taint {
            key: "gpu".into(),
            value: "a100".into(),
            effect,
        };
        let equal = toleration("gpu", TolerationOperator::Equal, "a100");
        let other = toleration("gpu", TolerationOperator::Equal, "h100");
        let exists = toleration("gpu", TolerationOperator::Exists, "");
        let all = toleration("", TolerationOperator::Exists, "");
        let hard = [taint(Effect::NoSchedule), taint(Effect::NoExecute)];
        for (by, expected) in [
            (&equal, true),
            (&other, false),
            (&exists, true),
            (&all, true),
        ] {
            assert_eq!(
                tolerates_hard_taints(&hard, std::slice::from_ref(by)),
                expected
            );
        }
        let only_no_schedule = Toleration {
            effect: Some(Effect::NoSchedule),
            ..exists.clone()
        };
        assert!(!tolerates_hard_taints(
            &hard,
            std::slice::from_ref(&only_no_schedule)
        ));
        let soft = [taint(Effect::PreferNoSchedule), taint(Effect::NoSchedule)];
        assert_eq!(untolerated_soft_taints(&soft, &[only_no_schedule]), 1);
        assert_eq!(untolerated_soft_taints(&soft, &[exists]), 0);
        assert!(tolerates_unschedulable(&[all]));
        assert!(!tolerates_unschedulable(&[equal]));
    }
}
