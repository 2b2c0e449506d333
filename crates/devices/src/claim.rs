//! Claims and classes: what is asked for, as far as allocation looks at it.
//!
//! Does not know slices, or what has been given to whom.

use meta::{Quantity, Value};

use crate::{items, quantities, text, texts};

/// Devices allocated for one claim at most (k8s: `AllocationResultsMaxSize`).
pub const RESULTS_MAX: usize = 32;
/// Alternatives of one request at most (k8s: `FirstAvailableDeviceRequestMaxSize`).
pub const ALTERNATIVES_MAX: usize = 8;
/// Users of one claim at most (k8s: `ResourceClaimReservedForMaxSize`).
pub const RESERVED_FOR_MAX: usize = 256;

/// A claim.
#[derive(Debug, Clone)]
pub struct Claim {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) requests: Vec<Request>,
    pub(crate) constraints: Vec<Constraint>,
    pub(crate) config: Vec<Config>,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) name: Box<str>,
    /// One for `exactly`; in their order for `firstAvailable`.
    pub(crate) alternatives: Vec<Wanted>,
    /// `firstAvailable` was given.
    pub(crate) is_list: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Exact(usize),
    All,
    Unknown,
}

#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Name of the request, or of the alternative.
    pub(crate) name: Box<str>,
    pub(crate) class: Box<str>,
    /// Expressions; `None` for a kind of selector that is not served.
    pub(crate) selectors: Vec<Option<Box<str>>>,
    pub(crate) mode: Mode,
    pub(crate) admin: bool,
    pub(crate) tolerations: Vec<Toleration>,
    /// As they were written.
    pub(crate) raw_tolerations: Value,
    /// Amounts asked for, sorted by name.
    pub(crate) capacity: Vec<(Box<str>, Quantity)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Toleration {
    key: Box<str>,
    exists: bool,
    equal: bool,
    value: Box<str>,
    effect: Box<str>,
}

#[derive(Debug, Clone)]
pub(crate) struct Taint {
    key: Box<str>,
    value: Box<str>,
    effect: Box<str>,
}

#[derive(Debug, Clone)]
pub(crate) enum Rule {
    Match(Box<str>),
    Distinct(Box<str>),
    Unknown,
}

#[derive(Debug, Clone)]
pub(crate) struct Constraint {
    /// Requests it is about; all when empty.
    pub(crate) requests: Vec<Box<str>>,
    pub(crate) rule: Rule,
}

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) requests: Vec<Box<str>>,
    /// What is passed on to drivers.
    pub(crate) opaque: Value,
}

/// A device class.
#[derive(Debug, Clone)]
pub struct Class {
    pub(crate) selectors: Vec<Option<Box<str>>>,
    pub(crate) config: Vec<Config>,
    /// The extended resource it stands for, besides that of its name.
    pub(crate) resource: Option<Box<str>>,
    /// `metadata.creationTimestamp`, in microseconds.
    pub(crate) made_micros: i64,
}

impl Class {
    /// Reads a DeviceClass.
    pub fn read(object: &Value) -> Class {
        let spec = &object["spec"];
        Class {
            selectors: selectors(&spec["selectors"]),
            config: items(&spec["config"]).map(config).collect(),
            resource: spec["extendedResourceName"].as_str().map(Into::into),
            made_micros: meta::time::parse(text(&object["metadata"]["creationTimestamp"]))
                .unwrap_or(0),
        }
    }
}

