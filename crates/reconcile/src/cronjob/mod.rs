//! CronJob: a Job at each time of a schedule.
//!
//! Knows Jobs as whole objects. Knows UTC only: a CronJob of another time zone is told so and starts nothing.
//!
//! ```text
//! schedule.rs   the five fields, and the times they mean
//! plan.rs       which Job to start, which to delete, and the status
//! ```

mod plan;
#[cfg(test)]
mod plan_tests;
mod schedule;

use meta::Value;
use std::sync::Arc;

pub use plan::plan;
pub use schedule::Schedule;

/// Missed times after which the user is warned, as upstream.
pub const MISSED_TIMES_MAX: usize = 100;

/// What the shell has seen around a CronJob.
pub struct Observed<'a> {
    /// Jobs that the CronJob controls.
    pub jobs: &'a [Arc<Value>],
    /// Whether a Job of this name exists in the namespace.
    pub has_job: &'a dyn Fn(&str) -> bool,
}
