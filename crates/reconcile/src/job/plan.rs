//! One round of a Job: count what ended, judge the Job, create or delete the difference, report.

use super::indexes::Indexes;
use super::policy::{Verdict, judge};
use super::{Observed, POD_CHANGES_MAX, UNCOUNTED_PODS_MAX};
use crate::action::{Action, Announce, Involved, JOBS, PODS, PatchType, Propagation};
use crate::pod::{JOB_TRACKING_FINALIZER, Phase, Pod, items, micros, text_of};
use crate::replicaset::{claim_pods, delete_pod, pod_from_template, rank_victims};
use crate::status::{self, Condition, find, is_true};
use meta::labels::LabelSelector;
use meta::{Value, object, time};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use value::{Map, json};

const INDEX_KEY: &str = "batch.kubernetes.io/job-completion-index";
const FIRST_BACKOFF_MICROS: i64 = 10_000_000;
const BACKOFF_MICROS_MAX: i64 = 600_000_000;

/// What to do now for a Job.
pub fn plan(job: &Arc<Value>, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    let selector = job.pointer("/spec/selector").unwrap_or(&Value::Null);
    let Ok(selector) = LabelSelector::from_object(selector) else {
        return Vec::new();
    };
    if selector.is_empty() {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let deleting = job.pointer("/metadata/deletionTimestamp").is_some();
    let pods = claim_pods(job, &selector, deleting, observed.pods, &mut actions);
    if let Some(finished_micros) = finished_at(job) {
        actions.extend(
            pods.iter()
                .filter(|pod| pod.job_tracking)
                .map(|pod| drop_tracking(pod)),
        );
        actions.extend(expire(job, deleting, finished_micros, now_micros));
        return actions;
    }
    let mut round = Round::start(job, pods, now_micros);
    round.suspend_or_resume();
    round.count();
    round.judge();
    round.act(observed, deleting);
    round.finish(actions)
}

/// Lets go of a pod whose Job is gone: nobody will count it any more.
pub fn release_orphan(pod: &Pod) -> Option<Action> {
    pod.job_tracking.then(|| drop_tracking(pod))
}

fn drop_tracking(pod: &Pod) -> Action {
    Action::Patch {
        resource: PODS,
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        patch_type: PatchType::Strategic,
        subresource: None,
        body: json!({"metadata": {"uid": &*pod.uid, "$deleteFromPrimitiveList/finalizers": [JOB_TRACKING_FINALIZER]}}),
    }
}

/// When a finished Job finished.
fn finished_at(job: &Value) -> Option<i64> {
    let finished = ["Complete", "Failed"]
        .into_iter()
        .find_map(|kind| crate::pod::condition(job, kind));
    let finished = finished.filter(|condition| text_of(condition, "status") == "True")?;
    Some(micros(finished.get("lastTransitionTime")).unwrap_or(0))
}

/// Deletes a finished Job when its time to live is over.
fn expire(job: &Value, deleting: bool, finished_micros: i64, now_micros: i64) -> Option<Action> {
    let ttl_seconds = object::i64_at(job, &["spec", "ttlSecondsAfterFinished"])?;
    if deleting {
        return None;
    }
    let due = finished_micros.saturating_add(ttl_seconds.saturating_mul(1_000_000));
    Some(if due <= now_micros {
        Action::delete(JOBS, job, Some(Propagation::Foreground))
    } else {
        Action::RequeueAfter(due - now_micros)
    })
}

/// How a Job ends.
#[derive(Clone, Debug)]
enum End {
    Complete,
    Failed { reason: String, message: String },
}

struct Round<'a> {
    job: &'a Arc<Value>,
    involved: Arc<Involved>,
    pods: Vec<Arc<Pod>>,
    /// None: any success ends a work queue.
    completions: Option<i64>,
    parallelism: i64,
    indexed: bool,
    only_replace_failed: bool,
    suspended: bool,
    start_time: Option<String>,
    conditions: Vec<Value>,
    completed: Indexes,
    succeeded: i64,
    failed: i64,
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    /// Pods that may lose their finalizer once the status is written.
    settled: Vec<Arc<Pod>>,
    /// More pods have ended than one status may list.
    more_to_count: bool,
    end: Option<End>,
    events: Vec<Action>,
    changes: Vec<Action>,
    requeue_micros: Option<i64>,
    now_micros: i64,
}

