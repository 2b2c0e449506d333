//! The columns of each built-in kind, in the order clients know, and the function that fills them.
//! Says nothing about how a cell reads; `cells` and `pod` do.

use super::{Cells, Column, cells, pod};

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name of the object, unique among its kind in its namespace.",
    priority: 0,
};
const AGE: Column = text("Age", "Time since the object was created.");
const CONTAINERS: Column =
    text("Containers", "Names of the containers in the pod template.").wide();
const IMAGES: Column = text("Images", "Images of the containers in the pod template.").wide();
const SELECTOR: Column = text("Selector", "Labels of the pods that belong to the object.").wide();
const USERS: Column = text("Users", "Users the role is given to.").wide();
const GROUPS: Column = text("Groups", "Groups the role is given to.").wide();
const ACCOUNTS: Column = text("ServiceAccounts", "Service accounts the role is given to.").wide();
const ROLE: Column = text("Role", "Kind and name of the role given.");
const DESIRED: Column = integer("Desired", "Pods wanted.");
const CURRENT: Column = integer("Current", "Pods that exist.");
const READY: Column = integer("Ready", "Pods that are ready.");
const WEBHOOKS: Column = integer("Webhooks", "Number of webhooks called.");
const PARAM_KIND: Column = text(
    "ParamKind",
    "Kind of the parameter objects the policy reads.",
);
const POLICY_NAME: Column = text("PolicyName", "Policy that is bound.");
const PARAM_REF: Column = text("ParamRef", "Parameter object handed to the policy.");
const ATTRIBUTES_CLASS: Column = text(
    "VolumeAttributesClass",
    "Class of the volume's changeable attributes.",
);
const STORAGE_CLASS: Column = text("StorageClass", "Class the volume belongs to.");
const ACCESS_MODES: Column = text(
    "Access Modes",
    "Ways the volume may be mounted, in short form.",
);
const VOLUME_MODE: Column = text(
    "VolumeMode",
    "Whether the volume is a file system or a raw block device.",
)
.wide();

const fn text(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 0,
    }
}

const fn integer(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        description,
        priority: 0,
    }
}

const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "boolean",
        format: "",
        description,
        priority: 0,
    }
}

impl Column {
    const fn wide(self) -> Column {
        Column {
            priority: 1,
            ..self
        }
    }
}

/// Of kinds without columns of their own.
pub(super) static PLAIN: &[Column] = &[
    NAME,
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        description: "Time at which the object was created.",
        priority: 0,
    },
];

