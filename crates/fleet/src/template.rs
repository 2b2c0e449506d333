//! The status a stage gives, as YAML with a few places to be filled in.
//!
//! | place | filled with |
//! |---|---|
//! | `{{ Now }}` | the time, to the second |
//! | `{{ NodeIP }}` | the address of the node |
//! | `{{ PodIP }}` | the pod's address; one that nobody has if it has none yet |
//! | `{{ .metadata.name }}` | the first value of a query ([`Query`]); null if there is none |
//!
//! Each may be followed by `| Quote`, as kwok's files have it: a place that is filled in is never read as YAML again, so
//! it needs none. An entry `name: "*"` of `containerStatuses` or `initContainerStatuses` stands for every container of
//! the pod, with its name, and its image if the entry has none. Everything else of Go's templates is refused when the
//! file is read.

use meta::Value;
use value::json;

use crate::query::Query;

/// Places of one template.
const PLACES_MAX: usize = 256;

/// A template that was understood. Texts in it that are `MARK`, a number and `MARK` are places.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    status: Value,
    places: Vec<Place>,
}

/// No YAML and nobody's text holds a character that Unicode will never assign.
const MARK: char = '\u{fdd0}';

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Now,
    NodeIp,
    PodIp,
    Query(Query),
}

/// What is known when a status is given.
pub(crate) struct Known<'a> {
    pub(crate) now: &'a str,
    pub(crate) node_ip: &'a str,
    pub(crate) pod_ip: &'a str,
    /// What [`Template::capture`] took from the object.
    pub(crate) captured: &'a [Value],
    /// Names and images.
    pub(crate) containers: &'a [(String, String)],
    pub(crate) init_containers: &'a [(String, String)],
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is not understood, in words.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let mut yaml = String::with_capacity(text.len());
        let mut places = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or("}} is missing")?;
            yaml.push_str(before);
            let place = place(inside.trim_matches(['-', ' ']))?;
            // Inside quotes the marks alone, outside with quotes around them: either way it is one text.
            let line = yaml.rsplit('\n').next().unwrap_or_default();
            let is_quoted = line.matches(['"', '\'']).count() % 2 == 1;
            let quote = if is_quoted { "" } else { "\"" };
            let starts_scalar = line.trim_end().ends_with([':', '-', ',', '[', '{']) || is_quoted;
            if !starts_scalar {
                return Err(format!(
                    "{{{{ {} }}}} stands within a text: put the text in quotes",
                    inside.trim()
                ));
            }
            yaml.push_str(&format!("{quote}{MARK}{}{MARK}{quote}", places.len()));
            places.push(place);
            if places.len() > PLACES_MAX {
                return Err(format!("more than {PLACES_MAX} places"));
            }
            rest = after;
        }
        yaml.push_str(rest);
        let status: Value = if yaml.trim().is_empty() {
            json!({})
        } else {
            serde_saphyr::from_str(&yaml).map_err(|error| error.to_string())?
        };
        if !status.is_object() {
            return Err("it must be an object: the fields of a status".into());
        }
        Ok(Template { status, places })
    }

    /// Takes from an object what the template asks of it, so that the object need not be kept.
    pub(crate) fn capture(&self, object: &Value) -> Vec<Value> {
        let queries = self.places.iter().filter_map(|place| match place {
            Place::Query(query) => Some(query),
            _ => None,
        });
        queries
            .map(|query| query.first(object).cloned().unwrap_or_default())
            .collect()
    }

    /// Whether the pod's address is asked for.
    pub(crate) fn needs_pod_ip(&self) -> bool {
        self.places.contains(&Place::PodIp)
    }

    /// The status.
    pub(crate) fn fill(&self, known: &Known<'_>) -> Value {
        let mut captured = known.captured.iter();
        let filling: Vec<Value> = self
            .places
            .iter()
            .map(|place| match place {
                Place::Now => known.now.into(),
                Place::NodeIp => known.node_ip.into(),
                Place::PodIp => known.pod_ip.into(),
                Place::Query(_) => captured.next().cloned().unwrap_or_default(),
            })
            .collect();
        let mut status = fill(&self.status, &filling);
        for (field, containers) in [
            ("containerStatuses", known.containers),
            ("initContainerStatuses", known.init_containers),
        ] {
            if let Some(Value::Array(entries)) = status.get_mut(field) {
                *entries = entries
                    .drain(..)
                    .flat_map(|entry| for_each_container(entry, containers))
                    .collect();
            }
        }
        status
    }
}

