//! Discovery: which groups, versions and resources there are, in the classic and in the aggregated form.
//!
//! The documents are made once from a list of resources and then only handed out. Knows no authorization: everybody
//! who is let in sees everything.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta::{ApiError, api_version};
use schema::Resource;
use value::{Map, Value, json};

use crate::document::{Document, fingerprint};
use crate::http::Reply;
use crate::negotiate::{self, DiscoveryForm};
use crate::paths::DiscoveryTarget;

/// The built-in groups, first to last as kubectl shows and prefers them. Groups not named here come after, by name.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "resource.k8s.io",
    "storagemigration.k8s.io",
];

/// Every discovery document of a server.
#[derive(Debug)]
pub struct Catalog {
    api: Document,
    apis: Document,
    groups: BTreeMap<String, Document>,
    /// By `v1` or `apps/v1`.
    group_versions: BTreeMap<String, Document>,
    api_v2: Document,
    api_v2beta1: Document,
    apis_v2: Document,
    apis_v2beta1: Document,
}

impl Catalog {
    /// The catalog of the built-in resources that a server offers by default. `server_address` is the `host:port`
    /// that clients of the server use.
    #[must_use]
    pub fn built_in(server_address: &str) -> Catalog {
        Catalog::of(
            schema::resources()
                .iter()
                .filter(|resource| resource.default_served),
            server_address,
        )
    }

    /// The catalog of some resources.
    #[must_use]
    pub fn of<'a>(
        resources: impl IntoIterator<Item = &'a Resource>,
        server_address: &str,
    ) -> Catalog {
        let groups = grouped(resources);
        let named: Vec<&Group<'_>> = groups
            .iter()
            .filter(|group| !group.name.is_empty())
            .collect();
        let core: Vec<&Group<'_>> = groups
            .iter()
            .filter(|group| group.name.is_empty())
            .collect();
        let core_versions: Vec<&str> = core
            .iter()
            .flat_map(|group| group.versions.iter().map(|version| version.name))
            .collect();
        let mut group_versions = BTreeMap::new();
        for group in &groups {
            for version in &group.versions {
                let name = api_version(group.name, version.name);
                let document = Document::new(&resource_list(&name, version));
                group_versions.insert(name, document);
            }
        }
        let summaries: Vec<Value> = named
            .iter()
            .map(|group| Value::Object(group_summary(group)))
            .collect();
        Catalog {
            api: Document::new(&json!({
                "kind": "APIVersions",
                "versions": core_versions,
                "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": server_address }],
            })),
            apis: Document::new(
                &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": summaries }),
            ),
            groups: named
                .iter()
                .map(|group| (group.name.to_owned(), Document::new(&api_group(group))))
                .collect(),
            group_versions,
            api_v2: Document::new(&aggregated(&core, "v2")),
            api_v2beta1: Document::new(&aggregated(&core, "v2beta1")),
            apis_v2: Document::new(&aggregated(&named, "v2")),
            apis_v2beta1: Document::new(&aggregated(&named, "v2beta1")),
        }
    }

    /// The document of a target in a form. Only `/api` and `/apis` have more than the classic form.
    #[must_use]
    pub fn document(&self, target: &DiscoveryTarget, form: DiscoveryForm) -> Option<&Document> {
        match (target, form) {
            (DiscoveryTarget::Api, DiscoveryForm::Legacy) => Some(&self.api),
            (DiscoveryTarget::Api, DiscoveryForm::V2) => Some(&self.api_v2),
            (DiscoveryTarget::Api, DiscoveryForm::V2beta1) => Some(&self.api_v2beta1),
            (DiscoveryTarget::Apis, DiscoveryForm::Legacy) => Some(&self.apis),
            (DiscoveryTarget::Apis, DiscoveryForm::V2) => Some(&self.apis_v2),
            (DiscoveryTarget::Apis, DiscoveryForm::V2beta1) => Some(&self.apis_v2beta1),
            (DiscoveryTarget::Group(group), _) => self.groups.get(group),
            (DiscoveryTarget::GroupVersion { group, version }, _) => {
                self.group_versions.get(&api_version(group, version))
            }
        }
    }

    /// Answers a discovery request.
    ///
    /// # Errors
    /// 404 for an unknown group or version, 406 if the client takes no JSON.
    pub fn reply(
        &self,
        target: &DiscoveryTarget,
        accept: &str,
        if_none_match: Option<&str>,
    ) -> Result<Reply, ApiError> {
        let form = match (target, negotiate::discovery(accept)?) {
            (DiscoveryTarget::Api | DiscoveryTarget::Apis, form) => form,
            _ => DiscoveryForm::Legacy,
        };
        let document = self
            .document(target, form)
            .ok_or_else(ApiError::generic_not_found)?;
        Ok(document.reply(form.content_type(), if_none_match))
    }
}