/// Group, kind, columns and the function that fills them.
type Entry = (&'static str, &'static str, &'static [Column], Cells);

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOWS: &str = "flowcontrol.apiserver.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RESOURCE: &str = "resource.k8s.io";

static EVENT_COLUMNS: &[Column] = &[
    text("Last Seen", "Time since the event last happened."),
    text("Type", "Whether the event is normal or a warning."),
    text("Reason", "Short word for what happened."),
    text("Object", "Object the event is about."),
    text("Subobject", "Part of the object the event is about.").wide(),
    text(
        "Source",
        "Component that reports the event, and where it runs.",
    )
    .wide(),
    text("Message", "What happened, for people."),
    text("First Seen", "Time since the event first happened.").wide(),
    integer("Count", "How often the event happened.").wide(),
    Column {
        priority: 1,
        ..NAME
    },
];

/// All built-in kinds with columns of their own.
pub(super) static KINDS: &[Entry] = &[
    (
        "",
        "Pod",
        &[
            NAME,
            text("Ready", "Containers that are ready, of all."),
            text("Status", "State of the pod in one word."),
            text(
                "Restarts",
                "How often containers were restarted, and when last.",
            ),
            AGE,
            text("IP", "Address of the pod.").wide(),
            text("Node", "Node the pod runs on.").wide(),
            text("Nominated Node", "Node being cleared for the pod.").wide(),
            text(
                "Readiness Gates",
                "Extra readiness conditions that hold, of all.",
            )
            .wide(),
        ],
        pod::cells,
    ),
    (
        "",
        "PodTemplate",
        &[
            NAME,
            Column {
                priority: 0,
                ..CONTAINERS
            },
            Column {
                priority: 0,
                ..IMAGES
            },
            text("Pod Labels", "Labels of pods made from the template."),
        ],
        cells::pod_template,
    ),
    (
        "policy",
        "PodDisruptionBudget",
        &[
            NAME,
            text("Min Available", "Pods that must stay available."),
            text("Max Unavailable", "Pods that may be unavailable."),
            integer("Allowed Disruptions", "Pods that may be evicted now."),
            AGE,
        ],
        cells::pod_disruption_budget,
    ),
    (
        "",
        "ReplicationController",
        &[
            NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR,
        ],
        cells::replication_controller,
    ),
    (
        "apps",
        "ReplicaSet",
        &[
            NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR,
        ],
        cells::replica_set,
    ),
    (
        "apps",
        "DaemonSet",
        &[
            NAME,
            DESIRED,
            CURRENT,
            READY,
            integer("Up-to-date", "Pods made from the present template."),
            integer("Available", "Pods ready for long enough."),
            text("Node Selector", "Labels of the nodes pods run on."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells::daemon_set,
    ),
    (
        "apps",
        "Deployment",
        &[
            NAME,
            text("Ready", "Pods that are ready, of those wanted."),
            integer("Up-to-date", "Pods made from the present template."),
            integer("Available", "Pods ready for long enough."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells::deployment,
    ),
    (
        "apps",
        "StatefulSet",
        &[
            NAME,
            text("Ready", "Pods that are ready, of those wanted."),
            AGE,
            CONTAINERS,
            IMAGES,
        ],
        cells::stateful_set,
    ),
    (
        "apps",
        "ControllerRevision",
        &[
            NAME,
            text(
                "Controller",
                "Object whose history the revision belongs to.",
            ),
            integer("Revision", "Number of the revision."),
            AGE,
        ],
        cells::controller_revision,
    ),
    (
        "batch",
        "Job",
        &[
            NAME,
            text("Status", "State of the job in one word."),
            text("Completions", "Pods that succeeded, of those wanted."),
            text("Duration", "Time from start to completion, or until now."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells::job,
    ),
    (
        "batch",
        "CronJob",
        &[
            NAME,
            text("Schedule", "When jobs start, in cron format."),
            text("Timezone", "Time zone of the schedule."),
            boolean("Suspend", "Whether further jobs are held back."),
            integer("Active", "Jobs that run now."),
            text("Last Schedule", "Time since a job was last started."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells::cron_job,
    ),
    (
        "",
        "Service",
        &[
            NAME,
            text("Type", "How the service is exposed."),
            text("Cluster-IP", "Address inside the cluster."),
            text("External-IP", "Addresses outside the cluster."),
            text("Port(s)", "Ports, with node ports and protocols."),
            AGE,
            SELECTOR,
        ],
        cells::service,
    ),
    (
        NETWORKING,
        "Ingress",
        &[
            NAME,
            text("Class", "Class of controller that serves the ingress."),
            text("Hosts", "Host names with rules."),
            text("Address", "Where the ingress is reached."),
            text("Ports", "Ports the ingress listens on."),
            AGE,
        ],
        cells::ingress,
    ),
    (
        NETWORKING,
        "IngressClass",
        &[
            NAME,
            text("Controller", "Controller that serves the class."),
            text("Parameters", "Object with further parameters."),
            AGE,
        ],
        cells::ingress_class,
    ),
    (
        NETWORKING,
        "NetworkPolicy",
        &[
            NAME,
            text("Pod-Selector", "Labels of the pods the policy rules."),
            AGE,
        ],
        cells::network_policy,
    ),
    (
        NETWORKING,
        "ServiceCIDR",
        &[
            NAME,
            text("CIDRs", "Address ranges services get their addresses from."),
            AGE,
        ],
        cells::service_cidr,
    ),
    (
        NETWORKING,
        "IPAddress",
        &[NAME, text("ParentRef", "Object the address belongs to.")],
        cells::ip_address,
    ),
    (
        "",
        "Endpoints",
        &[NAME, text("Endpoints", "Addresses that serve."), AGE],
        cells::endpoints,
    ),
    (
        "discovery.k8s.io",
        "EndpointSlice",
        &[
            NAME,
            text("AddressType", "Kind of the addresses."),
            text("Ports", "Ports that serve."),
            text("Endpoints", "Addresses in the slice."),
            AGE,
        ],
        cells::endpoint_slice,
    ),
    (
        "",
        "Node",
        &[
            NAME,
            text("Status", "Whether the node is ready and takes pods."),
            text("Roles", "Roles given by labels."),
            AGE,
            text("Version", "Version of the kubelet."),
            text("Internal-IP", "Address inside the cluster.").wide(),
            text("External-IP", "Address outside the cluster.").wide(),
            text("OS-Image", "Operating system.").wide(),
            text("Kernel-Version", "Kernel.").wide(),
            text("Container-Runtime", "Container runtime and its version.").wide(),
        ],
        cells::node,
    ),
    ("", "Event", EVENT_COLUMNS, cells::event),
    ("events.k8s.io", "Event", EVENT_COLUMNS, cells::event),
    (
        "",
        "Namespace",
        &[NAME, text("Status", "Phase of the namespace."), AGE],
        cells::namespace,
    ),
    (
        "",
        "Secret",
        &[
            NAME,
            text("Type", "What the secret is for."),
            integer("Data", "Number of entries."),
            AGE,
        ],
        cells::secret,
    ),
    (
        "",
        "ConfigMap",
        &[NAME, integer("Data", "Number of entries."), AGE],
        cells::config_map,
    ),
    (
        "",
        "ServiceAccount",
        &[
            NAME,
            integer("Secrets", "Number of secrets pods may use."),
            AGE,
        ],
        cells::service_account,
    ),
    (
        "",
        "PersistentVolume",
        &[
            NAME,
            text("Capacity", "Size of the volume."),
            ACCESS_MODES,
            text("Reclaim Policy", "What happens when the claim is gone."),
            text("Status", "Phase of the volume."),
            text("Claim", "Claim the volume is bound to."),
            STORAGE_CLASS,
            ATTRIBUTES_CLASS,
            text("Reason", "Why the volume is in its phase."),
            AGE,
            VOLUME_MODE,
        ],
        cells::persistent_volume,
    ),
    (
        "",
        "PersistentVolumeClaim",
        &[
            NAME,
            text("Status", "Phase of the claim."),
            text("Volume", "Volume the claim is bound to."),
            text("Capacity", "Size of the bound volume."),
            ACCESS_MODES,
            STORAGE_CLASS,
            ATTRIBUTES_CLASS,
            AGE,
            VOLUME_MODE,
        ],
        cells::persistent_volume_claim,
    ),
    (
        "",
        "ComponentStatus",
        &[
            NAME,
            text("Status", "Whether the component is healthy."),
            text("Message", "What the component answers."),
            text("Error", "What went wrong, if anything."),
        ],
        cells::component_status,
    ),
    (
        "",
        "ResourceQuota",
        &[
            NAME,
            text(
                "Request",
                "Used and allowed amounts of requests and counts.",
            ),
            text("Limit", "Used and allowed amounts of limits."),
            AGE,
        ],
        cells::resource_quota,
    ),
    (
        "",
        "Status",
        &[
            text("Status", "Outcome of the operation."),
            text("Reason", "Machine-readable class of a failure."),
            text("Message", "What happened, for people."),
        ],
        cells::status,
    ),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        &[
            NAME,
            text("Reference", "Object that is scaled."),
            text("Targets", "Present and wanted value of each metric."),
            text("MinPods", "Fewest pods."),
            text("MaxPods", "Most pods."),
            text("Replicas", "Pods that exist."),
            AGE,
        ],
        cells::horizontal_pod_autoscaler,
    ),
    (
        "autoscaling",
        "Scale",
        &[NAME, DESIRED, integer("Available", "Pods that exist."), AGE],
        cells::scale,
    ),
    (
        RBAC,
        "RoleBinding",
        &[NAME, ROLE, AGE, USERS, GROUPS, ACCOUNTS],
        cells::role_binding,
    ),
    (
        RBAC,
        "ClusterRoleBinding",
        &[NAME, ROLE, AGE, USERS, GROUPS, ACCOUNTS],
        cells::role_binding,
    ),
    (
        "certificates.k8s.io",
        "CertificateSigningRequest",
        &[
            NAME,
            AGE,
            text("SignerName", "Signer asked for the certificate."),
            text("Requestor", "User who asks."),
            text(
                "RequestedDuration",
                "How long the certificate should be valid.",
            ),
            text("Condition", "What was decided."),
        ],
        cells::certificate_signing_request,
    ),
    (
        "certificates.k8s.io",
        "ClusterTrustBundle",
        &[NAME, text("SignerName", "Signer the bundle belongs to.")],
        cells::cluster_trust_bundle,
    ),
    (
        "coordination.k8s.io",
        "Lease",
        &[NAME, text("Holder", "Who holds the lease."), AGE],
        cells::lease,
    ),
    (
        "coordination.k8s.io",
        "LeaseCandidate",
        &[
            NAME,
            text("LeaseName", "Lease the candidate wants."),
            text("BinaryVersion", "Version of the candidate's binary."),
            text("EmulationVersion", "Version the candidate behaves as."),
            AGE,
        ],
        cells::lease_candidate,
    ),
    (
        STORAGE,
        "StorageClass",
        &[
            NAME,
            text("Provisioner", "Who makes the volumes."),
            text("ReclaimPolicy", "What happens when the claim is gone."),
            text("VolumeBindingMode", "When volumes are made and bound."),
            text("AllowVolumeExpansion", "Whether volumes may grow."),
            AGE,
        ],
        cells::storage_class,
    ),
    (
        STORAGE,
        "VolumeAttributesClass",
        &[
            NAME,
            text("DriverName", "Driver the class belongs to."),
            AGE,
        ],
        cells::volume_attributes_class,
    ),
    (
        STORAGE,
        "VolumeAttachment",
        &[
            NAME,
            text("Attacher", "Driver that attaches."),
            text("PV", "Volume to attach."),
            text("Node", "Node to attach to."),
            boolean("Attached", "Whether it is attached."),
            AGE,
        ],
        cells::volume_attachment,
    ),
    (
        STORAGE,
        "CSINode",
        &[
            NAME,
            integer("Drivers", "Number of drivers on the node."),
            AGE,
        ],
        cells::csi_node,
    ),
    (
        STORAGE,
        "CSIDriver",
        &[
            NAME,
            boolean(
                "AttachRequired",
                "Whether volumes must be attached before mounting.",
            ),
            boolean(
                "PodInfoOnMount",
                "Whether the driver is told about the pod.",
            ),
            boolean(
                "StorageCapacity",
                "Whether the driver reports free capacity.",
            ),
            text("TokenRequests", "Audiences of the tokens the driver wants."),
            boolean(
                "RequiresRepublish",
                "Whether mounts are refreshed from time to time.",
            ),
            text("Modes", "Lifetimes of volumes the driver serves."),
            AGE,
        ],
        cells::csi_driver,
    ),
    (
        STORAGE,
        "CSIStorageCapacity",
        &[
            NAME,
            text("StorageClassName", "Class the capacity is for."),
            text("Capacity", "Free capacity."),
        ],
        cells::csi_storage_capacity,
    ),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        &[
            NAME,
            integer("Value", "Priority pods get."),
            boolean("Global-Default", "Whether pods without a class get it."),
            AGE,
            text(
                "PreemptionPolicy",
                "Whether pods of the class push others out.",
            ),
        ],
        cells::priority_class,
    ),
    (
        "node.k8s.io",
        "RuntimeClass",
        &[
            NAME,
            text("Handler", "Configuration of the container runtime."),
            AGE,
        ],
        cells::runtime_class,
    ),
    (
        ADMISSION,
        "MutatingWebhookConfiguration",
        &[NAME, WEBHOOKS, AGE],
        cells::webhooks,
    ),
    (
        ADMISSION,
        "ValidatingWebhookConfiguration",
        &[NAME, WEBHOOKS, AGE],
        cells::webhooks,
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicy",
        &[
            NAME,
            integer("Validations", "Number of rules checked."),
            PARAM_KIND,
            AGE,
        ],
        cells::validating_policy,
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        &[NAME, POLICY_NAME, PARAM_REF, AGE],
        cells::policy_binding,
    ),
    (
        ADMISSION,
        "MutatingAdmissionPolicy",
        &[
            NAME,
            integer("Mutations", "Number of changes made."),
            PARAM_KIND,
            AGE,
        ],
        cells::mutating_policy,
    ),
    (
        ADMISSION,
        "MutatingAdmissionPolicyBinding",
        &[NAME, POLICY_NAME, PARAM_REF, AGE],
        cells::policy_binding,
    ),
    (
        FLOWS,
        "FlowSchema",
        &[
            NAME,
            text("PriorityLevel", "Priority level requests of the flow get."),
            integer(
                "MatchingPrecedence",
                "Order among flow schemas; the smallest that matches wins.",
            ),
            text(
                "DistinguisherMethod",
                "What tells flows of the schema apart.",
            ),
            AGE,
            text("MissingPL", "Whether the priority level is missing."),
        ],
        cells::flow_schema,
    ),
    (
        FLOWS,
        "PriorityLevelConfiguration",
        &[
            NAME,
            text("Type", "Whether requests are limited."),
            text(
                "NominalConcurrencyShares",
                "Share of the server's concurrency.",
            ),
            text("Queues", "Number of queues."),
            text("HandSize", "Queues a flow is dealt."),
            text("QueueLengthLimit", "Most requests in a queue."),
            AGE,
        ],
        cells::priority_level,
    ),
    (
        "internal.apiserver.k8s.io",
        "StorageVersion",
        &[
            NAME,
            text(
                "CommonEncodingVersion",
                "Version all servers write, if they agree.",
            ),
            text("StorageVersions", "Version each server writes."),
            AGE,
        ],
        cells::storage_version,
    ),
    (
        "storagemigration.k8s.io",
        "StorageVersionMigration",
        &[NAME, text("Resource", "Resource that is rewritten.")],
        cells::storage_version_migration,
    ),
    (RESOURCE, "DeviceClass", &[NAME, AGE], cells::name_and_age),
    (
        RESOURCE,
        "ResourceClaimTemplate",
        &[NAME, AGE],
        cells::name_and_age,
    ),
    (
        RESOURCE,
        "ResourceClaim",
        &[
            NAME,
            text("State", "Whether devices are allocated and reserved."),
            AGE,
        ],
        cells::resource_claim,
    ),
    (
        RESOURCE,
        "ResourceSlice",
        &[
            NAME,
            text("Node", "Node the devices are at."),
            text("Driver", "Driver of the devices."),
            text("Pool", "Pool the devices belong to."),
            AGE,
        ],
        cells::resource_slice,
    ),
    (
        "apiregistration.k8s.io",
        "APIService",
        &[
            NAME,
            text("Service", "Service that serves the group version."),
            text("Available", "Whether it answers."),
            AGE,
        ],
        cells::api_service,
    ),
];
