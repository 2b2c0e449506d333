//! One round of a CronJob: note what ended, start what is due, delete what is old, and wait for the next time.

use super::{MISSED_TIMES_MAX, Observed, Schedule};
use crate::action::{Action, Announce, CRON_JOBS, Involved, JOBS, Propagation};
use crate::owner::controller_reference;
use crate::pod::{condition, items, micros, text_of};
use crate::status;
use meta::{Value, object, time};
use std::sync::Arc;
use value::{Map, json};

/// A moment after the time itself: nobody wakes a little early.
const WAKE_LATE_MICROS: i64 = 100_000;
/// Annotation of a Job with the time it was due.
const SCHEDULED_ANNOTATION: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What to do now for a CronJob.
pub fn plan(cron: &Arc<Value>, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    if object::is_deleting(cron) {
        return Vec::new();
    }
    let mut round = Round {
        cron,
        announce: Announce {
            involved: Arc::new(Involved::of(cron)),
        },
        active: Vec::new(),
        last_schedule: text_at(cron, "lastScheduleTime"),
        last_success: text_at(cron, "lastSuccessfulTime"),
        actions: Vec::new(),
        wait_micros: None,
    };
    round.note(observed.jobs);
    round.forget_old(observed.jobs);
    if object::bool_at(cron, &["spec", "suspend"]) != Some(true) {
        round.start_due(observed, now_micros);
    }
    round.finish()
}

struct Round<'a> {
    cron: &'a Arc<Value>,
    announce: Announce,
    /// Jobs that have not ended.
    active: Vec<&'a Arc<Value>>,
    last_schedule: Option<String>,
    last_success: Option<String>,
    actions: Vec<Action>,
    wait_micros: Option<i64>,
}

impl<'a> Round<'a> {
    /// Compares the Jobs there are with those that were active.
    fn note(&mut self, jobs: &'a [Arc<Value>]) {
        let was_active = items(self.cron, &["status", "active"]);
        let is_listed = |job: &Value| {
            was_active
                .iter()
                .any(|old| text_of(old, "uid") == object::uid(job))
        };
        for job in jobs {
            let Some(end) = end_of(job) else {
                self.active.push(job);
                continue;
            };
            if is_listed(job) {
                let name = object::name(job);
                let message = format!("Saw completed job: {name}, condition: {end}");
                self.normal("SawCompletedJob", message);
            }
            let finished = object::str_at(job, &["status", "completionTime"]).map(str::to_owned);
            if end == "Complete" && finished > self.last_success {
                self.last_success = finished;
            }
        }
        self.active.sort_by_key(|job| object::name(job));
        for old in was_active {
            if !jobs
                .iter()
                .any(|job| object::uid(job) == text_of(old, "uid"))
            {
                let message = format!("Active job went missing: {}", text_of(old, "name"));
                self.normal("MissingJob", message);
            }
        }
    }

    /// Deletes ended Jobs beyond the limits, the oldest first.
    fn forget_old(&mut self, jobs: &[Arc<Value>]) {
        for (end, field, default) in [
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ] {
            let limit = object::i64_at(self.cron, &["spec", field]).unwrap_or(default);
            let of_end = |job: &&Arc<Value>| end_of(job) == Some(end) && !object::is_deleting(job);
            let mut ended: Vec<&Arc<Value>> = jobs.iter().filter(of_end).collect();
            let started = |job: &Value| text_at(job, "startTime").unwrap_or_default();
            ended.sort_by(|a, b| (started(a), object::name(a)).cmp(&(started(b), object::name(b))));
            let excess = ended
                .len()
                .saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in ended.into_iter().take(excess) {
                self.delete(job);
            }
        }
    }