impl<'a> Round<'a> {
    fn start(job: &'a Arc<Value>, pods: Vec<Arc<Pod>>, now_micros: i64) -> Self {
        let number = |path: &[&str]| {
            object::i64_at(job, path).map(|number| number.clamp(0, i64::from(i32::MAX)))
        };
        let completions = number(&["spec", "completions"]);
        let uncounted = |field: &str| {
            let list = items(job, &["status", "uncountedTerminatedPods", field]);
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let indexed = object::str_at(job, &["spec", "completionMode"]) == Some("Indexed");
        let completed = object::str_at(job, &["status", "completedIndexes"]).unwrap_or_default();
        let has_policy = job.pointer("/spec/podFailurePolicy").is_some();
        let replacement = object::str_at(job, &["spec", "podReplacementPolicy"]);
        Self {
            involved: Arc::new(Involved::of(job)),
            completed: Indexes::parse(completed, completions.unwrap_or(0)),
            completions,
            parallelism: number(&["spec", "parallelism"]).unwrap_or(1),
            indexed,
            only_replace_failed: replacement.map_or(has_policy, |policy| policy == "Failed"),
            suspended: object::bool_at(job, &["spec", "suspend"]).unwrap_or(false),
            start_time: object::str_at(job, &["status", "startTime"]).map(str::to_owned),
            conditions: status::conditions_of(job),
            succeeded: number(&["status", "succeeded"]).unwrap_or(0),
            failed: number(&["status", "failed"]).unwrap_or(0),
            uncounted_succeeded: uncounted("succeeded"),
            uncounted_failed: uncounted("failed"),
            settled: Vec::new(),
            more_to_count: false,
            end: None,
            events: Vec::new(),
            changes: Vec::new(),
            requeue_micros: None,
            job,
            pods,
            now_micros,
        }
    }

    fn suspend_or_resume(&mut self) {
        let was_suspended = is_true(&self.conditions, "Suspended");
        if self.suspended {
            if !was_suspended {
                self.set(&Condition::new(
                    "Suspended",
                    true,
                    "JobSuspended",
                    "Job suspended",
                ));
                self.events
                    .push(Action::normal(&self.involved, "Suspended", "Job suspended"));
            }
            self.start_time = None;
            return;
        }
        if was_suspended {
            self.set(&Condition::new(
                "Suspended",
                false,
                "JobResumed",
                "Job resumed",
            ));
            self.events
                .push(Action::normal(&self.involved, "Resumed", "Job resumed"));
            self.start_time = None;
        }
        if self.start_time.is_none() {
            self.start_time = Some(time::format_seconds(self.now_micros));
        }
    }

    fn set(&mut self, condition: &Condition) {
        status::set(
            &mut self.conditions,
            condition,
            Some("lastProbeTime"),
            self.now_micros,
        );
    }

    /// Moves ended pods along the two steps of counting.
    fn count(&mut self) {
        let tracked: HashSet<&str> = self
            .pods
            .iter()
            .filter(|pod| pod.job_tracking)
            .map(|pod| &*pod.uid)
            .collect();
        let flush = |uncounted: &mut BTreeSet<String>| {
            let before = uncounted.len();
            uncounted.retain(|uid| tracked.contains(uid.as_str()));
            i64::try_from(before - uncounted.len()).unwrap_or(0)
        };
        self.succeeded += flush(&mut self.uncounted_succeeded);
        self.failed += flush(&mut self.uncounted_failed);
        let ending = ["FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .any(|kind| is_true(&self.conditions, kind));
        let mut new_indexes = Vec::new();
        let mut listed = 0;
        for pod in self.pods.iter().filter(|pod| pod.job_tracking) {
            let uid = &*pod.uid;
            let index = i64::from(pod.completion_index);
            let known =
                self.uncounted_succeeded.contains(uid) || self.uncounted_failed.contains(uid);
            let failed = pod.phase == Phase::Failed
                || (pod.phase != Phase::Succeeded
                    && pod.deletion_micros.is_some()
                    && (!self.only_replace_failed || ending));
            if !known && pod.phase == Phase::Succeeded && self.indexed {
                if self
                    .completions
                    .is_some_and(|completions| (0..completions).contains(&index))
                {
                    new_indexes.push(index);
                }
            } else if !known && (pod.phase == Phase::Succeeded || failed) {
                if failed && judge(self.job, pod) == Verdict::Ignore {
                    // Replaced without being counted.
                } else if listed == UNCOUNTED_PODS_MAX {
                    self.more_to_count = true;
                    continue;
                } else {
                    let list = if failed {
                        &mut self.uncounted_failed
                    } else {
                        &mut self.uncounted_succeeded
                    };
                    list.insert(uid.to_owned());
                    listed += 1;
                }
            } else if !known {
                continue;
            }
            self.settled.push(Arc::clone(pod));
        }
        self.completed.extend(new_indexes);
        if self.indexed {
            self.succeeded = self.completed.len();
        }
    }

    fn all_succeeded(&self) -> i64 {
        self.succeeded + count(self.uncounted_succeeded.len())
    }

    fn all_failed(&self) -> i64 {
        self.failed + count(self.uncounted_failed.len())
    }

    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pod.is_active())
    }