impl Claim {
    /// Reads a ResourceClaim.
    pub fn read(object: &Value) -> Claim {
        let (metadata, devices) = (&object["metadata"], &object["spec"]["devices"]);
        Claim {
            namespace: text(&metadata["namespace"]).into(),
            name: text(&metadata["name"]).into(),
            requests: items(&devices["requests"]).map(request).collect(),
            constraints: items(&devices["constraints"]).map(constraint).collect(),
            config: items(&devices["config"]).map(config).collect(),
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Every class it asks for, with the name of the request (`request/alternative` in a list).
    pub fn classes(&self) -> impl Iterator<Item = (String, &str)> {
        self.requests.iter().flat_map(|request| {
            request.alternatives.iter().map(|wanted| {
                let name = request.name_of(wanted);
                (name, &*wanted.class)
            })
        })
    }

    /// Requests of a kind that is not served.
    pub fn unknown_request(&self) -> Option<&str> {
        let mut unknown = self.requests.iter().filter(|r| r.alternatives.is_empty());
        unknown.next().map(|request| &*request.name)
    }

    /// Does it ask for no device at all?
    pub fn asks_for_nothing(&self) -> bool {
        self.requests.is_empty()
    }

    /// Does it only look after devices that others may have?
    pub fn only_looks_after(&self) -> bool {
        let all = self.requests.iter().flat_map(|r| &r.alternatives);
        all.clone().all(|wanted| wanted.admin)
    }

    /// Is some request a list of alternatives?
    pub fn has_alternatives(&self) -> bool {
        self.requests.iter().any(|request| request.is_list)
    }
}

impl Request {
    /// How the request is called in results.
    pub(crate) fn name_of(&self, wanted: &Wanted) -> String {
        if self.is_list {
            format!("{}/{}", self.name, wanted.name)
        } else {
            self.name.to_string()
        }
    }
}

fn request(value: &Value) -> Request {
    let name = text(&value["name"]);
    let (exactly, list) = (&value["exactly"], &value["firstAvailable"]);
    let is_list = items(list).next().is_some();
    let alternatives = if is_list {
        items(list).map(|w| wanted(text(&w["name"]), w)).collect()
    } else if exactly.is_object() {
        vec![wanted(name, exactly)]
    } else {
        Vec::new()
    };
    Request {
        name: name.into(),
        alternatives,
        is_list,
    }
}

fn wanted(name: &str, value: &Value) -> Wanted {
    let count = value["count"].as_i64();
    Wanted {
        name: name.into(),
        class: text(&value["deviceClassName"]).into(),
        selectors: selectors(&value["selectors"]),
        mode: match text(&value["allocationMode"]) {
            "" | "ExactCount" => match count {
                Some(count) => Mode::Exact(usize::try_from(count).unwrap_or(usize::MAX)),
                // The default that is set where the API is written.
                None => Mode::Exact(1),
            },
            "All" => Mode::All,
            _ => Mode::Unknown,
        },
        admin: value["adminAccess"] == true,
        tolerations: items(&value["tolerations"]).map(toleration).collect(),
        raw_tolerations: value["tolerations"].clone(),
        capacity: quantities(&value["capacity"]["requests"]),
    }
}

fn selectors(value: &Value) -> Vec<Option<Box<str>>> {
    let expression = |selector: &Value| {
        let expression = selector["cel"]["expression"].as_str();
        expression.map(Into::into)
    };
    items(value).map(expression).collect()
}

fn toleration(value: &Value) -> Toleration {
    let operator = text(&value["operator"]);
    Toleration {
        key: text(&value["key"]).into(),
        exists: operator == "Exists",
        equal: matches!(operator, "" | "Equal"),
        value: text(&value["value"]).into(),
        effect: text(&value["effect"]).into(),
    }
}

pub(crate) fn taint(value: &Value) -> Taint {
    Taint {
        key: text(&value["key"]).into(),
        value: text(&value["value"]).into(),
        effect: text(&value["effect"]).into(),
    }
}

impl Taint {
    /// Does it keep a request without such a toleration away? Effects that are not known keep nobody away.
    pub(crate) fn keeps_away(&self, tolerations: &[Toleration]) -> bool {
        let hard = matches!(&*self.effect, "NoSchedule" | "NoExecute");
        hard && !tolerations.iter().any(|t| {
            (t.effect.is_empty() || t.effect == self.effect)
                && (t.key.is_empty() || t.key == self.key)
                && (t.exists || t.equal && t.value == self.value)
        })
    }
}

fn constraint(value: &Value) -> Constraint {
    let named = |field: &str| value[field].as_str().map(Into::into);
    Constraint {
        requests: texts(&value["requests"]),
        rule: match (named("matchAttribute"), named("distinctAttribute")) {
            (Some(attribute), _) => Rule::Match(attribute),
            (None, Some(attribute)) => Rule::Distinct(attribute),
            (None, None) => Rule::Unknown,
        },
    }
}

fn config(value: &Value) -> Config {
    Config {
        requests: texts(&value["requests"]),
        opaque: value["opaque"].clone(),
    }
}
