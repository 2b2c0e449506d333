//! Facts that the published tables leave out: packages and their API groups, the JSON shape of the few types that have
//! no struct tags in the marker table, and constants named by default markers.

/// A package of API types: its short name in our table, where its markers and messages are, and its API group.
pub(crate) struct Package {
    /// Short name, for example `core/v1`.
    pub(crate) short: String,
    /// Key in the marker table, for example `api/core/v1`.
    pub(crate) markers: String,
    /// Protobuf package, for example `k8s.io.api.core.v1`.
    pub(crate) proto: String,
    /// OpenAPI prefix, for example `io.k8s.api.core.v1`.
    pub(crate) openapi: String,
    /// API group; `None` for packages that are not a group-version.
    pub(crate) group: Option<String>,
}

/// Folder of k8s.io/api → API group.
const GROUPS: &[(&str, &str)] = &[
    ("admission", "admission.k8s.io"),
    ("admissionregistration", "admissionregistration.k8s.io"),
    ("apidiscovery", "apidiscovery.k8s.io"),
    ("apiserverinternal", "internal.apiserver.k8s.io"),
    ("apps", "apps"),
    ("authentication", "authentication.k8s.io"),
    ("authorization", "authorization.k8s.io"),
    ("autoscaling", "autoscaling"),
    ("batch", "batch"),
    ("certificates", "certificates.k8s.io"),
    ("coordination", "coordination.k8s.io"),
    ("core", ""),
    ("discovery", "discovery.k8s.io"),
    ("events", "events.k8s.io"),
    ("extensions", "extensions"),
    ("flowcontrol", "flowcontrol.apiserver.k8s.io"),
    ("imagepolicy", "imagepolicy.k8s.io"),
    ("networking", "networking.k8s.io"),
    ("node", "node.k8s.io"),
    ("policy", "policy"),
    ("rbac", "rbac.authorization.k8s.io"),
    ("resource", "resource.k8s.io"),
    ("scheduling", "scheduling.k8s.io"),
    ("storage", "storage.k8s.io"),
    ("storagemigration", "storagemigration.k8s.io"),
];

/// The package with this protobuf package name, if it belongs in the table.
pub(crate) fn package(proto: &str) -> Option<Package> {
    let path = proto.strip_prefix("k8s.io.")?;
    let known = |short: &str, markers: &str, openapi: &str, group: Option<&str>| {
        Some(Package {
            short: short.to_owned(),
            markers: markers.to_owned(),
            proto: proto.to_owned(),
            openapi: openapi.to_owned(),
            group: group.map(str::to_owned),
        })
    };
    match path {
        "apimachinery.pkg.apis.meta.v1" => known(
            "meta/v1",
            "apimachinery/pkg/apis/meta/v1",
            "io.k8s.apimachinery.pkg.apis.meta.v1",
            Some("meta.k8s.io"),
        ),
        "apimachinery.pkg.runtime" => known(
            "runtime",
            "apimachinery/pkg/runtime",
            "io.k8s.apimachinery.pkg.runtime",
            None,
        ),
        "apimachinery.pkg.api.resource" => {
            known("quantity", "", "io.k8s.apimachinery.pkg.api.resource", None)
        }
        "apimachinery.pkg.util.intstr" => {
            known("intstr", "", "io.k8s.apimachinery.pkg.util.intstr", None)
        }
        "apiextensions_apiserver.pkg.apis.apiextensions.v1" => known(
            "apiextensions/v1",
            "apiextensions-apiserver/pkg/apis/apiextensions/v1",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
            Some("apiextensions.k8s.io"),
        ),
        "kube_aggregator.pkg.apis.apiregistration.v1" => known(
            "apiregistration/v1",
            "",
            "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
            Some("apiregistration.k8s.io"),
        ),
        "metrics.pkg.apis.metrics.v1beta1" => known(
            "metrics/v1beta1",
            "metrics/pkg/apis/metrics/v1beta1",
            "io.k8s.metrics.pkg.apis.metrics.v1beta1",
            Some("metrics.k8s.io"),
        ),
        _ => {
            let (folder, version) = path.strip_prefix("api.")?.split_once('.')?;
            let (_, group) = GROUPS.iter().find(|(name, _)| *name == folder)?;
            known(
                &format!("{folder}/{version}"),
                &format!("api/{folder}/{version}"),
                &format!("io.k8s.api.{folder}.{version}"),
                Some(group),
            )
        }
    }
}

