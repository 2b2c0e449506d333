//! One round of a Deployment: claim ReplicaSets, find the newest, scale, report.
//!
//! The order is upstream's: at most one kind of step a round, so that the next round sees its effect.

use super::report::{self, Report};
use super::rollout::{self, Scaled};
use super::sets::{Desired, Set, new_set, template_hash};
use super::{Observed, REVISION_ANNOTATION};
use crate::action::{Action, DEPLOYMENTS, Involved, PatchType, REPLICA_SETS};
use crate::owner::{self, Claim, claim};
use crate::pod::controller_uid;
use meta::labels::LabelSelector;
use meta::{Value, object};
use std::sync::Arc;
use value::json;

/// What to do now for a Deployment.
pub fn plan(deployment: &Arc<Value>, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    let desired = Desired::read(deployment);
    let involved = Arc::new(Involved::of(deployment));
    let selector = deployment.pointer("/spec/selector").unwrap_or(&Value::Null);
    let Ok(selector) = LabelSelector::from_object(selector) else {
        return Vec::new();
    };
    if selector.is_empty() {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        let mut actions = vec![Action::warning(&involved, "SelectingAll", message)];
        actions.extend(
            report::seen(deployment).map(|object| Action::update_status(DEPLOYMENTS, object)),
        );
        return actions;
    }
    let (own, claims) = claim_sets(&desired, &selector, observed);
    if !claims.is_empty() {
        return claims; // their events bring us back, with the new resourceVersions
    }
    let mut round = Round::start(desired, involved, own, now_micros);
    round.run(observed);
    round.finish()
}

fn claim_sets(
    desired: &Desired<'_>,
    selector: &LabelSelector,
    observed: &Observed<'_>,
) -> (Vec<Set>, Vec<Action>) {
    let (mut own, mut claims) = (Vec::new(), Vec::new());
    let namespace = object::namespace(desired.object);
    for set in observed.replica_sets {
        let labels = set.pointer("/metadata/labels").unwrap_or(&Value::Null);
        let deleting = set.pointer("/metadata/deletionTimestamp").is_some();
        let (name, uid) = (object::name(set), object::uid(set));
        let matches = selector.matches(labels);
        match claim(
            object::uid(desired.object),
            desired.deleting,
            controller_uid(set),
            matches,
            deleting,
        ) {
            Claim::Own => own.push(Set::read(set)),
            Claim::Adopt => claims.push(owner::adopt(
                desired.object,
                REPLICA_SETS,
                namespace,
                name,
                uid,
            )),
            Claim::Release => claims.push(owner::release(
                desired.object,
                REPLICA_SETS,
                namespace,
                name,
                uid,
            )),
            Claim::Leave => {}
        }
    }
    (own, claims)
}

/// The state of one round.
struct Round<'a> {
    desired: Desired<'a>,
    involved: Arc<Involved>,
    newest: Option<Set>,
    /// The newest set's body, if this round creates it.
    created: Option<Arc<Value>>,
    old: Vec<Set>,
    scaled: Vec<Scaled>,
    deletions: Vec<Action>,
    report: Report,
    requeue_micros: Option<i64>,
    now_micros: i64,
}

impl<'a> Round<'a> {
    fn start(
        desired: Desired<'a>,
        involved: Arc<Involved>,
        mut own: Vec<Set>,
        now_micros: i64,
    ) -> Self {
        own.sort_by(|a, b| {
            a.created_micros
                .cmp(&b.created_micros)
                .then_with(|| a.name.cmp(&b.name))
        });
        let position = own.iter().position(|set| set.serves(desired.template()));
        let newest = position.map(|position| own.remove(position));
        Self {
            report: Report::start(&desired),
            desired,
            involved,
            newest,
            created: None,
            old: own,
            scaled: Vec::new(),
            deletions: Vec::new(),
            requeue_micros: None,
            now_micros,
        }
    }

    fn run(&mut self, observed: &Observed<'_>) {
        if self.desired.deleting {
            return;
        }
        self.report.note_pause(&self.desired, self.now_micros);
        self.follow_newest();
        let resized = rollout::is_resized(&self.desired, self.newest.as_ref(), &self.old);
        if self.desired.paused || resized {
            rollout::resize(
                &self.desired,
                &mut self.newest,
                &mut self.old,
                &mut self.scaled,
            );
            if self.desired.paused {
                self.clean_up();
            }
            return;
        }
        if self.desired.rolling {
            self.roll(observed)
        } else {
            self.recreate(observed)
        }
        self.requeue_micros = self.report.note_progress(
            &self.desired,
            self.newest.as_ref(),
            &self.old,
            self.now_micros,
        );
    }

    fn roll(&mut self, observed: &Observed<'_>) {
        self.ensure_newest(observed);
        let Some(newest) = &mut self.newest else {
            return;
        };
        if rollout::grow_newest(&self.desired, newest, &self.old, &mut self.scaled)
            || rollout::shrink_old(&self.desired, newest, &mut self.old, &mut self.scaled)
        {
            return;
        }
        self.clean_up_if_complete();
    }

