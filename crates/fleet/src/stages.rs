//! Stages: what becomes of pods and nodes, from a file in the manner of kwok's (`kwok.x-k8s.io/v1alpha1` Stage).
//!
//! ```text
//!   object ─► which stages match? ─► one of them, by weight ─► its delay, with jitter ─► event, finalizers,
//!                                                                                        deletion or status
//! ```
//!
//! Served: `resourceRef` to `v1` Pod and Node; `selector` with `matchLabels`, `matchAnnotations` and `matchExpressions`
//! (queries: see `query.rs`; `In`, `NotIn`, `Exists`, `DoesNotExist`); `weight`; `delay.durationMilliseconds`,
//! `jitterDurationMilliseconds`, and `durationFrom`/`jitterDurationFrom` over a query; `next.event`, `next.finalizers`,
//! `next.delete`, `next.statusTemplate` without Go's templates (see `template.rs`). Everything else is refused by name.
//!
//! Pure: chance and time are arguments. Does not know who carries a stage out.

use std::collections::BTreeMap;
use std::time::Duration;

use meta::Value;
use serde::Deserialize;

use crate::query::Query;
use crate::template::Template;

/// Stages of one kind.
pub const STAGES_MAX: usize = 1_000;
/// Longest delay: a stage's own, or what its object asks for.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(30 * 86_400);

