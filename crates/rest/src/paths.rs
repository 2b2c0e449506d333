//! What a request is about: its target, taken from method and path, and its options, taken from the query.
//!
//! Knows the grammar of Kubernetes URLs and the rules between options. Deliberately does not know which resources
//! exist: `/apis/example.com/v1/widgets` is a resource request whether or not anyone serves widgets.

use meta::{ApiError, FieldError, FieldPath, FieldSelector, GroupResource, LabelSelector};
use schema::FieldValidation;

use crate::negotiate::PatchType;
use crate::table::IncludeObject;

/// Longest path that is taken apart, in bytes.
pub const PATH_BYTES_MAX: usize = 8 * 1024;
/// Longest query that is taken apart, in bytes. Label selectors can be long, so it is generous.
pub const QUERY_BYTES_MAX: usize = 256 * 1024;
/// Most parameters of one query; later ones are ignored.
pub const QUERY_PARAMETERS_MAX: usize = 1024;
/// Longest field manager name, in bytes.
pub const FIELD_MANAGER_BYTES_MAX: usize = 128;

/// What a client wants to do with a resource, in the words of RBAC and admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    /// Whether the verb only reads.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A request for a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRequest {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name.
    pub resource: String,
    /// Namespace of the path. `None` means no namespace in the path: a cluster-scoped resource, or all namespaces.
    pub namespace: Option<String>,
    /// Object name.
    pub name: Option<String>,
    /// Subresource, such as `status`.
    pub subresource: Option<String>,
    /// What stands behind `…/proxy`, without a leading slash; empty for every other subresource.
    pub proxy_path: String,
    /// The verb.
    pub verb: Verb,
}

impl ResourceRequest {
    /// Group and resource, for errors.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.as_str(), self.resource.as_str())
    }

    /// The namespace as an authorizer sees it: a Namespace object counts as lying in itself.
    #[must_use]
    pub fn authorization_namespace(&self) -> Option<&str> {
        if self.group.is_empty() && self.resource == "namespaces" {
            self.name.as_deref()
        } else {
            self.namespace.as_deref()
        }
    }
}

/// Discovery documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryTarget {
    /// `/api`
    Api,
    /// `/apis`
    Apis,
    /// `/apis/{group}`
    Group(String),
    /// `/api/{version}` with an empty group, or `/apis/{group}/{version}`
    GroupVersion {
        /// API group, empty for core.
        group: String,
        /// API version.
        version: String,
    },
}

/// The three health endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HealthEndpoint {
    Healthz,
    Livez,
    Readyz,
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An object, a collection or a subresource.
    Resource(ResourceRequest),
    /// A discovery document.
    Discovery(DiscoveryTarget),
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiV3Index,
    /// `/openapi/v3/{rest}`: `api/v1`, `apis/apps/v1`, …
    OpenApiV3(String),
    /// `/version`
    Version,
    /// `/healthz`, `/livez`, `/readyz`, and one check of theirs (`/readyz/ping`).
    Health {
        /// Which endpoint.
        endpoint: HealthEndpoint,
        /// One check, as in `poststarthook/name`; `None` for all.
        check: Option<String>,
    },
    /// `/metrics`
    Metrics,
    /// Anything else, decoded, with its leading slash.
    NonResource(String),
}

/// Takes a request apart.
#[derive(Debug)]
pub struct RequestInfo;

impl RequestInfo {
    /// The target of a request. `path` and `query` come still percent-encoded, without the question mark.
    ///
    /// The query is read only to tell `list` from `watch`.
    ///
    /// # Errors
    /// 400 for a path that is too long or not decodable, 405 for a method that no path of this shape serves.
    pub fn parse(method: &str, path: &str, query: &str) -> Result<Target, ApiError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(ApiError::bad_request("the request path is too long"));
        }
        let mut segments = Vec::new();
        for segment in path.trim_matches('/').split('/') {
            let decoded = percent_decode(segment, false).ok_or_else(|| {
                ApiError::bad_request("the request path is not correctly percent-encoded")
            })?;
            segments.push(decoded);
        }
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let unknown = || Target::NonResource(format!("/{}", words.join("/")));
        // An encoded slash would otherwise hide a separator inside a name.
        if words.len() > 1
            && words
                .iter()
                .any(|word| word.is_empty() || word.contains('/'))
        {
            return Ok(unknown());
        }
        Ok(match words.as_slice() {
            ["api"] => Target::Discovery(DiscoveryTarget::Api),
            ["apis"] => Target::Discovery(DiscoveryTarget::Apis),
            ["apis", group] => Target::Discovery(DiscoveryTarget::Group((*group).to_owned())),
            ["api", version] => Target::Discovery(DiscoveryTarget::GroupVersion {
                group: String::new(),
                version: (*version).to_owned(),
            }),
            ["apis", group, version] => Target::Discovery(DiscoveryTarget::GroupVersion {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
            }),
            ["api", version, rest @ ..] => {
                return resource_request(method, query, "", version, rest, unknown);
            }
            ["apis", group, version, rest @ ..] => {
                return resource_request(method, query, group, version, rest, unknown);
            }
            ["openapi", "v2"] => Target::OpenApiV2,
            ["openapi", "v3"] => Target::OpenApiV3Index,
            ["openapi", "v3", rest @ ..] => Target::OpenApiV3(rest.join("/")),
            ["version"] => Target::Version,
            ["metrics"] => Target::Metrics,
            ["healthz", check @ ..] => health(HealthEndpoint::Healthz, check),
            ["livez", check @ ..] => health(HealthEndpoint::Livez, check),
            ["readyz", check @ ..] => health(HealthEndpoint::Readyz, check),
            _ => unknown(),
        })
    }
}

