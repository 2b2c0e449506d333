//! The table: every type, field and name of the Kubernetes API, parsed once from the committed text.
//!
//! It knows names, numbers and shapes. It does not know how any serialisation looks.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::FixedState;

/// A message type of the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TypeId(pub(crate) u16);

/// What one value of a field is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    Bytes,
    Message(TypeId),
}

/// How many values a field holds, and how its absence is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// A plain Go value: absence is the zero value, protobuf carries it always.
    One,
    /// A Go pointer: absence differs from the zero value.
    Pointer,
    List,
    Map,
    /// An embedded struct: its fields stand among the outer ones in JSON, nested in protobuf.
    Inline,
}

/// Types whose JSON is not an object of their fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Special {
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Duration,
    /// JSON bytes inside a message: RawExtension, FieldsV1, apiextensions JSON.
    Raw,
    /// A named list: a message with the one field `items`.
    Items,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
}

pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// The name as a JSON key: quoted, with its colon.
    pub(crate) key: &'static str,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    pub(crate) omitempty: bool,
    pub(crate) omitzero: bool,
    pub(crate) required: bool,
    /// Index of the less common annotations, `NO_NOTES` for none.
    notes: u16,
}

const NO_NOTES: u16 = u16::MAX;

/// Annotations that few fields carry.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) patch: &'static str,
    pub(crate) merge_key: &'static str,
    pub(crate) list: &'static str,
    pub(crate) keys: &'static str,
    pub(crate) map: &'static str,
    pub(crate) default: &'static str,
    pub(crate) go: &'static str,
}

pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) package: &'static Package,
    /// Carries apiVersion and kind.
    pub(crate) kind: bool,
    /// `FooList` with `items`: an empty list is written `[]`, never `null`.
    pub(crate) list: bool,
    pub(crate) special: Option<Special>,
    /// In Go struct order.
    pub(crate) fields: Box<[Field]>,
    /// Indices into `fields`, ascending by protobuf number.
    pub(crate) by_number: Box<[u16]>,
    /// JSON names, embedded structs flattened, sorted: name → (type, index of the field there).
    pub(crate) by_name: Box<[(&'static str, TypeId, u16)]>,
    /// Some `+default` marker lies here or below.
    pub(crate) has_defaults: bool,
}

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) short: &'static str,
    pub(crate) group: Option<&'static str>,
    pub(crate) version: &'static str,
    pub(crate) openapi: &'static str,
}

pub(crate) struct Table {
    pub(crate) types: Vec<Type>,
    notes: Vec<Notes>,
    /// JSON keys by name, shared by all fields of that name.
    keys: HashMap<&'static str, &'static str, FixedState>,
    by_full_name: HashMap<&'static str, HashMap<&'static str, TypeId>>,
    by_group_version: HashMap<String, &'static str>,
    pub(crate) resource_lines: Vec<&'static str>,
    pub(crate) object_meta: TypeId,
    pub(crate) list_meta: TypeId,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("table.txt")));

pub(crate) fn table() -> &'static Table {
    &TABLE
}

impl Table {
    pub(crate) fn get(&self, ty: TypeId) -> &Type {
        &self.types[usize::from(ty.0)]
    }

    pub(crate) fn notes(&self, field: &Field) -> Option<&Notes> {
        self.notes.get(usize::from(field.notes))
    }

    pub(crate) fn special(&self, kind: Kind) -> Option<Special> {
        match kind {
            Kind::Message(ty) => self.get(ty).special,
            _ => None,
        }
    }

    /// A type by package and name, for example `meta/v1`, `ObjectMeta`.
    pub(crate) fn named(&self, package: &str, name: &str) -> Option<TypeId> {
        self.by_full_name.get(package)?.get(name).copied()
    }

    pub(crate) fn kind_type(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        let here = self
            .by_group_version
            .get(api_version)
            .and_then(|package| self.named(package, kind));
        if let Some(ty) = here.filter(|ty| self.get(*ty).kind) {
            return Some(ty);
        }
        // Options, Status and the like belong to every group-version.
        let shared = self
            .named("meta/v1", kind)
            .filter(|ty| self.get(*ty).kind || kind == "WatchEvent")?;
        let everywhere = kind.ends_with("Options") || kind == "WatchEvent" || kind == "Status";
        (everywhere || api_version == "v1" || api_version == "meta.k8s.io/v1").then_some(shared)
    }

