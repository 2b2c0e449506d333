//! `profiles[].pluginConfig[].args`: the arguments of the plugins that have some.
//!
//! Does not know which plugins run.

use std::time::Duration;

use meta::Value;
use meta::{FieldError, FieldPath};
use placement::{SCORED_RESOURCES_MAX, SpreadDefaults, Strategy};

use super::plugins;
use super::reader::Section;
use crate::ProfileConfig;

/// Longest wait for volumes to be bound (k8s default), in seconds.
const BIND_TIMEOUT_SECONDS: i64 = 600;

/// Reads the arguments of a plugin into the profile.
pub(super) fn read(
    plugin: &str,
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let known = [
        "DefaultPreemption",
        "InterPodAffinity",
        "NodeAffinity",
        "NodeResourcesBalancedAllocation",
        "NodeResourcesFit",
        "PodTopologySpread",
        "VolumeBinding",
        "DynamicResources",
    ];
    if !known.contains(&plugin) {
        section.take("args");
        errors.push(if plugins::is_known(plugin) {
            FieldError::invalid(&path.child("args"), plugin, "the plugin takes no arguments")
        } else {
            plugins::unknown(&path.child("name"), plugin)
        });
        return;
    }
    let path = path.child("args");
    section.section("args", |section| {
        section.text("apiVersion", "");
        let kind = section.text("kind", "");
        if !kind.is_empty() && kind != format!("{plugin}Args") {
            errors.push(FieldError::invalid(&path, kind, "has to match plugin args"));
        }
        match plugin {
            "DefaultPreemption" => preemption(section, &path, profile, errors),
            "InterPodAffinity" => pod_affinity(section, &path, profile, errors),
            "NodeAffinity" => node_affinity(section, &path, profile, errors),
            "NodeResourcesBalancedAllocation" => balanced(section, &path, profile, errors),
            "NodeResourcesFit" => fit(section, &path, profile, errors),
            "PodTopologySpread" => spread(section, &path, profile, errors),
            "VolumeBinding" => volume_binding(section, &path, profile, errors),
            _ => {
                for field in ["filterTimeout", "bindingTimeout"] {
                    if section.take(field).is_some() {
                        let detail = "only the default is served: remove it";
                        errors.push(FieldError::forbidden(&path.child(field), detail));
                    }
                }
            }
        }
    });
}

fn preemption(
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let percent = section.integer("minCandidateNodesPercentage", 10);
    let least = section.integer("minCandidateNodesAbsolute", 100);
    let mut invalid = |name: &str, value: i64, detail: &str| {
        errors.push(FieldError::invalid(&path.child(name), value, detail));
    };
    let (of_percent, of_least) = ("minCandidateNodesPercentage", "minCandidateNodesAbsolute");
    if !(0..=100).contains(&percent) {
        invalid(of_percent, percent, "not in valid range [0, 100]");
    }
    if least < 0 {
        invalid(of_least, least, "not in valid range [0, inf)");
    }
    if percent == 0 && least == 0 {
        let detail = |other: &str| format!("cannot be zero at the same time as {other}");
        invalid(of_percent, 0, &detail(of_least));
        invalid(of_least, 0, &detail(of_percent));
    }
    profile.rules.candidates_percent = usize::try_from(percent).unwrap_or(0);
    profile.rules.candidates_min = usize::try_from(least).unwrap_or(0);
}

fn pod_affinity(
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let weight = section.integer("hardPodAffinityWeight", 1);
    if !(0..=100).contains(&weight) {
        let path = path.child("hardPodAffinityWeight");
        errors.push(FieldError::invalid(
            &path,
            weight,
            "not in valid range [0, 100]",
        ));
    }
    profile.rules.hard_pod_affinity_weight = weight;
    profile.rules.ignore_preferred_of_others =
        section.flag("ignorePreferredTermsOfExistingPods", false);
}

fn node_affinity(
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let Some(added) = section.take("addedAffinity") else {
        return;
    };
    let required = placement::required_terms(added);
    let preferred = placement::preferred_terms(added);
    let path = path.child("addedAffinity");
    let terms = required.iter().flatten();
    let terms = terms.chain(preferred.iter().map(|(_, term)| term));
    if terms.into_iter().any(|term| term.broken) || !added.is_object() {
        let detail =
            "a term has an operator that does not exist, or values that do not suit its operator";
        errors.push(FieldError::invalid(&path, added.clone(), detail));
    }
    profile.rules.added_required = required;
    profile.rules.added_preferred = preferred;
}

