//! Paths and operations: what can be done with each resource, and with which parameters.
//!
//! Derived from the resources' verbs alone. The deprecated watch paths are served but not described.

use std::collections::BTreeSet;

use schema::{Resource, TypeId};
use value::{Map, Value, json};

use super::definitions::{Dialect, PATCH};
use super::types;

const PLAIN_TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const LIST_TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

const DELETE_PARAMETERS: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
    ),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const WRITE_PARAMETERS: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const PATCH_PARAMETERS: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const SELECT_PARAMETERS: &[(&str, &str)] = &[
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];
const WATCH_PARAMETERS: &[(&str, &str)] =
    &[("allowWatchBookmarks", "boolean"), ("watch", "boolean")];
const LOG_PARAMETERS: &[(&str, &str)] = &[
    ("container", "string"),
    ("follow", "boolean"),
    ("insecureSkipTLSVerifyBackend", "boolean"),
    ("limitBytes", "integer"),
    ("previous", "boolean"),
    ("sinceSeconds", "integer"),
    ("stream", "string"),
    ("tailLines", "integer"),
    ("timestamps", "boolean"),
];

/// The paths of one group-version, and the types that they speak of.
pub(super) struct Paths {
    pub(super) paths: Map,
    pub(super) types: BTreeSet<TypeId>,
}

/// Where the resources of a group-version live: `/api/v1` or `/apis/apps/v1`.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// Describes the resources of one group-version.
pub(super) fn describe(
    dialect: Dialect,
    group: &str,
    version: &str,
    resources: &[&Resource],
) -> Paths {
    let mut builder = Builder::new(
        dialect,
        camel_group(group) + &capitalized(version),
        format!("{}_{version}", group_tag(group)),
    );
    let root = root(group, version);
    let id = format!("get{}APIResources", builder.label);
    builder.discovery(format!("{root}/"), id, "APIResourceList");
    // Every list can be watched, so that every group-version speaks of watch events.
    builder.types.extend(schema::kind_type("v1", "WatchEvent"));
    for resource in resources {
        builder.resource(&root, resource);
    }
    Paths {
        paths: builder.paths,
        types: builder.types,
    }
}

/// Describes the discovery documents above the group-versions.
pub(super) fn describe_groups(dialect: Dialect, groups: &BTreeSet<&str>) -> Paths {
    let mut builder = Builder::new(dialect, String::new(), "apis".to_owned());
    builder.discovery(
        "/apis/".to_owned(),
        "getAPIVersions".to_owned(),
        "APIGroupList",
    );
    for group in groups {
        builder.tag = group_tag(group);
        if group.is_empty() {
            builder.discovery(
                "/api/".to_owned(),
                "getCoreAPIVersions".to_owned(),
                "APIVersions",
            );
        } else {
            builder.discovery(
                format!("/apis/{group}/"),
                format!("get{}APIGroup", camel_group(group)),
                "APIGroup",
            );
        }
    }
    Paths {
        paths: builder.paths,
        types: builder.types,
    }
}

/// `rbac.authorization.k8s.io` is `RbacAuthorization`, the core group is `Core`.
fn camel_group(group: &str) -> String {
    if group.is_empty() {
        return "Core".to_owned();
    }
    group
        .trim_end_matches(".k8s.io")
        .split('.')
        .map(capitalized)
        .collect()
}

fn group_tag(group: &str) -> String {
    let name = camel_group(group);
    let mut characters = name.chars();
    characters
        .next()
        .map(|first| first.to_ascii_lowercase())
        .into_iter()
        .chain(characters)
        .collect()
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(characters)
        .collect()
}

/// One operation, before it is written in a dialect.
struct Operation<'a> {
    id: String,
    action: &'a str,
    /// Group, version and kind that the operation is about.
    kind: (&'a str, &'a str, &'a str),
    parameters: Vec<(&'a str, &'a str)>,
    body: Option<Body>,
    /// The type of the answer; `None` for plain text.
    answer: Option<TypeId>,
    codes: &'a [&'a str],
    produces: &'a [&'a str],
}

enum Body {
    Required(TypeId),
    Optional(TypeId),
    /// In one of the patch languages.
    Patch,
}

struct Builder {
    dialect: Dialect,
    /// Group and version as part of an operation's name: `AppsV1`.
    label: String,
    tag: String,
    paths: Map,
    types: BTreeSet<TypeId>,
}

