//! Scheduler extenders: services of others that are asked about nodes over HTTP, as
//! `k8s.io/kube-scheduler/extender/v1` says.
//!
//! - `wire.rs`: the JSON of questions and answers.
//! - `talk.rs`: the questions about one pod, in upstream's order.
//! - `../extending.rs`: when they are asked, and what follows.
//!
//! Does not know the cluster.

mod talk;
mod wire;

pub(crate) use talk::{Answer, Place, Plea, Pleaded, Question, Sacrifice, ask, bind, plead};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::post::{PostTls, Poster};
use meta::Value;

/// Extenders of one configuration: a pod notes in 32 bits which of them it concerns.
pub const EXTENDERS_MAX: usize = 32;
/// Largest file of certificates or of a key that is read, in bytes.
const PEM_BYTES_MAX: u64 = 4 << 20;
/// Longest wait for an answer where none is given (k8s: DefaultExtenderTimeout).
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// An extender as it is configured (`extenders[]` of KubeSchedulerConfiguration).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtenderConfig {
    /// URL that the verbs are appended to.
    pub url_prefix: String,
    /// Verb of filtering, empty for none.
    pub filter_verb: String,
    /// Verb of choosing who is evicted, empty for none.
    pub preempt_verb: String,
    /// Verb of scoring, empty for none.
    pub prioritize_verb: String,
    /// What its scores are multiplied by.
    pub weight: i64,
    /// Verb of binding, empty for none.
    pub bind_verb: String,
    /// TLS without an authority takes any certificate.
    pub enable_https: bool,
    /// TLS.
    pub tls: ExtenderTls,
    /// Longest wait for each answer.
    pub http_timeout: Duration,
    /// It knows the nodes: their names are enough.
    pub node_cache_capable: bool,
    /// It is asked about pods that ask for one of these only; empty: about all.
    pub managed_resources: Vec<String>,
    /// Its errors are passed over.
    pub ignorable: bool,
}

/// `tlsConfig` of an extender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtenderTls {
    /// What needs no file.
    pub tls: PostTls,
    /// Files whose contents are used where there is no data.
    pub cert_file: String,
    /// As above.
    pub key_file: String,
    /// As above.
    pub ca_file: String,
}

impl ExtenderConfig {
    /// Reads the files that are named, and checks that all of it can be used.
    ///
    /// # Errors
    /// What cannot be read or used.
    pub fn load(&mut self) -> Result<(), String> {
        let tls = &mut self.tls;
        for (file, data) in [
            (&mut tls.cert_file, &mut tls.tls.certificate_pem),
            (&mut tls.key_file, &mut tls.tls.key_pem),
            (&mut tls.ca_file, &mut tls.tls.ca_pem),
        ] {
            let file = std::mem::take(file);
            if file.is_empty() || !data.is_empty() {
                continue;
            }
            *data = read(Path::new(&file)).map_err(|error| format!("{file}: {error}"))?;
        }
        self.poster().map(drop)
    }

    fn poster(&self) -> Result<Poster, String> {
        let mut tls = self.tls.tls.clone();
        // So that no authority has to be given where the network is trusted (k8s: makeTransport).
        tls.insecure |= self.enable_https && tls.ca_pem.is_empty();
        Poster::new(&self.url_prefix, &tls, self.http_timeout)
    }

    /// Is it asked about a pod with that object?
    pub(crate) fn is_interested(&self, pod: &Value) -> bool {
        let managed = |resources: &Value| {
            let names = resources.as_object().into_iter().flatten();
            names
                .into_iter()
                .any(|(name, _)| self.managed_resources.iter().any(|m| m == name.as_str()))
        };
        self.managed_resources.is_empty()
            || ["containers", "initContainers"].iter().any(|list| {
                let containers = pod["spec"][*list].as_array().into_iter().flatten();
                containers.into_iter().any(|container| {
                    let resources = &container["resources"];
                    managed(&resources["requests"]) || managed(&resources["limits"])
                })
            })
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > PEM_BYTES_MAX {
        return Err(std::io::Error::other("the file is larger than 4 MiB"));
    }
    std::fs::read(path)
}

/// An extender that can be asked.
#[derive(Debug)]
pub(crate) struct Extender {
    pub(crate) config: ExtenderConfig,
    poster: Result<Poster, String>,
}

impl Extender {
    /// In the order they are asked: those that may fail come last (k8s: buildExtenders).
    pub(crate) fn all(configs: &[ExtenderConfig]) -> Vec<Arc<Extender>> {
        let of = |config: &ExtenderConfig| {
            Arc::new(Extender {
                poster: config.poster(),
                config: config.clone(),
            })
        };
        let (last, first): (Vec<_>, Vec<_>) = configs
            .iter()
            .map(of)
            .partition(|extender| extender.config.ignorable);
        first.into_iter().chain(last).collect()
    }

    /// Is it asked about nodes at all?
    pub(crate) fn is_asked(&self) -> bool {
        !self.config.filter_verb.is_empty() || !self.config.prioritize_verb.is_empty()
    }

    /// Does it want whole nodes?
    pub(crate) fn wants_nodes(&self) -> bool {
        self.is_asked() && !self.config.node_cache_capable
    }

    /// Sends a question; the answer is JSON.
    async fn send(&self, verb: &str, question: String) -> Result<Value, String> {
        let poster = self.poster.as_ref().map_err(String::clone)?;
        let (status, body) = poster.post(verb, question).await?;
        if status != 200 {
            let url = poster.url(verb);
            return Err(format!(
                "failed {verb} with extender at URL {url}, code {status}"
            ));
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn who_manages_nothing_is_asked_about_everybody() {
        let mut config = ExtenderConfig::default();
        let plain = json!({"spec": {"containers": [{"name": "c"}]}});
        assert!(config.is_interested(&plain));
        config.managed_resources = vec!["example.com/gpu".into()];
        assert!(!config.is_interested(&plain));
        for (list, field) in [("containers", "requests"), ("initContainers", "limits")] {
            let resources = json!({field: {"example.com/gpu": "1"}});
            let pod = json!({"spec": {list: [{"name": "a"}, {"resources": resources}]}});
            assert!(config.is_interested(&pod), "{pod}");
        }
        let other = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        assert!(!config.is_interested(&other));
    }

    #[test]
    fn those_that_may_fail_are_asked_last() {
        let config = |url: &str, ignorable| ExtenderConfig {
            url_prefix: url.into(),
            ignorable,
            ..ExtenderConfig::default()
        };
        let all = Extender::all(&[config("http://a", true), config("http://b", false)]);
        let order: Vec<&str> = all.iter().map(|e| e.config.url_prefix.as_str()).collect();
        assert_eq!(order, ["http://b", "http://a"]);
    }
}
