//! The resources of the API: what discovery lists, and which type and storage each has.
//!
//! Knows names and verbs. Does not know how any verb is carried out.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::table::{TypeId, table};

/// One resource of one group-version.
#[derive(Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name in paths.
    pub resource: &'static str,
    /// Kind of its objects.
    pub kind: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Kind of its lists; empty if it cannot be listed.
    pub list_kind: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Subresources, sorted by name.
    pub subresources: Vec<Subresource>,
    /// Type of its objects.
    pub type_id: TypeId,
    /// Served unless disabled: generally available versions are, alphas and betas are not.
    pub default_served: bool,
    /// Where its objects are kept: versions of one resource share one storage.
    pub storage: StorageRef,
}

/// A subresource and the kind it speaks.
#[derive(Debug)]
pub struct Subresource {
    /// Name after the slash.
    pub name: &'static str,
    /// Group of its kind.
    pub group: &'static str,
    /// Version of its kind.
    pub version: &'static str,
    /// Kind of its bodies.
    pub kind: &'static str,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

/// The resource whose storage another one uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageRef {
    /// API group.
    pub group: &'static str,
    /// The version objects are stored in.
    pub version: &'static str,
    /// Plural name.
    pub resource: &'static str,
}

impl Resource {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name == name)
    }

    /// The resource whose version objects are stored in; itself for most.
    pub fn stored_as(&'static self) -> &'static Resource {
        resource(
            self.storage.group,
            self.storage.version,
            self.storage.resource,
        )
        .unwrap_or(self)
    }

    /// Whether the verb is among [`Resource::verbs`].
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

struct Resources {
    all: Vec<Resource>,
    by_name: HashMap<(&'static str, &'static str, &'static str), usize>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), usize>,
}

static RESOURCES: LazyLock<Resources> = LazyLock::new(|| {
    let mut all: Vec<Resource> = Vec::new();
    for line in &table().resource_lines {
        let words: Vec<&'static str> = line.split(' ').collect();
        match words.as_slice() {
            ["R", rest @ ..] => all.extend(parse_resource(rest)),
            ["S", name, group, version, kind, verbs] => {
                if let Some(parent) = all.last_mut() {
                    let (group, verbs) = (undash(group), list(verbs));
                    parent.subresources.push(Subresource {
                        name,
                        group,
                        version,
                        kind,
                        verbs,
                    });
                }
            }
            _ => {}
        }
    }
    let by_name = all
        .iter()
        .enumerate()
        .map(|(at, res)| ((res.group, res.version, res.resource), at))
        .collect();
    let by_kind = all
        .iter()
        .enumerate()
        .map(|(at, res)| ((res.group, res.version, res.kind), at))
        .collect();
    Resources {
        all,
        by_name,
        by_kind,
    }
});

fn parse_resource(words: &[&'static str]) -> Option<Resource> {
    let [
        group,
        version,
        resource,
        kind,
        singular,
        scope,
        verbs,
        short_names,
        categories,
        served,
        storage,
    ] = words
    else {
        return None;
    };
    let group = undash(group);
    let api_version = if group.is_empty() {
        (*version).to_owned()
    } else {
        format!("{group}/{version}")
    };
    let type_id = table().kind_type(&api_version, kind)?;
    let list_kind = table().kind_type(&api_version, &format!("{kind}List"));
    let mut place = storage.split('/');
    Some(Resource {
        group,
        version,
        resource,
        kind,
        singular,
        list_kind: list_kind.map_or("", |ty| table().get(ty).name),
        namespaced: *scope == "namespaced",
        verbs: list(verbs),
        short_names: list(short_names),
        categories: list(categories),
        subresources: Vec::new(),
        type_id,
        default_served: *served == "served",
        storage: StorageRef {
            group: undash(place.next()?),
            version: place.next()?,
            resource: place.next()?,
        },
    })
}

fn undash(word: &'static str) -> &'static str {
    if word == "-" { "" } else { word }
}

/// Leaked once for the life of the process, as the table itself is.
fn list(word: &'static str) -> &'static [&'static str] {
    if word == "-" {
        &[]
    } else {
        Vec::leak(word.split(',').collect())
    }
}

/// Every resource of the release, sorted by group, version and name.
pub fn resources() -> &'static [Resource] {
    &RESOURCES.all
}

/// A resource by plural name.
pub fn resource(group: &str, version: &str, resource: &str) -> Option<&'static Resource> {
    find(&RESOURCES.by_name, group, version, resource)
}

/// A resource by the kind of its objects.
pub fn resource_for_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    find(&RESOURCES.by_kind, group, version, kind)
}

fn find<'a>(
    map: &HashMap<(&'a str, &'a str, &'a str), usize>,
    group: &'a str,
    version: &'a str,
    name: &'a str,
) -> Option<&'static Resource> {
    map.get(&(group, version, name))
        .and_then(|at| RESOURCES.all.get(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_resource_of_a_known_kind() {
        let lines = table()
            .resource_lines
            .iter()
            .filter(|line| line.starts_with("R "))
            .count();
        assert_eq!(resources().len(), lines);
        for res in resources() {
            assert!(
                !res.has_verb("list") || !res.list_kind.is_empty(),
                "{} has no list kind",
                res.resource
            );
            for sub in &res.subresources {
                let api_version = if sub.group.is_empty() {
                    sub.version.to_owned()
                } else {
                    format!("{}/{}", sub.group, sub.version)
                };
                assert!(
                    crate::kind_type(&api_version, sub.kind).is_some(),
                    "{}/{}",
                    res.resource,
                    sub.name
                );
            }
        }
    }

    #[test]
    fn deployments_as_discovery_shows_them() {
        let res = resource("apps", "v1", "deployments").unwrap();
        assert_eq!(
            (res.kind, res.singular, res.list_kind, res.namespaced),
            ("Deployment", "deployment", "DeploymentList", true)
        );
        assert_eq!(
            (res.short_names, res.categories),
            (&["deploy"][..], &["all"][..])
        );
        assert_eq!(
            res.subresources
                .iter()
                .map(|sub| sub.name)
                .collect::<Vec<_>>(),
            ["scale", "status"]
        );
        assert_eq!(res.subresource("scale").unwrap().kind, "Scale");
        assert!(res.default_served && std::ptr::eq(res.stored_as(), res));
    }

    #[test]
    fn versions_share_storage() {
        let events = resource("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(
            events.storage,
            StorageRef {
                group: "",
                version: "v1",
                resource: "events"
            }
        );
        let scalers = resource("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        assert_eq!(scalers.storage.version, "v2");
        let beta = resource("networking.k8s.io", "v1beta1", "servicecidrs").unwrap();
        assert_eq!((beta.storage.version, beta.default_served), ("v1", false));
        assert_eq!(resource_for_kind("", "v1", "Pod").unwrap().resource, "pods");
    }
}
