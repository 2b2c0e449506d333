//! Many short stories on one plane: run side by side, all of them even if one fails, with one account at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::Plane;

/// A story with its name. Each keeps to a namespace of its own.
pub(crate) type Stage = (&'static str, fn(&Plane));

/// Stages at a time: a kubectl mostly waits or computes for a tenth of a second.
const LANES: usize = 4;

/// Runs all stages whose name contains `MEGAPLANE_TEST_STAGES` (all, if that is not set), and panics at the end if
/// any failed.
pub(crate) fn run_stages(plane: &Plane, stages: &[Stage]) {
    let wanted = std::env::var("MEGAPLANE_TEST_STAGES").unwrap_or_default();
    let stages: Vec<&Stage> = stages
        .iter()
        .filter(|(name, _)| wanted.split(',').any(|part| name.contains(part)))
        .collect();
    assert!(!stages.is_empty(), "no stage is called {wanted:?}");
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES.min(stages.len()) {
            scope.spawn(|| {
                while let Some((name, stage)) = stages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| stage(plane)));
                    let seconds = begun.elapsed().as_secs_f32();
                    match outcome {
                        Ok(()) => println!("stage {name}: {seconds:.1} s"),
                        Err(_) => {
                            println!("stage {name}: FAILED after {seconds:.1} s");
                            failures.lock().unwrap().push(*name);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} stages failed: {}\nlog of the plane:\n{}",
        failures.len(),
        stages.len(),
        failures.join(", "),
        plane.log()
    );
}
