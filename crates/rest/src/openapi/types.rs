//! What OpenAPI needs to know of the schema table, and nothing else of it.

use schema::{FieldInfo, FieldType, TypeId};

/// What one value of a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    Bytes,
    Type(TypeId),
}

/// How many values a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Pointer,
    List,
    Map,
}

/// Types whose JSON is not an object of their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Quantity,
    IntOrString,
    Time,
    Duration,
    /// Any JSON object.
    Raw,
    /// A named list.
    Items,
    /// Any JSON.
    Any,
}

/// A field of a type, embedded structs flattened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) element: Element,
    pub(super) shape: Shape,
    pub(super) omitempty: bool,
    pub(super) required: bool,
    pub(super) default: &'static str,
    pub(super) patch_strategy: &'static str,
    pub(super) merge_key: &'static str,
    pub(super) list_type: &'static str,
    /// Separated by commas.
    pub(super) list_keys: &'static str,
    pub(super) map_type: &'static str,
}

/// The published name of a type, such as `io.k8s.api.core.v1.Pod`.
pub(super) fn name(ty: TypeId) -> String {
    ty.openapi_name()
}

/// Whether objects of the type carry `apiVersion` and `kind`.
pub(super) fn is_kind(ty: TypeId) -> bool {
    ty.is_kind()
}

/// How the type departs from an object of its fields.
pub(super) fn special(ty: TypeId) -> Option<Special> {
    Some(match ty.name() {
        "Quantity" => Special::Quantity,
        "IntOrString" => Special::IntOrString,
        "Time" | "MicroTime" => Special::Time,
        "Duration" => Special::Duration,
        "RawExtension" | "FieldsV1" => Special::Raw,
        "ExtraValue" | "Verbs" => Special::Items,
        "JSON"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => Special::Any,
        _ => return None,
    })
}

/// The fields of a type.
pub(super) fn properties(ty: TypeId) -> Vec<Property> {
    schema::fields(ty).filter_map(property).collect()
}

fn property(field: FieldInfo) -> Option<Property> {
    let element = match field.field_type {
        FieldType::String => Element::String,
        FieldType::Int32 => Element::Int32,
        FieldType::Int64 => Element::Int64,
        FieldType::Bool => Element::Bool,
        FieldType::Double => Element::Double,
        FieldType::Bytes => Element::Bytes,
        FieldType::Message(ty) => Element::Type(ty),
        FieldType::Quantity
        | FieldType::IntOrString
        | FieldType::Time
        | FieldType::MicroTime
        | FieldType::Duration
        | FieldType::Raw => Element::Type(field.type_id?),
    };
    let shape = match (field.list, field.map, field.pointer) {
        (true, _, _) => Shape::List,
        (_, true, _) => Shape::Map,
        (_, _, true) => Shape::Pointer,
        _ => Shape::One,
    };
    Some(Property {
        name: field.json_name,
        element,
        shape,
        omitempty: field.omitempty,
        required: field.required,
        default: field.default_json,
        patch_strategy: field.patch_strategy,
        merge_key: field.patch_merge_key,
        list_type: field.list_type,
        list_keys: field.list_map_keys,
        map_type: field.map_type,
    })
}