    fn start_due(&mut self, observed: &Observed<'_>, now_micros: i64) {
        let zone = object::str_at(self.cron, &["spec", "timeZone"]).unwrap_or("UTC");
        if !matches!(zone, "UTC" | "Etc/UTC" | "") {
            let message = format!("invalid timeZone: {zone:?}: only UTC is known here");
            return self.warning("UnknownTimeZone", message);
        }
        let text = object::str_at(self.cron, &["spec", "schedule"]).unwrap_or_default();
        let schedule = match Schedule::parse(text) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {text:?} : {error}");
                return self.warning("UnparseableSchedule", message);
            }
        };
        let since = self.earliest(now_micros);
        if let Some(due) = schedule.last(since, now_micros) {
            self.warn_if_many(&schedule, since, now_micros);
            self.start(due, observed);
        }
        self.wait_micros = schedule
            .next(now_micros)
            .map(|next| next - now_micros + WAKE_LATE_MICROS);
    }

    /// Times up to this one need no Job any more.
    fn earliest(&self, now_micros: i64) -> i64 {
        let created = micros(self.cron.pointer("/metadata/creationTimestamp")).unwrap_or(0);
        let last = self.last_schedule.as_deref();
        let last = last.and_then(|text| time::parse(text).ok());
        let deadline = object::i64_at(self.cron, &["spec", "startingDeadlineSeconds"]);
        let deadline =
            deadline.map(|seconds| now_micros.saturating_sub(seconds.saturating_mul(1_000_000)));
        last.unwrap_or(created).max(deadline.unwrap_or(i64::MIN))
    }

    fn warn_if_many(&mut self, schedule: &Schedule, since: i64, now_micros: i64) {
        let next = |time: &i64| schedule.next(*time).filter(|next| *next <= now_micros);
        let missed = std::iter::successors(next(&since), next);
        let missed = missed.take(MISSED_TIMES_MAX + 1).count();
        if missed > MISSED_TIMES_MAX {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.warning("TooManyMissedTimes", message.to_owned());
        }
    }

    /// Starts the Job of a time that is due, if the policy lets it.
    fn start(&mut self, due: i64, observed: &Observed<'_>) {
        let policy = object::str_at(self.cron, &["spec", "concurrencyPolicy"]);
        let name = format!("{}-{}", object::name(self.cron), due.div_euclid(60_000_000));
        let is_there = (observed.has_job)(&name);
        if !is_there && policy == Some("Forbid") && !self.active.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return self.normal("JobAlreadyActive", message.to_owned());
        }
        if !is_there && policy == Some("Replace") {
            for job in std::mem::take(&mut self.active) {
                self.delete(job);
            }
        }
        if !is_there {
            self.actions.push(Action::Create {
                resource: JOBS,
                namespace: object::namespace(self.cron).to_owned(),
                object: Arc::new(self.job(&name, due)),
                announce: Some(self.announce.clone()),
            });
        }
        self.last_schedule = Some(time::format_seconds(due));
    }

    fn job(&self, name: &str, due: i64) -> Value {
        let template = object::at(self.cron, &["spec", "jobTemplate"]);
        let mut annotations = object::map_at(template, &["metadata", "annotations"])
            .cloned()
            .unwrap_or_default();
        annotations.insert(
            SCHEDULED_ANNOTATION.to_owned(),
            json!(time::format_seconds(due)),
        );
        let mut metadata = Map::new();
        metadata.insert("name", json!(name));
        metadata.insert("namespace", json!(object::namespace(self.cron)));
        metadata.insert("annotations", Value::Object(annotations));
        if let Some(labels) = object::map_at(template, &["metadata", "labels"]) {
            metadata.insert("labels", json!(labels));
        }
        metadata.insert(
            "ownerReferences".to_owned(),
            json!([controller_reference(self.cron)]),
        );
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": object::at(template, &["spec"])})
    }

    fn delete(&mut self, job: &Value) {
        let mut action = Action::delete(JOBS, job, Some(Propagation::Background));
        if let Action::Delete { announce, .. } = &mut action {
            *announce = Some(self.announce.clone());
        }
        self.actions.push(action);
    }

    fn normal(&mut self, reason: &'static str, message: String) {
        let event = Action::normal(&self.announce.involved, reason, message);
        self.actions.push(event);
    }

    fn warning(&mut self, reason: &'static str, message: String) {
        let event = Action::warning(&self.announce.involved, reason, message);
        self.actions.push(event);
    }

    fn finish(mut self) -> Vec<Action> {
        let listed = items(self.cron, &["status", "active"]);
        let reference = |job: &&Arc<Value>| {
            // As it was when it was first listed: a Job's own changes are none of the CronJob's.
            let old = listed
                .iter()
                .find(|old| text_of(old, "uid") == object::uid(job));
            old.cloned().unwrap_or_else(|| {
                json!({"apiVersion": "batch/v1", "kind": "Job", "namespace": object::namespace(job),
                    "name": object::name(job), "uid": object::uid(job), "resourceVersion": object::resource_version(job)})
            })
        };
        let status = status::pruned(json!({
            "active": self.active.iter().map(reference).collect::<Vec<_>>(),
            "lastScheduleTime": self.last_schedule,
            "lastSuccessfulTime": self.last_success,
        }));
        let stored = self.cron.get("status").cloned();
        if status::pruned(stored.unwrap_or_else(|| json!({}))) != status {
            self.actions.push(Action::update_status(
                CRON_JOBS,
                status::with_status(self.cron, status),
            ));
        }
        self.actions
            .extend(self.wait_micros.map(Action::RequeueAfter));
        self.actions
    }
}

/// `Complete` or `Failed`, of a Job that has ended.
fn end_of(job: &Value) -> Option<&'static str> {
    ["Complete", "Failed"].into_iter().find(|kind| {
        condition(job, kind).is_some_and(|condition| text_of(condition, "status") == "True")
    })
}

fn text_at(object: &Value, field: &str) -> Option<String> {
    object::str_at(object, &["status", field]).map(str::to_owned)
}
