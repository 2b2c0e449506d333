//! The model's preemption: every node tried out, nothing remembered.
//!
//! Written from the description of the rules; shares no code with the crate.

use crate::around::selects;
use crate::model::{Model, ModelPod};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use value::{Value, json};

/// What stands for the start of pods that have not started.
pub const NOW: i64 = 9_000_000_000_000_000;

pub fn priority(pod: &Value) -> i64 {
    pod["spec"]["priority"].as_i64().unwrap_or(0)
}

/// Lower is better: budgets violated, highest priority, sum, victims, latest start.
pub type Cost = (usize, i64, i64, usize, Reverse<i64>);

#[derive(Debug)]
pub enum Outcome {
    /// The best cost, and for each node that can be had for it, who must go.
    Best(Cost, BTreeMap<String, Vec<String>>),
    Hopeless(String),
}

fn started(uid: &str, model: &Model) -> i64 {
    let start = &model.pods[uid].object["status"]["startTime"];
    match start.as_str() {
        None => NOW,
        Some(text) => {
            let second: i64 = text[17..19].parse().unwrap();
            second
        }
    }
}

/// Reasons against a node, pods of no lower priority that are to come to it counted first.
pub fn rejections(model: &Model, uid: &str, pod: &Value, node: &Value) -> Vec<String> {
    let name = node["metadata"]["name"].as_str().unwrap();
    let coming: Vec<(&String, &(String, Value))> = model
        .nominated
        .iter()
        .filter(|(other, (to, object))| {
            *other != uid && to == name && priority(object) >= priority(pod)
        })
        .collect();
    if !coming.is_empty() {
        let mut with = model.clone();
        with.nominated.clear();
        for (other, (to, object)) in coming {
            with.pods.insert(other.clone(), ModelPod::new(to, object));
        }
        let reasons = with.rejections(pod, node);
        if !reasons.is_empty() {
            return reasons;
        }
    }
    model.rejections(pod, node)
}

/// May evicting help against this, on a node that offers so much?
fn helps(reason: &str, pod: &Value, node: &Value) -> bool {
    if let Some(resource) = reason.strip_prefix("Insufficient ") {
        let want = crate::model::pod_amounts(pod, false)[resource];
        let offered = crate::model::amounts(&node["status"]["allocatable"]);
        return want <= offered.get(resource).copied().unwrap_or(0);
    }
    matches!(
        reason,
        "Too many pods"
            | "node(s) had no available disk"
            | "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
            | "node(s) exceed max volume count"
            | "node(s) didn't have free ports for the requested pod ports"
            | "node(s) didn't match pod topology spread constraints"
            | "node(s) didn't match pod anti-affinity rules"
            | "node(s) didn't satisfy existing pods anti-affinity rules"
    )
}

pub fn preempt(model: &Model, uid: &str, pod: &Value) -> Outcome {
    if pod["spec"]["preemptionPolicy"] == "Never" {
        return Outcome::Hopeless("not eligible due to preemptionPolicy=Never.".into());
    }
    let finding = model.find(uid, pod);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all: BTreeMap<String, (Cost, Vec<String>)> = BTreeMap::new();
    for (name, node) in &model.nodes {
        let against = finding
            .nodes
            .get(name)
            .and_then(|found| found.as_ref().err());
        let may_help = !finding.conflict
            && finding.obstacle.is_none()
            && against.is_some_and(|reasons| reasons.iter().all(|r| helps(r, pod, node)));
        let reasons = if may_help {
            match try_out(model, uid, pod, node) {
                Ok(found) => {
                    all.insert(name.clone(), found);
                    continue;
                }
                Err(reasons) => reasons,
            }
        } else {
            vec!["Preemption is not helpful for scheduling".into()]
        };
        for reason in reasons {
            *counts.entry(reason).or_default() += 1;
        }
    }
    let Some(best) = all.values().map(|(cost, _)| *cost).min() else {
        let mut parts: Vec<String> = counts.iter().map(|(r, n)| format!("{n} {r}")).collect();
        parts.sort();
        let total = model.nodes.len();
        return Outcome::Hopeless(if total == 0 {
            "no nodes available to schedule pods".into()
        } else {
            format!("0/{total} nodes are available: {}.", parts.join(", "))
        });
    };
    let at_best = all.into_iter().filter(|(_, (cost, _))| *cost == best);
    Outcome::Best(best, at_best.map(|(name, (_, who))| (name, who)).collect())
}

fn try_out(
    model: &Model,
    uid: &str,
    pod: &Value,
    node: &Value,
) -> Result<(Cost, Vec<String>), Vec<String>> {
    let name = node["metadata"]["name"].as_str().unwrap();
    let mut lower: Vec<&String> = model
        .pods
        .iter()
        .filter(|(_, p)| p.node == name && priority(&p.object) < priority(pod))
        .map(|(other, _)| other)
        .collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".into()]);
    }
    let importance = |other: &&String| {
        let object = &model.pods[*other].object;
        (
            Reverse(priority(object)),
            started(other, model),
            (*other).clone(),
        )
    };
    lower.sort_by_key(importance);
    let mut left = model.clone();
    for other in &lower {
        left.pods.remove(*other);
    }
    let reasons = rejections(&left, uid, pod, node);
    if !reasons.is_empty() {
        return Err(reasons);
    }
    // Each budget allows so many evictions; who comes after that violates it.
    let mut allowed: BTreeMap<&String, i64> = BTreeMap::new();
    let (mut violating, mut others) = (Vec::new(), Vec::new());
    for other in &lower {
        let object = &model.pods[*other].object;
        let mut violates = false;
        for (budget_name, budget) in &model.budgets {
            let selector = &budget["spec"]["selector"];
            let disrupted =
                &budget["status"]["disruptedPods"][object["metadata"]["name"].as_str().unwrap()];
            if object["metadata"]["namespace"] == "default"
                && *selector != json!({})
                && selects(selector, &object["metadata"]["labels"])
                && disrupted.is_null()
            {
                let remaining = allowed
                    .entry(budget_name)
                    .or_insert(budget["status"]["disruptionsAllowed"].as_i64().unwrap());
                *remaining -= 1;
                violates |= *remaining < 0;
            }
        }
        if violates {
            violating.push(*other);
        } else {
            others.push(*other);
        }
    }
    let mut victims: Vec<&String> = Vec::new();
    let mut violations = 0;
    let tries = violating
        .iter()
        .map(|o| (o, 1))
        .chain(others.iter().map(|o| (o, 0)));
    for (other, violation) in tries {
        left.pods
            .insert((*other).clone(), model.pods[*other].clone());
        if !rejections(&left, uid, pod, node).is_empty() {
            left.pods.remove(*other);
            victims.push(other);
            violations += violation;
        }
    }
    victims.sort_by_key(importance);
    let priorities = || victims.iter().map(|v| priority(&model.pods[*v].object));
    let highest = priorities().max().unwrap();
    let start = victims
        .iter()
        .filter(|v| priority(&model.pods[**v].object) == highest)
        .map(|v| started(v, model))
        .min()
        .unwrap();
    let sum = priorities().map(|p| p + (1i64 << 31)).sum();
    let cost = (violations, highest, sum, victims.len(), Reverse(start));
    Ok((cost, victims.into_iter().cloned().collect()))
}
