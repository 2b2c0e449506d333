//! Fault scripts: what happens to which nodes, and when.
//!
//! ```yaml
//! steps:
//! - {at: 30s, do: silence, nodes: {zones: [zone-a]}}        # no renewals, no status, no pod moves
//! - {at: 2m, do: recover, nodes: {zones: [zone-a]}}         # all come back at once …
//! - {at: 3m, do: recover, within: 20s}                      # … or one after the other; without nodes: all
//! - {at: 4m, do: slow, factor: 10, nodes: {percent: 5}}     # pods start ten times slower
//! - {at: 5m, do: skew, by: -30s, nodes: {racks: [zone-b-r1]}}
//! - {at: 6m, do: restart, down: 20s, nodes: {names: [node-0000007]}}
//! - {at: 7m, do: storm}                                     # every client connects, lists and renews anew
//! ```
//!
//! `percent` takes the same nodes every time, so that who fell silent can be called back. Pure: a script is text, and a
//! selection is a question about a place. Does not know who carries it out.

use std::time::Duration;

use serde::Deserialize;

use crate::config::{tenths, time};
use crate::layout::{Layout, Place};
use crate::node::node_index;

/// Steps of one script.
pub const STEPS_MAX: usize = 10_000;
/// Names, zones, racks or shapes that one step may list.
const LISTED_MAX: usize = 100_000;
/// Latest time of a step, and longest time that something takes.
const TIME_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Largest shift of a clock.
const SKEW_MAX: Duration = Duration::from_secs(86_400);

/// What is to happen, in the order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultScript {
    pub(crate) steps: Vec<FaultStep>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FaultStep {
    /// Since the script began.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) nodes: Selection,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Silence,
    Recover { within: Duration },
    Slow { tenths: u16 },
    Skew { millis: i32 },
    Restart { down: Duration },
    Storm,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Silence => "silence",
            Fault::Recover { .. } => "recover",
            Fault::Slow { .. } => "slow",
            Fault::Skew { .. } => "skew",
            Fault::Restart { .. } => "restart",
            Fault::Storm => "storm",
        }
    }
}

/// Which nodes: those that meet everything that is said. Nothing said: all.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    #[serde(default)]
    zones: Vec<String>,
    #[serde(default)]
    racks: Vec<String>,
    #[serde(default)]
    shapes: Vec<String>,
    #[serde(default)]
    names: Vec<String>,
    percent: Option<f64>,
}

