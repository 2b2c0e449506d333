//! Leader election over a Lease, as client-go does it: of several schedulers one works, the others stand by.
//!
//! ```text
//!   standing by ─(Lease free, ended or ours)─► leading ─(not renewed within the deadline)─► lost
//! ```
//!
//! Whether a Lease has ended is told by how long it has not changed before our own eyes, never by comparing clocks
//! of two machines. Does not know what the leader does.

use std::time::{Duration, Instant};

use client::{Client, ClientError};
use meta::Value;
use value::json;

use crate::now_micros;
use crate::settings::LeaderElection;

/// Tries are spread over up to this many retry periods more (client-go: JitterFactor).
const JITTER: f64 = 1.2;

/// What is seen of the Lease, and since when.
#[derive(Debug)]
struct Seen {
    spec: Value,
    since: Instant,
}

/// One candidate.
pub struct Elector {
    client: Client,
    config: LeaderElection,
    identity: String,
    seen: Option<Seen>,
    random: u64,
}

/// What is to be done about the Lease.
#[derive(Debug, PartialEq)]
enum Step {
    /// Another one leads.
    StandBy,
    /// Write this `spec`.
    Write(Value),
}

impl Elector {
    /// A candidate of that name; no two may have the same.
    #[must_use]
    pub fn new(client: Client, config: LeaderElection, identity: &str, seed: u64) -> Elector {
        Elector {
            client: client.with_user_agent("kube-scheduler/v1.36.0 megaplane/leader-election"),
            config,
            identity: identity.to_owned(),
            seen: None,
            random: seed | 1,
        }
    }

    /// Stands by until it leads.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot read or write the leader's Lease"),
            }
            let share = crate::next_random(&mut self.random) as f64 / u64::MAX as f64;
            tokio::time::sleep(self.config.retry_period.mul_f64(1.0 + JITTER * share)).await;
        }
    }

    /// Renews as long as that succeeds; returns when the lead is lost.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            let left = self.config.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                // Somebody else has it.
                Ok(Ok(false)) if !self.is_ours() => return,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the leader's Lease"),
                Ok(Ok(false)) | Err(_) => {}
            }
            if renewed.elapsed() >= self.config.renew_deadline {
                return;
            }
        }
    }

    /// Gives the lead to whoever comes next, if it is ours.
    pub async fn release(&mut self) {
        if !self.is_ours() {
            return;
        }
        let resource = lease_resource();
        let (namespace, name) = (&self.config.namespace, &self.config.name);
        let Ok(mut lease) = self.client.get(resource, namespace, name).await else {
            return;
        };
        if lease["spec"]["holderIdentity"] != self.identity.as_str() {
            return;
        }
        let now = meta::time::format_micros(now_micros());
        let transitions = lease["spec"]["leaseTransitions"].clone();
        lease["spec"] = json!({"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now,
            "renewTime": now, "leaseTransitions": transitions});
        let written = self.client.update(resource, namespace, name, "", &lease);
        if let Err(error) = written.await {
            tracing::warn!(%error, "cannot give the leader's Lease back");
        }
        self.seen = None;
    }

    fn is_ours(&self) -> bool {
        let seen = self.seen.as_ref();
        seen.is_some_and(|seen| seen.spec["holderIdentity"] == self.identity.as_str())
    }

    /// One try to become or remain the leader.
    async fn attempt(&mut self) -> Result<bool, ClientError> {
        let resource = lease_resource();
        let (namespace, name) = (self.config.namespace.clone(), self.config.name.clone());
        let now = now_micros();
        let mut lease = match self.client.get(resource, &namespace, &name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": self.own_spec(now, now_text(now), 0)});
                let created = self.client.create(resource, &namespace, &lease).await?;
                self.see(&created["spec"]);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.see(&lease["spec"]);
        match self.decide(&lease["spec"], now) {
            Step::StandBy => Ok(false),
            Step::Write(spec) => {
                lease["spec"] = spec;
                // The version that was read guards it: of two that write, one fails.
                let updated = self.client.update(resource, &namespace, &name, "", &lease);
                let updated = updated.await?;
                self.see(&updated["spec"]);
                Ok(true)
            }
        }
    }

    fn see(&mut self, spec: &Value) {
        if self.seen.as_ref().is_none_or(|seen| seen.spec != *spec) {
            let (spec, since) = (spec.clone(), Instant::now());
            self.seen = Some(Seen { spec, since });
        }
    }

    fn decide(&self, spec: &Value, now: i64) -> Step {
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        let transitions = spec["leaseTransitions"].as_i64().unwrap_or(0);
        if holder == self.identity {
            let since = spec["acquireTime"].clone();
            return Step::Write(self.own_spec(now, since, transitions));
        }
        let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or(0);
        let unchanged = self
            .seen
            .as_ref()
            .map_or(Duration::ZERO, |s| s.since.elapsed());
        if !holder.is_empty() && unchanged < Duration::from_secs(seconds) {
            return Step::StandBy;
        }
        Step::Write(self.own_spec(now, now_text(now), transitions + 1))
    }

    fn own_spec(&self, now: i64, acquired: Value, transitions: i64) -> Value {
        json!({"holderIdentity": self.identity, "leaseDurationSeconds": self.config.lease_duration.as_secs(),
            "acquireTime": acquired, "renewTime": now_text(now), "leaseTransitions": transitions})
    }
}

fn now_text(micros: i64) -> Value {
    meta::time::format_micros(micros).into()
}

fn lease_resource() -> &'static schema::Resource {
    crate::work::resource("coordination.k8s.io", "leases")
}