struct Group<'a> {
    name: &'a str,
    /// Preferred first.
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    name: &'a str,
    /// By name.
    resources: Vec<&'a Resource>,
}

/// Groups in their order of preference.
fn grouped<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Vec<Group<'a>> {
    let mut tree: BTreeMap<&str, BTreeMap<&str, Vec<&Resource>>> = BTreeMap::new();
    for resource in resources {
        tree.entry(resource.group)
            .or_default()
            .entry(resource.version)
            .or_default()
            .push(resource);
    }
    let mut groups: Vec<Group<'a>> = tree
        .into_iter()
        .map(|(name, versions)| {
            let mut versions: Vec<Version<'a>> = versions
                .into_iter()
                .map(|(name, mut resources)| {
                    resources.sort_by_key(|resource| resource.resource);
                    Version { name, resources }
                })
                .collect();
            versions.sort_by(|a, b| compare_versions(a.name, b.name));
            Group { name, versions }
        })
        .collect();
    groups.sort_by_key(|group| {
        (
            GROUP_ORDER
                .iter()
                .position(|name| *name == group.name)
                .unwrap_or(GROUP_ORDER.len()),
            group.name,
        )
    });
    groups
}

/// Orders versions by preference: GA, beta, alpha, then what does not look like a version; newer ones first.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (version_parts(a), version_parts(b)) {
        (Some(a), Some(b)) => Reverse(a).cmp(&Reverse(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability (2 for GA), major and minor number of a version such as `v2beta3`.
fn version_parts(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        (Some(minor), _) => (1, minor),
        (None, Some(minor)) => (0, minor),
        (None, None) => return None,
    };
    Some((stability, major, minor.parse().ok()?))
}

fn group_summary(group: &Group<'_>) -> Map {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({ "groupVersion": api_version(group.name, version.name), "version": version.name }))
        .collect();
    let mut summary = Map::new();
    summary.insert("name", group.name.into());
    if let Some(preferred) = versions.first() {
        summary.insert("preferredVersion", preferred.clone());
    }
    summary.insert("versions", versions.into());
    summary
}

fn api_group(group: &Group<'_>) -> Value {
    let mut document = group_summary(group);
    document.insert("kind", "APIGroup".into());
    document.insert("apiVersion", "v1".into());
    Value::Object(document)
}

/// The classic form of one version: subresources stand beside their resources.
fn resource_list(group_version: &str, version: &Version<'_>) -> Value {
    let mut entries = Vec::new();
    for resource in &version.resources {
        let mut entry = json!({
            "name": resource.resource,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        if is_stored(resource) {
            entry["storageVersionHash"] = storage_version_hash(resource).into();
        }
        entries.push(entry);
        let mut subresources: Vec<_> = resource.subresources.iter().collect();
        subresources.sort_by_key(|subresource| subresource.name);
        for subresource in subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.resource, subresource.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": subresource.kind,
                "verbs": subresource.verbs,
            });
            if (subresource.group, subresource.version) != (resource.group, resource.version) {
                entry["group"] = subresource.group.into();
                entry["version"] = subresource.version.into();
            }
            entries.push(entry);
        }
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries })
}

