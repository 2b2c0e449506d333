//! The table as seen from outside: names and fields of types, for OpenAPI, explain, server-side apply and tests.

use crate::table::{Field, Kind, Shape, Special, TypeId, table};

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Text.
    String,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A flag.
    Bool,
    /// A 64-bit float.
    Double,
    /// Base64 in JSON.
    Bytes,
    /// `1Gi`, `500m`.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 with six digits.
    MicroTime,
    /// Go's duration text.
    Duration,
    /// Any JSON.
    Raw,
    /// An object of that type.
    Message(TypeId),
}

/// One field of a type, embedded structs flattened.
#[derive(Debug, Clone, Copy)]
pub struct FieldInfo {
    /// Name in JSON.
    pub json_name: &'static str,
    /// Type of its values.
    pub field_type: FieldType,
    /// The named type behind `field_type`, also for quantities and the like.
    pub type_id: Option<TypeId>,
    /// A list of values.
    pub list: bool,
    /// A map from strings to values.
    pub map: bool,
    /// Absence differs from the zero value.
    pub pointer: bool,
    /// Left out of JSON when empty.
    pub omitempty: bool,
    /// Must be given, as OpenAPI states it.
    pub required: bool,
    /// `atomic`, `set`, `map` or empty.
    pub list_type: &'static str,
    /// Keys of a `map` list, comma-separated.
    pub list_map_keys: &'static str,
    /// `atomic`, `granular` or empty.
    pub map_type: &'static str,
    /// Strategic merge: `merge`, `retainKeys`, both with a comma, or empty.
    pub patch_strategy: &'static str,
    /// Strategic merge: the key of list elements.
    pub patch_merge_key: &'static str,
    /// Declared default as JSON, or empty.
    pub default_json: &'static str,
}

/// The fields of a type in struct order, embedded structs flattened.
pub fn fields(ty: TypeId) -> impl Iterator<Item = FieldInfo> {
    let mut infos = Vec::new();
    collect(ty, &mut infos);
    infos.into_iter()
}

fn collect(ty: TypeId, infos: &mut Vec<FieldInfo>) {
    let message = table().get(ty);
    for field in &message.fields {
        match (field.shape, field.kind) {
            (Shape::Inline, Kind::Message(inner)) => collect(inner, infos),
            _ => infos.push(info(field)),
        }
    }
}

/// One field by JSON name.
pub fn field(ty: TypeId, json_name: &str) -> Option<FieldInfo> {
    table().field(ty, json_name).map(info)
}

fn info(field: &'static Field) -> FieldInfo {
    let notes = table().notes(field);
    let (mut field_type, mut list) = (field_type(field.kind), field.shape == Shape::List);
    let type_id = match field.kind {
        Kind::Message(ty) => Some(ty),
        _ => None,
    };
    // A named list of strings is a list, too, unless it is the element of something else.
    if table().special(field.kind) == Some(Special::Items)
        && matches!(field.shape, Shape::One | Shape::Pointer)
    {
        (field_type, list) = (FieldType::String, true);
    }
    FieldInfo {
        json_name: field.name,
        field_type,
        type_id,
        list,
        map: field.shape == Shape::Map,
        pointer: field.shape == Shape::Pointer,
        omitempty: field.omitempty,
        required: field.required,
        list_type: notes.map_or("", |notes| notes.list),
        list_map_keys: notes.map_or("", |notes| notes.keys),
        map_type: notes.map_or("", |notes| notes.map),
        patch_strategy: notes.map_or("", |notes| notes.patch),
        patch_merge_key: notes.map_or("", |notes| notes.merge_key),
        default_json: notes.map_or("", |notes| notes.default),
    }
}

fn field_type(kind: Kind) -> FieldType {
    match kind {
        Kind::String => FieldType::String,
        Kind::Int32 => FieldType::Int32,
        Kind::Int64 => FieldType::Int64,
        Kind::Bool => FieldType::Bool,
        Kind::Double => FieldType::Double,
        Kind::Bytes => FieldType::Bytes,
        Kind::Message(ty) => match table().get(ty).special {
            Some(Special::Quantity) => FieldType::Quantity,
            Some(Special::IntOrString) => FieldType::IntOrString,
            Some(Special::Time) => FieldType::Time,
            Some(Special::MicroTime) => FieldType::MicroTime,
            Some(Special::Duration) => FieldType::Duration,
            Some(Special::Raw) => FieldType::Raw,
            _ => FieldType::Message(ty),
        },
    }
}

impl TypeId {
    /// The bare name: `PodSpec`.
    pub fn name(self) -> &'static str {
        table().get(self).name
    }

    /// The name OpenAPI documents use: `io.k8s.api.core.v1.PodSpec`.
    pub fn openapi_name(self) -> String {
        let ty = table().get(self);
        format!("{}.{}", ty.package.openapi, ty.name)
    }

    /// API group and version of the type's package; `None` for helpers such as Quantity.
    pub fn group_version(self) -> Option<(&'static str, &'static str)> {
        let package = table().get(self).package;
        package.group.map(|group| (group, package.version))
    }

    /// Whether objects of the type carry apiVersion and kind.
    pub fn is_kind(self) -> bool {
        table().get(self).kind
    }

    /// Whether the type is a list of objects of a kind.
    pub fn is_list(self) -> bool {
        table().get(self).list
    }
}

/// Every type of the table.
pub fn types() -> impl Iterator<Item = TypeId> {
    (0..table().types.len()).filter_map(|id| u16::try_from(id).ok().map(TypeId))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_service_port() {
        let service = crate::kind_type("v1", "Service").unwrap();
        let FieldType::Message(spec) = field(service, "spec").unwrap().field_type else {
            panic!("a message")
        };
        let ports = field(spec, "ports").unwrap();
        assert_eq!(
            (ports.list, ports.list_type, ports.list_map_keys),
            (true, "map", "port,protocol")
        );
        assert_eq!(
            (ports.patch_strategy, ports.patch_merge_key),
            ("merge", "port")
        );
        let FieldType::Message(port) = ports.field_type else {
            panic!("a message")
        };
        assert_eq!(field(port, "protocol").unwrap().default_json, "\"TCP\"");
        assert_eq!(
            field(port, "targetPort").unwrap().field_type,
            FieldType::IntOrString
        );
        assert!(field(port, "port").unwrap().required && !field(port, "name").unwrap().required);
        assert_eq!(port.openapi_name(), "io.k8s.api.core.v1.ServicePort");
        assert_eq!(service.group_version(), Some(("", "v1")));
    }

    #[test]
    fn embedded_structs_are_flat() {
        let names: Vec<_> = fields(table().named("core/v1", "Probe").unwrap())
            .map(|field| field.json_name)
            .collect();
        assert_eq!(names[..4], ["exec", "httpGet", "tcpSocket", "grpc"]);
    }
}
