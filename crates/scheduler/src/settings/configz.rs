//! The configuration as `/configz` tells it: what was given, with defaults where nothing was.
//!
//! Plugins and their arguments are told as they were written: their defaults are facts of rules, not of a text. Keys
//! of extenders are not told. Does not know HTTP.

use std::time::Duration;

use meta::Value;
use value::json;

use super::{API_VERSION, KIND, Settings};

/// Under which name it is told (k8s).
const NAME: &str = "kubescheduler.config.k8s.io";
/// What stands in the place of a private key.
const HIDDEN: &str = "--- REDACTED ---";

impl Settings {
    /// What `/configz` answers.
    pub fn configz(&self) -> Value {
        let election = &self.leader_election;
        let mut told = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "clientConnection": {"kubeconfig": "", "acceptContentTypes": "", "contentType": "", "qps": 50, "burst": 100},
            "enableProfiling": true, "enableContentionProfiling": true, "delayCacheUntilActive": false,
            "parallelism": 16, "percentageOfNodesToScore": 0,
            "podInitialBackoffSeconds": 1, "podMaxBackoffSeconds": 10,
            "leaderElection": {"resourceLock": "leases"},
            "profiles": [{"schedulerName": "default-scheduler"}],
        });
        if self.document.is_object() {
            let mut given = self.document.clone();
            let is_empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
            // Nothing, or an empty list, means the default.
            if let Some(fields) = given.as_object_mut()
                && fields.get("profiles").is_some_and(is_empty)
            {
                fields.remove("profiles");
            }
            schema::merge_patch(&mut told, &given);
        }
        // A flag may have decided it, too.
        let read = json!({
            "leaderElect": election.elect, "resourceName": election.name, "resourceNamespace": election.namespace,
            "leaseDuration": seconds(election.lease_duration), "renewDeadline": seconds(election.renew_deadline),
            "retryPeriod": seconds(election.retry_period),
        });
        schema::merge_patch(&mut told["leaderElection"], &read);
        let extenders = told.get_mut("extenders").and_then(Value::as_array_mut);
        for extender in extenders.into_iter().flatten() {
            if let Some(key) = extender.pointer_mut("/tlsConfig/keyData") {
                *key = HIDDEN.into();
            }
        }
        json!({ NAME: told })
    }
}

/// A duration as Go writes it, for those that a configuration holds.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_there_are_the_defaults() {
        let told = Settings::default().configz();
        let told = &told[NAME];
        assert_eq!(told["parallelism"], 16);
        assert_eq!(
            told["profiles"],
            json!([{"schedulerName": "default-scheduler"}])
        );
        let election = json!({"resourceLock": "leases", "leaderElect": true, "resourceName": "kube-scheduler",
            "resourceNamespace": "kube-system", "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "2s"});
        assert_eq!(told["leaderElection"], election);
        assert_eq!(told.get("extenders"), None);
    }

    #[test]
    fn what_was_given_is_told_and_keys_are_not() {
        let text = json!({"apiVersion": API_VERSION, "kind": KIND, "podMaxBackoffSeconds": 20, "profiles": [],
            "leaderElection": {"leaderElect": true, "resourceName": "second"},
            "extenders": [{"urlPrefix": "https://127.0.0.1:1", "filterVerb": "filter", "enableHTTPS": true,
                "tlsConfig": {"keyData": "c2VjcmV0", "certData": "Y2VydA=="}}]});
        let mut settings = Settings::parse(&text.to_string()).unwrap();
        settings.leader_election.elect = false;
        let told = settings.configz();
        let told = &told[NAME];
        assert_eq!(told["podMaxBackoffSeconds"], 20);
        assert_eq!(told["podInitialBackoffSeconds"], 1);
        assert_eq!(told["profiles"][0]["schedulerName"], "default-scheduler");
        assert_eq!(told["leaderElection"]["resourceName"], "second");
        assert_eq!(told["leaderElection"]["leaderElect"], false);
        let tls = json!({"keyData": HIDDEN, "certData": "Y2VydA=="});
        assert_eq!(told["extenders"][0]["tlsConfig"], tls);
        assert!(!told.to_string().contains("c2VjcmV0"));
    }
}
