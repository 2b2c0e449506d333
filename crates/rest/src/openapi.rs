//! OpenAPI documents: version 3 with an index and one document a group-version, and version 2 as a whole.
//!
//! Made from the schema table and the resource list when somebody first asks, and kept. Both versions are served as
//! JSON. A client that insists on version 2 in protobuf (kubectl, for a kind that version 3 does not have) gets the head
//! of it; one that insists on version 3 in protobuf is told 406.
//! Knows no custom resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use meta::{ApiError, api_version};
use schema::{Resource, TypeId};
use value::{Map, json};

use crate::document::Document;
use crate::http::Reply;
use crate::negotiate::{self, JSON, Wish};
use crate::paths::Parameters;
use crate::wire;

mod definitions;
mod operations;
mod types;

use definitions::{Dialect, Kinds};

/// How long a document of a known hash may be kept by clients, in seconds: its address changes with its content.
const IMMUTABLE_SECONDS: u32 = 31_536_000;

/// Every OpenAPI document of a server.
#[derive(Debug)]
pub struct OpenApi {
    /// By the path under `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    group_versions: BTreeMap<String, GroupVersion>,
    kinds: Kinds,
    /// Version of Kubernetes, for the head of every document.
    version: String,
    index: OnceLock<Document>,
    v2: OnceLock<Document>,
}

#[derive(Debug)]
struct GroupVersion {
    group: &'static str,
    version: &'static str,
    resources: Vec<&'static Resource>,
    document: OnceLock<Document>,
}

impl OpenApi {
    /// The documents of the built-in resources that a server offers by default. `version` is told in their heads.
    #[must_use]
    pub fn built_in(version: &str) -> OpenApi {
        OpenApi::of(
            schema::resources()
                .iter()
                .filter(|resource| resource.default_served),
            version,
        )
    }

    /// The documents of some resources.
    #[must_use]
    pub fn of(resources: impl IntoIterator<Item = &'static Resource>, version: &str) -> OpenApi {
        let mut group_versions: BTreeMap<String, GroupVersion> = BTreeMap::new();
        for resource in resources {
            let path = operations::root(resource.group, resource.version)
                .trim_start_matches('/')
                .to_owned();
            group_versions
                .entry(path)
                .or_insert_with(|| GroupVersion {
                    group: resource.group,
                    version: resource.version,
                    resources: Vec::new(),
                    document: OnceLock::new(),
                })
                .resources
                .push(resource);
        }
        OpenApi {
            group_versions,
            kinds: kinds(),
            version: version.to_owned(),
            index: OnceLock::new(),
            v2: OnceLock::new(),
        }
    }

    /// The index of version 3. It tells the hash of every document, so asking for it makes them all.
    pub fn v3_index(&self) -> &Document {
        self.index.get_or_init(|| {
            let paths: Map = self
                .group_versions
                .iter()
                .map(|(path, group_version)| {
                    let hash = &self.group_version(group_version).hash;
                    (
                        path.clone(),
                        json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") }),
                    )
                })
                .collect();
            Document::new(&json!({ "paths": paths }))
        })
    }

    /// The version 3 document of a group-version, by `api/v1` or `apis/apps/v1`.
    pub fn v3(&self, path: &str) -> Option<&Document> {
        self.group_versions
            .get(path)
            .map(|group_version| self.group_version(group_version))
    }