fn health(endpoint: HealthEndpoint, check: &[&str]) -> Target {
    Target::Health {
        endpoint,
        check: (!check.is_empty()).then(|| check.join("/")),
    }
}

/// The part of a resource path after group and version.
fn resource_request(
    method: &str,
    query: &str,
    group: &str,
    version: &str,
    rest: &[&str],
    unknown: impl Fn() -> Target,
) -> Result<Target, ApiError> {
    // `/api/v1/watch/…` is the old spelling of `?watch=true`.
    let (legacy_watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, rest),
    };
    let (namespace, parts) = match rest {
        // `namespaces/x` is the Namespace itself, and so are its two subresources.
        ["namespaces", _, "status" | "finalize", ..] => (None, rest),
        ["namespaces", namespace, parts @ ..] if !parts.is_empty() => (Some(*namespace), parts),
        _ => (None, rest),
    };
    let (resource, name, subresource, tail) = match parts {
        [resource] => (*resource, None, None, &[][..]),
        [resource, name] => (*resource, Some(*name), None, &[][..]),
        [resource, name, subresource, tail @ ..] => {
            (*resource, Some(*name), Some(*subresource), tail)
        }
        [] => return Ok(unknown()),
    };
    if !tail.is_empty() && subresource != Some("proxy") {
        return Ok(unknown());
    }
    let verb = match verb(
        method,
        legacy_watch,
        name.is_some(),
        subresource.is_some(),
        query,
    ) {
        Some(verb) => verb,
        None => {
            let resource = GroupResource::new(group, resource);
            return Err(ApiError::method_not_supported(
                &resource,
                &method.to_ascii_lowercase(),
            ));
        }
    };
    Ok(Target::Resource(ResourceRequest {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
        proxy_path: tail.join("/"),
        verb,
    }))
}

/// The verb of a method on a collection, an object or a subresource; `None` if there is none.
fn verb(
    method: &str,
    legacy_watch: bool,
    named: bool,
    subresource: bool,
    query: &str,
) -> Option<Verb> {
    let reads = matches!(method, "GET" | "HEAD");
    if legacy_watch {
        return reads.then_some(Verb::Watch);
    }
    Some(match method {
        _ if reads && named => {
            // Old clients watch one object by its own path.
            if !subresource && wants_watch(query) {
                Verb::Watch
            } else {
                Verb::Get
            }
        }
        _ if reads => {
            if wants_watch(query) {
                Verb::Watch
            } else {
                Verb::List
            }
        }
        "POST" if !named || subresource => Verb::Create,
        "PUT" if named => Verb::Update,
        "PATCH" if named => Verb::Patch,
        "DELETE" if named => Verb::Delete,
        "DELETE" => Verb::DeleteCollection,
        _ => return None,
    })
}

fn wants_watch(query: &str) -> bool {
    Parameters::parse(query).bool("watch").unwrap_or(false)
}

