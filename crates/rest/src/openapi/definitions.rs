//! Type definitions: what every object looks like, from the schema table.
//!
//! Version 3 and version 2 of OpenAPI differ in how they refer to a type, and in that only version 3 knows defaults.
//! The prose that upstream gives to types and fields is not carried.

use std::collections::{BTreeMap, BTreeSet};

use schema::TypeId;
use value::{Map, Value, json};

use super::types::{self, Element, Property, Shape, Special};

/// The dialects of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a type.
    pub(super) fn reference(self, name: &str) -> Value {
        let place = match self {
            Dialect::V2 => "definitions",
            Dialect::V3 => "components/schemas",
        };
        json!({ "$ref": format!("#/{place}/{name}") })
    }
}

/// Structs that server-side apply treats as one value; the marker stands on the type, not on its fields.
const ATOMIC_TYPES: &[&str] = &[
    "io.k8s.api.admissionregistration.v1.MatchResources",
    "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations",
    "io.k8s.api.admissionregistration.v1.ParamKind",
    "io.k8s.api.admissionregistration.v1.ParamRef",
    "io.k8s.api.admissionregistration.v1.Variable",
    "io.k8s.api.admissionregistration.v1alpha1.MatchResources",
    "io.k8s.api.admissionregistration.v1alpha1.NamedRuleWithOperations",
    "io.k8s.api.admissionregistration.v1alpha1.ParamKind",
    "io.k8s.api.admissionregistration.v1alpha1.ParamRef",
    "io.k8s.api.admissionregistration.v1beta1.MatchResources",
    "io.k8s.api.admissionregistration.v1beta1.NamedRuleWithOperations",
    "io.k8s.api.admissionregistration.v1beta1.ParamKind",
    "io.k8s.api.admissionregistration.v1beta1.ParamRef",
    "io.k8s.api.admissionregistration.v1beta1.Variable",
    "io.k8s.api.autoscaling.v1.CrossVersionObjectReference",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.EndpointAddress",
    "io.k8s.api.core.v1.EndpointPort",
    "io.k8s.api.core.v1.FileKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.ScopeSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TopologySelectorTerm",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.networking.v1.ServiceBackendPort",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// The name of a patch body, which is no type of the table.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Group, version and kind of types that are kinds.
pub(super) type Kinds = BTreeMap<TypeId, BTreeSet<(String, String, String)>>;

/// The definitions of `roots` and of everything they reach, by name, and that of a patch.
pub(super) fn collect(dialect: Dialect, roots: &BTreeSet<TypeId>, kinds: &Kinds) -> Map {
    let mut definitions = Map::new();
    definitions.insert(PATCH.to_owned(), json!({ "type": "object" }));
    let mut seen: BTreeSet<TypeId> = roots.clone();
    let mut open: Vec<TypeId> = roots.iter().copied().collect();
    while let Some(ty) = open.pop() {
        let name = types::name(ty);
        let properties = types::properties(ty);
        if types::special(ty).is_none() {
            for next in properties
                .iter()
                .filter_map(|property| referenced(property.element))
            {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        definitions.insert(
            name.clone(),
            definition(dialect, ty, &name, &properties, kinds),
        );
    }
    definitions
}

/// The type that an element refers to by name. Named lists are written out in place.
fn referenced(element: Element) -> Option<TypeId> {
    match element {
        Element::Type(ty) if types::special(ty) == Some(Special::Items) => types::properties(ty)
            .first()
            .and_then(|items| referenced(items.element)),
        Element::Type(ty) => Some(ty),
        _ => None,
    }
}

fn definition(
    dialect: Dialect,
    ty: TypeId,
    name: &str,
    properties: &[Property],
    kinds: &Kinds,
) -> Value {
    if let Some(special) = types::special(ty) {
        return special_definition(dialect, special);
    }
    let mut schema = Map::new();
    schema.insert("type", "object".into());
    let mut fields = Map::new();
    if types::is_kind(ty) {
        fields.insert("apiVersion", json!({ "type": "string" }));
        fields.insert("kind", json!({ "type": "string" }));
    }
    for property in properties {
        fields.insert(property.name.to_owned(), property_schema(dialect, property));
    }
    if !fields.is_empty() {
        schema.insert("properties", fields.into());
    }
    let required: Vec<&str> = properties
        .iter()
        .filter(|property| property.required)
        .map(|property| property.name)
        .collect();
    if !required.is_empty() {
        schema.insert("required", json!(required));
    }
    if ATOMIC_TYPES.contains(&name) {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if let Some(kinds) = kinds.get(&ty) {
        let kinds: Vec<Value> = kinds
            .iter()
            .map(|(group, version, kind)| json!({ "group": group, "version": version, "kind": kind }))
            .collect();
        schema.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
    }
    Value::Object(schema)
}

/// Types whose JSON is not an object of their fields.
fn special_definition(dialect: Dialect, special: Special) -> Value {
    match (special, dialect) {
        (Special::Quantity, Dialect::V3) => {
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })
        }
        (Special::IntOrString, Dialect::V3) => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        (Special::IntOrString, Dialect::V2) => {
            json!({ "format": "int-or-string", "type": "string" })
        }
        (Special::Quantity | Special::Duration, _) => json!({ "type": "string" }),
        (Special::Time, _) => json!({ "format": "date-time", "type": "string" }),
        (Special::Raw, _) => json!({ "type": "object" }),
        (Special::Any, _) => json!({}),
        (Special::Items, _) => json!({ "type": "array", "items": { "type": "string" } }),
    }
}

fn property_schema(dialect: Dialect, property: &Property) -> Value {
    let mut schema = match property.shape {
        Shape::One | Shape::Pointer => element_schema(dialect, property.element),
        Shape::List => {
            json!({ "type": "array", "items": member_schema(dialect, property.element) })
        }
        Shape::Map => {
            json!({ "type": "object", "additionalProperties": member_schema(dialect, property.element) })
        }
    };
    // Upstream's fields all have a description beside their reference; readers are used to the `allOf` it asks for.
    if dialect == Dialect::V3 {
        detach_reference(&mut schema);
    }
    let mut extras = Map::new();
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            extras.insert(format!("x-kubernetes-{key}"), value.into());
        }
    };
    extra("patch-strategy", property.patch_strategy);
    extra("patch-merge-key", property.merge_key);
    extra("list-type", property.list_type);
    extra("map-type", property.map_type);
    if !property.list_keys.is_empty() {
        let keys: Vec<&str> = property.list_keys.split(',').collect();
        extras.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
    }
    if dialect == Dialect::V3
        && let Some(default) = property_default(property)
    {
        extras.insert("default", default);
    }
    decorate(dialect, &mut schema, extras);
    schema
}

