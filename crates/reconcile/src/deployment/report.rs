//! What a Deployment says about itself: counts and conditions.
//!
//! Reads working copies, changes nothing but the status.

use super::sets::{Desired, Set};
use crate::pod::{micros, text_of};
use crate::status::{self, Condition, find};
use meta::{Value, object};
use std::sync::Arc;
use value::json;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_REPLICA_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// Counts over ReplicaSets.
struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
    unavailable: i64,
    terminating: Option<i64>,
}

/// The status under construction. Conditions start from the stored ones.
pub(super) struct Report {
    pub(super) conditions: Vec<Value>,
    pub(super) collision_count: i64,
}

impl Report {
    pub(super) fn start(desired: &Desired<'_>) -> Self {
        Self {
            conditions: status::conditions_of(desired.object),
            collision_count: desired.collision_count,
        }
    }

    /// Sets a condition unless status and reason say the same already.
    fn put(&mut self, condition: &Condition, now_micros: i64) {
        let same = |old: &Value| {
            text_of(old, "status") == condition.status && text_of(old, "reason") == condition.reason
        };
        if !find(&self.conditions, condition.kind).is_some_and(same) {
            status::set(
                &mut self.conditions,
                condition,
                Some("lastUpdateTime"),
                now_micros,
            );
        }
    }