fn place(text: &str) -> Result<Place, String> {
    let mut text = text.trim();
    if let Some(before) = text.strip_suffix("Quote").map(str::trim_end)
        && let Some(before) = before.strip_suffix('|')
    {
        text = before.trim_end();
    }
    Ok(match text {
        "Now" => Place::Now,
        "NodeIP" => Place::NodeIp,
        "PodIP" => Place::PodIp,
        _ if text.starts_with('.') => Place::Query(Query::parse(text)?),
        _ => {
            return Err(format!(
                "{{{{ {text} }}}} is not served: Now, NodeIP, PodIP and paths like .metadata.name are"
            ));
        }
    })
}

fn fill(value: &Value, filling: &[Value]) -> Value {
    match value {
        Value::Array(list) => list.iter().map(|item| fill(item, filling)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), fill(value, filling)))
            .collect(),
        Value::String(text) if text.contains(MARK) => fill_text(text, filling),
        other => other.clone(),
    }
}

/// A text that is one place becomes its value; places within a text become text.
fn fill_text(text: &str, filling: &[Value]) -> Value {
    let of = |number: &str| {
        number
            .parse::<usize>()
            .ok()
            .and_then(|number| filling.get(number))
    };
    let parts: Vec<&str> = text.split(MARK).collect();
    if let ["", number, ""] = parts[..] {
        return of(number).cloned().unwrap_or_default();
    }
    let mut whole = String::with_capacity(text.len() + 32);
    for (at, part) in parts.iter().enumerate() {
        match of(part).filter(|_| at % 2 == 1) {
            Some(Value::String(value)) => whole.push_str(value),
            Some(Value::Null) => {}
            Some(value) => whole.push_str(&value.to_string()),
            None => whole.push_str(part),
        }
    }
    whole.into()
}

fn for_each_container(entry: Value, containers: &[(String, String)]) -> Vec<Value> {
    if entry["name"] != "*" {
        return vec![entry];
    }
    let named = |(name, image): &(String, String)| {
        let mut entry = entry.clone();
        entry["name"] = name.as_str().into();
        if entry["image"].is_null() {
            entry["image"] = image.as_str().into();
        }
        entry
    };
    containers.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, object: &Value) -> Value {
        let template = Template::parse(text).unwrap();
        template.fill(&Known {
            now: "2026-01-01T00:00:00Z",
            node_ip: "100.64.0.1",
            pod_ip: "10.128.0.9",
            captured: &template.capture(object),
            containers: &[("a".into(), "x:1".into()), ("b".into(), "y:2".into())],
            init_containers: &[],
        })
    }

    #[test]
    fn places_are_filled_in() {
        let pod = json!({"metadata": {"name": "it's: \"p\"", "generation": 7}});
        let text = "phase: Running\nstartTime: {{ Now }}\nhostIP: \"{{ NodeIP }}\"\npodIPs: [{ip: {{ PodIP | Quote }}}]\n\
                    message: 'pod {{ .metadata.name }} on {{ NodeIP }}'\nobservedGeneration: {{ .metadata.generation }}\n\
                    reason: {{ .status.reason }}\n";
        assert_eq!(
            filled(text, &pod),
            json!({
                "phase": "Running", "startTime": "2026-01-01T00:00:00Z", "hostIP": "100.64.0.1",
                "podIPs": [{"ip": "10.128.0.9"}], "message": "pod it's: \"p\" on 100.64.0.1",
                "observedGeneration": 7, "reason": null,
            })
        );
    }

    #[test]
    fn one_entry_may_stand_for_all_containers() {
        let text = "containerStatuses:\n- name: '*'\n  ready: false\n  state: {waiting: {reason: CrashLoopBackOff}}\n\
                    initContainerStatuses:\n- name: '*'\n";
        let waiting = |name, image| json!({"name": name, "image": image, "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        assert_eq!(
            filled(text, &json!({})),
            json!({"containerStatuses": [waiting("a", "x:1"), waiting("b", "y:2")], "initContainerStatuses": []})
        );
    }

    #[test]
    fn what_is_not_served_is_refused() {
        for (text, part) in [
            ("a: {{ range .x }}", "{{ range .x }} is not served"),
            ("{{ $now := Now }}\na: 1", "$now := Now"),
            ("a: {{ .x | length }}", "length is not served"),
            ("a: pod {{ Now }}", "put the text in quotes"),
            ("a: {{ Now", "}} is missing"),
            ("- a", "it must be an object"),
            (": [", "line"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
