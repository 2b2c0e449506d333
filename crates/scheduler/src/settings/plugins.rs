//! `profiles[].plugins`: which plugins run where, merged with the defaults as upstream merges them.
//!
//! ```text
//!   a point's plugins = those it names that multiPoint has, too ─► the others of multiPoint ─► the others it names
//!                       less what it disables (`*`: all that multiPoint brings)
//! ```
//!
//! Does not know arguments.

use meta::{FieldError, FieldPath};
use placement::{Plugin, PluginSet, ROOM_WEIGHT_MAX};

use super::reader::Section;
use crate::ProfileConfig;

/// Where plugins are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

const POINTS: [(Point, &str); 12] = [
    (Point::PreEnqueue, "preEnqueue"),
    (Point::QueueSort, "queueSort"),
    (Point::PreFilter, "preFilter"),
    (Point::Filter, "filter"),
    (Point::PostFilter, "postFilter"),
    (Point::PreScore, "preScore"),
    (Point::Score, "score"),
    (Point::Reserve, "reserve"),
    (Point::Permit, "permit"),
    (Point::PreBind, "preBind"),
    (Point::Bind, "bind"),
    (Point::PostBind, "postBind"),
];

/// A plugin of kube-scheduler.
struct Known {
    name: &'static str,
    weight: i64,
    points: &'static [Point],
}

const fn known(name: &'static str, weight: i64, points: &'static [Point]) -> Known {
    Known {
        name,
        weight,
        points,
    }
}

use Point::{
    Bind, Filter, PostFilter, PreBind, PreEnqueue, PreFilter, PreScore, QueueSort, Reserve, Score,
};

/// Upstream's default plugins, in their order.
const DEFAULTS: [Known; 20] = [
    known("SchedulingGates", 0, &[PreEnqueue]),
    known("PrioritySort", 0, &[QueueSort]),
    known("NodeUnschedulable", 0, &[Filter]),
    known("NodeName", 0, &[Filter]),
    known("TaintToleration", 3, &[Filter, PreScore, Score]),
    known("NodeAffinity", 2, &[PreFilter, Filter, PreScore, Score]),
    known("NodePorts", 0, &[PreFilter, Filter]),
    known("NodeResourcesFit", 1, &[PreFilter, Filter, PreScore, Score]),
    known("VolumeRestrictions", 0, &[PreFilter, Filter]),
    known("NodeVolumeLimits", 0, &[PreFilter, Filter]),
    known(
        "VolumeBinding",
        0,
        &[PreFilter, Filter, PreScore, Score, Reserve, PreBind],
    ),
    known("VolumeZone", 0, &[PreFilter, Filter]),
    known(
        "PodTopologySpread",
        2,
        &[PreFilter, Filter, PreScore, Score],
    ),
    known("InterPodAffinity", 2, &[PreFilter, Filter, PreScore, Score]),
    known(
        "DynamicResources",
        2,
        &[
            PreEnqueue, PreFilter, Filter, PostFilter, Score, Reserve, PreBind,
        ],
    ),
    known("DefaultPreemption", 0, &[PreEnqueue, PostFilter]),
    known("NodeResourcesBalancedAllocation", 1, &[PreScore, Score]),
    known("ImageLocality", 1, &[Score]),
    known("NodeDeclaredFeatures", 0, &[PreFilter, Filter]),
    known("DefaultBinder", 0, &[Bind]),
];

/// Plugins of earlier versions.
const GONE: [&str; 4] = [
    "AzureDiskLimits",
    "CinderLimits",
    "EBSLimits",
    "GCEPDLimits",
];

/// The filters there are, as the core names them.
const FILTERS: [(&str, Plugin); 14] = [
    ("NodeUnschedulable", Plugin::NodeUnschedulable),
    ("NodeName", Plugin::NodeName),
    ("TaintToleration", Plugin::TaintToleration),
    ("NodeAffinity", Plugin::NodeAffinity),
    ("NodePorts", Plugin::NodePorts),
    ("NodeResourcesFit", Plugin::NodeResourcesFit),
    ("VolumeRestrictions", Plugin::VolumeRestrictions),
    ("NodeVolumeLimits", Plugin::NodeVolumeLimits),
    ("VolumeBinding", Plugin::VolumeBinding),
    ("VolumeZone", Plugin::VolumeZone),
    ("PodTopologySpread", Plugin::PodTopologySpread),
    ("InterPodAffinity", Plugin::InterPodAffinity),
    ("DynamicResources", Plugin::DynamicResources),
    ("NodeDeclaredFeatures", Plugin::NodeDeclaredFeatures),
];

