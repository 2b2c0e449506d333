//! Turns the published schema archives into the one committed table, `crates/schema/src/table.txt`.
//!
//! Struct tags give names, order and pointers; protobuf messages give numbers and resolved types; the list of
//! resources gives verbs and names. What this does not know: how the engine uses any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use value::Value;

use crate::protos::{self, Messages, ProtoField};
use crate::sources::{read_tar_xz, read_xz};
use crate::supplement::{CONSTANTS, EXTRA_FLAGS, EXTRAS, Extra, Package, SPECIALS, package};

const HEADER: &str = "\
# The Kubernetes 1.36 API as data, made by `cargo xtask codegen`; do not edit by hand.
# Derived from the published struct tags, protobuf messages and resource list of Kubernetes,
# Copyright The Kubernetes Authors, licensed under the Apache License 2.0.
#
# P package group version openapi-prefix          a package of types; '-' is the core group, '!' is no group
# T name [kind] [special=...]                     a type; 'kind' carries apiVersion and kind
#  json-name number type flags...                 a field, in struct order; * pointer, [] list, {} map, = inlined struct
#    oe omitempty  oz omitzero  req required       patch= mergeKey= list= keys= map= default= go=
# R group version resource kind singular scope verbs shortnames categories served storage
# S subresource group version kind verbs          a subresource of the resource above
";

/// Reads the archives and writes the table.
pub(crate) fn run(schema: &Path, repository: &Path) -> Result<(), String> {
    let table = Sources::read(schema)?.table()?;
    let path = repository.join("crates/schema/src/table.txt");
    std::fs::write(&path, &table)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    println!(
        "{}: {} lines, {} bytes",
        path.display(),
        table.lines().count(),
        table.len()
    );
    Ok(())
}

struct Sources {
    markers: Value,
    messages: Messages,
    resources: Vec<Value>,
}

impl Sources {
    fn read(schema: &Path) -> Result<Sources, String> {
        let json = |name: &str| -> Result<Value, String> {
            serde_json::from_slice(&read_xz(schema, name)?)
                .map_err(|error| format!("{name}: {error}"))
        };
        let mut messages = Messages::new();
        for (path, bytes) in read_tar_xz(schema, "protos-1.36.4.tar.xz")? {
            if path.ends_with("generated.proto") {
                protos::parse(&String::from_utf8_lossy(&bytes), &mut messages)?;
            }
        }
        let Value::Array(resources) = json("api-resources-1.36.json.xz")? else {
            return Err("api-resources is not a list".to_owned());
        };
        Ok(Sources {
            markers: json("go-type-markers-1.36.4.json.xz")?,
            messages,
            resources,
        })
    }

    fn table(&self) -> Result<String, String> {
        let mut out = HEADER.to_owned();
        let mut packages: BTreeMap<String, (Package, BTreeSet<&str>)> = BTreeMap::new();
        for full in self.messages.keys() {
            let Some((proto, name)) = full.rsplit_once('.') else {
                continue;
            };
            if let Some(package) = package(proto) {
                packages
                    .entry(package.short.clone())
                    .or_insert_with(|| (package, BTreeSet::new()))
                    .1
                    .insert(name);
            }
        }
        for (package, names) in packages.values() {
            let group = match package.group.as_deref() {
                None => "!",
                Some("") => "-",
                Some(group) => group,
            };
            let version = package
                .short
                .rsplit_once('/')
                .map_or("!", |(_, version)| version);
            let _ = writeln!(
                out,
                "P {} {group} {version} {}",
                package.short, package.openapi
            );
            for name in names {
                self.write_type(package, name, &mut out)?;
            }
        }
        self.write_resources(&mut out)?;
        Ok(out)
    }

