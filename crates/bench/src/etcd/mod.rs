//! Benchmarks of `megaplane store` as a process, over the network, with a real etcd beside it if one is named.
//!
//! ```text
//!   server: a process and a folder      wire: one connection of our own codec      fill, load: many of them
//!      └──────── each benchmark: the same steps for every server, then the figures side by side ────────┘
//! ```
//!
//! The servers are processes of their own, so that their processor time is told from the load's. They write to the
//! temporary folder with the durability they have by default: every write is on the medium before it is answered.

mod fill;
mod load;
pub mod pages;
pub mod pause;
pub mod recovery;
mod server;
pub mod txn;
pub mod watches;
mod wire;

use std::future::Future;

use crate::report::Report;
use server::Kind;

/// Runs on the runtime of a load: one thread, so that a server has the other core.
fn on_runtime<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(work)
}

/// Measures our server, then etcd if there is one, and puts the figures of both into the report; etcd's with its name
/// before them.
fn beside<F>(
    report: Report,
    mut measured: impl FnMut(&Kind) -> Result<F, String>,
    tell: impl Fn(Report, &str, &F) -> Report,
    compare: impl Fn(Report, &F, &F) -> Report,
) -> Result<Report, String> {
    let ours = measured(&Kind::ours("own"))?;
    let report = tell(report, "", &ours);
    let Some(kind) = Kind::etcd() else {
        return Ok(report.text("etcd", "not compared: MEGAPLANE_ETCD names none"));
    };
    let theirs = measured(&kind)?;
    Ok(compare(tell(report, "etcd_", &theirs), &ours, &theirs))
}

/// The value that so many thousandths of the samples do not exceed. Sorts them.
fn at_thousandth(samples: &mut [u32], thousandths: usize) -> f64 {
    samples.sort_unstable();
    let place = samples.len().saturating_sub(1) * thousandths / 1_000;
    samples.get(place).map_or(0.0, |sample| f64::from(*sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_places_in_the_sorted_samples() {
        let mut samples: Vec<u32> = (0..=1_000).rev().collect();
        assert_eq!(at_thousandth(&mut samples, 500), 500.0);
        assert_eq!(at_thousandth(&mut samples, 999), 999.0);
        assert_eq!(at_thousandth(&mut samples, 1_000), 1_000.0);
        assert_eq!(at_thousandth(&mut [], 999), 0.0);
    }
}
