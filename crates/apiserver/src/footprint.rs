//! Gauges of what each kind holds beside its objects: open watches, and kept versions. Counted when a scrape comes.
//!
//! Bytes of objects and history are told by `probes.rs`; the bytes of keys and indices are part of the objects'.

use std::fmt::Write as _;

use crate::state::State;

/// Writes the gauges of every kind that has any.
pub fn write(state: &State, text: &mut String) {
    let mut kinds: Vec<_> = state
        .all()
        .filter(|served| served.is_direct())
        .map(|served| {
            let resource = served.resource;
            (resource.group, resource.resource, served.collection.stats())
        })
        .collect();
    kinds.sort_by_key(|(group, resource, _)| (*group, *resource));
    kinds.dedup_by_key(|(group, resource, _)| (*group, *resource));
    for (name, help, of) in [
        (
            "megaplane_collection_watchers",
            "Open watches by resource.",
            (|stats| stats.watchers as u64) as fn(&store::CollectionStats) -> u64,
        ),
        (
            "megaplane_collection_history_entries",
            "Versions kept for watchers that come back, by resource.",
            |stats| stats.history_entries,
        ),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (group, resource, stats) in &kinds {
            let value = of(stats);
            if value > 0 {
                let _ = writeln!(
                    text,
                    "{name}{{group=\"{group}\",resource=\"{resource}\"}} {value}"
                );
            }
        }
    }
}
