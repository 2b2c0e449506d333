//! Tables as the server draws them for `kubectl get`: `meta.k8s.io/v1` Table and PartialObjectMetadata of built-in kinds.
//!
//! Which columns a kind has stands in `columns`, how its cells read in `cells` and `pod`. Knows no store and no
//! clock; columns of custom resources come from their definitions, not from here.

mod cells;
mod columns;
mod pod;

use meta::{Value, object, time};
use value::{Map, json};

const TABLE_API_VERSION: &str = "meta.k8s.io/v1";

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Title.
    pub name: &'static str,
    /// OpenAPI type of the cells: `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the column that names the object.
    pub format: &'static str,
    /// What the cells tell.
    pub description: &'static str,
    /// 0 for columns always shown, 1 for those of wide output.
    pub priority: i32,
}

/// How much of each object travels with its row (`includeObject=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata, which is what clients get unless they ask otherwise.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// The meaning of the query parameter; `None` for an unknown word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "None" => Some(IncludeObject::None),
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }
}

/// The metadata of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListMeta<'a> {
    /// Revision the list shows.
    pub resource_version: &'a str,
    /// Token of the next page; empty on the last.
    pub continue_token: &'a str,
    /// Objects on the pages to come, if known.
    pub remaining_item_count: Option<i64>,
}

impl ListMeta<'_> {
    /// The wire form; empty fields are left out.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [
            ("resourceVersion", self.resource_version),
            ("continue", self.continue_token),
        ] {
            if !value.is_empty() {
                out.insert(key.to_owned(), value.into());
            }
        }
        if let Some(count) = self.remaining_item_count {
            out.insert("remainingItemCount", count.into());
        }
        Value::Object(out)
    }
}

/// The columns of a kind; kinds without their own have name and time of creation.
pub fn columns(group: &str, kind: &str) -> &'static [Column] {
    layout(group, kind).columns
}

/// The cells of one object, as many as the kind has columns.
pub fn row(group: &str, kind: &str, object: &Value, now_micros: i64) -> Vec<Value> {
    (layout(group, kind).cells)(object, now_micros)
}

/// One entry of a table's `rows`, for lists written page by page.
pub fn table_row(
    group: &str,
    kind: &str,
    object: &Value,
    include: IncludeObject,
    now_micros: i64,
) -> Value {
    layout(group, kind).row(object, include, now_micros)
}

/// The `columnDefinitions` of a kind.
pub fn column_definitions(group: &str, kind: &str) -> Value {
    columns(group, kind)
        .iter()
        .map(Column::definition)
        .collect()
}

/// The table of a list.
pub fn table<'a>(
    group: &str,
    kind: &str,
    items: impl IntoIterator<Item = &'a Value>,
    include: IncludeObject,
    meta: &ListMeta<'_>,
    now_micros: i64,
) -> Value {
    let layout = layout(group, kind);
    let rows = items
        .into_iter()
        .map(|object| layout.row(object, include, now_micros))
        .collect();
    assemble(meta.to_value(), column_definitions(group, kind), rows)
}

/// The table of one object: the answer to a GET, or one event of a watch. Only a watch's first event has columns.
pub fn object_table(
    group: &str,
    kind: &str,
    object: &Value,
    include: IncludeObject,
    with_columns: bool,
    now_micros: i64,
) -> Value {
    let meta = ListMeta {
        resource_version: object::resource_version(object),
        ..ListMeta::default()
    };
    let definitions = if with_columns {
        column_definitions(group, kind)
    } else {
        Value::Null
    };
    let row = layout(group, kind).row(object, include, now_micros);
    assemble(meta.to_value(), definitions, vec![row])
}

fn assemble(metadata: Value, definitions: Value, rows: Vec<Value>) -> Value {
    json!({"kind": "Table", "apiVersion": TABLE_API_VERSION, "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows})
}

/// An object's metadata alone, as `as=PartialObjectMetadata` asks for.
pub fn partial_object_metadata(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": TABLE_API_VERSION, "metadata": metadata})
}

/// The metadata of a list's objects alone, as `as=PartialObjectMetadataList` asks for.
pub fn partial_object_metadata_list<'a>(
    items: impl IntoIterator<Item = &'a Value>,
    meta: &ListMeta<'_>,
) -> Value {
    let items: Vec<Value> = items.into_iter().map(partial_object_metadata).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": TABLE_API_VERSION,
        "metadata": meta.to_value(), "items": items})
}

impl Column {
    fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority})
    }
}

/// Columns of a kind and the function that fills them.
struct Layout {
    columns: &'static [Column],
    cells: Cells,
    /// Only pods finish, and only their rows say so.
    is_pod: bool,
}

/// An object and the present time in, one cell for each column out.
type Cells = fn(&Value, i64) -> Vec<Value>;

