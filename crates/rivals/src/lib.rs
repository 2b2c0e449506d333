//! Our scheduler against the real one, decision by decision.
//!
//! Starts an etcd, a kube-apiserver and a kube-scheduler 1.20, makes random nodes and pods, and lets the real
//! scheduler decide on one pod at a time. Our core is given the same objects: it must find the same nodes feasible,
//! with the same scores, and the real choice among its best; where pods are evicted, the same ones. Stories can be
//! kept: `cargo test -p placement` judges those in its `tests/recorded` without any Kubernetes.
//!
//! Workshop only. Does not know other releases: 1.20.2 is the newest whose sources Debian packages whole.

pub mod api;
pub mod generate;
#[path = "../../placement/tests/recorded/judge.rs"]
pub mod judge;
pub mod listen;
pub mod peers;
pub mod play;
