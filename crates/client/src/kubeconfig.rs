//! Kubeconfig files: the part that finds a server and proves who we are, by certificate or bearer token.
//!
//! Knows no exec plugins, passwords or proxies: a file that asks for those is refused, and says so.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta::Value;

/// Largest kubeconfig that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The current context of a kubeconfig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Base URL, `https://host:port`.
    pub server: String,
    /// Certificates that the server's must descend from, PEM.
    pub ca_pem: Vec<u8>,
    /// The name the server's certificate is for, if it is not the host of the URL.
    pub tls_server_name: String,
    /// Our certificate chain, PEM; empty when a token says who we are.
    pub client_certificate_pem: Vec<u8>,
    /// Our private key, PEM.
    pub client_key_pem: Vec<u8>,
    /// Bearer token; empty for none.
    pub token: String,
    /// File with a bearer token that changes from time to time.
    pub token_file: Option<PathBuf>,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug)]
pub enum KubeconfigError {
    /// The file cannot be read.
    Read(std::path::PathBuf, std::io::Error),
    /// The file is not YAML, or what is named is missing in it.
    Content(String),
}

impl std::fmt::Display for KubeconfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KubeconfigError::Read(path, error) => {
                write!(f, "cannot read {}: {error}", path.display())
            }
            KubeconfigError::Content(message) => write!(f, "kubeconfig: {message}"),
        }
    }
}

impl std::error::Error for KubeconfigError {}

impl Kubeconfig {
    /// Reads the current context of a file.
    pub fn read(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
        let read_error = |error| KubeconfigError::Read(path.to_owned(), error);
        if std::fs::metadata(path).map_err(read_error)?.len() > FILE_BYTES_MAX {
            return Err(KubeconfigError::Content(
                "the file is larger than 4 MiB".into(),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        Kubeconfig::parse_in(path.parent().unwrap_or(Path::new("")), &text)
    }

    /// Reads the current context of a text; files that it names are found from the current folder.
    pub fn parse(text: &str) -> Result<Kubeconfig, KubeconfigError> {
        Kubeconfig::parse_in(Path::new(""), text)
    }

    fn parse_in(folder: &Path, text: &str) -> Result<Kubeconfig, KubeconfigError> {
        let config: Value = serde_saphyr::from_str(text)
            .map_err(|error| KubeconfigError::Content(error.to_string()))?;
        let context_name = text_of(&config["current-context"]);
        let context = named(&config["contexts"], &context_name, "context")?;
        let cluster = named(
            &config["clusters"],
            &text_of(&context["cluster"]),
            "cluster",
        )?;
        let user = named(&config["users"], &text_of(&context["user"]), "user")?;
        let server = text_of(&cluster["server"]);
        if server.is_empty() {
            return Err(KubeconfigError::Content("the cluster has no server".into()));
        }
        for (section, name) in [
            (cluster, "insecure-skip-tls-verify"),
            (cluster, "proxy-url"),
            (user, "exec"),
            (user, "auth-provider"),
            (user, "username"),
            (user, "as"),
        ] {
            if !matches!(section[name], Value::Null | Value::Bool(false)) {
                let message = format!(
                    "{name} is not served: give a certificate authority, and a client certificate or a token"
                );
                return Err(KubeconfigError::Content(message));
            }
        }
        let token = text_of(&user["token"]);
        let token_file = user["tokenFile"].as_str().map(|path| folder.join(path));
        let has_token = !token.is_empty() || token_file.is_some();
        let own = |key: &str| match data(folder, user, key) {
            Err(KubeconfigError::Content(_)) if has_token && user[key].is_null() => {
                // With a token there need be no certificate; one that is there must be readable.
                if user[format!("{key}-data")].is_null() {
                    Ok(Vec::new())
                } else {
                    data(folder, user, key)
                }
            }
            result => result,
        };
        Ok(Kubeconfig {
            server,
            ca_pem: data(folder, cluster, "certificate-authority")?,
            tls_server_name: text_of(&cluster["tls-server-name"]),
            client_certificate_pem: own("client-certificate")?,
            client_key_pem: own("client-key")?,
            token,
            token_file,
        })
    }

    /// The file's text, with one context called `name`.
    #[must_use]
    pub fn to_yaml(&self, name: &str) -> String {
        let mut text = String::with_capacity(8192);
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: {name}\n\
             clusters:\n- name: {name}\n  cluster:\n    server: {}\n    certificate-authority-data: {}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}-admin\n\
             users:\n- name: {name}-admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            self.server,
            encode(&self.ca_pem),
            encode(&self.client_certificate_pem),
            encode(&self.client_key_pem),
        );
        text
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn named<'a>(list: &'a Value, name: &str, what: &str) -> Result<&'a Value, KubeconfigError> {
    let entry = list
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["name"] == name);
    entry
        .map(|entry| &entry[what])
        .ok_or_else(|| KubeconfigError::Content(format!("there is no {what} called {name:?}")))
}

/// `KEY-data` in base64, or the content of the file that `KEY` names.
fn data(folder: &Path, section: &Value, key: &str) -> Result<Vec<u8>, KubeconfigError> {
    if let Some(encoded) = section[format!("{key}-data")].as_str() {
        return STANDARD.decode(encoded.trim()).map_err(|error| {
            KubeconfigError::Content(format!("{key}-data is not base64: {error}"))
        });
    }
    match section[key].as_str() {
        Some(path) => {
            let path = folder.join(path);
            std::fs::read(&path).map_err(|error| KubeconfigError::Read(path, error))
        }
        None => Err(KubeconfigError::Content(format!("{key}-data is missing"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let config = Kubeconfig {
            server: "https://127.0.0.1:6443".into(),
            ca_pem: b"ca".to_vec(),
            client_certificate_pem: b"cert".to_vec(),
            client_key_pem: b"key".to_vec(),
            ..Kubeconfig::default()
        };
        assert_eq!(
            Kubeconfig::parse(&config.to_yaml("megaplane")).unwrap(),
            config
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Kubeconfig::parse("current-context: x\ncontexts: []\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "kubeconfig: there is no context called \"x\""
        );
        assert!(Kubeconfig::parse(": [").is_err());
    }

    fn with_user(user: &str) -> Result<Kubeconfig, KubeconfigError> {
        Kubeconfig::parse(&format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://h', certificate-authority-data: Y2E=}}}}]\n\
             users: [{{name: u, user: {user}}}]\n"
        ))
    }

    #[test]
    fn a_token_does_instead_of_a_certificate() {
        let config = with_user("{token: secret}").unwrap();
        assert_eq!(config.token, "secret");
        assert!(config.client_certificate_pem.is_empty());
        let config = with_user("{tokenFile: t}").unwrap();
        assert_eq!(config.token_file, Some(PathBuf::from("t")));
        for (user, expected) in [
            ("{}", "kubeconfig: client-certificate-data is missing"),
            (
                "{token: t, client-certificate-data: '*'}",
                "kubeconfig: client-certificate-data is not base64",
            ),
            (
                "{exec: {command: aws}}",
                "kubeconfig: exec is not served: give a certificate authority, and a client certificate or a token",
            ),
        ] {
            let error = with_user(user).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
