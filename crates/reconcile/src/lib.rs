//! Controllers' decisions: one room per controller, each a pure `plan(desired, observed, now)`.
//!
//! Knows objects and time that it is told. Knows no client, queue, clock or randomness: the shell
//! `controllers` observes, asks for a plan, carries it out in order and plans again on any change.
//!
//! | room | wants | by |
//! |---|---|---|
//! | [`deployment`] | a rolled-out template | ReplicaSets |
//! | [`replicaset`] | a number of pods (also for ReplicationControllers) | Pods |
//! | [`daemonset`] | a pod on each matching node | Pods |
//! | [`statefulset`] | numbered pods with lasting names and claims | Pods, claims |
//! | [`job`] | a number of finished pods, each counted once | Pods |
//! | [`cronjob`] | a Job at each time of a schedule | Jobs |
//! | [`endpointslice`] | the addresses behind a Service | EndpointSlices |
//! | [`garbage`] | no object outlives its owners | deletions |
//! | [`namespace`] | a terminating namespace is emptied, then finalized | deletions |
//! | [`serviceaccount`] | `default` account and `kube-root-ca.crt` in each namespace | creations |
//! | [`nodelifecycle`] | silent nodes are marked, tainted, and their pods evicted | patches, deletions |
//! | [`resourceclaim`] | a claim for each pod that asks for one by template, free when its users are gone | claims, patches |
//! | [`podgc`] | no pod stays bound to a vanished node | deletions |

pub mod action;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod endpointslice;
pub mod garbage;
pub mod job;
pub mod namespace;
pub mod nodelifecycle;
pub mod owner;
pub mod pod;
pub mod podgc;
pub mod replicaset;
pub mod resourceclaim;
mod revision;
pub mod serviceaccount;
pub mod statefulset;
mod status;
#[cfg(test)]
mod toy;

pub use action::{Action, Announce, EventType, Involved, PatchType, Propagation, ResourceRef};
pub use pod::Pod;