    fn group_version<'a>(&self, group_version: &'a GroupVersion) -> &'a Document {
        group_version.document.get_or_init(|| {
            let GroupVersion { group, version, resources, .. } = group_version;
            let described = operations::describe(Dialect::V3, group, version, resources);
            let schemas = definitions::collect(Dialect::V3, &described.types, &self.kinds);
            Document::new(&json!({
                "openapi": "3.0.0",
                "info": { "title": "Kubernetes", "version": self.version },
                "paths": described.paths,
                "components": {
                    "schemas": schemas,
                    "securitySchemes": {
                        "BearerToken": { "type": "apiKey", "name": "authorization", "in": "header" },
                    },
                },
            }))
        })
    }

    /// The whole of version 2.
    pub fn v2(&self) -> &Document {
        self.v2.get_or_init(|| {
            let mut paths = Map::new();
            let mut roots: BTreeSet<TypeId> = BTreeSet::new();
            for group_version in self.group_versions.values() {
                let GroupVersion {
                    group,
                    version,
                    resources,
                    ..
                } = group_version;
                let described = operations::describe(Dialect::V2, group, version, resources);
                paths.extend(described.paths);
                roots.extend(described.types);
            }
            let groups: BTreeSet<&str> = self
                .group_versions
                .values()
                .map(|version| version.group)
                .collect();
            let described = operations::describe_groups(Dialect::V2, &groups);
            paths.extend(described.paths);
            roots.extend(described.types);
            Document::new(&json!({
                "swagger": "2.0",
                "info": { "title": "Kubernetes", "version": self.version },
                "paths": paths,
                "definitions": definitions::collect(Dialect::V2, &roots, &self.kinds),
                "securityDefinitions": {
                    "BearerToken": { "type": "apiKey", "name": "authorization", "in": "header" },
                },
                "security": [{ "BearerToken": [] }],
            }))
        })
    }

    /// Answers `/openapi/v2`.
    ///
    /// # Errors
    /// 406 if the client takes neither JSON nor the protobuf form.
    pub fn reply_v2(&self, accept: &str, if_none_match: Option<&str>) -> Result<Reply, ApiError> {
        match json_only(accept) {
            Ok(()) => Ok(self.v2().reply(JSON, if_none_match)),
            Err(_) if takes_v2_protobuf(accept) => {
                Ok(Reply::full(200, V2_PROTOBUF, self.v2_protobuf_head())
                    .with_header("vary", "Accept"))
            }
            Err(error) => Err(error),
        }
    }

    /// Version 2 in protobuf, the head alone: what kubectl reads when version 3 has no such group, to find that
    /// version 2 has none either. Every kind that is served stands in version 3, where clients look first.
    fn v2_protobuf_head(&self) -> Vec<u8> {
        let mut info = Vec::new();
        wire::put_field(1, b"Kubernetes", &mut info);
        wire::put_field(2, self.version.as_bytes(), &mut info);
        let mut document = Vec::new();
        wire::put_field(1, b"2.0", &mut document);
        wire::put_field(2, &info, &mut document);
        document
    }

    /// Answers `/openapi/v3`.
    ///
    /// # Errors
    /// 406 if the client takes no JSON.
    pub fn reply_v3_index(
        &self,
        accept: &str,
        if_none_match: Option<&str>,
    ) -> Result<Reply, ApiError> {
        json_only(accept)?;
        Ok(self.v3_index().reply(JSON, if_none_match))
    }

    /// Answers `/openapi/v3/{path}`. With the right `hash` in the query the reply may be kept for good; with a wrong
    /// one the client is sent to the right address.
    ///
    /// # Errors
    /// 404 for an unknown group-version, 406 if the client takes no JSON.
    pub fn reply_v3(
        &self,
        path: &str,
        query: &str,
        accept: &str,
        if_none_match: Option<&str>,
    ) -> Result<Reply, ApiError> {
        json_only(accept)?;
        let document = self.v3(path).ok_or_else(ApiError::generic_not_found)?;
        let parameters = Parameters::parse(query);
        match parameters.first("hash") {
            None => Ok(document.reply(JSON, if_none_match)),
            Some(hash) if hash == document.hash => {
                Ok(document.reply(JSON, if_none_match).with_header(
                    "cache-control",
                    format!("public, immutable, max-age={IMMUTABLE_SECONDS}"),
                ))
            }
            Some(_) => Ok(Reply::text(301, "").with_header(
                "location",
                format!("/openapi/v3/{path}?hash={}", document.hash),
            )),
        }
    }
}

/// Media type of version 2 in protobuf, as it is sent.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Whether a client asks for version 2 in protobuf. It has an older name, with an at sign.
fn takes_v2_protobuf(accept: &str) -> bool {
    accept
        .split(',')
        .map(|part| {
            part.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .replace('@', ".")
        })
        .any(|media| media == V2_PROTOBUF)
}