/// Resources with their weights; a weight left out is 1.
fn resources(section: &mut Section<'_>) -> Option<Vec<(String, i64)>> {
    let read = section.sections("resources", |section, _| {
        let weight = section.integer("weight", 1);
        (section.text("name", ""), weight)
    });
    read.filter(|list| !list.is_empty())
}

fn too_many(path: &FieldPath, resources: &[(String, i64)], errors: &mut Vec<FieldError>) {
    if resources.len() > SCORED_RESOURCES_MAX {
        let path = path.child("resources");
        errors.push(FieldError::too_many(
            &path,
            resources.len(),
            SCORED_RESOURCES_MAX,
        ));
    }
}

fn balanced(
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let Some(resources) = resources(section) else {
        return;
    };
    too_many(path, &resources, errors);
    for (at, (name, weight)) in resources.iter().enumerate() {
        let path = path.child("resources").index(at);
        if resources[..at].iter().any(|(earlier, _)| earlier == name) {
            errors.push(FieldError::duplicate(&path.child("name"), name.as_str()));
        }
        if *weight != 1 {
            errors.push(FieldError::invalid(
                &path.child("weight"),
                *weight,
                "must be 1",
            ));
        }
    }
    let names = resources.into_iter().map(|(name, _)| name.into());
    profile.rules.balanced_resources = names.collect();
}

fn fit(
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let ignored = section.texts("ignoredResources");
    let groups = section.texts("ignoredResourceGroups");
    for (field, names) in [
        ("ignoredResources", &ignored),
        ("ignoredResourceGroups", &groups),
    ] {
        for (at, name) in names.iter().enumerate() {
            let path = path.child(field).index(at);
            if field == "ignoredResourceGroups" && name.contains('/') {
                let detail = "resource group name can't contain '/'";
                errors.push(FieldError::invalid(&path, name.as_str(), detail));
            }
            let texts = meta::names::qualified_name(name);
            errors.extend(FieldError::invalid_each(&path, name, texts));
        }
    }
    let rules = &mut profile.rules;
    rules.ignored_resources = ignored.into_iter().map(Into::into).collect();
    rules.ignored_groups = groups.into_iter().map(Into::into).collect();
    let path = path.child("scoringStrategy");
    section.section("scoringStrategy", |section| {
        let kind = section.text("type", "LeastAllocated");
        if let Some(resources) = resources(section) {
            too_many(&path, &resources, errors);
            for (at, (name, weight)) in resources.iter().enumerate() {
                if !(1..=100).contains(weight) {
                    let path = path.child("resources").index(at).child("weight");
                    let detail = format!("resource weight of {name} not in valid range (0, 100]");
                    errors.push(FieldError::invalid(&path, *weight, detail));
                }
            }
            let resources = resources.into_iter().map(|(name, w)| (name.into(), w));
            rules.fit_resources = resources.collect();
        }
        let line_path = path.child("requestedToCapacityRatio");
        let line = section.section("requestedToCapacityRatio", |section| {
            section.sections("shape", |section, _| {
                (
                    section.integer("utilization", 0),
                    section.integer("score", 0),
                )
            })
        });
        let by_line = kind == "RequestedToCapacityRatio";
        match line {
            Some(_) if !by_line => {
                let detail = "must be nil when type is not RequestedToCapacityRatio";
                errors.push(FieldError::forbidden(&line_path, detail));
            }
            None if by_line => {
                let detail = "must be specified when type is RequestedToCapacityRatio";
                errors.push(FieldError::required(&line_path, detail));
            }
            _ => {}
        }
        rules.strategy = match kind.as_str() {
            "LeastAllocated" => Strategy::LeastAllocated,
            "MostAllocated" => Strategy::MostAllocated,
            "RequestedToCapacityRatio" => {
                let shape = line.flatten().unwrap_or_default();
                check_shape(&shape, &line_path.child("shape"), errors);
                Strategy::RequestedToCapacityRatio(shape)
            }
            _ => {
                let supported = [
                    "LeastAllocated",
                    "MostAllocated",
                    "RequestedToCapacityRatio",
                ];
                let path = path.child("type");
                errors.push(FieldError::not_supported(&path, kind.as_str(), &supported));
                Strategy::LeastAllocated
            }
        };
    });
}

