//! A reader for the small, regular dialect of proto2 in which Kubernetes publishes its messages.
//! Knows messages and fields; options, services and nested messages do not occur and are not known.

use std::collections::BTreeMap;

/// One field of a message: `optional int32 replicas = 1;`
pub(crate) struct ProtoField {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) repeated: bool,
    pub(crate) map: bool,
    /// A scalar name, or the full name of a message without the leading dot. For a map, of its values.
    pub(crate) kind: String,
}

/// All messages by full name.
pub(crate) type Messages = BTreeMap<String, Vec<ProtoField>>;

/// Adds the messages of one file.
pub(crate) fn parse(text: &str, messages: &mut Messages) -> Result<(), String> {
    let text = strip_block_comments(text);
    let mut package = String::new();
    let mut current: Option<(String, Vec<ProtoField>)> = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("").trim();
        if let Some(rest) = line.strip_prefix("package ") {
            package = rest.trim_end_matches(';').to_owned();
        } else if let Some(rest) = line.strip_prefix("message ") {
            current = Some((
                format!("{package}.{}", rest.trim_end_matches('{').trim()),
                Vec::new(),
            ));
        } else if line == "}" {
            if let Some((name, fields)) = current.take() {
                messages.insert(name, fields);
            }
        } else if let Some((name, fields)) = &mut current
            && !line.is_empty()
        {
            fields.push(
                parse_field(line, &package)
                    .ok_or_else(|| format!("{name}: cannot read {line:?}"))?,
            );
        }
    }
    Ok(())
}

fn strip_block_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("/*") {
        // `/*` also occurs inside line comments; those are dropped line by line later.
        let line_start = rest[..start].rfind('\n').map_or(0, |at| at + 1);
        if rest[line_start..start].contains("//") {
            out.push_str(&rest[..start + 2]);
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        rest = rest[start..]
            .find("*/")
            .map_or("", |end| &rest[start + end + 2..]);
    }
    out.push_str(rest);
    out
}

fn parse_field(line: &str, package: &str) -> Option<ProtoField> {
    let (left, right) = line.trim_end_matches(';').rsplit_once('=')?;
    let number = right.trim().parse().ok()?;
    let left = left.trim();
    let (kind, name, repeated, map) = if let Some(rest) = left.strip_prefix("map<") {
        let (types, name) = rest.split_once('>')?;
        let (key, value) = types.split_once(',')?;
        if key.trim() != "string" {
            return None;
        }
        (value.trim(), name.trim(), false, true)
    } else {
        let mut words = left.split_whitespace();
        let label = words.next()?;
        (words.next()?, words.next()?, label == "repeated", false)
    };
    let scalar = matches!(
        kind,
        "string" | "int32" | "int64" | "bool" | "bytes" | "double"
    );
    let kind = match kind.strip_prefix('.') {
        Some(full) => full.to_owned(),
        None if scalar => kind.to_owned(),
        None => format!("{package}.{kind}"),
    };
    Some(ProtoField {
        name: name.to_owned(),
        number,
        repeated,
        map,
        kind,
    })
}
