//! The table of how each resource behaves under create, update and delete.
//!
//! It holds only what is the same sort of choice for every resource; what is particular to a kind is in `kinds`.

use schema::Resource;

/// Whether and when `metadata.generation` is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Never touched.
    None,
    /// Starts at 1, grows when `spec` changes.
    Spec,
    /// Starts at 1, grows when anything but metadata and status changes.
    Content,
    /// As `Content`, and also when labels change.
    ContentAndLabels,
}

/// What a valid object name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// RFC 1123 subdomain.
    Subdomain,
    /// RFC 1123 label.
    Label,
    /// RFC 1035 label.
    Label1035,
    /// Anything that fits one segment of a URL path.
    PathSegment,
    /// Anything the URL could carry.
    Any,
}

/// How one resource behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strategy {
    pub(crate) generation: Generation,
    /// An update without resourceVersion is taken as "whatever is there".
    pub(crate) unconditional_update: bool,
    /// A PUT to a name that does not exist creates it.
    pub(crate) create_on_update: bool,
    pub(crate) name: NameRule,
    /// A status sent with a create is kept (kubelets register nodes this way).
    pub(crate) keeps_status_on_create: bool,
    /// Finalizers and owner references of dependents matter to deletion.
    pub(crate) collected: bool,
}

const USUAL: Strategy = Strategy {
    generation: Generation::None,
    unconditional_update: true,
    create_on_update: false,
    name: NameRule::Subdomain,
    keeps_status_on_create: false,
    collected: true,
};

/// The strategy of a resource; what is not in the table behaves in the usual way.
pub(crate) fn of(res: &Resource) -> Strategy {
    strategy(res.group, res.resource)
}

fn strategy(group: &str, resource: &str) -> Strategy {
    let spec = Strategy {
        generation: Generation::Spec,
        ..USUAL
    };
    let content = Strategy {
        generation: Generation::Content,
        ..USUAL
    };
    let conditional = Strategy {
        unconditional_update: false,
        ..USUAL
    };
    let put_creates = Strategy {
        create_on_update: true,
        ..USUAL
    };
    match (group, resource) {
        ("", "namespaces") => Strategy {
            name: NameRule::Label,
            ..USUAL
        },
        ("", "nodes") => Strategy {
            keeps_status_on_create: true,
            ..USUAL
        },
        ("", "services") => Strategy {
            name: NameRule::Label1035,
            ..put_creates
        },
        ("", "pods" | "replicationcontrollers") => spec,
        ("", "endpoints" | "limitranges" | "podtemplates") => put_creates,
        ("" | "events.k8s.io", "events") => Strategy {
            collected: false,
            ..put_creates
        },
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => spec,
        ("batch", "jobs" | "cronjobs") => spec,
        ("policy", "poddisruptionbudgets") => Strategy {
            unconditional_update: false,
            ..spec
        },
        ("networking.k8s.io", "ingresses" | "networkpolicies" | "ingressclasses") => spec,
        ("networking.k8s.io", "ipaddresses" | "servicecidrs") => put_creates,
        ("coordination.k8s.io", "leases" | "leasecandidates") => Strategy {
            create_on_update: true,
            ..conditional
        },
        ("rbac.authorization.k8s.io", _) => Strategy {
            name: NameRule::PathSegment,
            ..put_creates
        },
        ("scheduling.k8s.io", "priorityclasses") => content,
        ("discovery.k8s.io", "endpointslices") => Strategy {
            generation: Generation::ContentAndLabels,
            ..USUAL
        },
        ("node.k8s.io", "runtimeclasses") => conditional,
        (
            "storage.k8s.io",
            "csinodes" | "csidrivers" | "volumeattachments" | "csistoragecapacities",
        ) => conditional,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicies"
            | "validatingadmissionpolicybindings"
            | "mutatingadmissionpolicies"
            | "mutatingadmissionpolicybindings",
        ) => Strategy {
            unconditional_update: false,
            ..spec
        },
        ("admissionregistration.k8s.io", _) => Strategy {
            unconditional_update: false,
            ..content
        },
        ("apiextensions.k8s.io", _) => Strategy {
            unconditional_update: false,
            ..spec
        },
        ("apiregistration.k8s.io" | "internal.apiserver.k8s.io" | "storagemigration.k8s.io", _) => {
            conditional
        }
        ("flowcontrol.apiserver.k8s.io", _) => spec,
        ("certificates.k8s.io", "certificatesigningrequests") => Strategy {
            name: NameRule::Any,
            ..USUAL
        },
        ("certificates.k8s.io", "clustertrustbundles") => Strategy {
            name: NameRule::Any,
            ..conditional
        },
        ("resource.k8s.io", "deviceclasses" | "resourceslices" | "devicetaintrules") => spec,
        ("", "componentstatuses") => Strategy {
            name: NameRule::PathSegment,
            ..USUAL
        },
        (
            "authorization.k8s.io" | "authentication.k8s.io",
            "selfsubjectaccessreviews"
            | "selfsubjectrulesreviews"
            | "localsubjectaccessreviews"
            | "subjectaccessreviews"
            | "tokenreviews"
            | "selfsubjectreviews",
        ) => Strategy {
            name: NameRule::Any,
            ..USUAL
        },
        _ => USUAL,
    }
}

impl NameRule {
    /// What is wrong with a name. A prefix (`generateName`) may end in dashes.
    pub(crate) fn complaints(self, name: &str, is_prefix: bool) -> Vec<String> {
        let masked;
        let name = if is_prefix
            && name.len() > 1
            && name.ends_with('-')
            && self != NameRule::PathSegment
        {
            masked = format!("{}a", &name[..name.len() - 1]);
            masked.as_str()
        } else {
            name
        };
        match self {
            NameRule::Subdomain => meta::names::dns1123_subdomain(name),
            NameRule::Label => meta::names::dns1123_label(name),
            NameRule::Label1035 => meta::names::dns1035_label(name),
            NameRule::PathSegment if is_prefix => meta::names::path_segment_prefix(name),
            NameRule::PathSegment => meta::names::path_segment_name(name),
            NameRule::Any => Vec::new(),
        }
    }
}

/// Whether a PUT to a name that does not exist creates the object.
pub fn allows_create_on_update(res: &Resource) -> bool {
    of(res).create_on_update
}

/// Whether a resource has a subresource of this name.
pub(crate) fn has_subresource(res: &Resource, name: &str) -> bool {
    res.subresources
        .iter()
        .any(|subresource| subresource.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resources_upstream_treats_specially() {
        assert!(strategy("coordination.k8s.io", "leases").create_on_update);
        assert!(!strategy("coordination.k8s.io", "leases").unconditional_update);
        assert!(strategy("", "pods").unconditional_update);
        assert!(!strategy("", "pods").create_on_update);
        assert!(!strategy("policy", "poddisruptionbudgets").unconditional_update);
        assert_eq!(strategy("", "configmaps").generation, Generation::None);
        assert_eq!(strategy("apps", "deployments").generation, Generation::Spec);
        assert_eq!(
            strategy("rbac.authorization.k8s.io", "roles").name,
            NameRule::PathSegment
        );
    }

    #[test]
    fn name_prefixes_may_end_in_a_dash() {
        assert!(NameRule::Subdomain.complaints("web-", true).is_empty());
        assert!(!NameRule::Subdomain.complaints("web-", false).is_empty());
        assert!(!NameRule::Label.complaints("a.b", false).is_empty());
        assert!(
            NameRule::PathSegment
                .complaints("system:node", false)
                .is_empty()
        );
    }
}