    fn write_type(&self, package: &Package, name: &str, out: &mut String) -> Result<(), String> {
        let table_name = format!("{}.{name}", package.short);
        if package.short == "runtime" && name != "RawExtension" {
            // The envelope of the wire, read by hand-written code.
            return Ok(());
        }
        let message = &self.messages[&format!("{}.{name}", package.proto)];
        if let Some((_, special)) = SPECIALS.iter().find(|(special, _)| *special == table_name) {
            let _ = writeln!(out, "T {name} special={special}");
            // Protobuf numbers of the special forms are still data.
            for field in message {
                let _ = writeln!(
                    out,
                    " {} {} {}",
                    field.name,
                    field.number,
                    self.type_text(field, true)?
                );
            }
            return Ok(());
        }
        if let Some(extra) = EXTRAS.iter().find(|extra| extra.name == table_name) {
            return self.write_extra(extra, message, out);
        }
        let Some((marker_package, marker)) = self.marker(&package.markers, name) else {
            return Ok(());
        };
        if marker["alias"]
            .as_str()
            .is_some_and(|alias| alias.starts_with("[]"))
        {
            let [items] = message.as_slice() else {
                return Err(format!("{table_name}: a list with several fields"));
            };
            let _ = writeln!(
                out,
                "T {name} special=items\n {} {} {}",
                items.name,
                items.number,
                self.type_text(items, true)?
            );
            return Ok(());
        }
        let none = Vec::new();
        let fields = marker["fields"].as_array().unwrap_or(&none);
        let kind = fields
            .iter()
            .any(|field| field["go"] == "TypeMeta" && field["inline"] == true);
        let _ = writeln!(out, "T {name}{}", if kind { " kind" } else { "" });
        for field in fields {
            let number = field["pb"].as_u64().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let proto = message
                .iter()
                .find(|candidate| u64::from(candidate.number) == number)
                .ok_or_else(|| format!("{table_name}: no message field {number}"))?;
            self.write_field(&marker_package, field, proto, out)?;
        }
        Ok(())
    }

    fn write_extra(
        &self,
        extra: &Extra,
        message: &[ProtoField],
        out: &mut String,
    ) -> Result<(), String> {
        let name = extra
            .name
            .rsplit_once('.')
            .map_or(extra.name, |(_, name)| name);
        let _ = writeln!(out, "T {name}{}", if extra.kind { " kind" } else { "" });
        for text in extra.fields {
            let pointer = text.starts_with('*');
            let omitempty = text.ends_with('?');
            let json = text.trim_start_matches('*').trim_end_matches('?');
            let proto = message
                .iter()
                .find(|field| field.name == json)
                .ok_or_else(|| format!("{}: no message field {json}", extra.name))?;
            let _ = write!(
                out,
                " {json} {} {}",
                proto.number,
                self.type_text(proto, pointer)?
            );
            out.push_str(if omitempty { " oe" } else { " req" });
            for (_, _, flags) in EXTRA_FLAGS
                .iter()
                .filter(|(name, field, _)| *name == extra.name && *field == json)
            {
                let _ = write!(out, " {flags}");
            }
            out.push('\n');
        }
        Ok(())
    }

    fn write_field(
        &self,
        package: &str,
        field: &Value,
        proto: &ProtoField,
        out: &mut String,
    ) -> Result<(), String> {
        let text = |key: &str| field[key].as_str().unwrap_or("");
        let go = text("type");
        let json = text("json");
        let inline = field["inline"] == true && json.is_empty();
        let pointer = go.starts_with('*');
        let kind = self.type_text(proto, pointer)?;
        let _ = write!(
            out,
            " {} {} {}",
            if inline { "=" } else { json },
            proto.number,
            kind
        );
        let omitempty = field["omitempty"] == true;
        if omitempty {
            out.push_str(" oe");
        }
        if field["omitzero"] == true {
            out.push_str(" oz");
        }
        let markers: Vec<&str> = field["markers"]
            .as_array()
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let marker = |name: &str| {
            let plain = markers
                .iter()
                .find_map(|marker| marker.strip_prefix(name)?.strip_prefix('='));
            plain.or_else(|| {
                markers.iter().find_map(|marker| {
                    marker
                        .strip_prefix("k8s:")?
                        .strip_prefix(name)?
                        .strip_prefix('=')
                })
            })
        };
        if !omitempty
            && !inline
            && !markers
                .iter()
                .any(|marker| matches!(*marker, "optional" | "k8s:optional"))
        {
            out.push_str(" req");
        }
        if !text("patchStrategy").is_empty() {
            let _ = write!(out, " patch={}", text("patchStrategy"));
        }
        if !text("patchMergeKey").is_empty() {
            let _ = write!(out, " mergeKey={}", text("patchMergeKey"));
        }
        if let Some(list) = marker("listType") {
            let _ = write!(out, " list={list}");
        }
        let keys: Vec<&str> = markers
            .iter()
            .filter_map(|marker| {
                marker
                    .strip_prefix("listMapKey=")
                    .or_else(|| marker.strip_prefix("k8s:listMapKey="))
            })
            .collect();
        if !keys.is_empty() {
            let mut keys = keys;
            keys.dedup();
            let _ = write!(out, " keys={}", keys.join(","));
        }
        if let Some(map) = marker("mapType").or_else(|| marker("structType")) {
            let _ = write!(out, " map={map}");
        }
        if let Some(default) = marker("default") {
            let constant = CONSTANTS
                .iter()
                .find(|(name, _)| *name == default)
                .map(|(_, value)| *value);
            let value = constant.unwrap_or(default);
            if serde_json::from_str::<Value>(value).is_err() || value.contains(' ') {
                return Err(format!(
                    "default marker {default:?} of {json} is not a JSON value without spaces"
                ));
            }
            let _ = write!(out, " default={value}");
        }
        if let Some(go) = named_go_type(package, go).filter(|go| *go != derived_go_type(&kind)) {
            let _ = write!(out, " go={go}");
        }
        out.push('\n');
        Ok(())
    }