/// Undoes percent-encoding; in queries a plus is a space. `None` for broken escapes and for what is not UTF-8.
fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let encoded = text.contains('%') || plus_is_space && text.contains('+');
    if !encoded {
        return Some(text.to_owned());
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// The decoded parameters of a query, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Decodes a query. Pairs that cannot be decoded are left out, as Go's HTTP server does.
    #[must_use]
    pub fn parse(query: &str) -> Parameters {
        if query.len() > QUERY_BYTES_MAX {
            return Parameters::default();
        }
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
            .take(QUERY_PARAMETERS_MAX)
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((percent_decode(name, true)?, percent_decode(value, true)?))
            })
            .collect();
        Parameters(pairs)
    }

    /// The first value of a parameter. The first one counts where only one is meant.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A flag: everything but `false` and `0` switches it on, also an empty value.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.first(name)
            .map(|value| !(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    /// A decimal number.
    ///
    /// # Errors
    /// 400 with the text that Go's parser gives.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.first(name) else {
            return Ok(None);
        };
        parse_number::<i64>(text).map(Some).map_err(|why| {
            ApiError::bad_request(format!(
                "strconv.ParseInt: parsing {}: {why}",
                meta::quote::quote(text)
            ))
        })
    }

    fn text(&self, name: &str) -> Option<String> {
        self.first(name)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    }
}

fn parse_number<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    text: &str,
) -> Result<T, &'static str> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        })
}

/// How `resourceVersion` of a list is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResourceVersionMatch {
    Exact,
    NotOlderThan,
}

/// What happens to dependents on deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PropagationPolicy {
    Orphan,
    Background,
    Foreground,
}

impl PropagationPolicy {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PropagationPolicy::Orphan => "Orphan",
            PropagationPolicy::Background => "Background",
            PropagationPolicy::Foreground => "Foreground",
        }
    }
}