impl Layout {
    fn row(&self, object: &Value, include: IncludeObject, now_micros: i64) -> Value {
        let mut row = json!({"cells": (self.cells)(object, now_micros)});
        row["object"] = match include {
            IncludeObject::None => Value::Null,
            IncludeObject::Metadata => partial_object_metadata(object),
            IncludeObject::Object => object.clone(),
        };
        if let Some(conditions) = self.is_pod.then(|| pod::row_conditions(object)).flatten() {
            row["conditions"] = conditions;
        }
        row
    }
}

fn layout(group: &str, kind: &str) -> Layout {
    let found = columns::KINDS
        .iter()
        .find(|entry| entry.1 == kind && entry.0 == group);
    match found {
        Some((_, _, columns, cells)) => Layout {
            columns,
            cells: *cells,
            is_pod: group.is_empty() && kind == "Pod",
        },
        None => Layout {
            columns: columns::PLAIN,
            cells: plain_cells,
            is_pod: false,
        },
    }
}

fn plain_cells(object: &Value, _now_micros: i64) -> Vec<Value> {
    let created = object::creation_timestamp(object).and_then(|text| time::parse(text).ok());
    vec![
        object::name(object).into(),
        created.map(time::format_seconds).unwrap_or_default().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000_000;

    fn titles(group: &str, kind: &str, priority: i32) -> Vec<&'static str> {
        columns(group, kind)
            .iter()
            .filter(|c| c.priority == priority)
            .map(|c| c.name)
            .collect()
    }

    #[test]
    fn every_kind_fills_its_columns_even_from_nothing() {
        for (group, kind, columns, cells) in columns::KINDS {
            for object in [
                json!({}),
                json!({"metadata": 1, "spec": [], "status": "x"}),
                Value::Null,
            ] {
                assert_eq!(cells(&object, NOW).len(), columns.len(), "{kind}.{group}");
            }
            for column in *columns {
                assert!(!column.description.is_empty(), "{kind} {}", column.name);
            }
        }
    }

    #[test]
    fn columns_stand_in_upstreams_order() {
        assert_eq!(
            titles("", "Pod", 0),
            ["Name", "Ready", "Status", "Restarts", "Age"]
        );
        assert_eq!(
            titles("", "Pod", 1),
            ["IP", "Node", "Nominated Node", "Readiness Gates"]
        );
        assert_eq!(
            titles("", "Event", 0),
            ["Last Seen", "Type", "Reason", "Object", "Message"]
        );
        assert_eq!(
            titles("rbac.authorization.k8s.io", "Role", 0),
            ["Name", "Created At"]
        );
        assert_eq!(titles("example.com", "Pod", 0), ["Name", "Created At"]);
    }

    #[test]
    fn a_list_becomes_a_table_with_metadata_rows() {
        let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "d", "creationTimestamp": "2026-01-02T03:03:05Z"},
            "data": {"x": "1"}, "binaryData": {"y": "eA=="}});
        let meta = ListMeta {
            resource_version: "7",
            continue_token: "t",
            remaining_item_count: Some(3),
        };
        let table = table(
            "",
            "ConfigMap",
            [&config_map],
            IncludeObject::Metadata,
            &meta,
            NOW,
        );
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
        assert_eq!(
            table["metadata"],
            json!({"resourceVersion": "7", "continue": "t", "remainingItemCount": 3})
        );
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(
            table["rows"],
            json!([{"cells": ["a", 2, "60s"], "object": {"kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1", "metadata": config_map["metadata"]}}])
        );
        let whole = table_row("", "ConfigMap", &config_map, IncludeObject::Object, NOW);
        assert_eq!(whole["object"], config_map);
        assert_eq!(
            table_row("", "ConfigMap", &config_map, IncludeObject::None, NOW)["object"],
            Value::Null
        );
    }

    #[test]
    fn a_watch_sends_columns_once() {
        let node = json!({"metadata": {"name": "n", "resourceVersion": "9"}});
        let first = object_table("", "Node", &node, IncludeObject::None, true, NOW);
        let next = object_table("", "Node", &node, IncludeObject::None, false, NOW);
        assert_eq!(
            first["columnDefinitions"].as_array().map(Vec::len),
            Some(10)
        );
        assert_eq!(next["columnDefinitions"], Value::Null);
        assert_eq!(next["metadata"], json!({"resourceVersion": "9"}));
    }

    #[test]
    fn finished_pods_say_so() {
        let done = json!({"status": {"phase": "Succeeded"}});
        let row = table_row("", "Pod", &done, IncludeObject::None, NOW);
        assert_eq!(row["conditions"][0]["type"], "Completed");
        let running = table_row(
            "",
            "Pod",
            &json!({"status": {"phase": "Running"}}),
            IncludeObject::None,
            NOW,
        );
        assert_eq!(running.get("conditions"), None);
    }

    #[test]
    fn plain_kinds_show_when_they_were_made() {
        let range = json!({"metadata": {"name": "r", "creationTimestamp": "2026-01-02T03:04:05Z"}});
        assert_eq!(
            row("", "LimitRange", &range, NOW),
            ["r", "2026-01-02T03:04:05Z"]
        );
    }
}
