//! A look at what a batch is about, before any of it is taken in.
//!
//! ```text
//!   keys ──► index ──► rows ──► pods ──► their texts, their new nodes
//! ```
//!
//! In a large cluster what an event concerns is in no cache. One event after another waits for each piece of it; here
//! the pieces of many are asked for one kind at a time, none of which depends on the others, so that the waits overlap.
//! Decides nothing and keeps nothing: leaving it out changes the time only.

use std::hint::black_box;

use client::Change;
use reconcile::Pod;

use crate::cluster::{Cluster, Kept};
use crate::feed::{Seen, SeenBody};

/// Below so many changes nothing overlaps.
const WORTH_CHANGES_MIN: usize = 4;

impl Cluster {
    /// Brings near what these changes will need.
    pub(crate) fn look_ahead(&self, place: usize, changes: &[Change<Seen>]) {
        let (Some(mirror), true) = (self.mirror(place), changes.len() >= WORTH_CHANGES_MIN) else {
            return;
        };
        let named = changes.iter().filter_map(|change| match change {
            Change::Apply(key, seen) => Some((key, Some(seen))),
            Change::Delete(key) => Some((key, None)),
            _ => None,
        });
        let guesses: Vec<_> = named.map(|(key, seen)| (mirror.guess(key), seen)).collect();
        let rows: Vec<(Option<&Kept>, Option<&Seen>)> = guesses
            .iter()
            .map(|(slot, seen)| (slot.and_then(|slot| mirror.at(slot)), *seen))
            .collect();
        // A key is compared to its end.
        let keys = guesses.iter().filter_map(|(slot, _)| mirror.key((*slot)?));
        black_box(keys.map(last).fold(0, u8::wrapping_add));
        let pods = || rows.iter().filter_map(|(row, _)| row.and_then(Kept::pod));
        black_box(pods().map(|pod| fields(pod)).fold(0, usize::wrapping_add));
        black_box(pods().map(|pod| texts(pod)).fold(0, u8::wrapping_add));
        let bound = rows
            .iter()
            .filter_map(|(row, seen)| match &seen.as_ref()?.body {
                SeenBody::Pod(new) if !new.node_name.is_empty() => {
                    let old = row.and_then(Kept::pod);
                    old.is_none_or(|old| old.node_name.is_empty())
                        .then_some(&*new.node_name)
                }
                _ => None,
            });
        for node in bound {
            let _ = black_box(self.guess_node(node));
        }
    }
}

/// A pod is a few cache lines, and these are in all of them.
fn fields(pod: &Pod) -> usize {
    pod.uid.len()
        + pod.node_name.len()
        + pod.ip.len()
        + pod.claims.len()
        + usize::from(pod.controller_uid.is_some())
        + usize::from(pod.volumes.is_some())
        + usize::from(pod.job_tracking)
}

/// What is compared with what it is now.
fn texts(pod: &Pod) -> u8 {
    [&pod.uid, &pod.node_name, &pod.ip]
        .into_iter()
        .chain(&pod.controller_uid)
        .map(|text| last(text))
        .fold(0, u8::wrapping_add)
}

fn last(text: &str) -> u8 {
    text.as_bytes().last().copied().unwrap_or(0)
}