/// The options of one request. A verb fills only the options it knows; the others keep their defaults.
#[derive(Debug, Clone)]
pub struct Query {
    /// `None` selects everything.
    pub label_selector: Option<LabelSelector>,
    /// `None` selects everything.
    pub field_selector: Option<FieldSelector>,
    /// Most items of a page; `None` for all.
    pub limit: Option<usize>,
    /// Continue token; empty if there is none.
    pub continue_token: String,
    /// `None` is unset, which means "the most recent".
    pub resource_version: Option<i64>,
    /// `resourceVersionMatch`
    pub resource_version_match: Option<ResourceVersionMatch>,
    /// `watch`
    pub watch: bool,
    /// `allowWatchBookmarks`
    pub allow_watch_bookmarks: bool,
    /// `sendInitialEvents`
    pub send_initial_events: Option<bool>,
    /// How long a watch (or a list) may take.
    pub timeout_seconds: Option<i64>,
    /// `dryRun=All`
    pub dry_run: bool,
    /// `fieldManager`
    pub field_manager: Option<String>,
    /// `fieldValidation`, by default [`FieldValidation::Warn`]
    pub field_validation: FieldValidation,
    /// `force` of server-side apply
    pub force: Option<bool>,
    /// `gracePeriodSeconds`
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`
    pub propagation_policy: Option<PropagationPolicy>,
    /// `orphanDependents`, the older form of a policy
    pub orphan_dependents: Option<bool>,
    /// `ignoreStoreReadErrorWithClusterBreakingPotential`
    pub ignore_store_read_error: Option<bool>,
    /// `pretty`
    pub pretty: Option<bool>,
    /// Every parameter, for options that only one subresource knows.
    pub parameters: Parameters,
}

impl Query {
    /// Reads and checks the options of a verb.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what must not be combined, in upstream's words.
    pub fn parse(verb: Verb, query: &str) -> Result<Query, ApiError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(ApiError::bad_request("the request query is too long"));
        }
        let mut options = Query::empty(Parameters::parse(query));
        match verb {
            Verb::Get => options.resource_version = resource_version(&options.parameters)?,
            Verb::List | Verb::Watch => options.read_list_options(verb)?,
            Verb::DeleteCollection => {
                options.read_list_options(verb)?;
                options.read_delete_options()?;
            }
            Verb::Delete => options.read_delete_options()?,
            Verb::Create => options.read_write_options("CreateOptions")?,
            Verb::Update => options.read_write_options("UpdateOptions")?,
            Verb::Patch => {
                options.force = options.parameters.bool("force");
                options.read_write_options("PatchOptions")?;
            }
        }
        Ok(options)
    }

    fn empty(parameters: Parameters) -> Query {
        Query {
            label_selector: None,
            field_selector: None,
            limit: None,
            continue_token: String::new(),
            resource_version: None,
            resource_version_match: None,
            watch: false,
            allow_watch_bookmarks: false,
            send_initial_events: None,
            timeout_seconds: None,
            dry_run: false,
            field_manager: None,
            field_validation: FieldValidation::Warn,
            force: None,
            grace_period_seconds: None,
            propagation_policy: None,
            orphan_dependents: None,
            ignore_store_read_error: None,
            pretty: parameters.text("pretty").map(|text| go_true(&text)),
            parameters,
        }
    }

    /// Whether a watch begins with the current state as ADDED events: asked for, or the older rule that no
    /// resourceVersion (or "0") means so.
    #[must_use]
    pub fn wants_initial_state(&self) -> bool {
        self.send_initial_events
            .unwrap_or(matches!(self.resource_version, None | Some(0)))
    }

    /// Whether the initial state of a watch ends with the annotated bookmark.
    #[must_use]
    pub fn wants_initial_events_end(&self) -> bool {
        self.allow_watch_bookmarks && self.wants_initial_state()
    }

    /// `includeObject` of a table.
    ///
    /// # Errors
    /// 400 for an unknown word.
    pub fn include_object(&self) -> Result<IncludeObject, ApiError> {
        let word = self.parameters.first("includeObject").unwrap_or_default();
        IncludeObject::parse(word).ok_or_else(|| {
            let detail = "must be 'Metadata', 'Object', 'None', or empty";
            let error = FieldError::invalid(&FieldPath::new("includeObject"), word, detail);
            ApiError::bad_request(format!("Unable to convert to Table as requested: {error}"))
        })
    }

    /// The rules of PATCH that depend on its language.
    ///
    /// # Errors
    /// 422: `force` without apply, apply without a field manager.
    pub fn validate_patch(&self, patch: PatchType) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        if patch == PatchType::Apply {
            if self.field_manager.is_none() {
                errors.push(FieldError::required(
                    &FieldPath::new("fieldManager"),
                    "is required for apply patch",
                ));
            }
        } else if self.force.is_some() {
            errors.push(FieldError::forbidden(
                &FieldPath::new("force"),
                "may not be specified for non-apply patch",
            ));
        }
        invalid_if_any("PatchOptions", errors)
    }

    fn read_list_options(&mut self, verb: Verb) -> Result<(), ApiError> {
        let parameters = &self.parameters;
        self.label_selector = parameters
            .text("labelSelector")
            .map(|text| LabelSelector::parse(&text).map_err(ApiError::bad_request))
            .transpose()?;
        self.field_selector = parameters
            .text("fieldSelector")
            .map(|text| FieldSelector::parse(&text).map_err(ApiError::bad_request))
            .transpose()?;
        self.limit = parameters
            .integer("limit")?
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|&limit| limit > 0);
        self.timeout_seconds = parameters.integer("timeoutSeconds")?;
        self.continue_token = parameters.text("continue").unwrap_or_default();
        self.watch = verb == Verb::Watch;
        self.allow_watch_bookmarks = parameters.bool("allowWatchBookmarks").unwrap_or(false);
        self.send_initial_events = parameters.bool("sendInitialEvents");
        let matching = parameters.text("resourceVersionMatch").unwrap_or_default();
        self.resource_version_match = match matching.as_str() {
            "Exact" => Some(ResourceVersionMatch::Exact),
            "NotOlderThan" => Some(ResourceVersionMatch::NotOlderThan),
            _ => None,
        };
        let version = parameters.first("resourceVersion").unwrap_or_default();
        let errors = if self.watch {
            watch_option_errors(&matching, self.send_initial_events, &self.continue_token)
        } else {
            list_option_errors(
                &matching,
                version,
                self.send_initial_events,
                &self.continue_token,
            )
        };
        invalid_if_any("ListOptions", errors)?;
        self.resource_version = resource_version(parameters)?;
        if !self.watch
            && !self.continue_token.is_empty()
            && !matches!(self.resource_version, None | Some(0))
        {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        Ok(())
    }

    fn read_write_options(&mut self, kind: &str) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        self.field_manager = self.parameters.text("fieldManager");
        if let Some(manager) = &self.field_manager {
            errors.extend(field_manager_errors(manager));
        }
        self.read_dry_run(&mut errors);
        self.field_validation = match self.parameters.first("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let known = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported(
                    &FieldPath::new("fieldValidation"),
                    other,
                    &known,
                ));
                FieldValidation::Warn
            }
        };
        invalid_if_any(kind, errors)
    }

    fn read_delete_options(&mut self) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        self.grace_period_seconds = self.parameters.integer("gracePeriodSeconds")?;
        self.orphan_dependents = self.parameters.bool("orphanDependents");
        self.ignore_store_read_error = self
            .parameters
            .bool("ignoreStoreReadErrorWithClusterBreakingPotential");
        let path = FieldPath::new("propagationPolicy");
        let policy = self.parameters.first("propagationPolicy");
        if let (Some(policy), Some(_)) = (policy, self.orphan_dependents) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy, detail));
        }
        self.propagation_policy = match policy {
            None => None,
            Some("Orphan") => Some(PropagationPolicy::Orphan),
            Some("Background") => Some(PropagationPolicy::Background),
            Some("Foreground") => Some(PropagationPolicy::Foreground),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&path, other, &known));
                None
            }
        };
        self.read_dry_run(&mut errors);
        invalid_if_any("DeleteOptions", errors)
    }

    fn read_dry_run(&mut self, errors: &mut Vec<FieldError>) {
        let values: Vec<&str> = self.parameters.all("dryRun").collect();
        if values.iter().any(|&value| value != "All") {
            let given = value::Value::from(values.clone());
            errors.push(FieldError::not_supported(
                &FieldPath::new("dryRun"),
                given,
                &["All"],
            ));
        }
        self.dry_run = !values.is_empty();
    }
}

/// The words that Go's `ParseBool` takes for true.
fn go_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn invalid_if_any(kind: &str, errors: Vec<FieldError>) -> Result<(), ApiError> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("meta.k8s.io", kind, "", errors))
    }
}

/// `resourceVersion` as a number; unset and empty are the same.
fn resource_version(parameters: &Parameters) -> Result<Option<i64>, ApiError> {
    let text = parameters.first("resourceVersion").unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    parse_number::<u64>(text)
        .and_then(|version| i64::try_from(version).map_err(|_| "value out of range"))
        .map(Some)
        .map_err(|why| {
            let detail = format!(
                "strconv.ParseUint: parsing {}: {why}",
                meta::quote::quote(text)
            );
            let error = FieldError::invalid(&FieldPath::new("resourceVersion"), text, detail);
            ApiError::bad_request(format!("invalid resource version: {error}"))
        })
}

fn list_option_errors(
    matching: &str,
    version: &str,
    initial: Option<bool>,
    token: &str,
) -> Vec<FieldError> {
    let path = FieldPath::new("resourceVersionMatch");
    let mut errors = Vec::new();
    if !matching.is_empty() {
        if version.is_empty() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if !token.is_empty() {
            errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if matching != "Exact" && matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(
                &path,
                matching,
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if matching == "Exact" && version == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    if initial.is_some() {
        let detail = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden(
            &FieldPath::new("sendInitialEvents"),
            detail,
        ));
    }
    errors
}

fn watch_option_errors(matching: &str, initial: Option<bool>, token: &str) -> Vec<FieldError> {
    let path = FieldPath::new("resourceVersionMatch");
    let mut errors = Vec::new();
    if initial.is_some() && matching != "NotOlderThan" {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&path, detail));
    }
    if !matching.is_empty() {
        if initial.is_none() {
            let detail =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(
                &path,
                matching,
                &["NotOlderThan"],
            ));
        }
        if !token.is_empty() {
            errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    }
    errors
}

fn field_manager_errors(manager: &str) -> Vec<FieldError> {
    let path = FieldPath::new("fieldManager");
    let mut errors = Vec::new();
    if manager.len() > FIELD_MANAGER_BYTES_MAX {
        errors.push(FieldError::too_long(&path, FIELD_MANAGER_BYTES_MAX));
    }
    if let Some((position, character)) = manager
        .char_indices()
        .find(|(_, character)| character.is_control())
    {
        let detail = format!(
            "invalid character U+{:04X} (at position {position})",
            u32::from(character)
        );
        errors.push(FieldError::invalid(&path, manager, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, path: &str) -> Target {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        RequestInfo::parse(method, path, query).unwrap()
    }

    /// "verb group/version namespace resource name subresource" with dashes for what is absent.
    fn summary(method: &str, path: &str) -> String {
        match target(method, path) {
            Target::Resource(request) => format!(
                "{} {}/{} {} {} {} {}",
                request.verb.as_str(),
                request.group,
                request.version,
                request.namespace.as_deref().unwrap_or("-"),
                request.resource,
                request.name.as_deref().unwrap_or("-"),
                request.subresource.as_deref().unwrap_or("-"),
            ),
            other => format!("{other:?}"),
        }
    }

    fn query_error(verb: Verb, query: &str) -> (u16, String) {
        let error = Query::parse(verb, query).unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn resource_paths() {
        for (method, path, expected) in [
            ("GET", "/api/v1/pods", "list /v1 - pods - -"),
            ("GET", "/api/v1/pods/", "list /v1 - pods - -"),
            ("GET", "/api/v1/pods?watch=1", "watch /v1 - pods - -"),
            ("GET", "/api/v1/pods?watch=false", "list /v1 - pods - -"),
            ("GET", "/api/v1/pods?watch", "watch /v1 - pods - -"),
            ("GET", "/api/v1/watch/pods", "watch /v1 - pods - -"),
            (
                "GET",
                "/api/v1/watch/namespaces/d/pods/p",
                "watch /v1 d pods p -",
            ),
            (
                "GET",
                "/api/v1/watch/namespaces",
                "watch /v1 - namespaces - -",
            ),
            ("GET", "/api/v1/namespaces/d/pods/p", "get /v1 d pods p -"),
            ("HEAD", "/api/v1/namespaces/d/pods/p", "get /v1 d pods p -"),
            (
                "GET",
                "/api/v1/namespaces/d/pods/p?watch=true",
                "watch /v1 d pods p -",
            ),
            (
                "GET",
                "/api/v1/namespaces/d/pods/p/log?watch=true",
                "get /v1 d pods p log",
            ),
            ("POST", "/api/v1/namespaces/d/pods", "create /v1 d pods - -"),
            (
                "POST",
                "/api/v1/namespaces/d/pods/p/binding",
                "create /v1 d pods p binding",
            ),
            (
                "PUT",
                "/apis/apps/v1/namespaces/d/deployments/x/scale",
                "update apps/v1 d deployments x scale",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/d/deployments/x",
                "patch apps/v1 d deployments x -",
            ),
            ("DELETE", "/api/v1/nodes/n", "delete /v1 - nodes n -"),
            (
                "DELETE",
                "/api/v1/namespaces/d/pods",
                "deletecollection /v1 d pods - -",
            ),
            ("GET", "/api/v1/namespaces", "list /v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces/d", "get /v1 - namespaces d -"),
            (
                "PUT",
                "/api/v1/namespaces/d/finalize",
                "update /v1 - namespaces d finalize",
            ),
            (
                "PATCH",
                "/api/v1/namespaces/d/status",
                "patch /v1 - namespaces d status",
            ),
            (
                "GET",
                "/apis/a.b/v1/clusterroles/system%3Anode",
                "get a.b/v1 - clusterroles system:node -",
            ),
        ] {
            assert_eq!(summary(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn namespaces_authorize_as_lying_in_themselves() {
        let Target::Resource(request) = target("GET", "/api/v1/namespaces/d") else {
            panic!("a resource")
        };
        assert_eq!(request.namespace, None);
        assert_eq!(request.authorization_namespace(), Some("d"));
        let Target::Resource(request) = target("GET", "/api/v1/namespaces/d/pods") else {
            panic!("a resource")
        };
        assert_eq!(request.authorization_namespace(), Some("d"));
    }

    #[test]
    fn proxies_keep_the_rest_of_the_path() {
        let Target::Resource(request) = target("GET", "/api/v1/nodes/n/proxy/stats/summary") else {
            panic!("a resource")
        };
        assert_eq!(
            (request.subresource.as_deref(), request.proxy_path.as_str()),
            (Some("proxy"), "stats/summary")
        );
        assert!(matches!(
            target("GET", "/api/v1/nodes/n/status/extra"),
            Target::NonResource(_)
        ));
    }

    #[test]
    fn other_paths() {
        assert_eq!(
            target("GET", "/api"),
            Target::Discovery(DiscoveryTarget::Api)
        );
        assert_eq!(
            target("GET", "/apis/"),
            Target::Discovery(DiscoveryTarget::Apis)
        );
        assert_eq!(
            target("GET", "/apis/apps"),
            Target::Discovery(DiscoveryTarget::Group("apps".into()))
        );
        let core = DiscoveryTarget::GroupVersion {
            group: String::new(),
            version: "v1".into(),
        };
        assert_eq!(target("GET", "/api/v1"), Target::Discovery(core));
        let apps = DiscoveryTarget::GroupVersion {
            group: "apps".into(),
            version: "v1".into(),
        };
        assert_eq!(target("GET", "/apis/apps/v1"), Target::Discovery(apps));
        assert_eq!(target("GET", "/openapi/v2"), Target::OpenApiV2);
        assert_eq!(target("GET", "/openapi/v3"), Target::OpenApiV3Index);
        assert_eq!(
            target("GET", "/openapi/v3/apis/apps/v1?hash=A"),
            Target::OpenApiV3("apis/apps/v1".into())
        );
        assert_eq!(target("GET", "/version"), Target::Version);
        assert_eq!(target("GET", "/version/"), Target::Version);
        assert_eq!(target("GET", "/metrics"), Target::Metrics);
        let ready = Target::Health {
            endpoint: HealthEndpoint::Readyz,
            check: Some("poststarthook/x".into()),
        };
        assert_eq!(target("GET", "/readyz/poststarthook/x"), ready);
        assert_eq!(
            target("GET", "/livez?verbose"),
            Target::Health {
                endpoint: HealthEndpoint::Livez,
                check: None
            }
        );
        assert_eq!(target("GET", "/"), Target::NonResource("/".into()));
        assert_eq!(
            target("GET", "/favicon.ico"),
            Target::NonResource("/favicon.ico".into())
        );
        assert!(matches!(
            target("GET", "/api/v1//pods"),
            Target::NonResource(_)
        ));
        assert!(matches!(
            target("GET", "/api/v1/pods/a%2Fb"),
            Target::NonResource(_)
        ));
    }

    #[test]
    fn wrong_methods_and_broken_paths() {
        for (method, path) in [
            ("POST", "/api/v1/namespaces/d/pods/p"),
            ("PUT", "/api/v1/namespaces/d/pods"),
            ("PATCH", "/api/v1/pods"),
            ("OPTIONS", "/api/v1/pods"),
            ("POST", "/api/v1/watch/pods"),
        ] {
            assert_eq!(
                RequestInfo::parse(method, path, "").unwrap_err().code,
                405,
                "{method} {path}"
            );
        }
        for path in ["/api/v1/pods/%", "/api/v1/pods/%zz", "/api/v1/pods/%ff"] {
            assert_eq!(
                RequestInfo::parse("GET", path, "").unwrap_err().code,
                400,
                "{path}"
            );
        }
        let long = format!("/api/v1/pods/{}", "x".repeat(PATH_BYTES_MAX));
        assert_eq!(RequestInfo::parse("GET", &long, "").unwrap_err().code, 400);
    }

    #[test]
    fn list_options() {
        let query = "labelSelector=app%3Dweb%2Ctier+in+%28a%29&fieldSelector=spec.nodeName%3Dn&limit=500\
                     &resourceVersion=12&resourceVersionMatch=Exact&pretty=true&unknown=x";
        let options = Query::parse(Verb::List, query).unwrap();
        assert_eq!(
            options.label_selector.unwrap().to_string(),
            "app=web,tier in (a)"
        );
        assert_eq!(options.field_selector.unwrap().requirements().len(), 1);
        assert_eq!(options.limit, Some(500));
        assert_eq!(options.resource_version, Some(12));
        assert_eq!(
            options.resource_version_match,
            Some(ResourceVersionMatch::Exact)
        );
        assert_eq!(options.pretty, Some(true));
        let none = Query::parse(
            Verb::List,
            "limit=0&labelSelector=&continue=&resourceVersion=",
        )
        .unwrap();
        assert!(
            none.label_selector.is_none()
                && none.limit.is_none()
                && none.resource_version.is_none()
        );
    }

    #[test]
    fn unreadable_options_are_bad_requests() {
        assert_eq!(
            query_error(Verb::List, "limit=abc"),
            (
                400,
                "strconv.ParseInt: parsing \"abc\": invalid syntax".into()
            )
        );
        assert_eq!(
            query_error(Verb::Watch, "watch=1&timeoutSeconds=99999999999999999999"),
            (
                400,
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range".into()
            )
        );
        assert_eq!(
            query_error(Verb::Get, "resourceVersion=-1"),
            (
                400,
                "invalid resource version: resourceVersion: Invalid value: \"-1\": strconv.ParseUint: parsing \"-1\": \
                 invalid syntax"
                    .into()
            )
        );
        assert_eq!(query_error(Verb::List, "labelSelector=a%3D%3D%3Db").0, 400);
        assert_eq!(query_error(Verb::List, "fieldSelector=abc").0, 400);
        assert_eq!(
            query_error(Verb::List, "continue=x&resourceVersion=5"),
            (
                400,
                "specifying resource version is not allowed when using continue".into()
            )
        );
        assert!(Query::parse(Verb::List, "continue=x&resourceVersion=0").is_ok());
    }

    #[test]
    fn list_options_that_exclude_each_other() {
        let text = |query| query_error(Verb::List, query);
        assert_eq!(
            text("resourceVersionMatch=Exact"),
            (
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
                 forbidden unless resourceVersion is provided"
                    .into()
            )
        );
        assert!(text("resourceVersionMatch=Exact&resourceVersion=0").1.ends_with(
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""
        ));
        assert!(
            text("resourceVersionMatch=Same&resourceVersion=1")
                .1
                .ends_with("Unsupported value: \"Same\": supported values: \"Exact\", \"NotOlderThan\", \"\"")
        );
        assert!(
            text("sendInitialEvents=true")
                .1
                .ends_with("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list")
        );
    }

    #[test]
    fn watch_options() {
        let bookmark = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7";
        let options = Query::parse(Verb::Watch, bookmark).unwrap();
        assert!(
            options.watch && options.wants_initial_state() && options.wants_initial_events_end()
        );
        let resumed =
            Query::parse(Verb::Watch, "watch=1&resourceVersion=7&timeoutSeconds=301").unwrap();
        assert!(!resumed.wants_initial_state());
        assert_eq!(resumed.timeout_seconds, Some(301));
        assert!(
            Query::parse(Verb::Watch, "watch=1")
                .unwrap()
                .wants_initial_state()
        );
        assert!(
            Query::parse(Verb::Watch, "watch=1&resourceVersion=0")
                .unwrap()
                .wants_initial_state()
        );
        let fresh = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
        assert!(
            !Query::parse(Verb::Watch, fresh)
                .unwrap()
                .wants_initial_state()
        );
        let (code, text) = query_error(Verb::Watch, "watch=1&sendInitialEvents=true");
        assert_eq!(code, 422);
        assert!(text.ends_with(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        ));
        let (_, text) = query_error(Verb::Watch, "watch=1&resourceVersionMatch=NotOlderThan");
        assert!(text.ends_with(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        ));
    }

    #[test]
    fn write_options() {
        let query = "dryRun=All&fieldManager=kubectl&fieldValidation=Strict&force=true";
        let options = Query::parse(Verb::Patch, query).unwrap();
        assert!(options.dry_run);
        assert_eq!(options.field_manager.as_deref(), Some("kubectl"));
        assert_eq!(options.field_validation, FieldValidation::Strict);
        assert!(options.validate_patch(PatchType::Apply).is_ok());
        let error = options.validate_patch(PatchType::Merge).unwrap_err();
        assert!(
            error
                .message
                .ends_with("force: Forbidden: may not be specified for non-apply patch")
        );
        let nameless = Query::parse(Verb::Patch, "").unwrap();
        assert!(
            nameless
                .validate_patch(PatchType::Apply)
                .unwrap_err()
                .message
                .ends_with("fieldManager: Required value: is required for apply patch")
        );
        assert_eq!(query_error(Verb::Create, "dryRun=some").0, 422);
        assert_eq!(query_error(Verb::Create, "fieldValidation=loose").0, 422);
        assert_eq!(
            query_error(Verb::Update, &format!("fieldManager={}", "m".repeat(129))).0,
            422
        );
        assert_eq!(query_error(Verb::Update, "fieldManager=a%0Ab").0, 422);
    }

    #[test]
    fn delete_options() {
        let options = Query::parse(
            Verb::Delete,
            "gracePeriodSeconds=0&propagationPolicy=Foreground",
        )
        .unwrap();
        assert_eq!(options.grace_period_seconds, Some(0));
        assert_eq!(
            options.propagation_policy,
            Some(PropagationPolicy::Foreground)
        );
        assert_eq!(query_error(Verb::Delete, "propagationPolicy=Maybe").0, 422);
        assert_eq!(
            query_error(
                Verb::Delete,
                "propagationPolicy=Orphan&orphanDependents=true"
            )
            .0,
            422
        );
        let many = Query::parse(
            Verb::DeleteCollection,
            "labelSelector=a&propagationPolicy=Background",
        )
        .unwrap();
        assert!(many.label_selector.is_some() && many.propagation_policy.is_some());
    }

    #[test]
    fn table_options() {
        let include = |query| Query::parse(Verb::List, query).unwrap().include_object();
        assert_eq!(include("").unwrap(), IncludeObject::Metadata);
        assert_eq!(
            include("includeObject=Object").unwrap(),
            IncludeObject::Object
        );
        assert_eq!(include("includeObject=None").unwrap(), IncludeObject::None);
        assert_eq!(include("includeObject=x").unwrap_err().code, 400);
    }

    #[test]
    fn broken_pairs_are_left_out() {
        let parameters = Parameters::parse("a=%zz&b=1+2&;c=1&d&&e=%C3%A4");
        assert_eq!(parameters.first("a"), None);
        assert_eq!(parameters.first("b"), Some("1 2"));
        assert_eq!(parameters.first("d"), Some(""));
        assert_eq!(parameters.first("e"), Some("ä"));
    }
}