/// An entry of a list or a map: version 3 tells its zero value.
fn member_schema(dialect: Dialect, element: Element) -> Value {
    let mut schema = element_schema(dialect, element);
    if dialect == Dialect::V3
        && let Some(default) = zero_value(element)
    {
        decorate(
            dialect,
            &mut schema,
            Map::from_iter([("default".to_owned(), default)]),
        );
    }
    schema
}

fn element_schema(dialect: Dialect, element: Element) -> Value {
    match element {
        Element::String => json!({ "type": "string" }),
        Element::Int32 => json!({ "type": "integer", "format": "int32" }),
        Element::Int64 => json!({ "type": "integer", "format": "int64" }),
        Element::Bool => json!({ "type": "boolean" }),
        Element::Double => json!({ "type": "number", "format": "double" }),
        Element::Bytes => json!({ "type": "string", "format": "byte" }),
        Element::Type(ty) if types::special(ty) == Some(Special::Items) => {
            match types::properties(ty).first() {
                Some(items) => {
                    json!({ "type": "array", "items": member_schema(dialect, items.element) })
                }
                None => json!({ "type": "array", "items": {} }),
            }
        }
        Element::Type(ty) => dialect.reference(&types::name(ty)),
    }
}

/// Adds keys. In version 3 a reference stands alone, so that it moves into an `allOf` beside them.
fn decorate(dialect: Dialect, schema: &mut Value, extras: Map) {
    if dialect == Dialect::V3 && !extras.is_empty() {
        detach_reference(schema);
    }
    if let Value::Object(schema) = schema {
        schema.extend(extras);
    }
}

fn detach_reference(schema: &mut Value) {
    if schema.get("$ref").is_some() {
        *schema = json!({ "allOf": [schema.take()] });
    }
}

/// The declared default, or the zero value of what is always there.
fn property_default(property: &Property) -> Option<Value> {
    if !property.default.is_empty() {
        return serde_json::from_str(property.default).ok();
    }
    match (property.shape, property.element) {
        (Shape::One, Element::Type(_)) => zero_value(property.element),
        (Shape::One, element) if !property.omitempty => zero_value(element),
        _ => None,
    }
}

/// What Go leaves where nothing was set, as far as it can be told in a schema.
fn zero_value(element: Element) -> Option<Value> {
    match element {
        Element::String => Some("".into()),
        Element::Int32 | Element::Int64 | Element::Double => Some(0.into()),
        Element::Bool => Some(false.into()),
        Element::Type(ty) if types::special(ty).is_none() => Some(json!({})),
        Element::Bytes | Element::Type(_) => None,
    }
}