/// The aggregated form of some groups.
fn aggregated(groups: &[&Group<'_>], version: &str) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = group.versions.iter().map(aggregated_version).collect();
            let metadata = if group.name.is_empty() {
                json!({})
            } else {
                json!({ "name": group.name })
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_version(version: &Version<'_>) -> Value {
    let resources: Vec<Value> = version
        .resources
        .iter()
        .map(|resource| {
            let home = (resource.group, resource.version);
            let mut subresources: Vec<_> = resource.subresources.iter().collect();
            subresources.sort_by_key(|subresource| subresource.name);
            let subresources: Vec<Value> = subresources
                .into_iter()
                .map(|subresource| {
                    let kind = (subresource.group, subresource.version, subresource.kind);
                    json!({
                        "subresource": subresource.name,
                        "responseKind": response_kind(home, kind),
                        "verbs": subresource.verbs,
                    })
                })
                .collect();
            let mut entry = json!({
                "resource": resource.resource,
                "responseKind": response_kind(home, (resource.group, resource.version, resource.kind)),
                "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": resource.singular,
                "verbs": resource.verbs,
            });
            if !resource.short_names.is_empty() {
                entry["shortNames"] = json!(resource.short_names);
            }
            if !resource.categories.is_empty() {
                entry["categories"] = json!(resource.categories);
            }
            if !subresources.is_empty() {
                entry["subresources"] = subresources.into();
            }
            entry
        })
        .collect();
    json!({ "version": version.name, "freshness": "Current", "resources": resources })
}

/// Group and version stand only where they differ from those of the resource.
fn response_kind(home: (&str, &str), (group, version, kind): (&str, &str, &str)) -> Value {
    if home == (group, version) {
        json!({ "group": "", "version": "", "kind": kind })
    } else {
        json!({ "group": group, "version": version, "kind": kind })
    }
}

/// Reviews, bindings and component statuses are answered but never stored.
fn is_stored(resource: &Resource) -> bool {
    resource.verbs.contains(&"watch")
}

/// Changes exactly when objects come to be stored under another version.
fn storage_version_hash(resource: &Resource) -> String {
    let storage = &resource.storage;
    let text = format!("{}/{}/{}", storage.group, storage.version, resource.kind);
    let digest = fingerprint(text.as_bytes());
    let bytes: Vec<u8> = (0..8)
        .filter_map(|at| u8::from_str_radix(digest.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    fn catalog() -> Catalog {
        Catalog::built_in("127.0.0.1:6443")
    }

    fn tree(document: &Document) -> Value {
        serde_json::from_slice(&document.body).unwrap()
    }

    fn get(target: &DiscoveryTarget, form: DiscoveryForm) -> Value {
        tree(catalog().document(target, form).unwrap())
    }

    fn find<'v>(entries: &'v Value, key: &str, name: &str) -> &'v Value {
        entries
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry[key] == name)
            .unwrap()
    }

    fn group_version(group: &str, version: &str) -> DiscoveryTarget {
        DiscoveryTarget::GroupVersion {
            group: group.into(),
            version: version.into(),
        }
    }

    #[test]
    fn versions_are_ordered_by_stability_then_age() {
        let mut versions = [
            "foo10",
            "v1",
            "v11alpha2",
            "v10beta3",
            "v2",
            "v3beta1",
            "v12alpha1",
            "v11beta2",
            "foo1",
            "v10",
        ];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10"
            ]
        );
    }

    #[test]
    fn the_roots_name_versions_and_groups() {
        let api = get(&DiscoveryTarget::Api, DiscoveryForm::Legacy);
        assert_eq!(
            (&api["kind"], &api["versions"]),
            (&json!("APIVersions"), &json!(["v1"]))
        );
        let apis = get(&DiscoveryTarget::Apis, DiscoveryForm::Legacy);
        let names: Vec<&str> = apis["groups"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|g| g["name"].as_str())
            .collect();
        let at = |name: &str| {
            names
                .iter()
                .position(|candidate| *candidate == name)
                .unwrap()
        };
        assert!(at("apps") < at("batch") && at("batch") < at("coordination.k8s.io"));
        assert_eq!(
            find(&apis["groups"], "name", "autoscaling")["preferredVersion"],
            json!({"groupVersion": "autoscaling/v2", "version": "v2"})
        );
        assert_eq!(
            get(
                &DiscoveryTarget::Group("apps".into()),
                DiscoveryForm::Legacy
            ),
            json!({
                "kind": "APIGroup", "apiVersion": "v1", "name": "apps",
                "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
            })
        );
    }

    #[test]
    fn classic_resources_stand_beside_their_subresources() {
        let apps = get(&group_version("apps", "v1"), DiscoveryForm::Legacy);
        assert_eq!(apps["groupVersion"], "apps/v1");
        let mut deployments = find(&apps["resources"], "name", "deployments").clone();
        let hash = deployments
            .as_object_mut()
            .unwrap()
            .remove("storageVersionHash")
            .unwrap();
        assert_eq!(STANDARD.decode(hash.as_str().unwrap()).unwrap().len(), 8);
        assert_eq!(
            deployments,
            json!({
                "name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                "shortNames": ["deploy"], "categories": ["all"],
            })
        );
        assert_eq!(
            find(&apps["resources"], "name", "deployments/scale"),
            &json!({
                "name": "deployments/scale", "singularName": "", "namespaced": true,
                "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"],
            })
        );
        let core = get(&group_version("", "v1"), DiscoveryForm::Legacy);
        assert_eq!(core["groupVersion"], "v1");
        assert!(
            find(&core["resources"], "name", "bindings")
                .get("storageVersionHash")
                .is_none()
        );
        assert_eq!(
            find(&core["resources"], "name", "pods/eviction")["group"],
            "policy"
        );
    }

    #[test]
    fn the_aggregated_form_holds_everything_at_once() {
        let core = get(&DiscoveryTarget::Api, DiscoveryForm::V2);
        assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        let version = &core["items"][0]["versions"][0];
        assert_eq!(
            (&version["version"], &version["freshness"]),
            (&json!("v1"), &json!("Current"))
        );
        let pods = find(&version["resources"], "resource", "pods");
        assert_eq!(pods["scope"], "Namespaced");
        assert_eq!(pods["shortNames"], json!(["po"]));
        assert_eq!(
            pods["responseKind"],
            json!({"group": "", "version": "", "kind": "Pod"})
        );
        let eviction = find(&pods["subresources"], "subresource", "eviction");
        assert_eq!(
            eviction["responseKind"],
            json!({"group": "policy", "version": "v1", "kind": "Eviction"})
        );
        let nodes = find(&version["resources"], "resource", "nodes");
        assert_eq!(nodes["scope"], "Cluster");
        let named = get(&DiscoveryTarget::Apis, DiscoveryForm::V2beta1);
        assert_eq!(named["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        assert!(
            named["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|item| item["metadata"]["name"].is_string())
        );
    }

    #[test]
    fn only_what_is_served_by_default_is_shown() {
        let catalog = catalog();
        assert!(
            catalog
                .document(
                    &group_version("storagemigration.k8s.io", "v1beta1"),
                    DiscoveryForm::Legacy
                )
                .is_none()
        );
        assert!(
            catalog
                .document(
                    &group_version("coordination.k8s.io", "v1"),
                    DiscoveryForm::Legacy
                )
                .is_some()
        );
        assert!(
            catalog
                .document(
                    &DiscoveryTarget::Group("nothing.example".into()),
                    DiscoveryForm::Legacy
                )
                .is_none()
        );
    }

    #[test]
    fn replies_echo_the_form_and_know_their_tags() {
        let catalog = catalog();
        let accept =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let reply = catalog.reply(&DiscoveryTarget::Apis, accept, None).unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.content_type,
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        let tag = reply
            .headers
            .iter()
            .find(|(name, _)| *name == "etag")
            .map(|(_, tag)| tag.clone())
            .unwrap();
        let again = catalog
            .reply(&DiscoveryTarget::Apis, accept, Some(&tag))
            .unwrap();
        assert_eq!(again.status, 304);
        assert!(matches!(again.body, Body::Full(body) if body.is_empty()));
        let classic = catalog
            .reply(&group_version("apps", "v1"), accept, None)
            .unwrap();
        assert_eq!(classic.content_type, "application/json");
        let missing = catalog
            .reply(&group_version("apps", "v9"), accept, None)
            .unwrap_err();
        assert_eq!(
            (missing.code, missing.message.as_str()),
            (404, "the server could not find the requested resource")
        );
    }
}
