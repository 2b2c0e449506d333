//! What the acceptance tests share: a running plane, a real kubectl in front of it, raw requests, and patience.
//!
//! Knows nothing of how the plane works inside: it starts the binary, reads the kubeconfig that it writes, and
//! talks to it as anybody would.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code, unused_imports)]

mod folder;
mod http;
mod kubectl;
mod plane;
mod stages;

use std::time::{Duration, Instant};

pub(crate) use folder::Folder;
pub(crate) use http::Answer;
pub(crate) use kubectl::{Background, Kubectl, Run};
pub(crate) use plane::{
    Exit, Plane, PlaneOptions, free_port, megaplane, run_to_end, terminate, wait,
};
pub(crate) use stages::{Stage, run_stages};

/// How long anything that should happen soon may take, on a loaded machine with two cores.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Looks until `look` gives a value, and panics with its last complaint when `SOON` has passed.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    eventually_within(SOON, what, look)
}

/// [`eventually`] with a deadline of one's own.
pub(crate) fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(value) => return value,
            Err(complaint) if Instant::now() > deadline => {
                panic!(
                    "{what}: not within {} s; last seen: {complaint}",
                    patience.as_secs()
                )
            }
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// A number from the environment, or the default.
pub(crate) fn number_from_env(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// The path of one of the manifests.
pub(crate) fn manifest(name: &str) -> String {
    format!("{}/tests/manifests/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Asserts that a text has all of the parts, and shows it if not.
#[track_caller]
pub(crate) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// Asserts that the rows of a table have these column headings.
#[track_caller]
pub(crate) fn assert_columns(table: &str, columns: &str) {
    let header: Vec<&str> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(header.join(" "), columns, "columns of:\n{table}");
}