impl Builder {
    fn new(dialect: Dialect, label: String, tag: String) -> Builder {
        Builder {
            dialect,
            label,
            tag,
            paths: Map::new(),
            types: BTreeSet::new(),
        }
    }

    /// A document of discovery.
    fn discovery(&mut self, path: String, operation_id: String, kind: &str) {
        let Some(answer) = schema::kind_type("v1", kind) else {
            return;
        };
        self.types.insert(answer);
        let mut operation = json!({
            "operationId": operation_id,
            "responses": self.responses(&["200"], Some(answer), PLAIN_TYPES),
            "tags": [self.tag],
        });
        if self.dialect == Dialect::V2 {
            operation["consumes"] = json!(PLAIN_TYPES);
            operation["produces"] = json!(PLAIN_TYPES);
            operation["schemes"] = json!(["https"]);
        }
        self.paths.insert(path, json!({ "get": operation }));
    }

    fn resource(&mut self, root: &str, resource: &Resource) {
        let scope = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{root}{scope}/{}", resource.resource);
        self.collection(&collection, resource);
        if resource.namespaced && resource.verbs.contains(&"list") {
            let everywhere = format!("{root}/{}", resource.resource);
            let list = self.list(resource, "ForAllNamespaces", "");
            let operations = list.map(|list| ("get", list)).into_iter().collect();
            self.path(everywhere, &[], operations);
        }
        let object = format!("{collection}/{{name}}");
        self.object(&object, resource);
        for subresource in &resource.subresources {
            self.subresource(
                &format!("{object}/{}", subresource.name),
                resource,
                subresource,
            );
        }
    }

    fn collection(&mut self, path: &str, resource: &Resource) {
        let scope = scope_label(resource);
        let mut operations = Vec::new();
        if resource.verbs.contains(&"list") {
            operations.extend(self.list(resource, "", scope).map(|list| ("get", list)));
        }
        if resource.verbs.contains(&"create") {
            operations.push((
                "post",
                Operation {
                    id: format!("create{}{scope}{}", self.label, resource.kind),
                    action: "post",
                    kind: (resource.group, resource.version, resource.kind),
                    parameters: WRITE_PARAMETERS.to_vec(),
                    body: Some(Body::Required(resource.type_id)),
                    answer: Some(resource.type_id),
                    codes: &["200", "201", "202"],
                    produces: PLAIN_TYPES,
                },
            ));
        }
        if resource.verbs.contains(&"deletecollection") {
            let parameters = SELECT_PARAMETERS
                .iter()
                .chain(DELETE_PARAMETERS)
                .copied()
                .collect();
            let id = format!("delete{}Collection{scope}{}", self.label, resource.kind);
            operations.extend(self.delete(id, "deletecollection", resource, parameters, &["200"]));
        }
        self.path(
            path.to_owned(),
            scope_parameters(resource, false),
            operations,
        );
    }

    fn object(&mut self, path: &str, resource: &Resource) {
        let kind = (resource.group, resource.version, resource.kind);
        let name = format!("{}{}", scope_label(resource), resource.kind);
        let mut operations = self.reads_and_writes(&name, kind, resource.verbs, resource.type_id);
        if resource.verbs.contains(&"delete") {
            let id = format!("delete{}{name}", self.label);
            operations.extend(self.delete(
                id,
                "delete",
                resource,
                DELETE_PARAMETERS.to_vec(),
                &["200", "202"],
            ));
        }
        self.path(
            path.to_owned(),
            scope_parameters(resource, true),
            operations,
        );
    }

    fn subresource(&mut self, path: &str, resource: &Resource, subresource: &schema::Subresource) {
        let kind = (subresource.group, subresource.version, subresource.kind);
        let api_version = meta::api_version(subresource.group, subresource.version);
        let Some(ty) = schema::kind_type(&api_version, subresource.kind) else {
            return;
        };
        let name = format!(
            "{}{}{}",
            scope_label(resource),
            resource.kind,
            capitalized(subresource.name)
        );
        let parameters = scope_parameters(resource, true);
        if matches!(
            subresource.name,
            "attach" | "exec" | "portforward" | "proxy"
        ) {
            let operations = self.connects(&name, kind, subresource.verbs);
            self.path(path.to_owned(), parameters, operations);
            if subresource.name == "proxy" {
                let operations = self.connects(&format!("{name}WithPath"), kind, subresource.verbs);
                self.path(
                    format!("{path}/{{path}}"),
                    &[parameters, &["path"]].concat(),
                    operations,
                );
            }
            return;
        }
        let mut operations = if subresource.name == "log" {
            vec![("get", self.log(&name, kind))]
        } else {
            self.reads_and_writes(&name, kind, subresource.verbs, ty)
        };
        if subresource.verbs.contains(&"create") {
            let operation = Operation {
                id: format!("create{}{name}", self.label),
                action: "post",
                kind,
                parameters: WRITE_PARAMETERS.to_vec(),
                body: Some(Body::Required(ty)),
                answer: Some(ty),
                codes: &["200", "201", "202"],
                produces: PLAIN_TYPES,
            };
            operations.push(("post", operation));
        }
        self.path(path.to_owned(), parameters, operations);
    }