fn check_shape(shape: &[(i64, i64)], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if shape.is_empty() {
        let detail = "at least one point must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let falling = shape.windows(2).position(|pair| pair[0].0 >= pair[1].0);
    if let Some(at) = falling {
        let detail = "values must be sorted in increasing order";
        let path = path.index(at + 1).child("utilization");
        errors.push(FieldError::invalid(&path, shape[at + 1].0, detail));
    }
    for (at, (utilization, score)) in shape.iter().enumerate() {
        for (name, value, max) in [("utilization", *utilization, 100), ("score", *score, 10)] {
            if !(0..=max).contains(&value) {
                let detail = format!("not in valid range [0, {max}]");
                let path = path.index(at).child(name);
                errors.push(FieldError::invalid(&path, value, detail));
            }
        }
    }
}

fn spread(
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let defaulting = section.text("defaultingType", "System");
    let none = Vec::new();
    let constraints = section.take("defaultConstraints");
    let constraints = constraints.and_then(Value::as_array).unwrap_or(&none);
    let type_path = path.child("defaultingType");
    match defaulting.as_str() {
        "List" => {}
        "System" if constraints.is_empty() => {}
        "System" => {
            let detail = "when .defaultConstraints are not empty";
            errors.push(FieldError::invalid(&type_path, defaulting.as_str(), detail));
        }
        other => {
            let supported = ["System", "List"];
            errors.push(FieldError::not_supported(&type_path, other, &supported));
        }
    }
    for (at, constraint) in constraints.iter().enumerate() {
        let path = path.child("defaultConstraints").index(at);
        check_constraint(constraint, &constraints[..at], &path, errors);
    }
    profile.rules.spread_defaults = if defaulting == "List" {
        let read = |c| placement::spread_constraint(c, &Vec::new());
        SpreadDefaults {
            constraints: constraints.iter().map(read).collect(),
            system: false,
        }
    } else {
        SpreadDefaults::system()
    };
}

fn check_constraint(
    constraint: &Value,
    earlier: &[Value],
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
    if skew <= 0 {
        let path = path.child("maxSkew");
        errors.push(FieldError::invalid(
            &path,
            skew,
            "not in valid range (0, inf)",
        ));
    }
    let text =
        |constraint: &Value, name: &str| constraint[name].as_str().unwrap_or_default().to_owned();
    let key = text(constraint, "topologyKey");
    let key_path = path.child("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&key_path, "can not be empty"));
    } else {
        let texts = meta::names::qualified_name(&key);
        errors.extend(FieldError::invalid_each(&key_path, &key, texts));
    }
    let action = text(constraint, "whenUnsatisfiable");
    let action_path = path.child("whenUnsatisfiable");
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    if action.is_empty() {
        errors.push(FieldError::required(&action_path, "can not be empty"));
    } else if !actions.contains(&action.as_str()) {
        errors.push(FieldError::not_supported(
            &action_path,
            action.as_str(),
            &actions,
        ));
    }
    if !constraint["labelSelector"].is_null() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        errors.push(FieldError::forbidden(&path.child("labelSelector"), detail));
    }
    let same = |other: &Value| {
        text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action
    };
    if earlier.iter().any(same) {
        errors.push(FieldError::duplicate(path, format!("{{{key}, {action}}}")));
    }
}

fn volume_binding(
    section: &mut Section<'_>,
    path: &FieldPath,
    profile: &mut ProfileConfig,
    errors: &mut Vec<FieldError>,
) {
    let timeout = section.integer("bindTimeoutSeconds", BIND_TIMEOUT_SECONDS);
    let timeout_path = path.child("bindTimeoutSeconds");
    if timeout < 0 {
        let detail = "invalid BindTimeoutSeconds, should not be a negative value";
        errors.push(FieldError::invalid(&timeout_path, timeout, detail));
    }
    profile.volumes_wait = Duration::from_secs(timeout.unsigned_abs());
    if let Some(shape) = section.take("shape") {
        let detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
        errors.push(FieldError::invalid(
            &path.child("shape"),
            shape.clone(),
            detail,
        ));
    }
}