    /// A pause stops the progress clock; resuming starts it.
    pub(super) fn note_pause(&mut self, desired: &Desired<'_>, now_micros: i64) {
        let reason = find(&self.conditions, PROGRESSING)
            .map_or("", |condition| text_of(condition, "reason"))
            .to_owned();
        if desired.progress_deadline_seconds.is_none() || reason == TIMED_OUT {
            return;
        }
        let (reason, message) = match (desired.paused, reason == "DeploymentPaused") {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        let condition = Condition {
            kind: PROGRESSING,
            status: "Unknown",
            reason: reason.into(),
            message: message.into(),
        };
        self.put(&condition, now_micros);
    }

    pub(super) fn note_created(&mut self, desired: &Desired<'_>, name: &str, now_micros: i64) {
        if desired.progress_deadline_seconds.is_some() {
            let message = format!("Created new replica set {name:?}");
            self.put(
                &Condition::new(PROGRESSING, true, "NewReplicaSetCreated", message),
                now_micros,
            );
        }
    }

    pub(super) fn note_found(&mut self, desired: &Desired<'_>, name: &str, now_micros: i64) {
        if desired.progress_deadline_seconds.is_some()
            && find(&self.conditions, PROGRESSING).is_none()
        {
            let message = format!("Found new replica set {name:?}");
            self.put(
                &Condition::new(PROGRESSING, true, "FoundNewReplicaSet", message),
                now_micros,
            );
        }
    }

    /// Judges the progress of a rollout. Returns in how many microseconds the deadline should be
    /// looked at again.
    pub(super) fn note_progress(
        &mut self,
        desired: &Desired<'_>,
        newest: Option<&Set>,
        old: &[Set],
        now_micros: i64,
    ) -> Option<i64> {
        let Some(deadline_seconds) = desired.progress_deadline_seconds else {
            status::remove(&mut self.conditions, PROGRESSING);
            self.note_failures(newest, old, now_micros);
            return None;
        };
        let counts = count(newest, old);
        let current = find(&self.conditions, PROGRESSING).cloned();
        let reason = current
            .as_ref()
            .map_or("", |condition| text_of(condition, "reason"));
        let was_complete = counts.replicas == counts.updated && reason == NEW_REPLICA_SET_AVAILABLE;
        let subject = match newest {
            Some(set) => format!("ReplicaSet {:?}", set.name),
            None => format!("Deployment {:?}", desired.name),
        };
        let complete = is_complete(desired, newest, old);
        let updated_at = current
            .as_ref()
            .and_then(|condition| micros(condition.get("lastUpdateTime")));
        let expires_at = updated_at
            .map(|since| since.saturating_add(deadline_seconds.saturating_mul(1_000_000)));
        let timed_out = reason == TIMED_OUT
            || (!reason.is_empty()
                && reason != NEW_REPLICA_SET_AVAILABLE
                && expires_at.is_some_and(|at| at < now_micros));
        if was_complete {
        } else if complete {
            let message = format!("{subject} has successfully progressed.");
            self.put(
                &Condition::new(PROGRESSING, true, NEW_REPLICA_SET_AVAILABLE, message),
                now_micros,
            );
        } else if has_progressed(desired, &counts) {
            let condition = Condition::new(
                PROGRESSING,
                true,
                "ReplicaSetUpdated",
                format!("{subject} is progressing."),
            );
            status::set(
                &mut self.conditions,
                &condition,
                Some("lastUpdateTime"),
                now_micros,
            );
        } else if timed_out {
            let message = format!("{subject} has timed out progressing.");
            self.put(
                &Condition::new(PROGRESSING, false, TIMED_OUT, message),
                now_micros,
            );
        }
        self.note_failures(newest, old, now_micros);
        let current = find(&self.conditions, PROGRESSING)?;
        if complete || text_of(current, "reason") == TIMED_OUT {
            return None;
        }
        let since = micros(current.get("lastUpdateTime"))?;
        let left = since
            .saturating_add(deadline_seconds.saturating_mul(1_000_000))
            .saturating_sub(now_micros);
        // Timestamps carry whole seconds: a second more, and the deadline has passed for sure.
        Some(left.max(0).saturating_add(1_000_000))
    }

    fn note_failures(&mut self, newest: Option<&Set>, old: &[Set], now_micros: i64) {
        let failure = newest.into_iter().chain(old).find_map(|set| {
            let condition = crate::pod::condition(&set.object, REPLICA_FAILURE)?;
            (text_of(condition, "status") == "True").then_some(condition)
        });
        match failure {
            Some(failure) => {
                let condition = Condition::new(
                    REPLICA_FAILURE,
                    true,
                    text_of(failure, "reason"),
                    text_of(failure, "message"),
                );
                self.put(&condition, now_micros);
            }
            None => status::remove(&mut self.conditions, REPLICA_FAILURE),
        }
    }

    /// The Deployment with its new status, if that differs from the stored one.
    pub(super) fn finish(
        mut self,
        desired: &Desired<'_>,
        newest: Option<&Set>,
        old: &[Set],
        now_micros: i64,
    ) -> Option<Value> {
        let counts = count(newest, old);
        let available = counts.available >= desired.replicas - desired.max_unavailable;
        let (reason, message) = if available {
            (
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        self.put(
            &Condition::new(AVAILABLE, available, reason, message),
            now_micros,
        );
        let mut status = status::pruned(json!({
            "observedGeneration": object::i64_at(desired.object, &["metadata", "generation"]),
            "replicas": counts.replicas,
            "updatedReplicas": counts.updated,
            "readyReplicas": counts.ready,
            "availableReplicas": counts.available,
            "unavailableReplicas": counts.unavailable,
            "collisionCount": self.collision_count,
            "conditions": self.conditions,
        }));
        if let Some(terminating) = counts.terminating {
            status["terminatingReplicas"] = json!(terminating);
        }
        differing(desired.object, status)
    }
}

/// The object with this status, if the stored one says something else.
pub(super) fn differing(object: &Value, status: Value) -> Option<Value> {
    let stored = status::pruned(object.get("status").cloned().unwrap_or_else(|| json!({})));
    (stored != status::pruned(status.clone())).then(|| status::with_status(object, status))
}

fn count(newest: Option<&Set>, old: &[Set]) -> Counts {
    let all = || newest.into_iter().chain(old);
    let available = all().map(|set| set.available).sum::<i64>();
    let wanted = all().map(|set| set.replicas).sum::<i64>();
    Counts {
        replicas: all().map(|set| set.actual).sum(),
        updated: newest.map_or(0, |set| set.actual),
        ready: all().map(|set| set.ready).sum(),
        available,
        unavailable: (wanted - available).max(0),
        terminating: all().map(|set| set.terminating).sum(),
    }
}

/// Every replica is updated and available, and nothing else is left.
pub(super) fn is_complete(desired: &Desired<'_>, newest: Option<&Set>, old: &[Set]) -> bool {
    let counts = count(newest, old);
    counts.updated == desired.replicas
        && counts.replicas == desired.replicas
        && counts.available == desired.replicas
}

fn has_progressed(desired: &Desired<'_>, counts: &Counts) -> bool {
    let stored = |field: &str| object::i64_at(desired.object, &["status", field]).unwrap_or(0);
    counts.updated > stored("updatedReplicas")
        || counts.replicas - counts.updated < stored("replicas") - stored("updatedReplicas")
        || counts.ready > stored("readyReplicas")
        || counts.available > stored("availableReplicas")
}

/// Says that this generation was seen, and nothing else.
pub(super) fn seen(deployment: &Arc<Value>) -> Option<Value> {
    let generation = object::i64_at(deployment, &["metadata", "generation"]).unwrap_or(0);
    let observed = object::i64_at(deployment, &["status", "observedGeneration"]).unwrap_or(0);
    (observed < generation).then(|| {
        let mut object = Value::clone(deployment);
        object::set_at(
            &mut object,
            &["status", "observedGeneration"],
            json!(generation),
        );
        object
    })
}
