//! `KubeSchedulerConfiguration` of `kubescheduler.config.k8s.io/v1`: read strictly, defaulted and validated with
//! upstream's rules and texts.
//!
//! What upstream has and this scheduler cannot do is refused, never passed over. Does not know files.

mod args;
mod extenders;
mod plugins;
mod reader;

use std::time::Duration;

use meta::Value;
use meta::{FieldError, FieldPath};

use self::reader::Section;
use crate::{ProfileConfig, SchedulerConfig};

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// How one of several schedulers is made the one that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderElection {
    /// Whether there is an election at all.
    pub elect: bool,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// How long others wait for a leader that is silent.
    pub lease_duration: Duration,
    /// How long a leader that cannot renew goes on.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry_period: Duration,
}

impl Default for LeaderElection {
    fn default() -> LeaderElection {
        LeaderElection {
            elect: true,
            namespace: "kube-system".into(),
            name: "kube-scheduler".into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// A configuration file, read.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What concerns scheduling.
    pub scheduler: SchedulerConfig,
    /// What concerns several schedulers beside one another.
    pub leader_election: LeaderElection,
    /// `clientConnection.kubeconfig`, empty when not given.
    pub kubeconfig: String,
}

/// What is wrong with a configuration.
#[derive(Debug)]
pub struct SettingsError(String);

impl std::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads a configuration in YAML or JSON.
    pub fn parse(text: &str) -> Result<Settings, SettingsError> {
        let value = schema::parse_yaml(text.as_bytes())
            .map_err(|error| SettingsError(format!("the configuration is not YAML: {error}")))?;
        check_kind(&value).map_err(SettingsError)?;
        let mut complaints = Vec::new();
        let mut errors = Vec::new();
        let mut section = Section::new(&value, FieldPath::root(), &mut complaints);
        let settings = read(&mut section, &mut errors);
        section.finish();
        if !complaints.is_empty() {
            let all = complaints.join(", ");
            return Err(SettingsError(format!("strict decoding error: {all}")));
        }
        if !errors.is_empty() {
            return Err(SettingsError(meta::field::aggregate(&errors)));
        }
        Ok(settings)
    }

    /// Reads the files that extenders name, and checks that each can be asked.
    ///
    /// # Errors
    /// What cannot be read or used, with its place.
    pub fn load(&mut self) -> Result<(), SettingsError> {
        for (at, extender) in self.scheduler.extenders.iter_mut().enumerate() {
            let path = FieldPath::new("extenders").index(at);
            let loaded = extender.load();
            loaded.map_err(|error| SettingsError(format!("{path}: {error}")))?;
        }
        Ok(())
    }
}

fn check_kind(value: &Value) -> Result<(), String> {
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    if !value.is_object() {
        return Err("the configuration is no object".into());
    }
    let (version, kind) = (text("apiVersion"), text("kind"));
    if kind.is_empty() {
        return Err("Object 'Kind' is missing".into());
    }
    if (version, kind) != (API_VERSION, KIND) {
        return Err(format!(
            "no kind \"{kind}\" is registered for version \"{version}\": {KIND} of {API_VERSION} is read"
        ));
    }
    Ok(())
}

fn read(section: &mut Section<'_>, errors: &mut Vec<FieldError>) -> Settings {
    let path = FieldPath::new;
    section.text("apiVersion", "");
    section.text("kind", "");
    let parallelism = section.integer("parallelism", 16);
    if parallelism <= 0 {
        let detail = "should be an integer value greater than zero";
        errors.push(FieldError::invalid(
            &path("parallelism"),
            parallelism,
            detail,
        ));
    }
    let leader_election = section
        .section("leaderElection", |section| {
            read_leader_election(section, errors)
        })
        .unwrap_or_default();
    let kubeconfig = section
        .section("clientConnection", |section| {
            read_connection(section, errors)
        })
        .unwrap_or_default();
    // Scores and picks are the same with and without; there is nothing to profile over HTTP.
    section.flag("enableProfiling", true);
    section.flag("enableContentionProfiling", true);
    section.flag("delayCacheUntilActive", false);
    check_percentage(
        section,
        "percentageOfNodesToScore",
        &path("percentageOfNodesToScore"),
        errors,
    );
    let initial = section.integer("podInitialBackoffSeconds", 1);
    if initial <= 0 {
        let at = path("podInitialBackoffSeconds");
        errors.push(FieldError::invalid(&at, initial, "must be greater than 0"));
    }
    let max = section.integer("podMaxBackoffSeconds", 10);
    if max < initial {
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        errors.push(FieldError::invalid(
            &path("podMaxBackoffSeconds"),
            max,
            detail,
        ));
    }
    let mut profiles = read_profiles(section, errors);
    let extenders = extenders::read(section, &mut profiles, errors);
    let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    Settings {
        scheduler: SchedulerConfig {
            profiles,
            initial_backoff: seconds(initial),
            max_backoff: seconds(max),
            extenders,
            ..SchedulerConfig::default()
        },
        leader_election,
        kubeconfig,
    }
}

/// All nodes are looked at, which no percentage can improve on; what is given must be one all the same.
fn check_percentage(
    section: &mut Section<'_>,
    name: &'static str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let percentage = section.integer(name, 0);
    if !(0..=100).contains(&percentage) {
        errors.push(FieldError::invalid(
            path,
            percentage,
            "not in valid range [0-100]",
        ));
    }
}

fn read_leader_election(section: &mut Section<'_>, errors: &mut Vec<FieldError>) -> LeaderElection {
    let default = LeaderElection::default();
    let path = FieldPath::new("leaderElection");
    let read = LeaderElection {
        elect: section.flag("leaderElect", default.elect),
        lease_duration: section.duration("leaseDuration", default.lease_duration),
        renew_deadline: section.duration("renewDeadline", default.renew_deadline),
        retry_period: section.duration("retryPeriod", default.retry_period),
        name: section.text("resourceName", &default.name),
        namespace: section.text("resourceNamespace", &default.namespace),
    };
    let lock = section.text("resourceLock", "leases");
    if !read.elect {
        return read;
    }
    let mut invalid = |name: &str, value: String, detail: &str| {
        errors.push(FieldError::invalid(&path.child(name), value, detail));
    };
    let text = |duration: Duration| format!("{}s", duration.as_secs_f64());
    for (name, duration) in [
        ("leaseDuration", read.lease_duration),
        ("renewDeadline", read.renew_deadline),
        ("retryPeriod", read.retry_period),
    ] {
        if duration.is_zero() {
            invalid(name, text(duration), "must be greater than zero");
        }
    }
    if read.lease_duration <= read.renew_deadline {
        let detail = "LeaseDuration must be greater than RenewDeadline";
        invalid("leaseDuration", text(read.renew_deadline), detail);
    }
    if read.renew_deadline <= read.retry_period.mul_f64(1.2) {
        let detail = "renewDeadline must be greater than retryPeriod*JitterFactor (1.2)";
        invalid("renewDeadline", text(read.renew_deadline), detail);
    }
    if lock != "leases" {
        invalid(
            "resourceLock",
            lock,
            "resourceLock value must be \"leases\"",
        );
    }
    read
}

fn read_connection(section: &mut Section<'_>, errors: &mut Vec<FieldError>) -> String {
    let kubeconfig = section.text("kubeconfig", "");
    section.text("acceptContentTypes", "");
    section.text("contentType", "");
    // There is no limit on our side; the server's own priority and fairness is what holds a client back.
    section.number("qps", 50.0);
    let burst = section.integer("burst", 100);
    if burst < 0 {
        let path = FieldPath::new("clientConnection").child("burst");
        errors.push(FieldError::invalid(&path, burst, "must be non-negative"));
    }
    kubeconfig
}

fn read_profiles(section: &mut Section<'_>, errors: &mut Vec<FieldError>) -> Vec<ProfileConfig> {
    let path = FieldPath::new("profiles");
    let mut queue_sorts = Vec::new();
    let read = section.sections("profiles", |section, path| {
        let (profile, queue_sort) = read_profile(section, path, errors);
        queue_sorts.push(queue_sort);
        profile
    });
    let profiles = match read {
        // What is left out, or empty, is the default (k8s: one profile).
        None => vec![ProfileConfig::default()],
        Some(profiles) if profiles.is_empty() => vec![ProfileConfig::default()],
        Some(profiles) => profiles,
    };
    for (at, profile) in profiles.iter().enumerate() {
        let name = |profile: &ProfileConfig| profile.scheduler_name.clone();
        let earlier = profiles[..at].iter().position(|p| name(p) == name(profile));
        if let Some(earlier) = earlier {
            let of = path.index(earlier).child("schedulerName").to_string();
            let path = path.index(at).child("schedulerName");
            errors.push(FieldError::duplicate(&path, of));
        }
    }
    for (at, queue_sort) in queue_sorts.iter().enumerate().skip(1) {
        if queue_sorts.first() != Some(queue_sort) {
            let path = path.index(at).child("plugins").child("queueSort");
            let detail = "must be the same for all profiles";
            errors.push(FieldError::invalid(&path, queue_sort.join(","), detail));
        }
    }
    profiles
}

/// A profile, and the plugins it names for sorting the queue.
fn read_profile(
    section: &mut Section<'_>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> (ProfileConfig, Vec<String>) {
    let mut profile = ProfileConfig::default();
    // An unnamed profile is the default scheduler's, if it is the only one (k8s: SetDefaults); named or not,
    // two of a name are refused.
    profile.scheduler_name = section.text("schedulerName", &profile.scheduler_name);
    if profile.scheduler_name.is_empty() {
        errors.push(FieldError::required(&path.child("schedulerName"), ""));
    }
    check_percentage(
        section,
        "percentageOfNodesToScore",
        &path.child("percentageOfNodesToScore"),
        errors,
    );
    let plugins = section.section("plugins", |section| plugins::read(section, errors));
    let plugins = plugins.unwrap_or_default();
    let queue_sort = plugins.queue_sort();
    plugins.apply(&path.child("plugins"), &mut profile, errors);
    let mut seen: Vec<String> = Vec::new();
    section.sections("pluginConfig", |section, path| {
        let name = section.text("name", "");
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(path, name.as_str()));
        }
        args::read(&name, section, path, &mut profile, errors);
        seen.push(name);
    });
    (profile, queue_sort)
}

#[cfg(test)]
mod tests;
