//! Checks the engine against the published sample objects: one of each kind, in JSON, YAML and protobuf, must become
//! each other byte for byte. Knows where the samples are; it does not know how the engine works.

use std::collections::BTreeMap;
use std::path::Path;

use schema::{JsonOptions, TypeId};

use crate::sources::read_tar_xz;

type Check = (&'static str, fn(&Sample) -> Result<(), String>);

const CHECKS: &[Check] = &[
    ("json → pb", |sample| {
        same(
            "pb",
            &sample.pb,
            &encode(
                sample,
                &schema::decode_json(sample.ty, &sample.json)
                    .map_err(text)?
                    .value,
            )?,
        )
    }),
    ("yaml → pb", |sample| {
        same(
            "pb",
            &sample.pb,
            &encode(
                sample,
                &schema::decode_yaml(sample.ty, &sample.yaml)
                    .map_err(text)?
                    .value,
            )?,
        )
    }),
    ("pb → pb", |sample| {
        same("pb", &sample.pb, &encode(sample, &decode(sample)?)?)
    }),
    ("pb → json", |sample| {
        same("json", &sample.json, &pretty(sample, &decode(sample)?))
    }),
    ("json → json", |sample| {
        same(
            "json",
            &sample.json,
            &pretty(
                sample,
                &schema::decode_json(sample.ty, &sample.json)
                    .map_err(text)?
                    .value,
            ),
        )
    }),
    ("pb → yaml", |sample| {
        let mut out = Vec::new();
        schema::write_yaml(sample.ty, &decode(sample)?, &mut out);
        same("yaml", &sample.yaml, &out)
    }),
    ("pb → json, streaming", |sample| {
        let envelope = schema::envelope::unwrap(&sample.pb).map_err(text)?;
        let options = JsonOptions {
            type_meta: sample.type_meta(),
            resource_version: None,
        };
        let mut compact = Vec::new();
        schema::protobuf_to_json(sample.ty, envelope.raw, options, &mut compact).map_err(text)?;
        let mut out = Vec::new();
        schema::indent_json(&compact, &mut out);
        same("json", &sample.json, &out)
    }),
    ("nothing dropped", |sample| {
        let decoded = schema::decode_json(sample.ty, &sample.json).map_err(text)?;
        if decoded.complaints.is_empty() {
            Ok(())
        } else {
            Err(decoded.complaints.join(", "))
        }
    }),
];

struct Sample {
    name: String,
    ty: TypeId,
    api_version: String,
    kind: String,
    /// Some samples, such as WatchEvent, do not carry apiVersion and kind in JSON.
    has_type_meta: bool,
    json: Vec<u8>,
    yaml: Vec<u8>,
    pb: Vec<u8>,
}

impl Sample {
    fn type_meta(&self) -> Option<(&str, &str)> {
        self.has_type_meta
            .then_some((self.api_version.as_str(), self.kind.as_str()))
    }
}

/// Runs every check on every sample and prints the counts and the first difference of each failure.
pub(crate) fn run(schema: &Path) -> Result<(), String> {
    let samples = samples(schema)?;
    let mut failures = 0;
    let mut passed = vec![0; CHECKS.len()];
    for sample in &samples {
        for (index, (title, check)) in CHECKS.iter().enumerate() {
            match check(sample) {
                Ok(()) => passed[index] += 1,
                Err(difference) => {
                    failures += 1;
                    println!("{}: {title}: {difference}", sample.name);
                }
            }
        }
    }
    for ((title, _), passed) in CHECKS.iter().zip(passed) {
        println!("{passed:>4}/{} {title}", samples.len());
    }
    if failures == 0 {
        Ok(())
    } else {
        Err(format!("{failures} checks failed"))
    }
}

fn samples(schema: &Path) -> Result<Vec<Sample>, String> {
    let mut files: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (path, bytes) in read_tar_xz(schema, "api-testdata-1.36.tar.xz")? {
        let file = path.rsplit('/').next().unwrap_or(&path);
        if let Some((name, form)) = file.rsplit_once('.') {
            files
                .entry(name.to_owned())
                .or_default()
                .insert(form.to_owned(), bytes);
        }
    }
    files
        .into_iter()
        .map(|(name, mut forms)| {
            let mut form = |form: &str| {
                forms
                    .remove(form)
                    .ok_or_else(|| format!("{name} has no {form}"))
            };
            let (json, yaml, pb) = (form("json")?, form("yaml")?, form("pb")?);
            let envelope =
                schema::envelope::unwrap(&pb).map_err(|error| format!("{name}: {error}"))?;
            let (api_version, kind) = (envelope.api_version.to_owned(), envelope.kind.to_owned());
            // WatchEvent is not an API object and has no type meta; its file name tells the kind.
            let named = name.rsplit_once('.').map_or("", |(_, kind)| kind);
            let known = if kind.is_empty() {
                schema::kind_type("v1", named)
            } else {
                schema::kind_type(&api_version, &kind)
            };
            let ty = known.ok_or_else(|| format!("{name}: no type for {api_version} {kind}"))?;
            let (_, json_kind) =
                schema::peek_type_meta_json(&json).map_err(|error| format!("{name}: {error}"))?;
            Ok(Sample {
                name,
                ty,
                api_version,
                has_type_meta: !kind.is_empty() && json_kind == kind,
                kind,
                json,
                yaml,
                pb,
            })
        })
        .collect()
}

fn decode(sample: &Sample) -> Result<value::Value, String> {
    let envelope = schema::envelope::unwrap(&sample.pb).map_err(text)?;
    let mut value = schema::decode_protobuf(sample.ty, envelope.raw).map_err(text)?;
    if let (Some(map), Some((api_version, kind))) = (value.as_object_mut(), sample.type_meta()) {
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("kind".to_owned(), kind.into());
    }
    Ok(value)
}

fn encode(sample: &Sample, value: &value::Value) -> Result<Vec<u8>, String> {
    let (mut message, mut out) = (Vec::new(), Vec::new());
    schema::encode_protobuf(sample.ty, value, &mut message).map_err(text)?;
    schema::envelope::wrap(&sample.api_version, &sample.kind, &message, &mut out);
    Ok(out)
}

fn pretty(sample: &Sample, value: &value::Value) -> Vec<u8> {
    let (mut compact, mut out) = (Vec::new(), Vec::new());
    schema::write_json(sample.ty, value, &mut compact);
    schema::indent_json(&compact, &mut out);
    out
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn same(form: &str, expected: &[u8], found: &[u8]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    if form == "pb" {
        let at = expected
            .iter()
            .zip(found)
            .take_while(|(left, right)| left == right)
            .count();
        let around = |bytes: &[u8]| {
            let window = bytes
                .get(at.saturating_sub(24)..bytes.len().min(at + 24))
                .unwrap_or_default();
            window.escape_ascii().to_string()
        };
        return Err(format!(
            "{} bytes expected, {} found, first difference at {at}: expected {} found {}",
            expected.len(),
            found.len(),
            around(expected),
            around(found)
        ));
    }
    let (expected, found) = (
        String::from_utf8_lossy(expected),
        String::from_utf8_lossy(found),
    );
    let line = expected
        .lines()
        .zip(found.lines())
        .take_while(|(left, right)| left == right)
        .count();
    let at = |text: &str| text.lines().nth(line).unwrap_or("(end)").trim().to_owned();
    Err(format!(
        "line {}: expected {:?} found {:?}",
        line + 1,
        at(&expected),
        at(&found)
    ))
}