    /// The marker of a type, following struct aliases into the package that declares the fields.
    fn marker(&self, package: &str, name: &str) -> Option<(String, &Value)> {
        let marker = self.markers.get(package)?.get(name)?;
        match marker["alias"].as_str() {
            Some("metav1.List") => self.marker("apimachinery/pkg/apis/meta/v1", "List"),
            Some(alias) => match alias.strip_prefix("v1.") {
                Some(target) => self.marker(&format!("{}/v1", package.rsplit_once('/')?.0), target),
                None => Some((package.to_owned(), marker)),
            },
            None => Some((package.to_owned(), marker)),
        }
    }

    fn type_text(&self, field: &ProtoField, pointer: bool) -> Result<String, String> {
        let kind = match field.kind.as_str() {
            scalar @ ("string" | "int32" | "int64" | "bool" | "bytes" | "double") => {
                scalar.to_owned()
            }
            full => {
                let (proto, name) = full
                    .rsplit_once('.')
                    .ok_or_else(|| format!("odd type {full}"))?;
                let package = package(proto)
                    .ok_or_else(|| format!("{}: {full} is in an unknown package", field.name))?;
                format!("{}.{name}", package.short)
            }
        };
        Ok(match (field.repeated, field.map, pointer) {
            (true, _, _) => format!("[]{kind}"),
            (_, true, _) => format!("{{}}{kind}"),
            (_, _, true) => format!("*{kind}"),
            _ => kind,
        })
    }

    fn write_resources(&self, out: &mut String) -> Result<(), String> {
        let mut sorted: Vec<&Value> = self.resources.iter().collect();
        let key = |row: &Value| {
            let text = |key: &str| row[key].as_str().unwrap_or("").to_owned();
            (
                text("group"),
                text("version"),
                text("resource"),
                text("subresource"),
            )
        };
        sorted.sort_by_key(|row| key(row));
        for row in &sorted {
            let text = |key: &str| row[key].as_str().unwrap_or("");
            let list = |key: &str| -> String {
                let items: Vec<&str> = row[key]
                    .as_array()
                    .map(|list| list.iter().filter_map(Value::as_str).collect())
                    .unwrap_or_default();
                if items.is_empty() {
                    "-".to_owned()
                } else {
                    items.join(",")
                }
            };
            let dash = |text: &str| {
                if text.is_empty() {
                    "-".to_owned()
                } else {
                    text.to_owned()
                }
            };
            let kind = |key: &str| row["kind"][key].as_str().unwrap_or("");
            if !text("subresource").is_empty() {
                let _ = writeln!(
                    out,
                    "S {} {} {} {} {}",
                    text("subresource"),
                    dash(kind("group")),
                    kind("version"),
                    connect_options(text("subresource"), kind("kind")),
                    list("verbs")
                );
                continue;
            }
            let _ = writeln!(
                out,
                "R {} {} {} {} {} {} {} {} {} {} {}",
                dash(text("group")),
                text("version"),
                text("resource"),
                kind("kind"),
                text("singular"),
                if row["namespaced"] == true {
                    "namespaced"
                } else {
                    "cluster"
                },
                list("verbs"),
                list("shortNames"),
                list("categories"),
                if stability(text("version")).0 == 2 {
                    "served"
                } else {
                    "off"
                },
                storage(text("group"), text("resource"), &sorted),
            );
        }
        Ok(())
    }
}