impl Selection {
    /// The selected nodes' places in a fleet of `nodes`, in order.
    pub(crate) fn of(&self, layout: &Layout, nodes: usize) -> Vec<u32> {
        let is_selected = |index: &u32| {
            let index = *index as usize;
            self.takes_percent(index) && self.takes(&layout.place(index))
        };
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        if self.names.is_empty() {
            return (0..nodes).filter(is_selected).collect();
        }
        let named = self.names.iter().filter_map(|name| node_index(name));
        let mut named: Vec<u32> = named
            .filter_map(|index| u32::try_from(index).ok().filter(|index| *index < nodes))
            .filter(is_selected)
            .collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    fn takes(&self, place: &Place<'_>) -> bool {
        let has =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
        has(&self.zones, place.zone)
            && has(&self.shapes, &place.shape.name)
            && (self.racks.is_empty()
                || place
                    .rack_name()
                    .is_some_and(|rack| self.racks.contains(&rack)))
    }

    /// A share of the nodes that looks drawn by lot, and is the same every time.
    fn takes_percent(&self, index: usize) -> bool {
        let Some(percent) = self.percent else {
            return true;
        };
        // The finisher of SplitMix64: neighbours come out unlike.
        let mut word = (index as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((word >> 11) as f64) * 100.0 < percent * ((1u64 << 53) as f64)
    }

    fn check(&self, layout: &Layout) -> Result<(), String> {
        let lists = [&self.zones, &self.racks, &self.shapes, &self.names];
        if lists.iter().any(|list| list.len() > LISTED_MAX) {
            return Err(format!("a list names more than {LISTED_MAX}"));
        }
        if let Some(zone) = self
            .zones
            .iter()
            .find(|zone| !layout.zones().contains(zone))
        {
            return Err(format!("there is no zone {zone:?}"));
        }
        let is_unknown = |name: &&String| !layout.shapes().iter().any(|shape| shape.name == **name);
        if let Some(name) = self.shapes.iter().find(is_unknown) {
            return Err(format!("there is no shape {name:?}"));
        }
        let has_rack = |name: &str| {
            name.rsplit_once("-r").is_some_and(|(zone, number)| {
                layout.zones().iter().any(|known| known == zone)
                    && number
                        .parse()
                        .is_ok_and(|number: u32| number < layout.racks)
            })
        };
        if let Some(name) = self.racks.iter().find(|name| !has_rack(name)) {
            return Err(format!("there is no rack {name:?}"));
        }
        if let Some(name) = self.names.iter().find(|name| node_index(name).is_none()) {
            return Err(format!("there is no node {name:?}"));
        }
        if self
            .percent
            .is_some_and(|percent| !(0.0..=100.0).contains(&percent))
        {
            return Err("percent: it must be from 0 to 100".into());
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    steps: Vec<FileStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStep {
    at: String,
    #[serde(rename = "do")]
    verb: String,
    #[serde(default)]
    nodes: Selection,
    within: Option<String>,
    factor: Option<f64>,
    by: Option<String>,
    down: Option<String>,
}

impl FaultScript {
    /// Reads a script for a fleet of this layout. Empty text is a script in which nothing happens.
    ///
    /// # Errors
    /// Text that is not YAML, unknown words, nodes that there are not, and times out of bounds, with the step's number.
    pub fn parse(text: &str, layout: &Layout) -> Result<FaultScript, String> {
        let file: Option<File> = if text.trim().is_empty() {
            None
        } else {
            serde_saphyr::from_str(text).map_err(|error| error.to_string())?
        };
        let steps = file.map(|file| file.steps).unwrap_or_default();
        if steps.len() > STEPS_MAX {
            return Err(format!("more than {STEPS_MAX} steps"));
        }
        let mut script = FaultScript::default();
        for (number, step) in steps.into_iter().enumerate() {
            let step = step.read(layout);
            script
                .steps
                .push(step.map_err(|error| format!("step {}: {error}", number + 1))?);
        }
        script.steps.sort_by_key(|step| step.at);
        Ok(script)
    }

    /// Places of the nodes that its steps name, in order: who is struck when all of it has been carried out.
    #[must_use]
    pub fn struck(&self, layout: &Layout, nodes: usize) -> Vec<u32> {
        let steps = self.steps.iter();
        let mut struck: Vec<u32> = steps
            .flat_map(|step| step.nodes.of(layout, nodes))
            .collect();
        struck.sort_unstable();
        struck.dedup();
        struck
    }

    /// How many steps it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing happens in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl FileStep {
    fn read(self, layout: &Layout) -> Result<FaultStep, String> {
        let verb = self.verb.as_str();
        for (parameter, is_given, of) in [
            ("within", self.within.is_some(), "recover"),
            ("factor", self.factor.is_some(), "slow"),
            ("by", self.by.is_some(), "skew"),
            ("down", self.down.is_some(), "restart"),
        ] {
            if is_given && verb != of {
                return Err(format!("{parameter} is for {of}, not for {verb:?}"));
            }
        }
        let missing = |what: &str| format!("{verb} needs {what}");
        let length = |field: &str, text: Option<&str>| {
            text.map_or(Ok(Duration::ZERO), |text| {
                time(field, text, Duration::ZERO, TIME_MAX)
            })
        };
        let fault = match verb {
            "silence" => Fault::Silence,
            "recover" => Fault::Recover {
                within: length("within", self.within.as_deref())?,
            },
            "slow" => Fault::Slow {
                tenths: tenths("factor", self.factor.ok_or_else(|| missing("factor"))?)?,
            },
            "skew" => {
                let text = self.by.as_deref().ok_or_else(|| missing("by"))?;
                let (sign, size) = match text.strip_prefix('-') {
                    Some(size) => (-1, size),
                    None => (1, text),
                };
                let by = time("by", size, Duration::ZERO, SKEW_MAX)?;
                Fault::Skew {
                    millis: sign * i32::try_from(by.as_millis()).unwrap_or(i32::MAX),
                }
            }
            "restart" => Fault::Restart {
                down: length("down", self.down.as_deref())?,
            },
            "storm" => Fault::Storm,
            other => {
                return Err(format!(
                    "do: {other:?} is none of silence, recover, slow, skew, restart, storm"
                ));
            }
        };
        self.nodes
            .check(layout)
            .map_err(|error| format!("nodes: {error}"))?;
        Ok(FaultStep {
            at: time("at", &self.at, Duration::ZERO, TIME_MAX)?,
            fault,
            nodes: self.nodes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<FaultScript, String> {
        FaultScript::parse(text, &Layout::default())
    }

    #[test]
    fn steps_come_in_the_order_of_time() {
        let script = parsed(
            "steps:\n- {at: 1m, do: recover, within: 5s}\n- {at: 10s, do: silence, nodes: {zones: [zone-a]}}\n\
             - {at: 2m, do: slow, factor: 2.5}\n- {at: 3m, do: skew, by: -90s}\n- {at: 4m, do: restart, down: 1s}\n\
             - {at: 5m, do: storm}\n",
        )
        .unwrap();
        let faults: Vec<Fault> = script.steps.iter().map(|step| step.fault).collect();
        assert_eq!(
            faults,
            [
                Fault::Silence,
                Fault::Recover {
                    within: Duration::from_secs(5)
                },
                Fault::Slow { tenths: 25 },
                Fault::Skew { millis: -90_000 },
                Fault::Restart {
                    down: Duration::from_secs(1)
                },
                Fault::Storm,
            ]
        );
        assert!(parsed("").unwrap().is_empty());
    }

    #[test]
    fn nodes_are_selected_by_where_they_are() {
        let layout = Layout::default();
        let of = |nodes: &str, count| {
            let text = format!("steps: [{{at: 0s, do: silence, nodes: {nodes}}}]");
            parsed(&text).unwrap().steps[0].nodes.of(&layout, count)
        };
        assert_eq!(of("{}", 3), [0, 1, 2]);
        assert_eq!(of("{zones: [zone-b]}", 8), [1, 4, 7]);
        assert_eq!(of("{racks: [zone-a-r1]}", 40), [3, 33]);
        assert_eq!(
            of("{names: [node-0000004, node-0000002, node-0000099]}", 8),
            [2, 4]
        );
        assert_eq!(of("{names: [node-0000004], zones: [zone-a]}", 8), [0u32; 0]);
        let tenth = of("{percent: 10}", 100_000);
        assert!((9_700..10_300).contains(&tenth.len()), "{}", tenth.len());
        assert_eq!(tenth, of("{percent: 10}", 100_000));
        let third = of("{percent: 10, zones: [zone-a]}", 100_000);
        assert!(third.iter().all(|index| tenth.contains(index)));
        assert_eq!(of("{percent: 100}", 5).len(), 5);
        assert_eq!(of("{percent: 0}", 5).len(), 0);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_step() {
        for (step, part) in [
            (
                "{at: 1s, do: fly}",
                "step 1: do: \"fly\" is none of silence",
            ),
            (
                "{at: 1s, do: silence, down: 3s}",
                "step 1: down is for restart, not for \"silence\"",
            ),
            ("{at: 1s, do: slow}", "step 1: slow needs factor"),
            (
                "{at: 1s, do: silence, nodes: {zones: [x]}}",
                "nodes: there is no zone \"x\"",
            ),
            (
                "{at: 1s, do: silence, nodes: {racks: [zone-a-r10]}}",
                "there is no rack \"zone-a-r10\"",
            ),
            (
                "{at: 1s, do: silence, nodes: {names: [worker]}}",
                "there is no node \"worker\"",
            ),
            (
                "{at: 1s, do: silence, nodes: {percent: 101}}",
                "percent: it must be from 0 to 100",
            ),
            ("{at: soon, do: storm}", "step 1: at: \"soon\""),
            ("{at: 1s, do: storm, nodes: {zone: a}}", "unknown field"),
        ] {
            let error = parsed(&format!("steps: [{step}]")).unwrap_err();
            assert!(error.contains(part), "{step}: {error}");
        }
    }
}