    /// Decides whether the Job has to end, and notes it before anything is deleted.
    fn judge(&mut self) {
        if let Some(target) = find(&self.conditions, "FailureTarget")
            .filter(|target| text_of(target, "status") == "True")
        {
            let (reason, message) = (
                text_of(target, "reason").to_owned(),
                text_of(target, "message").to_owned(),
            );
            self.end = Some(End::Failed { reason, message });
        } else if is_true(&self.conditions, "SuccessCriteriaMet") {
            self.end = Some(End::Complete);
        } else if let Some((reason, message)) = self.failure() {
            self.set(&Condition::new(
                "FailureTarget",
                true,
                reason,
                message.clone(),
            ));
            self.end = Some(End::Failed {
                reason: reason.to_owned(),
                message,
            });
        } else if !self.suspended && self.has_succeeded() {
            let message = "Reached expected number of succeeded pods";
            self.set(&Condition::new(
                "SuccessCriteriaMet",
                true,
                "CompletionsReached",
                message,
            ));
            self.end = Some(End::Complete);
        }
    }

    fn has_succeeded(&self) -> bool {
        match self.completions {
            Some(completions) => self.all_succeeded() >= completions,
            None => self.all_succeeded() > 0 && self.active().next().is_none(),
        }
    }

    fn failure(&mut self) -> Option<(&'static str, String)> {
        let failed = self.pods.iter().filter(|pod| pod.phase == Phase::Failed);
        for pod in failed {
            if let Verdict::FailJob(message) = judge(self.job, pod) {
                return Some(("PodFailurePolicy", message));
            }
        }
        let limit = object::i64_at(self.job, &["spec", "backoffLimit"]).unwrap_or(6);
        if self.all_failed() > limit || self.restarts_past(limit) {
            return Some((
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit".to_owned(),
            ));
        }
        let seconds = object::i64_at(self.job, &["spec", "activeDeadlineSeconds"])?;
        let started = time::parse(self.start_time.as_deref()?).ok()?;
        let due = started.saturating_add(seconds.saturating_mul(1_000_000));
        if due <= self.now_micros {
            return Some((
                "DeadlineExceeded",
                "Job was active longer than specified deadline".to_owned(),
            ));
        }
        self.requeue(due - self.now_micros);
        None
    }

