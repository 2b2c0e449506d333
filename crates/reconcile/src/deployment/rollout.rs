//! The arithmetic of a rollout: how many replicas each ReplicaSet gets.
//!
//! Knows counts only. Changes working copies in place and says which were scaled from what.

use super::sets::{Desired, Set};
use super::{DESIRED_REPLICAS_ANNOTATION, MAX_REPLICAS_ANNOTATION};

/// A scaling that happened in this plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) name: String,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// Scales one set and notes the Deployment's size on it. Says whether its replicas changed.
pub(super) fn scale(set: &mut Set, to: i64, desired: &Desired<'_>, log: &mut Vec<Scaled>) -> bool {
    set.annotate_scale(desired);
    if set.replicas == to {
        return false;
    }
    log.push(Scaled {
        name: set.name.clone(),
        from: set.replicas,
        to,
    });
    set.replicas = to;
    true
}

fn total(sets: &[Set]) -> i64 {
    sets.iter().map(|set| set.replicas).sum()
}

/// How many replicas the newest set gets, given all others.
pub(super) fn new_replicas(desired: &Desired<'_>, everything: i64, newest: i64) -> i64 {
    if !desired.rolling {
        return desired.replicas;
    }
    let room = desired.replicas + desired.max_surge - everything;
    if room <= 0 {
        newest
    } else {
        newest + room.min(desired.replicas - newest)
    }
}

/// Moves the newest set towards the wanted count, within the surge.
pub(super) fn grow_newest(
    desired: &Desired<'_>,
    newest: &mut Set,
    old: &[Set],
    log: &mut Vec<Scaled>,
) -> bool {
    let to = if newest.replicas > desired.replicas {
        desired.replicas
    } else {
        new_replicas(desired, newest.replicas + total(old), newest.replicas)
    };
    newest.replicas != to && scale(newest, to, desired, log)
}

/// Takes replicas from old sets, sick ones first, as far as availability allows.
pub(super) fn shrink_old(
    desired: &Desired<'_>,
    newest: &Set,
    old: &mut [Set],
    log: &mut Vec<Scaled>,
) -> bool {
    if total(old) == 0 {
        return false;
    }
    let min_available = desired.replicas - desired.max_unavailable;
    let newest_unavailable = newest.replicas - newest.available;
    let removable = newest.replicas + total(old) - min_available - newest_unavailable;
    if removable <= 0 {
        return false;
    }
    old.sort_by(|a, b| {
        a.created_micros
            .cmp(&b.created_micros)
            .then_with(|| a.name.cmp(&b.name))
    });
    // Replicas that are not available anyway cost nothing, and would block the rollout for ever.
    let mut sick = removable;
    for set in old.iter_mut().filter(|set| set.replicas > 0) {
        let take = sick.min(set.replicas - set.available).max(0);
        if take > 0 {
            scale(set, set.replicas - take, desired, log);
            sick -= take;
        }
    }
    let available = newest.available + old.iter().map(|set| set.available).sum::<i64>();
    let mut healthy = available - min_available;
    for set in old.iter_mut().filter(|set| set.replicas > 0) {
        let take = healthy.min(set.replicas).max(0);
        if take > 0 {
            scale(set, set.replicas - take, desired, log);
            healthy -= take;
        }
    }
    !log.is_empty()
}

/// Scales all old sets to nothing.
pub(super) fn empty_old(desired: &Desired<'_>, old: &mut [Set], log: &mut Vec<Scaled>) -> bool {
    let mut any = false;
    for set in old.iter_mut().filter(|set| set.replicas > 0) {
        any |= scale(set, 0, desired, log);
    }
    any
}

/// The Deployment's replicas were changed since some active set was last scaled.
pub(super) fn is_resized(desired: &Desired<'_>, newest: Option<&Set>, old: &[Set]) -> bool {
    newest
        .into_iter()
        .chain(old)
        .filter(|set| set.replicas > 0)
        .any(|set| {
            set.number_annotation(DESIRED_REPLICAS_ANNOTATION)
                .is_some_and(|noted| noted != desired.replicas)
        })
}

/// Follows a changed replica count without rolling further: a single set takes it whole, several
/// (a rollout under way) share the difference in proportion to their size.
pub(super) fn resize(
    desired: &Desired<'_>,
    newest: &mut Option<Set>,
    old: &mut [Set],
    log: &mut Vec<Scaled>,
) {
    let active = newest
        .iter()
        .chain(old.iter())
        .filter(|set| set.replicas > 0)
        .count();
    if active <= 1 {
        // Also when the count is right already: the noted size must follow, or this is a resize for ever.
        if let Some(set) = only_or_latest(newest, old) {
            scale(set, desired.replicas, desired, log);
        }
        return;
    }
    let saturated = newest.as_ref().is_some_and(|set| {
        set.replicas == desired.replicas
            && set.number_annotation(DESIRED_REPLICAS_ANNOTATION) == Some(desired.replicas)
            && set.available == desired.replicas
    });
    if saturated {
        empty_old(desired, old, log);
    } else if desired.rolling {
        share(desired, newest, old, log);
    }
}

/// The one active set, or if none is active the newest, or the latest old one.
fn only_or_latest<'a>(newest: &'a mut Option<Set>, old: &'a mut [Set]) -> Option<&'a mut Set> {
    if let Some(active) = old.iter().position(|set| set.replicas > 0) {
        return old.get_mut(active);
    }
    newest
        .as_mut()
        .or_else(|| old.iter_mut().max_by_key(|set| set.created_micros))
}

fn share(desired: &Desired<'_>, newest: &mut Option<Set>, old: &mut [Set], log: &mut Vec<Scaled>) {
    let mut sets: Vec<&mut Set> = newest
        .iter_mut()
        .chain(old.iter_mut())
        .filter(|set| set.replicas > 0)
        .collect();
    let allowed = if desired.replicas > 0 {
        desired.replicas + desired.max_surge
    } else {
        0
    };
    let to_add = allowed - sets.iter().map(|set| set.replicas).sum::<i64>();
    // The largest takes what rounding leaves; among equals the newer when growing, the older when shrinking.
    sets.sort_by(|a, b| {
        let by_age = if to_add > 0 {
            b.created_micros.cmp(&a.created_micros)
        } else {
            a.created_micros.cmp(&b.created_micros)
        };
        b.replicas.cmp(&a.replicas).then(by_age)
    });
    let mut sizes = Vec::with_capacity(sets.len());
    let mut added = 0;
    for set in &sets {
        let left = to_add - added;
        let fraction = fraction(desired, set);
        let part = match left {
            0 => 0,
            _ if to_add > 0 => fraction.min(left),
            _ => fraction.max(left),
        };
        added += part;
        sizes.push(set.replicas + part);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in sets.into_iter().zip(sizes) {
        scale(set, size, desired, log);
    }
}

/// A set's share of a resize: its size times the growth of the Deployment's ceiling, rounded.
fn fraction(desired: &Desired<'_>, set: &Set) -> i64 {
    if desired.replicas == 0 {
        return -set.replicas;
    }
    let before = set
        .number_annotation(MAX_REPLICAS_ANNOTATION)
        .filter(|noted| *noted > 0);
    let Some(before) = before.or_else(|| {
        meta::object::i64_at(desired.object, &["status", "replicas"]).filter(|count| *count > 0)
    }) else {
        return 0;
    };
    let scaled = i128::from(set.replicas) * i128::from(desired.replicas + desired.max_surge);
    let rounded = (scaled * 2 + i128::from(before)).div_euclid(i128::from(before) * 2);
    i64::try_from(rounded).unwrap_or(i64::MAX) - set.replicas
}