/// The stages of a fleet. Without any of a kind, pods live the built-in life and nodes just live.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stages {
    pub(crate) pods: Vec<Stage>,
    pub(crate) nodes: Vec<Stage>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stage {
    pub(crate) name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    expressions: Vec<(Query, Operator, Vec<String>)>,
    weight: u64,
    duration: Option<Time>,
    jitter: Option<Time>,
    pub(crate) event: Option<StageEvent>,
    pub(crate) finalizers: Finalizers,
    pub(crate) delete: bool,
    pub(crate) status: Option<Template>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StageEvent {
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What becomes of an object's finalizers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Finalizers {
    add: Vec<String>,
    remove: Vec<String>,
    empty: bool,
}

impl Finalizers {
    /// The new ones; none if they stay as they are.
    pub(crate) fn after(&self, object: &Value) -> Option<Vec<String>> {
        let before: Vec<String> = object["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect();
        let mut after = if self.empty {
            Vec::new()
        } else {
            before.clone()
        };
        after.retain(|one| !self.remove.contains(one));
        for one in &self.add {
            if !after.contains(one) {
                after.push(one.clone());
            }
        }
        (after != before).then_some(after)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A time: a number, or what a query finds (a point in time, or a duration as Go writes it), the number where it finds
/// nothing.
#[derive(Debug, Clone, PartialEq)]
struct Time {
    fixed: Option<Duration>,
    from: Option<Query>,
}

impl Time {
    fn of(&self, object: &Value, now_micros: i64) -> Option<Duration> {
        let found = self.from.as_ref().and_then(|from| {
            let text = from.first(object)?.as_str()?;
            let micros = match meta::time::parse(text) {
                Ok(point) => point.saturating_sub(now_micros),
                Err(_) => meta::time::parse_go_duration(text).ok()? / 1_000,
            };
            Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(DELAY_MAX))
        });
        found.or(self.fixed)
    }
}

impl Stage {
    fn matches(&self, object: &Value) -> bool {
        let has = |kind: &str, wanted: &BTreeMap<String, String>| {
            let found = &object["metadata"][kind];
            wanted
                .iter()
                .all(|(key, value)| found[key.as_str()] == value.as_str())
        };
        has("labels", &self.labels)
            && has("annotations", &self.annotations)
            && self.expressions.iter().all(|(query, operator, values)| {
                let found = query.values(object);
                let is_one = |value: &&Value| {
                    let text = match value {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    values.contains(&text)
                };
                match operator {
                    Operator::In => found.iter().any(is_one),
                    Operator::NotIn => !found.iter().any(is_one),
                    Operator::Exists => !found.is_empty(),
                    Operator::DoesNotExist => found.is_empty(),
                }
            })
    }

    /// How long to wait; `chance` is any number. As kwok: evenly between duration and jitter, jitter being the longer
    /// one, and the jitter itself where it is not.
    pub(crate) fn delay(&self, object: &Value, now_micros: i64, chance: u64) -> Duration {
        let Some(duration) = self
            .duration
            .as_ref()
            .and_then(|time| time.of(object, now_micros))
        else {
            return Duration::ZERO;
        };
        match self
            .jitter
            .as_ref()
            .and_then(|time| time.of(object, now_micros))
        {
            None => duration,
            Some(jitter) if jitter <= duration => jitter,
            Some(jitter) => {
                let range = u64::try_from((jitter - duration).as_nanos()).unwrap_or(u64::MAX);
                duration + Duration::from_nanos(chance % range.max(1))
            }
        }
    }
}

/// The stage that an object goes to next, by its place: of those that match, one by weight. Where all weigh nothing,
/// each is as likely.
pub(crate) fn next(stages: &[Stage], object: &Value, chance: u64) -> Option<usize> {
    let matching: Vec<usize> = (0..stages.len())
        .filter(|at| stages[*at].matches(object))
        .collect();
    let total: u64 = matching.iter().map(|at| stages[*at].weight).sum();
    if total == 0 {
        let place = usize::try_from(chance)
            .unwrap_or(0)
            .checked_rem(matching.len())?;
        return matching.get(place).copied();
    }
    let mut left = chance % total;
    matching.into_iter().find(|at| {
        let weight = stages[*at].weight;
        let is_it = left < weight;
        left = left.saturating_sub(weight);
        is_it
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    metadata: FileName,
    spec: Spec,
}

#[derive(Deserialize)]
struct FileName {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    resource_ref: ResourceRef,
    selector: Option<Selector>,
    #[serde(default)]
    weight: u32,
    delay: Option<Delay>,
    #[serde(default)]
    next: Next,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceRef {
    api_group: Option<String>,
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_annotations: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<Expression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delay {
    duration_milliseconds: Option<u64>,
    duration_from: Option<From>,
    jitter_duration_milliseconds: Option<u64>,
    jitter_duration_from: Option<From>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct From {
    expression_from: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Next {
    event: Option<FileEvent>,
    finalizers: Option<FileFinalizers>,
    #[serde(default)]
    delete: bool,
    status_template: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEvent {
    #[serde(default, rename = "type")]
    event_type: String,
    reason: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFinalizers {
    #[serde(default)]
    add: Vec<Item>,
    #[serde(default)]
    remove: Vec<Item>,
    #[serde(default)]
    empty: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    value: String,
}

impl Stages {
    /// Reads the documents of a file.
    ///
    /// # Errors
    /// Text that is not YAML, what is no Stage, and what of one is not served, with the stage's name.
    pub fn parse(text: &str) -> Result<Stages, String> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
        let mut stages = Stages::default();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            let name = document["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let whose = |what: String| format!("stage {name:?}: {what}");
            let file: File = serde_json::to_value(document)
                .and_then(serde_json::from_value)
                .map_err(|error| whose(error.to_string()))?;
            if (file.api_version.as_str(), file.kind.as_str())
                != ("kwok.x-k8s.io/v1alpha1", "Stage")
            {
                return Err(whose(format!(
                    "{} {} is no kwok.x-k8s.io/v1alpha1 Stage",
                    file.api_version, file.kind
                )));
            }
            let group = file.spec.resource_ref.api_group.as_deref().unwrap_or("v1");
            let of_kind = match (group, file.spec.resource_ref.kind.as_str()) {
                ("v1" | "", "Pod") => &mut stages.pods,
                ("v1" | "", "Node") => &mut stages.nodes,
                (group, kind) => {
                    return Err(whose(format!(
                        "resourceRef {group} {kind}: only v1 Pod and Node are served"
                    )));
                }
            };
            // As in kwok: a stage without a selector matches nothing.
            if let Some(stage) = read(file).map_err(&whose)? {
                of_kind.push(stage);
            }
            if of_kind.len() > STAGES_MAX {
                return Err(format!("more than {STAGES_MAX} stages of one kind"));
            }
        }
        Ok(stages)
    }
}

fn read(file: File) -> Result<Option<Stage>, String> {
    let Some(selector) = file.spec.selector else {
        return Ok(None);
    };
    let mut expressions = Vec::new();
    for Expression {
        key,
        operator,
        values,
    } in selector.match_expressions
    {
        let wants_values = matches!(operator, Operator::In | Operator::NotIn);
        if wants_values == values.is_empty() {
            let what = if wants_values {
                "needs values"
            } else {
                "takes no values"
            };
            return Err(format!("{key:?}: {operator:?} {what}"));
        }
        expressions.push((Query::parse(&key)?, operator, values));
    }
    let time = |millis: Option<u64>, from: Option<From>| {
        let from = from
            .map(|from| Query::parse(&from.expression_from))
            .transpose()?;
        let fixed = millis.map(Duration::from_millis);
        if fixed.is_some_and(|time| time > DELAY_MAX) {
            return Err(format!(
                "a delay is longer than {} days",
                DELAY_MAX.as_secs() / 86_400
            ));
        }
        Ok(Time { fixed, from })
    };
    let (mut duration, mut jitter) = (None, None);
    if let Some(delay) = file.spec.delay {
        let has_jitter =
            delay.jitter_duration_milliseconds.is_some() || delay.jitter_duration_from.is_some();
        let of = time(delay.duration_milliseconds, delay.duration_from)?;
        duration = Some(Time {
            fixed: of.fixed.or(Some(Duration::ZERO)),
            ..of
        });
        if has_jitter {
            jitter = Some(time(
                delay.jitter_duration_milliseconds,
                delay.jitter_duration_from,
            )?);
        }
    }
    let next = file.spec.next;
    let event = next.event.map(|event| StageEvent {
        is_warning: event.event_type == "Warning",
        // Stages live as long as the process, and so do their words.
        reason: String::leak(event.reason),
        message: event.message,
    });
    let values = |items: Vec<Item>| items.into_iter().map(|item| item.value).collect();
    let finalizers = next
        .finalizers
        .map_or_else(Finalizers::default, |finalizers| Finalizers {
            add: values(finalizers.add),
            remove: values(finalizers.remove),
            empty: finalizers.empty,
        });
    let status = next.status_template.map(|text| Template::parse(&text));
    let status = status
        .transpose()
        .map_err(|error| format!("statusTemplate: {error}"))?;
    Ok(Some(Stage {
        name: file.metadata.name,
        labels: selector.match_labels,
        annotations: selector.match_annotations,
        expressions,
        weight: u64::from(file.spec.weight),
        duration,
        jitter,
        event,
        finalizers,
        delete: next.delete,
        status,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn stage(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {{name: {name}}}\nspec:\n  \
             resourceRef: {{apiGroup: v1, kind: Pod}}\n{spec}"
        )
    }

    #[test]
    fn the_matching_stage_is_next_and_weights_decide_between_several() {
        let text = stage(
            "ready",
            "  selector:\n    matchLabels: {app: web}\n    matchExpressions:\n\
             \x20   - {key: .metadata.deletionTimestamp, operator: DoesNotExist}\n\
             \x20   - {key: .status.phase, operator: NotIn, values: [Running]}\n  weight: 9\n",
        ) + &stage(
            "fail",
            "  selector:\n    matchExpressions:\n    - {key: .status.phase, operator: In, values: [Pending]}\n  weight: 1\n",
        ) + &stage("nothing", "  next: {delete: true}\n");
        let stages = Stages::parse(&text).unwrap().pods;
        assert_eq!(stages.len(), 2);
        let mut pod =
            json!({"metadata": {"labels": {"app": "web"}}, "status": {"phase": "Pending"}});
        let counts = |pod: &Value| {
            let mut counts = [0, 0, 0];
            for chance in 0..100 {
                counts[next(&stages, pod, chance).unwrap_or(2)] += 1;
            }
            counts
        };
        assert_eq!(counts(&pod), [90, 10, 0]);
        pod["metadata"]["deletionTimestamp"] = "x".into();
        assert_eq!(counts(&pod), [0, 100, 0]);
        pod["status"]["phase"] = "Running".into();
        assert_eq!(counts(&pod), [0, 0, 100]);
    }

    #[test]
    fn delays_are_as_in_kwok() {
        let of = |delay: &str, object: Value, chance| {
            let text = stage("s", &format!("  selector: {{}}\n  delay: {delay}\n"));
            Stages::parse(&text).unwrap().pods[0]
                .delay(&object, 1_000_000, chance)
                .as_millis()
        };
        assert_eq!(of("{durationMilliseconds: 500}", json!({}), 7), 500);
        let jitter = "{durationMilliseconds: 500, jitterDurationMilliseconds: 600}";
        assert_eq!(of(jitter, json!({}), 0), 500);
        assert_eq!(of(jitter, json!({}), 99_999_999), 599);
        let shorter = "{durationMilliseconds: 500, jitterDurationMilliseconds: 50}";
        assert_eq!(of(shorter, json!({}), 3), 50);
        let from = "{durationMilliseconds: 20, durationFrom: {expressionFrom: '.metadata.annotations.delay'}}";
        let annotated = |delay: &str| json!({"metadata": {"annotations": {"delay": delay}}});
        assert_eq!(of(from, annotated("3s"), 0), 3_000);
        assert_eq!(of(from, annotated("1970-01-01T00:00:05Z"), 0), 4_000);
        assert_eq!(of(from, annotated("1970-01-01T00:00:00Z"), 0), 0);
        assert_eq!(of(from, json!({}), 0), 20);
    }

    #[test]
    fn finalizers_are_added_and_removed() {
        let text = stage(
            "s",
            "  selector: {}\n  next: {finalizers: {add: [{value: a}], remove: [{value: b}]}}\n",
        );
        let stages = Stages::parse(&text).unwrap().pods;
        let after = |list: Value| {
            stages[0]
                .finalizers
                .after(&json!({"metadata": {"finalizers": list}}))
        };
        assert_eq!(after(json!(["b", "c"])), Some(vec!["c".into(), "a".into()]));
        assert_eq!(after(json!(["a"])), None);
    }

    #[test]
    fn what_is_not_served_is_refused_with_the_stages_name() {
        for (spec, part) in [
            (
                "  selector: {}\n  immediateNextStage: true\n",
                "unknown field `immediateNextStage`",
            ),
            (
                "  selector: {}\n  next: {patches: []}\n",
                "unknown field `patches`",
            ),
            (
                "  selector: {}\n  next: {statusTemplate: '{{ range .x }}'}\n",
                "statusTemplate: {{ range .x }}",
            ),
            (
                "  selector: {matchExpressions: [{key: .a, operator: In}]}\n",
                "\".a\": In needs values",
            ),
            (
                "  selector: {matchExpressions: [{key: .a, operator: Exists, values: [x]}]}\n",
                "Exists takes no values",
            ),
            (
                "  selector: {matchExpressions: [{key: 'length(.a)', operator: Exists}]}\n",
                "length is not served",
            ),
            (
                "  selector: {}\n  delay: {durationMilliseconds: 99999999999}\n",
                "longer than 30 days",
            ),
        ] {
            let error = Stages::parse(&stage("mine", spec)).unwrap_err();
            assert!(
                error.starts_with("stage \"mine\": ") && error.contains(part),
                "{spec}: {error}"
            );
        }
        let other = stage("mine", "").replace("kind: Pod", "kind: Job");
        assert_eq!(
            Stages::parse(&other).unwrap_err(),
            "stage \"mine\": resourceRef v1 Job: only v1 Pod and Node are served"
        );
    }
}