    fn recreate(&mut self, observed: &Observed<'_>) {
        if rollout::empty_old(&self.desired, &mut self.old, &mut self.scaled) {
            return;
        }
        if self
            .old
            .iter()
            .any(|set| set.actual > 0 || (observed.live_pods)(&set.uid) > 0)
        {
            return; // two versions must never run side by side
        }
        self.ensure_newest(observed);
        let Some(newest) = &mut self.newest else {
            return;
        };
        if !rollout::grow_newest(&self.desired, newest, &self.old, &mut self.scaled) {
            self.clean_up_if_complete();
        }
    }

    /// Brings an existing newest set's annotations up to date.
    fn follow_newest(&mut self) {
        let revision = self.next_revision();
        if let Some(newest) = &mut self.newest {
            newest.follow(&self.desired, revision);
            self.report
                .note_found(&self.desired, &newest.name, self.now_micros);
        }
    }

    fn next_revision(&self) -> i64 {
        self.old
            .iter()
            .map(Set::revision)
            .max()
            .unwrap_or(0)
            .saturating_add(1)
    }

    /// Creates the set of this template if there is none. A name that is taken means two templates
    /// share a hash: the next round tries another.
    fn ensure_newest(&mut self, observed: &Observed<'_>) {
        if self.newest.is_some() {
            return;
        }
        let hash = template_hash(self.desired.template(), self.report.collision_count);
        let everything = self.old.iter().map(|set| set.replicas).sum();
        let replicas = rollout::new_replicas(&self.desired, everything, 0);
        let body = Arc::new(new_set(
            &self.desired,
            &hash,
            self.next_revision(),
            replicas,
        ));
        let name = object::name(&body).to_owned();
        if observed
            .replica_sets
            .iter()
            .any(|set| object::name(set) == name)
        {
            self.report.collision_count += 1;
            return;
        }
        self.report
            .note_created(&self.desired, &name, self.now_micros);
        if replicas > 0 {
            self.scaled.push(Scaled {
                name,
                from: 0,
                to: replicas,
            });
        }
        self.newest = Some(Set::read(&body));
        self.created = Some(body);
    }

    fn clean_up_if_complete(&mut self) {
        if report::is_complete(&self.desired, self.newest.as_ref(), &self.old) {
            self.clean_up();
        }
    }

    /// Deletes the oldest emptied sets beyond the revision history limit.
    fn clean_up(&mut self) {
        let Some(limit) = self.desired.revision_history_limit else {
            return;
        };
        let alive = |set: &&Set| set.object.pointer("/metadata/deletionTimestamp").is_none();
        let mut sets: Vec<&Set> = self.old.iter().filter(alive).collect();
        sets.sort_by_key(|set| (set.revision(), set.created_micros));
        let surplus = sets.len().saturating_sub(limit);
        for set in sets.into_iter().take(surplus) {
            let generation = object::i64_at(&set.object, &["metadata", "generation"]).unwrap_or(0);
            let seen = object::i64_at(&set.object, &["status", "observedGeneration"]).unwrap_or(0);
            if set.actual == 0 && set.replicas == 0 && generation <= seen {
                self.deletions
                    .push(Action::delete(REPLICA_SETS, &set.object, None));
            }
        }
    }

    fn finish(self) -> Vec<Action> {
        let mut actions = Vec::new();
        match (&self.created, &self.newest) {
            (Some(body), _) => actions.push(Action::Create {
                resource: REPLICA_SETS,
                namespace: self.involved.namespace.clone(),
                object: Arc::clone(body),
                announce: None,
            }),
            (None, Some(newest)) => actions.extend(newest.write()),
            (None, None) => {}
        }
        actions.extend(self.old.iter().filter_map(Set::write));
        for Scaled { name, from, to } in &self.scaled {
            let direction = if to > from { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
            actions.push(Action::normal(&self.involved, "ScalingReplicaSet", message));
        }
        actions.extend(self.deletions);
        let status = self.report.finish(
            &self.desired,
            self.newest.as_ref(),
            &self.old,
            self.now_micros,
        );
        actions.extend(status.map(|object| Action::update_status(DEPLOYMENTS, object)));
        if !self.desired.deleting {
            actions.extend(
                self.newest
                    .as_ref()
                    .and_then(|newest| note_revision(self.desired.object, newest)),
            );
        }
        actions.extend(self.requeue_micros.map(Action::RequeueAfter));
        actions
    }
}

/// The Deployment shows the revision of its newest set. Patched after the status was written, without
/// a resourceVersion, so that neither write stands in the other's way.
fn note_revision(deployment: &Value, newest: &Set) -> Option<Action> {
    let revision = newest.annotation(REVISION_ANNOTATION)?;
    let noted = deployment
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(REVISION_ANNOTATION));
    (noted.and_then(Value::as_str) != Some(revision)).then(|| Action::Patch {
        resource: DEPLOYMENTS,
        namespace: object::namespace(deployment).to_owned(),
        name: object::name(deployment).to_owned(),
        patch_type: PatchType::Merge,
        subresource: None,
        body: json!({"metadata": {"annotations": {REVISION_ANNOTATION: revision}}}),
    })
}