fn json_only(accept: &str) -> Result<(), ApiError> {
    negotiate::json_only(&Wish {
        accept,
        ..Wish::default()
    })
    .map(|_| ())
}

/// Which types are kinds, and of which group-versions. A few belong to every one.
fn kinds() -> Kinds {
    let mut kinds = Kinds::new();
    let mut add = |group: &str, version: &str, kind: &str| {
        if let Some(ty) = schema::kind_type(&api_version(group, version), kind) {
            kinds.entry(ty).or_default().insert((
                group.to_owned(),
                version.to_owned(),
                kind.to_owned(),
            ));
        }
    };
    for kind in [
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
        "Status",
    ] {
        add("", "v1", kind);
    }
    for resource in schema::resources() {
        add(resource.group, resource.version, resource.kind);
        if !resource.list_kind.is_empty() {
            add(resource.group, resource.version, resource.list_kind);
        }
        for everywhere in ["DeleteOptions", "WatchEvent"] {
            add(resource.group, resource.version, everywhere);
        }
        for subresource in &resource.subresources {
            add(subresource.group, subresource.version, subresource.kind);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::Value;

    fn documents() -> OpenApi {
        OpenApi::of(
            schema::resources().iter().filter(|resource| {
                matches!(resource.group, "" | "apps") && resource.default_served
            }),
            "v1.36.0",
        )
    }

    fn tree(document: &Document) -> Value {
        serde_json::from_slice(&document.body).unwrap()
    }

    fn names(parameters: &Value) -> Vec<&str> {
        parameters
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|parameter| parameter["name"].as_str())
            .collect()
    }

    /// Every reference of a document, wherever it stands.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn version_3_defines_types_as_upstream_names_them() {
        let apps = tree(documents().v3("apis/apps/v1").unwrap());
        assert_eq!(apps["openapi"], "3.0.0");
        let schemas = &apps["components"]["schemas"];
        assert_eq!(
            schemas["io.k8s.api.apps.v1.Deployment"],
            json!({
                "type": "object",
                "properties": {
                    "apiVersion": { "type": "string" },
                    "kind": { "type": "string" },
                    "metadata": {
                        "allOf": [{ "$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" }],
                        "default": {},
                    },
                    "spec": {
                        "allOf": [{ "$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec" }],
                        "default": {},
                    },
                    "status": {
                        "allOf": [{ "$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStatus" }],
                        "default": {},
                    },
                },
                "x-kubernetes-group-version-kind": [{ "group": "apps", "version": "v1", "kind": "Deployment" }],
            })
        );
        assert_eq!(
            schemas["io.k8s.api.core.v1.ContainerPort"],
            json!({
                "type": "object",
                "required": ["containerPort"],
                "properties": {
                    "containerPort": { "type": "integer", "format": "int32", "default": 0 },
                    "hostIP": { "type": "string" },
                    "hostPort": { "type": "integer", "format": "int32" },
                    "name": { "type": "string" },
                    "protocol": { "type": "string", "default": "TCP" },
                },
            })
        );
        assert_eq!(
            schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"],
            json!({
                "type": "array",
                "items": { "allOf": [{ "$ref": "#/components/schemas/io.k8s.api.core.v1.Container" }], "default": {} },
                "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-list-type": "map",
                "x-kubernetes-patch-merge-key": "name",
                "x-kubernetes-patch-strategy": "merge",
            })
        );
        assert_eq!(
            schemas["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"],
            "atomic"
        );
        assert_eq!(
            schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"],
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let documents = documents();
        for (document, prefix, place) in [
            (
                documents.v3("api/v1").unwrap(),
                "#/components/schemas/",
                "/components/schemas",
            ),
            (documents.v2(), "#/definitions/", "/definitions"),
        ] {
            let tree = tree(document);
            let mut found = BTreeSet::new();
            references(&tree, &mut found);
            assert!(found.len() > 100);
            let defined = tree.pointer(place).unwrap();
            for reference in found {
                let name = reference.strip_prefix(prefix).unwrap();
                assert!(defined.get(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn patches_take_dry_run_and_field_validation() {
        let apps = tree(documents().v3("apis/apps/v1").unwrap());
        let path = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
        let patch = &path["patch"];
        assert_eq!(
            names(&patch["parameters"]),
            ["dryRun", "fieldManager", "fieldValidation", "force"]
        );
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
        assert_eq!(patch["x-kubernetes-action"], "patch");
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({ "group": "apps", "version": "v1", "kind": "Deployment" })
        );
        assert!(patch["requestBody"]["content"]["application/apply-patch+yaml"].is_object());
        assert_eq!(names(&path["parameters"]), ["name", "namespace", "pretty"]);
        let scale =
            &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
        assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
        assert_eq!(
            apps["paths"]["/apis/apps/v1/deployments"]["get"]["operationId"],
            "listAppsV1DeploymentForAllNamespaces"
        );
    }

    #[test]
    fn version_2_refers_and_answers_in_its_own_way() {
        let swagger = tree(documents().v2());
        assert_eq!(swagger["swagger"], "2.0");
        assert_eq!(
            swagger["definitions"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"],
            json!({
                "$ref": "#/definitions/io.k8s.api.apps.v1.DeploymentStrategy",
                "x-kubernetes-patch-strategy": "retainKeys",
            })
        );
        let nodes = &swagger["paths"]["/api/v1/nodes/{name}"];
        assert_eq!(nodes["put"]["operationId"], "replaceCoreV1Node");
        assert_eq!(
            nodes["put"]["parameters"][0],
            json!({
                "in": "body", "name": "body", "required": true,
                "schema": { "$ref": "#/definitions/io.k8s.api.core.v1.Node" },
            })
        );
        assert_eq!(
            nodes["get"]["responses"]["200"]["schema"]["$ref"],
            "#/definitions/io.k8s.api.core.v1.Node"
        );
        assert_eq!(
            swagger["paths"]["/apis/apps/"]["get"]["operationId"],
            "getAppsAPIGroup"
        );
        assert!(
            swagger["paths"]
                .get("/api/v1/namespaces/{namespace}/pods/{name}/proxy/{path}")
                .is_some()
        );
    }

    #[test]
    fn the_index_leads_to_documents_that_may_be_kept() {
        let documents = documents();
        let index = tree(documents.v3_index());
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
            .as_str()
            .unwrap();
        let query = url.strip_prefix("/openapi/v3/apis/apps/v1?").unwrap();
        let header = |reply: &Reply, name: &str| {
            reply
                .headers
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.clone())
        };
        let reply = documents
            .reply_v3("apis/apps/v1", query, "application/json", None)
            .unwrap();
        assert_eq!(
            (reply.status, &*reply.content_type),
            (200, "application/json")
        );
        assert!(
            header(&reply, "cache-control")
                .unwrap()
                .contains("immutable")
        );
        let moved = documents
            .reply_v3("apis/apps/v1", "hash=OLD", "*/*", None)
            .unwrap();
        assert_eq!(
            (moved.status, header(&moved, "location").as_deref()),
            (301, Some(url))
        );
        assert_eq!(
            documents
                .reply_v3("apis/nothing/v1", "", "*/*", None)
                .unwrap_err()
                .code,
            404
        );
    }

    #[test]
    fn the_protobuf_form_is_the_head_alone_unless_json_will_do() {
        let documents = documents();
        let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let head = documents.reply_v2(protobuf, None).unwrap();
        assert_eq!(head.content_type, V2_PROTOBUF);
        assert_eq!(documents.reply_v2("text/html", None).unwrap_err().code, 406);
        assert_eq!(
            documents
                .reply_v2(&format!("{protobuf},application/json"), None)
                .unwrap()
                .status,
            200
        );
        let index = documents
            .reply_v3_index("application/json, */*", None)
            .unwrap();
        assert_eq!(index.content_type, "application/json");
    }
}