pub(super) fn is_known(name: &str) -> bool {
    DEFAULTS.iter().any(|known| known.name == name)
}

/// What is said of a plugin that does not exist here.
pub(super) fn unknown(path: &FieldPath, name: &str) -> FieldError {
    let detail = "plugin does not exist: only kube-scheduler's own plugins are there, those of others need their \
                  own scheduler";
    FieldError::invalid(path, name, detail)
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set {
    /// With weights.
    enabled: Vec<(String, i64)>,
    disabled: Vec<String>,
}

impl Set {
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|d| d == "*" || d == name)
    }

    fn enables(&self, name: &str) -> Option<i64> {
        let found = self.enabled.iter().find(|(known, _)| known == name);
        found.map(|(_, weight)| *weight)
    }
}

/// The section as it stands in the file.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    multi: Set,
    points: [Set; POINTS.len()],
}

pub(super) fn read(section: &mut Section<'_>, errors: &mut Vec<FieldError>) -> Plugins {
    let mut read_set = |section: &mut Section<'_>| {
        let enabled = section.sections("enabled", |section, path| {
            let name = section.text("name", "");
            let weight = section.integer("weight", 0);
            if GONE.contains(&name.as_str()) {
                let detail = "was invalid in version \"v1\" (KubeSchedulerConfiguration is version \
                              \"kubescheduler.config.k8s.io/v1\")";
                errors.push(FieldError::invalid(path, name.as_str(), detail));
            } else if !is_known(&name) {
                errors.push(unknown(&path.child("name"), &name));
            }
            (name, weight)
        });
        let disabled = section.sections("disabled", |section, _| {
            section.integer("weight", 0);
            section.text("name", "")
        });
        Set {
            enabled: enabled.unwrap_or_default(),
            disabled: disabled.unwrap_or_default(),
        }
    };
    let mut plugins = Plugins::default();
    if let Some(set) = section.section("multiPoint", &mut read_set) {
        plugins.multi = set;
    }
    for (point, name) in POINTS {
        if let Some(set) = section.section(name, &mut read_set) {
            plugins.points[point as usize] = set;
        }
    }
    plugins
}

impl Plugins {
    /// The plugins named for sorting the queue.
    pub(super) fn queue_sort(&self) -> Vec<String> {
        let enabled = &self.points[QueueSort as usize].enabled;
        enabled.iter().map(|(name, _)| name.clone()).collect()
    }

    /// multiPoint, merged with the defaults: a default that is enabled anew stays in its place.
    fn multi(&self) -> Vec<(&str, i64)> {
        let mut merged: Vec<(&str, i64)> = Vec::new();
        for default in &DEFAULTS {
            match self.multi.enables(default.name) {
                Some(weight) => merged.push((default.name, weight)),
                None if self.multi.disables(default.name) => {}
                None => merged.push((default.name, default.weight)),
            }
        }
        for (name, weight) in &self.multi.enabled {
            if !merged.iter().any(|(known, _)| known == name) {
                merged.push((name, *weight));
            }
        }
        merged
    }

    /// Who is asked at a point, in order, with weights.
    fn at(&self, point: Point) -> Vec<(String, i64)> {
        let set = &self.points[point as usize];
        let multi = self.multi();
        let brought = |name: &str| multi.iter().any(|(known, _)| *known == name);
        let (first, last): (Vec<_>, Vec<_>) = set
            .enabled
            .iter()
            .cloned()
            .partition(|(name, _)| brought(name));
        let middle = multi.iter().filter(|(name, _)| {
            let known = DEFAULTS.iter().find(|known| known.name == *name);
            known.is_some_and(|known| known.points.contains(&point))
                && set.enables(name).is_none()
                && !set.disables(name)
        });
        let middle = middle.map(|(name, weight)| ((*name).to_owned(), *weight));
        first.into_iter().chain(middle).chain(last).collect()
    }