/// Where objects of a resource are kept: the most stable, newest version of its group. Events are one storage.
fn storage(group: &str, resource: &str, rows: &[&Value]) -> String {
    if resource == "events" {
        return "-/v1/events".to_owned();
    }
    let version = rows
        .iter()
        .filter(|row| row["group"] == group && row["resource"] == resource)
        .filter_map(|row| row["version"].as_str())
        .max_by_key(|version| stability(version))
        .unwrap_or("v1");
    format!(
        "{}/{version}/{resource}",
        if group.is_empty() { "-" } else { group }
    )
}

/// Kubernetes' order of versions: general availability, then beta, then alpha; then by number.
fn stability(version: &str) -> (u8, u32, u32) {
    let rest = version.trim_start_matches('v');
    let number = |text: &str| text.parse().unwrap_or(0);
    if let Some((major, minor)) = rest.split_once("beta") {
        (1, number(major), number(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (0, number(major), number(minor))
    } else {
        (2, number(rest), 0)
    }
}

/// How Go would print the type of a field in an error, if it has a name that the protobuf type does not tell.
fn named_go_type(package: &str, go: &str) -> Option<String> {
    let go = go.trim_start_matches('*');
    let scalar = |name: &str| {
        matches!(
            name,
            "string" | "int32" | "int64" | "bool" | "float64" | "[]byte" | "byte"
        )
    };
    let element = go.trim_start_matches("[]");
    if scalar(go) || scalar(element) || go.starts_with("map[string]") {
        return None;
    }
    if go.starts_with("map[") {
        let (key, value) = go.trim_start_matches("map[").split_once(']')?;
        return Some(format!(
            "map[{}]{}",
            qualify(package, key),
            if scalar(value) {
                value.to_owned()
            } else {
                qualify(package, value)
            }
        ));
    }
    Some(format!(
        "{}{}",
        &go[..go.len() - element.len()],
        qualify(package, element)
    ))
}

/// What the engine prints for a field without `go=`: the last word of the package and the type's name.
fn derived_go_type(kind: &str) -> String {
    let kind = kind.trim_start_matches('*');
    let (prefix, name) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
        (Some(name), _) => ("[]", name),
        (_, Some(name)) => ("map[string]", name),
        _ => ("", kind),
    };
    let name = name.rsplit_once('/').map_or(name, |(_, last)| last);
    format!("{prefix}{}", name.replace("quantity.", "resource."))
}

fn qualify(package: &str, name: &str) -> String {
    match name.split_once('.') {
        Some((prefix, name)) => {
            let prefix = if prefix.ends_with("v1") { "v1" } else { prefix };
            format!("{prefix}.{name}")
        }
        None => format!(
            "{}.{name}",
            package.rsplit_once('/').map_or(package, |(_, last)| last)
        ),
    }
}

/// The kind of a connect subresource is that of its options; the source names the object's own kind there.
fn connect_options(subresource: &str, kind: &str) -> String {
    let action = match subresource {
        "attach" => "Attach",
        "exec" => "Exec",
        "portforward" => "PortForward",
        "proxy" => "Proxy",
        _ => return kind.to_owned(),
    };
    format!("{kind}{action}Options")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_stable_version_is_storage() {
        assert!(stability("v2") > stability("v1"));
        assert!(stability("v1") > stability("v2beta2"));
        assert!(stability("v1beta2") > stability("v1beta1"));
        assert!(stability("v1beta1") > stability("v2alpha3"));
    }

    #[test]
    fn go_types_read_as_in_upstream_errors() {
        assert_eq!(
            named_go_type("api/core/v1", "*Protocol").as_deref(),
            Some("v1.Protocol")
        );
        assert_eq!(
            named_go_type("api/apps/v1", "[]corev1.Container").as_deref(),
            Some("[]v1.Container")
        );
        assert_eq!(named_go_type("api/apps/v1", "*int32"), None);
        assert_eq!(
            named_go_type("api/core/v1", "map[ResourceName]resource.Quantity").as_deref(),
            Some("map[v1.ResourceName]resource.Quantity")
        );
    }
}