    fn restarts_past(&self, limit: i64) -> bool {
        if object::str_at(self.job, &["spec", "template", "spec", "restartPolicy"])
            != Some("OnFailure")
        {
            return false;
        }
        let running = self
            .pods
            .iter()
            .filter(|pod| matches!(pod.phase, Phase::Running | Phase::Pending));
        let restarts: i64 = running.map(|pod| i64::from(pod.restarts)).sum();
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    fn requeue(&mut self, micros: i64) {
        self.requeue_micros = Some(
            self.requeue_micros
                .map_or(micros, |before| before.min(micros)),
        );
    }

    fn act(&mut self, observed: &Observed<'_>, deleting: bool) {
        if observed.creations_in_flight > 0 || observed.deletions_in_flight > 0 {
            return;
        }
        if self.end.is_some() {
            // They keep the finalizer: what is cut short counts as failed.
            let active: Vec<_> = self.active().take(POD_CHANGES_MAX).cloned().collect();
            let announce = self.announce();
            self.changes.extend(
                active
                    .iter()
                    .map(|pod| delete_pod(pod, Some(announce.clone()))),
            );
        } else if self.suspended {
            let active: Vec<_> = self.active().cloned().collect();
            self.remove(active);
        } else if !deleting {
            self.correct();
        }
    }

    /// Deletes pods that are not wanted; they lose the finalizer first and are never counted.
    fn remove(&mut self, pods: Vec<Arc<Pod>>) {
        let announce = self.announce();
        for pod in pods.into_iter().take(POD_CHANGES_MAX) {
            if pod.job_tracking {
                self.changes.push(drop_tracking(&pod));
            }
            self.changes.push(delete_pod(&pod, Some(announce.clone())));
        }
    }

    fn announce(&self) -> Announce {
        Announce {
            involved: Arc::clone(&self.involved),
        }
    }

    /// Creates or deletes pods so that as many run as should.
    fn correct(&mut self) {
        let mut active: Vec<Arc<Pod>> = self.active().cloned().collect();
        if self.indexed {
            let doubles = self.split_doubles(&mut active);
            self.remove(doubles);
        }
        let running = count(active.len());
        let wanted = match self.completions {
            None if self.all_succeeded() > 0 => running.min(self.parallelism),
            None => self.parallelism,
            Some(completions) => (completions - self.all_succeeded()).clamp(0, self.parallelism),
        };
        if running > wanted {
            rank_victims(&mut active, &[], self.now_micros);
            active.truncate(usize::try_from(running - wanted).unwrap_or(0));
            self.remove(active);
            return;
        }
        let terminating = if self.only_replace_failed {
            count(self.pods.iter().filter(|pod| pod.is_terminating()).count())
        } else {
            0
        };
        let missing = usize::try_from(wanted - running - terminating)
            .unwrap_or(0)
            .min(POD_CHANGES_MAX);
        if missing == 0 {
            return;
        }
        let wait = self.backoff_micros();
        if wait > 0 {
            self.requeue(wait);
        } else {
            self.create(missing, &active);
        }
    }

    /// Takes pods out of `active` that do an index somebody else does, or that is done or unknown.
    fn split_doubles(&self, active: &mut Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
        active.sort_by(|a, b| (a.created_micros, &a.uid).cmp(&(b.created_micros, &b.uid)));
        let mut taken = HashSet::new();
        let completions = self.completions.unwrap_or(0);
        let (good, doubles) = std::mem::take(active).into_iter().partition(|pod| {
            let index = i64::from(pod.completion_index);
            (0..completions).contains(&index)
                && !self.completed.contains(index)
                && taken.insert(index)
        });
        *active = good;
        doubles
    }

    fn create(&mut self, missing: usize, active: &[Arc<Pod>]) {
        let name = object::name(self.job);
        let bodies: Vec<Arc<Value>> = if self.indexed {
            let mut busy = Indexes::default();
            let terminating = self
                .pods
                .iter()
                .filter(|pod| self.only_replace_failed && pod.is_terminating());
            busy.extend(
                active
                    .iter()
                    .chain(terminating)
                    .map(|pod| i64::from(pod.completion_index))
                    .filter(|index| *index >= 0),
            );
            let indexes = self
                .completed
                .missing(&busy, self.completions.unwrap_or(0), missing);
            indexes
                .into_iter()
                .map(|index| Arc::new(indexed_pod(self.job, name, index)))
                .collect()
        } else {
            let mut pod = pod_from_template(self.job, &format!("{name}-"));
            track(&mut pod);
            let shared = Arc::new(pod);
            std::iter::repeat_n(shared, missing).collect()
        };
        let announce = self.announce();
        let namespace = object::namespace(self.job);
        self.changes
            .extend(bodies.into_iter().map(|object| Action::Create {
                resource: PODS,
                namespace: namespace.to_owned(),
                object,
                announce: Some(announce.clone()),
            }));
    }

    /// How long to wait before the next pod: 10 s after a failure, doubled with each one in a row.
    fn backoff_micros(&self) -> i64 {
        let ended = |phase: Phase| {
            let pods = self.pods.iter().filter(move |pod| pod.phase == phase);
            pods.map(|pod| pod.finished_micros.unwrap_or(pod.created_micros))
        };
        let last_success = ended(Phase::Succeeded).max().unwrap_or(i64::MIN);
        let failures = ended(Phase::Failed).filter(|at| *at > last_success);
        let (mut in_a_row, mut last) = (0u32, 0);
        for at in failures {
            in_a_row += 1;
            last = last.max(at);
        }
        if in_a_row == 0 {
            return 0;
        }
        let delay = FIRST_BACKOFF_MICROS
            .saturating_mul(1 << (in_a_row - 1).min(16))
            .min(BACKOFF_MICROS_MAX);
        last.saturating_add(delay).saturating_sub(self.now_micros)
    }

    /// The last word, once no pod runs and every one is counted.
    fn conclude(&mut self) -> Option<String> {
        let quiet = !self.pods.iter().any(|pod| !pod.has_ended())
            && self.uncounted_succeeded.is_empty()
            && self.uncounted_failed.is_empty()
            && !self.more_to_count;
        match self.end.clone().filter(|_| quiet)? {
            End::Complete => {
                let message = "Reached expected number of succeeded pods";
                self.set(&Condition::new(
                    "Complete",
                    true,
                    "CompletionsReached",
                    message,
                ));
                self.events
                    .push(Action::normal(&self.involved, "Completed", "Job completed"));
                Some(time::format_seconds(self.now_micros))
            }
            End::Failed { reason, message } => {
                self.set(&Condition::new("Failed", true, &reason, message.clone()));
                let reason = match reason.as_str() {
                    "DeadlineExceeded" => "DeadlineExceeded",
                    "PodFailurePolicy" => "PodFailurePolicy",
                    _ => "BackoffLimitExceeded",
                };
                self.events
                    .push(Action::warning(&self.involved, reason, message));
                None
            }
        }
    }

    fn finish(mut self, mut actions: Vec<Action>) -> Vec<Action> {
        let completion_time = self.conclude();
        let mut uncounted = Map::new();
        for (field, list) in [
            ("succeeded", &self.uncounted_succeeded),
            ("failed", &self.uncounted_failed),
        ] {
            if !list.is_empty() {
                uncounted.insert(field.to_owned(), json!(list));
            }
        }
        let mut status = status::pruned(json!({
            "startTime": self.start_time,
            "completionTime": completion_time,
            "active": self.active().count(),
            "succeeded": self.succeeded,
            "failed": self.failed,
            "completedIndexes": self.completed.to_string(),
            "conditions": self.conditions,
        }));
        status["uncountedTerminatedPods"] = Value::Object(uncounted);
        status["ready"] = json!(self.active().filter(|pod| pod.is_ready()).count());
        status["terminating"] = json!(self.pods.iter().filter(|pod| pod.is_terminating()).count());
        let stored = status::pruned(self.job.get("status").cloned().unwrap_or_else(|| json!({})));
        if stored != status::pruned(status.clone()) {
            actions.push(Action::update_status(
                JOBS,
                status::with_status(self.job, status),
            ));
        }
        actions.extend(self.settled.iter().map(|pod| drop_tracking(pod)));
        actions.extend(self.events);
        actions.extend(self.changes);
        if self.more_to_count {
            actions.push(Action::RequeueAfter(0));
        } else {
            actions.extend(self.requeue_micros.map(Action::RequeueAfter));
        }
        actions
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn track(pod: &mut Value) {
    let mut finalizers = items(pod, &["metadata", "finalizers"]).to_vec();
    finalizers.push(json!(JOB_TRACKING_FINALIZER));
    object::set_at(pod, &["metadata", "finalizers"], Value::Array(finalizers));
}

/// A pod that does one index: it says so in annotation, label, host name and environment.
fn indexed_pod(job: &Value, name: &str, index: i64) -> Value {
    let mut pod = pod_from_template(job, &format!("{name}-{index}-"));
    track(&mut pod);
    for map in ["annotations", "labels"] {
        object::set_at(
            &mut pod,
            &["metadata", map, INDEX_KEY],
            json!(index.to_string()),
        );
    }
    if object::str_at(&pod, &["spec", "hostname"])
        .unwrap_or_default()
        .is_empty()
    {
        object::set_at(
            &mut pod,
            &["spec", "hostname"],
            json!(format!("{name}-{index}")),
        );
    }
    let variable = json!({
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{INDEX_KEY}']")}},
    });
    for kind in ["containers", "initContainers"] {
        let containers = pod
            .pointer_mut(&format!("/spec/{kind}"))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if !items(container, &["env"])
                .iter()
                .any(|entry| text_of(entry, "name") == "JOB_COMPLETION_INDEX")
            {
                let mut env = items(container, &["env"]).to_vec();
                env.push(variable.clone());
                object::set_at(container, &["env"], Value::Array(env));
            }
        }
    }
    pod
}