/// A type whose JSON shape is not in the marker table: fields in struct order, `*` = pointer, `?` = omitempty.
pub(crate) struct Extra {
    pub(crate) name: &'static str,
    /// Carries kind and apiVersion.
    pub(crate) kind: bool,
    pub(crate) fields: &'static [&'static str],
}

/// Struct shapes known from the published API reference.
pub(crate) const EXTRAS: &[Extra] = &[
    Extra {
        name: "meta/v1.GroupKind",
        kind: false,
        fields: &["group", "kind"],
    },
    Extra {
        name: "meta/v1.GroupResource",
        kind: false,
        fields: &["group", "resource"],
    },
    Extra {
        name: "meta/v1.GroupVersion",
        kind: false,
        fields: &["group", "version"],
    },
    Extra {
        name: "meta/v1.GroupVersionKind",
        kind: false,
        fields: &["group", "version", "kind"],
    },
    Extra {
        name: "meta/v1.GroupVersionResource",
        kind: false,
        fields: &["group", "version", "resource"],
    },
    Extra {
        name: "meta/v1.WatchEvent",
        kind: false,
        fields: &["type", "object"],
    },
    Extra {
        name: "apiregistration/v1.APIService",
        kind: true,
        fields: &["metadata?", "spec?", "status?"],
    },
    Extra {
        name: "apiregistration/v1.APIServiceList",
        kind: true,
        fields: &["metadata?", "items"],
    },
    Extra {
        name: "apiregistration/v1.APIServiceSpec",
        kind: false,
        fields: &[
            "*service?",
            "group?",
            "version?",
            "insecureSkipTLSVerify?",
            "caBundle?",
            "groupPriorityMinimum",
            "versionPriority",
        ],
    },
    Extra {
        name: "apiregistration/v1.APIServiceStatus",
        kind: false,
        fields: &["conditions?"],
    },
    Extra {
        name: "apiregistration/v1.APIServiceCondition",
        kind: false,
        fields: &[
            "type",
            "status",
            "lastTransitionTime?",
            "reason?",
            "message?",
        ],
    },
    Extra {
        name: "apiregistration/v1.ServiceReference",
        kind: false,
        fields: &["namespace?", "name?", "*port?"],
    },
];

/// Annotations of extra types that their struct tags would carry: (type, field, flags).
pub(crate) const EXTRA_FLAGS: &[(&str, &str, &str)] = &[(
    "apiregistration/v1.APIServiceStatus",
    "conditions",
    "patch=merge mergeKey=type list=map keys=type",
)];

/// Types with a JSON form of their own.
pub(crate) const SPECIALS: &[(&str, &str)] = &[
    ("quantity.Quantity", "quantity"),
    ("intstr.IntOrString", "intstr"),
    ("meta/v1.Time", "time"),
    ("meta/v1.MicroTime", "microtime"),
    ("meta/v1.Duration", "duration"),
    ("meta/v1.FieldsV1", "raw"),
    ("runtime.RawExtension", "raw"),
    ("apiextensions/v1.JSON", "raw"),
    ("apiextensions/v1.JSONSchemaPropsOrArray", "schemaorarray"),
    ("apiextensions/v1.JSONSchemaPropsOrBool", "schemaorbool"),
    (
        "apiextensions/v1.JSONSchemaPropsOrStringArray",
        "schemaorstrings",
    ),
];

/// Constants that default markers name instead of a JSON value.
pub(crate) const CONSTANTS: &[(&str, &str)] = &[
    ("ref(AzureDataDiskCachingReadWrite)", "\"ReadWrite\""),
    ("ref(AzureSharedBlobDisk)", "\"Shared\""),
];