    fn list<'a>(&self, resource: &'a Resource, suffix: &str, scope: &str) -> Option<Operation<'a>> {
        let api_version = meta::api_version(resource.group, resource.version);
        let answer = schema::kind_type(&api_version, resource.list_kind)?;
        Some(Operation {
            id: format!("list{}{scope}{}{suffix}", self.label, resource.kind),
            action: "list",
            kind: (resource.group, resource.version, resource.kind),
            parameters: SELECT_PARAMETERS
                .iter()
                .chain(WATCH_PARAMETERS)
                .copied()
                .collect(),
            body: None,
            answer: Some(answer),
            codes: &["200"],
            produces: LIST_TYPES,
        })
    }

    fn delete<'a>(
        &self,
        id: String,
        action: &'a str,
        resource: &'a Resource,
        parameters: Vec<(&'a str, &'a str)>,
        codes: &'a [&'a str],
    ) -> Option<(&'static str, Operation<'a>)> {
        let operation = Operation {
            id,
            action,
            kind: (resource.group, resource.version, resource.kind),
            parameters,
            body: Some(Body::Optional(schema::kind_type("v1", "DeleteOptions")?)),
            answer: schema::kind_type("v1", "Status"),
            codes,
            produces: PLAIN_TYPES,
        };
        Some(("delete", operation))
    }

    fn reads_and_writes<'a>(
        &self,
        name: &str,
        kind: (&'a str, &'a str, &'a str),
        verbs: &[&str],
        ty: TypeId,
    ) -> Vec<(&'static str, Operation<'a>)> {
        let label = &self.label;
        let mut operations = Vec::new();
        let operation =
            |id: String, action, parameters: &[(&'a str, &'a str)], body, codes| Operation {
                id,
                action,
                kind,
                parameters: parameters.to_vec(),
                body,
                answer: Some(ty),
                codes,
                produces: PLAIN_TYPES,
            };
        if verbs.contains(&"get") {
            operations.push((
                "get",
                operation(format!("read{label}{name}"), "get", &[], None, &["200"][..]),
            ));
        }
        if verbs.contains(&"update") {
            let body = Some(Body::Required(ty));
            let id = format!("replace{label}{name}");
            operations.push((
                "put",
                operation(id, "put", WRITE_PARAMETERS, body, &["200", "201"]),
            ));
        }
        if verbs.contains(&"patch") {
            let id = format!("patch{label}{name}");
            let body = Some(Body::Patch);
            operations.push((
                "patch",
                operation(id, "patch", PATCH_PARAMETERS, body, &["200", "201"]),
            ));
        }
        operations
    }

    fn log<'a>(&self, name: &str, kind: (&'a str, &'a str, &'a str)) -> Operation<'a> {
        Operation {
            id: format!("read{}{name}", self.label),
            action: "get",
            kind,
            parameters: LOG_PARAMETERS.to_vec(),
            body: None,
            answer: None,
            codes: &["200"],
            produces: &[
                "text/plain",
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ],
        }
    }

    fn connects<'a>(
        &self,
        name: &str,
        kind: (&'a str, &'a str, &'a str),
        verbs: &[&str],
    ) -> Vec<(&'static str, Operation<'a>)> {
        [
            ("get", "get"),
            ("create", "post"),
            ("update", "put"),
            ("patch", "patch"),
            ("delete", "delete"),
        ]
        .into_iter()
        .filter(|(verb, _)| verbs.contains(verb))
        .map(|(_, method)| {
            let operation = Operation {
                id: format!("connect{}{}{name}", self.label, capitalized(method)),
                action: "connect",
                kind,
                parameters: Vec::new(),
                body: None,
                answer: None,
                codes: &["200"],
                produces: &["*/*"],
            };
            (method, operation)
        })
        .collect()
    }

    /// Writes a path down in the dialect, unless nothing can be done there.
    fn path(
        &mut self,
        path: String,
        names: &[&str],
        operations: Vec<(&'static str, Operation<'_>)>,
    ) {
        if operations.is_empty() {
            return;
        }
        let mut item = Map::new();
        for (method, operation) in &operations {
            item.insert((*method).to_owned(), self.operation(operation));
        }
        let mut parameters: Vec<Value> = names
            .iter()
            .map(|name| self.parameter("path", name, "string", true))
            .collect();
        parameters.push(self.parameter("query", "pretty", "string", false));
        item.insert("parameters", parameters.into());
        self.paths.insert(path, Value::Object(item));
    }

    fn operation(&mut self, operation: &Operation<'_>) -> Value {
        self.types.extend(operation.answer);
        let (group, version, kind) = operation.kind;
        let mut parameters: Vec<Value> = operation
            .parameters
            .iter()
            .map(|(name, ty)| self.parameter("query", name, ty, false))
            .collect();
        let mut written = json!({
            "operationId": operation.id,
            "responses": self.responses(operation.codes, operation.answer, operation.produces),
            "tags": [self.tag],
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": { "group": group, "version": version, "kind": kind },
        });
        let consumes = match operation.body {
            Some(Body::Patch) => PATCH_TYPES,
            _ => &["*/*"],
        };
        if self.dialect == Dialect::V2 {
            written["consumes"] = json!(consumes);
            written["produces"] = json!(operation.produces);
            written["schemes"] = json!(["https"]);
        }
        if let Some(body) = &operation.body {
            let name = match body {
                Body::Required(ty) | Body::Optional(ty) => {
                    self.types.insert(*ty);
                    types::name(*ty)
                }
                Body::Patch => PATCH.to_owned(),
            };
            let required = !matches!(body, Body::Optional(_));
            let schema = self.dialect.reference(&name);
            match self.dialect {
                Dialect::V2 => {
                    let mut body = json!({ "in": "body", "name": "body", "schema": schema });
                    if required {
                        body["required"] = true.into();
                    }
                    parameters.insert(0, body);
                }
                Dialect::V3 => {
                    let content: Map = consumes
                        .iter()
                        .map(|ty| ((*ty).to_owned(), json!({ "schema": schema })))
                        .collect();
                    written["requestBody"] = json!({ "content": content });
                    if required {
                        written["requestBody"]["required"] = true.into();
                    }
                }
            }
        }
        if !parameters.is_empty() {
            written["parameters"] = parameters.into();
        }
        written
    }

    fn responses(&self, codes: &[&str], answer: Option<TypeId>, produces: &[&str]) -> Value {
        let schema = match answer {
            Some(ty) => self.dialect.reference(&types::name(ty)),
            None => json!({ "type": "string" }),
        };
        let mut responses = Map::new();
        for code in codes {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let response = match self.dialect {
                Dialect::V2 => json!({ "description": description, "schema": schema }),
                Dialect::V3 => {
                    let content: Map = produces
                        .iter()
                        .map(|ty| ((*ty).to_owned(), json!({ "schema": schema })))
                        .collect();
                    json!({ "description": description, "content": content })
                }
            };
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
        Value::Object(responses)
    }

    fn parameter(&self, place: &str, name: &str, ty: &str, required: bool) -> Value {
        let mut parameter = match self.dialect {
            Dialect::V2 => json!({ "in": place, "name": name, "type": ty, "uniqueItems": true }),
            Dialect::V3 => {
                json!({ "in": place, "name": name, "schema": { "type": ty, "uniqueItems": true } })
            }
        };
        if required {
            parameter["required"] = true.into();
        }
        parameter
    }
}

/// `Namespaced` in the names of operations on objects of a namespace.
fn scope_label(resource: &Resource) -> &'static str {
    if resource.namespaced {
        "Namespaced"
    } else {
        ""
    }
}

/// The parameters of a path.
fn scope_parameters(resource: &Resource, named: bool) -> &'static [&'static str] {
    match (named, resource.namespaced) {
        (true, true) => &["name", "namespace"],
        (true, false) => &["name"],
        (false, true) => &["namespace"],
        (false, false) => &[],
    }
}