    /// Turns the sets into rules; what cannot be had is an error.
    pub(super) fn apply(
        &self,
        path: &FieldPath,
        profile: &mut ProfileConfig,
        errors: &mut Vec<FieldError>,
    ) {
        let mut refuse = |point: &str, value: &str, detail: &str| {
            errors.push(FieldError::invalid(&path.child(point), value, detail));
        };
        for (point, point_name) in POINTS {
            for (name, _) in &self.points[point as usize].enabled {
                let known = DEFAULTS.iter().find(|known| known.name == name);
                if known.is_some_and(|known| !known.points.contains(&point)) {
                    let detail = format!("plugin \"{name}\" does not extend {point_name} plugin");
                    refuse(point_name, name, &detail);
                }
            }
        }
        let names = |point| -> Vec<String> {
            let plugins: Vec<(String, i64)> = self.at(point);
            plugins.into_iter().map(|(name, _)| name).collect()
        };
        let name = &profile.scheduler_name;
        let sorting = names(QueueSort);
        if sorting != ["PrioritySort"] {
            let detail = format!(
                "only one queue sort plugin required for profile with scheduler name \"{name}\", but got {}",
                sorting.len()
            );
            refuse("queueSort", &sorting.join(","), &detail);
        }
        if names(Bind) != ["DefaultBinder"] {
            let detail = format!(
                "at least one bind plugin is needed for profile with scheduler name \"{name}\""
            );
            refuse("bind", "", &detail);
        }
        let filtering = names(Filter);
        let places: Vec<usize> = filtering
            .iter()
            .filter_map(|name| FILTERS.iter().position(|(known, _)| known == name))
            .collect();
        if !places.is_sorted() {
            let detail = "filters are asked in their default order here: name them in it, or under multiPoint";
            refuse("filter", &filtering.join(","), detail);
        }
        let mut filters = PluginSet::EMPTY;
        for at in places {
            filters = filters.with(FILTERS[at].1);
        }
        let scoring = self.at(Score);
        let mut weigh = |name: &str| {
            let found = scoring.iter().find(|(known, _)| known == name);
            let weight = found.map_or(0, |(_, weight)| (*weight).max(1));
            let is_room = name.starts_with("NodeResources");
            if weight > ROOM_WEIGHT_MAX && is_room {
                let detail = format!("a weight of more than {ROOM_WEIGHT_MAX} is not served");
                refuse("score", name, &detail);
            }
            if found.is_some_and(|(_, weight)| *weight < 0) {
                refuse("score", name, "a weight may not be negative");
            }
            weight
        };
        let rules = &mut profile.rules;
        rules.weights = placement::Weights {
            taint: weigh("TaintToleration"),
            affinity: weigh("NodeAffinity"),
            fit: weigh("NodeResourcesFit"),
            balanced: weigh("NodeResourcesBalancedAllocation"),
            image: weigh("ImageLocality"),
            spread: weigh("PodTopologySpread"),
            pods: weigh("InterPodAffinity"),
            devices: weigh("DynamicResources"),
        };
        rules.filters = filters;
        // A plugin prepares in one point what it uses in the next: one without the other would fail every pod.
        for (before, before_name, after, after_name) in [
            (PreFilter, "preFilter", Filter, "filter"),
            (PreScore, "preScore", Score, "score"),
        ] {
            let prepared = names(before);
            for name in names(after) {
                let known = DEFAULTS.iter().find(|known| known.name == name);
                let prepares = known.is_some_and(|known| known.points.contains(&before));
                if prepares && !prepared.contains(&name) {
                    let detail = format!(
                        "is disabled here but not in {after_name}, which needs it: disable both"
                    );
                    refuse(before_name, &name, &detail);
                }
            }
        }
        let after_filters = names(PostFilter);
        let rescues = |name: &str| after_filters.iter().any(|known| known == name);
        profile.preempts = rescues("DefaultPreemption");
        profile.gives_back_claims = rescues("DynamicResources");
        profile.gates = names(PreEnqueue)
            .iter()
            .any(|name| name == "SchedulingGates");
    }
}