    /// Finds a field by JSON name, looking through embedded structs.
    pub(crate) fn field(&self, ty: TypeId, name: &str) -> Option<&Field> {
        let names = &self.get(ty).by_name;
        // Names that were read by this table are where its own are: no need to look at their letters.
        let same = |(candidate, _, _): &(&'static str, _, _)| {
            std::ptr::eq(candidate.as_ptr(), name.as_ptr()) && candidate.len() == name.len()
        };
        let at = names.iter().position(same).or_else(|| {
            names
                .binary_search_by(|(candidate, _, _)| (*candidate).cmp(name))
                .ok()
        })?;
        let (_, owner, index) = names[at];
        self.get(owner).fields.get(usize::from(index))
    }

    /// The one copy of a field's name that all types share, if some type has such a field.
    pub(crate) fn known_name(&self, name: &str) -> Option<&'static str> {
        self.keys.get(name).map(|key| unquoted(key))
    }

    /// How Go prints the type of the whole field.
    pub(crate) fn go_field(&self, field: &Field) -> String {
        if let Some(notes) = self.notes(field).filter(|notes| !notes.go.is_empty()) {
            return notes.go.to_owned();
        }
        let element = self.go_kind(field.kind);
        match field.shape {
            Shape::List => format!("[]{element}"),
            Shape::Map => format!("map[string]{element}"),
            _ => element,
        }
    }

    /// How Go prints the type of one value of the field.
    pub(crate) fn go_element(&self, field: &Field) -> String {
        let whole = self.go_field(field);
        match field.shape {
            Shape::List => whole.strip_prefix("[]").map(str::to_owned),
            Shape::Map => whole.split_once(']').map(|(_, value)| value.to_owned()),
            _ => None,
        }
        .unwrap_or_else(|| {
            if matches!(field.shape, Shape::List | Shape::Map) {
                self.go_kind(field.kind)
            } else {
                whole
            }
        })
    }

    pub(crate) fn go_kind(&self, kind: Kind) -> String {
        match kind {
            Kind::String => "string".to_owned(),
            Kind::Int32 => "int32".to_owned(),
            Kind::Int64 => "int64".to_owned(),
            Kind::Bool => "bool".to_owned(),
            Kind::Double => "float64".to_owned(),
            Kind::Bytes => "[]uint8".to_owned(),
            Kind::Message(ty) => {
                let ty = self.get(ty);
                let package = match ty.package.short {
                    "quantity" => "resource",
                    short => short.rsplit_once('/').map_or(short, |(_, version)| version),
                };
                format!("{package}.{}", ty.name)
            }
        }
    }

    fn parse(text: &'static str) -> Table {
        // First the names, so that fields may refer to types further down.
        let mut headers: Vec<(&'static Package, &'static str, Vec<&'static str>)> = Vec::new();
        let mut by_full_name: HashMap<&'static str, HashMap<&'static str, TypeId>> = HashMap::new();
        let mut by_group_version = HashMap::new();
        let mut resource_lines = Vec::new();
        let mut package: &'static Package = Box::leak(Box::new(Package {
            short: "",
            group: None,
            version: "",
            openapi: "",
        }));
        for line in text.lines() {
            match line.as_bytes().first() {
                Some(b' ') => {
                    if let Some((_, _, fields)) = headers.last_mut() {
                        fields.push(line);
                    }
                }
                Some(b'T') => {
                    let name = line[2..].split(' ').next().unwrap_or("");
                    let id = TypeId(u16::try_from(headers.len()).unwrap_or(u16::MAX));
                    by_full_name
                        .entry(package.short)
                        .or_default()
                        .insert(name, id);
                    headers.push((package, line, Vec::new()));
                }
                Some(b'P') => {
                    let mut words = line[2..].split(' ');
                    let mut word = || words.next().unwrap_or("");
                    let (short, group, version, openapi) = (word(), word(), word(), word());
                    let group = match group {
                        "!" => None,
                        "-" => Some(""),
                        group => Some(group),
                    };
                    package = Box::leak(Box::new(Package {
                        short,
                        group,
                        version,
                        openapi,
                    }));
                    if let Some(group) = group {
                        let api_version = if group.is_empty() {
                            version.to_owned()
                        } else {
                            format!("{group}/{version}")
                        };
                        by_group_version.insert(api_version, short);
                    }
                }
                Some(b'R' | b'S') => resource_lines.push(line),
                _ => {}
            }
        }
        let mut table = Table {
            types: Vec::with_capacity(headers.len()),
            notes: Vec::new(),
            keys: HashMap::default(),
            by_full_name,
            by_group_version,
            resource_lines,
            object_meta: TypeId(0),
            list_meta: TypeId(0),
        };
        for (package, header, lines) in headers {
            let parsed = table.parse_type(package, header, &lines);
            table.types.push(parsed);
        }
        table.object_meta = table.named("meta/v1", "ObjectMeta").unwrap_or(TypeId(0));
        table.list_meta = table.named("meta/v1", "ListMeta").unwrap_or(TypeId(0));
        table.index_names();
        table.mark_defaults();
        table
    }

    fn parse_type(
        &mut self,
        package: &'static Package,
        header: &'static str,
        lines: &[&'static str],
    ) -> Type {
        let mut words = header[2..].split(' ');
        let name = words.next().unwrap_or("");
        let (mut kind, mut special) = (false, None);
        for word in words {
            match word {
                "kind" => kind = true,
                _ => special = word.strip_prefix("special=").and_then(special_named),
            }
        }
        let fields: Box<[Field]> = lines
            .iter()
            .filter_map(|line| self.parse_field(line))
            .collect();
        let mut by_number: Vec<u16> = (0..u16::try_from(fields.len()).unwrap_or(0)).collect();
        by_number.sort_by_key(|index| fields[usize::from(*index)].number);
        let list =
            kind && name.ends_with("List") && fields.iter().any(|field| field.name == "items");
        let by_number = by_number.into_boxed_slice();
        Type {
            name,
            package,
            kind,
            list,
            special,
            fields,
            by_number,
            by_name: Box::default(),
            has_defaults: false,
        }
    }

    fn parse_field(&mut self, line: &'static str) -> Option<Field> {
        let mut words = line[1..].split(' ');
        let name = words.next()?;
        let number = words.next()?.parse().ok()?;
        let text = words.next()?;
        let (shape, element) = match (
            text.strip_prefix('*'),
            text.strip_prefix("[]"),
            text.strip_prefix("{}"),
        ) {
            (Some(element), _, _) => (Shape::Pointer, element),
            (_, Some(element), _) => (Shape::List, element),
            (_, _, Some(element)) => (Shape::Map, element),
            _ if name == "=" => (Shape::Inline, text),
            _ => (Shape::One, text),
        };
        let kind = match element {
            "string" => Kind::String,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "bool" => Kind::Bool,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            message => {
                let (package, name) = message.rsplit_once('.')?;
                Kind::Message(self.named(package, name)?)
            }
        };
        // A nil Go byte slice is its zero value, whatever the pointer mark says.
        let shape = if shape == Shape::Pointer && kind == Kind::Bytes {
            Shape::One
        } else {
            shape
        };
        let (mut omitempty, mut omitzero, mut required) = (false, false, false);
        let mut notes: Option<Notes> = None;
        for word in words {
            match word.split_once('=') {
                None => match word {
                    "oe" => omitempty = true,
                    "oz" => omitzero = true,
                    "req" => required = true,
                    _ => {}
                },
                Some((key, value)) => {
                    let notes = notes.get_or_insert_with(Notes::default);
                    match key {
                        "patch" => notes.patch = value,
                        "mergeKey" => notes.merge_key = value,
                        "list" => notes.list = value,
                        "keys" => notes.keys = value,
                        "map" => notes.map = value,
                        "default" => notes.default = value,
                        "go" => notes.go = value,
                        _ => {}
                    }
                }
            }
        }
        let notes = match notes {
            None => NO_NOTES,
            Some(notes) => {
                self.notes.push(notes);
                u16::try_from(self.notes.len() - 1).unwrap_or(NO_NOTES)
            }
        };
        let key = self
            .keys
            .entry(name)
            .or_insert_with(|| String::leak(format!("\"{name}\":")));
        Some(Field {
            name: unquoted(key),
            key,
            number,
            kind,
            shape,
            omitempty,
            omitzero,
            required,
            notes,
        })
    }

    fn index_names(&mut self) {
        for id in 0..self.types.len() {
            let mut names = Vec::new();
            self.collect_names(TypeId(u16::try_from(id).unwrap_or(u16::MAX)), &mut names);
            names.sort_unstable_by_key(|(name, _, _)| *name);
            self.types[id].by_name = names.into_boxed_slice();
        }
    }

    fn collect_names(&self, ty: TypeId, names: &mut Vec<(&'static str, TypeId, u16)>) {
        for (index, field) in self.get(ty).fields.iter().enumerate() {
            match (field.shape, field.kind) {
                (Shape::Inline, Kind::Message(inner)) => self.collect_names(inner, names),
                _ => names.push((field.name, ty, u16::try_from(index).unwrap_or(u16::MAX))),
            }
        }
    }

    /// Spreads "has defaults" from fields to every type that can reach them.
    fn mark_defaults(&mut self) {
        loop {
            let marked: Vec<usize> = (0..self.types.len())
                .filter(|id| !self.types[*id].has_defaults)
                .filter(|id| {
                    self.types[*id].fields.iter().any(|field| {
                        self.notes(field).is_some_and(|notes| !notes.default.is_empty())
                            || matches!(field.kind, Kind::Message(inner) if self.get(inner).has_defaults)
                    })
                })
                .collect();
            if marked.is_empty() {
                return;
            }
            for id in marked {
                self.types[id].has_defaults = true;
            }
        }
    }
}

/// The name within a quoted one with its colon.
fn unquoted(key: &'static str) -> &'static str {
    key.strip_prefix('"')
        .and_then(|key| key.strip_suffix("\":"))
        .unwrap_or(key)
}

fn special_named(name: &str) -> Option<Special> {
    Some(match name {
        "quantity" => Special::Quantity,
        "intstr" => Special::IntOrString,
        "time" => Special::Time,
        "microtime" => Special::MicroTime,
        "duration" => Special::Duration,
        "raw" => Special::Raw,
        "items" => Special::Items,
        "schemaorarray" => Special::SchemaOrArray,
        "schemaorbool" => Special::SchemaOrBool,
        "schemaorstrings" => Special::SchemaOrStrings,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let text = include_str!("table.txt");
        let table = table();
        let count = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(table.types.len(), count("T "));
        assert_eq!(
            table.types.iter().map(|ty| ty.fields.len()).sum::<usize>(),
            count(" ")
        );
        assert_eq!(table.resource_lines.len(), count("R ") + count("S "));
    }

    #[test]
    fn names_are_found_through_embedded_structs() {
        let table = table();
        let volume = table.named("core/v1", "Volume").unwrap();
        assert_eq!(table.field(volume, "emptyDir").unwrap().number, 2);
        assert!(table.field(volume, "EmptyDir").is_none());
    }

    #[test]
    fn go_type_names() {
        let table = table();
        let field = |package: &str, ty: &str, name: &str| {
            table
                .field(table.named(package, ty).unwrap(), name)
                .unwrap()
        };
        assert_eq!(
            table.go_field(field("apps/v1", "DeploymentSpec", "replicas")),
            "int32"
        );
        assert_eq!(
            table.go_field(field("core/v1", "PodSpec", "containers")),
            "[]v1.Container"
        );
        assert_eq!(
            table.go_element(field("core/v1", "PodSpec", "containers")),
            "v1.Container"
        );
        assert_eq!(
            table.go_field(field("core/v1", "PodSpec", "restartPolicy")),
            "v1.RestartPolicy"
        );
        assert_eq!(
            table.go_field(field("meta/v1", "ObjectMeta", "labels")),
            "map[string]string"
        );
    }
}
